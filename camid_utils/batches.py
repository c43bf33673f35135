"""Batches: the device, its precision and its graphs, rows of a store in batches on it, the logits of a network."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .models import to_input
from .project import has_bfloat16

if TYPE_CHECKING:  # it takes a second to import, as do timm and torchvision: only functions that need them do so
    from lightning_fabric import Fabric

WARM_UP = 3  # calls before a capture, in which libraries choose their kernels and optimizers make their state


@cache
def best_device() -> str:
    """cuda, mps or cpu; a GPU that the installed PyTorch is not built for is not taken, and a line says so."""
    if not torch.cuda.is_available():
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.ones(1, device=f"cuda:{os.environ.get('LOCAL_RANK', 0)}").add(1).item()
    except RuntimeError as error:
        if "no kernel image" not in str(error):
            raise
        print(f"the processor is used: this PyTorch is not built for {torch.cuda.get_device_name()}", file=sys.stderr)
        return "cpu"
    return "cuda"


def make_fabric(precision: str = "auto") -> "Fabric":
    """Fabric on the best device, under torchrun as one of several processes; bfloat16 autocast where there is any."""
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # else it reports its precision at every call
    device, processes = best_device(), {"devices": 1}
    if torch.distributed.is_torchelastic_launched() and os.environ["WORLD_SIZE"] != "1":
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        processes = dict(strategy="ddp", devices=here, num_nodes=int(os.environ["WORLD_SIZE"]) // here)
        device = "cuda" if device == "cuda" else "cpu"
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported(False) if device == "cuda" else device == "cpu" and has_bfloat16()
        precision = "bf16-mixed" if fast else "32-true"
    fabric = Fabric(precision=precision, accelerator=device, **processes)
    fabric.launch()
    return fabric


def training_precision(net: nn.Module) -> str:
    """The precision in which `net` trains fastest.

    On a processor with bfloat16 instructions that is bfloat16 for CameraConvNet (1.4 to 2.9 times as fast), but float32
    for EfficientNet-Lite0 and its convolutions of single channels.
    """
    single = any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in net.modules())
    return "32-true" if single and best_device() == "cpu" else "auto"


def layout(device: torch.device) -> torch.memory_format:
    """Channels-last, but on Apple's GPU, where it is not supported well.

    Training on two cores: 0.92 to 1.17 times the speed of NCHW in float32, 1.0 to 1.05 times in bfloat16.
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


@contextmanager
def set_up(net: nn.Module, fabric: "Fabric") -> Iterator[nn.Module]:
    """`net` on the device, as `fabric` sets it up; afterwards it is on the CPU again, where all other code uses it."""
    try:
        yield fabric.setup_module(net.to(memory_format=layout(fabric.device)))
    finally:
        net.cpu()


@contextmanager
def divided(net: nn.Module, fabric: "Fabric") -> Iterator[SimpleNamespace]:
    """Lets every process compute on its share what one process would on the whole batch, of `count` rows.

    Batch normalisation takes the statistics of the whole batch, dropout is drawn for the whole batch.
    """
    whole, random = SimpleNamespace(count=0), []
    if fabric.world_size > 1:
        from timm.layers import convert_sync_batchnorm
        from torchvision.ops import StochasticDepth

        if any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules()):
            if fabric.device.type != "cuda":
                raise ValueError("batch normalisation over several processes needs GPUs: train in one process here")
            convert_sync_batchnorm(net)
        random = [layer for layer in net.modules() if isinstance(layer, nn.Dropout | StochasticDepth)]
    for layer in random:

        def forward(x: Tensor, layer=layer, plain=layer.forward) -> Tensor:
            shape = x.shape[1:] if isinstance(layer, nn.Dropout) else [1] * (x.ndim - 1)
            own = slice(fabric.global_rank, None, fabric.world_size)
            return x * plain(x.new_ones(whole.count, *shape))[own] if layer.training else x

        layer.forward = forward
    try:
        yield whole
    finally:
        for layer in random:
            del layer.forward


def has_graphs(fabric: "Fabric") -> bool:
    """Whether steps are captured as graphs: on a GPU, but not with others, between which a step would have to wait."""
    return fabric.device.type == "cuda" and fabric.world_size == 1


