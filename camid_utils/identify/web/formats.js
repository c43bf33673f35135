// Reads the headers of photos, before anything is decoded.

const MAX_PIXELS = 300_000_000; // as in camid_utils/photos.py: a damaged header may claim billions
const MAX_DECODED = 2 ** 29; // bytes of pixels that the JPEG decoder gives; with more it fails as if they were damaged
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** A fault of the file, in words that say what to do. */
export class Problem extends Error {}

const isJpeg = (bytes) => bytes[0] === 0xff && bytes[1] === 0xd8;

/** A Problem for a file that does not begin as a JPEG or a PNG does; its first 64 bytes are enough. */
export function refuse(bytes) {
  if (bytes.length === 0) throw new Problem("is empty. Copy it from the camera again.");
  if (!isJpeg(bytes) && !PNG.every((byte, i) => bytes[i] === byte))
    throw new Problem(`${notAPhoto(bytes)} Choose a JPEG or a PNG straight from the camera.`);
}

/** {kind: "jpeg" | "png", width, height, orientation, key} of a photo; a Problem for files that cannot be used. */
export function examine(bytes) {
  const header = isJpeg(bytes) ? jpegHeader(bytes) : pngHeader(bytes);
  if (header.width * header.height > MAX_PIXELS)
    throw new Problem(
      `claims to be ${header.width} × ${header.height} pixels: it is damaged, or larger than the ` +
        `${MAX_PIXELS / 1e6} megapixels that this page accepts. Choose the camera’s own file.`,
    );
  if (header.width * header.height * header.layers > MAX_DECODED)
    throw new Problem(
      `has ${header.width} × ${header.height} pixels, more than this page can decode ` +
        `(${Math.floor(MAX_DECODED / header.layers / 1e6)} megapixels). python -m camid_utils.identify can.`,
    );
  return header;
}

/** The same key of a JPEG's header as header_key in camid_utils/photos.py; "" where its tables cannot be read. */
function headerKey(frame, tables, { width, height }) {
  const layers = Array.from({ length: frame[7] }, (_, i) => frame.subarray(9 + 3 * i, 11 + 3 * i));
  if (!layers.length || !layers.every(([, table]) => tables[table])) return "";
  const times = (shift) => Math.floor(((layers[0][0] >> shift) & 15) / ((layers[1][0] >> shift) & 15));
  const chroma = layers[1] ? tables[layers[1][1]] : [];
  const ratio = layers[1] ? `${times(4)} × ${times(0)}` : "";
  const subsampling = layers[1] ? (SUBSAMPLING[ratio] ?? ratio.replace("×", "x")) : "grey";
  const sides = [width, height].sort((a, b) => a - b);
  const key = new TextEncoder().encode([...tables[layers[0][1]], ...chroma, subsampling, ...sides].join());
  return crc32(view(key), 0, key.length).toString(16).padStart(8, "0");
}

/** The tables of a DQT segment (ITU-T T.81, B.2.4.1) by their number, horizontal frequency growing along rows. */
function quantisationTables(segment) {
  const found = {};
  for (let at = 2; at + 64 < segment.length; at += 1) {
    const [wide, number, values] = [segment[at] >> 4, segment[at] & 15, []];
    for (const place of ZIGZAG) values[place] = wide ? (segment[++at] << 8) | segment[++at] : segment[++at];
    found[number] = values;
  }
  return found;
}

const SUBSAMPLING = { "1 × 1": "4:4:4", "2 × 1": "4:2:2", "2 × 2": "4:2:0", "1 × 2": "4:4:0", "4 × 1": "4:1:1" };
const diagonal = (place) => (place >> 3) + (place & 7);
const along = (place) => (diagonal(place) % 2 ? place >> 3 : place & 7);
const ZIGZAG = [...Array(64).keys()].sort((a, b) => diagonal(a) - diagonal(b) || along(a) - along(b));

