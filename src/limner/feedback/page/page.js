// One question at a time. What was answered is kept in this browser until the host has it on its disk.
"use strict";

const $ = (id) => document.getElementById(id);
const token = location.hash.slice(1);
const QUEUE = "limner-answers-" + token.slice(0, 8);
const DRAFT = "limner-draft-" + token.slice(0, 8);      // what was said of the question on the screen
const PAST = "limner-past-" + token.slice(0, 8);        // what was answered, for taking back after a reload
const VEIL = "limner-veil";                             // whether pictures wait to be looked at
const MOST_PAST = 20;
const HASTY_MS = 400;
const AHEAD = 3;
const TITLES = { overall: "Which is better?", alignment: "Which fits the text better?", quality: "Which is made better?",
  motion: "Which moves better?", physics: "Which moves more as things do?", style: "Which has the better style?" };
const RATED = { overall: "How good is it?", alignment: "How well does it fit the text?", quality: "How well is it made?",
  motion: "How well does it move?", physics: "Does it move as things do?", style: "How good is its style?" };
const title = (question) => (current.kind === "rate" ? RATED : TITLES)[question] || question;

let waiting = [];      // questions with their media loaded
let current = null;    // the question on the screen
let state = null;      // what is being answered
let history = [];      // what was answered in this browser, for taking back
let answered = 0;      // of these, since the page was opened
let questions = ["overall"];
let streak = 0;
let view = { scale: 1, x: 0, y: 0 };

// ---- what is kept until it has arrived

const stored = () => JSON.parse(localStorage.getItem(QUEUE) || "[]");
const store = (events) => localStorage.setItem(QUEUE, JSON.stringify(events));
const remembered = (name, otherwise) => JSON.parse(localStorage.getItem(name) || "null") || otherwise;
const remember = (name, what) => localStorage.setItem(name, JSON.stringify(what));
const remember_past = () =>
  remember(PAST, history.slice(-MOST_PAST).map(({ id, kind, prompt, items }) => ({ id, kind, prompt, items })));

function draft() {
  if (!current || !state) return;
  const { choices, ratings, order, marks, words } = state;
  const said = { id: current.id, choices, ratings, order, marks, words: [...words], why: $("why").value,
    strength: $("strength").value, open: $("more").open };
  remember(DRAFT, said);
}

function key() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
}

let sending = null;
let pause = 500;
function send() {
  if (!sending) sending = deliver().finally(() => { sending = null; });
  return sending;
}

async function deliver() {
  while (stored().length) {
    const batch = stored().slice(0, 50);
    try {
      const reply = await ask("/api/events", { method: "POST", body: JSON.stringify(batch) });
      const answered = new Set(batch.map((event) => event.key));
      store(stored().filter((event) => !answered.has(event.key)));
      for (const receipt of reply.receipts) if (!receipt.ok) say("An answer was not taken: " + receipt.error);
      progress(reply);
      net("");
      pause = 500;
    } catch (error) {
      if (error.status === 401) { net(error.message); return; }
      net(`No connection: ${stored().length} answers wait in this browser`);
      await new Promise((done) => setTimeout(done, pause));
      pause = Math.min(8000, pause * 2);
    }
  }
}

async function ask(path, options = {}) {
  const headers = { Authorization: "Bearer " + token };
  if (options.body) headers["Content-Type"] = "application/json";
  const reply = await fetch(path, { ...options, headers });
  if (!reply.ok) {
    const said = await reply.json().catch(() => ({}));
    throw Object.assign(new Error(said.error || reply.statusText), { status: reply.status });
  }
  return options.raw ? reply.blob() : reply.json();
}

// ---- getting questions, media and all

let fetching = null;
function fill() {
  if (!fetching) fetching = refill().finally(() => { fetching = null; });
  return fetching;
}

async function refill() {
  // what is not delivered yet would be given out again
  await send();
  const have = new Set([...waiting, current, ...history.slice(-1)].filter(Boolean).map((each) => each.id));
  const reply = await ask(`/api/next?count=${AHEAD + 1}`);
  questions = reply.questions;
  progress(reply);
  const queued = new Set(stored().map((event) => event.assignment));
  for (const each of reply.assignments) {
    if (have.has(each.id) || queued.has(each.id)) continue;
    waiting.push(await loaded(each));
  }
}

async function loaded(each) {
  each.urls = await Promise.all(each.items.map((item, place) => load(each.id, place, item.clip)));
  return each;
}

