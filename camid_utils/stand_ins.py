"""Simulated stand-ins for Forchheim and VISION: phone models of simulated FloreView, but other devices and scenes.

In each corpus some models are those of simulated FloreView and two are not; every device has its own sensor noise and
tolerances. What the social networks do to a Forchheim photo is simulated too, by sizes and qualities of our choice.
"""

import zlib
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image

from camid_utils import cameras, simulate

VERSION = 1  # raise it when the same settings give other photos, so that old ones are made again
COMMON = {"Forchheim": (0, 2, 3, 5), "VISION": (0, 1, 4, 5)}  # rows of cameras.MODELS["FloreView"]; VISION has cousins
OTHERS = {  # fictional phones that FloreView lacks: brand, model, hardware and processing of which rows
    "Forchheim": (("Lumaro", "Q2", 0, 7), ("Tessvik", "N5", 3, 2)),
    "VISION": (("Lumaro", "Q4", 4, 1), ("Orvane", "T1", 6, 3)),
}
NETWORKS = {  # sides of a copy as a share of the photo's, JPEG quality
    "facebook": (0.5, 72),
    "instagram": (0.34, 75),
    "telegram": (0.4, 87),
    "twitter": (1.0, 85),
    "whatsapp": (0.4, 75),
}


def simulate_forchheim(
    root: str | Path,
    seed: int = 0,
    models: int = 8,
    scenes: int = 12,
    size: tuple[int, int] = (640, 480),
    workers: int = -1,
) -> Path:
    """Simulated phones in the layout of the Forchheim image database, each photo in its six versions.

    models: how many models simulated FloreView has, of which some are here (COMMON); scenes, each shot once by every
    device; size: nominal width and height; workers: processes, -1 for one a core. The photos
    depend on all else, never on the workers. Returns the root; see `simulate.build` for what may be in it.
    """
    return _simulate(root, "Forchheim", seed, models, scenes, size, workers)


def simulate_vision(
    root: str | Path,
    seed: int = 0,
    models: int = 8,
    scenes: int = 12,
    size: tuple[int, int] = (640, 480),
    workers: int = -1,
) -> Path:
    """Simulated phones in the layout of VISION, natural photos in their native version only; else as the above."""
    return _simulate(root, "VISION", seed, models, scenes, size, workers)


def make_devices(corpus: str, models: int, size: tuple[int, int], seed: int) -> pd.DataFrame:
    """A row a device, as in `simulate.make_devices`: those of COMMON among FloreView's first `models`, then OTHERS."""
    table = cameras.MODELS["FloreView"]
    if not 1 <= models <= len(table):
        raise ValueError(f"{models} models of simulated FloreView: give 1 to {len(table)}")
    own_seed = zlib.crc32(f"{corpus} {seed}".encode())  # not FloreView's, whose devices these are not
    pairs = simulate.make_devices("FloreView", len(table), 2, size, own_seed)
    known, strange = (pairs[pairs["device"] == i].reset_index(drop=True) for i in (0, 1))
    brands, names, hardware, processing = map(list, zip(*OTHERS[corpus], strict=True))
    steps = list(table.columns[table.columns.get_loc("demosaic") :])
    others = strange.loc[hardware].assign(brand=brands, model=names)
    others[steps] = strange.loc[processing, steps].to_numpy()
    return pd.concat([known.loc[[i for i in COMMON[corpus] if i < models]], others], ignore_index=True)


def plan(corpus: str, devices: pd.DataFrame, scenes: int) -> pd.DataFrame:
    """A row a photo: its device's row, with `unit`, `scene`, `shot` and `path`, as the corpus names its originals.

    Forchheim's spelling of a model differs from FloreView's, as in life.
    """
    if scenes < 1:
        raise ValueError(f"{scenes} scenes: give 1 or more")
    photos = devices.assign(unit=range(1, len(devices) + 1)).merge(pd.DataFrame({"scene": range(scenes)}), how="cross")
    photos["number"] = photos["scene"] + 1
    name = {
        "Forchheim": "D{p.unit:02d}_{p.brand}_{model}_1/orig/D{p.unit:02d}_img_orig_{p.number:04d}.jpg",
        "VISION": "D{p.unit:02d}_{p.brand}_{p.model}/images/nat/D{p.unit:02d}_I_nat_{p.number:04d}.jpg",
    }[corpus]
    paths = [name.format(p=photo, model=photo.model.lower()) for photo in photos.itertuples()]
    return photos.assign(shot=range(1, len(photos) + 1), path=paths)


def share(photo: Path) -> None:
    """Write the networks' copies of an original Forchheim photo beside its folder: smaller, saved again, no EXIF.

    What `degradation.degrade` calls "messenger SIDE QUALITY".
    """
    with Image.open(photo) as original:
        for network, (part, quality) in NETWORKS.items():
            small = original.resize([max(1, round(part * side)) for side in original.size], Image.Resampling.BILINEAR)
            folder = photo.parents[1] / network
            folder.mkdir(exist_ok=True)
            small.save(folder / photo.name.replace("orig", network), "JPEG", quality=quality, subsampling="4:2:0")


def _shoot(folder: Path, scene: int, photos: pd.DataFrame, kind: str, seed: int, size: tuple[int, int]) -> int:
    """Make one scene and write all photos of it, for Forchheim with the networks' copies; returns how many."""
    done = simulate.shoot(folder, kind, scene, photos, seed, size)
    if kind == "Forchheim":
        for path in photos["path"]:
            share(folder / path)
    return done


def _simulate(root: str | Path, corpus: str, seed: int, models: int, scenes: int, size: tuple[int, int], workers: int):
    """One of the two corpora, whole, in the root."""
    networks = "".join(f"{name}: sides x {part}, JPEG quality {q}\n" for name, (part, q) in NETWORKS.items())
    note = (
        "Simulated photographs: procedural scenes, simulated cameras with fictional names; none is real.\n"
        f"{corpus} layout, stand-in version={VERSION}.{simulate.VERSION} seed={seed} models={models} scenes={scenes} "
        f"size={size[0]}x{size[1]}\n" + (networks if corpus == "Forchheim" else "")
    )
    photos = plan(corpus, make_devices(corpus, models, size, seed), scenes)
    write = partial(_shoot, kind=corpus, seed=seed, size=size)
    return simulate.build(root, corpus, note, photos, write, workers, {})
