"""Catalogue -> patch store: one memory-mapped array of pixels and a table that describes each of its rows."""

import hashlib
import json
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
import simplejpeg

from camid_utils import datasets, degradation
from camid_utils.content import best_positions, cut, starts
from camid_utils.datasets import MAX_PIXELS
from camid_utils.degradation import resized
from camid_utils.files import alone
from camid_utils.progress import progress

KINDS = ("random", "grid", "quality", "resize")
FORMAT = 1  # part of a store's key: raise it when the same settings would give other patches
PATCH_COLUMNS = ["dataset", "brand", "camera_model", "device", "scene", "photo", "y", "x"]


class Store(NamedTuple):
    """Patches on disk: row i of `table` describes `pixels[i]`."""

    pixels: np.ndarray  # memory-mapped uint8 [N, height, width, 3]
    table: pd.DataFrame  # PATCH_COLUMNS; y, x: the patch's top left corner in the photo
    left_out: pd.DataFrame  # photo, reason
    folder: Path


def extract(
    catalogue: pd.DataFrame,
    folder: str | Path,
    *,
    kind: str = "random",
    size: int | tuple[int, int] = 48,
    per_photo: int | None = 25,
    seed: int = 0,
    degrade: str = "",
    workers: int = -1,
) -> Store:
    """Cut patches from every photo of a catalogue into a store under `folder`, or open the one made before.

    kind "random": `per_photo` positions, uniform over the photo and never twice the same;
    "grid": `per_photo` evenly spaced patches that do not overlap (None or 0: as many as fit);
    "quality": the `per_photo` best of that whole grid, see `content.quality`;
    "resize": the whole photo squashed to `size`, aspect ratio not kept; here `size` may be (height, width).
    Photos with room for fewer than `per_photo` patches give what they have. `degrade` changes each photo before
    patches are cut, e.g. "jpeg 70", see `degradation.degrade`; positions are then in the degraded photo.

    A store is opened again while photos, labels and settings stay the same; otherwise another is made beside
    it. It carries its final name only when complete; what a killed run leaves is hidden, never read, and removed
    by the next. Of two processes that want the same store, one makes it and the other waits. `workers` counts
    threads (-1: all cores) and changes nothing but the time.
    Raises ValueError for settings that make no sense and if no photo gave a patch.
    """
    height, width = _checked_size(kind, size)
    settings = _checked_settings(kind, per_photo, seed, degrade) | {"size": [height, width], "format": FORMAT}
    if catalogue.empty:
        raise ValueError("the catalogue has no photos: nothing to cut patches from")
    label = f"{height}" if height == width else f"{height}x{width}"
    target = Path(folder) / f"{kind}-{label}-{_key(catalogue, settings)}"
    if not target.is_dir():
        with alone(target) as aside:
            if not target.is_dir():  # another process may have made it while this one waited
                _build(catalogue, aside / "store", settings, joblib.effective_n_jobs(workers))
                (aside / "store").rename(target)
    return open_store(target)


def open_store(folder: str | Path) -> Store:
    """Open a store that `extract` made; its pixels stay on disk until they are read."""
    folder = Path(folder)
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    table, left_out = (pd.read_parquet(folder / name) for name in ("table.parquet", "left_out.parquet"))
    return Store(pixels, table, left_out, folder)


