"""Photos on disk -> catalogue: a DataFrame with a row a photo, read from file names and JPEG headers alone.

Width and height are those of the pixels as stored: EXIF orientation is ignored. A photo that cannot be
used is left out with its reason (`left_out`) and never stops a run.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import BinaryIO

import pandas as pd
import simplejpeg

from camid_utils import published

COLUMNS = ["path", "dataset", "brand", "camera_model", "device", "scene", "width", "height"]
LISTING = "dresden.csv"  # the public listing of Dresden's natural images, or a simulated one in its form
SIMULATED = "SIMULATED.txt"  # marks a folder of simulated photos
KINDS = {
    "photo": {".jpg", ".jpeg"},
    "video": {".mp4", ".mov", ".3gp", ".m4v", ".avi", ".mkv"},
    "HEIC": {".heic", ".heif"},
}
HEADER_BYTES = (1 << 16, 1 << 20, -1)  # thumbnails and maker notes rarely fill 64 kB; -1 reads the whole file
MAX_PIXELS = 300_000_000  # beyond the 200 million of today's largest phone sensors a header is broken
READERS = 16  # threads: they wait for disks, not for processors

DRESDEN_NAME = re.compile(r"([^_]+)_(.+)_([^_]+)_(\d+)\.jpe?g", re.IGNORECASE)
FLOREVIEW_NAME = re.compile(r"(D\d+)_(L\d+S\d+)C\d+\.jpe?g", re.IGNORECASE)
FLOREVIEW_FLAT_NAME = re.compile(r"(D\d+)_.*\.jpe?g", re.IGNORECASE)
FLAT_FOLDER = re.compile(r"flat([-_ ]?fields?)?", re.IGNORECASE)
DRESDEN_LAYOUT = """\
  ROOT/[folders of any depth/]<Brand>_<Model>_<device>_<shot>.JPG    such as Nikon_D70_0_19445.JPG
  ROOT/dresden.csv    the public listing, for the scenes (optional)"""
FLOREVIEW_LAYOUT = """\
  ROOT/D27_DOOGEE_S96Pro/Nat/jpeg-h264/L1/S1/D27_L1S1C1.jpg    as published, or
  ROOT/DOOGEE_S96Pro/D27_L1S1C1.jpg    a folder a phone: <Brand>_<Model>"""
FOLDER_LAYOUT = """\
  ROOT/<class>/[folders/]any_name.jpg    a folder a class, such as Nikon_D70/DSC_0001.JPG"""


def load_dresden(root: str | Path, min_size: int = 48) -> pd.DataFrame:
    """Catalogue of the Dresden photos under `root`, at any depth: the file name decides, never the folder.

    Scenes ("position-motive") come from `dresden.csv` in the root, NA for photos that it does not list.
    Unlisted photos in a folder named flat or flat-field are flat-field frames: skipped and counted.
    Photos with a side under `min_size` pixels are left out.
    """
    root = checked_root(root, "Dresden", DRESDEN_LAYOUT)
    scenes = read_listing(root)["scene"].to_dict() if (root / LISTING).is_file() else {}
    spelling = {name.casefold(): name for name in published.read("dresden_models")["camera_model"]}

    def label(photo: Path) -> dict:
        match = DRESDEN_NAME.fullmatch(photo.name)
        if match is None:
            raise ValueError("its name is not <Brand>_<Model>_<device>_<shot>.JPG")
        brand, model, device, _ = match.groups()
        camera_model = spelling.get(f"{brand}_{model}".casefold(), f"{brand}_{model}")
        scene = scenes.get(photo.name.casefold(), pd.NA)
        return photo_labels(camera_model, f"{camera_model}_{device}", scene, photo.name.casefold())

    def skip(photo: Path) -> str:
        return "flat" if _in_flat_folder(photo) and photo.name.casefold() not in scenes else ""

    return read_catalogue(root, "Dresden", DRESDEN_LAYOUT, label, skip, min_size)


def load_floreview(root: str | Path, flat: bool = False, min_size: int = 48) -> pd.DataFrame:
    """Catalogue of the FloreView stills under `root`, as published or as a folder a phone.

    Device and scene come from the file name (`D27_L1S1C1.jpg`), the class from the folder naming the phone.
    Natural stills, or with `flat` the flat ones instead (they have no scene); videos, HEIC and the stills
    of the other kind are skipped and counted in `attrs["skipped"]`.
    """
    root = checked_root(root, "FloreView", FLOREVIEW_LAYOUT)

    def is_flat(photo: Path) -> bool:
        return _in_flat_folder(photo) or "_flat" in photo.name.casefold()

    def label(photo: Path) -> dict:
        match = (FLOREVIEW_FLAT_NAME if flat else FLOREVIEW_NAME).fullmatch(photo.name)
        if match is None:
            raise ValueError("its name is not like D27_L1S1C1.jpg")
        folder = next((part for part in reversed(photo.parts[:-1]) if "_" in part), None)
        if folder is None:
            raise ValueError("no folder above it names the phone as <Brand>_<Model>")
        camera_model = re.sub(r"^D\d+_", "", folder, flags=re.IGNORECASE)
        scene = pd.NA if flat else match[2].upper()
        return photo_labels(camera_model, match[1].upper(), scene, f"{camera_model}/{photo.name}".casefold())

    def skip(photo: Path) -> str:
        return "" if is_flat(photo) == flat else ("natural" if flat else "flat")

    return read_catalogue(root, "FloreView", FLOREVIEW_LAYOUT, label, skip, min_size)


def load_folder(root: str | Path, min_size: int = 48) -> pd.DataFrame:
    """Catalogue of anyone's photos: a class is a folder in `root`, its brand what precedes the first `_`.

    Devices and scenes are unknown (NA); the data set is named after the folder.
    """
    root = checked_root(root, "own", FOLDER_LAYOUT)

    def label(photo: Path) -> dict:
        if len(photo.parts) == 1:
            raise ValueError("it lies in no class's folder")
        return photo_labels(photo.parts[0], pd.NA, pd.NA, str(photo))

    return read_catalogue(root, root.resolve().name, FOLDER_LAYOUT, label, lambda photo: "", min_size)


def read_listing(root: str | Path) -> pd.DataFrame:
    """The listing `dresden.csv` in `root`: columns filename and scene, the index the file name in lower case.

    Lines that cannot be read are passed over and the first of several rows for a photo counts.
    """
    path = Path(root).expanduser() / LISTING
    options = {"dtype": str, "keep_default_na": False, "on_bad_lines": "skip", "skipinitialspace": True}
    try:
        try:
            table = pd.read_csv(path, encoding="utf-8-sig", **options)
        except UnicodeDecodeError:
            table = pd.read_csv(path, encoding="latin-1", **options)
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is not a table ({error}); put the public listing in its place") from error
    missing = [name for name in ("filename", "position_num", "motive_num") if name not in table]
    if missing:
        found = ", ".join(map(str, table.columns))
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; it has {found}. Take the public listing")
    table = table.apply(lambda column: column.fillna("").str.strip())
    table = table[table["filename"] != ""]
    known = (table["position_num"] != "") & (table["motive_num"] != "")
    table["scene"] = (table["position_num"] + "-" + table["motive_num"]).where(known, pd.NA)
    table.index = table["filename"].str.casefold().rename(None)
    return table.loc[~table.index.duplicated(), ["filename", "scene"]]


def left_out(catalogue: pd.DataFrame) -> pd.DataFrame:
    """The photos that the catalogue leaves out: columns path and reason."""
    return pd.DataFrame(catalogue.attrs.get("left_out", []), columns=["path", "reason"])


def summary(catalogue: pd.DataFrame, by: str = "camera_model") -> pd.DataFrame:
    """Numbers of photos, devices and scenes of each class; unknown devices and scenes count as none."""
    counts = {"photos": ("path", "size"), "devices": ("device", "nunique"), "scenes": ("scene", "nunique")}
    return catalogue.groupby(by, observed=True).agg(**counts)


def describe(catalogue: pd.DataFrame) -> str:
    """Which data, in a few words: dataset, photos, camera models, devices, scenes."""
    counts = {"photo": len(catalogue)} | {c: catalogue[c].nunique() for c in ("camera_model", "device", "scene")}
    words = [f"{n:,} {what.replace('_', ' ')}{'s' * (n != 1)}" for what, n in counts.items() if n]
    return ", ".join([*sorted(catalogue["dataset"].unique()), *words])


def compare_with_published(catalogue: pd.DataFrame) -> pd.DataFrame:
    """The catalogue's numbers of photos and devices beside the published ones, a row a camera model.

    Columns: camera_model, photos, published_photos, devices, published_devices (NA for FloreView) and status:
    "as published", "missing", "extra" or the differences. No row for data without published numbers.
    """
    names = set(catalogue["dataset"]) & set(published.COUNTS)
    ours = summary(catalogue[catalogue["dataset"].isin(names)])[["photos", "devices"]]
    return published.compare(ours, *names) if len(names) == 1 else published.compare(ours[:0], None)


def missing_photos(catalogue: pd.DataFrame, root: str | Path) -> pd.DataFrame:
    """Photo by photo against `dresden.csv` in `root`: columns photo, camera_model and status.

    Status is "missing" (listed, not there), "left out" (there, not usable) or "not listed".
    """
    listed = read_listing(root)["filename"]
    have = {os.path.basename(path).casefold(): path for path in catalogue["path"]}
    unusable = {os.path.basename(path).casefold() for path in left_out(catalogue)["path"]}
    absent = listed[~listed.index.isin(have)]
    rows = [(name, "left out" if key in unusable else "missing") for key, name in absent.items()]
    rows += [(os.path.basename(path), "not listed") for key, path in have.items() if key not in listed.index]
    table = pd.DataFrame(sorted(rows), columns=["photo", "status"])
    table.insert(1, "camera_model", table["photo"].astype(str).str.rsplit("_", n=2).str[0])
    return table


def relative_photos(catalogue: pd.DataFrame) -> pd.Series:
    """Each photo's path relative to the photos' common folder, with forward slashes."""
    paths = [str(path) for path in catalogue["path"]]
    common = os.path.commonpath({os.path.dirname(path) for path in paths}) if paths else ""
    relative = [Path(os.path.relpath(path, common or ".")).as_posix() for path in paths]
    return pd.Series(relative, index=catalogue.index, dtype=object, name="photo")


def fingerprint(catalogue: pd.DataFrame, with_mtime: bool = True) -> str:
    """SHA-256 over the photos' relative names, sizes in bytes and labels, whatever the order of the rows.

    With `with_mtime` the times of last change count too: a key for what was computed from these very files.
    Without it the same photos have the same fingerprint on every machine.
    """
    labels = catalogue[["dataset", "brand", "camera_model", "device", "scene"]].astype(object)
    labels = labels.where(labels.notna(), None).to_numpy().tolist()
    rows = []
    for name, path, row in zip(relative_photos(catalogue), catalogue["path"], labels, strict=True):
        stat = os.stat(path)
        rows.append([name, stat.st_size, stat.st_mtime_ns if with_mtime else 0, *row])
    rows.sort(key=lambda row: row[0])
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def photo_labels(camera_model: str, device, scene, key: str) -> dict:
    """What a photo's name and folder say of it; photos with the same `key` are copies of one another."""
    brand = camera_model.split("_", 1)[0]
    return {"brand": brand, "camera_model": camera_model, "device": device, "scene": scene, "key": key}


