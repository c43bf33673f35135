"""Training: one explicit loop on Lightning Fabric, from stored uint8 pixels to the best epoch's weights.

`python -m camid_utils.training JOB` trains what a job file describes (write_job), and under
`torchrun --nproc-per-node 4 -m camid_utils.training JOB` four processes, one a GPU, divide each batch among them.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import augmentation, batches, checkpoints, models
from .batches import make_fabric
from .files import atomic_path, command, named_path, write_text
from .patches import open_store
from .project import progress

if TYPE_CHECKING:  # it takes a second to import
    from lightning_fabric import Fabric

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
CHECKPOINTS = 0.1  # share of the time that writing them may take; the first and the last are always written
REQUIRED = ("input_range", "epochs", "batch_size")
DEFAULTS = {
    "optimizer": "sgd",  # with momentum 0.9, as in the paper
    "learning_rate": 0.001,
    "weight_decay": 0.0,
    "patience": None,  # epochs without a lower validation loss before the rate falls or, at last, training ends
    "drops": 0,  # how many times the learning rate falls to a tenth
}


class History(NamedTuple):
    """What was recorded: one row per step, one row per epoch, and the epoch whose weights the network now has."""

    steps: pd.DataFrame  # epoch, step, loss, accuracy, gradient_norm
    epochs: pd.DataFrame  # epoch, train_loss, train_accuracy, val_loss, val_accuracy, val_precision
    best_epoch: int
    plateau: bool  # whether validation loss had stopped falling, by the settings' patience, when training ended


def hyperparameters(**chosen) -> dict:
    """The settings of a training run: those chosen, and DEFAULTS for the others; ValueError names what is wrong."""
    unknown, missing = set(chosen) - {*REQUIRED, *DEFAULTS}, set(REQUIRED) - set(chosen)
    if unknown or missing:
        raise ValueError(f"hyperparameters: unknown {sorted(unknown)}, missing {sorted(missing)}")
    settings = DEFAULTS | chosen
    if settings["optimizer"] not in OPTIMIZERS:
        raise ValueError(f"no optimizer named {settings['optimizer']!r}: choose one of {', '.join(OPTIMIZERS)}")
    for name, least in {"epochs": 1, "batch_size": 1, "patience": 0, "drops": 0}.items():
        if settings[name] is not None and (settings[name] < least or settings[name] != int(settings[name])):
            raise ValueError(f"{name}={settings[name]!r}: give a whole number, {least} or more")
    if not 0 <= settings["learning_rate"] < float("inf"):
        raise ValueError(f"learning_rate={settings['learning_rate']!r}: give a number, 0 or more")
    return settings


def fit(
    net: nn.Module, inputs: np.ndarray, labels: np.ndarray, train: np.ndarray, val: np.ndarray, settings: dict,
    folder: str | Path, *, augment: dict | None = None, seed: int = 0, fabric: "Fabric | None" = None,
    wandb_project: str = "", title: str = "training",
) -> History:  # fmt: skip
    """Train `net` in place; it ends on the CPU, with the weights of the epoch whose accuracy on `val` is best.

    inputs: uint8 images [N, h, w, 3], or float32 features [1 + copies, N, d] (transfer.features): first those of the
    original images, then those of augmented copies, which the epochs use in turn. labels: class numbers [N];
    train, val: row numbers. settings: those of `hyperparameters`. augment: changes of training images (augmentation).
    folder: gets steps.csv, epochs.csv and a checkpoint, from which the same call resumes after its last epoch; a
    second process with the same call waits for the first and then reads its result. Under torchrun each process takes
    its share of every batch: the figures are those of one process, but for rounding.
    """
    settings, augment = hyperparameters(**settings), augmentation.checked(augment)
    _check_rows(labels, train, val)
    fabric, folder = fabric or make_fabric(batches.training_precision(net)), Path(folder)
    first = fabric.global_rank == 0
    folder.mkdir(parents=True, exist_ok=True)
    key = checkpoints.run_key(net, inputs, labels, train, val, settings | {"augment": augment, "seed": seed})
    total = settings["epochs"] * -(-len(train) // settings["batch_size"])
    tracker = None
    if wandb_project and first:
        import wandb  # an extra; WANDB_MODE=offline keeps its runs on this machine

        tracker = wandb.init(project=wandb_project, name=title, config=settings, dir=folder, reinit="finish_previous")
    with (
        FileLock(folder / ".lock") if first else nullcontext(),
        progress(total=total, desc=title, unit="step", disable=not first) as bar,
        batches.divided(net, fabric) as whole,
        batches.set_up(net, fabric) as wrapped,
    ):
        fabric.barrier()  # until the first process has the lock
        opt = _optimizer(net, settings, fabric)
        steps, history, best = checkpoints.resume(folder, key, net, opt, fabric.device)
        bar.update(len(steps))
        data = inputs if _finished(history, settings) else batches.on_device(inputs, fabric.device)
        classes = torch.as_tensor(labels, dtype=torch.long, device=fabric.device)
        step = _train_step(net, wrapped, opt, fabric, settings, whole)
        logits = batches.logits_step(wrapped, settings["input_range"], fabric)
        wrote, cost = 0.0, 0.0  # when the last checkpoint was written, and the seconds that it took
        while not _finished(history, settings):
            epoch = len(history) + 1
            view = batches.epoch_view(data, epoch), classes, train
            _set_rate(opt, settings["learning_rate"] * 0.1 ** _plateaus(history, settings))
            rows = _train_epoch(step, net, fabric, view, settings, augment, [seed, epoch], whole, bar)
            predicted = _validate(logits, wrapped, fabric, data, val, settings)
            steps += [{"epoch": epoch, "step": len(steps) + i} | row for i, row in enumerate(rows, 1)]
            history.append(_epoch_metrics(epoch, rows, predicted, classes.cpu()[val]))
            if _best_epoch(history) == epoch:
                best = {name: t.detach().clone() for name, t in net.state_dict().items()}
            ended, begun = _finished(history, settings), time.monotonic()
            if first and (ended or begun - wrote > cost * (1 / CHECKPOINTS - 1)):
                resumable = () if ended else (net, opt)
                checkpoints.save(folder, key, best, steps, history, *resumable)
                wrote, cost = time.monotonic(), time.monotonic() - begun
            if tracker:
                for row in [*steps[-len(rows) :], history[-1]]:
                    tracker.log(row, step=row.get("step", len(steps)))
            bar.set_postfix({"epoch": epoch, "val. accuracy": f"{history[-1]['val_accuracy']:.3f}"})
    if tracker:
        tracker.finish()
    net.eval().load_state_dict(best)
    plateau = _plateaus(history, settings) > settings["drops"] and np.isfinite(history[-1]["val_loss"])
    return History(pd.DataFrame(steps), pd.DataFrame(history), _best_epoch(history), bool(plateau))


def _check_rows(labels: np.ndarray, train: np.ndarray, val: np.ndarray) -> None:
    """Raise a clear error for what would fail late or silently."""
    if not len(train) or not len(val):
        raise ValueError(f"nothing to train with: {len(train)} rows to train on, {len(val)} to validate on")
    if np.intersect1d(train, val).size:
        raise ValueError("training and validation share rows: split them first")
    if labels[train].min() < 0 or labels[val].min() < 0:
        raise ValueError("a row to train or validate on has no class (label -1)")


def _optimizer(net: nn.Module, settings: dict, fabric: "Fabric") -> torch.optim.Optimizer:
    """The optimizer of all weights that are not frozen; fused (one pass over them) where that exists."""
    trained = [p for p in net.parameters() if p.requires_grad]
    rate, name = settings["learning_rate"], settings["optimizer"]
    extra = {"momentum": 0.9} if name == "sgd" else {"capturable": batches.has_graphs(fabric)}
    fused = fabric.device.type in ("cpu", "cuda")
    return OPTIMIZERS[name](trained, lr=rate, weight_decay=settings["weight_decay"], fused=fused, **extra)


def _set_rate(opt: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate; on a GPU in place, as captured steps read the tensor."""
    for group in opt.param_groups:
        group["lr"] = group["lr"].fill_(rate) if isinstance(group["lr"], Tensor) else rate


