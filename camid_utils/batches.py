"""Batches: the device, its precision and its graphs, rows of a store in batches on it, the logits of a network."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import numpy as np
import timm
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from .models import to_input
from .project import has_bfloat16

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # otherwise it reports its precision at every call
WARM_UP = 3  # steps before a capture, in which libraries choose their kernels and take their memory


@cache
def best_device() -> str:
    """cuda, mps or cpu; a GPU that the installed PyTorch is not built for is not taken, and a line says why."""
    if not torch.cuda.is_available():
        return "mps" if torch.backends.mps.is_available() else "cpu"
    own, built = torch.cuda.get_device_capability(), torch.cuda.get_arch_list()
    for kind, number in (name.split("_") for name in built if "_" in name):  # sm_86 serves 8.6 and later 8.x,
        since = divmod(int("".join(filter(str.isdigit, number))), 10)  # compute_86 all later ones
        if since <= own and (kind == "compute" or since[0] == own[0]):
            return "cuda"
    if torch.version.hip:  # AMD's names say nothing of the kind
        return "cuda"
    why = f"this PyTorch is built for {', '.join(built)}, not for {torch.cuda.get_device_name()}"
    print(f"the processor is used: {why} (compute capability {own[0]}.{own[1]})", file=sys.stderr)
    return "cpu"


def make_fabric(precision: str = "auto") -> Fabric:
    """Fabric on the best device, under torchrun as one of several processes; bfloat16 autocast where there is any."""
    device, several = best_device(), {"devices": 1}
    if torch.distributed.is_torchelastic_launched() and os.environ["WORLD_SIZE"] != "1":
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        several = dict(strategy="ddp", devices=here, num_nodes=int(os.environ["WORLD_SIZE"]) // here)
        device = "cuda" if device == "cuda" else "cpu"
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported(False) if device == "cuda" else device == "cpu" and has_bfloat16()
        precision = "bf16-mixed" if fast else "32-true"
    fabric = Fabric(precision=precision, accelerator=device, **several)
    fabric.launch()
    return fabric


def training_precision(net: nn.Module) -> str:
    """The precision in which `net` trains fastest.

    On a processor with bfloat16 instructions CameraConvNet trains in bfloat16 1.4 to 2.9 times as fast as in float32,
    EfficientNet-Lite0, for its convolutions of single channels, at 0.65 to 0.7 of the speed.
    """
    single = any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in net.modules())
    return "32-true" if single and best_device() == "cpu" else "auto"


def layout(device: torch.device) -> torch.memory_format:
    """Channels-last, but on Apple's GPU, where it is not supported well.

    Training on two cores, with AMX and with AVX2 alone: 0.92 to 1.17 times the speed of NCHW in float32, 1.0 to 1.05
    times in bfloat16 (CameraConvNet at 1/32 and 1/8 of its width, batches of 64 to 256; EfficientNet-Lite0 at 24).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


@contextmanager
def divided(net: nn.Module, fabric: Fabric) -> Iterator[SimpleNamespace]:
    """Lets every process compute on its share what one process would on the whole batch, of `count` rows.

    Batch normalisation takes the statistics of the whole batch, dropout is drawn for the whole batch.
    """
    whole = SimpleNamespace(count=0)
    kinds = nn.BatchNorm2d, nn.Dropout, StochasticDepth
    found = [layer for layer in net.modules() if isinstance(layer, kinds) and fabric.world_size > 1]
    random = [layer for layer in found if not isinstance(layer, nn.BatchNorm2d)]
    if len(random) < len(found):
        if fabric.device.type != "cuda":
            raise ValueError("batch normalisation over several processes needs GPUs: train in one process here")
        timm.layers.convert_sync_batchnorm(net)
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


def has_graphs(device: torch.device) -> bool:
    """Whether work on a device can be captured as a graph."""
    return device.type == "cuda"


def captured(step: Callable[..., Tensor], device: torch.device, state: Callable = tuple) -> Callable[..., Tensor]:
    """`step`, named tensors to a tensor; on a GPU one CUDA graph for the shapes of its first call, for others as it is.

    state(): the tensors that it changes; warming up leaves them, and random numbers, as they were. The result is
    overwritten by the next call.
    """
    if not has_graphs(device):
        return step
    inputs, graph = {}, []

    def replay(**tensors: Tensor) -> Tensor:
        if not graph:
            inputs.update({name: tensor.clone() for name, tensor in tensors.items()})
            graph.extend(_capture(lambda: step(**inputs), state, device))
        if any(tensor.shape != inputs[name].shape for name, tensor in tensors.items()):
            return step(**tensors)
        for name, tensor in tensors.items():
            inputs[name].copy_(tensor)
        graph[0]()
        return graph[1]

    return replay


