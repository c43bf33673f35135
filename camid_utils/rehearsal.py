"""Small simulated photos in the real data sets' numbers and names: a rehearsal before 60 GB are downloaded.

`python -m camid_utils.rehearsal` writes them (with `--listing dresden.csv` under Dresden's very file names and scenes);
profile `rehearsal` runs all notebooks on them.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from . import cameras, datasets, published, simulate
from .experiments import resolve

SCENES = 83  # of the natural images in Dresden's public listing
PHOTOS = 6637  # FloreView's, natural and flat; each model's published number of natural ones is raised in proportion
PHONES = 46  # devices in FloreView; which of its 40 models have more than one is told by the numbers of photos
SIZES = {"Dresden": (96, 72), "FloreView": (128, 96)}  # pixels: room for a patch of 48, for crops of 64
VERSION = 2  # raise it when the same settings give other photos, so that old ones are made again


def dresden_photos(listing: pd.DataFrame | None = None) -> pd.DataFrame:
    """A row a photo of the Dresden database: brand, model, device, scene (from 0), path; 16,961 of them.

    listing: the public one (columns of dresden.csv), whose names and scenes are taken. Without it the published
    numbers of photos and devices are dealt evenly over SCENES.
    """
    if listing is None:
        table = _dealt(published.read("dresden_models"))
        table["scene"] = table.groupby(["camera_model", "device"]).cumcount() % SCENES
        names = table["camera_model"] + "_" + table["device"].astype(str) + "_" + (table.index + 1).astype(str) + ".JPG"
    else:
        rows = listing.dropna(subset=["filename", "brand", "model", "instance"]).drop_duplicates("filename")
        table = rows.rename(columns={"instance": "device"})[["brand", "model", "device"]].reset_index(drop=True)
        places = (rows["position_num"].astype(str) + "-" + rows["motive_num"].astype(str)).to_numpy()
        table["scene"], names = pd.factorize(places)[0], rows["filename"].to_numpy()
        table["camera_model"] = table["brand"] + "_" + table["model"]
    return table.assign(path=table["camera_model"] + "/" + names)


def floreview_photos() -> pd.DataFrame:
    """A row a photo of FloreView: PHOTOS of 40 models by PHONES devices, the same columns; all named as natural ones.

    The models with most photos have two devices.
    """
    counts = published.read("floreview_models")  # natural photos as the authors had them: 6,265
    ends = (counts["photos"].cumsum() * PHOTOS / counts["photos"].sum()).round().astype(int)
    counts["photos"] = ends.diff().fillna(ends).astype(int)
    second = counts["photos"].nlargest(PHONES - len(counts)).index
    table = _dealt(counts.assign(devices=1 + counts.index.isin(second)))
    table["scene"] = table.groupby(["camera_model", "device"]).cumcount()
    unit = table.groupby(["camera_model", "device"], sort=False).ngroup() + 1
    prefix = "D" + unit.map("{:02d}".format)
    position = (table["scene"] // simulate.MOTIVES + 1).astype(str)
    motive = (table["scene"] % simulate.MOTIVES + 1).astype(str)
    folder = prefix + "_" + table["camera_model"] + "/Nat/jpeg-h264/L" + position + "/S" + motive + "/"
    return table.assign(path=folder + prefix + "_L" + position + "S" + motive + "C1.jpg")


def _dealt(counts: pd.DataFrame) -> pd.DataFrame:
    """A row a photo of each model (columns camera_model, photos, devices), dealt to its devices in turn."""
    table = counts.loc[counts.index.repeat(counts["photos"])].reset_index(drop=True)
    table["device"] = table.groupby("camera_model").cumcount() % table["devices"]
    table[["brand", "model"]] = table["camera_model"].str.split("_", n=1, expand=True)
    return table[["camera_model", "brand", "model", "device"]]


def with_cameras(photos: pd.DataFrame, kind: str, seed: int) -> pd.DataFrame:
    """The photos with a simulated camera each: a device's own, of one of the study's simulated models of that kind."""
    known = len(cameras.MODELS[kind])
    devices = photos[["camera_model", "device"]].drop_duplicates()
    model = pd.factorize(devices["camera_model"])[0]
    number = devices.groupby("camera_model").cumcount().to_numpy()
    most = number.max() + 1
    fleet = simulate.make_devices(kind, known, most * -(-len(set(model)) // known), SIZES[kind], seed)
    per_model = len(fleet) // known
    rows = (model % known) * per_model + (model // known) * most + number
    cameras_of = fleet.iloc[rows].drop(columns=["brand", "model", "device"]).reset_index(drop=True)
    table = photos.merge(pd.concat([devices.reset_index(drop=True), cameras_of], axis=1), on=["camera_model", "device"])
    return table.assign(shot=np.arange(1, len(table) + 1))


def make(root: str | Path, kind: str, listing: pd.DataFrame | None = None, seed: int = 0, workers: int = -1) -> Path:
    """Write the stand-in for a whole data set, "Dresden" or "FloreView", into the root, unless it is there."""
    photos = with_cameras(dresden_photos(listing) if kind == "Dresden" else floreview_photos(), kind, seed)
    names = "the published numbers" if listing is None else "the public listing"
    note = (
        "Simulated photographs under the real cameras' names, to rehearse a run at its real size; none is real.\n"
        f"{kind} layout, rehearsal version={VERSION}.{simulate.VERSION} seed={seed} names from {names}\n"
    )
    plan = photos.assign(
        position=photos["scene"] // simulate.MOTIVES + 1, motive=photos["scene"] % simulate.MOTIVES + 1
    )
    tables = {datasets.LISTING: simulate.listing(plan) if listing is None else listing} if kind == "Dresden" else {}
    write = partial(simulate.shoot, kind=kind, seed=seed, size=SIZES[kind])
    return simulate.build(root, kind, note, photos, write, workers, tables)


def main(arguments: list[str] | None = None) -> int:
    """Write both stand-ins; exit code 0, or 2 where that is not possible."""
    parser = argparse.ArgumentParser(prog="python -m camid_utils.rehearsal", description=__doc__)
    usual = resolve("data/rehearsal")
    parser.add_argument("--to", type=Path, default=usual, help="folder for both (default: data/rehearsal)")
    parser.add_argument("--listing", help="Dresden's public listing, dresden.csv: its file names and scenes are taken")
    options = parser.parse_args(arguments)
    try:
        listing = pd.read_csv(options.listing, dtype=str) if options.listing else None
        for kind in ("Dresden", "FloreView"):
            print(make(options.to / kind, kind, listing if kind == "Dresden" else None))
    except (ValueError, KeyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
