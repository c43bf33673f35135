// The user interface: takes photos, hands them to the worker one by one, and shows its answers.

import { cells, leaders, readable } from "./answer.js";

const COLOURS = ["#1f6f8b", "#edae49", "#d1495b"]; // of the cameras with most patches
const GREY = "#8d99ae"; // of all others
const BARS = 4; // cameras shown at once; a click shows the others

// canvas transforms that turn a photo upright, by EXIF orientation; w, h: its width and height as stored
const UPRIGHT = {
  1: () => [1, 0, 0, 1, 0, 0],
  2: (w) => [-1, 0, 0, 1, w, 0],
  3: (w, h) => [-1, 0, 0, -1, w, h],
  4: (w, h) => [1, 0, 0, -1, 0, h],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (w, h) => [0, 1, -1, 0, h, 0],
  7: (w, h) => [0, -1, -1, 0, h, w],
  8: (w) => [0, -1, 1, 0, 0, w],
};

const $ = (id) => document.getElementById(id);
const part = (card, selector) => card.querySelector(selector);
const percent = (share) => // never all or nothing
  share > 0.9995 ? "> 99.9 %" : share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
const say = (text) => ($("status").textContent = text); // screen readers read it out
const element = (tag, textContent = "", className = "") =>
  Object.assign(document.createElement(tag), { textContent, className });

let worker;
let model;
let fault; // why the worker is no longer there
let current; // the photo that the worker has: {file, card, bitmap, width, height, orientation}
let added = 0;
const waiting = [];

listen();
startWorker();

function startWorker() {
  if (!model) say("Loading the network…");
  worker?.terminate();
  try {
    worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => receive(data);
    worker.onerror = lost;
  } catch (error) {
    failed(`This browser cannot run the page: ${error.message}`);
  }
}

/** Choosing, dropping and pasting all end in `add`. */
function listen() {
  $("choose").onclick = () => $("files").click();
  $("files").onchange = () => {
    add($("files").files);
    $("files").value = ""; // so that the same photo can be chosen again
  };
  addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files.length) add(clipboardData.files);
    else say("There is no photo in the clipboard.");
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  addEventListener("dragleave", ({ relatedTarget }) => relatedTarget ?? $("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    const { files } = event.dataTransfer;
    if (files.length) add(files);
    else say("That was not a file. Save the photo first, then drop it here.");
  });
}

function add(files) {
  if (fault) return say(fault);
  for (const [i, file] of [...files].entries()) {
    const card = $("card").content.firstElementChild.cloneNode(true);
    const id = `photo-${(added += 1)}`;
    Object.assign(part(card, ".name"), { textContent: file.name, id });
    card.setAttribute("aria-labelledby", id);
    part(card, "progress").setAttribute("aria-label", `Progress of ${file.name}`);
    part(card, ".stage").textContent = "Waiting";
    $("answers").append(card);
    waiting.push({ file, card, first: i === 0 });
  }
  if (model) say(`Analysing ${files.length === 1 ? files[0].name : `${files.length} photos`}…`);
  next();
}

function next() {
  if (current || !model || !waiting.length) return;
  current = waiting.shift();
  part(current.card, ".stage").textContent = "Reading";
  worker.postMessage(current.file);
}

/** A message of the worker: about itself, or about the photo it has. */
function receive(message) {
  if (message.failure) return failed(`The network could not be loaded: ${message.failure}`);
  if (message.model) return introduce(message.model);
  if (message.stage) showStage(message);
  if (message.bitmap) showPhoto(message);
  if (message.answer) showAnswer(message.answer);
  if (message.problem) showProblem(current, message.problem);
  if (message.answer || message.problem) {
    if (current.first) current.card.scrollIntoView({ block: "nearest" }); // below the answers for earlier photos
    current = undefined;
    if (message.broken) startWorker();
    next();
  }
}

function lost({ message }) {
  const why = message || (model ? "" : "one of its files is missing, or this browser is too old");
  const what = (model ? "has stopped" : "could not start") + (why && ` (${why})`);
  failed(`The background worker of this page ${what}. Reload the page, or try a current browser.`);
}