def _in_flat_folder(photo: Path) -> bool:
    return any(FLAT_FOLDER.fullmatch(part) for part in photo.parts[:-1])


def checked_root(root: str | Path, name: str, layout: str) -> Path:
    """The root as a Path with `~` expanded; an error showing the layout if it is no folder."""
    root = Path(root).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {root} for the {name} photos. Expected:\n{layout}")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is a file, not the folder of the {name} photos. Expected:\n{layout}")
    return root


def _walk(root: Path) -> tuple[list[Path], list[dict]]:
    """All visible files under `root`, relative and sorted, and the folders that cannot be opened."""
    files, problems, seen = [], [], set()

    def refused(error: OSError) -> None:
        problems.append({"path": str(error.filename), "reason": "this folder cannot be opened"})

    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=refused):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = Path(os.path.relpath(folder, root))
        files += [relative / name for name in names if not name.startswith(".")]
    return sorted(files), problems


def read_catalogue(
    root: Path,
    name: str,
    layout: str,
    label: Callable[[Path], dict],
    skip: Callable[[Path], str],
    min_size: int,
) -> pd.DataFrame:
    """The photos under `root` with the labels that `label` finds or raises a ValueError with the reason.

    `skip` names the kind of a photo that is not asked for, "" for those to read.
    """
    files, unusable = _walk(root)
    files = [file for file in files if file.as_posix() not in (LISTING, SIMULATED)]
    kinds = [skip(file) or own if (own := kind(file)) == "photo" else own for file in files]
    photos = [file for file, own in zip(files, kinds, strict=True) if own == "photo"]
    with ThreadPoolExecutor(READERS) as pool:
        rows = list(pool.map(lambda photo: _read(root, photo, label, min_size), photos))
    unusable += [row for row in rows if "reason" in row]
    table = pd.DataFrame([row for row in rows if "reason" not in row], columns=[*COLUMNS, "key"])
    table = table.sort_values("path", ignore_index=True)
    first = table.groupby("key")["path"].transform("first")
    copies = table["path"] != first
    for path, original in zip(table["path"][copies], first[copies], strict=True):
        unusable.append({"path": path, "reason": f"another copy of {original}"})
    if table.empty:
        raise FileNotFoundError(_nothing_found(root, name, layout, files, unusable))
    table = table.loc[~copies, COLUMNS].reset_index(drop=True)
    table["dataset"] = f"simulated {name}" if (root / SIMULATED).is_file() else name
    table = table.astype({column: "string" for column in COLUMNS[:-2]} | {"width": "int64", "height": "int64"})
    table.attrs["left_out"] = sorted(unusable, key=lambda row: row["path"])
    table.attrs["skipped"] = dict(sorted(Counter(own for own in kinds if own != "photo").items()))
    return table