async function load(assignment, place, clip) {
  const blob = await ask(`/api/media/${assignment}/${place}`, { raw: true });
  const url = URL.createObjectURL(blob);
  if (!clip) { const image = new Image(); image.src = url; await image.decode().catch(() => {}); }
  return url;
}

async function advance() {
  if (waiting.length < 2) {
    const filled = fill().catch((error) => net(error.status ? error.message : "No connection; trying again"));
    if (!waiting.length) await filled;
  }
  current = waiting.shift() || null;
  if (current) return show();
  $("stage").replaceChildren();
  $("answers").replaceChildren();
  $("prompt").textContent = "";
  const lost = $("net").textContent;
  $("question").textContent = lost ? "Waiting for the connection" : "Nothing is left to ask. Thank you!";
  if (lost && token) setTimeout(advance, 2000);
}

// ---- showing a question

function show() {
  const kept = remembered(DRAFT, {});
  const { choices = {}, ratings = {}, order = [], marks = [], words = [], why = "", strength = "", open = false } =
    kept.id === current.id ? kept : {};
  state = { choices, ratings, order, marks, words: new Set(words), marking: null, start: null };
  view = { scale: 1, x: 0, y: 0 };
  $("more").open = open;
  $("why").value = why;
  $("strength").value = strength;
  $("question").textContent = current.kind === "rank" ? "Press them in order, the best first" :
    questions.length === 1 ? title(questions[0]) : current.kind === "rate" ? "How good is it?" : "Compare the two";
  $("prompt").replaceChildren(...current.prompt.split(/(\s+)/).map(word));
  $("stage").replaceChildren(...current.items.map(figure));
  $("flip").hidden = current.items.length !== 2;
  $("play").hidden = !current.items.some((item) => item.clip);
  $("fit").hidden = true;
  veil(Boolean(remembered(VEIL, false)) || current.items.some((item) => item.veiled));
  mark(null);
  answers();
  spots();
  $("undo").disabled = !history.length;
  const shown = state;
  Promise.all(media().map(ready)).then(() => {
    for (const clip of clips()) { clip.currentTime = 0; clip.play().catch(() => {}); }
    shown.start = performance.now();
    shown.away = 0;
  });
}

const media = () => [...document.querySelectorAll(".item img, .item video")];

const ready = (element) => element.tagName === "IMG" ? element.decode().catch(() => {}) :
  new Promise((done) => { element.readyState > 1 ? done() : element.addEventListener("loadeddata", done, { once: true }); });

let words = 0;
function word(text, i) {
  if (!i) words = 0;
  if (!text.trim()) return document.createTextNode(text);
  const button = document.createElement("button");
  const place = words++;
  button.textContent = text;
  button.setAttribute("aria-pressed", String(state.words.has(place)));
  button.title = "not shown, or shown wrongly";
  button.onclick = () => {
    state.words.has(place) ? state.words.delete(place) : state.words.add(place);
    button.setAttribute("aria-pressed", String(state.words.has(place)));
    draft();
  };
  return button;
}

function figure(item, place) {
  const figure = document.createElement("figure");
  figure.className = "item";
  const frame = document.createElement("div");
  frame.className = "frame";
  const media = document.createElement(item.clip ? "video" : "img");
  if (item.clip) Object.assign(media, { muted: true, loop: true, playsInline: true });
  const name = current.kind === "pair" ? ["left", "right"][place] : String(place + 1);
  media.alt = `${name} picture`;
  media.setAttribute("aria-label", media.alt);
  media.draggable = false;
  media.src = current.urls[place];
  const sized = () => {
    const [w, h] = item.clip ? [media.videoWidth, media.videoHeight] : [media.naturalWidth, media.naturalHeight];
    if (!w || !h) return;
    frame.style.aspectRatio = `${w} / ${h}`;
    figure.style.setProperty("--ratio", w / h);
    media.classList.toggle("small", w < 200);
  };
  media.addEventListener(item.clip ? "loadeddata" : "load", sized);
  frame.append(media);
  watch(frame, place);
  const caption = document.createElement("figcaption");
  caption.textContent = current.kind === "rate" ? "" : name;
  figure.append(frame, caption);
  return figure;
}

// ---- looking closer, at the same place in all; marking

