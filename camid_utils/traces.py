"""What a camera leaves in a photo: the spectrum of its noise residual and its JPEG tables."""

from collections.abc import Iterable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import fft2, fftshift
from scipy.ndimage import uniform_filter

from camid_utils.patches import grid_positions, read_photo

NOISE_DEVIATION = 5.0  # grey levels: Lukas, Fridrich and Goljan (2006) suppose this much sensor noise
SUBSAMPLING = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}


def noise_residual(photo: np.ndarray) -> np.ndarray:
    """What denoising takes away from the green of a photo uint8 [h, w, 3]: float32 [h, w], grey levels.

    The idea is of Lukas, Fridrich and Goljan, "Digital Camera Identification from Sensor Pattern Noise", IEEE
    Transactions on Information Forensics and Security, 2006; a local Wiener filter of 5 x 5 pixels stands for
    their wavelet filter. Green, because half of a sensor's pixels measure it and chroma subsampling touches
    it least.
    """
    green = photo[..., 1].astype(np.float32)
    mean = uniform_filter(green, 5)
    variance = uniform_filter((green - mean) ** 2, 5)
    return (green - mean) * NOISE_DEVIATION**2 / np.maximum(variance, NOISE_DEVIATION**2)


def residual_spectrum(crop: np.ndarray) -> np.ndarray | None:
    """Spectrum of one square crop's residual: float [size, size], decibels, zero frequency in the middle.

    None for a crop without a trace, black or white all over, whose spectrum would be minus infinity.
    """
    residual = noise_residual(crop)
    if residual.std() < 0.05:
        return None
    window = np.hanning(len(residual))
    magnitude = np.abs(fftshift(fft2(residual * np.outer(window, window))))
    return 20 * np.log10(magnitude + 1e-6)


def mean_spectrum(paths: Iterable[str | Path], size: int = 256, per_photo: int = 4) -> np.ndarray:
    """Mean log-magnitude spectrum of the noise residual over native crops of photos: float [size, size].

    Decibels about the spectrum's own mean, so that camera models with more or less noise compare; the zero
    frequency is at [size // 2, size // 2], one step is 1 / size cycles a pixel. Photos that cannot be read or
    have no room for a crop are skipped; ValueError if none is left.
    """
    paths = list(paths)
    tasks = (joblib.delayed(_crop_spectra)(path, size, per_photo) for path in paths)
    parts = joblib.Parallel(n_jobs=-1, backend="threading")(tasks)
    found = [spectrum for part in parts for spectrum in part]
    if not found:
        raise ValueError(f"none of {len(paths)} photos could be read and has a crop of {size} x {size} pixels")
    mean = np.mean(found, axis=0)
    return mean - mean.mean()


def _crop_spectra(path: str | Path, size: int, per_photo: int) -> list[np.ndarray]:
    """Spectra of the crops of one photo; none if it cannot be used."""
    try:
        photo = read_photo(path)
    except ValueError:
        return []
    if min(photo.shape[:2]) < size:
        return []
    corners = grid_positions(*photo.shape[:2], size, per_photo)
    spectra = [residual_spectrum(photo[y : y + size, x : x + size]) for y, x in corners]
    return [spectrum for spectrum in spectra if spectrum is not None]


def spectra(catalogue: pd.DataFrame, photos: int = 8, size: int = 128, per_photo: int = 4) -> dict[str, np.ndarray]:
    """`mean_spectrum` [size, size] of each camera model, from `photos` photos spread over its part.

    Models in alphabetical order; one without a photo that can be used is absent. Where all photos are too small, the
    size is halved until it fits, down to 16.
    """
    found = {}
    for model, rows in catalogue.groupby("camera_model", observed=True):
        paths = rows["path"].sort_values().to_numpy()
        chosen = np.unique(np.linspace(0, len(paths) - 1, photos).round().astype(int))
        try:
            found[model] = mean_spectrum(paths[chosen], size, per_photo)
        except ValueError:
            continue
    return found if found or size <= 16 else spectra(catalogue, photos, size // 2, per_photo)


def jpeg_tables(path: str | Path) -> tuple[np.ndarray, np.ndarray | None, str]:
    """A photo's luma and chroma quantisation tables, int [8, 8], and its subsampling, such as "4:2:0".

    Row 0, column 0 is the step for a block's mean; horizontal frequency grows with the column (Pillow undoes
    the zigzag order since 8.3). A grey photo has no chroma table (None) and the subsampling "grey". Only the
    header is read. Raises ValueError, with the path, if the file is no JPEG.
    """
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            tables, layers = (
                image.quantization,
                image.layer,
            )  # a layer: id, horizontal and vertical samples, table
            luma, *chroma = [np.reshape(tables[table], (8, 8)) for *_, table in layers]
    except (OSError, SyntaxError, KeyError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: its JPEG tables cannot be read ({error})") from error
    if not chroma:
        return luma, None, "grey"
    across, down = layers[0][1] // layers[1][1], layers[0][2] // layers[1][2]
    return luma, chroma[0], SUBSAMPLING.get((across, down), f"{across} x {down}")


def jpeg_table_summary(catalogue: pd.DataFrame) -> pd.DataFrame:
    """JPEG settings of each camera model, a row a model in alphabetical order, from its photos' headers.

    Columns: camera_model; photos (whose header could be read); distinct_tables (pairs of luma and chroma
    tables); mean_luma and mean_chroma (mean quantiser step over table and photos, NaN without); subsampling
    (all that occur, the commonest first). Photos that cannot be read are skipped.
    """
    tasks = (joblib.delayed(_photo_settings)(path) for path in catalogue["path"])
    settings = joblib.Parallel(n_jobs=-1, backend="threading")(tasks)
    rows = pd.DataFrame(settings, columns=["tables", "luma", "chroma", "subsampling"])
    rows["camera_model"] = catalogue["camera_model"].astype(str).to_numpy()
    groups = rows.dropna(subset="tables").groupby("camera_model")
    return groups.agg(
        photos=("tables", "size"),
        distinct_tables=("tables", "nunique"),
        mean_luma=("luma", "mean"),
        mean_chroma=("chroma", "mean"),
        subsampling=("subsampling", lambda values: ", ".join(values.value_counts().index)),
    ).reset_index()


def _photo_settings(path: str) -> tuple[str | None, float, float, str | None]:
    """Both tables as one text, their mean steps, and the subsampling; None and NaN if there are none."""
    try:
        luma, chroma, subsampling = jpeg_tables(path)
    except ValueError:
        return None, np.nan, np.nan, None
    mean_chroma = np.nan if chroma is None else float(chroma.mean())
    text = str([luma.tolist(), None if chroma is None else chroma.tolist()])
    return text, float(luma.mean()), mean_chroma, subsampling
