"""Folder of photos -> catalogue: one row per photo, from file names and JPEG headers alone."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import pandas as pd

from .files import expanded
from .photos import jpeg_header

COLUMNS = ["path", "photo", "dataset", "brand", "camera_model", "device", "scene", "collection", "width", "height"]
LABELS = COLUMNS[2:8]
LISTING = "dresden.csv"  # the public listing of Dresden's natural images, or a simulated one in its form
SIMULATED = "SIMULATED.txt"  # marks a folder of simulated photos
EXTENSIONS = {
    "photo": ".jpg .jpeg .jpe .jif .jfif", "video": ".mp4 .mov .3gp .m4v .avi .mkv", "HEIC": ".heic .heif .hif",
    "raw": ".dng .crw .cr2 .cr3 .nef .nrw .arw .srf .sr2 .raf .rw2 .orf .pef .srw .dcr .kdc .mrw .x3f .3fr .raw",
    "AVIF": ".avif", "PNG": ".png", "TIFF": ".tif .tiff", "WebP": ".webp",
}  # fmt: skip
KINDS = {extension: kind for kind, extensions in EXTENSIONS.items() for extension in extensions.split()}
LITTER = re.compile(  # hidden files, thumbnails, recycle bins: what systems leave in folders
    r"\.|(@eadir|[@#]recycle|#snapshot|\$recycle\.bin|recycler|system volume information|lost\+found|__macosx"
    r"|(eh)?thumbs\.db|desktop\.ini)$", re.IGNORECASE,
)  # fmt: skip
MIN_SIDE = 48  # pixels: photos with a shorter side are left out
READERS = 16  # threads: they wait for disks, not for processors


def left_out(table: pd.DataFrame) -> pd.DataFrame:
    """The photos that a table of photos or patches leaves out, by file name: columns photo and reason."""
    rows = [(Path(row["photo"]).name, row["reason"]) for row in table.attrs.get("left_out", [])]
    return pd.DataFrame(rows, columns=["photo", "reason"])


def summary(catalogue: pd.DataFrame) -> pd.DataFrame:
    """Numbers of photos, devices and scenes of each camera model; unknown devices and scenes are not counted."""
    counts = {"photos": ("path", "size"), "devices": ("device", "nunique"), "scenes": ("scene", "nunique")}
    return catalogue.groupby("camera_model", observed=True).agg(**counts)


def describe(catalogue: pd.DataFrame) -> str:
    """The data of a catalogue or a patch store's table in a few words, and how many photos are left out, if any."""
    photos, left = catalogue.get("photo", catalogue.index), catalogue.attrs.get("left_out", [])
    counts = {"photo": photos.nunique()} | {c: catalogue[c].nunique() for c in ("camera_model", "device", "scene")}
    words = [f"{n:,} {what.replace('_', ' ')}{'s' * (n != 1)}" for what, n in counts.items() if n]
    if left:
        words.append(f"{len(left):,} photo{'s' * (len(left) != 1)} left out")
    if gone := sorted({row.get("camera_model") for row in left} - {None, *catalogue["camera_model"]}):
        words[-1] += f" (none is left of {', '.join(gone)})"
    return ", ".join([*sorted(catalogue["dataset"].unique()), *words])


def folder_name(dataset: str) -> str:
    """The name of a data set's folders: "simulated Dresden, own scenes" has simulated-dresden-own-scenes."""
    return re.sub(r"\W+", "-", dataset.lower()).strip("-")


def fingerprint(catalogue: pd.DataFrame, with_mtime: bool = True) -> str:
    """SHA-256 over the photos' names, bytes, labels and (`with_mtime`) times of change; the order does not matter."""
    labels = catalogue.reindex(columns=LABELS).astype(object)
    labels = labels.where(labels.notna(), None).to_numpy().tolist()
    stats = [os.stat(path) if os.path.isfile(path) else None for path in catalogue["path"]]  # None: it has vanished
    rows = zip(catalogue["photo"], stats, labels, strict=True)
    rows = [[name, s and s.st_size, s.st_mtime_ns if s and with_mtime else 0, *row] for name, s, row in rows]
    rows.sort(key=lambda row: row[0])
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def kind(path: str | PurePath) -> str:
    """ "photo" (a JPEG), "video", "HEIC", "raw" and so on, or "other", by the file name's extension."""
    return KINDS.get(PurePath(path).suffix.lower(), "other")


