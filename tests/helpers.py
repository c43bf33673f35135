"""What several test modules make: pictures, patch tables, a small network, predictions."""

import io
import shutil
from collections import OrderedDict
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.special import log_softmax
from torch import nn

from camid_utils import evaluation, patches

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MODELS = ["Acme_A", "Acme_B", "Bolt_C"]


def scene(height: int = 96, width: int = 160, seed: int = 0) -> np.ndarray:
    """Smooth blobs with pixel noise on top: content and traces."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 200, (height // 16, width // 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + rng.integers(-12, 13, (height, width, 3))).clip(0, 255).astype(np.uint8)


def halves(left: tuple, right: tuple, height: int = 240, width: int = 320) -> np.ndarray:
    """A photo of two colours, side by side."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    return pixels


def encoded(image: Image.Image | np.ndarray, form: str = "JPEG", **options) -> bytes:
    """A picture as the content of a file."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    """Write a photo with hardly any loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(pixels, **{"quality": 100, "subsampling": 0} | options))
    return path


def patch_table(devices: int = 2, scenes: int = 8, per_photo: int = 4, names: list[str] = MODELS) -> pd.DataFrame:
    """A patch table: every device of every camera model photographs every scene, `per_photo` patches each."""
    rows = [
        ("Dresden", name.split("_")[0], name, f"{name}_{d}", f"{s}-1", "Dresden", f"{name}/{name}_{d}_{s}.JPG", 0, p)
        for name, d, s, p in product(names, range(devices), range(scenes), range(per_photo))
    ]
    return pd.DataFrame(rows, columns=patches.PATCH_COLUMNS).assign(x=lambda table: 48 * table["x"])


def colour_net(num_classes: int, norm: bool = False, weight=None, bias=None) -> nn.Module:
    """A network that learns which colour belongs to which class, or has these weights; features are a mean colour."""
    first = nn.BatchNorm2d(3, momentum=0.5, affine=False) if norm else nn.Identity()
    features = nn.Sequential(first, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(3, num_classes)))
    if weight is not None:
        net.classifier.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        net.eval()
    net.settings = {"network": "ColourNet", "num_classes": num_classes}
    return net


def noisy_predictions(photos: int = 40, per_photo: int = 5, strength: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """A table of predictions of four classes in turn; `strength`: how far the true class stands out."""
    photo, names = np.repeat(np.arange(photos), per_photo), np.array([*MODELS, "Bolt_D"])
    true = names[photo % 4]
    noise = np.random.default_rng(seed).normal(size=(len(photo), 4))
    logs = log_softmax(noise + strength * np.eye(4)[photo % 4], axis=1)
    table = pd.DataFrame({
        "photo": [f"p{i:05d}.jpg" for i in photo], "y": 0, "x": np.arange(len(photo)) % per_photo,
        "dataset": "simulated Dresden", "brand": [name.split("_")[0] for name in true],
        "device": [f"{name}_{i // 4 % 2}" for name, i in zip(true, photo, strict=True)], "true": true,
        "camera_model": true,
    })  # fmt: skip
    return table.join(pd.DataFrame(logs, columns=[evaluation.LOG_PROB + name for name in names]))
