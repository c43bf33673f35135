// Decodes photos and runs the network in the background, so that the page stays responsive.

import { answer, compareHeader, compareParts, positions, sizeKey } from "./answer.js";
import { DAMAGED, Problem, examine, refuse, repaired } from "./formats.js";
import { cut, preview } from "./pixels.js";
import openJpegDecoder from "./vendor/jpeg.js";
import * as ort from "./vendor/ort.js";
import openPngDecoder, { decode as decodePng } from "./vendor/png.js";

const BATCH = 8; // patches per step of the progress bar

const here = (name) => new URL(name, import.meta.url).href;
const ready = load();

ready.then(
  ({ model }) => postMessage({ model }),
  (error) => postMessage({ failure: error.message ?? String(error) }),
);

self.onmessage = async ({ data: file }) => {
  try {
    postMessage({ answer: await identify(file) });
  } catch (error) {
    postMessage({ problem: inWords(error), broken: error.broken ?? !(error instanceof Problem) });
  }
};

/** The network, the facts about it, and both decoders: all that is ever downloaded. */
async function load() {
  if (!self.WebAssembly)
    throw new Error("this browser has no WebAssembly. On an iPhone or iPad, Lockdown Mode switches it off.");
  const [bytes, facts, wasmBinary, jpeg] = await Promise.all([
    download("model.onnx"),
    download("model.json"),
    download("vendor/ort-wasm.wasm"),
    openJpegDecoder({ locateFile: () => here("vendor/jpeg.wasm") }),
    openPngDecoder(here("vendor/png.wasm")),
  ]);
  const model = JSON.parse(new TextDecoder().decode(facts));
  Object.assign(ort.env.wasm, { wasmBinary, wasmPaths: { mjs: here("vendor/ort-wasm.js") }, numThreads: 1 });
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  return { model, jpeg, session };
}

async function download(name) {
  const response = await fetch(here(name));
  if (!response.ok) throw new Error(`${name} is missing beside the page (${response.status})`);
  return new Uint8Array(await response.arrayBuffer());
}

/** The answer for one file; meanwhile the page gets progress messages and a small copy to draw. */
async function identify(file) {
  const { model, jpeg, session } = await ready;
  const started = performance.now();
  const bytes = await contents(file);
  const { kind, width, height, orientation, key } = examine(bytes);
  const size = model.input_size;
  if (Math.min(width, height) < size)
    throw new Problem(
      `has ${width} × ${height} pixels; the network needs at least ${size} × ${size}. ` +
        "Choose the original photo, not a thumbnail.",
    );
  postMessage({ stage: "decoding" });
  const photo = kind === "jpeg" ? decodedJpeg(jpeg, bytes) : decodedPng(bytes);
  const corners = positions(height, width, size, model.patches, model.info.margin, model.info.align);
  const [logits, features] = [[], []];
  try {
    const bitmap = await preview(photo);
    postMessage({ bitmap, width, height, orientation }, [bitmap]);
    for (let start = 0; start < corners.length; start += BATCH) {
      postMessage({ stage: "analysing", done: start, total: corners.length });
      const found = await predict(session, cut(photo, corners.slice(start, start + BATCH), size), size);
      logits.push(...found.logits);
      features.push(...found.features);
    }
  } finally {
    photo.free?.();
  }
  const sides = sizeKey(height, width);
  const found = { ...answer(logits, features, model, sides), ...compareParts(corners, logits, model) };
  const seconds = (performance.now() - started) / 1000;
  const basis = compareHeader(key, sides, found, model);
  return { ...found, basis, corners, note: photo.note, seconds };
}

async function contents(file) {
  try {
    refuse(new Uint8Array(await file.slice(0, 64).arrayBuffer())); // a video need not be read in full
    return new Uint8Array(await file.arrayBuffer());
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem(
      "could not be read: it has changed or gone since it was chosen, or it is a folder, or this browser cannot read " +
        "so large a file. Choose it again.",
    );
  }
}

/**
 * Pixels as stored: {data, channels, width, height, note}, valid until free(). As in Python, libjpeg-turbo decodes
 * strictly, if need be a second time once the file is repaired.
 */
function decodedJpeg(jpeg, bytes) {
  try {
    return strictly(jpeg, bytes);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
  }
  const [whole, note] = repaired(bytes);
  return { ...strictly(jpeg, whole), note: `It is ${note}.` };
}

function strictly(jpeg, bytes) {
  const decoder = new jpeg.JPEGDecoder();
  try {
    decoder.getEncodedBuffer(bytes.length).set(bytes);
    decoder.decode();
    const { width, height, componentCount } = decoder.getFrameInfo();
    return { data: decoder.getDecodedBuffer(), channels: componentCount, width, height, free: () => decoder.delete() };
  } catch (error) {
    decoder.delete();
    if (typeof error === "number") throw new Problem(DAMAGED); // the address of a C++ exception
    throw error;
  }
}

/** Pixels of a PNG as stored; alpha is ignored. */
function decodedPng(bytes) {
  try {
    const { data, width, height } = decodePng(bytes);
    return { data, channels: 4, width, height };
  } catch (error) {
    if (error instanceof RangeError) throw error; // no memory
    throw Object.assign(new Problem(DAMAGED), { broken: true }); // the decoder needs a new start
  }
}

/** The network’s outputs for some patches: {logits, features}, each with one array per patch. */
async function predict(session, patches, size) {
  const count = patches.length / (size * size * 3);
  const feeds = { patches: new ort.Tensor("uint8", patches, [count, size, size, 3]) };
  const outputs = Object.entries(await session.run(feeds));
  const rows = ({ data, dims: [, width] }) =>
    Array.from({ length: count }, (_, i) => data.subarray(i * width, (i + 1) * width));
  return Object.fromEntries(outputs.map(([name, output]) => [name, rows(output)]));
}

/** An error in words that follow the name of the file. */
function inWords(error) {
  if (error instanceof Problem) return error.message;
  if (error instanceof RangeError) return "needs more memory than this browser gives. Close other tabs, and try again.";
  return `could not be analysed: ${error.message ?? error}`;
}
