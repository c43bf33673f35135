"""What the notebooks share: where things lie, which photographs, and one experiment from plan to metrics."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from . import datasets, evaluation, files, models, simulate, splits, training

PROJECT = Path(__file__).resolve().parents[1]  # the folder of notebooks/, results/ and data/
LOADERS = {"dresden": datasets.load_dresden, "floreview": datasets.load_floreview}
SIMULATORS = {"dresden": simulate.simulate_dresden, "floreview": simulate.simulate_floreview}


class Plan(NamedTuple):
    """Which row of a patch table is for what."""

    protocol: str
    target: str
    seed: int
    part: np.ndarray  # str [N]: train, val, test or unused
    labels: np.ndarray  # int [N]: class number, -1 for classes left out
    class_names: list[str]
    note: str  # for the reader: what was left out, why the protocol is not the one asked for, or that all is well

    def rows(self, part: str) -> np.ndarray:
        """Row numbers of a part."""
        return np.flatnonzero(self.part == part)


class Experiment(NamedTuple):
    """What an experiment leaves."""

    model: models.Model
    history: training.History
    predictions: pd.DataFrame  # of val and test, told apart by the column `part`
    metrics: pd.DataFrame


def resolve(path: str | Path) -> Path:
    """A parameter's path: relative ones start at the project's folder, wherever a notebook runs."""
    return PROJECT / Path(path).expanduser()


def photographs(
    kind: str, root: str, data_dir: str | Path, *, seed: int, models: int, devices: int, scenes: int, width: int
) -> pd.DataFrame:
    """Catalogue of the photos in `root`; where it is empty, of simulated ones, made in `data_dir` if not there.

    kind: "dresden" or "floreview". The other arguments are the simulation's; width in pixels, at 4:3.
    """
    if root:
        return LOADERS[kind](resolve(root))
    made = resolve(data_dir) / f"simulated-{kind}"
    SIMULATORS[kind](made, seed=seed, models=models, devices=devices, scenes=scenes, size=(width, width * 3 // 4))
    return LOADERS[kind](made)


def dataset_name(kind: str, root: str) -> str:
    """What the catalogue of `photographs` will be called, without reading it."""
    names = {"dresden": "Dresden", "floreview": "FloreView"}
    simulated = not root or (resolve(root) / datasets.SIMULATED).is_file()
    return ("simulated " if simulated else "") + names[kind]


def published_counts(catalogue: pd.DataFrame) -> pd.DataFrame | None:
    """Published photos by camera model (the index); None for data that nothing was published about."""
    table = datasets.compare_with_published(catalogue).dropna(subset=["published_photos"])
    if table.empty:
        return None
    return table.set_index("camera_model")["published_photos"].astype(float).to_frame("photos")


def absent_photos(catalogue: pd.DataFrame, root: str) -> pd.DataFrame:
    """Photos missing, left out or not listed, counted by camera model, against `dresden.csv` if it lies in `root`."""
    if not (resolve(root) / datasets.LISTING).is_file():
        return pd.DataFrame(columns=["camera_model", "status", "photos", "for example"])
    photos = datasets.missing_photos(catalogue, resolve(root)).groupby(["camera_model", "status"])["photo"]
    return photos.agg(["size", "first"]).set_axis(["photos", "for example"], axis=1).reset_index()


def short_paths(left_out: pd.DataFrame) -> pd.DataFrame:
    """A table of photos left out, without the folders they lie in."""
    column = left_out.columns[0]
    names = left_out[column].map(lambda path: Path(path).name)
    reasons = [r.replace(str(p), "").lstrip(": ") for p, r in zip(left_out[column], left_out["reason"], strict=True)]
    return pd.DataFrame({"photo": names.to_numpy(), "reason": reasons})


def protocol_parts(catalogue: pd.DataFrame, seed: int) -> tuple[dict[str, pd.Series], pd.DataFrame]:
    """The parts of a catalogue under each photo-based protocol that serves it, and a table of what each leaves out."""
    parts, notes = {}, []
    for protocol in splits.PROTOCOLS[1:]:
        try:
            kept, dropped = splits.splittable(catalogue, protocol, seed)
        except ValueError as error:
            notes.append([protocol, catalogue["camera_model"].nunique(), str(error)])
            continue
        parts[protocol] = splits.split(kept, protocol, seed)
        left = "; ".join(f"{row['class']}: {row['reason']}" for row in dropped.to_dict("records"))
        notes.append([protocol, dropped["class"].nunique(), left])
    return parts, pd.DataFrame(notes, columns=["protocol", "classes left out", "why"])


def slug(name: str) -> str:
    """A dataset's name as part of a file name."""
    return name.lower().replace(" ", "-")