def captured(step: Callable[..., Tensor], fabric: "Fabric") -> Callable[..., Tensor]:
    """`step`, named tensors to a tensor; on a GPU, after some plain calls, one CUDA graph that is replayed.

    The graph takes tensors of the first call's shapes; others run plainly. The next call overwrites its result.
    """
    if not has_graphs(fabric):
        return step
    inputs, graph, calls, stream = {}, [], count(), torch.cuda.Stream(fabric.device)

    def run(**tensors: Tensor) -> Tensor:
        if not inputs:
            inputs.update({name: tensor.clone() for name, tensor in tensors.items()})
        if any(tensor.shape != inputs[name].shape for name, tensor in tensors.items()):
            return step(**tensors)
        for name, tensor in tensors.items():
            inputs[name].copy_(tensor)
        if next(calls) < WARM_UP:
            return _beside(lambda: step(**inputs), stream)
        if not graph:
            graph.extend(_capture(lambda: step(**inputs), stream))
        graph[0]()
        return graph[1]

    return run


def _beside(work: Callable[[], Tensor], stream: torch.cuda.Stream) -> Tensor:
    """The result of `work` on a stream of its own, as a warm-up must be; the current stream waits for it."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = work()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def _capture(work: Callable[[], Tensor], stream: torch.cuda.Stream) -> tuple[Callable[[], None], Tensor]:
    """Capture `work` as a CUDA graph, without running it: a function that replays it, and the tensor of its result."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):  # another thread may read a batch
        result = work()
    return graph.replay, result


def batch_rows(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Row numbers in batches of `size`; the last may have fewer."""
    return [order[i : i + size] for i in range(0, len(order), size)]


def on_device(inputs: np.ndarray, device: torch.device) -> np.ndarray | Tensor:
    """Inputs as a tensor on a GPU that has twice the room for them, else as they are; see `batches`."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0  # others have no memory of their own
    return inputs if inputs.nbytes > free / 2 else torch.tensor(inputs, device=device)


def batches(inputs: np.ndarray | Tensor, chunks: list[np.ndarray], device: torch.device) -> Iterator[tuple]:
    """(row numbers, batch on `device`): uint8 [n, 3, h, w] channels-last of images [N, h, w, 3], or rows of features.

    chunks: the row numbers of each batch. Of inputs that are not on the device, one batch is read ahead.
    """
    if isinstance(inputs, Tensor):
        order = torch.from_numpy(np.concatenate(chunks)).to(inputs.device)  # once: each transfer would be waited for
        loaded = (inputs[part] for part in order.split([len(rows) for rows in chunks]))
    else:
        loaded = _read_ahead(inputs, chunks, device)
    for rows, batch in zip(chunks, loaded, strict=True):
        yield rows, batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch


def _read_ahead(inputs: np.ndarray, chunks: list[np.ndarray], device: torch.device) -> Iterator[Tensor]:
    def gather(rows: np.ndarray) -> Tensor:
        batch = torch.from_numpy(inputs[rows])
        return batch.pin_memory() if device.type == "cuda" else batch

    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(gather, chunks[0])
        for rows in chunks[1:]:
            batch, upcoming = upcoming.result(), thread.submit(gather, rows)
            yield batch.to(device, non_blocking=True)
        yield upcoming.result().to(device, non_blocking=True)


def epoch_view(inputs: np.ndarray | Tensor, epoch: int = 0) -> np.ndarray | Tensor:
    """What an epoch trains on: the images, or one augmented copy of the features, in turn; epoch 0 is validation."""
    if inputs.ndim != 3:
        return inputs
    return inputs[1 + (epoch - 1) % (len(inputs) - 1)] if epoch and len(inputs) > 1 else inputs[0]


def as_input(batch: Tensor, input_range: str) -> Tensor:
    """A batch as the network takes it: images in their input range, features as they are."""
    if batch.ndim != 4:
        return batch
    return to_input(batch.contiguous(memory_format=layout(batch.device)), input_range)


def logits_step(net: nn.Module, input_range: str, fabric: "Fabric") -> Callable[..., Tensor]:
    """The logits float32 of a batch, for `logits_of`; captured, so make it once for many calls."""
    return captured(lambda batch: net(as_input(batch, input_range)).float(), fabric)


@torch.inference_mode()
def logits_of(net, fabric: "Fabric", inputs, rows, batch_size: int, input_range: str, step: Callable | None = None):
    """Logits float32 [len(rows), classes], on the CPU, of a network set up by `fabric`; inputs: as training.fit.

    step: that of `logits_step`, made here unless given.
    """
    net.eval()
    step, chunks = step or logits_step(net, input_range, fabric), batch_rows(np.asarray(rows), batch_size)
    return torch.cat([step(batch=x).clone() for _, x in batches(epoch_view(inputs), chunks, fabric.device)]).cpu()
