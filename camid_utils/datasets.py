"""Loaders: folder of a data set -> catalogue, by its file and folder names; and what is missing from a folder."""

import os
import re
from pathlib import Path

import pandas as pd

from . import published
from .catalogues import LISTING, left_out, read_catalogue, summary
from .files import expanded

DRESDEN_NAME = re.compile(r"([^_]+)_(.+)_([^_]+)_(\d+)")  # of a name without extension: brand, model, device, shot
FLOREVIEW_NAME = re.compile(r"(D\d+)_(L\d+S\d+)C\d+", re.IGNORECASE)
FLOREVIEW_FLAT_NAME = re.compile(r"(D\d+)_.*", re.IGNORECASE)
FLOREVIEW_FOLDER = re.compile(r"(?:(D\d+)_)?([^_]+_.+)", re.IGNORECASE)  # as published, or without the device
FLAT_FOLDER = re.compile(r"flat([-_ ]?fields?)?", re.IGNORECASE)
PHONE_FOLDER = re.compile(r"(D\d+)_([^_]+_.+?)(?:_\d)?", re.IGNORECASE)  # the last digit counts devices of a model
FORCHHEIM_VERSIONS = ("orig", "facebook", "instagram", "telegram", "twitter", "whatsapp")
VISION_VERSIONS = ("nat", "natFBH", "natFBL", "natWA")  # as taken, by Facebook (high and low quality), by WhatsApp
DRESDEN_LAYOUT = """\
  ROOT/[folders of any depth/]<Brand>_<Model>_<device>_<shot>.JPG    such as Nikon_D70_0_19445.JPG
  ROOT/dresden.csv    the public listing, for the scenes (optional)"""
FLOREVIEW_LAYOUT = """\
  ROOT/D27_DOOGEE_S96Pro/Nat/jpeg-h264/L1/S1/D27_L1S1C1.jpg    as published, or
  ROOT/DOOGEE_S96Pro/D27_L1S1C1.jpg    one folder per phone: <Brand>_<Model>; D27 is one device everywhere"""
PUBLIC = "public photographs"


def load_dresden(root: str | Path) -> pd.DataFrame:
    """Catalogue of the Dresden photos under `root`, at any depth: the file name decides, never the folder.

    Scenes ("position-motive") come from `dresden.csv` in the root, NA for photos that it does not list. Unlisted
    photos in a folder named flat or flat-field are flat-field frames: skipped and counted in `attrs["skipped"]`.
    """
    scenes = read_listing(root)["scene"].to_dict() if (expanded(root) / LISTING).is_file() else {}

    def label(photo: Path) -> tuple | str:
        key = photo.name.casefold()
        if _in_flat_folder(photo) and key not in scenes:
            return "flat"
        brand, model, device, _ = _match(DRESDEN_NAME, photo, "<Brand>_<Model>_<device>_<shot>.JPG")
        camera_model = published.dresden_spelling(f"{brand}_{model}")
        return camera_model, f"{camera_model}_{device}", scenes.get(key, pd.NA), key

    return read_catalogue(root, "Dresden", DRESDEN_LAYOUT, label)


def load_steps(root: str | Path) -> pd.DataFrame:
    """Catalogue of simulated cameras that differ in one step (simulate.cameras.STEPS), in Dresden's layout."""
    catalogue = load_dresden(root)
    return catalogue.assign(dataset=catalogue["dataset"].str.replace("Dresden", "Steps"))


def load_floreview(root: str | Path, flat: bool = False) -> pd.DataFrame:
    """Catalogue of the natural FloreView photos under `root`, or, with `flat`, of the flat-field ones, without scenes.

    Device and scene come from the file name, the class from the folder that names the phone, in either layout. Videos,
    HEIC and the photos of the other kind are skipped and counted in `attrs["skipped"]`.
    """

    def label(photo: Path) -> tuple | str:
        is_flat = _in_flat_folder(photo) or "_flat" in photo.name.casefold()
        if is_flat != flat:
            return "flat" if is_flat else "natural"
        device, *scene = _match(FLOREVIEW_FLAT_NAME if flat else FLOREVIEW_NAME, photo, "like D27_L1S1C1.jpg")
        camera_model = _phone(photo, FLOREVIEW_FOLDER, device, "<Brand>_<Model>")
        scene = scene[0].upper() if scene else pd.NA
        return camera_model, device.upper(), scene, f"{camera_model}/{photo.name}".casefold()

    return _one_phone_each(read_catalogue(root, "FloreView", FLOREVIEW_LAYOUT, label))


