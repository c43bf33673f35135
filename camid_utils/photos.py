"""One photo: its pixels as stored, its JPEG header, and the degradations that robustness is tested with."""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

MAX_PIXELS = 300_000_000  # the largest phone sensors have 200 million; a header that claims more than this is broken
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is below those sensors
FORMATS = {  # how files that are no JPEG begin
    rb".{4}ftyp(avi|.{4,40}avif)": "an AVIF picture", rb".{4}ftyp(hei|hev|mif|msf)": "a HEIC photo",
    rb"II\*\0|MM\0\*|II\x55\0|II\x52O|.{4}ftypcrx|FUJIFILM": "a raw photo or a TIFF", rb".{4}ftyp": "a video",
    rb"\x89PNG\r\n": "a PNG picture", rb"RIFF.{4}WEBP": "a WebP picture", rb"GIF8": "a GIF picture",
}  # fmt: skip
MARKER = re.compile(rb"\xff([\x01-\xfe])")  # ITU-T T.81, B.1.1.2
SCAN_END = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # the compressed data contain restart markers
SOF, SOS, EOI = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}, 0xDA, 0xD9
HEADER_BYTES = (1 << 16, 1 << 20, -1)  # thumbnails and maker notes rarely fill 64 kB; -1 reads the whole file
SUBSAMPLING = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
DEGRADATIONS = {"": "", "jpeg": "QUALITY", "scale": "FACTOR", "traces": "FACTOR QUALITY", "messenger": "SIDE QUALITY"}
RANGES = {"QUALITY": (1, 100), "FACTOR": (0.01, 4.0), "SIDE": (1, 65_500)}  # whole numbers where the limits are


