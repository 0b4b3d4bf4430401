// Looking closer, at the same place in all; and marking places with a brush.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const BRUSHES = [.02, .05, .1];      // radii, in shares of the width
const MOST_MARKS = 64;
const MOST_POINTS = 2000;            // of all marks of an answer
const WIDE = 1000;                   // of a picture, in the units of its marks

let view = { scale: 1, x: 0, y: 0 };
let brush = 1;

const frames = () => [...document.querySelectorAll(".frame")];
const sheets = () => [...document.querySelectorAll(".sheet")];

function watch(frame) {
  let from = null;
  let stroke = null;
  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return { wide: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  };
  const end = () => {
    if (stroke) { draft(); stroke = null; }
    from = null;
  };
  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = frame.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }, { passive: false });
  frame.addEventListener("pointerdown", (event) => {
    frame.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (fingers.size > 1) {
      if (stroke) state.marks.pop();                     // two fingers look closer: the first one meant no mark
      from = stroke = null;
      spots();
    } else if (state.marking) stroke = dab(frame, event, null);
    else from = { x: event.clientX, y: event.clientY, view: { ...view } };
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
    if (stroke) { dab(frame, event, stroke); return; }
    if (!from) return;
    view.x = from.view.x + (event.clientX - from.x) / box.width;
    view.y = from.view.y + (event.clientY - from.y) / box.height;
    look();
  });
  frame.addEventListener("pointerup", (event) => { end(); fingers.delete(event.pointerId); });
  frame.addEventListener("pointercancel", (event) => { end(); fingers.delete(event.pointerId); });
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
  for (const sheet of sheets())
    sheet.style.transform = `translate(${100 * view.x}%, ${100 * view.y}%) scale(${view.scale})`;
  $("fit").hidden = view.scale === 1;
}

function fit() { view = { scale: 1, x: 0, y: 0 }; look(); }

function pixels() {
  const first = media()[0];
  if (!first) return;
  const scale = size(first)[0] / devicePixelRatio / frames()[0].getBoundingClientRect().width;
  view = { scale, x: (1 - scale) / 2, y: (1 - scale) / 2 };
  look();
}

// ---- flipping: one in the place of the other, at the same magnification, its own marks on it

let flipped = false;
function flip(on) {
  if (!current || current.items.length !== 2 || flipped === on) return;
  flipped = on;
  const all = [...frames()];
  const [first, second] = sheets().sort((a, b) => a.dataset.place - b.dataset.place);
  first.hidden = on;
  all[on ? 0 : 1].append(second);
  document.querySelector(".item").classList.toggle("flipped", on);
}

// ---- marks: strokes of a round brush; x and y are shares of the width and height, r of the width

function dab(frame, event, stroke) {
  const box = frame.getBoundingClientRect();
  const at = (share, from) => Math.round(1e4 * (share - from) / view.scale) / 1e4;
  const x = at((event.clientX - box.left) / box.width, view.x);
  const y = at((event.clientY - box.top) / box.height, view.y);
  if (x < 0 || x > 1 || y < 0 || y > 1) return stroke;
  const points = state.marks.reduce((sum, each) => sum + each.points.length, 0);
  if (points >= MOST_POINTS || (!stroke && state.marks.length >= MOST_MARKS)) {
    say("That is as much as can be marked in one answer.");
    return stroke;
  }
  if (!stroke) {
    const place = Number(frame.querySelector(".sheet:not([hidden])").dataset.place);
    stroke = { item: place, kind: state.marking, r: BRUSHES[brush], points: [] };
    state.marks.push(stroke);
  }
  const last = stroke.points.at(-1);
  if (last && Math.hypot(x - last[0], (y - last[1]) * box.height / box.width) < stroke.r / 3) return stroke;
  stroke.points.push([x, y]);
  if (last) trace(stroke, height(sheets().find((sheet) => Number(sheet.dataset.place) === stroke.item)));
  else spots();
  return stroke;
}

const paths = new WeakMap();         // what shows a stroke

function spots() {
  for (const sheet of sheets()) {
    const layer = sheet.querySelector("svg");
    const high = height(sheet);
    layer.setAttribute("viewBox", `0 0 ${WIDE} ${high}`);
    layer.replaceChildren(...state.marks.filter((each) => each.item === Number(sheet.dataset.place)).map((each) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", "spot " + each.kind);
      path.setAttribute("stroke-width", 2 * each.r * WIDE);
      if (each.kind === "misalignment") path.style.stroke = "url(#stripes)"; // from this page, not from the style's file
      paths.set(each, path);
      trace(each, high);
      return path;
    }));
  }
  $("unmark").disabled = !state.marks.length;
}

function trace(stroke, high) {
  const points = stroke.points.length > 1 ? stroke.points : [stroke.points[0], stroke.points[0]];
  paths.get(stroke).setAttribute("d", "M" + points.map(([x, y]) => `${x * WIDE} ${y * high}`).join("L"));
}

function height(sheet) {
  const [across, up] = size(sheet.firstElementChild);
  return across && up ? WIDE * up / across : WIDE;
}

function mark(kind) {
  state.marking = state.marking === kind ? null : kind;
  for (const name of ["artifact", "misalignment"])
    $("mark-" + name).setAttribute("aria-pressed", String(state.marking === name));
  $("stage").classList.toggle("marking", Boolean(state.marking));
}

function marking(kind) { $("more").open = true; mark(kind); }

function widen(by) {
  brush = Math.min(BRUSHES.length - 1, Math.max(0, brush + by));
  $("brush").value = String(brush);
}

function unmark() {
  if (!state || !state.marks.length) return;
  state.marks.pop();
  spots();
  draft();
}
