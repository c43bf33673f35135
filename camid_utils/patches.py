"""Catalogue -> patch store: a memory-mapped array of pixels and a table with one row per patch."""

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
from scipy.special import entr

from . import catalogues, photos
from .files import exclusive_folder
from .photos import read_photo
from .project import progress

KINDS = ("random", "grid", "resize")
FORMAT = 5  # part of a store's key: raise it when the same settings would give other patches or files
PATCH_COLUMNS = [*catalogues.LABELS, "photo", "y", "x"]
GREY = np.array([299, 587, 114], np.int32)  # luma of ITU-R BT.601, in thousandths of red, green and blue


class Store(NamedTuple):
    """Patches on disk: row i of `table` describes `pixels[i]`."""

    pixels: np.ndarray  # memory-mapped uint8 [N, size, size, 3]
    table: pd.DataFrame  # PATCH_COLUMNS; y, x: the patch's top left corner in the photo; attrs: left_out
    folder: Path  # its name ends in a digest of photos, labels and settings
    kind: str  # one of KINDS


def extract(
    catalogue: pd.DataFrame, folder: str | Path, *, kind: str = "random", size: int = 48, per_photo: int | None = 25,
    seed: int = 0, degrade: str = "", workers: int = -1,
) -> Store:  # fmt: skip
    """Cut patches from every photo of a catalogue into a store under `folder`, or open an existing one.

    kind "random": `per_photo` different positions, uniform over the photo; "grid": evenly spaced patches that do not
    overlap (None or 0: all that fit); "resize": the whole photo as a square, aspect ratio not kept. Small photos give
    as many as fit. degrade: see `photos.degrade`; workers: threads, -1 for all cores. A store is reused while photos,
    labels and settings stay the same. ValueError for settings that make no sense and if no photo gave a patch.
    """
    per_photo = 1 if kind == "resize" else per_photo or None
    if kind not in KINDS or size < 1 or (per_photo or 0) < (kind != "grid"):
        wanted = f"kind is one of {', '.join(KINDS)}; size and per_photo are 1 or more (per_photo of grid: or 0)"
        raise ValueError(f"kind={kind!r}, size={size!r}, per_photo={per_photo!r}: {wanted}")
    photos.parse_degradation(degrade)
    seed = seed if kind == "random" else None  # no other kind depends on it
    settings = dict(kind=kind, size=int(size), per_photo=per_photo, seed=seed, degrade=degrade, format=FORMAT)
    key = json.dumps([catalogues.fingerprint(catalogue), settings], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    target = Path(folder) / f"{kind}-{size}-{digest}"
    if not target.is_dir():
        with exclusive_folder(target) as new:
            if not target.is_dir():  # another process may have made it while this one waited
                _build(catalogue, new, settings, joblib.effective_n_jobs(workers))
    return open_store(target)


def open_store(folder: str | Path) -> Store:
    """Open a store that `extract` made; its pixels stay on disk until they are read."""
    folder = Path(folder)
    settings = json.loads((folder / "settings.json").read_text())
    table, left_out = (pd.read_parquet(folder / name) for name in ("table.parquet", "left_out.parquet"))
    table.attrs["left_out"] = left_out.to_dict("records")  # goes where the table goes
    shape = (len(table), settings["size"], settings["size"], 3)
    pixels = np.memmap(folder / "pixels.bin", np.uint8, "r", shape=shape)
    return Store(pixels, table, folder, settings["kind"])


def random_positions(height: int, width: int, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Top left corners [n, 2] (y, x) of `count` different patches, uniform over a photo (all, if fewer)."""
    rows, columns = height - size + 1, width - size + 1
    chosen = rng.choice(rows * columns, size=min(count, rows * columns), replace=False)
    return np.stack(np.divmod(chosen, columns), axis=1)


def grid_positions(height: int, width: int, size: int, count: int | None = None) -> np.ndarray:
    """Corners [n, 2] (y, x) of `count` evenly spaced patches that do not overlap (None: all that fit)."""
    most_rows, most_columns = height // size, width // size
    count = min(count or most_rows * most_columns, most_rows * most_columns)
    rows = round((count * height / width) ** 0.5)  # patches lie about as far apart vertically as horizontally
    rows = min(max(rows, -(-count // most_columns), 1), most_rows)
    ends = np.arange(rows + 1) * count // rows  # distributes the patches over the rows
    rows = zip(even_starts(height, size, rows), np.diff(ends), strict=True)
    corners = [np.stack(np.broadcast_arrays(y, even_starts(width, size, count)), axis=1) for y, count in rows]
    return np.concatenate(corners)


def best_positions(photo: np.ndarray, size: int, count: int) -> np.ndarray:
    """Corners [n, 2] (y, x) of the `count` patches of a photo's full grid of highest quality, best first."""
    corners = grid_positions(*photo.shape[:2], size)
    rows = np.array_split(corners, len(photo) // size)  # one at a time: all at once take much memory
    scores = np.concatenate([patch_quality(cut_patches(photo, row, size)) for row in rows])
    return corners[np.argsort(-scores, kind="stable")[:count]]


def scores(pixels: np.ndarray, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A score, such as `patch_quality`, of each patch of a store; few at a time, as all at once need much memory."""
    return np.concatenate([score(pixels[i : i + 512]) for i in range(0, len(pixels), 512)])


def patch_quality(patches: np.ndarray) -> np.ndarray:
    """How much patches uint8 [n, h, w, 3] can reveal about their camera: float64 [n], 0 to 1 (Bondi et al. 2017)."""
    values = patches.reshape(len(patches), -1, 3).astype(np.uint32)
    mean, square = (powers.sum(axis=1) / values.shape[1] for powers in (values, values * values))
    deviation, mean = np.sqrt(np.maximum(square - mean**2, 0)) / 255, mean / 255
    alpha, beta, gamma = 0.7, 4.0, np.log(0.01)  # their constants
    brightness, texture = beta * (mean - mean**2), 1 - np.exp(gamma * deviation)  # medium brightness is best
    return (alpha * brightness + (1 - alpha) * texture).mean(axis=1)


def patch_entropy(patches: np.ndarray) -> np.ndarray:
    """Shannon entropy of the rounded luma of patches uint8 [n, h, w, 3], in bits: float64 [n] (Dey et al. 2024)."""
    counts = [np.bincount(((patch @ GREY + 500) // 1000).ravel(), minlength=256) for patch in patches]
    shares = np.reshape(counts, (-1, 256)) / np.prod(patches.shape[1:3])
    return entr(shares).sum(axis=1) / np.log(2)


def even_starts(length: int, size: int, count: int) -> np.ndarray:
    """Starts of `count` stretches of `size`, each in the middle of its equal share of `length`."""
    return ((2 * np.arange(count) + 1) * length - count * size) // (2 * count)


def cut_patches(photo: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """Square patches uint8 [n, size, size, 3] of a photo."""
    return np.stack([photo[y : y + size, x : x + size] for y, x in corners])


def _build(catalogue: pd.DataFrame, folder: Path, settings: dict, workers: int) -> None:
    """Write the files of a store, in the order of the photos' names, few photos in memory at a time."""
    folder.mkdir()
    listed = catalogue.sort_values("photo", ignore_index=True)
    results = _in_order(partial(_photo_patches, settings=settings), listed["path"], workers)
    bar = progress(results, f"patches {settings['size']} px", total=len(listed), unit="photo", disable=len(listed) < 20)
    positions, reasons = {}, {}
    with open(folder / "pixels.bin", "wb") as file:
        for number, result in enumerate(bar):
            if isinstance(result, str):
                reasons[number] = result
            else:
                pixels, positions[number] = result
                file.write(np.ascontiguousarray(pixels).data)
    if not positions:
        first = [f"\n  {listed['photo'][i]}: {reason}" for i, reason in list(reasons.items())[:5]]
        raise ValueError(f"none of the {len(listed)} photos gave a patch; the first reasons:{''.join(first)}")
    rows = np.repeat(list(positions), [len(corners) for corners in positions.values()])
    y, x = np.concatenate(list(positions.values())).T
    table = listed.iloc[rows].assign(y=y, x=x)[PATCH_COLUMNS]
    left_out = listed[["photo", "camera_model"]].iloc[list(reasons)].assign(reason=pd.Series(reasons, dtype=str))
    for name, frame in (("table", table), ("left_out", left_out)):
        frame.attrs = {}
        frame.reset_index(drop=True).to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "settings.json").write_text(json.dumps(settings))


def _in_order(function: Callable, items: Iterable, workers: int) -> Iterator:
    """`function` of each item, in order, by threads that run only a few items ahead of the reader."""
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        yield from (task.result() for task in waiting)


def _photo_patches(path: str, settings: dict) -> tuple[np.ndarray, np.ndarray] | str:
    """Patches uint8 [n, size, size, 3] and corners int [n, 2] of one photo, or the reason why there are none."""
    kind, size, count = settings["kind"], settings["size"], settings["per_photo"]
    smaller = kind == "resize" and not settings["degrade"]
    try:
        photo = read_photo(path, (size * 3 // 2,) * 2 if smaller else (0, 0))
    except ValueError as error:
        return str(error).removeprefix(f"{path}: ")
    photo = photos.degrade(photo, settings["degrade"])
    height, width = photo.shape[:2]
    if min(height, width) < size:
        return f"smaller ({width} x {height} pixels) than a patch ({size} x {size})"
    match kind:
        case "resize":
            return photos.resize(photo, size, size)[None], np.zeros((1, 2), int)
        case "grid":
            corners = grid_positions(height, width, size, count)
        case "random":  # positions depend on nothing but the seed and the file's name
            rng = np.random.default_rng([settings["seed"], zlib.crc32(Path(path).name.encode())])
            corners = random_positions(height, width, size, count, rng)
    return cut_patches(photo, corners, size), corners