/** The worker did not start, or has stopped: every photo gets the reason. */
function failed(reason) {
  worker?.terminate();
  fault = reason;
  for (const photo of [current ?? [], waiting.splice(0)].flat()) showProblem(photo, `was not analysed. ${fault}`);
  current = undefined;
  say(fault);
}

/** What the model knows and how often it errs. */
function introduce(loaded) {
  const first = !model;
  model = loaded;
  if (!first) return; // the worker was restarted
  const { class_names: names, info } = model;
  $("description").textContent = model.description;
  $("fiction").hidden = !info.dataset.includes("simulated");
  part($("fiction"), ".dataset").textContent = info.dataset;
  $("known").replaceChildren(...names.map((name) => element("li", readable(name))));
  $("about").hidden = false;
  say("Ready.");
  next();
}

function showStage({ stage, done, total }) {
  part(current.card, ".stage").textContent = stage === "decoding" ? "Decoding" : `Patch ${done} of ${total}`;
  if (total) Object.assign(part(current.card, "progress"), { max: total, value: done });
}

function showPhoto({ bitmap, width, height, orientation }) {
  Object.assign(current, { bitmap, width, height, orientation });
  const canvas = part(current.card, "canvas");
  const size = [bitmap.width, bitmap.height];
  [canvas.width, canvas.height] = orientation > 4 ? size.reverse() : size;
  canvas.setAttribute("aria-label", `The photo ${current.file.name}`);
  draw(current);
  part(current.card, "figure").hidden = false;
}

/** The photo, upright, and over it the map if there is one. */
function draw({ card, bitmap, width, height, orientation, map = [] }) {
  const context = part(card, "canvas").getContext("2d");
  context.setTransform(...UPRIGHT[orientation](bitmap.width, bitmap.height));
  context.globalAlpha = 1;
  context.drawImage(bitmap, 0, 0);
  context.scale(bitmap.width / width, bitmap.height / height);
  for (const { colour, alpha, cell } of map) {
    const [y, x, tall, wide] = cell;
    context.fillStyle = colour;
    context.globalAlpha = alpha;
    context.fillRect(x, y, wide, tall);
  }
}

function showAnswer(answer) {
  const { card, file, width, height, orientation } = current;
  const { unknown, size_unseen: unseen, parts_differ: differ } = answer;
  const [camera, probability] = answer.cameras[0];
  const colours = new Map(leaders(answer.best, COLOURS.length).map(([k], i) => [model.class_names[k], COLOURS[i]]));
  const write = (selector, text) => (part(card, selector).textContent = text);
  const sized = answer.possible < model.class_names.length;
  const refusal = unseen ? "No answer: unknown size" : `None of the known cameras${sized ? " of this size" : ""}`;
  const only = answer.possible === 1 && !unknown && !differ; // it gets no bar and no percentage: they would say nothing
  const verdict = differ ? "Its parts look like different cameras" : unknown ? refusal : readable(camera);
  const sure = only ? "By its size" : probability < 0.5 ? "Perhaps" : "Most likely";
  write(".kicker", differ || unknown ? "Answer" : sure);
  write(".verdict", verdict);
  const sides = answer.parts.map(
    ([side, name]) => `The ${turned(side, orientation)} looks most like ${readable(name)}.`,
  );
  const remarks = [
    ...sides,
    differ && unknown && `${refusal}.`,
    unknown && (unseen ? "No training photo has its size." : "It is not like the photos this model was trained on."),
    unknown && "By the pixels, the most similar of the cameras it knows:",
    differ && !unknown && "If one camera took all of it:",
  ];
  write(".remark", remarks.filter(Boolean).join(" "));
  write(".basis", answer.basis);
  write(".notes", answer.note ?? "");
  const shown = unknown ? answer.pixels : only ? [] : answer.cameras.slice(0, answer.possible);
  const bars = shown.map(([name, share]) => bar(name, share, colours.get(name) ?? GREY, !unknown));
  part(card, ".bars").replaceChildren(...bars.slice(0, BARS));
  part(card, ".rest").hidden = bars.length <= BARS;
  write(".rest summary", `${bars.length - BARS} more`);
  part(card, ".rest .bars").replaceChildren(...bars.slice(BARS));
  const votes = `${answer.votes} of ${answer.patches} patches vote for ${readable(camera)}${sized ? " among these" : ""}. `;
  const limits = " The percentages hold for places and cameras of training; for others they may be confidently wrong.";
  const size = `${width} × ${height} pixels, ${answer.seconds.toFixed(1)} s.`;
  write(".facts", unknown || only ? size : votes + size + limits);
  showMap(answer, colours);
  card.classList.toggle("unknown", unknown);
  part(card, ".working").hidden = true;
  part(card, ".answer").hidden = false;
  say(`${file.name}: ${verdict}` + (differ || unknown || only ? "." : `, ${percent(probability)}.`));
}