def _train_step(net, wrapped, opt, fabric: "Fabric", settings: dict, whole: SimpleNamespace) -> Callable:
    """One step: a batch, its classes, draws of its augmentation -> this process's part of the three recorded numbers.

    On a GPU it is captured, and the learning rate is a tensor, so that a replay sees its present value.
    """
    world = fabric.world_size
    if batches.has_graphs(fabric):
        for group in opt.param_groups:
            group["lr"] = torch.tensor(group["lr"], device=fabric.device)

    def step(batch: Tensor, target: Tensor, **draws: Tensor) -> Tensor:
        opt.zero_grad()
        logits = wrapped(batches.as_input(augmentation.augmented(batch, draws), settings["input_range"]))
        loss = nn.functional.cross_entropy(logits, target, reduction="sum") / (whole.count / world)
        fabric.backward(loss)
        norm = nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])
        opt.step()
        return torch.stack([loss.detach() / world, (logits.argmax(1) == target).sum() / whole.count, norm / world])

    return batches.captured(step, fabric)


def _train_epoch(step, net, fabric, view, settings, augment, seed, whole, bar) -> list[dict]:
    """One pass over the training rows; one record per step, fetched from the device once, at the end.

    view: (inputs, classes, training rows) of this epoch.
    """
    inputs, classes, train = view
    rng, size = np.random.default_rng(seed), settings["batch_size"]
    torch.manual_seed(int(rng.integers(2**31)))  # dropout
    order = rng.permutation(train)
    draws = augmentation.draw(augment, len(order), rng)
    outside = any(step in augment for step in augmentation.DEGRADATIONS)  # chooses images by its draws, uses libjpeg
    if not outside:
        draws = {name: values.to(fabric.device) for name, values in draws.items()}
    classes = classes[torch.from_numpy(order).to(fabric.device)]
    shares = [slice(i + fabric.global_rank, i + size, fabric.world_size) for i in range(0, len(order), size)]
    records = torch.empty(len(shares), 3, device=fabric.device)
    net.train()
    for i, (_, batch) in enumerate(batches.batches(inputs, [order[share] for share in shares], fabric.device)):
        whole.count = min(size, len(order) - i * size)
        drawn = {name: values[shares[i]] for name, values in draws.items()}
        if outside:
            batch, drawn = augmentation.augmented(batch, drawn), {}
        records[i] = step(batch=batch, target=classes[shares[i]], **drawn)
        bar.update()
    records = fabric.all_reduce(records, reduce_op="sum").tolist()
    return [dict(zip(("loss", "accuracy", "gradient_norm"), row, strict=True)) for row in records]


