"""How fast this machine is with our code and with the plain recipe: `python -m camid_utils.benchmark`.

Two minutes on a processor or a GPU; both run in this process, on the same data. `limit` is what the machine could do at
most: its measured matrix product, or decoding alone. `share` is ours as a part of it.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import simplejpeg
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from . import datasets, models, patches, training
from .batches import best_device, layout, logits_of, logits_step, make_fabric, training_precision
from .files import command
from .identify.predict import few_threads, patch_positions, predict_photo
from .photos import read_photo

WORK = {  # device type: network, pixels, batch, batches of an epoch
    "cpu": {
        "CameraConvNet, 1/8 of its width": (lambda: models.CameraConvNet(8, 0.125), 48, 64, 24),
        "EfficientNet-Lite0": (lambda: models.EfficientNetClassifier(8, "efficientnet_lite0", None), 96, 24, 4),
    },
    "cuda": {
        "CameraConvNet": (lambda: models.CameraConvNet(27), 48, 128, 200),
        "CameraConvNet, 1/8 of its width": (lambda: models.CameraConvNet(27, 0.125), 48, 128, 400),
        "EfficientNetV2-M": (lambda: models.EfficientNetClassifier(39, weights=None), 512, 24, 12),
    },
}
SIZES = {"cpu": 1500, "cuda": 8192}  # of the square matrices that are multiplied
PHOTO, PHOTOS = (3000, 4000), 6


class PlainPatches(Dataset):
    """Stored pixels as anyone would feed them to a network: one float image at a time."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray):
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.pixels[row]).permute(2, 0, 1).float() / 255, int(self.labels[row])


