"""Several processes that train one network together: what each takes of a batch, and what they must agree in.

All of it is nothing for one process: `fabric` is then alone, and the figures are the same to the bit.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from lightning_fabric import Fabric
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn


def synchronised(net: nn.Module, fabric: Fabric) -> nn.Module:
    """What is trained: `net`, or on several GPUs a copy whose batch normalisations see the batch of all of them.

    On several processors each normalises by its own share of the batch.
    """
    several = fabric.world_size > 1 and fabric.device.type == "cuda"
    return convert_sync_batchnorm(deepcopy(net)) if several else net


def check_alike(fabric: Fabric, key: str, epochs_done: int) -> None:
    """An error where processes are about to train different runs, which would end in nonsense or in waiting forever."""
    own = torch.tensor([int(key[:12], 16), epochs_done], device=fabric.device)
    if (_collected(fabric, own[None], fabric.world_size) != own).any():
        raise ValueError(
            "the processes would not train the same run: they need the same code, parameters and photos, one "
            "data_dir that all of them see, and equally many threads (OMP_NUM_THREADS)"
        )


def shares(chunks: list[np.ndarray], rank: int, world: int) -> tuple[list[np.ndarray], list[float]]:
    """A process's rows of each batch, and the weight of its mean over them: the processes' mean is then the batch's.

    Of a batch with fewer rows than processes each takes all: one without rows would keep the others waiting.
    """
    own = [chunk[rank::world] if len(chunk) >= world else chunk for chunk in chunks]
    weights = [len(a) * world / len(b) if len(b) >= world else 1.0 for a, b in zip(own, chunks, strict=True)]
    return own, weights


def average(fabric: Fabric, net: nn.Module) -> None:
    """Give the running statistics of batch normalisations their mean over the processes, in place."""
    for statistic in filter(Tensor.is_floating_point, net.buffers()):
        fabric.all_reduce(statistic)


def dealt(fabric: Fabric, rows: np.ndarray, compute) -> Tensor:
    """`compute(rows)`, a tensor [len(rows), ...] on the processor, each process doing its part of the rows."""
    if len(rows) < fabric.world_size or fabric.world_size == 1:
        return compute(rows)
    return _collected(fabric, compute(rows[fabric.global_rank :: fabric.world_size]), len(rows)).cpu()


def _collected(fabric: Fabric, part: Tensor, length: int) -> Tensor:
    """[length, ...] of which every process has its part: as a sum, as parts of unequal size cannot be gathered."""
    whole = torch.zeros(length, *part.shape[1:], dtype=part.dtype, device=fabric.device)
    whole[fabric.global_rank :: fabric.world_size] = part.to(fabric.device)
    return fabric.all_reduce(whole, reduce_op="sum")