/** Where a side of a photo as stored lies in the photo upright. */
function turned(side, orientation) {
  const [a, b, c, d] = UPRIGHT[orientation](0, 0);
  const [x, y] = { left: [-a, -b], right: [a, b], top: [-c, -d], bottom: [c, d] }[side];
  return x ? (x < 0 ? "left" : "right") : y < 0 ? "top" : "bottom";
}

/** A camera's bar; without its percentage where none of the cameras took the photo. */
function bar(name, share, colour, exact) {
  const item = element("li");
  const fill = element("span", "", "fill");
  Object.assign(fill.style, { width: `${100 * share}%`, background: colour });
  const track = element("span", "", "track");
  track.append(fill);
  item.append(element("span", readable(name), "camera"), element("span", exact ? percent(share) : "", "share"), track);
  Object.assign(item.dataset, { camera: name, probability: share });
  return item;
}

/** The map over the photo, its legend, the button that hides it, and the same in words. */
function showMap(answer, colours) {
  const photo = current; // `current` will be another photo when the button is pressed
  const { card, file, width, height } = photo;
  const names = answer.best.map((k) => model.class_names[k]);
  const map = cells(height, width, answer.corners, model.input_size).map((cell, i) => ({
    cell,
    colour: colours.get(names[i]) ?? GREY,
    alpha: 0.1 + 0.5 * answer.sure[i],
  }));
  const count = (test) => names.filter(test).length;
  const parts = [...colours].map(([name, colour]) => [readable(name), colour, count((other) => other === name)]);
  const others = count((name) => !colours.has(name));
  if (others) parts.push(["other cameras", GREY, others]);
  part(card, ".legend").replaceChildren(...parts.map(legendEntry));
  const words = parts.map(([name, , patches]) => `${patches} like ${name}`).join(", ");
  const toggle = part(card, ".toggle");
  const show = (shown) => {
    toggle.setAttribute("aria-pressed", shown);
    const said = `The photo ${file.name}` + (shown ? ` with its map. Patches: ${words}.` : "");
    part(card, "canvas").setAttribute("aria-label", said);
    draw({ ...photo, map: shown ? map : [] });
  };
  toggle.hidden = false;
  toggle.setAttribute("aria-label", `Map of ${file.name}`);
  toggle.onclick = () => show(toggle.getAttribute("aria-pressed") !== "true");
  show(true);
}

function legendEntry([name, colour, patches]) {
  const item = element("li", `${name}: ${patches} ${patches === 1 ? "patch" : "patches"}`);
  const swatch = element("span", "", "swatch");
  swatch.style.background = colour;
  item.prepend(swatch);
  return item;
}

function showProblem({ card, file }, problem) {
  part(card, ".working").hidden = true;
  part(card, "figure").hidden = true;
  part(card, ".problem").hidden = false;
  part(card, ".problem").textContent = `${file.name} ${problem}`;
  card.classList.add("refused");
  say(`${file.name} ${problem}`);
}
