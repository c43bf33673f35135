"""Transferring a trained network to other cameras: frozen filters, their features, input range and statistics."""

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..augmentation import augmented, draw
from ..batches import as_input, batch_rows, batches, layout, make_fabric
from ..experiments import Experiment, Study, run
from ..files import atomic_path
from ..models import INPUT_RANGES, CameraConvNet, digest
from ..patches import Store
from ..planning import Plan
from ..project import progress

BLOCK = 64  # patches that pass through a layer at once: at full width CameraConvNet's first outputs 0.9 MB for each
CONSTANT = 1e-9  # share of a signal's power; below it, float32 cannot tell variation from rounding


def transferred(nets: dict[int, CameraConvNet], num_classes: int, plan: Plan, frozen: bool = True) -> CameraConvNet:
    """A copy of the plan's net with a new last layer (Xavier, Glorot 2010) and, as in the paper, frozen filters."""
    net = nets[plan.seed]
    copy = CameraConvNet(num_classes, net.settings["width"])
    own = {name: t for name, t in net.state_dict().items() if not name.startswith("1.3.")}
    copy.load_state_dict(own, strict=False)
    copy.features.requires_grad_(not frozen)
    nn.init.xavier_uniform_(copy.classifier[-1].weight)
    nn.init.zeros_(copy.classifier[-1].bias)
    return copy


@torch.inference_mode()
def features(
    net: CameraConvNet, store: Store, used: np.ndarray, input_range: str, folder: Path, augment=None, copies=0, seed=0,
    batch_size=256,
) -> np.ndarray:  # fmt: skip
    """Output of the convolutions of `net` for a store's patches: float32 [1 + copies, N, d], zero but for rows `used`.

    First the original patches, then copies changed by `augment` (see augmentation; one draw per patch). Kept in
    `folder`: a second call with the same weights, store, rows and settings opens the file.
    """
    shape = 1 + (copies if augment else 0), len(store.table), net.features[-2].out_features
    fabric = make_fabric()
    settings = [store.folder.name, input_range, augment, shape, seed, fabric.device.type]
    path = folder / f"{digest(net.features, settings, used)[:16]}.npy"
    if path.is_file():
        return np.load(path, mmap_mode="r")
    frozen = fabric.setup_module(deepcopy(net.features).eval().to(memory_format=layout(fabric.device)))
    with atomic_path(path) as partial, progress(total=shape[0] * len(used), desc="features", unit="patch") as bar:
        values = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
        for copy in range(shape[0]):
            draws = draw(augment if copy else None, shape[1], np.random.default_rng([seed, copy]))
            for rows, batch in batches(store.pixels, batch_rows(used, batch_size), fabric.device):
                batch = augmented(batch, {name: drawn[rows] for name, drawn in draws.items()})
                values[copy, rows] = frozen(as_input(batch, input_range)).float().cpu().numpy()
                bar.update(len(rows))
        values.flush()
    return np.load(path, mmap_mode="r")


def run_frozen(
    study: Study, network: str, tests: dict[str, list[Plan]], nets: dict, store: Store, settings: dict, augment, copies,
    plateau=True,
) -> dict[str, Experiment]:  # fmt: skip
    """As `experiments.run` for several tests (name -> plans) of one classifier on frozen filters, `nets` by seed."""
    known, fed, folder = [], settings["input_range"], study.data / "features"
    for plans in zip(*tests.values(), strict=True):  # those of one seed
        used, seed = np.flatnonzero(np.any([plan.part != "unused" for plan in plans], axis=0)), plans[0].seed
        known.append(features(nets[seed], store, used, fed, folder, augment, copies, seed))
    make_net, own = partial(transferred, nets), dict(features=known, network=network, plateau=plateau)
    return {name: run(study, name, make_net, store, plans, settings, **own) for name, plans in tests.items()}


