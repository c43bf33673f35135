"""Which device took a photo: sensor-noise fingerprints, and how well a photo's noise matches them.

Photo-response non-uniformity: a photo is (1 + fingerprint) x light + noise. Only photos of equal size, as stored, show
the same pixels of the sensor.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import product

import joblib
import numpy as np
import pandas as pd
import pywt
from scipy.fft import irfft2, rfft2
from scipy.ndimage import uniform_filter
from scipy.special import log_softmax

from ..evaluation import LOG_PROB, class_names, roc_points
from ..experiments import CONTRAST_COLUMNS
from ..intervals import bootstrap_counts, paired_difference
from ..photos import read_photo
from ..project import progress

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601: the grey of a JPEG
WAVELET, LEVELS = "db4", 4  # Daubechies' filter with 8 taps, four levels: Lukas, Fridrich and Goljan (2006)
WINDOWS = (3, 5, 7, 9)  # coefficients: the local variance is the smallest over these windows (Mihcak et al. 1999)
NOISE_DEVIATION = 3.0  # grey levels; on a few real Nikon photos the 5 of Lukas et al. was a fifth worse
SATURATED = 250  # grey levels: brighter pixels are clipped and carry no fingerprint (Chen et al. 2008)
APART = 5  # pixels on each side of the peak that do not count as noise: 11 x 11 (Goljan et al. 2009)
FALSE_POSITIVES = 0.01  # of the pairs of a photo and another device
QUESTIONS = ("any device", "devices of its camera model")
METRICS = ("accuracy", "area under the ROC", f"true positives at {FALSE_POSITIVES:.0%} false")


def noise_residual(photo: np.ndarray) -> np.ndarray:
    """The grey of a photo uint8 [h, w, 3] minus its denoised grey: float32 [h, w], grey levels.

    Local Wiener shrinkage of wavelet coefficients: Mihcak et al. (1999), as in Lukas et al. (2006).
    """
    grey = photo @ LUMA
    levels = min(LEVELS, pywt.dwtn_max_level(grey.shape, WAVELET))
    smooth, *details = pywt.wavedec2(grey, WAVELET, level=levels)
    noise = [tuple(band * _noise_share(band**2, NOISE_DEVIATION**2) for band in level) for level in details]
    return pywt.waverec2([np.zeros_like(smooth), *noise], WAVELET)[: grey.shape[0], : grey.shape[1]]


def _noise_share(power: np.ndarray, noise: float, mode: str = "reflect") -> np.ndarray:
    """The share of noise in each coefficient's power, 0 to 1; signal is the smallest local mean beyond `noise`."""
    signal = reduce(np.minimum, (uniform_filter(power, window, mode=mode) for window in WINDOWS))
    return noise / (np.maximum(signal - noise, 0) + noise)


