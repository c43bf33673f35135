"""What befalls photos on their way: re-compression, resizing, noise; of photos or, at random, of training images."""

import io
import zlib

import kornia.augmentation as K
import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor, nn

_QUALITY, _FACTOR = ("QUALITY", int, 1, 100), ("FACTOR", float, 0.01, 4.0)
NUMBERS = {  # what follows the name of each degradation: what it is, its type, the least and the most it may be
    "": (),
    "jpeg": (_QUALITY,),
    "scale": (_FACTOR,),
    "traces": (_FACTOR, _QUALITY),
    "messenger": (("SIDE", int, 1, 65_500), _QUALITY),
    "noise": (("DEVIATION", float, 0.0, 255.0),),
}
JPEG_BLOCK = 16  # pixels: what 4:2:0 codes together, so how far the grid of a re-compressed photo can lie from a crop's


def degrade(photo: np.ndarray, how: str) -> np.ndarray:
    """A photo uint8 [h, w, 3], degraded; the same photo and `how` always give the same pixels.

    "" changes nothing;
    "jpeg 70": re-compressed at quality 70, chroma 4:2:0;
    "scale 0.5": both sides halved;
    "traces 0.5 90": scaled by 0.5 and back, then quality 90: the finest traces of the camera go, the content stays;
    "messenger 1600 75": the longer side made 1600 pixels if it is longer, then quality 75;
    "noise 2": Gaussian noise, standard deviation 2 grey levels.
    Resizing is bilinear with anti-aliasing. Raises ValueError for any other `how`.
    """
    name, numbers = parsed(how)
    height, width = photo.shape[:2]
    match name:
        case "jpeg":
            return _recompressed(photo, *numbers)
        case "scale":
            return _scaled(photo, *numbers)
        case "traces":
            return _recompressed(resized(_scaled(photo, numbers[0]), height, width), numbers[1])
        case "messenger":
            return _recompressed(_scaled(photo, min(1.0, numbers[0] / max(height, width))), numbers[1])
        case "noise":
            noise = np.random.default_rng(zlib.crc32(photo.tobytes())).standard_normal(photo.shape, np.float32)
            return np.rint(photo + numbers[0] * noise).clip(0, 255).astype(np.uint8)
    return photo


def parsed(how: str) -> tuple[str, list[float]]:
    """Name and numbers of a degradation as `degrade` takes it, "" for none; ValueError if it is not one."""
    name, *words = how.split() or [""]
    try:
        return name, [_number(word, *spec) for word, spec in zip(words, NUMBERS[name], strict=True)]
    except (KeyError, ValueError) as error:
        forms = ", ".join(" ".join([known, *(spec[0] for spec in specs)]) for known, specs in NUMBERS.items() if known)
        ranges = "QUALITY 1 to 100, FACTOR 0.01 to 4, SIDE 1 to 65500 pixels, DEVIATION 0 to 255 grey levels"
        raise ValueError(f"degradation {how!r}: write one of {forms} ({ranges})") from error


def _number(word: str, name: str, kind: type, least: float, most: float) -> float:
    """One number of a degradation, or a ValueError if it is none or out of its range."""
    number = kind(word)
    if not least <= number <= most:
        raise ValueError(f"{name} {word}")
    return number


def resized(photo: np.ndarray, height: int, width: int) -> np.ndarray:
    """A whole photo as uint8 [height, width, 3], aspect ratio not kept, bilinear with anti-aliasing.

    First along the rows, then along the columns, whichever Pillow would take first: the web page does the same.
    """
    narrow = Image.fromarray(photo).resize((width, len(photo)), Image.Resampling.BILINEAR)
    return np.asarray(narrow.resize((width, height), Image.Resampling.BILINEAR))


def _scaled(photo: np.ndarray, factor: float) -> np.ndarray:
    """A photo with both sides `factor` times as long, at least one pixel."""
    return resized(photo, *(max(1, round(factor * side)) for side in photo.shape[:2]))


def _recompressed(photo: np.ndarray, quality: int) -> np.ndarray:
    """A photo through a JPEG file: the usual encoder (Pillow, 4:2:0), the study's decoder."""
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return simplejpeg.decode_jpeg(buffer.getvalue(), "RGB", strict=True)


