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

from . import adaptation, datasets, evaluation, files, models, simulate, training
from .planning import Plan

PROJECT = Path(__file__).resolve().parents[1]  # the folder of notebooks/, results/ and data/
LOADERS = {"dresden": datasets.load_dresden, "floreview": datasets.load_floreview}
SIMULATORS = {"dresden": simulate.simulate_dresden, "floreview": simulate.simulate_floreview}


class Experiment(NamedTuple):
    """What an experiment leaves, a model and a history for each seed."""

    name: str
    protocol: str
    models: list[models.Model]
    histories: list[training.History]
    predictions: pd.DataFrame  # of val and test, told apart by the column `part`, under all seeds (column `seed`)
    metrics: pd.DataFrame

    def test(self) -> pd.DataFrame:
        """Predictions of the test part."""
        return self.predictions[self.predictions["part"] == "test"]


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


def slug(name: str) -> str:
    """A dataset's name as part of a file name."""
    return name.lower().replace(" ", "-")


def run(
    name: str,
    make_net: Callable[[int, Plan], nn.Module],
    store,
    plans: list[Plan],
    *,
    input_range: str,
    data_dir: str | Path,
    results_dir: str | Path,
    features: list[np.ndarray] | None = None,
    published: dict[str, float] | None = None,
    **settings,
) -> Experiment:
    """Train, keep the model, predict `val` and `test` once, for each plan; score both per patch and per photo.

    make_net(classes, plan) gives the network to train. features: for each plan, what the frozen part of its network
    makes of the store (transfer.features); only the classifier is trained then.
    Writes <data_dir>/models/<dataset>/<name>-<seed>.safetensors and <results_dir>/predictions/<name>.parquet.
    settings: those of training.fit. `published` is set beside the validation figure, which is what the paper gives.
    """
    if len(used := {plan.protocol for plan in plans}) > 1:
        raise ValueError(f"{name}: the seeds' plans follow different protocols ({', '.join(sorted(used))})")
    fabric = training.make_fabric()
    found, histories, tables = [], [], []
    for i, plan in enumerate(plans):
        known = None if features is None else features[i]
        model, history = _train(name, make_net, store, plan, known, input_range, data_dir, settings)
        for part in ("val", "test"):
            rows = evaluation.predict(model, store, plan.rows(part), fabric, features=known)
            tables.append(rows.assign(part=part, seed=plan.seed))
        found.append(model)
        histories.append(history)
    predictions = pd.concat(tables, ignore_index=True)
    evaluation.save_predictions(predictions, Path(results_dir) / "predictions" / f"{name}.parquet")
    metrics = [
        evaluation.score(predictions[predictions["part"] == part], experiment=name, protocol=plans[0].protocol,
                         level=level, part=part, seed=plans[0].seed,
                         published=published if (part, level) == ("val", "patch") else None)
        for part in ("val", "test")
        for level in ("patch", "photo")
    ]  # fmt: skip
    return Experiment(name, plans[0].protocol, found, histories, predictions, pd.concat(metrics, ignore_index=True))


def _train(
    name, make_net, store, plan, features, input_range, data_dir, settings
) -> tuple[models.Model, training.History]:
    """One seed's model, written to its file, and the history of its training."""
    fabric = training.make_fabric(joined=True)
    torch.manual_seed(plan.seed)
    net = make_net(len(plan.class_names), plan)
    dataset = store.table["dataset"].iloc[0]
    trained, inputs = (net, store.pixels) if features is None else (net.classifier, features)
    history = training.fit(
        trained, inputs, plan.labels, plan.rows("train"), plan.rows("val"), input_range=input_range, seed=plan.seed,
        folder=run_path(data_dir, dataset, name, plan.seed), fabric=fabric, title=name, **settings,
    )  # fmt: skip
    best = history.epochs.iloc[history.best_epoch - 1]
    info = {
        "experiment": name, "target": plan.target, "dataset": dataset,
        "protocol": plan.protocol, "seed": plan.seed, "kind": store.folder.name.split("-")[0],
        "epoch": history.best_epoch, **{k: round(float(v), 6) for k, v in best.items() if k != "epoch"},
    }  # fmt: skip
    model = models.Model(net.eval(), plan.class_names, store.pixels.shape[1], input_range, info)
    if fabric.is_global_zero:
        models.save_model(model, model_path(data_dir, dataset, name, plan.seed))
    return model, history


def tested_on(run: Experiment, store, adapt: bool = False, batch_size: int = 64) -> pd.DataFrame:
    """Predictions of a run's test photos as they are in another store, for example after a degradation.

    adapt: first take the batch normalisations' statistics from those very photos, without their labels
    (adaptation.renormalised).
    """
    tables, tests = [], run.test()
    for model in run.models:
        photos = tests.loc[tests["seed"] == model.info["seed"], "photo"]
        rows = np.flatnonzero(store.table["photo"].isin(photos))
        if adapt:
            device = next(model.net.parameters()).device
            chunks = np.array_split(rows, -(-len(rows) // batch_size))  # of about one size: each counts alike
            pixels = (torch.from_numpy(store.pixels[chunk]).to(device).permute(0, 3, 1, 2) for chunk in chunks)
            batches = (models.to_input(batch, model.input_range) for batch in pixels)
            model = model._replace(net=adaptation.renormalised(model.net, batches))
        tables.append(evaluation.predict(model, store, rows).assign(part="test", seed=model.info["seed"]))
    return pd.concat(tables, ignore_index=True)


def test_photos(runs: list[Experiment], catalogue: pd.DataFrame) -> pd.DataFrame:
    """The photos of a catalogue that one of the runs was tested on."""
    tested = set().union(*(run.test()["photo"] for run in runs))
    return catalogue[datasets.relative_photos(catalogue).isin(tested)].reset_index(drop=True)


def model_path(data_dir: str | Path, dataset: str, name: str, seed: int) -> Path:
    """Where the model of an experiment is kept."""
    return Path(data_dir) / "models" / slug(dataset) / f"{name}-{seed}.safetensors"


def run_path(data_dir: str | Path, dataset: str, name: str, seed: int) -> Path:
    """Where the checkpoint and the logs of an experiment's training are kept."""
    return Path(data_dir) / "runs" / slug(dataset) / f"{name}-{seed}"


def earlier_model(data_dir: str | Path, dataset: str, name: str, seed: int, notebook: str) -> models.Model:
    """A model that another notebook trains; where it is missing, the error says which notebook to run first."""
    path = model_path(data_dir, dataset, name, seed)
    if not path.is_file():
        wanted = f"no model {name} for {dataset} and seed {seed} yet"
        raise FileNotFoundError(f"{wanted}: run notebook {notebook} with the same data and seeds first")
    return models.load_model(path)


def write_history(path: str | Path, runs: list[Experiment]) -> None:
    """One CSV of all epochs, with columns run, seed and best (whether this epoch's weights were kept)."""
    tables = [
        h.epochs.assign(run=run.name, seed=model.info["seed"], best=h.epochs["epoch"] == h.best_epoch)
        for run in runs
        for model, h in zip(run.models, run.histories, strict=True)
    ]
    files.write_csv(path, pd.concat(tables))


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
