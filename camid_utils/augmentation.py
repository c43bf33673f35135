"""Random changes of training images: flips, rotation, jitter and image degradations, as plain data.

An augmentation is a dict: {"flip": true, "rotation": 10.0, "jitter": 0.2}, or DEGRADED; None and {} change nothing.
flip: half of the images, left to right. rotation: up to this many degrees (resamples the pixels). jitter: of brightness
and contrast, as a fraction. scale, noise, jpeg: a probability, then the least and the greatest amount, between which it
is uniform: scaling factors, standard deviations in grey levels and JPEG qualities.
"""

import numpy as np
import torch
from torch import Tensor, nn

from .photos import recompress

JPEG_BLOCK = 16  # pixels coded together at 4:2:0: a crop can lie anywhere in that grid
DEGRADATIONS = ("scale", "noise", "jpeg")  # in the order of a shared photo
LIMITS = {"rotation": (0, 180), "jitter": (0, 1), "scale": (0.01, 1), "noise": (0, 255), "jpeg": (1, 100)}
DEGRADED = {"flip": True, "scale": [0.5, 0.4, 1.0], "noise": [0.25, 0.0, 4.0], "jpeg": [0.5, 50, 95]}


def checked(augment: dict | None) -> dict:
    """The augmentation, empty for None; ValueError for an unknown step or an impossible amount."""
    augment = dict(augment or {})
    if unknown := sorted(set(augment) - {"flip", *LIMITS}):
        raise ValueError(f"augmentation: no step {', '.join(unknown)}; there are flip, {', '.join(LIMITS)}")
    for step in LIMITS.keys() & augment.keys():
        value, (least, most) = augment[step], LIMITS[step]
        p, low, high = value if step in DEGRADATIONS else (1, value, value)
        if not (0 <= p <= 1 and least <= low <= high <= most):
            form = "a probability and two amounts, the lower first," if step in DEGRADATIONS else "an amount"
            raise ValueError(f"augmentation: {step} {value}, expected {form} from {least} to {most}")
    return augment


def draw(augment: dict | None, count: int, rng: np.random.Generator | None = None) -> dict[str, Tensor]:
    """What happens to each of `count` images, by step: tensors [count, ...] on the CPU, the same for every device."""
    augment, draws, rng = checked(augment), {}, rng or np.random.default_rng(0)
    if augment.get("flip"):
        draws["flip"] = rng.random(count) < 0.5
    if augment.get("rotation"):
        draws["rotation"] = rng.uniform(-1, 1, count) * augment["rotation"]
    if augment.get("jitter"):
        draws["jitter"] = 1 + rng.uniform(-1, 1, (count, 2)) * augment["jitter"]
    for step in (step for step in DEGRADATIONS if step in augment):
        p, low, high = augment[step]
        draws[step] = np.where(rng.random(count) < p, rng.uniform(low, high, count), 0)  # 0: the step is left out
    if "noise" in draws:
        draws["seed"] = rng.integers(2**31, size=count)
    if "jpeg" in draws:
        draws["corner"] = rng.integers(JPEG_BLOCK, size=(count, 2))
    return {name: torch.from_numpy(v.astype(np.float32) if v.dtype == float else v) for name, v in draws.items()}


def augmented(images: Tensor, draws: dict[str, Tensor]) -> Tensor:
    """Images uint8 [n, 3, h, w], square, changed by their `draws`: grey levels, as floats after rotation or jitter."""
    if "flip" in draws:
        images = torch.where(draws["flip"].to(images.device)[:, None, None, None], images.flip(3), images)
    for step, change, *names in (("scale", shrunk), ("noise", noisy, "seed"), ("jpeg", recompressed, "corner")):
        rows = draws[step].nonzero()[:, 0] if step in draws else ()
        if len(rows):
            changed = change(images[rows.to(images.device)], *(draws[name][rows] for name in (step, *names)))
            images = images.index_copy(0, rows.to(images.device), changed)
    if not len(images):  # a process's share of a batch that has fewer images than there are processes
        return images
    if "rotation" in draws:
        images = rotated(images.float(), draws["rotation"].to(images.device))
    if "jitter" in draws:
        images = jittered(images.float(), *draws["jitter"].to(images.device).T)
    return images


def rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Square float images turned counter-clockwise by `degrees` [n] about their centre; bilinear, black outside."""
    angles, zero = torch.deg2rad(degrees), torch.zeros_like(degrees)
    cos, sin = angles.cos(), angles.sin()
    turns = torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3)
    grid = nn.functional.affine_grid(turns, images.shape, align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def jittered(images: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Float images of 0 to 255, multiplied by `brightness` [n]; then their distance from their mean by `contrast`."""
    images = (images * brightness[:, None, None, None]).clamp(0, 255)
    mean = images.mean((1, 2, 3), keepdim=True)
    return (mean + (images - mean) * contrast[:, None, None, None]).clamp(0, 255)


def shrunk(images: Tensor, factors: Tensor) -> Tensor:
    """Square images uint8 at `factors` [n] (up to 1) of their scale, the rest filled with mirror images.

    Thus every pixel is from a downscaled photo: enlarging back would add traces of interpolation, an empty margin
    would give the factor away. Bilinear with anti-aliasing, as `photos.resize`.
    """
    size = images.shape[-1]
    pixels = torch.arange(size) + 0.5
    centres = pixels / factors[:, None]
    centres = size - (centres % (2 * size) - size).abs()  # mirrored at both ends as often as needed
    distances = (centres[:, :, None] - pixels).abs() * factors[:, None, None]
    weights = (1 - distances).clamp(min=0)  # [n, new pixels, old pixels]: triangles as wide as a new pixel
    matrices = (weights / weights.sum(2, keepdim=True)).to(images.device)[:, None]
    return _levels(matrices @ images.float() @ matrices.mT)


def noisy(images: Tensor, deviations: Tensor, seeds: Tensor) -> Tensor:
    """Images uint8 with Gaussian noise of `deviations` [n] grey levels; each has a seed of its own."""
    generators = (torch.Generator(images.device).manual_seed(seed) for seed in seeds.tolist())
    noise = torch.stack([torch.randn(images.shape[1:], generator=g, device=images.device) for g in generators])
    return _levels(images + noise * deviations.to(images.device)[:, None, None, None])


def recompressed(images: Tensor, qualities: Tensor, corners: Tensor) -> Tensor:
    """Images uint8 after JPEG compression at `qualities` [n], 4:2:0, with the block grid where `corners` [n, 2] say.

    By libjpeg on the CPU: a differentiable approximation is off by 1 grey level on average, up to two thirds of what
    compression itself changes, and takes three times as long there.
    """
    height, width = images.shape[2:]
    margin = JPEG_BLOCK - 1
    photos = np.pad(images.permute(0, 2, 3, 1).cpu().numpy(), ((0, 0), (margin, 0), (margin, 0), (0, 0)), "reflect")
    drawn = zip(photos, qualities.round().int().tolist(), corners.tolist(), strict=True)
    coded = np.stack([recompress(photo[y:, x:], q)[-height:, -width:] for photo, q, (y, x) in drawn])
    return torch.from_numpy(coded).to(images.device).permute(0, 3, 1, 2)


def _levels(images: Tensor) -> Tensor:
    """Float images rounded to the 256 levels of a photo."""
    return images.round().clamp(0, 255).byte()
