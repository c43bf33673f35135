// How the patches of a photo become one answer: the same arithmetic as camid_utils/identify/predict.py.

/** Top left corners [[y, x], ...] of at most `most` patches in evenly spaced rows and columns, as in predict.py. */
export function positions(height, width, size, most, margin = 0, align = 1) {
  const first = (length) => Math.min(Math.floor(margin * length), Math.floor((length - size) / 2));
  const room = (length) => length - 2 * first(length) - size;
  const count = (length, step) => Math.ceil(room(length) / step) + 1;
  let step = Math.max(1, Math.floor(size / 2));
  while (count(height, step) * count(width, step) > most) step += 1;
  const [ys, xs] = [height, width].map((length) => {
    const n = count(length, step);
    const start = (i) => first(length) + Math.floor((i * room(length)) / Math.max(1, n - 1));
    return new Set(Array.from({ length: n }, (_, i) => Math.floor(start(i) / align) * align));
  });
  return [...ys].flatMap((y) => [...xs].map((x) => [y, x]));
}

/**
 * The answer of all patches together; `logits` and `features` have one array per patch. size: the photo's sizeKey: only
 * cameras with training photos of this size are possible, as in predict.py; if there are none, all are.
 * cameras: [name, probability], most probable first, the `possible` ones before the others; pixels: the same by the
 * pixels alone; votes: patches whose most probable possible class is the first camera; best: each patch's most probable
 * class, possible or not; sure: its probability.
 */
export function answer(logits, features, model, size) {
  const { identification: calibration = {}, sizes } = model.info;
  const fits = model.class_names.map((name) => !sizes?.[size] || sizes[size].includes(name));
  const among = logits.map((patch) => Array.from(patch, (value, k) => (fits[k] ? value : -Infinity)));
  const [cameras, pixels] = [among, logits].map((rows) => ranked(rows, model, calibration.temperature ?? 1));
  const best = logits.map(largest);
  const sure = logits.map((patch) => Math.max(...softmax(patch)));
  const votes = among.filter((patch) => model.class_names[largest(patch)] === cameras[0][0]).length;
  const scores = {
    confidence: cameras[0][1],
    energy: among.map(logSumExp).reduce((total, value) => total + value, 0) / logits.length,
    feature_similarity: calibration.means && similarity(mean(features), calibration.means.filter((_, k) => fits[k])),
  };
  const score = scores[calibration.score ?? "confidence"];
  if (score === undefined) throw new Error(`this page does not know the model’s score ${calibration.score}`);
  const size_unseen = Boolean(sizes && size && !sizes[size]);
  const unknown = "threshold" in calibration && (size_unseen || score < calibration.threshold);
  const possible = fits.filter(Boolean).length;
  return { cameras, possible, pixels, best, sure, votes, patches: logits.length, score, size_unseen, unknown };
}

/** [name, probability] of each class, from the mean of its logits; most probable first. */
function ranked(logits, model, temperature) {
  const values = mean(logits);
  const probabilities = softmax(values.map((value) => value / temperature));
  const order = [...values.keys()].sort((a, b) => (values[a] === values[b] ? 0 : values[b] - values[a])); // -Infinity
  return order.map((k) => [model.class_names[k], probabilities[k]]);
}

/**
 * Whether a photo's parts look like different cameras: the best gain, per patch, of one camera on each side of a seam
 * between rows or columns of patches over one camera for all. parts: [side, name] of both sides, if they differ.
 */
export function compareParts(corners, logits, model) {
  let [best, parts] = [0, []];
  for (const [axis, names] of [
    [1, ["left", "right"]],
    [0, ["top", "bottom"]],
  ]) {
    const places = [...new Set(corners.map((corner) => corner[axis]))].sort((a, b) => a - b);
    for (const seam of places.slice(2, -1)) {
      const sums = [true, false].map((first) => sum(logits.filter((_, i) => corners[i][axis] < seam === first)));
      const [one, other, all] = [...sums, sum(sums)].map((values) => Math.max(...values));
      if (one + other - all <= best + 1e-9) continue;
      best = one + other - all;
      parts = names.map((name, i) => [name, model.class_names[sums[i].indexOf(i ? other : one)]]);
    }
  }
  const statistic = best / logits.length;
  const differ = statistic > (model.info.identification?.splice_threshold ?? Infinity);
  return { parts_statistic: statistic, parts_differ: differ, parts: differ ? parts : [] };
}

