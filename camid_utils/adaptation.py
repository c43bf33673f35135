"""Fitting a trained network to other data without labels: the statistics inside it, its input range.

The idea of all of it: Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation" (AdaBN), 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy

import pandas as pd
import torch
from torch import Tensor, nn

from .models import INPUT_RANGES, CameraConvNet

BLOCK = 64  # patches that go through a layer at once: CameraConvNet's first one makes 0.9 MB of each at full width
CONSTANT = 1e-9  # share of a signal's power: where less of it varies, float32 cannot tell variation from rounding


@torch.no_grad()
def statistics(net: CameraConvNet, inputs: Tensor) -> pd.DataFrame:
    """Mean and variance of each channel of each convolution, before its ReLU, over floats [n, 3, 48, 48].

    A row a channel: layer ("conv1" to "conv3", the last being the 6 x 6 convolution that is written as a matrix
    product), channel, mean, variance. `inputs` are in the network's input range.
    """
    tables, parts = [], inputs.split(BLOCK)
    for layer in net.features:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            mean, variance = (values.cpu().numpy() for values in _moments(layer, parts))
            table = pd.DataFrame({"channel": range(len(mean)), "mean": mean, "variance": variance})
            tables.append(table.assign(layer=f"conv{len(tables) + 1}"))
        parts = [layer(part) for part in parts]
    return pd.concat(tables, ignore_index=True)[["layer", "channel", "mean", "variance"]]


@torch.no_grad()
def matched(net: CameraConvNet, source: Tensor, target: Tensor) -> CameraConvNet:
    """A copy of `net` whose convolutions see in `target` the statistics that those of `net` see in `source`.

    One layer after the other is scaled and shifted, channel by channel, so that mean and variance before its ReLU agree
    (both folded into its weights: the copy has the same layers). A channel that is constant on `target` is only
    shifted. source, target: floats [n, 3, 48, 48], as they enter the network on either side; no labels are needed.
    """
    copy = deepcopy(net)
    source_parts, target_parts = source.split(BLOCK), target.split(BLOCK)
    for original, layer in zip(net.features, copy.features, strict=True):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            (mean, variance), (own_mean, own_variance) = _moments(original, source_parts), _moments(layer, target_parts)
            constant = own_variance <= CONSTANT * (own_variance + own_mean**2)
            gain = torch.where(constant, 1.0, (variance / own_variance).sqrt())
            layer.weight.mul_(gain.view(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.copy_((layer.bias - own_mean) * gain + mean)
        source_parts, target_parts = [original(p) for p in source_parts], [layer(p) for p in target_parts]
    return copy


def _moments(layer: nn.Module, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance, each float64 [channels], of what `layer` makes of `parts`, over patches and positions."""
    count, total, squares = 0, 0.0, 0.0
    for part in parts:
        signal = layer(part).double().movedim(1, -1).flatten(0, -2)
        count += len(signal)
        total = total + signal.sum(0)
        squares = squares + signal.square().sum(0)
    mean = total / count
    return mean, (squares / count - mean**2).clamp(min=0)


@torch.no_grad()
def rebased(net: CameraConvNet, trained: str, fed: str) -> CameraConvNet:
    """A copy of `net`, trained on the input range `trained`, that does the same when it is fed `fed`.

    The change is folded into the first convolution, exactly, since it has no padding. So the copy keeps apart what a
    wrong input range does from what the filters are worth. trained, fed: keys of `models.INPUT_RANGES`.
    """
    for name in (trained, fed):
        if name not in INPUT_RANGES:
            raise ValueError(f"unknown input range {name!r}: choose one of {', '.join(INPUT_RANGES)}")
    copy = deepcopy(net)
    first = copy.features[0]
    (old_mean, old_std), (new_mean, new_std) = (
        torch.tensor(INPUT_RANGES[name], dtype=torch.float64, device=first.weight.device) for name in (trained, fed)
    )
    weight = first.weight.double()
    first.bias.copy_(first.bias + (weight.sum((2, 3)) * (new_mean - old_mean) / old_std).sum(1))
    first.weight.copy_(weight * (new_std / old_std)[:, None, None])
    return copy


@torch.no_grad()
def renormalised(net: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """A copy of `net`, for prediction, whose batch normalisations know the mean and variance of other data.

    batches: floats [n, 3, h, w] in the network's input range, unlabelled; each counts alike: let them be of one size.
    All weights stay as they were (AdaBN). Raises ValueError without any batch or without batch normalisation.
    """
    copy = deepcopy(net).eval()
    layers = [layer for layer in copy.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not layers:
        raise ValueError(f"{type(net).__name__} has no batch normalisation: `matched` adapts a CameraConvNet")
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the average of all batches, instead of one that forgets
        layer.train()
    count = sum(len(copy(batch)) > 0 for batch in batches)
    if not count:
        raise ValueError("no batch to take the statistics from")
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return copy.eval()
