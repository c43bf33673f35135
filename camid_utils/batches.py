"""Batches: the device and its precision, rows of a store in batches on that device, and the logits of a network."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from .models import to_input
from .project import has_bfloat16

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # otherwise it reports its precision at every call


def make_fabric(precision: str = "auto") -> Fabric:
    """Fabric on the best device; bfloat16 autocast where the hardware has it, else float32."""
    gpu = torch.cuda.is_available()
    fast = torch.cuda.is_bf16_supported(False) if gpu else has_bfloat16()
    if precision == "auto":
        precision = "bf16-mixed" if fast else "32-true"
    fabric = Fabric(precision=precision, accelerator="auto", devices=1)
    fabric.launch()
    return fabric


def batch_rows(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Row numbers in batches of `size`; the last may have fewer."""
    return [order[i : i + size] for i in range(0, len(order), size)]


def batches(inputs: np.ndarray, chunks: list[np.ndarray], device: torch.device) -> Iterator[tuple]:
    """(row numbers, batch on `device`): uint8 [n, 3, h, w] channels-last of images [N, h, w, 3], or rows of features.

    chunks: the row numbers of each batch. While one batch is used, the next is read.
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


def epoch_view(inputs: np.ndarray, epoch: int = 0) -> np.ndarray:
    """What an epoch trains on: the images, or one augmented copy of the features, in turn; epoch 0 is validation."""
    if inputs.ndim != 3:
        return inputs
    return inputs[1 + (epoch - 1) % (len(inputs) - 1)] if epoch and len(inputs) > 1 else inputs[0]


def as_input(batch: Tensor, input_range: str) -> Tensor:
    """A batch as the network takes it: images in their input range, features as they are."""
    return to_input(batch, input_range) if batch.ndim == 4 else batch


@torch.inference_mode()
def logits_of(net, fabric: Fabric, inputs, rows, batch_size: int, input_range: str) -> Tensor:
    """Logits float32 [len(rows), classes], on the CPU, of a network set up by `fabric`; inputs: as training.fit."""
    net.eval()
    inputs = epoch_view(inputs)
    chunks = batch_rows(np.asarray(rows), batch_size)
    return torch.cat([net(as_input(x, input_range)).float() for _, x in batches(inputs, chunks, fabric.device)]).cpu()
