"""Taking a trained CameraConvNet to other cameras: what is kept, frozen or drawn anew; features computed once."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .files import alone
from .models import CameraConvNet, to_input
from .progress import progress
from .training import batches, chunked, make_fabric


def transferred(net: CameraConvNet, num_classes: int, frozen: bool = True) -> CameraConvNet:
    """The authors' transfer: a copy of `net` with a new last layer (Xavier, Glorot 2010), its convolutions frozen."""
    copy = CameraConvNet(num_classes, net.settings["width"])
    own = {name: t for name, t in net.state_dict().items() if not name.startswith("1.3.")}
    copy.load_state_dict(own, strict=False)
    copy.features.requires_grad_(not frozen)
    nn.init.xavier_uniform_(copy.classifier[-1].weight)
    nn.init.zeros_(copy.classifier[-1].bias)
    return copy


@torch.inference_mode()
def features(
    net: CameraConvNet,
    store,
    input_range: str,
    folder: str | Path,
    augment: nn.Module | None = None,
    copies: int = 0,
    seed: int = 0,
    batch_size: int = 256,
) -> np.ndarray:
    """What the convolutions of `net` make of a store's patches: float32 [1 + copies, N, d], kept in `folder`.

    The first is of the patches as they are, the others of copies changed by `augment` (0..1 images, a draw per
    patch). Computed once: a second call with the same weights, store and settings opens the file, and one that comes
    while the first is at work waits for it.
    """
    path = features_path(net, store, input_range, folder, augment, copies, seed)
    if not path.is_file():
        with alone(path) as aside:
            if not path.is_file():  # another process may have made it while this one waited
                _compute(net, store, input_range, aside / path.name, augment, copies, seed, batch_size)
                (aside / path.name).rename(path)
    return np.load(path, mmap_mode="r")


def features_path(
    net: CameraConvNet, store, input_range: str, folder: str | Path, augment=None, copies: int = 0, seed: int = 0
) -> Path:
    """The file that `features` keeps; its name is a digest of all that decides what is in it."""
    shape = _shape(net, store, augment, copies)
    settings = [store.folder.name, input_range, repr(augment), shape, seed, make_fabric().device.type]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for tensor in net.features.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return Path(folder) / f"{digest.hexdigest()[:16]}.npy"


def _shape(net: CameraConvNet, store, augment: nn.Module | None, copies: int) -> tuple[int, int, int]:
    return 1 + (copies if augment is not None else 0), len(store.table), net.features[-2].out_features


def _compute(net, store, input_range, path: Path, augment, copies: int, seed: int, batch_size: int) -> None:
    """Write the features of all patches and copies to `path`, a batch at a time."""
    shape, fabric = _shape(net, store, augment, copies), make_fabric()
    frozen = fabric.setup_module(deepcopy(net.features).eval().to(memory_format=torch.channels_last))
    torch.manual_seed(seed)
    values = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    with progress(total=shape[0] * shape[1], desc="features", unit="patch") as bar:
        for copy in range(shape[0]):
            for rows, batch in batches(store.pixels, chunked(np.arange(shape[1]), batch_size), fabric.device):
                if copy:
                    batch = augment(batch.float() / 255) * 255
                values[copy, rows] = frozen(to_input(batch, input_range)).float().cpu().numpy()
                bar.update(len(rows))
    values.flush()
