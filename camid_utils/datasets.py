"""Loaders: where each data set keeps brand, camera model, device and scene of a photo in its file and folder names.

Each loader returns a catalogue (see `catalogues`). Below them: what is missing, compared with the published numbers.
"""

import os
import re
from pathlib import Path

import pandas as pd

from . import published
from .catalogues import LISTING, left_out, read_catalogue, summary
from .project import resolve

DRESDEN_NAME = re.compile(r"([^_]+)_(.+)_([^_]+)_(\d+)\.jpe?g", re.IGNORECASE)  # brand, model, device, shot
FLOREVIEW_NAME = re.compile(r"(D\d+)_(L\d+S\d+)C\d+\.jpe?g", re.IGNORECASE)
FLOREVIEW_FLAT_NAME = re.compile(r"(D\d+)_.*\.jpe?g", re.IGNORECASE)
FLAT_FOLDER = re.compile(r"flat([-_ ]?fields?)?", re.IGNORECASE)
PHONE_FOLDER = re.compile(r"(D\d+)_([^_]+_.+?)(?:_\d)?", re.IGNORECASE)  # the last digit counts devices of a model
FORCHHEIM_VERSIONS = ("orig", "facebook", "instagram", "telegram", "twitter", "whatsapp")
VISION_VERSIONS = ("nat", "natFBH", "natFBL", "natWA")
DRESDEN_LAYOUT = """\
  ROOT/[folders of any depth/]<Brand>_<Model>_<device>_<shot>.JPG    such as Nikon_D70_0_19445.JPG
  ROOT/dresden.csv    the public listing, for the scenes (optional)"""
FLOREVIEW_LAYOUT = """\
  ROOT/D27_DOOGEE_S96Pro/Nat/jpeg-h264/L1/S1/D27_L1S1C1.jpg    as published, or
  ROOT/DOOGEE_S96Pro/D27_L1S1C1.jpg    one folder per phone: <Brand>_<Model>"""
FOLDER_LAYOUT = "  ROOT/<class>/[folders/]any_name.jpg    one folder per class, such as Nikon_D70/DSC_0001.JPG"
FORCHHEIM_LAYOUT = """\
  ROOT/D01_Motorola_E3_1/orig/D01_img_orig_0001.jpg    device, model, version and scene, where orig may also be
  facebook, instagram, telegram, twitter, whatsapp"""
VISION_LAYOUT = """\
  ROOT/D01_Samsung_GalaxyS3Mini/images/nat/D01_I_nat_0001.jpg    device, model and version, where nat may also be
  natFBH, natFBL (Facebook, high and low quality), natWA (WhatsApp)"""


def load_dresden(root: str | Path, min_size: int = 48) -> pd.DataFrame:
    """Catalogue of the Dresden photos under `root`, at any depth: the file name decides, never the folder.

    Scenes ("position-motive") come from `dresden.csv` in the root, NA for photos that it does not list.
    Unlisted photos in a folder named flat or flat-field are flat-field frames: skipped and counted.
    Photos with a side under `min_size` pixels are left out.
    """
    scenes = read_listing(root)["scene"].to_dict() if (Path(root).expanduser() / LISTING).is_file() else {}

    def label(photo: Path) -> tuple | str:
        key = photo.name.casefold()
        if _in_flat_folder(photo) and key not in scenes:
            return "flat"
        brand, model, device, _ = _match(DRESDEN_NAME, photo, "<Brand>_<Model>_<device>_<shot>.JPG")
        camera_model = published.dresden_spelling(f"{brand}_{model}")
        return camera_model, f"{camera_model}_{device}", scenes.get(key, pd.NA), key

    return read_catalogue(root, "Dresden", DRESDEN_LAYOUT, label, min_size)


def load_floreview(root: str | Path, flat: bool = False, min_size: int = 48) -> pd.DataFrame:
    """Catalogue of the FloreView photos under `root`, as published or with one folder per phone.

    Device and scene come from the file name (`D27_L1S1C1.jpg`), the class from the folder that names the phone.
    Natural photos, or with `flat` the flat-field ones instead (they have no scene); videos, HEIC and the photos
    of the other kind are skipped and counted in `attrs["skipped"]`.
    """
    pattern = FLOREVIEW_FLAT_NAME if flat else FLOREVIEW_NAME

    def label(photo: Path) -> tuple | str:
        is_flat = _in_flat_folder(photo) or "_flat" in photo.name.casefold()
        if is_flat != flat:
            return "flat" if is_flat else "natural"
        device, *scene = _match(pattern, photo, "like D27_L1S1C1.jpg")
        folder = next((part for part in reversed(photo.parts[:-1]) if "_" in part), None)
        if folder is None:
            raise ValueError("no folder above it names the phone as <Brand>_<Model>")
        camera_model = re.sub(r"^D\d+_", "", folder, flags=re.IGNORECASE)
        key = f"{camera_model}/{photo.name}".casefold()
        return camera_model, device.upper(), scene[0].upper() if scene else pd.NA, key

    return read_catalogue(root, "FloreView", FLOREVIEW_LAYOUT, label, min_size)


def load_folder(root: str | Path, min_size: int = 48) -> pd.DataFrame:
    """Catalogue of your own photos: each folder in `root` is a class, its brand is what precedes the first `_`.

    Devices and scenes are unknown (NA); the data set is named after the folder.
    """

    def label(photo: Path) -> tuple:
        if len(photo.parts) == 1:
            raise ValueError("it lies in no class's folder")
        return photo.parts[0], pd.NA, pd.NA, str(photo)

    return read_catalogue(root, Path(root).expanduser().resolve().name, FOLDER_LAYOUT, label, min_size)


