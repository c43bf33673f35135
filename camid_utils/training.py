"""Training: one explicit loop on Lightning Fabric, from stored uint8 pixels to the best epoch's weights."""

from __future__ import annotations

import contextlib
import hashlib
import json
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
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.metrics import precision_score
from torch import Tensor, nn

from .files import complete
from .models import to_input
from .progress import progress

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
SELECTIONS = {"val_accuracy": 1, "val_loss": -1}  # what the best epoch is best in, and its sign
FORMAT = 2  # of the checkpoints: raise it when the loop changes what it computes


class History(NamedTuple):
    """What was recorded: a row a step, a row an epoch, and the epoch whose weights the network now has."""

    steps: pd.DataFrame  # epoch, step, loss, accuracy, gradient_norm
    epochs: pd.DataFrame  # epoch, train_loss, train_accuracy, val_loss, val_accuracy, val_precision
    best_epoch: int


def make_fabric(devices: int | str = 1, precision: str = "auto") -> Fabric:
    """Fabric on the best device there is; bfloat16 autocast where the hardware multiplies in it, else float32."""
    fast = torch.cuda.is_bf16_supported(False) if torch.cuda.is_available() else bfloat16_processor()
    if precision == "auto":
        precision = "bf16-mixed" if fast else "32-true"
    fabric = Fabric(accelerator="auto", devices=devices, precision=precision)
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


