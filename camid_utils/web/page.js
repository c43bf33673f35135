// What the person sees: takes photos in, hands them to the worker one by one, shows its answers.

import { cells, leaders } from "./answer.js";

const COLOURS = ["#1f6f8b", "#edae49", "#d1495b"]; // of the cameras that most of a photo looks like
const GREY = "#8d99ae"; // of all others
const BARS = 4; // cameras shown at once; the others are a click away

// how a photo is turned upright when drawn, by its EXIF orientation; w, h: its width and height as stored
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
const readable = (name) => name.replaceAll("_", " ");
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const wholePercent = (share) => `${Math.round(100 * share)} %`;

let worker;
let model;
let current; // the photo that the worker has: {id, file, card, bitmap, width, height, orientation}
let added = 0;
const waiting = [];

startWorker();
takePhotosIn();

function startWorker() {
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => heard(data);
  worker.onerror = lost;
  if (!model) say("Loading the network…");
}

/** Choosing, dropping and pasting all end in `add`. */
function takePhotosIn() {
  $("choose").onclick = () => $("files").click();
  $("files").onchange = () => {
    add($("files").files);
    $("files").value = ""; // so that the same photo can be chosen again
  };
  $("clear").onclick = clear;
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
    if (event.dataTransfer.files.length) add(event.dataTransfer.files);
    else say("That was not a file. Save the photo first, then drop it here.");
  });
}

function add(files) {
  if (!worker) return say("This page has lost its worker. Reload it.");
  for (const file of files) {
    const card = $("card").content.firstElementChild.cloneNode(true);
    const name = part(card, ".name");
    const id = `photo-${(added += 1)}`;
    Object.assign(name, { textContent: file.name, id });
    card.setAttribute("aria-labelledby", id);
    part(card, "progress").setAttribute("aria-label", `Progress of ${file.name}`);
    part(card, ".stage").textContent = "Waiting";
    $("answers").append(card);
    waiting.push({ id, file, card });
  }
  $("tidy").hidden = false;
  if (model) say(files.length === 1 ? `Looking at ${files[0].name}…` : `Looking at ${files.length} photos…`);
  next();
}

function next() {
  if (current || !model || !waiting.length) return;
  current = waiting.shift();
  part(current.card, ".stage").textContent = "Reading";
  worker.postMessage({ id: current.id, file: current.file });
}

/** One message of the worker: about itself, or about the photo it has. */
function heard({ id, failure, ...message }) {
  if (failure) say(`The network could not be loaded: ${failure}`);
  if (message.model) introduce(message.model);
  if (!current || id !== current.id) return;
  if (message.stage) showStage(message);
  if (message.bitmap) showPhoto(message);
  if (message.answer) showAnswer(message.answer);
  if (message.problem) showProblem(message.problem);
  if (message.answer || message.problem) {
    current = undefined;
    if (message.broken) restart();
    next();
  }
}

/** The worker cannot start: at first in an old browser, later where its files are out of reach. */
function lost() {
  const advice = model ? "Reload the page." : "Please try a current browser.";
  for (const photo of [current, ...waiting.splice(0)].filter(Boolean)) {
    current = photo;
    showProblem(`was not looked at: this page has lost its worker. ${advice}`);
  }
  current = worker = undefined;
  say(`The worker of this page could not start. ${advice}`);
}

function restart() {
  worker?.terminate();
  startWorker();
}

function clear() {
  waiting.length = 0;
  if (current) restart();
  current = undefined;
  $("answers").replaceChildren();
  $("tidy").hidden = true;
  say("All answers are cleared.");
  $("choose").focus();
}

/** Which model answers, on what it was trained and how often it errs: all from the model file itself. */
function introduce(loaded) {
  const first = !model;
  model = loaded;
  if (!first) return; // a worker started again
  const { class_names: names, dataset, identification } = model;
  $("trained").textContent = `It was trained on ${dataset} and knows ${names.length} cameras, no others.`;
  $("fiction").hidden = !dataset.includes("simulated");
  part($("fiction"), ".dataset").textContent = dataset;
  $("known").replaceChildren(...names.map((name) => element("li", readable(name))));
  $("errors").textContent = errorRates(identification);
  $("in-pieces").hidden = model.squashed;
  $("as-a-whole").hidden = !model.squashed;
  $("about").hidden = false;
  say("Ready.");
  next();
}

function errorRates(identification) {
  if (identification?.threshold === undefined || identification.threshold === null)
    return "It always names one of them: its file holds no measured threshold for “none of the known cameras”.";
  const { known_refused: refused, unknown_accepted: accepted } = identification;
  if (refused === undefined || accepted === undefined) return "It can answer “none of the known cameras”.";
  return (
    `It can answer “none of the known cameras”. In the study’s test it said so about ${wholePercent(refused)} of photos ` +
    `by cameras it knows, and gave a name to ${wholePercent(accepted)} of photos by cameras it does not know.`
  );
}

