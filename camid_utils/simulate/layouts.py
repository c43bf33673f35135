"""Devices, plans (one row per photo: its device, `scene`, `shot`, `path`) and file names of the simulated data sets."""

import zlib
from collections import namedtuple

import numpy as np
import pandas as pd

from .cameras import COMPACTS, PHONES, PROCESSING, one_step_cameras

MOTIVES = 4  # scenes at each position (Dresden) or location (FloreView)


Layout = namedtuple("Layout", "dataset start path")  # name (part of every random seed), date of first photo, template
LAYOUTS = {  # Forchheim spells models differently from FloreView, as in reality
    "dresden": Layout("Dresden", "2009-04-01 09:00", "{brand}_{model}_{device}/{brand}_{model}_{device}_{shot}.JPG"),
    "steps": Layout("Steps", "2009-04-01 09:00", "{brand}_{model}_{device}/{brand}_{model}_{device}_{shot}.JPG"),
    "floreview": Layout("FloreView", "2021-06-01 09:00", "{unit}_{brand}_{model}/Nat/jpeg-h264/"
                        "L{position}/S{motive}/{unit}_L{position}S{motive}C{capture}.jpg"),
    "flat": Layout("FloreView flat", "2021-05-01 09:00", "{unit}_{brand}_{model}/Flat/jpeg-h264/"
                   "{unit}_flat_{number}.jpg"),
    "forchheim": Layout("Forchheim", "2019-05-01 09:00", "{unit}_{brand}_{lower}_1/orig/{unit}_img_orig_{number}.jpg"),
    "vision": Layout("VISION", "2016-05-01 09:00", "{unit}_{brand}_{model}/images/nat/{unit}_I_nat_{number}.jpg"),
}  # fmt: skip
LISTED = ("dresden", "steps")  # cameras, with a listing of their scenes; the others are phones
COMMON = {"forchheim": (0, 2, 3, 5), "vision": (0, 1, 4, 5)}  # rows of PHONES that are in the corpus, too
OTHERS = {  # fictional phones that FloreView lacks: brand, model, rows of PHONES for their hardware and processing
    "forchheim": (("Lumaro", "Q2", 0, 7), ("Tessvik", "N5", 3, 2)),
    "vision": (("Lumaro", "Q4", 4, 1), ("Orvane", "T1", 6, 3)),
}


def make_devices(table: pd.DataFrame, per_model: int, size: tuple[int, int], seed: int) -> pd.DataFrame:
    """One row per device: its model's row of `table`, `device` (from 0 in each model) and its own deviations."""
    rows = table.loc[table.index.repeat(per_model)].reset_index(drop=True)
    rows["device"] = np.tile(np.arange(per_model), len(table))
    keys = [(seed, 0, *row.model.encode(), row.device) for row in rows.itertuples()]
    deviations = [np.random.default_rng(key).standard_normal(6) for key in keys]
    red, blue, blur, vignette, off_x, off_y = np.transpose(deviations)
    return rows.assign(
        width=[round(w / 640 * size[0] / 8) * 8 for w in rows["width"]],
        height=[round(h / 480 * size[1] / 8) * 8 for h in rows["height"]],
        wb_red=rows["wb_red"] + 0.8 * red,
        wb_blue=0.8 * blue,
        blur=rows["blur"] * (1 + 0.04 * np.clip(blur, -2, 2)),
        vignette=rows["vignette"] * (1 + 0.04 * vignette),
        off_x=0.01 * off_x,
        off_y=0.01 * off_y,
        seed=seed,
    )


def corpus_devices(kind: str, models: int, size: tuple[int, int], seed: int) -> pd.DataFrame:
    """Devices of Forchheim or VISION: those of COMMON among the first `models` phones of FloreView, then OTHERS."""
    seed = zlib.crc32(f"{LAYOUTS[kind].dataset} {seed}".encode())  # so that devices differ from FloreView's
    pairs = make_devices(PHONES, 2, size, seed)
    known, others = (pairs[pairs["device"] == i].reset_index(drop=True) for i in (0, 1))
    brands, names, hardware, processing = map(list, zip(*OTHERS[kind], strict=True))
    strangers = others.loc[hardware].assign(brand=brands, model=names)
    strangers[PROCESSING] = others.loc[processing, PROCESSING].to_numpy()
    return pd.concat([known.loc[[i for i in COMMON[kind] if i < models]], strangers], ignore_index=True)


def plan(
    kind: str, seed: int, size: tuple[int, int], models: int, scenes: int, devices: int, shots: int = 1, own=False
) -> pd.DataFrame:
    """The photos of a simulated data set: every device takes `shots` of every scene; own: of its model's own scenes."""
    if not 1 <= models <= len(PHONES) or min(devices, scenes, shots) < 1 or min(size) < 64:
        asked = f"{models} models, {devices} devices, {scenes} scenes, {shots} shots, {size[0]} x {size[1]} pixels"
        raise ValueError(f"{asked}: give 1 to {len(PHONES)} models, 1 or more of the others, sides of 64 or more")
    if kind in COMMON:
        fleet = corpus_devices(kind, models, size, seed)
    else:
        table = one_step_cameras() if kind == "steps" else (COMPACTS if kind == "dresden" else PHONES)[:models]
        fleet = make_devices(table, devices, size, seed)
    captures = pd.DataFrame([(scene, shot) for scene in range(scenes) for shot in range(shots)])
    photos = fleet.merge(captures.set_axis(["scene", "capture"], axis=1), how="cross")
    photos["scene"] += scenes * pd.factorize(photos["model"])[0] * own
    scene, unit = photos["scene"], photos.groupby(["brand", "model", "device"], sort=False).ngroup() + 1
    photos = photos.assign(shot=range(1, len(photos) + 1), position=scene // MOTIVES + 1, motive=scene % MOTIVES + 1)
    names = photos.assign(unit=unit.map("D{:02d}".format), lower=photos["model"].str.lower())
    names["number"] = (scene * shots + photos["capture"] + 1).map("{:04d}".format)
    names["capture"] += 1
    return photos.assign(path=[LAYOUTS[kind].path.format_map(row) for row in names.to_dict("records")])


def dresden_listing(photos: pd.DataFrame) -> pd.DataFrame:
    """Columns of Dresden's public listing, `dresden.csv`, for the rows of a plan."""
    table = photos.rename(columns={"device": "instance", "position": "position_num", "motive": "motive_num"})
    table["filename"] = table["path"].str.rsplit("/").str[-1]
    columns = ["filename", "brand", "model", "instance", "shot", "position_num", "motive_num"]
    return table.sort_values("filename")[columns]