def _capture(work: Callable[[], Tensor], state: Callable, device: torch.device) -> tuple[Callable, Tensor]:
    """A CUDA graph of `work`, as a function that replays it, and where its result lies."""
    kept, seed = {id(t): t.clone() for t in state()}, torch.cuda.get_rng_state(device)
    side, main = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    side.wait_stream(main)
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            work()
    main.wait_stream(side)
    restore(state(), kept)
    torch.cuda.set_rng_state(seed, device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread may be reading the next batch
        result = work()
    return graph.replay, result


@torch.no_grad()
def restore(tensors: list[Tensor], kept: dict[int, Tensor]) -> None:
    """Give tensors the values `kept` by id; those of optimizers that did not exist yet start as zeros."""
    for tensor in tensors:
        tensor.copy_(kept[id(tensor)]) if id(tensor) in kept else tensor.zero_()


def batch_rows(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Row numbers in batches of `size`; the last may have fewer."""
    return [order[i : i + size] for i in range(0, len(order), size)]


def on_device(inputs: np.ndarray, device: torch.device) -> np.ndarray | Tensor:
    """Inputs as a tensor on a GPU that has twice the room for them, else as they are; see `batches`."""
    if inputs.nbytes > free_memory(device) / 2:
        return inputs
    tensor = torch.empty(inputs.shape, dtype=torch.from_numpy(np.empty(0, inputs.dtype)).dtype, device=device)
    for rows in batch_rows(np.arange(len(inputs)), 256):
        tensor[rows[0] : rows[-1] + 1] = torch.from_numpy(np.array(inputs[rows[0] : rows[-1] + 1]))
    return tensor


def free_memory(device: torch.device) -> int:
    """Free bytes of a GPU; none of other devices, which have no memory of their own."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def batches(inputs: np.ndarray | Tensor, chunks: list[np.ndarray], device: torch.device) -> Iterator[tuple]:
    """(row numbers, batch on `device`): uint8 [n, 3, h, w] channels-last of images [N, h, w, 3], or rows of features.

    chunks: the row numbers of each batch. Inputs on the device are gathered there; of others, while one batch is used,
    the next is read.
    """
    if isinstance(inputs, Tensor):
        order = torch.from_numpy(np.concatenate(chunks)).to(inputs.device)
        parts = order.split([len(rows) for rows in chunks])
        loaded = (inputs.index_select(0, part) for part in parts)
    else:
        loaded = _read_ahead(inputs, chunks, device)
    for rows, batch in zip(chunks, loaded, strict=True):
        yield rows, batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch


def _read_ahead(inputs: np.ndarray, chunks: list[np.ndarray], device: torch.device) -> Iterator[Tensor]:
    def gather(rows: np.ndarray) -> Tensor:
        batch = torch.from_numpy(inputs[rows])
        return batch.pin_memory() if device.type == "cuda" else batch

    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(gather, chunks[0]) if chunks else None
        for i in range(len(chunks)):
            batch = upcoming.result()
            if i + 1 < len(chunks):
                upcoming = thread.submit(gather, chunks[i + 1])
            yield batch.to(device, non_blocking=True)


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


def logits_step(net, input_range: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The logits float32 of a batch, for `logits_of`; captured, so make it once for many calls."""
    return captured(lambda batch: net(as_input(batch, input_range)).float(), device)


@torch.inference_mode()
def logits_of(net, fabric: Fabric, inputs, rows, batch_size: int, input_range: str, step: Callable | None = None):
    """Logits float32 [len(rows), classes], on the CPU, of a network set up by `fabric`; inputs: as training.fit.

    step: that of `logits_step`, made here unless given.
    """
    net.eval()
    step, chunks = step or logits_step(net, input_range, fabric.device), batch_rows(np.asarray(rows), batch_size)
    return torch.cat([step(batch=x).clone() for _, x in batches(epoch_view(inputs), chunks, fabric.device)]).cpu()
