// Reads the headers of photos and of the model file, before anything is decoded.

const MAX_PIXELS = 300_000_000; // as in camid_utils/photos.py: a damaged header may claim billions
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** A fault of the file, in words that say what to do. */
export class Problem extends Error {}

/** {kind: "jpeg" | "png", width, height, orientation} of a photo; a Problem for files that cannot be used. */
export function examine(bytes) {
  if (bytes.length === 0) throw new Problem("is empty. Copy it from the camera again.");
  const header = bytes[0] === 0xff && bytes[1] === 0xd8 ? jpegHeader(bytes) : pngHeader(bytes);
  if (header.width * header.height > MAX_PIXELS)
    throw new Problem(
      `claims to be ${header.width} × ${header.height} pixels: it is damaged, or larger than the ` +
        `${MAX_PIXELS / 1e6} megapixels that this page accepts. Choose the camera’s own file.`,
    );
  return header;
}

/** Size and EXIF orientation: from the frame header (ITU-T T.81, B.2) and the APP1 segment before it. */
function jpegHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let orientation = 1;
  for (let at = 2; at + 9 < bytes.length; ) {
    const marker = view.getUint16(at);
    if (marker < 0xff01 || marker === 0xffff) at += 1; // fill bytes and garbage
    else if (marker === 0xffda) break; // image data before any frame header
    else {
      if (marker === 0xffe1) orientation = exifOrientation(view, at + 4) ?? orientation;
      const frame = marker >= 0xffc0 && marker <= 0xffcf && ![0xffc4, 0xffc8, 0xffcc].includes(marker);
      if (frame) return { kind: "jpeg", orientation, ...frameHeader(view, at + 4) };
      at += 2 + view.getUint16(at + 2);
    }
  }
  throw new Problem(DAMAGED);
}

export const DAMAGED = "is damaged or cut short. Copy it from the camera again, or choose another photo.";

function frameHeader(view, at) {
  if (view.getUint8(at) !== 8) throw new Problem("is a JPEG with more than 8 bits per colour, which no camera writes.");
  if (view.getUint8(at + 5) === 4)
    throw new Problem("is a CMYK JPEG, made for printing, which no camera writes. Choose the camera’s own file.");
  return { height: view.getUint16(at + 1), width: view.getUint16(at + 3) };
}

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

/** Size of a PNG from its first chunk; for other files a Problem that names their kind. */
function pngHeader(bytes) {
  if (!PNG.every((byte, i) => bytes[i] === byte)) throw new Problem(`${notAPhoto(bytes)} Choose a JPEG or a PNG.`);
  if (bytes.length < 33) throw new Problem(DAMAGED);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!wholeChunks(view)) throw new Problem(DAMAGED);
  if (view.getUint8(24) === 16) throw new Problem("is a PNG with 16 bits per colour. Save it with 8 bits.");
  return { kind: "png", orientation: 1, width: view.getUint32(16), height: view.getUint32(20) };
}

/** Whether all chunks of a PNG are intact (ISO/IEC 15948, 5.3: length, type, data and their CRC-32). */
function wholeChunks(view) {
  for (let at = 8; at < view.byteLength; ) {
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
  const start = String.fromCharCode(...bytes.subarray(0, 16));
  if (/^....ftyp(hei|hev|mif|msf)/s.test(start))
    return (
      "is a HEIC photo, which this page cannot read. On an iPhone, Settings, Camera, Formats, “Most Compatible” " +
      "makes the camera write JPEG; a converted copy has lost some of the camera’s traces."
    );
  const known = [
    [/^RIFF....WEBP/s, "is a WebP picture, not a camera’s own file."],
    [/^GIF8/, "is a GIF picture, not a camera’s own file."],
    [/^....ftypavif/s, "is an AVIF picture, not a camera’s own file."],
    [/^(II\*\0|MM\0\*|....ftypcrx|FUJIFILM)/s, "is a raw photo or a TIFF; its traces differ from those of a JPEG."],
    [/^%PDF/, "is a PDF document, not a photo."],
    [/^....ftyp/s, "is a video, not a photo."],
  ];
  return known.find(([pattern]) => pattern.test(start))?.[1] ?? "is not a photo.";
}

const text = (bytes) => new TextDecoder().decode(bytes);

/** The study's entry in an ONNX file's metadata (ModelProto.metadata_props, field 14 of onnx.proto). */
export function modelMetadata(bytes) {
  for (const [field, entry] of protobufFields(bytes)) {
    if (field !== 14) continue;
    const { 1: key, 2: value } = Object.fromEntries(protobufFields(entry));
    if (text(key) === "camera_model_identification") return JSON.parse(text(value));
  }
  throw new Error("model.onnx is not a model of this study: its metadata has no class names");
}

/** [number, bytes] of the length-delimited fields of a protobuf message; other fields are skipped. */
function* protobufFields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (!(byte >= 128)) return value; // the last byte, or the end of a file cut short
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const type = tag % 8;
    if (type === 0) varint();
    else if (type === 2) {
      const end = varint() + at;
      yield [Math.floor(tag / 8), bytes.subarray(at, end)];
      at = end;
    } else at += type === 1 ? 8 : 4;
  }
}
