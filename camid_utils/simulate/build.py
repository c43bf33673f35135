"""Builds a folder of simulated photographs that the loaders of the real data sets read."""

from datetime import datetime, timedelta
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from PIL import Image

from ..catalogues import LISTING, SIMULATED
from ..files import exclusive_folder
from ..project import progress
from . import cameras, layouts
from .scenes import make_scene

VERSION = 2  # raise it when the same settings give other photos, so that old ones are made again
NETWORKS = {  # Forchheim's other versions, as we simulate them: factor of both sides, JPEG quality
    "facebook": (0.5, 72), "instagram": (0.34, 75), "telegram": (0.4, 87), "twitter": (1.0, 85), "whatsapp": (0.4, 75)
}  # fmt: skip


def simulate(
    kind: str, root: str | Path, *, seed: int = 0, models: int = 8, devices: int = 2, scenes: int = 24,
    shots: int = 1, own_scenes: bool = False, size: tuple[int, int] = (640, 480), workers: int = -1,
) -> Path:  # fmt: skip
    """Make a simulated data set in the layout of the real one, unless it is there already; returns the root.

    kind: a key of layouts.LAYOUTS; models: 1 to 8; devices per model; scenes: each is photographed by every device,
    `shots` times; own_scenes: by those of one model only, each model has as many of its own; size: nominal width and
    height. "flat" makes flat-field frames of FloreView's phones, one per scene: a bright wall, noise reduction off.
    Forchheim and VISION take some of FloreView's models and two others, one device each; "steps" takes all of
    cameras.STEPS, whatever `models` says. workers: processes, -1 for one per core. Simulated photos of other settings
    are replaced; other files in the root raise FileExistsError.
    """
    if kind not in layouts.LAYOUTS:
        raise ValueError(f"{kind!r} cannot be simulated: give one of {', '.join(layouts.LAYOUTS)}")
    devices = 1 if kind in layouts.COMMON else devices
    photos = layouts.plan(kind, seed, size, models, scenes, devices, shots, own_scenes)
    settings = f"models={models} devices={devices} scenes={scenes} shots={shots}" + " own_scenes" * own_scenes
    note = (
        "Simulated photographs: procedural scenes, simulated cameras with fictional names; none is real.\n"
        f"{layouts.LAYOUTS[kind].dataset} layout, version={VERSION} seed={seed} {settings} size={size[0]}x{size[1]}\n"
    )
    target = Path(root).resolve()
    if not _finished(target, note):
        with exclusive_folder(target) as aside:
            if not _finished(target, note):  # else another process made them while this one waited
                new = aside / "new"
                jobs = [joblib.delayed(_shoot)(new, kind, seed, size, *scene) for scene in photos.groupby("scene")]
                finished = joblib.Parallel(workers, return_as="generator_unordered")(jobs)
                list(progress(finished, "simulating", total=len(jobs), unit="scene"))
                if kind in layouts.LISTED:
                    layouts.dresden_listing(photos).to_csv(new / LISTING, index=False)
                (new / SIMULATED).write_text(note, encoding="utf-8")
                if target.exists():
                    target.rename(aside / "old")
                new.rename(target)
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
    dataset, start, _ = layouts.LAYOUTS[kind]
    flat = kind == "flat"
    scene = (cameras.make_wall if flat else make_scene)([seed, *dataset.encode(), 2, number], size)
    turned = scene._replace(light=np.ascontiguousarray(np.rot90(scene.light, axes=(1, 2))))
    for photo in photos.itertuples(index=False):
        rng = np.random.default_rng([seed, *dataset.encode(), 3, photo.shot])
        upright = kind not in layouts.LISTED and rng.random() < 0.25
        view = turned if upright else scene
        camera, grey = (photo._replace(denoise=0.0), cameras.BRIGHT) if flat else (photo, cameras.GREY)
        pixels = cameras.take_photo(view, camera, cameras.point(view, camera, rng), rng, grey)
        when = datetime.fromisoformat(start) + timedelta(days=number, seconds=30 * photo.shot)
        orientation = None if kind in layouts.LISTED else 6 if upright else 1
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