def batches(inputs: np.ndarray, order: np.ndarray, size: int, device: torch.device) -> Iterator[tuple]:
    """(row numbers, batch on `device`): uint8 [n, 3, h, w] channels-last of images [N, h, w, 3], or rows of features.

    The next batch is gathered meanwhile.
    """
    chunks = [order[i : i + size] for i in range(0, len(order), size)]

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
    """
    _check(labels, train, val, optimizer, schedule, select)
    fabric = fabric or make_fabric()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "input_range": input_range, "epochs": epochs, "batch_size": batch_size, "optimizer": optimizer,
        "learning_rate": learning_rate, "momentum": momentum, "weight_decay": weight_decay, "schedule": schedule,
        "augment": repr(augment), "patience": patience, "select": select, "seed": seed,
    }  # fmt: skip
    key = _run_key(net, inputs, labels, train, val, settings)
    steps_per_epoch = -(-len(train[fabric.global_rank :: fabric.world_size]) // batch_size)
    opt, scheduler = _optimizer(net, settings, epochs * steps_per_epoch)
    wrapped, opt = fabric.setup(net.to(memory_format=torch.channels_last), opt)
    targets = torch.as_tensor(labels, dtype=torch.long)

    tracker = _wandb(wandb_project, title, settings, folder) if fabric.is_global_zero else None
    alone = FileLock(folder / ".lock") if fabric.is_global_zero else contextlib.nullcontext()
    with alone, progress(total=epochs * steps_per_epoch, desc=title, unit="step") as bar:
        steps, history, best = _resume(folder, key, net, opt, scheduler, fabric.device)
        bar.update(len(history) * steps_per_epoch)
        for epoch in range(len(history) + 1, epochs + 1):
            if _out_of_patience(history, select, patience):
                break
            rows = _train_epoch(wrapped, opt, scheduler, fabric, _view(inputs, epoch), targets, train, batch_size,
                                input_range, augment, [seed, epoch], bar)  # fmt: skip
            logits = logits_of(wrapped, fabric, inputs, val, batch_size, input_range)
            first = len(steps)
            steps += [{"epoch": epoch, "step": first + i + 1} | row for i, row in enumerate(rows)]
            history.append(_epoch_metrics(epoch, rows, logits, targets[val]))
            if _best_epoch(history, select) == epoch:
                best = {name: t.detach().clone() for name, t in net.state_dict().items()}
            if fabric.is_global_zero:
                _write_logs(folder, steps, history)
                _checkpoint(folder, key, net, opt, scheduler, best, steps, history)
                if tracker:
                    _track(tracker, steps[first:], history[-1])
            bar.set_postfix({"epoch": epoch, "val. accuracy": f"{history[-1]['val_accuracy']:.3f}"})
    if tracker:
        tracker.finish()
    net.load_state_dict(best)
    net.eval()
    return History(pd.DataFrame(steps), pd.DataFrame(history), _best_epoch(history, select))


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
    torch.manual_seed(int(rng.integers(2**31)))  # dropout and augmentation
    order = rng.permutation(train)[fabric.global_rank :: fabric.world_size]
    net.train()
    records = []
    for rows, batch in batches(inputs, order, batch_size, fabric.device):
        target = targets[rows].to(fabric.device, non_blocking=True)
        if augment is not None:
            batch = augment(batch.float() / 255) * 255
        logits = net(_enter(batch, input_range))
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


@torch.inference_mode()
def logits_of(net, fabric: Fabric, inputs, rows, batch_size: int, input_range: str) -> Tensor:
    """Logits float32 [len(rows), classes], on the processor, of a network set up by `fabric`; inputs: those of fit."""
    net.eval()
    inputs = _view(inputs)
    parts = [net(_enter(batch, input_range)).float() for _, batch in batches(inputs, rows, batch_size, fabric.device)]
    return torch.cat(parts).cpu()


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


def _out_of_patience(history: list[dict], select: str, patience: int | None) -> bool:
    return bool(history) and patience is not None and len(history) - _best_epoch(history, select) >= patience


def _run_key(net, inputs, labels, train, val, settings: dict) -> str:
    """Digest of all that decides the outcome: initial weights, data, split and settings."""
    digest = hashlib.sha256(json.dumps([FORMAT, settings, list(inputs.shape)]).encode())
    for tensor in net.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for array in (labels, train, val):
        digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    rows = np.arange(0, len(labels), max(1, len(labels) // 64))
    digest.update(np.ascontiguousarray(inputs[:, rows] if inputs.ndim == 3 else inputs[rows]).tobytes())
    return digest.hexdigest()


def _checkpoint(folder: Path, key: str, net, opt, scheduler, best: dict, steps: list, history: list) -> None:
    """All that the next epoch needs, in one safetensors file, complete or not there."""
    state = opt.state_dict()
    tensors = {f"net.{name}": t for name, t in net.state_dict().items()}
    tensors |= {f"best.{name}": t for name, t in best.items()}
    tensors |= {
        f"optimizer.{index}.{name}": t
        for index, values in state["state"].items()
        for name, t in values.items()
        if isinstance(t, Tensor)
    }
    meta = {"key": key, "groups": state["param_groups"], "scheduler": scheduler.last_epoch, "steps": steps,
            "history": history}  # fmt: skip
    with complete(folder / "checkpoint.safetensors") as partial:
        copies = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        save_file(copies, partial, {"meta": json.dumps(meta)})


def _resume(folder: Path, key: str, net, opt, scheduler, device) -> tuple[list, list, dict]:
    """(steps, history, best weights) of this very run's checkpoint, loaded into net, optimizer and scheduler."""
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return [], [], {}
    with safe_open(path, "pt", device=str(device)) as file:
        meta = json.loads(file.metadata()["meta"])
        if meta["key"] != key:
            return [], [], {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}

    def part(prefix: str) -> dict:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    state: dict[int, dict] = {}
    for name, tensor in part("optimizer.").items():
        index, field = name.split(".", 1)
        state.setdefault(int(index), {})[field] = tensor
    net.load_state_dict(part("net."))
    opt.load_state_dict({"state": state, "param_groups": meta["groups"]})
    scheduler.last_epoch = meta["scheduler"]
    return meta["steps"], meta["history"], part("best.")


def _write_logs(folder: Path, steps: list[dict], history: list[dict]) -> None:
    """steps.csv and epochs.csv, whole at every moment."""
    for name, rows in (("steps", steps), ("epochs", history)):
        with complete(folder / f"{name}.csv") as partial:
            pd.DataFrame(rows).to_csv(partial, index=False)


def _wandb(project: str | None, title: str, settings: dict, folder: Path):
    """A Weights & Biases run (an extra: `pip install wandb`), or None; WANDB_MODE=offline keeps it on this machine."""
    if project is None:
        return None
    try:
        import wandb
    except ImportError as error:
        raise ImportError('wandb is not installed: pip install "wandb", or leave wandb_project empty') from error
    return wandb.init(project=project, name=title, config=settings, dir=folder, reinit="finish_previous")


def _track(run: Callable, steps: list[dict], metrics: dict) -> None:
    for row in steps:
        run.log(row, step=row["step"])
    run.log(metrics, step=steps[-1]["step"])
