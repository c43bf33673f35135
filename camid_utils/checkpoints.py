"""Checkpoints: what training writes after every epoch, so that an interrupted run resumes bit for bit."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .files import atomic_path, write_text
from .models import digest

FORMAT = 5  # raise it when the training loop changes what it computes
NAME = "checkpoint.safetensors"


def run_key(net: nn.Module, inputs: np.ndarray, labels, train, val, settings: dict) -> str:
    """Digest of everything that decides a run's outcome: initial weights, a sample of the data, split, settings."""
    rows = np.arange(0, len(labels), max(1, len(labels) // 64))
    split = (np.asarray(numbers, np.int64) for numbers in (labels[train], labels[val], train, val))
    return digest(net, [FORMAT, settings, inputs.shape], *split, inputs[:, rows] if inputs.ndim == 3 else inputs[rows])


def save(folder: Path, key: str, best: dict[str, Tensor], steps: list, history: list, net=None, opt=None) -> None:
    """Write everything that the next epoch needs to one safetensors file, atomically, and the logs beside it as CSV.

    A training that has ended needs no more than its best weights: without `net` and `opt` the file is a quarter.
    """
    for name, rows in (("steps", steps), ("epochs", history)):
        write_text(folder / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False))
    state = opt.state_dict() if opt else {"state": {}, "param_groups": []}
    parts = {"net": net.state_dict() if net else {}, "best": best}
    parts |= {f"optimizer.{i}": own for i, own in state["state"].items()}
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous().clone()
        for part, values in parts.items()
        for name, tensor in values.items()
        if isinstance(tensor, Tensor)
    }
    # not in the header, which holds less than 100 MB
    tensors["log.steps"] = torch.frombuffer(bytearray(json.dumps(steps).encode()), dtype=torch.uint8)
    meta = {"key": key, "history": history}
    with atomic_path(folder / NAME) as partial:
        save_file(tensors, partial, {"meta": json.dumps(meta)})


def resume(folder: Path, key: str, net, opt, device: torch.device) -> tuple[list, list, dict]:
    """(steps, history, best weights) of this run's checkpoint, loaded into net and optimizer; else empty."""
    if not (folder / NAME).is_file():
        return [], [], {}
    parts = {"net": {}, "best": {}, "optimizer": {}, "log": {}}
    try:
        with safe_open(folder / NAME, "pt", device=str(device)) as file:
            meta = json.loads(file.metadata()["meta"])
            if meta["key"] != key:  # of another run
                return [], [], {}
            for name in file.keys():
                part, field = name.split(".", 1)
                parts[part][field] = file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{folder / NAME} is damaged ({error}): delete it, and training starts again") from error
    steps = meta["steps"] if "steps" in meta else json.loads(parts["log"]["steps"].cpu().numpy().tobytes())
    if not parts["net"]:  # of a training that has ended
        return steps, meta["history"], parts["best"]
    state: dict[int, dict] = {}
    for name, tensor in parts["optimizer"].items():
        index, field = name.split(".")
        state.setdefault(int(index), {})[field] = tensor
    net.load_state_dict(parts["net"])
    opt.load_state_dict({"state": state, "param_groups": opt.state_dict()["param_groups"]})  # those of this device
    for weight, values in opt.state.items():  # in the weights' layout: fused optimizers read both in memory order
        for name, tensor in values.items():
            if tensor.shape == weight.shape:
                values[name] = torch.empty_like(weight, dtype=tensor.dtype).copy_(tensor)
    return steps, meta["history"], parts["best"]
