// What a network is given of a decoded photo, {data, channels, width, height}, and what the page draws of it.

const PREVIEW = 1200; // pixels along the longer side of the copy that the page draws
const BITS = 22; // of the fraction in the whole-number weights with which Pillow resamples

/** Where the red, green and blue of a pixel lie behind its first byte: a grey one has one value for all. */
const offsets = (channels) => (channels === 1 ? [0, 0, 0] : [0, 1, 2]);

/** Square patches [n, size, size, 3] of a photo. */
export function cut({ data, channels, width }, corners, size) {
  const patches = new Uint8Array(corners.length * size * size * 3);
  const [red, green, blue] = offsets(channels);
  let to = 0;
  for (const [top, left] of corners)
    for (let y = top; y < top + size; y += 1) {
      let from = (y * width + left) * channels;
      for (let x = 0; x < size; x += 1, from += channels) {
        patches[to++] = data[from + red];
        patches[to++] = data[from + green];
        patches[to++] = data[from + blue];
      }
    }
  return patches;
}

/**
 * The whole photo as [size, size, 3], its aspect ratio not kept: to the bit what camid_utils/degradation.py makes of
 * it with Pillow's bilinear resize (src/libImaging/Resample.c): along the rows, then along the columns, each rounded.
 */
export function squashed(photo, size) {
  return resizedColumns(resizedRows(photo, size), size).data;
}

/** The photo with rows of `length` pixels, in three channels. */
function resizedRows({ data, channels, width, height }, length) {
  const resized = new Uint8Array(height * length * 3);
  const [places, pixels] = [offsets(channels), weights(width, length)];
  let to = 0;
  for (let y = 0; y < height; y += 1)
    for (const { first, shares } of pixels)
      for (const place of places) resized[to++] = blend(data, (y * width + first) * channels + place, channels, shares);
  return { data: resized, channels: 3, width: length, height };
}

/** The photo with columns of `length` pixels, in three channels. */
function resizedColumns({ data, channels, width, height }, length) {
  const resized = new Uint8Array(length * width * 3);
  const [places, row] = [offsets(channels), width * channels];
  let to = 0;
  for (const { first, shares } of weights(height, length))
    for (let x = 0; x < row; x += channels)
      for (const place of places) resized[to++] = blend(data, first * row + x + place, row, shares);
  return { data: resized, channels: 3, width, height: length };
}

/** Of each of `count` pixels along a length: the first old pixel that it is made of, and the shares of all of them. */
function weights(length, count) {
  const scale = length / count;
  const reach = Math.max(scale, 1); // a triangle this wide to both sides
  return Array.from({ length: count }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(length, Math.trunc(centre + reach + 0.5));
    const heights = Array.from({ length: last - first }, (_, k) =>
      Math.max(0, 1 - Math.abs((k + first - centre + 0.5) * (1 / reach))),
    );
    const sum = heights.reduce((a, b) => a + b, 0);
    return { first, shares: Int32Array.from(heights, (value) => Math.trunc(0.5 + (value / sum) * (1 << BITS))) };
  });
}

/** A weighted sum of every `stride`-th value from `start` on, rounded. */
function blend(values, start, stride, shares) {
  let sum = 1 << (BITS - 1);
  for (let i = 0, at = start; i < shares.length; i += 1, at += stride) sum += values[at] * shares[i];
  return Math.min(255, sum >> BITS);
}

/** A small copy as an image to draw; each pixel is the mean of at most 3 x 3 that it stands for. */
export async function preview({ data, channels, width, height }) {
  const scale = Math.min(1, PREVIEW / Math.max(width, height));
  const [columns, rows] = [width, height].map((length) => Math.max(1, Math.round(length * scale)));
  const small = new ImageData(columns, rows);
  const [xs, ys] = [samples(width, columns), samples(height, rows)];
  const places = offsets(channels);
  let to = 0;
  for (const lines of ys)
    for (const across of xs) {
      for (const place of places) {
        let sum = 0;
        for (const y of lines) for (const x of across) sum += data[(y * width + x) * channels + place];
        small.data[to++] = sum / (lines.length * across.length);
      }
      small.data[to++] = 255;
    }
  return createImageBitmap(small);
}

/** For each of `count` shares of a length, at most three places spread over it. */
function samples(length, count) {
  return Array.from({ length: count }, (_, i) => {
    const [from, to] = [Math.floor((i * length) / count), Math.floor(((i + 1) * length) / count)];
    return [...new Set([from, (from + to - 1) >> 1, to - 1])];
  });
}