def read_photo(path: str | Path, at_least: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Pixels of a JPEG or an 8-bit PNG as stored, uint8 [height, width, 3] RGB, also if it is grey.

    EXIF orientation is never applied, alpha is dropped, and the content decides, not the name. With `at_least` (height,
    width) the decoder returns a smaller copy of a JPEG, reduced in eighths, but no smaller than that.
    Raises ValueError, with the path and the reason, if the file cannot be used.
    """
    return read_noted(path, at_least)[0]


def read_noted(path: str | Path, at_least: tuple[int, int] = (0, 0)) -> tuple[np.ndarray, str]:
    """Pixels as `read_photo`, and a note of what was odd and had to be repaired, or ""."""
    size = {"min_height": at_least[0], "min_width": at_least[1]}
    try:
        data = Path(path).read_bytes()
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _read_png(data), ""
        jpeg_header(io.BytesIO(data))
        try:
            return simplejpeg.decode_jpeg(data, "RGB", strict=True, **size), ""
        except ValueError:
            data, note = _repaired(data)
        return simplejpeg.decode_jpeg(data, "RGB", strict=True, **size), note
    except (OSError, SyntaxError, ValueError) as error:
        reason = str(error)
        if isinstance(error, OSError) and error.strerror:
            reason = f"cannot be read ({error.strerror})"
        elif "premature end" in reason.lower():
            reason = "truncated JPEG (premature end of file)"
        raise ValueError(f"{path}: {reason}") from error


def _read_png(data: bytes) -> np.ndarray:
    try:
        with warnings.catch_warnings(action="ignore"), PngImageFile(io.BytesIO(data)) as image:
            _check_pixels(image.height, image.width)
            if data[24] == 16:  # bits per sample: ISO/IEC 15948, 11.2.2
                raise ValueError("a PNG with 16 bits per sample, which no camera's JPEG has; save it with 8")
            return np.asarray(image.convert("RGB"))
    except (AssertionError, AttributeError, LookupError, TypeError, struct.error, zlib.error) as error:  # of Pillow
        raise ValueError(f"a damaged PNG ({error or type(error).__name__})") from error


def _segments(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """A JPEG's markers up to its end (0: there is no end marker), each with the bytes before it (after a scan's header
    its compressed data) and its segment, from the two bytes of its length on."""
    at, pattern = 2, MARKER
    while found := pattern.search(data, at):
        marker, start = found[1][0], found.end()
        bare = marker == 1 or 0xD0 <= marker <= EOI
        end = start if bare else start + max(2, int.from_bytes(data[start : start + 2]))
        yield data[at : found.start()].rstrip(b"\xff"), marker, data[start:end]
        if marker == EOI:
            return
        at, pattern = end, SCAN_END if marker == SOS else MARKER
    yield data[at:].rstrip(b"\xff"), 0, b""


def _repaired(data: bytes) -> tuple[bytes, str]:
    """A JPEG as the standard wants it, without what viewers pass over, and a note of that. Compressed data stay.

    The end marker is added only after scans that complete every coefficient: what is cut short remains so.
    """
    parts, notes, last, baseline, missing = [data[:2]], [], 0, False, {None}
    for before, marker, segment in _segments(data):
        if last == SOS:
            if baseline and before.endswith(b"\0\0"):
                before = re.sub(rb"\xff\Z", b"\xff\0", before.rstrip(b"\0"))  # 0 after 255 belongs to the data
                notes.append("extra bytes after its compressed data")
            parts.append(before)
        elif before:
            notes.append("extra bytes between its segments")
        last = marker
        if marker in SOF:
            baseline, missing = marker <= 0xC1, {(i, k) for i in segment[8::3] for k in range(64)}
        elif marker == SOS and len(segment) > 5:
            if baseline and segment[-3:] != b"\0\x3f\0":
                segment = segment[:-3] + b"\0\x3f\0"
                notes.append("a scan header of unusual values")
            first, final, bits = segment[-3:]
            if bits % 16 == 0:
                missing -= {(i, k) for i in segment[3:-3:2] for k in range(first, final + 1)}
        elif marker == 0xE0 and segment[2:7] == b"JFIF\0" and segment[7:8] != b"\1":
            segment = segment[:7] + b"\1" + segment[8:]
            notes.append("an unknown version of JFIF")
        elif marker == 0xEE and segment[2:7] == b"Adobe" and segment[13:14] > b"\1":
            segment = segment[:13] + b"\1" + segment[14:]
            notes.append("an unknown Adobe colour transform")
        elif 0xE1 <= marker <= 0xEF and marker != 0xEE or marker == 0xFE:
            continue  # metadata, such as a damaged colour profile
        if marker:
            parts.append(bytes([0xFF, marker]) + segment)
        elif not missing:
            parts.append(bytes([0xFF, EOI]))
            notes.append("no end marker")
    return b"".join(parts), "an odd JPEG: " + ", ".join(dict.fromkeys(notes or ["damaged metadata"]))


def jpeg_header(file: BinaryIO) -> tuple[int, int]:
    """Height and width in pixels as stored, from as few bytes as the decoder needs; ValueError with the reason."""
    data = b""
    for size in HEADER_BYTES:
        data += file.read(size)
        if not data.startswith(b"\xff\xd8"):
            name = next((name for start, name in FORMATS.items() if re.match(start, data, re.DOTALL)), "")
            other = f"{name}, whatever its name: a copy converted to JPEG lacks the camera's own compression"
            unknown = f"it begins with {data[:8]!r}" if data else "the file is empty"
            raise ValueError(other if name else f"not a JPEG: {unknown}")
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        except (ValueError, KeyError):  # KeyError: colours or subsampling not known (yet)
            continue
        if colours in ("CMYK", "YCCK"):
            raise ValueError("a CMYK JPEG, which no camera writes")
        _check_pixels(height, width)
        return height, width
    frame = next((segment for _, marker, segment in _segments(data) if marker in SOF), b"")
    samples = [divmod(sampling, 16) for sampling in frame[9::3]]
    if len(samples) == 3 and samples[0] not in SUBSAMPLING:
        form = ", ".join(f"{across} x {down}" for across, down in samples)
        raise ValueError(f"a JPEG whose sampling factors, {form}, are of a form that the decoder does not know")
    raise ValueError("its JPEG header is damaged, cut short or of a form that the decoder does not know")


def _check_pixels(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(f"its header claims {width} x {height} pixels; the limit is {MAX_PIXELS // 10**6} megapixels")


def quantisation_tables(path: str | Path) -> tuple[np.ndarray, np.ndarray | None, str]:
    """A photo's luma and chroma quantisation tables, int [8, 8], and its subsampling, such as "4:2:0".

    Horizontal frequency grows with the column. A grey photo has no chroma table (None) and the subsampling "grey".
    """
    try:
        with open(path, "rb") as file:
            jpeg_header(file)
            end = file.tell()  # at least the first scan header
            file.seek(0)
            header = file.read(end)
        with Image.open(io.BytesIO(_repaired(header)[0]), formats=["JPEG"]) as image:
            tables, layers = image.quantization, image.layer  # a layer: id, horizontal and vertical samples, table
            luma, *chroma = [np.reshape(tables[table], (8, 8)) for *_, table in layers]
    except (OSError, SyntaxError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: its JPEG tables cannot be read ({error})") from error
    if not chroma:
        return luma, None, "grey"
    across, down = layers[0][1] // layers[1][1], layers[0][2] // layers[1][2]
    return luma, chroma[0], SUBSAMPLING.get((across, down), f"{across} x {down}")


def header_key(path: str | Path, height: int, width: int) -> str:
    """A JPEG's quantisation tables, subsampling, shorter and longer side as eight hexadecimal digits.

    "" where its tables cannot be read, as in a PNG. The page computes the same (web/formats.js).
    """
    try:
        luma, chroma, subsampling = quantisation_tables(path)
    except ValueError:
        return ""
    tables = [*luma.ravel(), *([] if chroma is None else chroma.ravel())]
    return f"{zlib.crc32(','.join(map(str, [*tables, subsampling, *sorted((height, width))])).encode()):08x}"


def degrade(photo: np.ndarray, how: str) -> np.ndarray:
    """A photo uint8 [h, w, 3], degraded; the same photo and `how` always give the same pixels.

    "" does nothing; "jpeg 70" compresses again at quality 70, chroma 4:2:0; "scale 0.5" halves both sides;
    "traces 0.5 90" scales by 0.5 and back, then quality 90: removes the camera's finest traces, keeps the content;
    "messenger 1600 75" reduces the longer side to 1600 pixels if it is longer, then quality 75.
    """
    name, numbers = parse_degradation(how)
    height, width = photo.shape[:2]
    match name:
        case "jpeg":
            return recompress(photo, *numbers)
        case "scale":
            return _scale(photo, *numbers)
        case "traces":
            return recompress(resize(_scale(photo, numbers[0]), height, width), numbers[1])
        case "messenger":
            return recompress(_scale(photo, min(1.0, numbers[0] / max(height, width))), numbers[1])
    return photo


def parse_degradation(how: str) -> tuple[str, list[float]]:
    """Name and numbers of a degradation as `degrade` takes it, "" for none; ValueError for any other."""
    name, *words = how.split() or [""]
    with suppress(KeyError, ValueError):  # not such a name or not such numbers
        ranges = [RANGES[number] for number in DEGRADATIONS[name].split()]
        numbers = [type(low)(word) for word, (low, _) in zip(words, ranges, strict=True)]
        if all(low <= number <= high for number, (low, high) in zip(numbers, ranges, strict=True)):
            return name, numbers
    forms = ", ".join(f"{form} {numbers}" for form, numbers in DEGRADATIONS.items() if form)
    ranges = ", ".join(f"{number} {low:g} to {high:g}" for number, (low, high) in RANGES.items())
    raise ValueError(f"degradation {how!r}: write one of {forms} ({ranges})")


def resize(photo: np.ndarray, height: int, width: int) -> np.ndarray:
    """A whole photo as uint8 [height, width, 3], aspect ratio not kept, bilinear with anti-aliasing."""
    narrow = Image.fromarray(photo).resize((width, len(photo)), Image.Resampling.BILINEAR)
    return np.asarray(narrow.resize((width, height), Image.Resampling.BILINEAR))


def recompress(photo: np.ndarray, quality: int) -> np.ndarray:
    """A photo after JPEG compression: the usual encoder (Pillow, 4:2:0), the study's decoder."""
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return simplejpeg.decode_jpeg(buffer.getvalue(), "RGB", strict=True)


def _scale(photo: np.ndarray, factor: float) -> np.ndarray:
    return resize(photo, *(max(1, round(factor * side)) for side in photo.shape[:2]))
