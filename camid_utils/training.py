"""Training: one explicit loop on Lightning Fabric, from stored uint8 pixels to the best epoch's weights."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from lightning_fabric import Fabric
from sklearn.metrics import precision_score
from torch import Tensor, nn

from . import checkpoints
from .batches import as_input, batch_rows, batches, epoch_view, logits_of, make_fabric
from .project import progress

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
SELECTIONS = {"val_accuracy": 1, "val_loss": -1}  # what the best epoch is best in, and its sign
SCHEDULES = ("constant", "one-cycle")  # the paper's; Smith 2018: the learning rate rises, then falls to zero
REQUIRED = ("input_range", "epochs", "batch_size")
DEFAULTS = {
    "optimizer": "sgd",
    "learning_rate": 0.001,
    "momentum": 0.9,  # of sgd
    "weight_decay": 0.0,
    "schedule": "constant",
    "patience": None,  # epochs without a better `select` before training stops
    "select": "val_accuracy",
}


class History(NamedTuple):
    """What was recorded: one row per step, one row per epoch, and the epoch whose weights the network now has."""

    steps: pd.DataFrame  # epoch, step, loss, accuracy, gradient_norm
    epochs: pd.DataFrame  # epoch, train_loss, train_accuracy, val_loss, val_accuracy, val_precision
    best_epoch: int


def hyperparameters(**chosen) -> dict:
    """The settings of a training run: those chosen, and DEFAULTS for the others; ValueError names what is wrong."""
    unknown, missing = set(chosen) - {*REQUIRED, *DEFAULTS}, set(REQUIRED) - set(chosen)
    if unknown or missing:
        raise ValueError(f"hyperparameters: unknown {sorted(unknown)}, missing {sorted(missing)}")
    settings = DEFAULTS | chosen
    for name, known in (("optimizer", OPTIMIZERS), ("select", SELECTIONS), ("schedule", SCHEDULES)):
        if settings[name] not in known:
            raise ValueError(f"no {name} named {settings[name]!r}: choose one of {', '.join(known)}")
    return settings


def fit(
    net: nn.Module,
    inputs: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    settings: dict,
    folder: str | Path,
    *,
    augment: nn.Module | None = None,
    seed: int = 0,
    fabric: Fabric | None = None,
    wandb_project: str | None = None,
    title: str = "training",
) -> History:
    """Train `net` in place and leave it with the weights of the epoch that is best on `val`.

    inputs: uint8 images [N, h, w, 3], or float32 features [1 + copies, N, d] (transfer.features): first those of the
    original images, then those of augmented copies, which the epochs use in turn. labels: class numbers [N];
    train, val: row numbers. settings: those of `hyperparameters`. augment: applied to 0..1 images.
    folder: gets steps.csv, epochs.csv and a checkpoint from which the same call resumes after the last full epoch; a
    second process with the same call waits for the first and then reads its result.
    """
    settings = hyperparameters(**settings)
    _check_rows(labels, train, val)
    fabric, folder = fabric or make_fabric(), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key = checkpoints.run_key(net, inputs, labels, train, val, settings | {"augment": repr(augment), "seed": seed})
    total = settings["epochs"] * -(-len(train) // settings["batch_size"])
    opt, scheduler = _optimizer(net, settings, total)
    wrapped, opt = fabric.setup(net.to(memory_format=torch.channels_last), opt)
    targets = torch.as_tensor(labels, dtype=torch.long)
    tracker = _wandb(wandb_project, title, settings, folder)
    with FileLock(folder / ".lock"), progress(total=total, desc=title, unit="step") as bar:
        steps, history, best = checkpoints.resume(folder, key, net, opt, scheduler, fabric.device)
        bar.update(len(steps))
        for epoch in range(len(history) + 1, settings["epochs"] + 1):
            if _out_of_patience(history, settings):
                break
            view = epoch_view(inputs, epoch), targets, train
            rows = _train_epoch(wrapped, opt, scheduler, fabric, view, settings, augment, [seed, epoch], bar)
            logits = logits_of(wrapped, fabric, inputs, val, settings["batch_size"], settings["input_range"])
            steps += [{"epoch": epoch, "step": len(steps) + i} | row for i, row in enumerate(rows, 1)]
            history.append(_epoch_metrics(epoch, rows, logits, targets[val]))
            if _best_epoch(history, settings["select"]) == epoch:
                best = {name: t.detach().clone() for name, t in net.state_dict().items()}
            checkpoints.save(folder, key, net, opt, scheduler, best, steps, history)
            _track(tracker, steps[-len(rows) :], history[-1])
            bar.set_postfix({"epoch": epoch, "val. accuracy": f"{history[-1]['val_accuracy']:.3f}"})
    if tracker:
        tracker.finish()
    net.load_state_dict(best)
    net.eval()
    return History(pd.DataFrame(steps), pd.DataFrame(history), _best_epoch(history, settings["select"]))


def _check_rows(labels: np.ndarray, train: np.ndarray, val: np.ndarray) -> None:
    """Raise a clear error for what would fail late or silently."""
    if not len(train) or not len(val):
        raise ValueError(f"nothing to train with: {len(train)} rows to train on, {len(val)} to validate on")
    if np.intersect1d(train, val).size:
        raise ValueError("training and validation share rows: split them first")
    if labels[train].min() < 0 or labels[val].min() < 0:
        raise ValueError("a row to train or validate on has no class (label -1)")


def _optimizer(net: nn.Module, settings: dict, steps: int) -> tuple:
    """The optimizer of all weights that are not frozen, in its fused form (one pass over them), and its schedule."""
    trained = [p for p in net.parameters() if p.requires_grad]
    rate, name = settings["learning_rate"], settings["optimizer"]
    extra = {"momentum": settings["momentum"]} if name == "sgd" else {}
    opt = OPTIMIZERS[name](trained, lr=rate, weight_decay=settings["weight_decay"], fused=True, **extra)
    if settings["schedule"] == "one-cycle":
        return opt, torch.optim.lr_scheduler.OneCycleLR(opt, rate, total_steps=steps)
    return opt, torch.optim.lr_scheduler.ConstantLR(opt, factor=1.0)


def _train_epoch(net, opt, scheduler, fabric, view, settings, augment, seed, bar) -> list[dict]:
    """One pass over the training rows; one record per step, fetched from the device once, at the end.

    view: (inputs, targets, training rows) of this epoch.
    """
    inputs, targets, train = view
    rng = np.random.default_rng(seed)
    torch.manual_seed(int(rng.integers(2**31)))  # dropout and augmentation
    chunks = batch_rows(rng.permutation(train), settings["batch_size"])
    net.train()
    records = []
    for rows, batch in batches(inputs, chunks, fabric.device):
        target = targets[rows].to(fabric.device, non_blocking=True)
        if augment is not None:
            batch = augment(batch.float() / 255) * 255
        logits = net(as_input(batch, settings["input_range"]))
        loss = nn.functional.cross_entropy(logits, target)
        opt.zero_grad()
        fabric.backward(loss)
        norm = nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])
        opt.step()
        scheduler.step()
        records.append(torch.stack([loss.detach(), (logits.argmax(1) == target).float().mean(), norm]))
        bar.update()
    values = torch.stack(records).tolist()
    return [dict(zip(("loss", "accuracy", "gradient_norm"), row, strict=True)) for row in values]


def _epoch_metrics(epoch: int, rows: list[dict], logits: Tensor, target: Tensor) -> dict:
    """One row of epochs.csv."""
    predicted = logits.argmax(1)
    return {
        "epoch": epoch,
        "train_loss": float(np.mean([row["loss"] for row in rows])),
        "train_accuracy": float(np.mean([row["accuracy"] for row in rows])),
        "val_loss": float(nn.functional.cross_entropy(logits, target)),
        "val_accuracy": float((predicted == target).float().mean()),
        "val_precision": float(precision_score(target, predicted, average="macro", zero_division=0)),
    }


def _best_epoch(history: list[dict], select: str) -> int:
    """The first epoch with the best value of `select`; a value that is not a number is never best."""
    values = [SELECTIONS[select] * row[select] for row in history]
    return 1 + int(np.argmax(np.nan_to_num(values, nan=-np.inf)))


def _out_of_patience(history: list[dict], settings: dict) -> bool:
    """Whether `patience` epochs went by without a better value of `select`."""
    patience = settings["patience"]
    if not history or patience is None:
        return False
    return len(history) - _best_epoch(history, settings["select"]) >= patience


def _wandb(project: str | None, title: str, settings: dict, folder: Path):
    """A Weights & Biases run (an extra: `pip install wandb`), or None; WANDB_MODE=offline keeps it on this machine."""
    if project is None:
        return None
    try:
        import wandb
    except ImportError as error:
        raise ImportError('wandb is not installed: pip install "wandb", or leave wandb_project empty') from error
    return wandb.init(project=project, name=title, config=settings, dir=folder, reinit="finish_previous")


def _track(run, steps: list[dict], metrics: dict) -> None:
    """Send an epoch's records to Weights & Biases, if they are tracked there."""
    if run:
        for row in steps:
            run.log(row, step=row["step"])
        run.log(metrics, step=steps[-1]["step"])