def _one_phone_each(catalogue: pd.DataFrame) -> pd.DataFrame:
    """The catalogue without photos that lie in the folder of another phone than most photos of their device do.

    ValueError where no phone has more than half of a device's photos.
    """
    counts = catalogue.groupby(["device", "camera_model"]).size()
    share = counts / counts.groupby("device").transform("sum")
    most = share[share > 0.5].reset_index().set_index("device")["camera_model"]
    if unclear := sorted(set(catalogue["device"]) - set(most.index)):
        phones = ", ".join(counts[unclear[0]].index)
        raise ValueError(
            f"device {unclear[0]} is in the folders of several phones ({phones}): give each its own number"
        )
    right = catalogue["device"].map(most)
    wrong = catalogue[catalogue["camera_model"] != right]
    reasons = "other photos of this device are in the folder of " + right[wrong.index]
    left_out = catalogue.attrs["left_out"] + wrong[["photo", "camera_model"]].assign(reason=reasons).to_dict("records")
    kept = catalogue.drop(index=wrong.index).reset_index(drop=True)
    kept.attrs = catalogue.attrs | {"left_out": sorted(left_out, key=lambda row: row["photo"])}
    return kept


def load_photographs(
    root: str | Path, role: str | None = None, kind: str | None = "natural", least: int = 1
) -> pd.DataFrame:
    """Catalogue of public photographs under `root`, of a role (camera, phone) and kind (natural, flat), None: of all.

    All labels come from the list of `published.photographs`, never from EXIF. A scene is an eighth, in time, of a
    collection; flat fields have none. Listed photos that are missing or have another size are left out with the reason;
    models with fewer than `least` photos on the list are skipped and counted in `attrs["skipped"]`.
    """
    root, listed = expanded(root), published.photographs()
    wanted = listed[(listed["role"] == (role or listed["role"])) & (listed["kind"] == (kind or listed["kind"]))]
    few = set(wanted["camera_model"].value_counts().loc[lambda counts: counts < least].index)
    rows = {row.file: row for row in listed.itertuples()}

    def label(photo: Path) -> tuple | str:
        if (row := rows.get(photo.as_posix())) is None:
            raise ValueError("the list of public photographs does not name it")
        if row.Index not in wanted.index:
            return f"{row.kind} ({row.role})"
        if row.camera_model in few:
            return f"{row.kind}, fewer than {least} of their model"
        if (size := os.path.getsize(root / photo)) != row.bytes:
            raise ValueError(f"it has {size:,} bytes, the listed photo {row.bytes:,}: download it again")
        scene = pd.NA if row.kind == "flat" else f"{row.collection}/{row.block:.0f}"
        return row.camera_model, row.device, scene, row.file, row.collection

    layout = "  ROOT/Nikon_D90/Nikon_D90_0_000.jpg    as `python -m camid_utils.download photographs --to ROOT` does"
    catalogue = read_catalogue(root, f"{PUBLIC} by {role}s" if role else PUBLIC, layout, label)
    missing = [
        {"photo": row.file, "camera_model": row.camera_model, "reason": "it is missing: download it again"}
        for row in wanted.itertuples()
        if not os.path.lexists(root / row.file)
    ]
    catalogue.attrs["left_out"] = sorted(catalogue.attrs["left_out"] + missing, key=lambda row: row["photo"])
    return catalogue


def load_folder(root: str | Path) -> pd.DataFrame:
    """Catalogue of your own photos: each folder in `root` is a class; devices and scenes are unknown (NA)."""

    def label(photo: Path) -> tuple:
        if len(photo.parts) == 1:
            raise ValueError("it is not in a class's folder")
        return photo.parts[0], pd.NA, pd.NA, str(photo)

    layout = "  ROOT/<class>/[folders/]any_name.jpg    one folder per class, such as Nikon_D70/DSC_0001.JPG"
    return read_catalogue(root, expanded(root).resolve().name, layout, label)


def load_forchheim(root: str | Path, version: str = "orig") -> pd.DataFrame:
    """Catalogue of one version of the Forchheim photos under `root`; the others are skipped and counted."""
    return _load_version(root, "Forchheim", "img", FORCHHEIM_VERSIONS, version)


def load_vision(root: str | Path) -> pd.DataFrame:
    """Catalogue of the natural VISION photos under `root` as taken; other versions as `load_forchheim`, scenes NA."""
    return _load_version(root, "VISION", "I", VISION_VERSIONS, "nat")


def _load_version(root: str | Path, name: str, infix: str, versions: tuple[str, ...], version: str) -> pd.DataFrame:
    """Catalogue of one version of a corpus, whose file names give device, `infix`, version and number."""
    layout = f"  ROOT/D01_<Brand>_<Model>/[folders/]D01_{infix}_{version}_0001.jpg    versions: {', '.join(versions)}"
    pattern = re.compile(rf"(D\d+)_{infix}_([A-Za-z]+)_(\d+)", re.IGNORECASE)
    usual = {one.casefold(): one for one in versions}

    def label(photo: Path) -> tuple | str:
        device, found, number = _match(pattern, photo, f"like D01_{infix}_{version}_0001.jpg")
        found = usual.get(found.casefold(), found.casefold())
        if found != version:
            return "flat" if found.startswith("flat") else found
        camera_model = _phone(photo, PHONE_FOLDER, device, "D01_<Brand>_<Model>")
        scene = number if name == "Forchheim" else pd.NA
        return camera_model, f"{name}_{device.upper()}", scene, f"{camera_model}/{photo.name}".casefold()

    return read_catalogue(root, name, layout, label)