/** What the segments before the image data say: frame header (ITU-T T.81, B.2), quantisation tables, EXIF. */
function jpegHeader(bytes) {
  let [orientation, frame] = [1];
  const tables = {};
  for (const [, marker, segment] of segments(bytes)) {
    if (marker === SOS) break;
    if (marker === 0xe1) orientation = exifOrientation(view(segment), 2) ?? orientation;
    if (marker === 0xdb) Object.assign(tables, quantisationTables(segment));
    if (isFrame(marker) && segment.length > 10) frame = segment;
  }
  if (!frame) throw new Problem(DAMAGED); // image data before any frame header
  const size = frameHeader(frame);
  return { kind: "jpeg", orientation, ...size, key: headerKey(frame, tables, size) };
}

const [SOS, EOI] = [0xda, 0xd9];
const isFrame = (marker) => marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
const view = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export const DAMAGED = "is damaged or cut short. Copy it from the camera again, or choose another photo.";

function frameHeader(segment) {
  if (segment[2] !== 8) throw new Problem("is a JPEG with more than 8 bits per colour, which no camera writes.");
  if (segment[7] === 4)
    throw new Problem("is a CMYK JPEG, made for printing, which no camera writes. Choose the camera’s own file.");
  const layers = [9, 12, 15].map((at) => `${segment[at] >> 4} × ${segment[at] & 15}`);
  const known = layers[0] in SUBSAMPLING || new Set(layers).size === 1;
  if (segment[7] === 3 && !known)
    throw new Problem(
      `is a JPEG whose sampling factors, ${layers.join(", ")}, are of a form that the decoder does not know. ` +
        "Choose the camera’s own file.",
    );
  return { height: view(segment).getUint16(3), width: view(segment).getUint16(5), layers: segment[7] };
}

/**
 * Each marker of a JPEG up to its end: the bytes before it (after a scan's header, its compressed data), the marker's
 * code, 0 where the file ends without an end marker, and its segment with the two bytes of its length.
 */
function* segments(bytes) {
  for (let [at, scan] = [2, false]; ;) {
    const from = at;
    const marks = (code) => code > 0 && code < 0xff && !(scan && code >= 0xd0 && code < 0xd8); // restarts are data
    while ((at = bytes.indexOf(0xff, at)) >= 0 && !marks(bytes[at + 1])) at += 1;
    let end = at < 0 ? bytes.length : at;
    while (end > from && bytes[end - 1] === 0xff) end -= 1;
    const marker = at < 0 ? 0 : bytes[at + 1];
    const bare = marker <= 1 || (marker >= 0xd0 && marker <= EOI);
    const length = bare ? 0 : Math.max(2, (bytes[at + 2] << 8) | bytes[at + 3]);
    yield [bytes.subarray(from, Math.max(from, end)), marker, bytes.subarray(at + 2, at + 2 + length)];
    if (marker === 0 || marker === EOI) return;
    at += 2 + length;
    scan = marker === SOS;
  }
}

/**
 * A JPEG as the standard wants it, without what viewers pass over, and a note of that, as in camid_utils/photos.py.
 * Compressed data stay; the end marker is added only after scans that complete every coefficient.
 */
