"""Folders of simulated photographs, in the layouts of the real data sets, for the loaders of those.

A plan has one row per photo: its device, `scene`, `shot` and `path`.
"""

import zlib
from collections import namedtuple
from datetime import datetime, timedelta
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from PIL import Image

from ..catalogues import LISTING, SIMULATED
from ..files import exclusive_folder
from ..project import progress
from . import cameras
from .cameras import COMPACTS, PHONES, PROCESSING
from .scenes import make_scene

VERSION = 2  # raise it when the same settings give other photos, so that old ones are made again
NETWORKS = {  # Forchheim's other versions, as we simulate them: factor of both sides, JPEG quality
    "facebook": (0.5, 72), "instagram": (0.34, 75), "telegram": (0.4, 87), "twitter": (1.0, 85), "whatsapp": (0.4, 75)
}  # fmt: skip
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


def simulate(
    kind: str, root: str | Path, *, seed: int = 0, models: int = 8, devices: int = 2, scenes: int = 24,
    shots: int = 1, own_scenes: bool = False, size: tuple[int, int] = (640, 480), workers: int = -1,
) -> Path:  # fmt: skip
    """Make a simulated data set in the layout of the real one, unless it is there already; returns the root.

    kind: a key of LAYOUTS. "flat": flat-field frames of FloreView's phones, of a wall, without noise reduction;
    "steps": all of cameras.STEPS, whatever `models` says; Forchheim, VISION: some of FloreView's models and two others,
    one device each. models: 1 to 8; devices per model; shots: of every scene by every device; own_scenes: each model
    has `scenes` of its own; size: nominal width and height; workers: processes, -1 for one per core. Simulated photos
    of other settings are replaced; other files in the root raise FileExistsError.
    """
    if kind not in LAYOUTS:
        raise ValueError(f"{kind!r} cannot be simulated: give one of {', '.join(LAYOUTS)}")
    devices = 1 if kind in COMMON else devices
    photos = plan(kind, seed, size, models, scenes, devices, shots, own_scenes)
    settings = f"models={models} devices={devices} scenes={scenes} shots={shots}{' own_scenes' if own_scenes else ''}"
    note = (
        "Simulated photographs: procedural scenes, simulated cameras with fictional names; none is real.\n"
        f"{LAYOUTS[kind].dataset} layout, version={VERSION} seed={seed} {settings} size={size[0]}x{size[1]}\n"
    )
    target = Path(root).resolve()
    if not _finished(target, note):
        with exclusive_folder(target) as new:
            if not _finished(target, note):  # else another process made them while this one waited
                jobs = [joblib.delayed(_shoot)(new, kind, seed, size, *scene) for scene in photos.groupby("scene")]
                finished = joblib.Parallel(workers, return_as="generator_unordered")(jobs)
                list(progress(finished, "simulating", total=len(jobs), unit="scene"))
                if kind in LISTED:
                    dresden_listing(photos).to_csv(new / LISTING, index=False)
                (new / SIMULATED).write_text(note, encoding="utf-8")
    return Path(root)


def _finished(root: Path, note: str) -> bool:
    """Whether the root holds the photos that the note describes; an error where it holds other files."""
    if (root / SIMULATED).is_file():
        return (root / SIMULATED).read_text(encoding="utf-8") == note
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"{root} has no {SIMULATED}, so it is not ours to replace: name a new or empty folder")
    return False


def _shoot(folder: Path, kind: str, seed: int, size: tuple[int, int], number: int, photos: pd.DataFrame) -> None:
    """Make one scene and write all photos of it, each with its own random stream."""
    dataset, start, _ = LAYOUTS[kind]
    flat = kind == "flat"
    scene = (cameras.make_wall if flat else make_scene)([seed, *dataset.encode(), 2, number], size)
    turned = scene._replace(light=np.ascontiguousarray(np.rot90(scene.light, axes=(1, 2))))
    for photo in photos.itertuples(index=False):
        rng = np.random.default_rng([seed, *dataset.encode(), 3, photo.shot])
        upright = kind not in LISTED and rng.random() < 0.25
        view = turned if upright else scene
        camera, grey = (photo._replace(denoise=0.0), cameras.BRIGHT) if flat else (photo, cameras.GREY)
        pixels = cameras.take_photo(view, camera, cameras.point(view, camera, rng), rng, grey)
        when = datetime.fromisoformat(start) + timedelta(days=number, seconds=30 * photo.shot)
        orientation = None if kind in LISTED else 6 if upright else 1
        path = folder / photo.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cameras.encode(pixels, photo, f"{when:%Y:%m:%d %H:%M:%S}", scene.iso, orientation))
        if kind == "forchheim":
            _write_network_copies(path)


def _write_network_copies(photo: Path) -> None:
    """Write the networks' versions of a Forchheim photo, as "messenger SIDE QUALITY" of `photos.degrade`; no EXIF."""
    with Image.open(photo) as original:
        for network, (factor, quality) in NETWORKS.items():
            small = original.resize([max(1, round(factor * side)) for side in original.size], Image.Resampling.BILINEAR)
            copy = photo.parents[1] / network / photo.name.replace("orig", network)
            copy.parent.mkdir(exist_ok=True)
            small.save(copy, "JPEG", quality=quality, subsampling="4:2:0")


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
    kind: str, seed: int, size: tuple[int, int], models: int, scenes: int, devices: int, shots: int, own: bool
) -> pd.DataFrame:
    """The photos of a simulated data set: every device takes `shots` of every scene; own: of its model's own scenes."""
    if not 1 <= models <= len(PHONES) or min(devices, scenes, shots) < 1 or min(size) < 64:
        asked = f"{models} models, {devices} devices, {scenes} scenes, {shots} shots, {size[0]} x {size[1]} pixels"
        raise ValueError(f"{asked}: give 1 to {len(PHONES)} models, 1 or more of the others, sides of 64 or more")
    if kind in COMMON:
        fleet = corpus_devices(kind, models, size, seed)
    else:
        table = cameras.one_step_cameras() if kind == "steps" else (COMPACTS if kind == "dresden" else PHONES)[:models]
        fleet = make_devices(table, devices, size, seed)
    captures = pd.DataFrame(np.ndindex(scenes, shots), columns=["scene", "capture"])
    photos = fleet.merge(captures, how="cross")
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
