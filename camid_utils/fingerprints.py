"""Which single camera took a photo: fingerprints of sensor noise, and how well a photo's noise agrees with them.

Photo-response non-uniformity: each pixel of a sensor answers to light a little more or less than the others, always
the same; a photo is (1 + fingerprint) x light + noise. Only photos with the same pixels can be compared: of the
same height and width, as stored, neither cropped nor rotated. Others are refused, never cropped to fit, as a
centre crop of another format would set pixels of other places of the sensor side by side.
"""

from collections.abc import Iterable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pywt
from scipy.fft import irfft2, rfft2
from scipy.ndimage import uniform_filter
from scipy.special import log_softmax

from .evaluation import LOG_PROB, resampled, roc_of
from .patches import read_photo
from .progress import progress

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601: a JPEG's own grey
WAVELET, LEVELS = "db4", 4  # Daubechies' filter with 8 taps, four levels: Lukas, Fridrich and Goljan (2006)
WINDOWS = (3, 5, 7, 9)  # coefficients: neighbourhoods that the local variance is the least of (Mihcak et al. 1999)
# grey levels; on a few real Nikon photos Lukas et al.'s 5 did a fifth less well, 2 was higher on own and other devices
NOISE_DEVIATION = 3.0
SATURATED = 250  # grey levels: brighter pixels are clipped and carry no fingerprint (Chen et al. 2008)
APART = 5  # pixels about the peak, each way, that do not count as noise: 11 x 11 (Goljan et al. 2009)
FALSE_POSITIVES = 0.01  # of the pairs of a photo and another device
QUESTIONS = ("any device", "devices of its camera model")


def residual(photo: np.ndarray) -> np.ndarray:
    """A photo's noise, uint8 [h, w, 3] -> float32 [h, w] in grey levels: its grey less its denoised grey.

    Denoised by local Wiener shrinkage of the wavelet coefficients: Mihcak, Kozintsev and Ramchandran, "Spatially
    adaptive statistical modeling of wavelet image coefficients" (1999), as Lukas et al. (2006) use it.
    """
    grey = photo @ LUMA
    levels = min(LEVELS, pywt.dwtn_max_level(grey.shape, WAVELET))
    smooth, *details = pywt.wavedec2(grey, WAVELET, level=levels)
    noise = [tuple(band * _noise_share(band**2, NOISE_DEVIATION**2) for band in level) for level in details]
    return pywt.waverec2([np.zeros_like(smooth), *noise], WAVELET)[: grey.shape[0], : grey.shape[1]]


def _noise_share(power: np.ndarray, noise: float, mode: str = "reflect") -> np.ndarray:
    """How much of each coefficient's power is noise, 0 to 1; the rest is the least local mean above `noise`."""
    signal = uniform_filter(power, WINDOWS[0], mode=mode)
    for window in WINDOWS[1:]:
        np.minimum(signal, uniform_filter(power, window, mode=mode), out=signal)
    return noise / (np.maximum(signal - noise, 0) + noise)


def fingerprint(photos: Iterable[str | Path | np.ndarray], workers: int = -1) -> np.ndarray:
    """Fingerprint of the one device that took all `photos`, paths or uint8 [h, w, 3]: float32 [h, w].

    Maximum likelihood, sum(noise x light) / sum(light^2): Chen, Fridrich, Goljan and Lukas, "Determining image origin
    and integrity using sensor noise" (2008); then without what devices of a camera model share, see `_private`.
    Flat, bright, unclipped frames serve best. Photos come and go one by one: memory does not grow with their number.
    ValueError, naming the photo, if one cannot be read or differs in size from those before.
    """
    tasks = (joblib.delayed(_noise_and_light)(photo) for photo in photos)
    total = energy = None
    for name, noise, light in joblib.Parallel(n_jobs=workers, backend="threading", return_as="generator")(tasks):
        if total is None:
            total, energy = np.zeros_like(noise), np.ones_like(noise)  # ones: a pixel that never saw light has no print
        if noise.shape != total.shape:
            sizes = f"{name} has {_size(noise)} pixels, the photos before it {_size(total)}"
            raise ValueError(f"{sizes}: they do not lie on each other. Make a fingerprint for each size")
        total += noise * light
        energy += light**2
    if total is None:
        raise ValueError("a fingerprint needs at least one photo")
    return _private(total / energy)


