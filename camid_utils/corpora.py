"""Catalogues of two more corpora of phone photos, and the phone models that two catalogues have in common.

Forchheim (Hadwiger and Riess 2020) has every photo in six versions, VISION (Shullani et al. 2017) in four. Devices
are called after their corpus, such as Forchheim_D01: every corpus counts its own from D01.
"""

import re
from pathlib import Path

import pandas as pd

from camid_utils import datasets

FORCHHEIM_VERSIONS = ("orig", "facebook", "instagram", "telegram", "twitter", "whatsapp")
VISION_VERSIONS = ("nat", "natFBH", "natFBL", "natWA")

PHONE_FOLDER = re.compile(r"(D\d+)_([^_]+_.+?)(?:_\d)?", re.IGNORECASE)  # the last digit counts devices of a model
FORCHHEIM_LAYOUT = """\
  ROOT/D01_Motorola_E3_1/orig/D01_img_orig_0001.jpg    device and model, version, scene; the other versions:
  facebook, instagram, telegram, twitter, whatsapp"""
VISION_LAYOUT = """\
  ROOT/D01_Samsung_GalaxyS3Mini/images/nat/D01_I_nat_0001.jpg    device and model, version; the other versions:
  natFBH, natFBL (Facebook, high and low quality), natWA (WhatsApp)"""


def load_forchheim(root: str | Path, version: str = "orig", min_size: int = 48) -> pd.DataFrame:
    """Catalogue of one version of the Forchheim photos under `root`, at any depth: the file name says which version.

    Device and scene come from the file name, the class from the folder that names the phone, less the number that
    counts phones of a model. The other versions are skipped and counted in `attrs["skipped"]`.
    """
    return _load(root, "Forchheim", "img", FORCHHEIM_LAYOUT, FORCHHEIM_VERSIONS, version, min_size)


def load_vision(root: str | Path, version: str = "nat", min_size: int = 48) -> pd.DataFrame:
    """Catalogue of one version of the natural VISION photos under `root`; scenes are unknown (NA), else as the above.

    Flat frames, videos and the other versions are skipped and counted in `attrs["skipped"]`.
    """
    return _load(root, "VISION", "I", VISION_LAYOUT, VISION_VERSIONS, version, min_size)


def _load(
    root: str | Path,
    name: str,
    infix: str,
    layout: str,
    versions: tuple[str, ...],
    version: str,
    min_size: int,
) -> pd.DataFrame:
    """Catalogue of one version of a corpus; its file names give device, version and number, with `infix` between."""
    if version not in versions:
        raise ValueError(f"{name} has no version {version!r}: choose one of {', '.join(versions)}")
    root = datasets.checked_root(root, name, layout)
    pattern = re.compile(rf"(D\d+)_{infix}_([A-Za-z]+)_(\d+)\.jpe?g", re.IGNORECASE)
    known = {one.casefold(): one for one in versions}

    def label(photo: Path) -> dict:
        match = pattern.fullmatch(photo.name)
        if match is None:
            raise ValueError(f"its name is not like D01_{infix}_{version}_0001.jpg")
        device, _, number = match.groups()
        folder = next(filter(None, map(PHONE_FOLDER.fullmatch, reversed(photo.parts[:-1]))), None)
        if folder is None:
            raise ValueError("no folder above it names the phone as D01_<Brand>_<Model>")
        if folder[1].casefold() != device.casefold():
            raise ValueError(f"its name says {device}, the folder above it {folder[1]}")
        scene = number if name == "Forchheim" else pd.NA
        key = f"{folder[2]}/{photo.name}".casefold()
        return datasets.photo_labels(folder[2], f"{name}_{device.upper()}", scene, key)

    def skip(photo: Path) -> str:
        match = pattern.fullmatch(photo.name)
        found = match[2].casefold() if match else version.casefold()
        kind = "flat" if found.startswith("flat") else known.get(found, found)
        return "" if kind == version else kind

    return datasets.read_catalogue(root, name, layout, label, skip, min_size)


def spelling(camera_model: str) -> str:
    """A model's name without what the corpora spell in different ways: letters and digits only, "+" as "plus"."""
    return re.sub(r"[^a-z0-9]", "", camera_model.casefold().replace("+", "plus"))


def common_models(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """The camera models that occur in both catalogues, by their normalised `spelling`: a row a pair of names.

    Columns: camera_model (as in `a`), photos, devices (of `a`), other (as in `b`), other_photos, other_devices.
    ValueError where `a` itself spells one model in two ways: then it would be two classes.
    """
    tables = []
    for catalogue in (a, b):
        table = datasets.summary(catalogue)[["photos", "devices"]].reset_index()
        tables.append(table.assign(spelling=table["camera_model"].map(spelling)))
    twice = tables[0][tables[0]["spelling"].duplicated(keep=False)]
    if len(twice):
        raise ValueError(f"one camera model has several names: {', '.join(twice['camera_model'])}; rename its folder")
    other = tables[1].rename(columns={"camera_model": "other"})
    other = other.rename(columns={c: f"other_{c}" for c in ("photos", "devices")})
    table = tables[0].merge(other, on="spelling").drop(columns="spelling")
    return table.sort_values(["camera_model", "other"], ignore_index=True)


def in_common(b: pd.DataFrame, common: pd.DataFrame) -> pd.DataFrame:
    """The photos of `b` of the models that `common_models` found, under the names that they have in the other."""
    names = common.set_index("other")["camera_model"]
    photos = b[b["camera_model"].isin(names.index)].reset_index(drop=True)
    models = photos["camera_model"].map(names).astype("string")
    return photos.assign(camera_model=models, brand=models.str.split("_").str[0].astype("string"))