def plain_training(net: nn.Module, pixels: np.ndarray, labels: np.ndarray, batch: int, device) -> Callable[[], None]:
    """The plain recipe, a call per epoch: DataLoader, float32 (with TF32 on a GPU), SGD."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    net, workers = net.to(device).train(), 8 if device.type == "cuda" else 0
    loader = DataLoader(PlainPatches(pixels, labels), batch, shuffle=True, num_workers=workers,
                        persistent_workers=workers > 0, pin_memory=workers > 0)  # fmt: skip
    optimizer, criterion = torch.optim.SGD(net.parameters(), 0.001, momentum=0.9), nn.CrossEntropyLoss()

    def epoch() -> None:
        for images, target in loader:
            loss = criterion(net(images.to(device)), target.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def plain_prediction(net: nn.Module, pixels: np.ndarray, batch: int, device) -> torch.Tensor:
    """Logits as anyone would compute them."""
    net = net.to(device).eval()
    with torch.no_grad():
        rows = (torch.from_numpy(pixels[i : i + batch]).to(device) for i in range(0, len(pixels), batch))
        return torch.cat([net(images.permute(0, 3, 1, 2).float() / 255).cpu() for images in rows])


def plain_crops(paths: list[Path], size: int, count: int) -> np.ndarray:
    """Random patches of photos: Pillow, one photo after the other."""
    rng, found = np.random.default_rng(0), []
    for path in paths:
        photo = np.asarray(Image.open(path).convert("RGB"))
        ys, xs = (rng.integers(length - size, size=count) for length in photo.shape[:2])
        found += [photo[y : y + size, x : x + size] for y, x in zip(ys, xs, strict=True)]
    return np.stack(found)


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The shortest time of some calls, which other work on the machine disturbs least; a GPU is waited for."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times)


def operations(make_net: Callable, size: int, train: bool) -> int:
    """Floating-point operations for one image; a backward pass counts as two forward passes."""
    with torch.device("meta"):
        net, image = make_net().eval(), torch.empty(1, 3, size, size)
    with FlopCounterMode(display=False) as counter:
        net(image)
    return counter.get_total_flops() * (3 if train else 1)


def matrix_peak(fabric) -> float:
    """Floating-point operations per second of a large matrix product in the precision of `fabric`."""
    size, fast = SIZES[fabric.device.type], fabric.strategy.precision.precision == "bf16-mixed"
    how = dict(device=fabric.device, dtype=torch.bfloat16 if fast else torch.float32)
    a, b = (torch.randn(size, size, **how) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, 10)


def row(work: str, unit: str, count: float, ours: float, plain: float, limit: float) -> dict:
    """One row: `count` units in so many seconds, by us and by the plain recipe; limit: units per second."""
    return dict(work=work, ours=count / ours, plain=count / plain, unit=unit, ratio=plain / ours, limit=limit,
                share=count / ours / limit)  # fmt: skip


def network(name: str, make_net: Callable, size: int, batch: int, count: int) -> Iterator[dict]:
    """Rows for training and prediction of a network, with `count` batches of an epoch."""
    rng, rows = np.random.default_rng(0), np.arange(batch * count)
    pixels, labels = rng.integers(0, 256, (len(rows), size, size, 3), np.uint8), rng.integers(0, 8, len(rows))
    fabric = make_fabric(training_precision(make_net()))

    def train(epochs: int) -> None:
        settings = dict(input_range="0..1", epochs=epochs, batch_size=batch)
        with tempfile.TemporaryDirectory() as folder:
            training.fit(make_net(), pixels, labels, rows[batch:], rows[:batch], settings, folder, fabric=fabric)

    train(1)  # libraries load and choose their kernels
    ours = (seconds(lambda: train(3)) - seconds(lambda: train(1))) / 2
    epoch = plain_training(make_net(), pixels[batch:], labels[batch:], batch, fabric.device)
    epoch()
    limit = matrix_peak(fabric) / operations(make_net, size, train=True)
    yield row(f"training {name}, batch {batch}", "images/s", len(rows) - batch, ours, seconds(epoch), limit)
    fabric = make_fabric()
    net = fabric.setup_module(make_net().to(memory_format=layout(fabric.device)))
    step = logits_step(net, "0..1", fabric)
    ours = seconds(lambda: logits_of(net, fabric, pixels, rows, batch, "0..1", step))
    plain = seconds(lambda: plain_prediction(make_net(), pixels, batch, fabric.device))
    limit = matrix_peak(fabric) / operations(make_net, size, train=False)
    yield row(f"prediction {name}, batch {batch}", "images/s", len(rows), ours, plain, limit)


def photographs(folder: Path) -> Iterator[dict]:
    """Rows for cutting patches from photos of 12 megapixels, and for naming the camera of one."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (PHOTO[0] // 8, PHOTO[1] // 8, 3), np.uint8)).resize(PHOTO[::-1])
    paths = [folder / "Brand_Model" / f"{number}.jpg" for number in range(PHOTOS)]
    paths[0].parent.mkdir()
    for path in paths:
        coarse.save(path, quality=92)
    catalogue, megapixels = datasets.load_folder(folder), PHOTOS * PHOTO[0] * PHOTO[1] / 1e6
    stores = itertools.count()
    ours = seconds(lambda: patches.extract(catalogue, folder / f"store{next(stores)}", per_photo=25))
    plain = seconds(lambda: plain_crops(paths, 48, 25))
    decode = lambda path: simplejpeg.decode_jpeg(path.read_bytes(), "RGB")  # noqa: E731
    with ThreadPoolExecutor(joblib.effective_n_jobs(-1)) as pool:
        limit = megapixels / seconds(lambda: list(pool.map(decode, paths)))
    yield row("patches of 12-megapixel photos", "megapixels/s", megapixels, ours, plain, limit)
    net = models.EfficientNetClassifier(8, "efficientnet_lite0", None).eval()
    model = models.Model(net, list("abcdefgh"), 96, "0..1", {})

    def plainly() -> None:
        photo = np.asarray(Image.open(paths[0]).convert("RGB"))
        corners = patch_positions(*photo.shape[:2], 96)
        plain_prediction(net, np.stack([photo[y : y + 96, x : x + 96] for y, x in corners]), 64, best_device())

    with few_threads():
        ours = seconds(lambda: predict_photo(read_photo(paths[0]), model))
    limit = 1 / seconds(lambda: decode(paths[0]))
    yield row("the camera of one 12-megapixel photo", "photos/s", 1, ours, seconds(plainly), limit)


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    argparse.ArgumentParser(prog="python -m camid_utils.benchmark", description=__doc__).parse_args(arguments)
    kind, rows = "cuda" if best_device() == "cuda" else "cpu", []
    with tempfile.TemporaryDirectory() as folder:
        sources = [network(name, *work) for name, work in WORK[kind].items()] + [photographs(Path(folder))]
        for found in itertools.chain(*sources):
            rows.append(found)
            print(f"{found['work']}: {found['ratio']:.2f} times the plain recipe", file=sys.stderr, flush=True)
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:,.3g}".format))
    return 0


if __name__ == "__main__":
    sys.exit(main())
