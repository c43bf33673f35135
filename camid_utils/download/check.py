"""What is wrong with a folder of real photographs; of the EXIF data only make and model are read."""

import hashlib
import os
import re
import struct
from contextlib import suppress
from functools import cache
from pathlib import Path

import joblib
import pandas as pd
from PIL import Image

from .. import catalogues, datasets, published
from ..datasets import spelling
from ..files import expanded
from ..photos import read_photo
from ..project import progress
from . import sources

SHOWN = 12  # rows of a table


def report(folder: str | Path) -> int:
    """Print what is wrong with a folder, one short table per kind; returns 0 if nothing is, else 1."""
    photos = load(folder)
    print(f"{catalogues.describe(photos)} in {folder}")
    if skipped := photos.attrs["skipped"]:
        print("not checked: " + ", ".join(f"{count:,} {kind}" for kind, count in skipped.items()))
    found = findings(photos, folder)
    for title, table in found.items():
        shown = table.head(SHOWN).map(lambda value: value if str(value).isprintable() else repr(value))
        more = f"\n... and {len(table) - SHOWN:,} more" if len(table) > SHOWN else ""
        print(f"\n{title}: {len(table):,}\n{shown.to_string(index=False)}{more}")
    print("" if found else "nothing is wrong")
    return int(bool(found))


def load(folder: str | Path) -> pd.DataFrame:
    """The catalogue of a folder of public photographs, else in the layout, Dresden's or FloreView's, that fits more."""
    if not expanded(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    with suppress(FileNotFoundError):
        return datasets.load_photographs(folder, kind=None)
    found = []
    for loader in (datasets.load_dresden, datasets.load_floreview):
        with suppress(FileNotFoundError):
            found.append(loader(folder))
    if not found:
        layouts = f"{datasets.DRESDEN_LAYOUT}\nor FloreView's:\n{datasets.FLOREVIEW_LAYOUT}"
        raise FileNotFoundError(f"no photos with such names in {folder}. Expected Dresden's layout:\n{layouts}")
    return max(found, key=len)


def findings(photos: pd.DataFrame, folder: str | Path) -> dict[str, pd.DataFrame]:
    """Tables of what is wrong with the photos of a catalogue of `folder`, by title; no empty ones."""
    folder = expanded(folder)
    differ = datasets.compare_with_published(photos).query("status != 'as published'")
    differ = differ.sort_values("status", key=lambda status: status == "missing", kind="stable").reset_index()
    listed = datasets.missing_photos(photos, folder)
    listed = listed[listed["camera_model"].isin(photos["camera_model"])]
    tables = {
        "numbers of photos and devices differ from the published ones": differ,
        "photos differ from dresden.csv": listed.sort_values(["status", "photo"], ascending=[False, True]),
    }
    if photos["dataset"].iloc[0] == datasets.PUBLIC:
        blobs = published.photographs().set_index("file")["blob"].to_dict()
        changed = [sources.blob_name(row.path) != blobs[row.photo] for row in photos.itertuples()]
        tables["not the listed content: remove the photo and download it again"] = photos.loc[changed, ["path"]]
    tasks = (joblib.delayed(_inspect)(path) for path in photos["path"])
    results = joblib.Parallel(n_jobs=-1, backend="threading", return_as="generator")(tasks)
    rows = list(progress(results, "photos", total=len(photos), unit="photo", disable=len(photos) < 100))
    seen = photos.join(pd.DataFrame(rows, photos.index, ["pixels", "reason", "exif"]))
    read = seen[seen["reason"] == ""]
    copies = read[["path"]].assign(same_as=read.groupby("pixels")["path"].transform("first"))
    tables |= {
        "left out by the study": pd.DataFrame(photos.attrs.get("left_out", []), columns=["photo", "reason"]),
        "cannot be decoded": seen.loc[seen["reason"] != "", ["path", "reason"]],
        "duplicate pixels": copies.query("path != same_as"),
        "EXIF names another camera": other_cameras(seen),
    }
    for table in tables.values():
        for column in {"path", "same_as"} & set(table):
            table[column] = [os.path.relpath(path, folder) for path in table[column]]
    return {name: table for name, table in tables.items() if len(table)}


def _inspect(path: str) -> tuple[str, str, str]:
    """A digest of a photo's pixels, the reason if it is broken, and its EXIF text."""
    try:
        return hashlib.sha256(read_photo(path).data).hexdigest(), "", camera_text(path)
    except ValueError as error:
        return "", str(error).removeprefix(f"{path}: "), camera_text(path)


def camera_text(path: str) -> str:
    """Make and model of the camera in the EXIF data, such as "NIKON CORPORATION, NIKON D70"; "" without them."""
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            values = [image.getexif().get(tag) for tag in (0x010F, 0x0110)]  # make and model
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return ""
    words = ["".join(c if c.isprintable() else " " for c in v).strip()[:60] for v in values if isinstance(v, str)]
    return ", ".join(filter(None, words))


def other_cameras(photos: pd.DataFrame) -> pd.DataFrame:
    """Photos (columns path, camera_model, exif) whose EXIF text names another camera: path, named, exif and says."""
    known = set(photos["camera_model"]).union(*(published.read(t)["camera_model"] for t in published.COUNTS.values()))
    says = cache(lambda own, text: _other_camera(own, text, known))
    table = photos[["path", "camera_model", "exif"]].set_axis(["path", "named", "exif"], axis=1)
    return table.assign(says=list(map(says, table["named"], table["exif"]))).query("says != ''")


def _other_camera(own: str, text: str, known: set[str]) -> str:
    """The other camera model, or else brand, that an EXIF text names; "" if it is its own or unclear."""
    # many phones write a factory code (SM-G973F) and some cameras nothing useful: only known names count as another's
    text, named = spelling(text), []
    for model in known:
        brand, _, name = map(spelling, model.partition("_"))
        if name and brand in text and re.search(rf"(?<!\d){name}(?!\d)", text):  # D70 is not in D700
            named.append((len(brand + name), model))
    if named:
        best = max(named)[1]
        return "" if spelling(best) == spelling(own) else best
    brands = sorted({model.split("_")[0] for model in known})
    if spelling(own.split("_")[0]) in text:
        return ""
    return next((brand for brand in brands if spelling(brand) and text.startswith(spelling(brand))), "")
