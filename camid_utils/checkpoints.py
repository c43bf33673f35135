"""Checkpoints: what training writes after every epoch, so that an interrupted run resumes bit for bit."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .files import atomic_path

FORMAT = 3  # raise it when the training loop changes what it computes
NAME = "checkpoint.safetensors"


def run_key(net: nn.Module, inputs: np.ndarray, labels, train, val, settings: dict) -> str:
    """Digest of everything that decides a run's outcome: initial weights, a sample of the data, split, settings."""
    digest = hashlib.sha256(json.dumps([FORMAT, settings, list(inputs.shape)]).encode())
    for tensor in net.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for array in (labels[train], labels[val], train, val):
        digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    rows = np.arange(0, len(labels), max(1, len(labels) // 64))
    digest.update(np.ascontiguousarray(inputs[:, rows] if inputs.ndim == 3 else inputs[rows]).tobytes())
    return digest.hexdigest()


def save(folder: Path, key: str, net, opt, scheduler, best: dict[str, Tensor], steps: list, history: list) -> None:
    """Write everything that the next epoch needs to one safetensors file, atomically, and the logs beside it as CSV."""
    for name, rows in (("steps", steps), ("epochs", history)):
        with atomic_path(folder / f"{name}.csv") as partial:
            pd.DataFrame(rows).to_csv(partial, index=False)
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
    with atomic_path(folder / NAME) as partial:
        copies = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        save_file(copies, partial, {"meta": json.dumps(meta)})


def resume(folder: Path, key: str, net, opt, scheduler, device: torch.device) -> tuple[list, list, dict]:
    """(steps, history, best weights) of this run's checkpoint, loaded into net, optimizer and scheduler; else empty."""
    meta = _meta(folder, key)
    if not meta:
        return [], [], {}
    with safe_open(folder / NAME, "pt", device=str(device)) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}

    def part(prefix: str) -> dict:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    state: dict[int, dict] = {}
    for name, tensor in part("optimizer.").items():
        index, field = name.split(".", 1)
        state.setdefault(int(index), {})[field] = tensor
    net.load_state_dict(part("net."))
    opt.load_state_dict({"state": state, "param_groups": meta["groups"]})
    _restore_layout(opt)
    scheduler.last_epoch = meta["scheduler"]
    return meta["steps"], meta["history"], part("best.")


def _restore_layout(opt) -> None:
    """Give an optimizer's tensors the memory layout of their weights: fused optimizers read both in memory order."""
    for weight, values in opt.state.items():
        for name, tensor in values.items():
            if isinstance(tensor, Tensor) and tensor.shape == weight.shape:
                values[name] = torch.empty_like(weight, dtype=tensor.dtype).copy_(tensor)


def _meta(folder: Path, key: str) -> dict:
    """The checkpoint's metadata; empty if there is no checkpoint or it belongs to another run."""
    if not (folder / NAME).is_file():
        return {}
    with safe_open(folder / NAME, "pt") as file:
        meta = json.loads(file.metadata()["meta"])
    return meta if key == meta["key"] else {}