function showStage({ stage, done, total }) {
  const pieces = total > 1 ? `: ${done} of ${total} pieces` : "";
  part(current.card, ".stage").textContent = stage === "decoding" ? "Decoding" : `Looking${pieces}`;
  if (total > 1) Object.assign(part(current.card, "progress"), { max: total, value: done });
}

function showPhoto({ bitmap, width, height, orientation }) {
  Object.assign(current, { bitmap, width, height, orientation });
  const canvas = part(current.card, "canvas");
  const turned = orientation > 4;
  canvas.width = turned ? bitmap.height : bitmap.width;
  canvas.height = turned ? bitmap.width : bitmap.height;
  canvas.setAttribute("aria-label", `The photo ${current.file.name}`);
  draw(current);
  part(current.card, "figure").hidden = false;
}

/** The photo upright, and over it the map where there is one. */
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
  const { card, file, width, height } = current;
  const [camera, probability] = answer.cameras[0];
  const colours = new Map(leaders(answer.best, COLOURS.length).map(([k], i) => [model.class_names[k], COLOURS[i]]));
  part(card, ".kicker").textContent = answer.unknown ? "Answer" : probability < 0.5 ? "Perhaps" : "Most likely";
  part(card, ".verdict").textContent = answer.unknown ? "None of the known cameras" : readable(camera);
  part(card, ".remark").hidden = !answer.unknown;
  part(card, ".remark").textContent = "It looks unlike the photos this model was trained on. Of its cameras the likeliest:";
  const bars = answer.cameras.map(([name, share]) => bar(name, share, colours.get(name) ?? GREY));
  part(card, ".bars").replaceChildren(...bars.slice(0, BARS));
  part(card, ".rest").hidden = bars.length <= BARS;
  part(card, ".rest summary").textContent = `${bars.length - BARS} more`;
  part(card, ".rest .bars").replaceChildren(...bars.slice(BARS));
  const pieces = `${answer.agreed} of ${answer.patches} pieces name ${readable(camera)}.`;
  part(card, ".facts").textContent =
    (answer.patches > 1 ? pieces : "It was looked at as a whole, so the map has one piece.") +
    ` ${width} × ${height} pixels, ${answer.seconds.toFixed(1)} s.`;
  showMap(answer, colours);
  card.classList.toggle("unknown", answer.unknown);
  part(card, ".working").hidden = true;
  part(card, ".answer").hidden = false;
  say(`${file.name}: ${part(card, ".verdict").textContent}` + (answer.unknown ? "." : `, ${percent(probability)}.`));
}

function bar(name, share, colour) {
  const item = element("li");
  const fill = element("span", "", "fill");
  fill.style.width = `${100 * share}%`;
  fill.style.background = colour;
  const track = element("span", "", "track");
  track.append(fill);
  item.append(element("span", readable(name), "camera"), element("span", percent(share), "share"), track);
  Object.assign(item.dataset, { camera: name, probability: share });
  return item;
}

/** The map over the photo, its legend, the button that hides it, and the same in words. */
function showMap(answer, colours) {
  const { card, file, width, height } = current;
  const photo = current; // `current` moves on, the button stays
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
  const words = parts.map(([name, , pieces]) => `${pieces} like ${name}`).join(", ");
  const toggle = part(card, ".toggle");
  const show = (shown) => {
    toggle.setAttribute("aria-pressed", shown);
    const said = shown ? `The photo ${file.name} with its map. Pieces: ${words}.` : `The photo ${file.name}`;
    part(card, "canvas").setAttribute("aria-label", said);
    draw({ ...photo, map: shown ? map : [] });
  };
  toggle.hidden = false;
  toggle.setAttribute("aria-label", `Map of ${file.name}`);
  toggle.onclick = () => show(toggle.getAttribute("aria-pressed") !== "true");
  show(true);
}

function legendEntry([name, colour, pieces]) {
  const item = element("li", `${name}, ${pieces}`);
  const swatch = element("span", "", "swatch");
  swatch.style.background = colour;
  item.prepend(swatch);
  return item;
}

function showProblem(problem) {
  const { card, file } = current;
  part(card, ".working").hidden = true;
  part(card, "figure").hidden = true;
  part(card, ".problem").hidden = false;
  part(card, ".problem").textContent = `${file.name} ${problem}`;
  card.classList.add("refused");
  say(`${file.name} ${problem}`);
}

function part(card, selector) {
  return card.querySelector(selector);
}

function element(tag, text = "", className = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className });
}

/** The line that screen readers read out. */
function say(text) {
  $("status").textContent = text;
}