def _noise_and_light(photo: str | Path | np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    name, pixels = ("a photo", photo) if isinstance(photo, np.ndarray) else (str(photo), read_photo(photo))
    return name, residual(pixels), _light(pixels)


def _light(photo: np.ndarray) -> np.ndarray:
    """The grey [h, w] that a fingerprint multiplies; 0 where it is clipped and the fingerprint does not show."""
    grey = photo @ LUMA
    return np.where(grey < SATURATED, grey, 0)


def _private(pattern: np.ndarray) -> np.ndarray:
    """A pattern less what cameras of a model share: means of rows and columns, and peaks of its spectrum.

    Demosaicing and JPEG blocks leave periodic traces; zero means and a Wiener filter in the Fourier domain take them
    away (Chen et al. 2008).
    """
    pattern = _centred(pattern)
    spectrum = rfft2(pattern)
    power = np.abs(spectrum) ** 2 / pattern.size
    noise = max(float(pattern.var()), float(np.finfo(np.float32).tiny))  # of white noise; black photos have none
    return irfft2(spectrum * _noise_share(power, noise, "wrap"), s=pattern.shape)


def _centred(pattern: np.ndarray) -> np.ndarray:
    """A pattern whose rows and columns have zero means."""
    pattern = pattern - pattern.mean(axis=1, keepdims=True)
    return pattern - pattern.mean(axis=0, keepdims=True)


def pce(residual: np.ndarray, fingerprint: np.ndarray, photo: np.ndarray) -> float:
    """Signed peak-to-correlation energy of a photo [h, w, 3], its residual [h, w] and a fingerprint [h, w].

    Goljan, Fridrich and Filler, "Large scale test of sensor fingerprint camera identification" (2009): the squared
    correlation of residual and light x fingerprint over its mean square elsewhere. The peak is not searched for but
    taken where unmoved pixels put it, at shift 0: noise gives about 1, not its highest value over all shifts as a
    search would. A negative correlation speaks against the device and makes it negative. 0 for a photo without any
    noise or light. ValueError if the sizes differ.
    """
    if not residual.shape == fingerprint.shape == photo.shape[:2]:
        sizes = f"the photo has {_size(photo)} pixels, its residual {_size(residual)}, the fingerprint"
        raise ValueError(f"{sizes} {_size(fingerprint)}: only photos of its size, as stored, can be matched")
    return _peak(rfft2(_centred(residual)), fingerprint, _light(photo))


def _peak(noise: np.ndarray, fingerprint: np.ndarray, light: np.ndarray) -> float:
    """Signed peak-to-correlation energy, from the spectrum of a residual."""
    correlation = irfft2(noise * rfft2(_centred(light * fingerprint)).conj(), s=light.shape)
    height, width = (np.arange(-min(APART, (n - 1) // 2), min(APART, (n - 1) // 2) + 1) for n in light.shape)
    near = correlation[np.ix_(height, width)]
    energy = np.vdot(correlation, correlation) - np.vdot(near, near)
    peak = float(correlation[0, 0])
    return abs(peak) * peak * (correlation.size - near.size) / float(energy) if energy > 0 else 0.0


def fingerprints(catalogue: pd.DataFrame, least: int = 4, workers: int = -1) -> pd.DataFrame:
    """Fingerprint of each device of a catalogue, from its photos of its most frequent size: a row a device.

    Columns: device, camera_model, photos (used), others (of another size, not used), height, width, fingerprint
    (float32 [height, width]) and reason: why a device has none (under `least` photos), "" if it has.
    """
    rows = []
    known = catalogue.dropna(subset="device").sort_values("path")
    for device, own in progress(known.groupby("device", observed=True), desc="fingerprints"):
        (height, width), _ = max(own.groupby(["height", "width"]).size().items(), key=lambda size: (size[1], size[0]))
        used = own[(own["height"] == height) & (own["width"] == width)]
        reason = "" if len(used) >= least else f"{len(used)} photos of {width} x {height} pixels, {least} are needed"
        pattern = None if reason else fingerprint(used["path"], workers)
        model, others = own["camera_model"].iloc[0], len(own) - len(used)
        rows.append([device, model, len(used), others, height, width, pattern, reason])
    columns = ["device", "camera_model", "photos", "others", "height", "width", "fingerprint", "reason"]
    return pd.DataFrame(rows, columns=columns)


def match(catalogue: pd.DataFrame, prints: pd.DataFrame, workers: int = -1) -> pd.DataFrame:
    """Every photo of a catalogue against every fingerprint of `fingerprints`: a row a pair.

    Columns: photo (the catalogue's column of that name, else its path), own (the device that took it), camera_model
    (of the photo), device (of the fingerprint), pce (NaN where sizes differ: not comparable), same (own device)
    and same_model (the fingerprint is of a device of the photo's camera model).
    """
    prints = prints[prints["reason"] == ""]
    photos = catalogue.dropna(subset="device").sort_values("path")
    tasks = (joblib.delayed(_energies)(path, list(prints["fingerprint"])) for path in photos["path"])
    found = joblib.Parallel(n_jobs=workers, backend="threading", return_as="generator")(tasks)
    found = list(progress(found, total=len(photos), desc="matching"))
    names = photos["photo" if "photo" in photos else "path"]
    table = pd.DataFrame({"photo": names, "own": photos["device"], "camera_model": photos["camera_model"]}).astype(str)
    table = table.loc[table.index.repeat(len(prints))].reset_index(drop=True)
    table["device"] = np.tile(prints["device"].to_numpy(object), len(photos))
    table["pce"] = np.reshape(found, -1).astype(float)
    table["same"] = table["device"] == table["own"]
    return table.assign(same_model=np.tile(prints["camera_model"], len(photos)) == table["camera_model"])


def _energies(path: str, patterns: list[np.ndarray]) -> list[float]:
    """Peak-to-correlation energy of one photo with each fingerprint; NaN for another size."""
    photo = read_photo(path)
    if all(pattern.shape != photo.shape[:2] for pattern in patterns):
        return [np.nan] * len(patterns)
    noise, light = rfft2(_centred(residual(photo))), _light(photo)
    return [_peak(noise, pattern, light) if pattern.shape == light.shape else np.nan for pattern in patterns]


def within_model(table: pd.DataFrame) -> pd.DataFrame:
    """The harder question's pairs: photos whose camera model has other devices, and the devices of that model."""
    pairs = table[table["same_model"]].dropna(subset="pce")
    return pairs[(~pairs["same"]).groupby([pairs[c] for c in _units(pairs)]).transform("any")]


def roc(table: pd.DataFrame) -> pd.DataFrame:
    """Receiver operating characteristic over pairs: columns false_positive_rate, true_positive_rate, threshold."""
    pairs = table.dropna(subset="pce")
    return roc_of(pairs["same"], pairs["pce"])


def scores(table: pd.DataFrame, seed: int = 0, resamples: int = 1000) -> pd.DataFrame:
    """How well fingerprints tell devices apart, with 95 % intervals: percentile bootstrap over photos (Efron 1979).

    A row a question (QUESTIONS: against all devices, or only those of the photo's camera model) and metric: columns
    question, metric, value, low, high, n (photos), own and others (pairs). Accuracy is the share of photos
    whose highest energy is their own device's. A false-positive rate of 1 % means something from 100 pairs of
    others upwards; from fewer it is none at all. NaN where there are no pairs to answer from.
    """
    rows = []
    for question, pairs in zip(QUESTIONS, (table.dropna(subset="pce"), within_model(table)), strict=True):
        pairs = pairs.sort_values("pce", ascending=False, kind="stable")
        code, photos = pd.factorize(pairs["photo"], sort=True)
        n, weights = len(photos), resampled(len(photos), [seed, 97], resamples)
        best = pairs["pce"] == pairs.groupby(_units(pairs))["pce"].transform("max")
        values = _rates(pairs["same"].to_numpy(bool), pairs["pce"].to_numpy(), best.to_numpy(bool), code, weights)
        answered = np.isfinite(values[0]).all()
        low, high = np.nanpercentile(values[1:], [2.5, 97.5], axis=0) if answered else np.full((2, 3), np.nan)
        names = ("accuracy", "area under the ROC", f"true positives at {FALSE_POSITIVES:.0%} false")
        counts = [n, int(pairs["same"].sum()), int((~pairs["same"]).sum())]
        rows += [[question, *row, *counts] for row in zip(names, values[0], low, high, strict=True)]
    return pd.DataFrame(rows, columns=["question", "metric", "value", "low", "high", "n", "own", "others"])


def _rates(same: np.ndarray, energy: np.ndarray, best: np.ndarray, code: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Accuracy, area under the ROC and true positives at FALSE_POSITIVES, a row for each of `weights` [draws, photos].

    The pairs are sorted by falling energy; same, best (the highest energy of its photo) and code (its photo) are
    theirs. scikit-learn's curve, checked anew a thousand times, would take twenty times as long.
    """
    last = np.append(energy[1:] != energy[:-1], True)[: len(energy)]  # of pairs with equal energies
    rows = []
    for often in weights:
        own, other = often[code] * same, often[code] * ~same
        if not (own.any() and other.any()):
            rows.append([np.nan] * 3)
            continue
        true, false = (np.append(0, np.cumsum(part)[last]) / part.sum() for part in (own, other))
        rows.append([own[best].sum() / own.sum(), np.trapezoid(true, false), true[false <= FALSE_POSITIVES].max()])
    return np.array(rows)


def as_predictions(table: pd.DataFrame) -> pd.DataFrame:
    """A table of `match` in the form of `evaluation`'s predictions, for its confusions and differences.

    A row a photo whose own device has a fingerprint: photo, true and `log_prob:<device>`, for equal chances beforehand:
    half the energy is the log-likelihood ratio of Gaussian noise with a fingerprint of unknown strength over
    noise alone. The order of the devices is right, the probabilities are not calibrated.
    """
    devices = sorted(table["device"].unique())
    wide = _answerable(table).pivot(index=[*_units(table), "own"], columns="device", values="pce")
    logs = wide.reindex(columns=devices).fillna(-np.inf).to_numpy() / 2
    logs = log_softmax(logs, axis=1) if logs.size else logs
    ids = wide.index.to_frame(index=False).rename(columns={"own": "true"})
    return ids.join(pd.DataFrame(logs, columns=[LOG_PROB + device for device in devices]))


def as_pairs(votes: pd.DataFrame) -> pd.DataFrame:
    """A network's predictions per photo, with the device as its class, in the form of `match`'s table.

    The log-probability of each device stands in the column `pce`, so that network and fingerprints get the same
    questions: `scores`, `roc`, `within_model`.
    """
    models = votes.groupby("device", observed=True)["camera_model"].first()
    ids = [*_units(votes), "device", "camera_model"]
    columns = {name: name.removeprefix(LOG_PROB) for name in votes.columns if name.startswith(LOG_PROB)}
    wide = votes[[*ids, *columns]].rename(columns={"device": "own"} | columns)
    table = wide.melt([*_units(votes), "own", "camera_model"], var_name="device", value_name="pce")
    same_model = table["device"].map(models) == table["camera_model"]
    return table.assign(same=table["device"] == table["own"], same_model=same_model)


def mistakes(table: pd.DataFrame) -> dict[str, int]:
    """Photos whose own device could be named, how many were given to another, how many of those within its model."""
    known = _answerable(table).dropna(subset="pce")
    best = known.loc[known.groupby(_units(known))["pce"].idxmax()]
    wrong = ~best["same"]
    return {"photos": len(best), "wrong": int(wrong.sum()), "within the model": int((wrong & best["same_model"]).sum())}


def _answerable(table: pd.DataFrame) -> pd.DataFrame:
    """The pairs of the photos that can be compared with their own device's fingerprint."""
    return table[(table["same"] & table["pce"].notna()).groupby([table[c] for c in _units(table)]).transform("any")]


def _units(table: pd.DataFrame) -> list[str]:
    """The columns that tell one matching of a photo from another: the photo, and the seed of the split if known."""
    return [column for column in ("seed", "photo") if column in table]


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"
