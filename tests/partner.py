"""What runs in each of the processes of test_distributed: training on planted patches, and what came of it as files."""

import faulthandler
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from camid_utils import training

SETTINGS = dict(input_range="-1..1", batch_size=25, learning_rate=0.05, epochs=4, seed=1)


def planted():
    """Patches of two classes, and rows to train and validate on: a last batch of one row, an odd validation part."""
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 96)
    pixels = (rng.integers(0, 200, (192, 8, 8, 3)) + 40 * labels[:, None, None, None]).astype(np.uint8)
    return pixels, labels, np.arange(126), np.arange(126, 191)


def network(norm: bool) -> nn.Module:
    torch.manual_seed(0)
    first = nn.BatchNorm2d(3) if norm else nn.Identity()
    return nn.Sequential(first, nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 2))


def fit(net: nn.Module, folder: Path) -> training.History:
    fabric = training.make_fabric("32-true", joined=True)
    return training.fit(net, *planted(), folder=folder, fabric=fabric, **SETTINGS)


def work(folder: Path, what: str) -> None:
    """One of the processes: trains "both" networks, or one "alone", or "dies" in the third epoch of that."""
    faulthandler.dump_traceback_later(200, exit=True)
    rank, ordinary, epochs = os.environ["RANK"], training._train_epoch, []

    def counted(*args):
        epochs.append(args[-2][1])  # [seed, epoch]
        if what == "dies" and epochs[-1] == 3 and rank == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return ordinary(*args)

    training._train_epoch = counted
    for name in ("plain", "norm") if what == "both" else ("plain",):
        epochs.clear()
        net = network(norm=name == "norm")
        fit(net, folder / name).epochs.assign(trained=len(epochs)).to_csv(folder / f"{name}-{rank}.csv", index=False)
        save_file(net.state_dict(), folder / f"{name}-{rank}.safetensors")


if __name__ == "__main__":
    work(Path(sys.argv[1]), sys.argv[2])
