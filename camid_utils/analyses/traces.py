"""What a camera leaves in a photo: the spectrum of its noise residual and its JPEG settings."""

import joblib
import numpy as np
import pandas as pd
from scipy.fft import fft2, fftshift
from scipy.ndimage import uniform_filter

from ..patches import cut_patches, grid_positions
from ..photos import quantisation_tables, read_photo

NOISE_DEVIATION = 5.0  # grey levels of sensor noise: the assumption of Lukas, Fridrich and Goljan (2006)


def noise_residual(photo: np.ndarray) -> np.ndarray:
    """The green of a photo uint8 [h, w, 3] minus its denoised green: float32 [h, w], grey levels.

    After Lukas, Fridrich and Goljan (2006), with a Wiener filter of 5 x 5 pixels instead of wavelets. Green, because
    half of a sensor's pixels measure it and chroma subsampling affects it least.
    """
    green = photo[..., 1].astype(np.float32)
    mean = uniform_filter(green, 5)
    variance = uniform_filter((green - mean) ** 2, 5)
    return (green - mean) * NOISE_DEVIATION**2 / np.maximum(variance, NOISE_DEVIATION**2)


def _crop_spectra(path: str, size: int, per_photo: int) -> list[np.ndarray]:
    """Spectra of the residual in crops of one photo, decibels, zero frequency in the middle; none if it is unusable."""
    try:
        photo = read_photo(path)
        crops = cut_patches(photo, grid_positions(*photo.shape[:2], size, per_photo), size)
    except ValueError:  # unreadable, or smaller than a crop
        return []
    window = np.outer(np.hanning(size), np.hanning(size))
    # flat black or white has no traces: its spectrum would be minus infinity
    residuals = [residual for residual in map(noise_residual, crops) if residual.std() >= 0.05]
    return [20 * np.log10(np.abs(fftshift(fft2(residual * window))) + 1e-6) for residual in residuals]


def spectra(catalogue: pd.DataFrame, photos: int = 8, size: int = 128, per_photo: int = 4) -> dict[str, np.ndarray]:
    """Mean spectrum of the noise residual of each camera model: float [size, size], zero frequency in the middle.

    Decibels around the mean of the spectrum; steps of 1 / size cycles per pixel; from native crops of `photos` evenly
    spaced photos. Models without a usable photo are absent. Where all photos are too small, `size` is halved, to 16.
    """
    found = {}
    for model, rows in catalogue.groupby("camera_model", observed=True):
        paths = rows["path"].sort_values().to_numpy()
        chosen = np.unique(np.linspace(0, len(paths) - 1, photos).round().astype(int))
        tasks = (joblib.delayed(_crop_spectra)(path, size, per_photo) for path in paths[chosen])
        crops = [spectrum for part in joblib.Parallel(n_jobs=-1, backend="threading")(tasks) for spectrum in part]
        if crops:
            mean = np.mean(crops, axis=0)
            found[model] = mean - mean.mean()
    return found if found or size <= 16 else spectra(catalogue, photos, size // 2, per_photo)


def jpeg_table_summary(catalogue: pd.DataFrame) -> pd.DataFrame:
    """JPEG settings of each camera model in alphabetical order, from photo headers: one row per model.

    Columns: camera_model; photos (with a readable header); distinct_tables (pairs of luma and chroma tables);
    mean_luma and mean_chroma (mean quantiser step, NaN without tables); subsampling (the most frequent first).
    """
    tasks = (joblib.delayed(_photo_settings)(path) for path in catalogue["path"])
    rows = pd.DataFrame(joblib.Parallel(n_jobs=-1, backend="threading")(tasks))
    rows = rows.assign(camera_model=catalogue["camera_model"].astype(str).to_numpy()).dropna(subset="tables")
    columns = {"photos": ("tables", "size"), "distinct_tables": ("tables", "nunique")}
    columns |= {"mean_luma": ("luma", "mean"), "mean_chroma": ("chroma", "mean")}
    kinds = ("subsampling", lambda kinds: ", ".join(kinds.value_counts().index))
    return rows.groupby("camera_model", as_index=False).agg(**columns, subsampling=kinds)


def _photo_settings(path: str) -> dict:
    """Both tables as one text, their mean steps, and the subsampling; tables is None if the header is unreadable."""
    try:
        luma, chroma, subsampling = quantisation_tables(path)
    except ValueError:
        return dict(tables=None, luma=np.nan, chroma=np.nan, subsampling=None)
    grey = chroma is None
    tables = str([luma.tolist(), None if grey else chroma.tolist()])
    return dict(tables=tables, luma=luma.mean(), chroma=np.nan if grey else chroma.mean(), subsampling=subsampling)
