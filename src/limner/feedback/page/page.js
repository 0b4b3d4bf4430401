// One question at a time. What was answered is kept in this browser until the host has it on its disk.
"use strict";

const $ = (id) => document.getElementById(id);
const token = location.hash.slice(1);
const QUEUE = "limner-answers-" + token.slice(0, 8);
const DRAFT = "limner-said-" + token.slice(0, 8);      // what was said of the question on the screen
const PAST = "limner-past-" + token.slice(0, 8);        // what was answered, for taking back after a reload
const VEIL = "limner-veil";                             // whether pictures wait to be looked at
const MOST_PAST = 20;
const HASTY_MS = 400;
const DAY_MS = 86_400_000;                              // who comes back later took a day
const AHEAD = 3;
const MOST_SENT = 100_000;                              // letters at once
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

function batch() {
  let room = MOST_SENT;
  return stored().slice(0, 50).filter((event, i) => (room -= JSON.stringify(event).length) >= 0 || !i);
}

async function deliver() {
  while (stored().length) {
    const some = batch();
    try {
      const reply = await ask("/api/events", { method: "POST", body: JSON.stringify(some) });
      const arrived = new Set(some.map((event) => event.key));
      store(stored().filter((event) => !arrived.has(event.key)));
      for (const receipt of reply.receipts) if (!receipt.ok) say("An answer was not taken: " + receipt.error);
      progress(reply);
      net("");
      pause = 500;
    } catch (error) {
      if (error.status === 401) { net(error.message); return; }
      const waits = `${stored().length} ${stored().length === 1 ? "answer waits" : "answers wait"} in this browser`;
      net(`${error.status ? "The host is in trouble" : "No connection"}: ${waits}`);
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
    try {
      waiting.push(await loaded(each));
    } catch (error) {
      if (error.status !== 404) throw error;
      record(each.id, "flag", { text: error.message }); // nobody could answer it, and the others go on
    }
  }
}

async function loaded(each) {
  each.media = await Promise.all(each.items.map((item, place) => load(each.id, place, item.clip)));
  return each;
}

async function load(assignment, place, clip) {
  const blob = await ask(`/api/media/${assignment}/${place}`, { raw: true });
  const url = URL.createObjectURL(blob);
  if (clip) return { url, strip: null };
  const strip = await Strip.of(blob).catch(() => null); // what is damaged is shown as browsers show it
  if (!strip) { const image = new Image(); image.src = url; await image.decode().catch(() => {}); }
  return { url, strip };
}

function release(each) {
  for (const { url, strip } of each.media || []) {
    URL.revokeObjectURL(url);
    if (strip) strip.decoder.close();
  }
  delete each.media;
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
  state = { choices, ratings, order, marks, words: new Set(words), marking: null, start: null, clips: [] };
  flipped = false;
  $("more").open = open;
  $("why").value = why;
  $("strength").value = strength;
  $("question").textContent = current.kind === "rank" ? "Press them in order, the best first" :
    questions.length === 1 ? title(questions[0]) : current.kind === "rate" ? "How good is it?" : "Compare the two";
  $("prompt").replaceChildren(...current.prompt.split(/(\s+)/).map(word));
  $("stage").replaceChildren(...current.items.map(figure));
  $("flip").hidden = current.items.length !== 2;
  for (const name of ["play", "back", "on"]) $(name).hidden = !state.clips.length;
  fit();
  veil(Boolean(remembered(VEIL, false)) || current.items.some((item) => item.veiled));
  mark(null);
  answers();
  spots();
  $("undo").disabled = !history.length;
  const shown = state;
  Promise.all(media().map(ready)).then(() => begin(shown.clips)).then(() => {
    if (state === shown) spots();
    shown.start = performance.now();
    shown.away = 0;
  });
}

const media = () => sheets().map((sheet) => sheet.firstElementChild);

const size = (element) => element.tagName === "VIDEO" ? [element.videoWidth, element.videoHeight] :
  element.tagName === "CANVAS" ? [element.width, element.height] : [element.naturalWidth, element.naturalHeight];

const unseen = () => say("One of them cannot be shown in this browser: F reports it, S skips it.");
const ready = (element) => element.tagName === "CANVAS" ? null : element.tagName === "IMG" ? element.decode().catch(unseen) :
  new Promise((done) => {
    if (element.readyState > 1) return done();
    element.addEventListener("loadeddata", done, { once: true });
    element.addEventListener("error", () => done(unseen()), { once: true });
  });

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
  const sheet = document.createElement("div");
  sheet.className = "sheet";
  sheet.dataset.place = place;
  const shown = pictured(item, current.media[place]);
  const name = current.kind === "pair" ? ["left", "right"][place] : String(place + 1);
  shown.alt = `${name} picture`;
  if (shown.tagName === "CANVAS") shown.setAttribute("role", "img");
  shown.setAttribute("aria-label", shown.alt);
  shown.draggable = false;
  const sized = () => {
    const [w, h] = size(shown);
    if (!w || !h) return;
    frame.style.aspectRatio = `${w} / ${h}`;
    figure.style.setProperty("--ratio", w / h);
    shown.classList.toggle("small", w < 200);
  };
  shown.addEventListener(item.clip ? "loadeddata" : "load", sized);
  if (shown.tagName === "CANVAS") sized();
  sheet.append(shown, document.createElementNS(SVG, "svg"));
  frame.append(sheet);
  watch(frame);
  const caption = document.createElement("figcaption");
  caption.textContent = current.kind === "rate" ? "" : name;
  figure.append(frame, caption);
  return figure;
}

