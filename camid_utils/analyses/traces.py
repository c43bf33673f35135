"""What a camera leaves in a photo: the spectrum of its noise residual and its JPEG settings."""

from contextlib import suppress

import joblib
import numpy as np
import pandas as pd
from scipy.fft import fft2, fftshift
from scipy.ndimage import uniform_filter

from ..patches import cut_patches, grid_positions
from ..photos import quantisation_tables, read_photo

NOISE_DEVIATION = 5.0  # grey levels of sensor noise: the assumption of Lukas, Fridrich and Goljan (2006)


def noise_residual(photo: np.ndarray) -> np.ndarray:
    """The green of a photo uint8 [h, w, 3] minus its denoised green (5 x 5 Wiener filter): float32 [h, w], grey levels.

    Half of a sensor's pixels measure green, and subsampling affects it least.
    """
    green = photo[..., 1].astype(np.float32)
    mean = uniform_filter(green, 5)
    variance = uniform_filter((green - mean) ** 2, 5)
    return (green - mean) * NOISE_DEVIATION**2 / np.maximum(variance, NOISE_DEVIATION**2)


def _crop_spectra(path: str, size: int, per_photo: int) -> list[np.ndarray]:
    """Spectra of the residual in crops of one photo, decibels, zero frequency in the middle; none if it is unusable."""
    try:
        photo = read_photo(path)
    except ValueError:
        return []
    if min(photo.shape[:2]) < size:
        return []
    crops = cut_patches(photo, grid_positions(*photo.shape[:2], size, per_photo), size)
    window = np.outer(np.hanning(size), np.hanning(size))
    # flat black or white has no traces: its spectrum would be minus infinity
    residuals = [residual for residual in map(noise_residual, crops) if residual.std() >= 0.05]
    return [20 * np.log10(np.abs(fftshift(fft2(residual * window))) + 1e-6) for residual in residuals]


def spectra(catalogue: pd.DataFrame, photos: int = 8, size: int = 128, per_photo: int = 4) -> dict[str, np.ndarray]:
    """Mean spectrum of the noise residual of each camera model: float [size, size], zero frequency in the middle.

    In decibels around the mean; from crops of `photos` evenly spaced photos, if any is usable. Where all photos are too
    small, `size` is halved, down to 16.
    """
    found = {}
    for model, paths in catalogue.sort_values("path").groupby("camera_model", observed=True)["path"]:
        chosen = np.unique(np.linspace(0, len(paths) - 1, photos).round().astype(int))
        tasks = (joblib.delayed(_crop_spectra)(path, size, per_photo) for path in paths.iloc[chosen])
        crops = [spectrum for part in joblib.Parallel(n_jobs=-1, backend="threading")(tasks) for spectrum in part]
        if crops:
            mean = np.mean(crops, axis=0)
            found[model] = mean - mean.mean()
    return found if found or size <= 16 else spectra(catalogue, photos, size // 2, per_photo)


def jpeg_table_summary(catalogue: pd.DataFrame) -> pd.DataFrame:
    """JPEG settings from readable headers, one row per camera model; tables are pairs, their means quantiser steps."""
    found = []
    for path, model in zip(catalogue["path"], catalogue["camera_model"].astype(str), strict=True):
        with suppress(ValueError):  # an unreadable header
            luma, chroma, subsampling = quantisation_tables(path)
            means = luma.mean(), np.nan if chroma is None else chroma.mean()
            found.append([model, str((luma, chroma)), *means, subsampling])
    rows = pd.DataFrame(found, columns=["camera_model", "tables", "luma", "chroma", "subsampling"])
    return rows.groupby("camera_model", as_index=False).agg(
        photos=("tables", "size"), distinct_tables=("tables", "nunique"), mean_luma=("luma", "mean"),
        mean_chroma=("chroma", "mean"), subsampling=("subsampling", lambda kinds: ", ".join(kinds.value_counts().index))
    )  # fmt: skip
