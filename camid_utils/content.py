"""How much a patch can say about its camera: quality, entropy, and a photo's best patches."""

import numpy as np
from scipy.special import entr

BLOCK = 256  # patches whose entropy is counted at once, so that memory stays small


def best_positions(photo: np.ndarray, size: int, count: int) -> np.ndarray:
    """Corners [n, 2] (y, x) of the `count` patches of a photo's full grid of highest quality, best first.

    A glance at the green of about 8 rows of each patch picks 4 x `count` candidates, whose quality is then
    measured whole: near the exact choice (and exact for small photos) in a fraction of the time.
    """
    ys, xs = (starts(length, size, length // size) for length in photo.shape[:2])
    corners = np.stack(np.meshgrid(ys, xs, indexing="ij"), axis=2).reshape(-1, 2)
    if len(corners) > 4 * count:
        glances = [_moments(photo[y : y + size : max(1, size // 8), :, 1:2], xs, size) for y in ys]
        scores = _score(*(np.concatenate(parts) for parts in zip(*glances, strict=True)))
        corners = corners[np.sort(_highest(scores, 4 * count))]
    return corners[_highest(quality(cut(photo, corners, size)), count)]


def quality(patches: np.ndarray) -> np.ndarray:
    """How much each of the patches uint8 [n, h, w, 3] can say about its camera: float64 [n], 0 to 1.

    Rewards mid-range brightness and texture; 0 is flat black or white. Bondi et al., "First Steps Toward
    Camera Model Identification With Convolutional Neural Networks", IEEE Signal Processing Letters, 2017.
    """
    count, height, width, _ = patches.shape
    strip = patches.transpose(1, 0, 2, 3).reshape(height, count * width, 3)
    return _score(*_moments(strip, np.arange(count) * width, width))


def entropy(patches: np.ndarray) -> np.ndarray:
    """Shannon entropy of the grey levels of each of the patches uint8 [n, h, w, 3], in bits: float64 [n], 0 to 8.

    Grey is ITU-R BT.601 luma, rounded. High where there is much texture: the choice of Dey et al., "Camera Model
    Identification with SPAIR-Swin and Entropy based Non-Homogeneous Patches", 2024.
    """
    blocks = (patches[i : i + BLOCK] for i in range(0, len(patches), BLOCK))
    return np.concatenate([np.zeros(0), *map(_entropy, blocks)])


def _entropy(patches: np.ndarray) -> np.ndarray:
    """`entropy` of few patches: one count of (patch, grey level) pairs."""
    count = len(patches)
    grey = (patches @ np.array([299, 587, 114], np.int32) + 500) // 1000
    levels = (grey.reshape(count, -1) + 256 * np.arange(count)[:, None]).ravel()
    shares = np.bincount(levels, minlength=256 * count).reshape(count, 256) / grey[0].size
    return entr(shares).sum(axis=1) / np.log(2)


def _score(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Bondi et al.'s quality [n], with their constants, from each channel's mean and deviation [n, 3]."""
    alpha, beta, gamma = 0.7, 4.0, np.log(0.01)
    brightness, texture = beta * (mean - mean**2), 1 - np.exp(gamma * spread)
    return (alpha * brightness + (1 - alpha) * texture).mean(axis=1)


def _moments(strip: np.ndarray, xs: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation [n, channels], scaled to 0..1, of a strip's stretches of `width` that start at `xs`.

    Sums down the columns (no BLAS: its threads would fight with ours), then over each stretch of columns.
    """
    height, length, channels = strip.shape
    values = strip.reshape(height, length * channels).astype(np.float32)
    sums = np.zeros((2, length + 1, channels))  # one column too many, for a stretch that ends with the strip
    sums[0, :length] = values.sum(axis=0).reshape(length, channels)
    sums[1, :length] = np.einsum("ij,ij->j", values, values).reshape(length, channels)
    ends = np.stack([xs, xs + width], axis=1).ravel()
    mean, square = np.add.reduceat(sums, ends, axis=1)[:, ::2] / (height * width)
    return mean / 255, np.sqrt(np.maximum(square - mean**2, 0)) / 255


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` highest scores, highest first, the earlier of equals first."""
    return np.argsort(-scores, kind="stable")[:count]


def starts(length: int, size: int, count: int) -> np.ndarray:
    """Starts of `count` stretches of `size`, each in the middle of its equal share of `length`."""
    return ((2 * np.arange(count) + 1) * length - count * size) // (2 * count)


def cut(photo: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """Square patches uint8 [n, size, size, 3] of a photo."""
    return np.stack([photo[y : y + size, x : x + size] for y, x in corners])
