"""Training: one explicit loop on Lightning Fabric, from stored uint8 pixels to the best epoch's weights."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import kornia.augmentation as K
import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from sklearn.metrics import precision_score
from torch import Tensor, nn
from torch.distributed import is_torchelastic_launched

from . import checkpoints, together
from .models import to_input
from .progress import progress

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # or it tells its precision at every call

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
SELECTIONS = {"val_accuracy": 1, "val_loss": -1}  # what the best epoch is best in, and its sign
DECIDING = ("input_range", "epochs", "batch_size", "optimizer", "learning_rate", "momentum", "weight_decay", "schedule",
            "augment", "patience", "select", "seed")  # fmt: skip


class History(NamedTuple):
    """What was recorded: a row a step, a row an epoch, and the epoch whose weights the network now has."""

    steps: pd.DataFrame  # epoch, step, loss, accuracy, gradient_norm
    epochs: pd.DataFrame  # epoch, train_loss, train_accuracy, val_loss, val_accuracy, val_precision
    best_epoch: int


def make_fabric(precision: str = "auto", joined: bool = False) -> Fabric:
    """Fabric on the best device there is; bfloat16 autocast where the hardware multiplies in it, else float32.

    In one of several processes that train together (see `distributed`) that device is the process's own.
    joined: with the other processes, where there are any; all of them must then make the same calls.
    """
    gpu = torch.cuda.is_available()
    fast = torch.cuda.is_bf16_supported(False) if gpu else bfloat16_processor()
    if precision == "auto":
        precision = "bf16-mixed" if fast else "32-true"
    place = dict(accelerator="auto", devices=1)
    if is_torchelastic_launched():
        own = [int(os.environ["LOCAL_RANK"])] if gpu else 1
        place = dict(accelerator="cuda" if gpu else "cpu", devices=own)
        if joined:
            here, nodes = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["GROUP_WORLD_SIZE"])
            # without broadcasts in the forward pass nothing but training steps waits for the other processes
            place |= dict(devices=here, num_nodes=nodes, strategy=DDPStrategy(broadcast_buffers=False))
    fabric = Fabric(precision=precision, **place)
    fabric.launch()
    return fabric


def bfloat16_processor() -> bool:
    """Whether the processor has bfloat16 instructions; without them bfloat16 is hundreds of times slower."""
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def augmentation(flip: bool = True, rotation: float = 0.0, jitter: float = 0.0) -> nn.Module:
    """Random changes of 0..1 images, a draw per sample, on the device.

    rotation: largest angle in degrees (resamples the pixels); jitter: of brightness and contrast, as a fraction.
    """
    steps = [K.RandomHorizontalFlip(p=0.5)] if flip else []
    steps += [K.RandomRotation(rotation, p=1.0)] if rotation else []
    steps += [K.ColorJitter(jitter, jitter, 0.0, 0.0, p=1.0)] if jitter else []
    return K.AugmentationSequential(*steps, data_keys=["input"]) if steps else nn.Identity()


def chunked(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Row numbers in batches of `size`; the last may have fewer."""
    return [order[i : i + size] for i in range(0, len(order), size)]


def batches(inputs: np.ndarray, chunks: list[np.ndarray], device: torch.device) -> Iterator[tuple]:
    """(row numbers, batch on `device`): uint8 [n, 3, h, w] channels-last of images [N, h, w, 3], or rows of features.

    chunks: the row numbers of each batch. The next batch is gathered meanwhile.
    """

    def gather(rows: np.ndarray) -> Tensor:
        batch = torch.from_numpy(inputs[rows])
        return batch.pin_memory() if device.type == "cuda" else batch

    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(gather, chunks[0]) if chunks else None
        for i, rows in enumerate(chunks):
            batch = upcoming.result()
            if i + 1 < len(chunks):
                upcoming = thread.submit(gather, chunks[i + 1])
            batch = batch.to(device, non_blocking=True)
            yield rows, batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch


def fit(
    net: nn.Module,
    inputs: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    *,
    input_range: str,
    epochs: int,
    batch_size: int,
    folder: str | Path,
    optimizer: str = "sgd",
    learning_rate: float = 0.001,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    schedule: str = "constant",
    augment: nn.Module | None = None,
    patience: int | None = None,
    select: str = "val_accuracy",
    seed: int = 0,
    fabric: Fabric | None = None,
    wandb_project: str | None = None,
    title: str = "training",
) -> History:
    """Train `net` in place and leave it with the weights of the epoch that is best on `val`.

    inputs: uint8 images [N, h, w, 3], or float32 features [1 + copies, N, d] of transfer.features: the first
    of the images as they are, the others of augmented copies, which the epochs see by turns.
    labels: class numbers [N]; train, val: row numbers into both.
    schedule: "constant" (the paper) or "one-cycle" (Smith 2018: up, then down to nothing).
    augment: applied to 0..1 images; patience: epochs without a better `select` before stopping.
    folder: gets steps.csv, epochs.csv and a checkpoint from which the same call goes on, epoch by epoch; a second
    process that is asked for the same run waits for the first and then has its result.
    Several processes (see `distributed`) share every batch: the steps, the checkpoint and its key are those of one
    process, the figures differ by rounding and by each process's own draws of dropout and augmentation.
    """
    settings = deciding(locals())
    _check(labels, train, val, optimizer, schedule, select)
    fabric = fabric or make_fabric(joined=True)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key = checkpoints.run_key(net, inputs, labels, train, val, settings)
    steps_per_epoch = -(-len(train) // batch_size)
    shared = together.synchronised(net, fabric)
    opt, scheduler = _optimizer(shared, settings, epochs * steps_per_epoch)
    wrapped, opt = fabric.setup(shared.to(memory_format=torch.channels_last), opt)
    targets = torch.as_tensor(labels, dtype=torch.long)

    first = fabric.is_global_zero  # the process that writes
    tracker = _wandb(wandb_project, title, settings, folder) if first else None
    alone = FileLock(folder / ".lock") if first else contextlib.nullcontext()
    with alone, progress(total=epochs * steps_per_epoch, desc=title, unit="step", disable=not first) as bar:
        fabric.barrier()  # until the first process is alone
        steps, history, best = checkpoints.resume(folder, key, shared, opt, scheduler, fabric.device)
        together.check_alike(fabric, key, len(history))
        bar.update(len(history) * steps_per_epoch)
        for epoch in range(len(history) + 1, epochs + 1):
            if out_of_patience(history, select, patience):
                break
            rows = _train_epoch(wrapped, opt, scheduler, fabric, _view(inputs, epoch), targets, train, batch_size,
                                input_range, augment, [seed, epoch], bar)  # fmt: skip
            logits = together.dealt(
                fabric, val, lambda rows: logits_of(wrapped, fabric, inputs, rows, batch_size, input_range)
            )
            before = len(steps)
            steps += [{"epoch": epoch, "step": before + i + 1} | row for i, row in enumerate(rows)]
            history.append(_epoch_metrics(epoch, rows, logits, targets[val]))
            if _best_epoch(history, select) == epoch:
                best = {name: t.detach().clone() for name, t in shared.state_dict().items()}
            if first:
                checkpoints.save(folder, key, shared, opt, scheduler, best, steps, history)
                if tracker:
                    _track(tracker, steps[before:], history[-1])
            bar.set_postfix({"epoch": epoch, "val. accuracy": f"{history[-1]['val_accuracy']:.3f}"})
        fabric.barrier()  # until all is written
    if tracker:
        tracker.finish()
    net.load_state_dict(best)
    net.eval()
    return History(pd.DataFrame(steps), pd.DataFrame(history), _best_epoch(history, select))


def deciding(arguments: dict) -> dict:
    """Of arguments of `fit`: the settings that decide what it comes to; its defaults for those not given."""
    known = {name: p.default for name, p in inspect.signature(fit).parameters.items()} | arguments
    return {name: known[name] for name in DECIDING} | {"augment": repr(known["augment"])}


def speed(net: nn.Module, inputs: np.ndarray, labels: np.ndarray, rows: np.ndarray, settings: dict) -> tuple:
    """(seconds of a training step, seconds of predicting a batch) of `fit` with these settings, on `rows` of inputs.

    One batch warms up, two are timed; where the first takes long, it is what counts. Afterwards `net` is another, and
    torch's random state too.
    """
    fabric, size = make_fabric(), settings["batch_size"]
    opt, scheduler = _optimizer(net, deciding(settings), 3)
    wrapped, opt = fabric.setup(net.to(memory_format=torch.channels_last), opt)
    targets, few = torch.as_tensor(labels, dtype=torch.long), np.resize(rows, 2 * size)
    view, how = _view(inputs, 1), (settings["input_range"], settings.get("augment"))

    def train(rows: np.ndarray) -> None:
        _train_epoch(wrapped, opt, scheduler, fabric, view, targets, rows, size, *how, [0, 0], progress(disable=True))

    def predict(rows: np.ndarray) -> None:
        logits_of(wrapped, fabric, inputs, rows, size, settings["input_range"])

    def seconds(job: Callable, rows: np.ndarray) -> float:
        started = time.perf_counter()
        job(rows)
        return (time.perf_counter() - started) / -(-len(rows) // size)

    return tuple(first if (first := seconds(job, few[:size])) > 5 else seconds(job, few) for job in (train, predict))


def _optimizer(net: nn.Module, settings: dict, steps: int) -> tuple:
    """The optimizer of what is not frozen, in its fused form (one pass over the weights), and its schedule."""
    trained = [p for p in net.parameters() if p.requires_grad]
    rate, name = settings["learning_rate"], settings["optimizer"]
    extra = {"momentum": settings["momentum"]} if name == "sgd" else {}
    opt = OPTIMIZERS[name](trained, lr=rate, weight_decay=settings["weight_decay"], fused=True, **extra)
    if settings["schedule"] == "one-cycle":
        return opt, torch.optim.lr_scheduler.OneCycleLR(opt, rate, total_steps=steps)
    return opt, torch.optim.lr_scheduler.ConstantLR(opt, factor=1.0)


def _view(inputs: np.ndarray, epoch: int = 0) -> np.ndarray:
    """What an epoch trains on: images as they are; of features, the augmented copies by turns. 0: for validation."""
    if inputs.ndim != 3:
        return inputs
    return inputs[1 + (epoch - 1) % (len(inputs) - 1)] if epoch and len(inputs) > 1 else inputs[0]


def _enter(batch: Tensor, input_range: str) -> Tensor:
    """A batch as the network takes it: images in their input range, features as they are."""
    return to_input(batch, input_range) if batch.ndim == 4 else batch


def _check(labels, train, val, optimizer, schedule, select) -> None:
    """Early, clear errors for what would fail late or silently."""
    for name, value, known in (
        ("optimizer", optimizer, OPTIMIZERS),
        ("selection", select, SELECTIONS),
        ("schedule", schedule, ("constant", "one-cycle")),
    ):
        if value not in known:
            raise ValueError(f"no {name} named {value!r}: choose one of {', '.join(known)}")
    if not len(train) or not len(val):
        raise ValueError(f"nothing to train with: {len(train)} rows to train on, {len(val)} to validate on")
    if np.intersect1d(train, val).size:
        raise ValueError("training and validation share rows: split them first")
    if labels[train].min() < 0 or labels[val].min() < 0:
        raise ValueError("a row to train or validate on has no class (label -1)")


def _train_epoch(
    net, opt, scheduler, fabric, inputs, targets, train, batch_size, input_range, augment, seed, bar
) -> list[dict]:
    """One pass over `train`; a row a step, fetched from the device once, at the end."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(int(rng.integers(2**31)) + fabric.global_rank)  # dropout and augmentation
    chunks = chunked(rng.permutation(train), batch_size)
    own, weights = together.shares(chunks, fabric.global_rank, fabric.world_size)
    net.train()
    records = []
    for (rows, batch), weight in zip(batches(inputs, own, fabric.device), weights, strict=True):
        target = targets[rows].to(fabric.device, non_blocking=True)
        if augment is not None:
            batch = augment(batch.float() / 255) * 255
        logits = net(_enter(batch, input_range))
        loss = nn.functional.cross_entropy(logits, target) * weight
        opt.zero_grad()
        fabric.backward(loss)
        norm = nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])
        opt.step()
        scheduler.step()
        records.append(torch.stack([loss.detach(), (logits.argmax(1) == target).float().mean() * weight, norm]))
        bar.update()
    together.average(fabric, net)
    values = fabric.all_reduce(torch.stack(records)).tolist()
    return [dict(zip(("loss", "accuracy", "gradient_norm"), row, strict=True)) for row in values]


@torch.inference_mode()
def logits_of(net, fabric: Fabric, inputs, rows, batch_size: int, input_range: str) -> Tensor:
    """Logits float32 [len(rows), classes], on the processor, of a network set up by `fabric`; inputs: those of fit."""
    net.eval()
    inputs = _view(inputs)
    chunks = chunked(np.asarray(rows), batch_size)
    return torch.cat([net(_enter(x, input_range)).float() for _, x in batches(inputs, chunks, fabric.device)]).cpu()


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


def out_of_patience(history: list[dict], select: str, patience: int | None) -> bool:
    """Whether training stops before its last epoch: `patience` epochs went by without a better `select`."""
    return bool(history) and patience is not None and len(history) - _best_epoch(history, select) >= patience


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
    for row in steps:
        run.log(row, step=row["step"])
    run.log(metrics, step=steps[-1]["step"])