// The element that shows a file; what moves is one of the clips.
function pictured(item, { url, strip }) {
  if (strip) {
    state.clips.push(strip);
    return strip.canvas;
  }
  const shown = document.createElement(item.clip ? "video" : "img");
  if (item.clip) {
    Object.assign(shown, { muted: true, loop: true, playsInline: true });
    state.clips.push(new Film(shown, item.fps));
  }
  shown.src = url;
  return shown;
}

// ---- hidden until somebody wants to see them

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
  if (state.start === null) return;   // nobody has seen it yet
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
  if (place >= current.items.length || state.start === null) return;
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
  const latency = state.start === null ? 0 : Math.min(DAY_MS, Math.round(performance.now() - state.start));
  const kept = record(current.id, type, payload(type), latency, Math.max(0, Math.round(latency - (state.away || 0))));
  if (!kept) return;
  for (const clip of state.clips) clip.pause();
  history.push(current);
  if (history.length > 1) release(history.at(-2));
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
  try {
    store([...stored(), { key: key(), assignment, type, payload, latency_ms, dwell_ms, viewport }]);
  } catch {
    say("This browser has no room for another answer before others have arrived: wait for the connection.");
    return false;
  }
  send();
  return true;
}

async function undo() {
  const last = history.at(-1);
  if (!last) return;
  try {
    if (!last.media) await loaded(last);
  } catch (error) {
    return say("It cannot be shown again just now: " + error.message);
  }
  if (history.at(-1) !== last) return;
  if (!record(last.id, "undo", {})) return;
  history.pop();
  remember_past();
  if (current) waiting.unshift(current);
  current = last;
  streak = 0;
  show();
  say("Taken back: answer it again.");
}

// ---- keys

function pressed(event) {
  if ($("help").open || event.target.matches("textarea, select") || event.altKey) return;
  if ((event.ctrlKey || event.metaKey) && event.key !== "z") return;
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
  " ": play, ",": () => step(-1), ".": () => step(1), "[": () => widen(-1), "]": () => widen(1), "?": () => $("help").showModal(), h: () => $("help").showModal(),
  p: pixels, b: unveil, Escape: fit, "+": () => zoom(1.5, .5, .5), "=": () => zoom(1.5, .5, .5), "-": () => zoom(1 / 1.5, .5, .5),
};
for (let n = 0; n < 10; n++) KEYS[n] = digit(n);

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
$("back").onclick = () => step(-1);
$("on").onclick = () => step(1);
$("fit").onclick = fit;
$("pixels").onclick = pixels;
$("veil").onclick = unveil;
$("always").onchange = () => remember(VEIL, $("always").checked);
$("why").oninput = $("strength").onchange = $("more").ontoggle = draft;
$("help-button").onclick = () => $("help").showModal();
$("mark-artifact").onclick = () => mark("artifact");
$("mark-misalignment").onclick = () => mark("misalignment");
$("brush").onchange = () => { brush = Number($("brush").value); };
$("unmark").onclick = unmark;
begun();

function begun() {
  if (!token) { $("question").textContent = "This link lacks its key: use the whole link that you were given."; return; }
  try {
    store(stored());
  } catch {
    $("question").textContent = "This browser keeps nothing for this page, so that answers could be lost: " +
      "allow it to, or use another one.";
    return;
  }
  history = remembered(PAST, []);
  $("always").checked = Boolean(remembered(VEIL, false));
  advance();
}