def activation_shift(source: tuple[CameraConvNet, Tensor], target: tuple[CameraConvNet, Tensor]) -> pd.DataFrame:
    """The `channel_statistics` of two pairs of network and inputs, side by side."""
    known, new = channel_statistics(*source), channel_statistics(*target)
    return known.merge(new, on=["layer", "channel"], suffixes=("_source", "_target"))


def shift_table(shifts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Medians over channels of each `activation_shift`: one row per recipe and layer."""
    medians = {}
    for recipe, table in shifts.items():
        deviation, new = (table[f"variance_{side}"].clip(lower=1e-12) ** 0.5 for side in ("source", "target"))
        shift = (table["mean_target"] - table["mean_source"]).abs() / deviation
        values = {"shift of the mean, source deviations": shift, "deviation, target over source": new / deviation}
        medians[recipe] = pd.DataFrame(values).groupby(table["layer"]).median()
    return pd.concat(medians, names=["recipe", "layer"]).round(4)


@torch.no_grad()
def channel_statistics(net: CameraConvNet, inputs: Tensor) -> pd.DataFrame:
    """Columns layer ("conv1" to "conv3"), channel, mean and variance, before the ReLU, over inputs [n, 3, 48, 48]."""
    tables = {
        f"conv{number}": pd.DataFrame({"mean": mean.numpy(), "variance": variance.numpy()})
        for number, (_, mean, variance) in enumerate(_convolutions(net, inputs), 1)
    }
    return pd.concat(tables, names=["layer", "channel"]).reset_index()


@torch.no_grad()
def adabn(net: CameraConvNet, source: Tensor, target: Tensor) -> CameraConvNet:
    """A copy of `net` whose activations on `target` have the mean and variance that those of `net` have on `source`.

    Each channel is scaled and shifted before its ReLU, layer by layer, by its weights; one that is constant on `target`
    is only shifted. source, target: inputs [n, 3, 48, 48]; no labels are needed (Li et al. 2016).
    """
    copy = deepcopy(net)
    sides = zip(_convolutions(net, source), _convolutions(copy, target), strict=True)
    for (_, mean, variance), (layer, own_mean, own_variance) in sides:
        constant = own_variance <= CONSTANT * (own_variance + own_mean**2)
        gain = torch.where(constant, 1.0, (variance / own_variance).sqrt())
        layer.weight.copy_(layer.weight * gain.view(-1, *[1] * (layer.weight.ndim - 1)))
        layer.bias.copy_((layer.bias - own_mean) * gain + mean)
    return copy


def _convolutions(net: CameraConvNet, inputs: Tensor) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
    """Each convolution, with mean and variance float64 [channels] of its output; it may be changed before the next."""
    parts = inputs.split(BLOCK)
    for layer in net.features:
        if isinstance(layer, nn.Conv2d | nn.Linear):  # the third convolution is written as a matrix product
            count, total, squares = 0, 0.0, 0.0
            for part in parts:
                signal = layer(part).double().movedim(1, -1).flatten(0, -2)
                count, total, squares = count + len(signal), total + signal.sum(0), squares + signal.square().sum(0)
            mean = total / count
            yield layer, mean, (squares / count - mean**2).clamp(min=0)
        parts = [layer(part) for part in parts]


@torch.no_grad()
def fold_input_range(net: CameraConvNet, trained: str, fed: str) -> CameraConvNet:
    """A copy of `net`, which was trained on `trained`, with the same logits when fed `fed`: exact without padding."""
    copy = deepcopy(net)
    first, ranges = copy.features[0], (*INPUT_RANGES[trained], *INPUT_RANGES[fed])
    old_mean, old_std, new_mean, new_std = torch.tensor(ranges, dtype=torch.float64)
    weight = first.weight.double()
    first.bias.copy_(first.bias + (weight.sum((2, 3)) * (new_mean - old_mean) / old_std).sum(1))
    first.weight.copy_(weight * (new_std / old_std)[:, None, None])
    return copy