def kind(path: str | PurePath) -> str:
    """ "photo", "video", "HEIC" or "other", by the end of the name."""
    suffix = PurePath(path).suffix.lower()
    return next((kind for kind, suffixes in KINDS.items() if suffix in suffixes), "other")


def _read(root: Path, photo: Path, label: Callable[[Path], dict], min_size: int) -> dict:
    """A photo's row of the catalogue, or its path and the reason why it cannot be used."""
    path = os.path.join(root, photo)
    try:
        path.encode()  # names that are no valid Unicode cannot be written to a table
        return {"path": path, **label(photo), **_header(path, min_size)}
    except OSError as error:
        reason = f"it cannot be opened: {error.strerror}"
    except UnicodeEncodeError:
        path, reason = os.fsencode(path).decode("utf-8", "replace"), "its name is not valid Unicode"
    except ValueError as error:
        reason = str(error)
    return {"path": path, "reason": reason}


def _header(path: str, min_size: int) -> dict:
    """Width and height in pixels as stored; a ValueError says why the study cannot use the photo."""
    if not os.path.isfile(path):
        raise ValueError("it is not a file, or a link to none")
    with open(path, "rb") as file:
        height, width, colours = _jpeg_header(file)
    if colours in ("CMYK", "YCCK"):
        raise ValueError("its colours are CMYK, not RGB")
    if min(width, height) < min_size:
        raise ValueError(f"{width} x {height} pixels are too few: a side is shorter than {min_size}")
    if width * height > MAX_PIXELS:
        raise ValueError(f"its header claims {width} x {height} pixels, more than any camera's")
    return {"width": width, "height": height}