def plan(table: pd.DataFrame, protocol: str, seed: int, target: str = "camera_model") -> Plan:
    """Split a patch table by `protocol`, or by the strictest weaker one that the data allow, and say so."""
    used, reason = splits.strictest(table, protocol, seed, target)
    kept, dropped = splits.splittable(table, used, seed, target)
    part = splits.split(kept, used, seed, target).reindex(table.index, fill_value="unused").to_numpy(str)
    names = sorted(kept[target].unique())
    labels = np.where(part == "unused", -1, pd.Index(names).get_indexer(table[target]))
    left = [f"{row['class']} is left out: {row['reason']}" for row in dropped.to_dict("records")]
    return Plan(
        used,
        target,
        seed,
        part,
        labels,
        names,
        "\n".join(filter(None, [reason, *left])) or "every class is in every part",
    )


def plan_table(table: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Patches, photos, scenes and devices in each part of a plan."""
    rows = table.assign(part=plan.part).groupby("part")
    counts = pd.DataFrame(
        {"patches": rows.size(), **{f"{c}s": rows[c].nunique() for c in ("photo", "scene", "device")}}
    )
    return counts.reindex([p for p in ("train", "val", "test", "unused") if p in counts.index])


def run(
    name: str,
    make_net: Callable[[int], nn.Module],
    store,
    plan: Plan,
    *,
    input_range: str,
    data_dir: str | Path,
    results_dir: str | Path,
    published: dict[str, float] | None = None,
    **settings,
) -> Experiment:
    """Train, keep the model, predict `val` and `test` once, score both per patch and per photo.

    Writes <data_dir>/models/<dataset>/<name>.safetensors and <results_dir>/predictions/<name>.parquet.
    settings: those of training.fit. `published` is set beside the validation figure, which is what the paper gives.
    """
    torch.manual_seed(plan.seed)
    net = make_net(len(plan.class_names))
    fabric = training.make_fabric()
    dataset = slug(store.table["dataset"].iloc[0])
    history = training.fit(
        net, store.pixels, plan.labels, plan.rows("train"), plan.rows("val"), input_range=input_range, seed=plan.seed,
        folder=Path(data_dir) / "runs" / dataset / name, fabric=fabric, title=name, **settings,
    )  # fmt: skip
    best = history.epochs.iloc[history.best_epoch - 1]
    info = {
        "experiment": name, "target": plan.target, "dataset": store.table["dataset"].iloc[0],
        "protocol": plan.protocol, "seed": plan.seed, "kind": store.folder.name.split("-")[0],
        "epoch": history.best_epoch, **{k: round(float(v), 6) for k, v in best.items() if k != "epoch"},
    }  # fmt: skip
    model = models.Model(net, plan.class_names, store.pixels.shape[1], input_range, info)
    models.save_model(model, model_path(data_dir, info["dataset"], name))
    parts = [evaluation.predict(model, store, plan.rows(p), fabric).assign(part=p) for p in ("val", "test")]
    predictions = pd.concat(parts, ignore_index=True)
    evaluation.save_predictions(predictions, Path(results_dir) / "predictions" / f"{name}.parquet")
    metrics = [
        evaluation.score(rows, experiment=name, protocol=plan.protocol, level=level, part=part, seed=plan.seed,
                         published=published if (part, level) == ("val", "patch") else None)
        for part, rows in zip(("val", "test"), parts, strict=True)
        for level in ("patch", "photo")
    ]  # fmt: skip
    return Experiment(model, history, predictions, pd.concat(metrics, ignore_index=True))


def model_path(data_dir: str | Path, dataset: str, name: str) -> Path:
    """Where the model of an experiment is kept."""
    return Path(data_dir) / "models" / slug(dataset) / f"{name}.safetensors"


def earlier_model(data_dir: str | Path, dataset: str, name: str, notebook: str) -> models.Model:
    """A model that another notebook trains; where it is missing, the error says which notebook to run first."""
    path = model_path(data_dir, dataset, name)
    if not path.is_file():
        raise FileNotFoundError(f"no model {name} for {dataset} yet: run notebook {notebook} with the same data first")
    return models.load_model(path)


def write_history(path: str | Path, runs: dict[str, training.History]) -> None:
    """One CSV of all epochs, with columns run and best (whether this epoch's weights were kept)."""
    tables = [h.epochs.assign(run=name, best=h.epochs["epoch"] == h.best_epoch) for name, h in runs.items()]
    with files.complete(path) as partial:
        pd.concat(tables).to_csv(partial, index=False, float_format="%.6g")


def environment() -> dict[str, str]:
    """Versions and hardware that figures may depend on."""
    packages = ("torch", "torchvision", "timm", "numpy", "pandas", "scikit-learn", "simplejpeg", "pillow", "kornia")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "platform": platform.platform(terse=True),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.machine(),
        "cores": str(os.cpu_count()),
        "gpu": device,
        "bfloat16": "yes" if training.bfloat16_processor() or torch.cuda.is_available() else "no",
    }


def commit() -> dict[str, str | bool | None]:
    """The commit that runs, and whether the tree was clean; None outside a clone."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", PROJECT, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "clean": not git("status", "--porcelain", "--", ".", ":!results")}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "clean": None}
