// Counts and checks, every five seconds.
"use strict";

const token = location.hash.slice(1);
const ask = (path) => fetch(path, { headers: { Authorization: "Bearer " + token } });
const percent = (share) => share === null ? "–" : `${Math.round(100 * share)} %`;
const HEAD = ["", "votes", "gold", "repeats", "left", "p", "median s", "hasty"];

function row(name, checks, cell = "td") {
  const cells = [name, checks.votes, percent(checks.gold), percent(checks.repeats), percent(checks.left),
    checks.left_p === null ? "–" : checks.left_p.toFixed(3), checks.seconds === null ? "–" : checks.seconds.toFixed(1),
    percent(checks.hasty)];
  return line(cells, cell);
}

function line(cells, cell) {
  const line = document.createElement("tr");
  for (const text of cells) { const each = document.createElement(cell); each.textContent = text; line.append(each); }
  return line;
}

async function refresh() {
  const said = document.getElementById("said");
  try {
    const reply = await ask("/api/standing");
    const now = await reply.json();
    if (!reply.ok) { said.textContent = now.error; return; }
    const equal = now.all.agreement === null ? "no pair was judged twice yet" : `agreement ${percent(now.all.agreement)}`;
    said.textContent = `${now.judged} of ${now.pairs} pairs judged by ${now.invited} invited; ${equal}; ` +
      `${now.last_hour} answers in the last hour`;
    const cells = (each) => [each.by, each.prompt, each.text || "–", each.media.map((path) => path.split("/").pop()).join(", ")];
    document.getElementById("reported").hidden = !now.reported.length;
    document.querySelector("#reported table").replaceChildren(line(["by", "prompt", "why", "files"], "th"),
      ...now.reported.map((each) => line(cells(each), "td")));
    document.getElementById("people").replaceChildren(line(HEAD, "th"), row("all", now.all),
      ...Object.entries(now.annotators).map(([name, checks]) => row(name, checks)));
  } catch { said.textContent = "No connection"; }
  setTimeout(refresh, 5000);
}

document.getElementById("export").onclick = async () => {
  const reply = await ask("/api/export");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await reply.blob());
  link.download = "votes.jsonl";
  link.click();
};
refresh();