/** What a photo's header, by its key, and its size say, as compare_header in predict.py; "" if unknown. */
export function compareHeader(key, size, { pixels, unknown, parts_differ: differ }, { info: { headers, sizes } }) {
  if (!headers) return "";
  const [seen, sized] = [(headers[key] ?? []).map(([name]) => name), sizes?.[size] ?? []];
  const first = pixels[0][0];
  const none = `none of the known cameras${sized.length ? " of its size" : ""}`;
  const refusal = differ ? "different cameras in its parts" : unknown && none;
  let text = `The header says ${anyOf(seen)}, the pixels say ${refusal || readable(first)}: they disagree.`;
  if (!key) text = "It has no JPEG header.";
  else if (!seen.length) text = "The header is one that training never saw.";
  else if (seen.includes(first) && !refusal) text = `The header says ${anyOf(seen)}; the pixels agree.`;
  if (sized.length) {
    const other = seen.length || refusal || sized.includes(first) ? "" : `; the pixels alone favour ${readable(first)}`;
    return `${text} Training photos of this size are by ${anyOf(sized)}${sized.length === 1 ? " only" : ""}${other}.`;
  }
  if (seen.length || !sizes) return text;
  const why = "the photo is by another camera, was taken at another setting, or was cropped or scaled";
  return `${text} No training photo has this size: ${why}.`;
}

/** A photo's sides, upright or not: for example "2848 x 4288". */
export const sizeKey = (height, width) => `${Math.min(height, width)} x ${Math.max(height, width)}`;

/** Up to three cameras, and how many others. */
const anyOf = (names) =>
  [...names.slice(0, 3).map(readable), ...(names.length > 3 ? [`${names.length - 3} others`] : [])].join(" or ");

export const readable = (name) => name.replaceAll("_", " ");

const largest = (values) => values.indexOf(Math.max(...values));

const sum = (rows) => Array.from(rows[0], (_, k) => rows.reduce((total, row) => total + row[k], 0));

/** The mean of arrays of equal length. */
function mean(rows) {
  return sum(rows).map((total) => total / rows.length);
}

/** Minus the distance from a photo's mean features to the nearest camera's. */
function similarity(photo, cameras) {
  return -Math.min(...cameras.map((camera) => Math.hypot(...photo.map((value, k) => value - camera[k]))));
}

function logSumExp(values) {
  const most = Math.max(...values);
  return most + Math.log(values.reduce((total, value) => total + Math.exp(value - most), 0));
}

function softmax(values) {
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - most));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

/** The `leading` classes with most patches, as [index, patches], largest first. */
export function leaders(best, leading) {
  const counts = new Map();
  for (const k of [...best].sort((a, b) => a - b)) counts.set(k, (counts.get(k) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]).slice(0, leading);
}

/** A cell [y, x, height, width] around each patch: halfway to its neighbours, and to the photo's own edges. */
export function cells(height, width, corners, size) {
  const [ys, xs] = [0, 1].map((axis) => [...new Set(corners.map((corner) => corner[axis]))]);
  const [rows, columns] = [between(ys, height, size), between(xs, width, size)];
  const across = xs.length;
  return corners.map((_, i) => {
    const [row, column] = [Math.floor(i / across), i % across];
    const [y, x] = [rows[row], columns[column]];
    return [y, x, rows[row + 1] - y, columns[column + 1] - x];
  });
}

function between(starts, length, size) {
  const halfway = starts.slice(1).map((start, i) => (start + starts[i] + size) / 2);
  return [0, ...halfway, length];
}
