"""What is wrong with a folder of real photographs: missing, extra, double, broken, or not what its EXIF says.

Of the EXIF data only the camera's make and model are read: places and serial numbers are never looked at.
"""

import hashlib
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path

import joblib
import pandas as pd
from PIL import Image

from camid_utils import datasets, published
from camid_utils.corpora import spelling
from camid_utils.patches import read_photo
from camid_utils.progress import progress

MAKE, MODEL = 0x010F, 0x0110  # EXIF tags
SHOWN = 12  # rows of a table
TITLES = {
    "absent": "Camera models without a single photo",
    "counts": "Camera models whose numbers of photos and devices are not the published ones",
    "photos": "Photo by photo against dresden.csv, camera models without any photo aside",
    "left out": "Files that the study leaves out",
    "broken": "Photos that cannot be decoded",
    "double": "The same pixels under two names",
    "exif": "Photos whose EXIF data names another camera",
    "unfinished": "Downloads that are not finished (the same download command goes on with them)",
}


def report(folder: str | Path) -> int:
    """Print what is wrong with a folder, a short table a kind; returns 0 if nothing is, else 1.

    Raises FileNotFoundError, showing the layouts, where no photo of either data set is found.
    """
    photos = load(folder)
    print(f"{datasets.describe(photos)} in {folder}")
    if skipped := photos.attrs["skipped"]:
        print("not looked at: " + ", ".join(f"{count:,} {kind}" for kind, count in skipped.items()))
    found = findings(photos, folder)
    for name, table in found.items():
        print(f"\n{TITLES[name]}: {len(table):,}\n{_shown(table)}")
    print("" if found else "nothing wrong was found")
    return int(bool(found))


def load(folder: str | Path) -> pd.DataFrame:
    """The catalogue of a folder in the layout, Dresden's or FloreView's, that more of its photos are named by.

    Raises FileNotFoundError if there is none in either.
    """
    catalogues, problems = [], []
    for loader in (datasets.load_dresden, datasets.load_floreview):
        try:
            catalogues.append(loader(folder))
        except FileNotFoundError as error:
            problems.append(str(error))
    if not catalogues:
        raise FileNotFoundError("\n".join(problems))
    return max(catalogues, key=len)


def findings(photos: pd.DataFrame, folder: str | Path) -> dict[str, pd.DataFrame]:
    """The tables of what is wrong with the photos of a catalogue of `folder`, by the names in TITLES; no empty ones."""
    counts = datasets.compare_with_published(photos)
    absent = counts.loc[counts["status"] == "missing", ["camera_model", "published_photos"]]
    tables = {"absent": absent, "counts": counts[~counts["status"].isin(["as published", "missing"])]}
    if (Path(folder).expanduser() / datasets.LISTING).is_file():
        listed = datasets.missing_photos(photos, folder)
        listed = listed[~listed["camera_model"].isin(absent["camera_model"])]
        rare_first = listed["status"].map(listed["status"].value_counts())
        tables["photos"] = listed.loc[rare_first.sort_values(kind="stable").index]
    tables["left out"] = datasets.left_out(photos)
    tables["double"], tables["broken"] = same_pixels(photos)
    texts = _all(camera_text, photos["path"], "EXIF")
    tables["exif"] = other_cameras(photos.assign(exif=texts))
    parts = sorted(str(path) for path in Path(folder).expanduser().rglob(".*.part"))
    tables["unfinished"] = pd.DataFrame({"path": parts})
    for table in tables.values():
        for column in {"path", "same_as"} & set(table):
            table[column] = [os.path.relpath(path, Path(folder).expanduser()) for path in table[column]]
    return {name: table for name, table in tables.items() if len(table)}


