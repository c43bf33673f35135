"""What training will take on this machine, in time, memory and disk, measured over a few steps; and what is done."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from . import checkpoints, experiments, training, transfer
from .planning import Plan
from .progress import say

MOMENTS = {"sgd": 1, "adam": 2, "adamw": 2}  # tensors that an optimizer keeps for each tensor of weights
COLUMNS = ["run", "patches", "epochs", "done", "steps", "seconds", "memory", "disk", "by_folder"]


def costs(planned: dict[str, dict], **common) -> pd.DataFrame:
    """A row of `cost` for each run; what several runs have alike is measured once.

    planned: for each name the arguments of `cost` that are its own; common: those that all runs share. Both may hold
    whatever experiments.run takes.
    """
    speeds: dict = {}
    return pd.DataFrame([cost(name, **common | own, speeds=speeds) for name, own in planned.items()], columns=COLUMNS)


def cost(
    name: str,
    make_net: Callable[[int, Plan], nn.Module],
    store,
    plans: list[Plan],
    *,
    data_dir: str | Path,
    augment: nn.Module | None = None,
    copies: int | None = None,
    times: float = 1.0,
    train: np.ndarray | None = None,
    val: np.ndarray | None = None,
    folder: Path | None = None,
    speeds: dict | None = None,
    **settings,
) -> dict:
    """What the training of experiments.run(name, make_net, store, plans, ...) will still take, all seeds together.

    settings: those of training.fit. copies: only the classifier is trained, on transfer.features of so many copies that
    `augment` changed. times: the run will have so many times this store's patches, in a store that is not made yet.
    train, val, folder: of a direct training.fit, where they are not the plan's.
    Gives patches to train on; epochs, and those done; steps left; seconds for these and for validation (less if
    training stops early; the evaluation comes on top); memory of this process at its highest so far, and what is to
    be written, in bytes. Done is what the very same run finished; by_folder: what any run of the name did, as without
    its store the same cannot be told from another. No random stream is touched, and no network that is used later.
    """
    rows, speeds = [], {} if speeds is None else speeds
    fitted = settings | {"augment": augment if copies is None else None}
    for plan in plans:
        where = folder or experiments.run_path(data_dir, store.table["dataset"].iloc[0], name, plan.seed)
        parts = [plan.rows("train") if train is None else train, plan.rows("val") if val is None else val]
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(plan.seed)  # as in experiments.run
            net = make_net(len(plan.class_names), plan)
            trained, inputs, path = net, store.pixels, None
            if copies is not None:
                place = (settings["input_range"], Path(data_dir) / "features", augment, copies, plan.seed)
                path = transfer.features_path(net, store, *place)
                trained, inputs = net.classifier, np.load(path, mmap_mode="r") if path.is_file() else None
            row = _fit_cost(trained, inputs, plan.labels, parts, where, times, fitted | {"seed": plan.seed}, speeds)
            if row["steps"]:
                row["disk"] += _bytes(net.state_dict().values())  # the model file
                row["disk"] += round(store.pixels.nbytes * times) if times != 1 else 0
            if inputs is None and path not in speeds:
                speeds[path] = True  # computed once, whoever else shares them
                views = len(store.table) * (1 + copies)
                how = (net, store, settings["input_range"], augment)
                row["seconds"] += views * _once(speeds, repr(augment), _features_speed, *how)
                row["disk"] += views * net.features[-2].out_features * 4
        rows.append(row)
    sums = pd.DataFrame(rows)
    return {"run": name, **sums.sum(), "memory": sums["memory"].max(), "by_folder": times != 1}


def _fit_cost(trained, inputs, labels, parts, folder: Path, times: float, settings: dict, speeds: dict) -> dict:
    """What one training.fit will still take; inputs: None for features that are not there yet."""
    own = training.deciding(settings)
    done, size = _done(trained, inputs, labels, parts, folder, own, times != 1), own["batch_size"]
    left = own["epochs"] - done
    row = {"patches": round(len(parts[0]) * times), "epochs": own["epochs"], "done": done}
    steps, predictions = (left * -(-round(len(part) * times) // size) for part in parts)
    if not left:
        return row | {"steps": 0, "seconds": 0.0, "memory": 0, "disk": 0}
    rows = parts[0]
    if inputs is None:  # any will do
        inputs, rows = np.zeros((1, len(labels), trained[0].in_features), np.float32), rows[:size]
    alike = (str(trained), inputs.shape[1:] if inputs.ndim == 4 else "features", size, own["augment"], own["optimizer"])
    step, prediction, memory = _once(speeds, alike, _measured, trained, inputs, labels, rows, settings)
    disk = 2 * _bytes(trained.state_dict().values())
    disk += MOMENTS[own["optimizer"]] * _bytes(p for p in trained.parameters() if p.requires_grad)
    return row | {"steps": steps, "seconds": steps * step + predictions * prediction, "memory": memory, "disk": disk}


def _done(trained, inputs, labels, parts, folder: Path, settings: dict, by_folder: bool) -> int:
    """Epochs that need not be trained any more; all of them where training stopped early."""
    if inputs is None or not (folder / checkpoints.NAME).is_file():
        return 0
    key = None if by_folder else checkpoints.run_key(trained, inputs, labels, *parts, settings)
    history = checkpoints.finished(folder, key)
    over = training.out_of_patience(history, settings["select"], settings["patience"])
    return settings["epochs"] if over else min(len(history), settings["epochs"])


def _once(speeds: dict, key, measure: Callable, *arguments):
    """What was measured under the key, or is now."""
    if key not in speeds:
        speeds[key] = measure(*arguments)
    return speeds[key]


def _measured(trained, inputs, labels, rows, settings: dict) -> tuple[float, float, int]:
    """(seconds of a step, seconds of predicting a batch, bytes of memory at the highest so far); uses `trained` up."""
    step, prediction = training.speed(trained, inputs, labels, rows, settings)
    if torch.cuda.is_available():
        return step, prediction, torch.cuda.max_memory_allocated()
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return step, prediction, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _features_speed(net, store, input_range: str, augment, count: int = 128) -> float:
    """Seconds that transfer.features takes for a patch, measured on the first `count` and a copy of each."""
    few = store._replace(pixels=store.pixels[:count], table=store.table[:count])
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        views = transfer.features(net, few, input_range, scratch, augment, copies=1)
        return (time.perf_counter() - started) / views.shape[0] / views.shape[1]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.nbytes for t in tensors)


def table(costs: pd.DataFrame) -> pd.DataFrame:
    """`costs` to be read by people, with their sum."""
    total = costs.sum(numeric_only=True).to_dict() | {"run": "all", "by_folder": False, "patches": np.nan}
    rows = pd.concat([costs, pd.DataFrame([total])], ignore_index=True)
    columns = {
        "run": rows["run"],
        "patches": ["" if np.isnan(n) else f"{n:,.0f}" for n in rows["patches"]],
        "epochs": rows["epochs"].astype(int),
        "done": [f"{n:.0f}" + " (by folder)" * bool(by) for n, by in zip(rows["done"], rows["by_folder"], strict=True)],
        "steps left": [f"{n:,.0f}" for n in rows["steps"]],
        "time": [in_time(s) for s in rows["seconds"]],
        "disk": [in_bytes(b) for b in rows["disk"]],
    }
    return pd.DataFrame(columns).set_index("run")


def in_words(costs: pd.DataFrame, data_dir: str | Path) -> str:
    """What is done, what is left and whether the disk has room for it, in a few sentences."""
    done = int((costs["done"] == costs["epochs"]).sum())
    text = f"{done} of {len(costs)} runs are trained."
    if done == len(costs):
        return text + " What is left is to evaluate them."
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores"
    free, needed = shutil.disk_usage(_existing(Path(data_dir))).free, costs["disk"].sum()
    text += (
        f" To train the others takes about {in_time(costs['seconds'].sum())} on {device}, as a few steps say; then they"
    )
    text += f" are evaluated. Memory: {in_bytes(costs['memory'].max())} so far."
    text += f" Disk: {in_bytes(needed)} to write at most, {in_bytes(free)} free."
    return text + " THAT IS NOT ENOUGH ROOM: free some, or give another data_dir." * bool(needed > free)


def announce(costs: pd.DataFrame, data_dir: str | Path) -> None:
    """Print `in_words`; in a headless run in the terminal too."""
    say(in_words(costs, data_dir))


def _existing(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return folder if folder.is_dir() else _existing(folder.parent)


def in_time(seconds: float) -> str:
    """A duration in the unit that fits."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def in_bytes(count: float) -> str:
    """An amount of memory or disk in the unit that fits."""
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e6:.0f} MB"