def _noise_and_light(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A photo's noise residual, and the grey that the fingerprint multiplies: 0 where it is clipped."""
    grey = photo @ LUMA
    return noise_residual(photo), np.where(grey < SATURATED, grey, 0)


def fingerprint(photos: Iterable[np.ndarray]) -> np.ndarray | None:
    """Fingerprint float32 [h, w] of the one device that took all `photos`, uint8 [h, w, 3]; None without photos.

    Maximum likelihood: Chen, Fridrich, Goljan and Lukas (2008). Flat, bright, unclipped frames are best.
    """
    tasks = (joblib.delayed(_noise_and_light)(photo) for photo in photos)
    total, energy = 0.0, 1.0  # not 0, or there would be a division by 0 where all photos are black
    for noise, light in joblib.Parallel(n_jobs=-1, backend="threading", return_as="generator")(tasks):
        total, energy = total + noise * light, energy + light**2
    if np.ndim(total) == 0:
        return None
    pattern = _zero_mean(total / energy)
    spectrum = rfft2(pattern)  # without its peaks: traces of demosaicing and JPEG, which devices of a model share
    power = np.abs(spectrum) ** 2 / pattern.size
    noise = max(float(pattern.var()), float(np.finfo(np.float32).tiny))  # of white noise; black photos have none
    return irfft2(spectrum * _noise_share(power, noise, "wrap"), s=pattern.shape)


def _zero_mean(pattern: np.ndarray) -> np.ndarray:
    pattern = pattern - pattern.mean(axis=1, keepdims=True)
    return pattern - pattern.mean(axis=0, keepdims=True)


def pce(photo: np.ndarray, fingerprints: list[np.ndarray]) -> list[float]:
    """Signed peak-to-correlation energy of a photo uint8 [h, w, 3] with each fingerprint; NaN for another size.

    Goljan, Fridrich and Filler (2009): the squared correlation of residual and light x fingerprint at shift 0, divided
    by its mean square elsewhere; with the correlation's sign. About 1 for unrelated noise, 0 without noise or light.
    """
    noise, light = _noise_and_light(photo)
    spectrum, energies = rfft2(_zero_mean(noise)), []
    around = (min(APART, (length - 1) // 2) for length in light.shape)
    near = np.ix_(*(np.arange(-pixels, pixels + 1) for pixels in around))
    for pattern in fingerprints:
        if pattern.shape != light.shape:
            energies.append(np.nan)
            continue
        correlation = irfft2(spectrum * rfft2(_zero_mean(light * pattern)).conj(), s=light.shape)
        peak, inner = float(correlation[0, 0]), correlation[near]
        energy = float(np.vdot(correlation, correlation) - np.vdot(inner, inner))
        energies.append(abs(peak) * peak * (correlation.size - inner.size) / energy if energy > 0 else 0.0)
    return energies


def _readable(paths: Iterable[str], left_out: list[dict]) -> Iterator[np.ndarray]:
    """The photos that can be read; path and reason of the others are added to `left_out`."""
    for path in paths:
        try:
            yield read_photo(path)
        except ValueError as error:
            left_out.append({"path": path, "reason": str(error)})


def fingerprints(catalogue: pd.DataFrame, least: int = 4) -> pd.DataFrame:
    """Fingerprint of each device of a catalogue, from its photos of its most frequent size: one row per device.

    Columns: device, camera_model, photos (used), others (of another size), height, width, fingerprint and reason: why a
    device has none (fewer than `least` photos), or "". `catalogues.left_out` names the photos that cannot be read.
    """
    rows, left_out = [], []
    known = catalogue.dropna(subset="device").sort_values("path")
    for device, own in progress(known.groupby("device", observed=True), desc="fingerprints"):
        (height, width), paths = max(own.groupby(["height", "width"])["path"], key=lambda size: (len(size[1]), size[0]))
        broken: list[dict] = []
        pattern = fingerprint(_readable(paths, broken)) if len(paths) >= least else None
        used, left_out = len(paths) - len(broken), left_out + broken
        reason = "" if used >= least else f"{used} photos of {width} x {height} pixels, {least} are needed"
        model, others = own["camera_model"].iloc[0], len(own) - len(paths)
        rows.append([device, model, used, others, height, width, None if reason else pattern, reason])
    columns = ["device", "camera_model", "photos", "others", "height", "width", "fingerprint", "reason"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["left_out"] = left_out
    return table


def match(catalogue: pd.DataFrame, prints: pd.DataFrame) -> pd.DataFrame:
    """Every photo of a catalogue against every fingerprint of `fingerprints`: one row per pair.

    Columns: photo (or its path), own (device that took it), camera_model (of the photo), device (of the fingerprint),
    pce (NaN: not comparable), same (own device), same_model. `catalogues.left_out` names the unreadable photos.
    """
    prints, left_out = prints[prints["reason"] == ""], []
    photos = catalogue.dropna(subset="device").sort_values("path")
    patterns, pixels = list(prints["fingerprint"]), _readable(photos["path"], left_out)
    tasks = (joblib.delayed(pce)(photo, patterns) for photo in pixels)
    found = joblib.Parallel(n_jobs=-1, backend="threading", return_as="generator")(tasks)
    found = list(progress(found, total=len(photos), desc="matching"))
    photos = photos[~photos["path"].isin([row["path"] for row in left_out])]
    photos = photos.assign(photo=photos.get("photo", photos["path"]), own=photos["device"])
    devices = prints[["device", "camera_model"]].set_axis(["device", "model"], axis=1)
    table = photos[["photo", "own", "camera_model"]].astype(str).merge(devices, how="cross")
    table["pce"], table["same"] = np.ravel(found).astype(float), table["device"] == table["own"]
    table["same_model"] = table.pop("model") == table["camera_model"]
    table.attrs["left_out"] = left_out
    return table


def within_model(table: pd.DataFrame) -> pd.DataFrame:
    """The pairs of the harder question: photos whose camera model has several devices, against those devices alone."""
    pairs = table[table["same_model"]].dropna(subset="pce")
    return pairs[(~pairs["same"]).groupby(_photo(pairs)).transform("any")]


def _comparable(table: pd.DataFrame) -> pd.DataFrame:
    """The comparable pairs of the photos that can be compared with their own device's fingerprint."""
    pairs = table.dropna(subset="pce")
    return pairs[pairs["same"].groupby(_photo(pairs)).transform("any")]


def _photo(table: pd.DataFrame) -> list[pd.Series]:
    """What identifies one matching of a photo: its name, and the seed of the split if known."""
    return [table[column] for column in ("seed", "photo") if column in table]


def roc(table: pd.DataFrame) -> pd.DataFrame:
    """Receiver operating characteristic over pairs (evaluation.roc_points)."""
    pairs = table.dropna(subset="pce")
    return roc_points(pairs["same"], pairs["pce"])


def compare_answers(answers: dict[str, pd.DataFrame], seed: int = 0, resamples: int = 1000) -> pd.DataFrame:
    """How well tables of pairs tell devices apart, with 95 % intervals: bootstrap over photos.

    Columns: question, metric, value, low, high, n (photos), own and others (pairs), answer. Accuracy: the share of
    photos whose highest energy is that of their own device. With fewer than 100 pairs of others, a false-positive rate
    of 1 % means no false positive. NaN where there are no pairs.
    """
    rows = []
    for (answer, table), question in product(answers.items(), QUESTIONS):
        pairs = table.dropna(subset="pce") if question == QUESTIONS[0] else within_model(table)
        pairs = pairs.sort_values("pce", ascending=False, kind="stable")
        code, photos = pd.factorize(pairs["photo"], sort=True)
        weights = bootstrap_counts(len(photos), [seed, 97], resamples)
        best = pairs["pce"] == pairs["pce"].groupby(_photo(pairs)).transform("max")
        values = _rates(pairs["same"].to_numpy(bool), pairs["pce"].to_numpy(), best.to_numpy(bool), code, weights)
        answered = np.isfinite(values[0]).all()
        low, high = np.nanpercentile(values[1:], [2.5, 97.5], axis=0) if answered else np.full((2, 3), np.nan)
        counts = [len(photos), int(pairs["same"].sum()), int((~pairs["same"]).sum())]
        rows += [[question, *row, *counts, answer] for row in zip(METRICS, values[0], low, high, strict=True)]
    return pd.DataFrame(rows, columns=["question", "metric", "value", "low", "high", "n", "own", "others", "answer"])


def _rates(same: np.ndarray, energy: np.ndarray, best: np.ndarray, code: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """METRICS for each row of `weights` [draws, photos], of pairs in descending order of energy; code: their photos."""
    last = np.append(energy[1:] != energy[:-1], True)[: len(energy)]  # of pairs with equal energies
    rows = np.full((len(weights), len(METRICS)), np.nan)
    for row, often in zip(rows, weights, strict=True):
        own, other = often[code] * same, often[code] * ~same
        if own.any() and other.any():
            true, false = (np.append(0, np.cumsum(part)[last]) / part.sum() for part in (own, other))
            row[:] = own[best].sum() / own.sum(), np.trapezoid(true, false), true[false <= FALSE_POSITIVES].max()
    return rows


def contrast_answers(prints: pd.DataFrame, net: pd.DataFrame, protocol: str, dataset: str, seed: int) -> pd.DataFrame:
    """Accuracy per photo of fingerprints minus that of a network, by QUESTIONS, on photos in both: CONTRAST_COLUMNS."""
    rows = []
    for suffix, pairs in (("", (prints, net)), ("-within", (within_model(prints), within_model(net)))):
        one, two = map(as_predictions, pairs)
        if photos := len(set(one["photo"]) & set(two["photo"])):
            names = ["devices-fingerprint" + suffix, protocol, "devices-network" + suffix, protocol]
            rows.append([*names, dataset, "photo", *paired_difference(one, two, seed), photos, photos, True])
    return pd.DataFrame(rows, columns=CONTRAST_COLUMNS)


def as_predictions(table: pd.DataFrame) -> pd.DataFrame:
    """Pairs as predictions: photo, true and `log_prob:<device>`, one row per photo comparable with its own device.

    Half the energy is the log-likelihood ratio of a fingerprint of unknown strength against none; it is not calibrated.
    """
    pairs, devices = _comparable(table).rename(columns={"own": "true"}), sorted(table["device"].unique())
    ids = [name for name in ("seed", "photo", "true") if name in pairs]
    wide = pairs.pivot(index=ids, columns="device", values="pce")
    logs = wide.reindex(columns=devices).fillna(-np.inf).to_numpy() / 2
    logs = log_softmax(logs, axis=1) if logs.size else logs
    return wide.index.to_frame(index=False).join(pd.DataFrame(logs, columns=[LOG_PROB + name for name in devices]))


def as_pairs(votes: pd.DataFrame) -> pd.DataFrame:
    """A network's predictions per photo, devices as classes, as pairs like those of `match`; pce: log-probability."""
    models = votes.groupby("device", observed=True)["camera_model"].first()
    table = votes.rename(columns={"device": "own"}).rename(columns=lambda name: name.removeprefix(LOG_PROB))
    ids = [name for name in ("seed", "photo", "own", "camera_model") if name in table]
    table = table.melt(ids, class_names(votes), "device", "pce")
    same_model = table["device"].map(models) == table["camera_model"]
    return table.assign(same=table["device"] == table["own"], same_model=same_model)


def mistakes(table: pd.DataFrame) -> dict[str, int]:
    """Counts of photos comparable with their own device, of those assigned to another, and to another of its model."""
    known = _comparable(table)
    best = known.loc[known["pce"].groupby(_photo(known)).idxmax()]
    wrong = ~best["same"]
    return {"photos": len(best), "wrong": int(wrong.sum()), "within the model": int((wrong & best["same_model"]).sum())}