function watch(frame, place) {
  let from = null;
  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return { wide: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  };
  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = frame.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }, { passive: false });
  frame.addEventListener("pointerdown", (event) => {
    frame.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    from = fingers.size > 1 ? null : { x: event.clientX, y: event.clientY, view: { ...view } };
  });
  frame.addEventListener("pointermove", (event) => {
    const box = frame.getBoundingClientRect();
    if (fingers.size === 2 && fingers.has(event.pointerId)) {
      const before = spread();
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      const now = spread();
      zoom(now.wide / Math.max(1, before.wide), (now.x - box.left) / box.width, (now.y - box.top) / box.height);
      return;
    }
    if (!from || state.marking) return;
    view.x = from.view.x + (event.clientX - from.x) / box.width;
    view.y = from.view.y + (event.clientY - from.y) / box.height;
    look();
  });
  frame.addEventListener("pointerup", (event) => {
    if (from && state.marking) spot(frame, place, from, event);
    from = null;
    fingers.delete(event.pointerId);
  });
  frame.addEventListener("pointercancel", (event) => { from = null; fingers.delete(event.pointerId); });
}

function zoom(factor, x, y) {
  const scale = Math.min(12, Math.max(Math.min(1, view.scale), view.scale * factor));
  view.x = x - (x - view.x) * scale / view.scale;
  view.y = y - (y - view.y) * scale / view.scale;
  view.scale = scale;
  look();
}

function look() {
  const least = 1 - view.scale;
  const within = (at) => least > 0 ? least / 2 : Math.min(0, Math.max(least, at));
  view.x = within(view.x);
  view.y = within(view.y);
  for (const element of media())
    element.style.transform = `translate(${100 * view.x}%, ${100 * view.y}%) scale(${view.scale})`;
  $("fit").hidden = view.scale === 1;
  spots();
}

function spot(frame, place, from, event) {
  const box = frame.getBoundingClientRect();
  const at = (x, y) => [((x - box.left) / box.width - view.x) / view.scale, ((y - box.top) / box.height - view.y) / view.scale];
  const [x, y] = at(from.x, from.y);
  const r = Math.max(.03, Math.hypot(event.clientX - from.x, event.clientY - from.y) / box.width / view.scale);
  if (x < 0 || x > 1 || y < 0 || y > 1) return;
  state.marks.push({ item: place, kind: state.marking, x, y, r: Math.min(1, r) });
  spots();
  draft();
}

function spots() {
  for (const old of document.querySelectorAll(".spot")) old.remove();
  for (const each of state.marks) {
    const round = document.createElement("span");
    round.className = "spot " + each.kind;
    Object.assign(round.style, {
      left: `${100 * (view.x + (each.x - each.r) * view.scale)}%`, width: `${200 * each.r * view.scale}%`,
      top: `calc(${100 * (view.y + each.y * view.scale)}% - 0px)`, aspectRatio: "1", transform: "translateY(-50%)",
    });
    document.querySelectorAll(".frame")[each.item].append(round);
  }
}

function pixels() {
  const first = media()[0];
  if (!first) return;
  const across = first.naturalWidth || first.videoWidth;
  const scale = across / devicePixelRatio / first.parentElement.getBoundingClientRect().width;
  view = { scale, x: (1 - scale) / 2, y: (1 - scale) / 2 };
  look();
}

function veil(on) {
  state.veiled = on;
  $("stage").classList.toggle("veiled", on);
  $("veil").setAttribute("aria-pressed", String(on));
  if (on) say("Hidden: press B, or Hide, to see them.");
}

function unveil() {
  if (!current) return;
  veil(!state.veiled);
  if (state.veiled) return;
  say("");
  state.start = performance.now();
  state.away = 0;
}

function mark(kind) {
  state.marking = state.marking === kind ? null : kind;
  for (const name of ["artifact", "misalignment"])
    $("mark-" + name).setAttribute("aria-pressed", String(state.marking === name));
  $("stage").classList.toggle("marking", Boolean(state.marking));
}

// ---- answers

// on a narrow screen the two sides stand above the two ties
const CHOICES = [["left", "Left", "1"], ["tie_good", "Equally good", "0"], ["tie_bad", "Both bad", "9"], ["right", "Right", "2"]];