def _jpeg_header(file: BinaryIO) -> tuple[int, int, str]:
    """Height, width and colour space by the study's one decoder, from as few bytes as it needs."""
    data = b""
    for size in HEADER_BYTES:
        more = file.read(size)
        data += more
        if not data:
            raise ValueError("the file is empty")
        if not data.startswith(b"\xff\xd8"):
            raise ValueError(f"it is not a JPEG: it begins with {data[:8]!r}")
        try:
            return simplejpeg.decode_jpeg_header(data, strict=False)[:3]
        except (ValueError, KeyError):  # KeyError: colours or subsampling not known (yet)
            if len(more) < size:
                break
    raise ValueError("its JPEG header is damaged, cut short or of a form that the decoder does not know")


def _nothing_found(root: Path, name: str, layout: str, files: list[Path], unusable: list[dict]) -> str:
    """The message for a root without a single photo that can be used."""
    kinds = Counter(file.suffix or "no extension" for file in files).most_common(5)
    there = ", ".join(f"{count} {suffix}" for suffix, count in kinds) or "nothing"
    reasons = "".join(f"\n  {row['path']}: {row['reason']}" for row in unusable[:3])
    reasons = f"\nLeft out, the first of {len(unusable)}:{reasons}" if reasons else ""
    return f"no usable photo in the {name} layout under {root} (it holds {there}). Expected:\n{layout}{reasons}"