def read_catalogue(root: str | Path, name: str, layout: str, label: Callable[[Path], tuple | str]) -> pd.DataFrame:
    """Catalogue of the photos under `root`, at any depth, sorted by path.

    `label` gives a photo's camera model, device, scene, a key that its copies share and, if a data set has several, its
    collection, from its path relative to `root`; or the kind, a string, of a photo to skip; or a ValueError with the
    reason why it is left out.
    """
    root = expanded(root)
    if not root.is_dir():
        error = NotADirectoryError if root.exists() else FileNotFoundError
        raise error(f"there is no folder {shown(root)} for the {name} photos. Expected:\n{layout}")
    files, unusable = list_files(root)
    marked = [file.parent for file in files if file.name == SIMULATED]
    files = [file for file in files if file.name != SIMULATED and file != Path(LISTING)]
    with ThreadPoolExecutor(READERS) as pool:
        rows = list(pool.map(lambda file: _read(root, file, label), files))
    unusable += [row for row in rows if "reason" in row]
    found = [row for row in rows if "key" in row]
    if not found:
        kinds = Counter(shown(file.suffix) or "no extension" for file in files).most_common(5)
        there = ", ".join(f"{count} {suffix}" for suffix, count in kinds) or "nothing"
        reasons = "".join(f"\n  {row['photo']}: {row['reason']}" for row in unusable[:3])
        reasons = f"\nLeft out, the first of {len(unusable)}:{reasons}" if reasons else ""
        there = f"no usable photo in the {name} layout under {shown(root)} (it holds {there})"
        raise FileNotFoundError(f"{there}. Expected:\n{layout}{reasons}")
    table = pd.DataFrame(found).sort_values("path", ignore_index=True)
    first = table.groupby("key")["photo"].transform("first")
    copy = table["photo"] != first
    unusable += table.assign(reason="another copy of " + first).loc[copy, ["photo", "reason"]].to_dict("records")
    table = table.loc[~copy, COLUMNS].reset_index(drop=True)
    above = any((folder / SIMULATED).is_file() for folder in root.resolve().parents)
    simulated = [above or any(Path(photo).is_relative_to(folder) for folder in marked) for photo in table["photo"]]
    if any(simulated) and not all(simulated):
        raise ValueError(
            f"{shown(root)} has real photos and, in {shown(marked[0])}, simulated ones: name either folder"
        )
    table["dataset"] = f"simulated {name}" if any(simulated) else name
    table["collection"] = table["collection"].fillna(table["dataset"])
    table = table.astype({column: "string" for column in table} | {"width": "int64", "height": "int64"})
    table.attrs["left_out"] = sorted(unusable, key=lambda row: row["photo"])
    table.attrs["skipped"] = dict(sorted(Counter(row["skip"] for row in rows if "skip" in row).items()))
    return table


def list_files(root: str | Path) -> tuple[list[Path], list[dict]]:
    """All files under `root` but LITTER, relative and sorted, and the folders that cannot be opened: photo, reason."""
    files, errors, seen = [], [], set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=errors.append):
        real = os.path.realpath(folder)
        if real in seen:  # links can form a loop
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not LITTER.match(name))
        relative = Path(os.path.relpath(folder, root))
        files += [relative / name for name in names if not LITTER.match(name)]
    closed = [{"photo": shown(os.path.relpath(error.filename, root)), "reason": "this folder cannot be opened"}
              for error in errors]  # fmt: skip
    return sorted(files), closed


def shown(path: str | Path) -> str:
    """A path that can be printed and written to tables, also where its name is not valid Unicode."""
    return os.fsencode(path).decode("utf-8", "replace")


def _read(root: Path, photo: Path, label: Callable[[Path], tuple | str]) -> dict:
    """A photo's row of the catalogue, or its name and the reason if it is not usable, or a file's kind if skipped."""
    if kind(photo) != "photo":
        return {"skip": kind(photo)}
    path, known = os.path.join(root, photo), {}
    try:
        path.encode()  # names that are not valid Unicode cannot be written to a table
        labels = label(photo)
        if isinstance(labels, str):
            return {"skip": labels}
        camera_model, device, scene, key, collection = (*labels, pd.NA)[:5]
        known = {"camera_model": camera_model}
        if not os.path.isfile(path):
            raise ValueError("it is not a file, or is a broken link")
        with open(path, "rb") as file:
            height, width = jpeg_header(file)
        if min(width, height) < MIN_SIDE:
            raise ValueError(f"{width} x {height} pixels are too few: a side is shorter than {MIN_SIDE}")
        labels = [pd.NA, camera_model.split("_")[0], camera_model, device, scene, collection]
        return dict(zip(COLUMNS, [path, photo.as_posix(), *labels, width, height], strict=True), key=key)
    except OSError as error:
        reason = f"it cannot be opened: {error.strerror}"
    except UnicodeEncodeError:
        reason = "its name is not valid Unicode"
    except ValueError as error:
        reason = str(error)
    return {"photo": shown(photo), **known, "reason": reason}