function answers() {
  if (current.kind === "rank") return ranking();
  const rows = questions.map((question) => {
    const row = document.createElement("div");
    row.className = current.kind === "pair" ? "row pair" : "row";
    row.dataset.question = question;
    if (questions.length > 1) {
      const head = document.createElement("b");
      head.textContent = title(question);
      row.append(head);
    }
    const options = current.kind === "pair" ? CHOICES : [1, 2, 3, 4, 5].map((n) => [n, String(n), String(n)]);
    for (const [value, label, hint] of options) {
      const button = document.createElement("button");
      button.innerHTML = label === hint ? label : `${label} <kbd>${hint}</kbd>`;
      button.dataset.question = question;
      button.dataset.value = value;
      button.className = value;
      const given = current.kind === "pair" ? state.choices : state.ratings;
      button.setAttribute("aria-pressed", String(given[question] === value));
      button.onclick = () => choose(question, value);
      row.append(button);
    }
    return row;
  });
  $("answers").replaceChildren(...rows);
  turn();
}

// which of several questions the keys answer next
const next = () => questions.find((each) => !(each in (current.kind === "pair" ? state.choices : state.ratings)));
function turn() {
  for (const row of $("answers").children)
    row.setAttribute("aria-current", String(questions.length > 1 && row.dataset.question === next()));
}

function choose(question, value) {
  if (state.veiled) return say("Press B to see them first; S skips, F reports.");
  const given = current.kind === "pair" ? state.choices : state.ratings;
  given[question] = value;
  for (const button of $("answers").querySelectorAll("button"))
    if (button.dataset.question === question)
      button.setAttribute("aria-pressed", String(button.dataset.value === String(value)));
  turn();
  draft();
  if (questions.every((each) => each in given)) finish("vote");
}

function ranking() {
  const row = document.createElement("div");
  row.className = "row";
  current.items.forEach((_, place) => {
    const button = document.createElement("button");
    const at = state.order.indexOf(place);
    button.innerHTML = `${place + 1} <kbd>${at < 0 ? "–" : "place " + (at + 1)}</kbd>`;
    button.setAttribute("aria-pressed", String(at >= 0));
    button.onclick = () => rank(place);
    row.append(button);
  });
  $("answers").replaceChildren(row);
}

function rank(place) {
  if (place >= current.items.length) return;
  if (state.veiled) return say("Press B to see them first; S skips, F reports.");
  state.order = state.order.includes(place) ? state.order.filter((each) => each !== place) : [...state.order, place];
  ranking();
  draft();
  if (state.order.length === current.items.length) finish("vote");
}

function payload(type) {
  if (type !== "vote") return $("why").value ? { text: $("why").value } : {};
  const said = current.kind === "pair" ? { choices: state.choices } :
    current.kind === "rate" ? { ratings: state.ratings } : { order: state.order };
  if (state.marks.length) said.marks = state.marks;
  if (state.words.size) said.words = [...state.words];
  if ($("strength").value) said.strength = Number($("strength").value);
  if ($("why").value) said.text = $("why").value;
  return said;
}

function finish(type) {
  if (!current || (state.start === null && type === "vote")) return;
  const latency = state.start === null ? 0 : Math.round(performance.now() - state.start);
  record(current.id, type, payload(type), latency, Math.max(0, Math.round(latency - (state.away || 0))));
  history.push(current);
  remember_past();
  remember(DRAFT, null);
  streak += 1;
  answered += 1;
  const rest = `${streak} in a row: look away for a moment.`;
  say(type === "skip" ? "Skipped." : type === "flag" ? "Reported." : streak % 25 === 0 ? rest :
    latency < HASTY_MS ? "That was quick: if you did not mean it, Z takes it back." : "");
  advance();
}

function record(assignment, type, payload, latency_ms = 0, dwell_ms = 0) {
  const viewport = `${innerWidth}x${innerHeight}`;
  store([...stored(), { key: key(), assignment, type, payload, latency_ms, dwell_ms, viewport }]);
  send();
}

async function undo() {
  const last = history.at(-1);
  if (!last) return;
  try {
    if (!last.urls) await loaded(last);
  } catch (error) {
    return say("It cannot be shown again just now: " + error.message);
  }
  if (history.at(-1) !== last) return;
  history.pop();
  remember_past();
  record(last.id, "undo", {});
  if (current) waiting.unshift(current);
  current = last;
  streak = 0;
  show();
  say("Taken back: answer it again.");
}

// ---- keys

function pressed(event) {
  if ($("help").open || event.target.matches("textarea, select") || event.metaKey || event.altKey) return;
  if (event.ctrlKey && event.key !== "z") return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || (event.target.matches("button, summary") && [" ", "Enter"].includes(event.key))) return;
  if (event.key === "Tab" && event.shiftKey) return;
  event.preventDefault();
  if (!event.repeat) act(event);
}