def load_forchheim(root: str | Path, version: str = "orig", min_size: int = 48) -> pd.DataFrame:
    """Catalogue of one version of the Forchheim photos under `root`, at any depth: the file name says which version.

    Device and scene come from the file name, the class from the folder that names the phone, without the number that
    counts phones of a model. The other versions are skipped and counted in `attrs["skipped"]`.
    """
    return _load_version(root, "Forchheim", "img", FORCHHEIM_LAYOUT, FORCHHEIM_VERSIONS, version, min_size)


def load_vision(root: str | Path, version: str = "nat", min_size: int = 48) -> pd.DataFrame:
    """Catalogue of one version of the natural VISION photos under `root`, as `load_forchheim`.

    Scenes are unknown (NA). Flat-field frames, videos and the other versions are skipped and counted.
    """
    return _load_version(root, "VISION", "I", VISION_LAYOUT, VISION_VERSIONS, version, min_size)


def _load_version(
    root: str | Path, name: str, infix: str, layout: str, versions: tuple[str, ...], version: str, min_size: int
) -> pd.DataFrame:
    """Catalogue of one version of a corpus; its file names give device, version and number, with `infix` between."""
    if version not in versions:
        raise ValueError(f"{name} has no version {version!r}: choose one of {', '.join(versions)}")
    pattern = re.compile(rf"(D\d+)_{infix}_([A-Za-z]+)_(\d+)\.jpe?g", re.IGNORECASE)
    usual = {one.casefold(): one for one in versions}

    def label(photo: Path) -> tuple | str:
        device, found, number = _match(pattern, photo, f"like D01_{infix}_{version}_0001.jpg")
        found = usual.get(found.casefold(), found.casefold())
        if found != version:
            return "flat" if found.startswith("flat") else found
        folder = next(filter(None, map(PHONE_FOLDER.fullmatch, reversed(photo.parts[:-1]))), None)
        if folder is None:
            raise ValueError("no folder above it names the phone as D01_<Brand>_<Model>")
        if folder[1].casefold() != device.casefold():
            raise ValueError(f"its name says {device}, the folder above it {folder[1]}")
        scene = number if name == "Forchheim" else pd.NA
        return folder[2], f"{name}_{device.upper()}", scene, f"{folder[2]}/{photo.name}".casefold()

    return read_catalogue(root, name, layout, label, min_size)


def _match(pattern: re.Pattern, photo: Path, form: str) -> tuple[str, ...]:
    """What a pattern finds in a photo's file name; ValueError if the name does not have that form."""
    match = pattern.fullmatch(photo.name)
    if match is None:
        raise ValueError(f"its name is not {form}")
    return match.groups()


def _in_flat_folder(photo: Path) -> bool:
    return any(FLAT_FOLDER.fullmatch(part) for part in photo.parts[:-1])


def spelling(camera_model: str) -> str:
    """A model's name as a key that is the same however a corpus spells it: letters and digits only, "+" as "plus"."""
    return re.sub(r"[^a-z0-9]", "", camera_model.casefold().replace("+", "plus"))


def read_listing(root: str | Path) -> pd.DataFrame:
    """The listing `dresden.csv` in `root`: columns filename and scene, the index the file name in lower case.

    Lines that cannot be read are skipped; of several rows for a photo the first counts.
    """
    path = Path(root).expanduser() / LISTING
    options = {"dtype": str, "keep_default_na": False, "on_bad_lines": "skip", "skipinitialspace": True}
    try:  # the names of places may be in another encoding; nothing is read from them
        table = pd.read_csv(path, encoding="utf-8-sig", encoding_errors="replace", **options)
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is not a table ({error}); replace it with the public listing") from error
    missing = [name for name in ("filename", "position_num", "motive_num") if name not in table]
    if missing:
        there = ", ".join(map(str, table.columns))
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; it has {there}. Use the public listing")
    table = table.apply(lambda column: column.fillna("").str.strip())
    table = table[table["filename"] != ""]
    known = (table["position_num"] != "") & (table["motive_num"] != "")
    table["scene"] = (table["position_num"] + "-" + table["motive_num"]).where(known, pd.NA)
    table.index = table["filename"].str.casefold().rename(None)
    return table.loc[~table.index.duplicated(), ["filename", "scene"]]


def compare_with_published(catalogue: pd.DataFrame) -> pd.DataFrame:
    """The catalogue's numbers of photos and devices beside the published ones, one row per camera model.

    The columns are those of `published.compare`. No row for data without published numbers.
    """
    names = set(catalogue["dataset"]) & set(published.COUNTS)
    dataset = names.pop() if len(names) == 1 else None
    return published.compare(summary(catalogue[catalogue["dataset"] == dataset]), dataset)


def published_counts(catalogue: pd.DataFrame) -> pd.DataFrame | None:
    """Published photos by camera model (the index); None for data without published numbers."""
    table = compare_with_published(catalogue).dropna(subset=["published_photos"])
    if table.empty:
        return None
    return table.set_index("camera_model")["published_photos"].astype(float).to_frame("photos")


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


def absent_photos(catalogue: pd.DataFrame, root: str) -> pd.DataFrame:
    """`missing_photos` counted by camera model and status; no row without a `dresden.csv` in `root`."""
    if not (resolve(root) / LISTING).is_file():
        return pd.DataFrame(columns=["camera_model", "status", "photos", "for example"])
    photos = missing_photos(catalogue, resolve(root)).groupby(["camera_model", "status"])["photo"]
    return photos.agg(["size", "first"]).set_axis(["photos", "for example"], axis=1).reset_index()