def read_photo(path: str | Path, at_least: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a JPEG to uint8 [height, width, 3] RGB, pixels as stored: EXIF orientation is never applied.

    Every pixel of the study comes through here. Grey photos get three equal channels. For a smaller copy,
    `at_least` (height, width) lets the decoder scale down in eighths while it decodes, but not below that.
    Raises ValueError, with the path and the reason, for a file that is unreadable, truncated, no JPEG, CMYK
    or larger than MAX_PIXELS.
    """
    try:
        data = Path(path).read_bytes()
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > MAX_PIXELS:
            limit = f"the limit is {MAX_PIXELS // 10**6} megapixels"
            raise ValueError(f"its header claims {width} x {height} pixels; {limit}")
        if colours in ("CMYK", "YCCK"):
            raise ValueError("a CMYK JPEG, which no camera writes")
        min_height, min_width = at_least or (0, 0)
        return simplejpeg.decode_jpeg(data, "RGB", min_height=min_height, min_width=min_width, strict=True)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {_plain_reason(str(error))}") from error


def _plain_reason(message: str) -> str:
    """The decoder's message, in words that say what is wrong with the file."""
    if message.startswith("tjDecompressHeader"):
        return "not a JPEG"
    if "Premature end" in message:
        return "truncated JPEG (premature end of file)"
    return message


def random_positions(height: int, width: int, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Top left corners [n, 2] (y, x) of `count` different patches, uniform over a photo (all, if fewer)."""
    rows, columns = height - size + 1, width - size + 1
    chosen = rng.choice(rows * columns, size=min(count, rows * columns), replace=False)
    return np.stack(np.divmod(chosen, columns), axis=1)


def grid_positions(height: int, width: int, size: int, count: int | None = None) -> np.ndarray:
    """Corners [n, 2] (y, x) of `count` evenly spaced patches that do not overlap (None: all that fit)."""
    most_rows, most_columns = height // size, width // size
    count = min(count or most_rows * most_columns, most_rows * most_columns)
    rows = round((count * height / width) ** 0.5)  # so that patches lie about as far apart down as across
    rows = min(max(rows, -(-count // most_columns), 1), most_rows)
    ends = np.arange(rows + 1) * count // rows  # shares the patches among the rows
    corners = [
        np.stack(np.broadcast_arrays(y, starts(width, size, n)), axis=1)
        for y, n in zip(starts(height, size, rows), np.diff(ends), strict=True)
    ]
    return np.concatenate(corners)


def _checked_size(kind: str, size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a patch, or a ValueError that says what `size` may be."""
    height, width = (size, size) if np.ndim(size) == 0 else size
    if min(height, width) < 1 or (height != width and kind != "resize"):
        raise ValueError(f"size={size!r}: patches are square, a whole number of pixels; only resize takes (h, w)")
    return int(height), int(width)


def _checked_settings(kind: str, per_photo: int | None, seed: int, degrade: str) -> dict:
    """The settings that shape a store of this kind, so that nothing else makes a new one."""
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: choose one of {', '.join(KINDS)}")
    degradation.parsed(degrade)
    extra = {"degrade": degrade} if degrade else {}  # intact photos keep the key that they always had
    if kind == "resize":
        return {"kind": kind, "per_photo": 1, "seed": None} | extra
    per_photo = per_photo or None
    if (per_photo is None and kind != "grid") or (per_photo or 1) < 1:
        raise ValueError(f"per_photo={per_photo!r}: {kind} needs 1 or more (only grid can take all that fit)")
    return {"kind": kind, "per_photo": per_photo, "seed": seed if kind == "random" else None} | extra


def _key(catalogue: pd.DataFrame, settings: dict) -> str:
    """Short hash of the photos as they lie on disk, their labels, and the settings."""
    text = json.dumps([datasets.fingerprint(catalogue, with_mtime=True), settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _build(catalogue: pd.DataFrame, folder: Path, settings: dict, workers: int) -> None:
    """Write the three files of a store, in the order of the photos' names, few photos in memory at a time."""
    folder.mkdir()
    photos = catalogue.assign(photo=datasets.relative_photos(catalogue)).sort_values("photo", ignore_index=True)
    results = _in_order(partial(_photo_patches, settings=settings), photos["path"], workers)
    height, width = settings["size"]
    hidden = len(photos) < 20
    bar = progress(results, f"patches {height} px", total=len(photos), unit="photo", disable=hidden)
    positions, reasons = _write_pixels(folder / "pixels.npy", bar, (height, width, 3))
    if not positions:
        first = [f"  {photos['photo'][i]}: {reason}" for i, reason in list(reasons.items())[:5]]
        raise ValueError("\n".join([f"none of the {len(photos)} photos gave a patch; the first reasons:", *first]))
    rows = np.repeat(list(positions), [len(corners) for corners in positions.values()])
    y, x = np.concatenate(list(positions.values())).T
    table = photos.iloc[rows].reset_index(drop=True).assign(y=y, x=x)[PATCH_COLUMNS]
    left_out = photos[["photo"]].iloc[list(reasons)].assign(reason=pd.Series(reasons, dtype=str))
    for name, frame in (("table", table), ("left_out", left_out.reset_index(drop=True))):
        frame.attrs = {}
        frame.to_parquet(folder / f"{name}.parquet", index=False)


def _write_pixels(
    path: Path, results: Iterable[tuple[np.ndarray, np.ndarray] | str], shape: tuple[int, int, int]
) -> tuple[dict[int, np.ndarray], dict[int, str]]:
    """Append each photo's patches to one .npy file; returns positions and reasons by the photo's number.

    The header is written again at the end, in place, when the number of patches is known: numpy pads it so
    that the first axis can grow. Photos that failed therefore leave no hole.
    """
    positions, reasons, total = {}, {}, 0
    with open(path, "wb") as file:
        _write_header(file, (0, *shape))
        for number, result in enumerate(results):
            if isinstance(result, str):
                reasons[number] = result
                continue
            pixels, positions[number] = result
            file.write(np.ascontiguousarray(pixels).data)
            total += len(pixels)
        file.seek(0)
        _write_header(file, (total, *shape))
    return positions, reasons


def _write_header(file, shape: tuple[int, ...]) -> None:
    """Header of a .npy file of bytes."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _photo_patches(path: str, settings: dict) -> tuple[np.ndarray, np.ndarray] | str:
    """Patches uint8 [n, h, w, 3] and corners int [n, 2] of one photo, or the reason why there are none."""
    height, width = settings["size"]
    resize, how = settings["kind"] == "resize", settings.get("degrade", "")
    try:
        photo = read_photo(path, (height * 3 // 2, width * 3 // 2) if resize and not how else None)
    except ValueError as error:
        return str(error).removeprefix(f"{path}: ")
    photo = degradation.degrade(photo, how)
    if photo.shape[0] < height or photo.shape[1] < width:
        return f"smaller ({photo.shape[1]} x {photo.shape[0]} pixels) than a patch ({width} x {height})"
    if resize:
        return resized(photo, height, width)[None], np.zeros((1, 2), int)
    corners = _positions(photo, Path(path).name, settings)
    return cut(photo, corners, height), corners


def _positions(photo: np.ndarray, name: str, settings: dict) -> np.ndarray:
    """Corners [n, 2] of one photo's patches; random ones depend on the seed and the file's name alone."""
    height, width = photo.shape[:2]
    size, count = settings["size"][0], settings["per_photo"]
    if settings["kind"] == "grid":
        return grid_positions(height, width, size, count)
    if settings["kind"] == "quality":
        return best_positions(photo, size, count)
    rng = np.random.default_rng([settings["seed"], zlib.crc32(name.encode())])
    return random_positions(height, width, size, count, rng)


def _in_order(function: Callable, items: Iterable, workers: int) -> Iterator:
    """`function` of each item, in order, by threads that run only a few items ahead of the reader.

    Threads, because simplejpeg, numpy and Pillow all let go of Python's lock while they work.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