const digit = (n) => () => {
  if (!current) return;
  if (current.kind === "rank") return n ? rank(n - 1) : undefined;
  const question = next();
  const value = current.kind === "pair" ? { 1: "left", 2: "right", 0: "tie_good", 9: "tie_bad" }[n] : n >= 1 && n <= 5 ? n : undefined;
  if (question && value !== undefined) choose(question, value);
};
const pair = (n) => () => current && current.kind === "pair" && digit(n)();

const KEYS = {
  ArrowLeft: pair(1), ArrowRight: pair(2), ArrowDown: pair(0), ArrowUp: pair(9),
  s: () => finish("skip"), f: () => finish("flag"), z: undo, m: () => { $("more").open = !$("more").open; },
  a: () => marking("artifact"), x: () => marking("misalignment"), v: () => flip(!flipped), Tab: () => flip(true),
  " ": play, ",": () => frame(-1), ".": () => frame(1), "?": () => $("help").showModal(), h: () => $("help").showModal(),
  p: pixels, b: unveil, Escape: fit, "+": () => zoom(1.5, .5, .5), "=": () => zoom(1.5, .5, .5), "-": () => zoom(1 / 1.5, .5, .5),
};
for (let n = 0; n < 10; n++) KEYS[n] = digit(n);

function marking(kind) { $("more").open = true; mark(kind); }
function fit() { view = { scale: 1, x: 0, y: 0 }; look(); }

let flipped = false;
function flip(on) {
  if (!current || current.items.length !== 2 || flipped === on) return;
  flipped = on;
  media()[0].src = current.urls[on ? 1 : 0];
  document.querySelector(".item").classList.toggle("flipped", on);
}

const clips = () => [...document.querySelectorAll(".item video")];
function play() {
  const paused = clips().some((clip) => clip.paused);
  for (const clip of clips()) { if (paused) { clip.currentTime = 0; clip.play(); } else clip.pause(); }
}
function frame(step) {
  clips().forEach((clip, i) => {
    clip.pause();
    clip.currentTime = Math.max(0, clip.currentTime + step / current.items[i].fps);
  });
}

// ---- what is said

function progress(reply) {
  const share = reply.total ? reply.done / reply.total : 0;
  $("bar").firstElementChild.style.width = `${100 * Math.min(1, share)}%`;
  $("bar").setAttribute("aria-valuenow", reply.done);
  $("bar").setAttribute("aria-valuemax", reply.total);
  const seconds = answered > 2 ? (performance.now() - began) / answered / 1000 : 0;
  const left = seconds ? `, about ${Math.max(1, Math.round(seconds * (reply.total - reply.done) / 60))} min left` : "";
  $("count").textContent = `${reply.done} of ${reply.total} answered${left}`;
}
const net = (text) => { $("net").textContent = text; };
const say = (text) => { $("said").textContent = text; };

// ---- begin

const began = performance.now();
let hiddenSince = null;
document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenSince = performance.now();
  else if (hiddenSince !== null && state) { state.away += performance.now() - hiddenSince; hiddenSince = null; }
});
document.addEventListener("keydown", pressed);
document.addEventListener("keyup", (event) => { if (event.key === "Tab") flip(false); });
addEventListener("blur", () => flip(false));
addEventListener("online", send);
$("skip").onclick = () => finish("skip");
$("flag").onclick = () => finish("flag");
$("undo").onclick = undo;
$("flip").onpointerdown = () => flip(true);
$("flip").onpointerup = $("flip").onpointerleave = () => flip(false);
$("play").onclick = play;
$("fit").onclick = fit;
$("pixels").onclick = pixels;
$("veil").onclick = unveil;
$("always").checked = Boolean(remembered(VEIL, false));
$("always").onchange = () => remember(VEIL, $("always").checked);
$("why").oninput = $("strength").onchange = $("more").ontoggle = draft;
$("help-button").onclick = () => $("help").showModal();
$("mark-artifact").onclick = () => mark("artifact");
$("mark-misalignment").onclick = () => mark("misalignment");
$("unmark").onclick = () => { state.marks.pop(); spots(); draft(); };
history = remembered(PAST, []);
if (token) advance();
else { $("question").textContent = "This link lacks its key: use the whole link that you were given."; }
