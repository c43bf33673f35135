"""Random changes of training images, floats 0..1 [n, 3, height, width]: flips, rotation, jitter, image degradations."""

import kornia.augmentation as K
import numpy as np
import torch
from torch import Tensor, nn

from .photos import recompress

JPEG_BLOCK = 16  # pixels coded together at 4:2:0: a crop can lie anywhere in that grid


def augmentation(flip: bool = True, rotation: float = 0.0, jitter: float = 0.0) -> nn.Module:
    """Flips, rotation up to this many degrees (resamples the pixels), brightness and contrast jitter as a fraction."""
    steps = [K.RandomHorizontalFlip(p=0.5)] if flip else []
    steps += [K.RandomRotation(rotation, p=1.0)] if rotation else []
    steps += [K.ColorJitter(jitter, jitter, 0.0, 0.0, p=1.0)] if jitter else []
    return K.AugmentationSequential(*steps, data_keys=["input"]) if steps else nn.Identity()


class DegradationAugmentation(nn.Module):
    """Random flip, then downscaling, noise and JPEG compression of square images, in the order of a photo being shared.

    Each step: its probability, then the least and the greatest amount, between which it is uniform. The amounts are
    scaling factors, standard deviations in grey levels and JPEG qualities. Without any step an image keeps its pixels.
    """

    def __init__(self, scale=(0.5, 0.4, 1.0), noise=(0.25, 0.0, 4.0), jpeg=(0.5, 50, 95)):
        super().__init__()
        self.flip = K.RandomHorizontalFlip(p=0.5)
        self.steps = ((shrunk, *scale), (noisy, *noise), (recompressed, *jpeg))
        for (step, p, low, high), (least, most) in zip(self.steps, ((0.01, 1), (0, 255), (1, 100)), strict=True):
            if not (0 <= p <= 1 and least <= low <= high <= most):
                form = f"a probability and two amounts from {least} to {most}, the lower first"
                raise ValueError(f"{step.__name__}: {(p, low, high)}, expected {form}")

    def forward(self, images: Tensor) -> Tensor:
        images = self.flip(images).clone(memory_format=torch.channels_last)
        for step, p, low, high in self.steps:
            rows = torch.nonzero(torch.rand(len(images)) < p)[:, 0]
            amounts = torch.empty(len(rows)).uniform_(low, high)
            if len(rows):
                images[rows] = step(images[rows], amounts)
        return images

    def extra_repr(self) -> str:  # the text by which a checkpoint knows its settings
        return ", ".join(f"{step.__name__}: p={p}, {low} to {high}" for step, p, low, high in self.steps)


def shrunk(images: Tensor, factors: Tensor) -> Tensor:
    """Square images at `factors` [n] (up to 1) of their scale, the rest filled with mirror images.

    Thus every pixel is from a downscaled photo: enlarging back would add traces of interpolation, an empty margin
    would give the factor away. Bilinear with anti-aliasing, as `photos.resize`; kornia's warps do not smooth first.
    """
    size = images.shape[-1]
    pixels = torch.arange(size) + 0.5
    centres = pixels / factors[:, None]
    centres = size - (centres % (2 * size) - size).abs()  # mirrored at both ends as often as needed
    distances = (centres[:, :, None] - pixels).abs() * factors[:, None, None]
    weights = (1 - distances).clamp(min=0)  # [n, new pixels, old pixels]: triangles as wide as a new pixel
    matrices = (weights / weights.sum(2, keepdim=True)).to(images.device)[:, None]
    return _whole_levels(matrices @ images @ matrices.mT)


def noisy(images: Tensor, deviations: Tensor) -> Tensor:
    """Images with Gaussian noise of `deviations` [n] grey levels."""
    noise = torch.randn(images.shape, device=images.device)  # randn_like channels-last images takes ten times as long
    return _whole_levels(images + noise * (deviations.to(images.device) / 255)[:, None, None, None])


def recompressed(images: Tensor, qualities: Tensor) -> Tensor:
    """Images after JPEG compression at `qualities` [n], 4:2:0, with the block grid anywhere, as in a crop.

    By libjpeg on the CPU: kornia's differentiable approximation is off by 1 grey level on average, up to two thirds of
    what compression itself changes, and takes three times as long there.
    """
    height, width = images.shape[2:]
    margin = JPEG_BLOCK - 1
    padded = nn.functional.pad((images * 255).round(), (margin, 0, margin, 0), "reflect")
    photos = padded.byte().permute(0, 2, 3, 1).cpu().numpy()
    corners = torch.randint(JPEG_BLOCK, (len(photos), 2)).tolist()
    drawn = zip(photos, qualities.round().int().tolist(), corners, strict=True)
    coded = np.stack([recompress(photo[y:, x:], q)[-height:, -width:] for photo, q, (y, x) in drawn])
    return torch.from_numpy(coded).to(images.device).permute(0, 3, 1, 2) / 255


def _whole_levels(images: Tensor) -> Tensor:
    """Images rounded to the 256 levels of a photo."""
    return (images * 255).round().clamp(0, 255) / 255
