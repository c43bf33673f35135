"""One photo: its pixels as stored, its JPEG header, and the degradations that robustness is tested with."""

import io
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

MAX_PIXELS = 300_000_000  # the largest phone sensors have 200 million; a header that claims more than this is broken
HEADER_BYTES = (1 << 16, 1 << 20, -1)  # thumbnails and maker notes rarely fill 64 kB; -1 reads the whole file
SUBSAMPLING = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
DEGRADATIONS = {  # the numbers that follow each name
    "": (), "jpeg": ("QUALITY",), "scale": ("FACTOR",), "traces": ("FACTOR", "QUALITY"),
    "messenger": ("SIDE", "QUALITY"), "noise": ("DEVIATION",),
}  # fmt: skip
# minimum and maximum of each, whole numbers where these are
RANGES = {"QUALITY": (1, 100), "FACTOR": (0.01, 4.0), "SIDE": (1, 65_500), "DEVIATION": (0.0, 255.0)}


def read_photo(path: str | Path, at_least: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Pixels of a JPEG as stored, uint8 [height, width, 3] RGB: EXIF orientation is never applied.

    Grey photos get three equal channels. With `at_least` (height, width) the decoder returns a smaller copy, reduced
    in eighths, but no smaller than that. Raises ValueError, with the path and the reason, if the file cannot be used.
    """
    try:
        data = Path(path).read_bytes()
        jpeg_header(io.BytesIO(data))
        return simplejpeg.decode_jpeg(data, "RGB", min_height=at_least[0], min_width=at_least[1], strict=True)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        reason = "truncated JPEG (premature end of file)" if "Premature end" in str(error) else error
        raise ValueError(f"{path}: {reason}") from error


def read_image(path: str | Path) -> np.ndarray:
    """Pixels of a JPEG, as `read_photo`, or of an 8-bit PNG, without alpha; the content decides, not the name."""
    start = b""
    with suppress(OSError), open(path, "rb") as file:  # read_photo will say why
        start = file.read(25)
    if not start.startswith(b"\x89PNG\r\n\x1a\n"):
        return read_photo(path)
    try:  # ISO/IEC 15948, 11.2.2: width, height and bit depth follow the signature and the first chunk's name
        _check_pixels(height=int.from_bytes(start[20:24]), width=int.from_bytes(start[16:20]))
        if start[24:] == b"\x10":
            raise ValueError("a PNG with 16 bits per sample, which no camera's JPEG gave; save it with 8")
        with warnings.catch_warnings(action="ignore"), PngImageFile(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def jpeg_header(file: BinaryIO) -> tuple[int, int]:
    """Height and width in pixels as stored, from as few bytes as the decoder needs; ValueError with the reason."""
    data = b""
    for size in HEADER_BYTES:
        data += file.read(size)
        if not data.startswith(b"\xff\xd8"):
            raise ValueError(f"not a JPEG: it begins with {data[:8]!r}" if data else "not a JPEG: the file is empty")
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        except (ValueError, KeyError):  # KeyError: colours or subsampling not known (yet)
            continue
        if colours in ("CMYK", "YCCK"):
            raise ValueError("a CMYK JPEG, which no camera writes")
        _check_pixels(height, width)
        return height, width
    raise ValueError("its JPEG header is damaged, cut short or of a form that the decoder does not know")


def _check_pixels(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(f"its header claims {width} x {height} pixels; the limit is {MAX_PIXELS // 10**6} megapixels")


def quantisation_tables(path: str | Path) -> tuple[np.ndarray, np.ndarray | None, str]:
    """A photo's luma and chroma quantisation tables, int [8, 8], and its subsampling, such as "4:2:0".

    Horizontal frequency grows with the column. A grey photo has no chroma table (None) and the subsampling "grey".
    """
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            tables, layers = image.quantization, image.layer  # a layer: id, horizontal and vertical samples, table
            luma, *chroma = [np.reshape(tables[table], (8, 8)) for *_, table in layers]
    except (OSError, SyntaxError, KeyError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: its JPEG tables cannot be read ({error})") from error
    if not chroma:
        return luma, None, "grey"
    across, down = layers[0][1] // layers[1][1], layers[0][2] // layers[1][2]
    return luma, chroma[0], SUBSAMPLING.get((across, down), f"{across} x {down}")


def degrade(photo: np.ndarray, how: str) -> np.ndarray:
    """A photo uint8 [h, w, 3], degraded; the same photo and `how` always give the same pixels.

    "": unchanged;
    "jpeg 70": compressed again at quality 70, chroma 4:2:0;
    "scale 0.5": both sides halved;
    "traces 0.5 90": scaled by 0.5 and back, then quality 90: removes the camera's finest traces, keeps the content;
    "messenger 1600 75": the longer side reduced to 1600 pixels if it is longer, then quality 75;
    "noise 2": Gaussian noise, standard deviation 2 grey levels.
    Raises ValueError for any other `how`.
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
        case "noise":
            noise = np.random.default_rng(zlib.crc32(photo.tobytes())).standard_normal(photo.shape, np.float32)
            return np.rint(photo + numbers[0] * noise).clip(0, 255).astype(np.uint8)
    return photo


def parse_degradation(how: str) -> tuple[str, list[float]]:
    """Name and numbers of a degradation as `degrade` takes it, "" for none; ValueError for any other."""
    name, *words = how.split() or [""]
    try:
        ranges = [RANGES[number] for number in DEGRADATIONS[name]]
        numbers = [type(low)(word) for word, (low, _) in zip(words, ranges, strict=True)]
        if all(low <= number <= high for number, (low, high) in zip(numbers, ranges, strict=True)):
            return name, numbers
    except (KeyError, ValueError):
        pass  # not such a name or not such numbers
    forms = ", ".join(" ".join([form, *numbers]) for form, numbers in DEGRADATIONS.items() if form)
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