def same_pixels(photos: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Photos that repeat the pixels of an earlier one (columns path, same_as), and broken ones (path, reason).

    Every photo is decoded at an eighth of its size, which is fast; only those alike in that are decoded in full.
    """
    small = pd.Series(_all(_small_digest, photos["path"], "pixels"), photos.index, dtype=object)
    failed = small.str.startswith("cannot: ")
    broken = pd.DataFrame({"path": photos["path"][failed], "reason": small[failed].str.removeprefix("cannot: ")})
    whole = photos[~failed]
    alike = whole[[*whole[["width", "height"]].assign(small=small[~failed]).duplicated(keep=False)]]
    digests = pd.Series(_all(_digest, alike["path"], "pixels again"), alike.index, dtype=object)
    first = alike["path"].groupby(digests).transform("first") if len(alike) else alike["path"]
    double = pd.DataFrame({"path": alike["path"], "same_as": first})
    return double[double["path"] != double["same_as"]].reset_index(drop=True), broken.reset_index(drop=True)


def _small_digest(path: str) -> str:
    """Digest of a photo at an eighth of its size, or "cannot: " and the reason."""
    try:
        return hashlib.sha256(read_photo(path, at_least=(1, 1)).data).hexdigest()
    except ValueError as error:
        return "cannot: " + str(error).removeprefix(f"{path}: ")


def _digest(path: str) -> str:
    return hashlib.sha256(read_photo(path).data).hexdigest()


def _all(function, paths: Iterable[str], what: str) -> list:
    """`function` of every path, in order, by threads; with a progress bar where there are many."""
    paths = list(paths)
    tasks = (joblib.delayed(function)(path) for path in paths)
    results = joblib.Parallel(n_jobs=-1, backend="threading", return_as="generator")(tasks)
    return list(progress(results, what, total=len(paths), unit="photo", disable=len(paths) < 100))


def camera_text(path: str) -> str:
    """Make and model of the camera as EXIF gives them, such as "NIKON CORPORATION, NIKON D70"; "" if it does not."""
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            exif = image.getexif()
            values = [exif.get(tag) for tag in (MAKE, MODEL)]
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error, Image.DecompressionBombError):
        return ""
    words = ["".join(c if c.isprintable() else " " for c in v).strip()[:60] for v in values if isinstance(v, str)]
    return ", ".join(word for word in words if word)


def other_cameras(photos: pd.DataFrame) -> pd.DataFrame:
    """Photos (columns path, camera_model, exif) whose EXIF text names another camera: path, named, exif and says.

    Many phones write a factory code (SM-G973F) and some cameras nothing useful, so a text counts only if it has
    the name of another known model in it (letters and digits alone are compared), if it is what most photos of
    exactly one other model have and most of its own have not, or if its make is another brand's.
    """
    texts = photos[["camera_model", "exif"]].astype(str)
    texts = texts[texts["exif"] != ""]
    shares = texts.groupby("camera_model")["exif"].value_counts(normalize=True)
    usual = {model: text for (model, text), share in shares.items() if share > 0.5}
    known = {*photos["camera_model"].astype(str), *usual}
    for name in published.COUNTS.values():
        known |= set(published.read(name)["camera_model"])
    pairs = texts.drop_duplicates()
    verdicts = {(m, text): _says(m, text, known, usual) for m, text in pairs.itertuples(index=False)}
    says = pd.Series([verdicts[pair] for pair in texts.itertuples(index=False, name=None)], texts.index, dtype=object)
    wrong = photos.loc[texts.index[says != ""]]
    columns = {"path": wrong["path"], "named": wrong["camera_model"], "exif": wrong["exif"], "says": says[wrong.index]}
    return pd.DataFrame(columns).reset_index(drop=True)


def _says(own: str, text: str, known: set[str], usual: dict[str, str]) -> str:
    """The other camera model, or brand, that an EXIF text stands for; "" if it is its own or cannot be told."""
    named = [model for model in known if _names(text, model)]
    if named:
        best = max(named, key=lambda model: (len(spelling(model)), model))
        return "" if spelling(best) == spelling(own) else best
    others = [model for model, theirs in usual.items() if theirs == text and model != own]
    if len(others) == 1 and own in usual and usual[own] != text:
        return others[0]
    brands = {model.split("_", 1)[0] for model in known}
    if spelling(own.split("_", 1)[0]) in spelling(text):
        return ""
    return next((brand for brand in sorted(brands) if spelling(text).startswith(spelling(brand))), "")


def _names(text: str, model: str) -> bool:
    """Whether a text has a model's name in it, brand too, not as part of a longer number (D70 is not in D700)."""
    brand, _, name = model.partition("_")
    place = re.search(rf"(?<!\d){re.escape(spelling(name))}(?!\d)" if name else "$^", spelling(text))
    return bool(place) and spelling(brand) in spelling(text)


def _shown(table: pd.DataFrame) -> str:
    """The first rows of a table as text, with unprintable characters escaped."""
    text = table.head(SHOWN).map(lambda value: value if str(value).isprintable() else repr(value))
    more = f"\n... and {len(table) - SHOWN:,} more" if len(table) > SHOWN else ""
    return text.to_string(index=False) + more