def _match(pattern: re.Pattern, photo: Path, form: str) -> tuple[str, ...]:
    """What a pattern finds in a photo's file name; ValueError if the name does not have that form."""
    if match := pattern.fullmatch(photo.stem):
        return match.groups()
    raise ValueError(f"its name is not {form}")


def _phone(photo: Path, pattern: re.Pattern, device: str, form: str) -> str:
    """The camera model that a folder above a photo names; one that also names the device, the innermost, goes first."""
    named = [found for part in photo.parts[:-1] if (found := pattern.fullmatch(part))]
    if not named:
        raise ValueError(f"no folder above it names the phone as {form}")
    folder = next((found for found in reversed(named) if found[1]), named[0])
    if folder[1] and folder[1].casefold() != device.casefold():
        raise ValueError(f"its name says {device}, the folder above it {folder[1]}")
    return folder[2]


def _in_flat_folder(photo: Path) -> bool:
    return any(FLAT_FOLDER.fullmatch(part) for part in photo.parts[:-1])


def spelling(camera_model: str) -> str:
    """A model's name as a key that is the same however a corpus spells it: letters and digits, "+" as "plus"."""
    return re.sub(r"[^a-z0-9]", "", camera_model.casefold().replace("+", "plus"))


def read_listing(root: str | Path) -> pd.DataFrame:
    """The listing `dresden.csv` in `root`: columns filename and scene, the index is the file name in lower case."""
    path = expanded(root) / LISTING
    options = {"dtype": str, "keep_default_na": False, "on_bad_lines": "skip", "skipinitialspace": True}
    options["index_col"] = False  # even where rows, but not the header, end in a comma
    try:  # the names of places may be in another encoding; nothing is read from them
        table = pd.read_csv(path, encoding="utf-8-sig", encoding_errors="replace", **options)
        table = table[["filename", "position_num", "motive_num"]].fillna("").apply(lambda column: column.str.strip())
    except (pd.errors.EmptyDataError, pd.errors.ParserError, KeyError) as error:
        raise ValueError(f"{path} is not the public listing, which belongs there: {error.args[0]}") from error
    table = table[table["filename"] != ""]
    known = (table[["position_num", "motive_num"]] != "").all(axis=1)
    table["scene"] = (table["position_num"] + "-" + table["motive_num"]).where(known, pd.NA)
    table.index = table["filename"].str.casefold().rename(None)
    return table.loc[~table.index.duplicated(), ["filename", "scene"]]


def compare_with_published(catalogue: pd.DataFrame) -> pd.DataFrame:
    """Numbers of photos and devices by camera model, the index, beside the published ones; empty without these.

    Columns: photos, published_photos, devices, published_devices (NA for FloreView) and status, in words.
    """
    columns = ["photos", "published_photos", "devices", "published_devices"]
    if (name := catalogue["dataset"].iloc[0]) not in published.COUNTS:
        return pd.DataFrame(columns=[*columns, "status"])
    theirs = published.read(published.COUNTS[name]).set_index("camera_model").add_prefix("published_")
    table = summary(catalogue).join(theirs, how="outer").reindex(columns=columns).astype("Int64").sort_index()
    table["status"] = "as published"
    for noun in ("photos", "devices"):
        table.loc[(table[noun] != table[f"published_{noun}"]).fillna(False), "status"] = "differs"
    table.loc[table["photos"].isna(), "status"] = "missing"
    table.loc[table["published_photos"].isna(), "status"] = "extra"
    return table.rename_axis("camera_model")


def missing_photos(catalogue: pd.DataFrame, root: str | Path) -> pd.DataFrame:
    """Photos "missing", "left out" or "not listed", against `dresden.csv` in `root`: photo, camera_model and status.

    No row without a `dresden.csv`.
    """
    rows = []
    if (expanded(root) / LISTING).is_file():
        listed = read_listing(root)["filename"]
        have = {os.path.basename(path).casefold(): path for path in catalogue["path"]}
        unusable = {name.casefold() for name in left_out(catalogue)["photo"]}
        rows = [(name, "left out" if key in unusable else "missing") for key, name in listed.items() if key not in have]
        rows += [(os.path.basename(path), "not listed") for key, path in have.items() if key not in listed.index]
    table = pd.DataFrame(sorted(rows), columns=["photo", "status"])
    table.insert(1, "camera_model", table["photo"].astype(str).str.rsplit("_", n=2).str[0])
    return table