def _validate(step: Callable, net, fabric: "Fabric", inputs, val: np.ndarray, settings: dict) -> Tensor:
    """Logits of the validation rows, which the processes divide among them."""
    world, rank = fabric.world_size, fabric.global_rank
    own = np.resize(val, (-(-len(val) // world), world))[:, rank]  # some rows twice, so that all have as many
    logits = batches.logits_of(net, fabric, inputs, own, settings["batch_size"], settings["input_range"], step)
    whole = torch.zeros(len(own), world, logits.shape[1], device=fabric.device)
    whole[:, rank] = logits.to(fabric.device)
    return fabric.all_reduce(whole, reduce_op="sum").flatten(0, 1)[: len(val)].cpu()


def _epoch_metrics(epoch: int, rows: list[dict], logits: Tensor, target: Tensor) -> dict:
    """One row of epochs.csv; precision: the mean over the classes that are true or predicted."""
    from sklearn.metrics import precision_score  # slow to import

    predicted = logits.argmax(1)
    return {
        "epoch": epoch,
        "train_loss": float(np.mean([row["loss"] for row in rows])),
        "train_accuracy": float(np.mean([row["accuracy"] for row in rows])),
        "val_loss": float(nn.functional.cross_entropy(logits, target)),
        "val_accuracy": float((predicted == target).float().mean()),
        "val_precision": float(precision_score(target, predicted, average="macro", zero_division=0)),
    }


def _best_epoch(history: list[dict]) -> int:
    """The first epoch with the best validation accuracy."""
    return 1 + int(np.argmax([row["val_accuracy"] for row in history]))


def _plateaus(history: list[dict], settings: dict) -> int:
    """How many times so far validation loss has not fallen for `patience` epochs."""
    if not settings["patience"]:
        return 0
    lowest, since, found = float("inf"), 0, 0
    for row in history:
        since = 0 if row["val_loss"] < lowest else since + 1
        lowest = min(lowest, row["val_loss"])
        if since == settings["patience"]:
            found, since = found + 1, 0
    return found


def _finished(history: list[dict], settings: dict) -> bool:
    """Whether all epochs are trained, or validation loss has stopped falling at the last learning rate."""
    return len(history) == settings["epochs"] or _plateaus(history, settings) > settings["drops"]


def write_job(
    net: nn.Module, part: str, inputs: np.ndarray, labels, train, val, settings: dict, folder: Path, **options
) -> None:
    """Write what `run_job` reads: job.json, and beside it the initial weights and the rows; arguments as for `fit`.

    part: "classifier" where that alone is trained, else "". Inputs that are in no file make no job.
    """
    if not isinstance(inputs, np.memmap):
        return
    file, trained = Path(inputs.filename), getattr(net, part) if part else net
    job = {
        "network": net.settings, "part": part, "precision": batches.training_precision(trained),
        "frozen": [name for name, weight in trained.named_parameters() if not weight.requires_grad],
        "inputs": os.path.relpath(file if file.suffix == ".npy" else file.parent, folder), "settings": settings,
    }  # fmt: skip
    with atomic_path(folder / "initial.safetensors") as partial:
        save_file({name: t.detach().cpu().contiguous() for name, t in trained.state_dict().items()}, partial)
    with atomic_path(folder / "rows.npz") as partial, open(partial, "wb") as opened:
        np.savez_compressed(opened, labels=labels, train=train, val=val)
    write_text(folder / "job.json", json.dumps(job | options, indent=2) + "\n")


def run_job(path: str | Path) -> History:
    """Train as a job file says; checkpoint and logs go to its folder, where the notebook that wrote it finds them.

    ValueError, with the path and the reason, if the job or a file that it names cannot be used.
    """
    folder = Path(path).parent
    try:
        job = json.loads(Path(path).read_text(encoding="utf-8"))
        net, part, source = models.build(job.pop("network")), job.pop("part"), folder / job.pop("inputs")
        net = getattr(net, part) if part else net
        net.load_state_dict(load_file(folder / "initial.safetensors"))
        for name in job.pop("frozen"):
            net.get_parameter(name).requires_grad_(False)
        inputs = np.load(source, mmap_mode="r") if source.is_file() else open_store(source).pixels
        fabric, rows = make_fabric(job.pop("precision")), dict(np.load(folder / "rows.npz"))
        hyperparameters(**job["settings"])
    except (AttributeError, LookupError, OSError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be trained: {type(error).__name__}: {error}") from error
    return fit(net, inputs, **rows, folder=folder, fabric=fabric, **job)


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line: the path of one job."""
    parser = argparse.ArgumentParser(prog="python -m camid_utils.training", description=main.__doc__)
    parser.add_argument("job", type=named_path, help="a job.json that a notebook wrote for a training")
    run_job(parser.parse_args(arguments).job)
    return 0


if __name__ == "__main__":
    sys.exit(main())
