// Patches for the network and a preview to draw, from a decoded photo {data, channels, width, height}.

const PREVIEW = 800; // pixels along the longer side of the copy that the page draws

/** Offsets of red, green and blue within a pixel; a grey pixel has one value for all three. */
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

/** A small copy of a photo; each of its pixels is the mean of at most 3 x 3 original ones. */
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

/** For each of `count` equal parts of a length, at most three positions spread over it. */
function samples(length, count) {
  return Array.from({ length: count }, (_, i) => {
    const [from, to] = [Math.floor((i * length) / count), Math.floor(((i + 1) * length) / count)];
    return [...new Set([from, (from + to - 1) >> 1, to - 1])];
  });
}