class DegradationAugmentation(nn.Module):
    """Random flip, then scaling, noise and re-compression of 0..1 images [n, 3, s, s], each image its own draws.

    p_...: the chance that an image gets that step; factors of scaling, deviations of the noise in grey levels and JPEG
    qualities are drawn uniformly between the two values given. Where no step falls on an image, its pixels stay as
    they were, flipped or not. The order is that of a photo on its way: made smaller, disturbed, saved.
    """

    def __init__(
        self,
        p_scale: float = 0.5,
        factors: tuple[float, float] = (0.4, 1.0),
        p_noise: float = 0.25,
        deviations: tuple[float, float] = (0.0, 4.0),
        p_jpeg: float = 0.5,
        qualities: tuple[int, int] = (50, 95),
    ):
        super().__init__()
        if not all(0 <= p <= 1 for p in (p_scale, p_noise, p_jpeg)):
            raise ValueError(f"p_scale={p_scale}, p_noise={p_noise}, p_jpeg={p_jpeg}: chances are 0 to 1")
        if not 0 < factors[0] <= factors[1] <= 1:
            raise ValueError(f"factors={factors!r}: two numbers over 0, up to 1, as images are only made smaller")
        if not 1 <= qualities[0] <= qualities[1] <= 100:
            raise ValueError(f"qualities={qualities!r}: two JPEG qualities, 1 to 100, the lower first")
        self.flip = K.RandomHorizontalFlip(p=0.5)
        self.steps = ((p_scale, shrunk, factors), (p_noise, noisy, deviations), (p_jpeg, recompressed, qualities))

    def forward(self, images: Tensor) -> Tensor:
        images = self.flip(images).clone(memory_format=torch.channels_last)
        for p, step, (low, high) in self.steps:
            rows = torch.nonzero(torch.rand(len(images)) < p)[:, 0]
            amounts = torch.empty(len(rows)).uniform_(low, high)
            if len(rows):
                images[rows] = step(images[rows], amounts)
        return images

    def extra_repr(self) -> str:
        return ", ".join(f"{step.__name__}: p={p}, {low} to {high}" for p, step, (low, high) in self.steps)


def shrunk(images: Tensor, factors: Tensor) -> Tensor:
    """0..1 images [n, 3, s, s] at `factors` [n] (up to 1) of their scale, the rest filled with their mirror images.

    So every pixel of the crop has the trace of a photo that was made smaller, at the scale at which a network meets it.
    (Enlarging back would leave another trace, that of interpolation; an empty margin would be a telling object.)
    Bilinear with anti-aliasing, as `resized`; in matrices, as kornia's warps do not smooth before they sample.
    """
    size = images.shape[-1]
    matrices = _resampling(size, factors).to(images.device)[:, None]
    return _levels(matrices @ images @ matrices.mT)


def _resampling(size: int, factors: Tensor) -> Tensor:
    """Weights [n, size, size] of old pixels (columns) in new ones (rows): triangles, as wide as a new pixel."""
    pixels = torch.arange(size) + 0.5
    centres = pixels / factors[:, None]
    centres = size - (centres % (2 * size) - size).abs()  # mirrored at both ends as often as needed
    distances = (centres[:, :, None] - pixels).abs() * factors[:, None, None]
    weights = (1 - distances).clamp(min=0)
    return weights / weights.sum(2, keepdim=True)


def noisy(images: Tensor, deviations: Tensor) -> Tensor:
    """0..1 images [n, 3, h, w] with Gaussian noise of `deviations` [n] grey levels."""
    noise = torch.randn(images.shape, device=images.device)  # randn_like channels-last images takes ten times as long
    return _levels(images + noise * (deviations.to(images.device) / 255)[:, None, None, None])


def recompressed(images: Tensor, qualities: Tensor) -> Tensor:
    """0..1 images [n, 3, h, w] through JPEG at `qualities` [n], 4:2:0, the blocks' grid anywhere, as in a crop.

    By libjpeg, on the processor: kornia's differentiable approximation differs from it by 1 grey level on average, a
    third to two thirds of what the compression itself changes, and takes three times as long there.
    """
    height, width = images.shape[2:]
    margin = JPEG_BLOCK - 1
    padded = nn.functional.pad((images * 255).round(), (margin, 0, margin, 0), "reflect")
    photos = padded.byte().permute(0, 2, 3, 1).cpu().numpy()
    corners = torch.randint(JPEG_BLOCK, (len(photos), 2)).tolist()
    drawn = zip(photos, qualities.round().int().tolist(), corners, strict=True)
    coded = np.stack([_recompressed(photo[y:, x:], q)[-height:, -width:] for photo, q, (y, x) in drawn])
    return torch.from_numpy(coded).to(images.device).permute(0, 3, 1, 2) / 255


def _levels(images: Tensor) -> Tensor:
    """0..1 images rounded to the 256 levels that a photo can have."""
    return (images * 255).round().clamp(0, 255) / 255