export function repaired(bytes) {
  const [parts, notes] = [[bytes.subarray(0, 2)], new Set()];
  let [last, baseline, missing] = [0, false, new Set([-1])];
  for (let [before, marker, segment] of segments(bytes)) {
    if (last !== SOS) {
      if (before.length) notes.add("extra bytes between its segments");
    } else {
      let data = before.length;
      while (data && before[data - 1] === 0) data -= 1;
      if (baseline && before.length - data > 1) {
        before = before.subarray(0, data + 1);
        notes.add("extra bytes after its compressed data");
      }
      parts.push(before);
    }
    last = marker;
    const change = (at, ...values) => (segment = segment.slice()).set(values, at);
    const named = (name) => [...name].every((letter, i) => segment[2 + i] === letter.charCodeAt(0));
    if (isFrame(marker)) {
      baseline = marker <= 0xc1;
      missing = new Set([...segment].filter((_, i) => i % 3 === 2 && i > 7).flatMap(coefficients(0, 63)));
    } else if (marker === SOS && segment.length > 5) {
      const end = segment.length - 3;
      if (baseline && `${segment.subarray(end)}` !== "0,63,0") {
        change(end, 0, 63, 0);
        notes.add("a scan header of unusual values");
      }
      const done = [...segment.subarray(3, end)].filter((_, i) => i % 2 === 0);
      if (segment[end + 2] % 16 === 0)
        for (const one of done.flatMap(coefficients(segment[end], segment[end + 1]))) missing.delete(one);
    } else if (marker === 0xe0 && named("JFIF\0") && segment.length > 7 && segment[7] !== 1) {
      change(7, 1);
      notes.add("an unknown version of JFIF");
    } else if (marker === 0xee && named("Adobe") && segment[13] > 1) {
      change(13, 1);
      notes.add("an unknown Adobe colour transform");
    } else if ((marker >= 0xe1 && marker <= 0xef && marker !== 0xee) || marker === 0xfe) continue; // metadata
    if (marker) parts.push([0xff, marker], segment);
    else if (!missing.size) {
      parts.push([0xff, EOI]);
      notes.add("no end marker");
    }
  }
  const whole = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let to = 0;
  for (const part of parts) {
    whole.set(part, to);
    to += part.length;
  }
  return [whole, `an odd JPEG: ${[...notes].join(", ") || "damaged metadata"}`];
}

/** A number for each coefficient from `first` to `final` of a layer. */
const coefficients = (first, final) => (layer) =>
  Array.from({ length: Math.max(0, final - first + 1) }, (_, i) => 64 * layer + first + i);

/** Tag 0x0112 of the first directory of an EXIF block (1 to 8), or undefined. */
function exifOrientation(view, at) {
  try {
    if (view.getUint32(at) !== 0x45786966) return undefined; // "Exif"
    const start = at + 6;
    const little = view.getUint16(start) === 0x4949;
    const directory = start + view.getUint32(start + 4, little);
    for (let i = 0; i < view.getUint16(directory, little); i += 1) {
      const entry = directory + 2 + 12 * i;
      if (view.getUint16(entry, little) === 0x0112) {
        const value = view.getUint16(entry + 8, little);
        return value >= 1 && value <= 8 ? value : undefined;
      }
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the block points outside the file
  }
  return undefined;
}

/** Size of a PNG from its first chunk. */
function pngHeader(bytes) {
  if (bytes.length < 33) throw new Problem(DAMAGED);
  const chunks = view(bytes);
  if (!wholeChunks(chunks)) throw new Problem(DAMAGED);
  if (bytes[24] === 16) throw new Problem("is a PNG with 16 bits per colour. Save it with 8 bits.");
  return { kind: "png", orientation: 1, width: chunks.getUint32(16), height: chunks.getUint32(20), key: "" };
}

/** Whether all chunks of a PNG are intact (ISO/IEC 15948, 5.3: length, type, data and their CRC-32). */
function wholeChunks(view) {
  for (let at = 8; at < view.byteLength;) {
    if (at + 12 > view.byteLength) return false;
    const end = at + 8 + view.getUint32(at);
    if (end + 4 > view.byteLength || crc32(view, at + 4, end) !== view.getUint32(end)) return false;
    if (view.getUint32(at + 4) === 0x49454e44) return true; // IEND
    at = end + 4;
  }
  return false;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(view, start, end) {
  let value = 0xffffffff;
  for (let at = start; at < end; at += 1) value = CRC_TABLE[(value ^ view.getUint8(at)) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function notAPhoto(bytes) {
  const start = String.fromCharCode(...bytes.subarray(0, 64));
  if (/^....ftyp(?!avi|.{4,40}avif)(hei|hev|mif|msf)/s.test(start))
    return (
      "is a HEIC photo, whatever its name, and a copy converted to JPEG lacks the camera’s own compression. On an " +
      "iPhone, Settings, Camera, Formats, “Most Compatible” makes the camera write JPEG."
    );
  if (/^(II\*\0|MM\0\*|II\x55\0|II\x52O|....ftypcrx|FUJIFILM)/s.test(start))
    return "is a raw photo or a TIFF; its traces differ from those of a JPEG.";
  return "is neither a JPEG nor a PNG.";
}
