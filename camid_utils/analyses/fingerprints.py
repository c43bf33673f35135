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

from ..intervals import bootstrap_weights, clusters, interval, units
from ..photos import degrade, read_photo
from ..project import progress

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601: the grey of a JPEG
WAVELET, LEVELS = "db4", 4  # Daubechies' filter with 8 taps, four levels: Lukas, Fridrich and Goljan (2006)
WINDOWS = (3, 5, 7, 9)  # coefficients: the local variance is the smallest over these windows (Mihcak et al. 1999)
NOISE_DEVIATION = 3.0  # grey levels; on a few real Nikon photos the 5 of Lukas et al. was a fifth worse
SATURATED = 250  # grey levels: brighter pixels are clipped and carry no fingerprint (Chen et al. 2008)
APART = 5  # pixels on each side of the peak that do not count as noise: 11 x 11 (Goljan et al. 2009)
LEAST = 4  # photos for a fingerprint
THRESHOLD = 60  # energies above it count as a match (Goljan et al. 2009)
QUESTIONS = ("any device", "devices of its camera model")
DETECTED, ALARMS = f"true matches above {THRESHOLD}", f"false alarms above {THRESHOLD}"
METRICS = (DETECTED, ALARMS, "accuracy", "area under the ROC")


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
    total, energy = None, 1.0  # not 0, or there would be a division by 0 where all photos are black
    for noise, light in joblib.Parallel(n_jobs=-1, backend="threading", return_as="generator")(tasks):
        total, energy = noise * light if total is None else total + noise * light, energy + light**2
    if total is None:
        return None
    pattern = _zero_mean(total / energy)
    spectrum = rfft2(pattern)  # without its peaks: traces of demosaicing and JPEG, which devices of a model share
    power = np.abs(spectrum) ** 2 / pattern.size
    noise = max(float(pattern.var()), float(np.finfo(np.float32).tiny))  # of white noise; black photos have none
    return irfft2(spectrum * _noise_share(power, noise, "wrap"), s=pattern.shape)


def _zero_mean(pattern: np.ndarray) -> np.ndarray:
    pattern = pattern - pattern.mean(axis=1, keepdims=True)
    return pattern - pattern.mean(axis=0, keepdims=True)


def pce(photo: np.ndarray, fingerprints: list[np.ndarray | None]) -> list[float]:
    """Signed peak-to-correlation energy of a photo uint8 [h, w, 3] with each fingerprint; NaN for None or another size.

    Goljan, Fridrich and Filler (2009): the squared correlation of residual and light x fingerprint at shift 0, divided
    by its mean square elsewhere; with the correlation's sign. About 1 for unrelated noise, 0 without noise or light.
    """
    noise, light = _noise_and_light(photo)
    spectrum, energies = rfft2(_zero_mean(noise)), []
    around = (min(APART, (length - 1) // 2) for length in light.shape)
    near = np.ix_(*(np.arange(-pixels, pixels + 1) for pixels in around))
    for pattern in fingerprints:
        if pattern is None or pattern.shape != light.shape:
            energies.append(np.nan)
            continue
        correlation = irfft2(spectrum * rfft2(_zero_mean(light * pattern)).conj(), s=light.shape)
        peak, inner = float(correlation[0, 0]), correlation[near]
        energy = float(np.vdot(correlation, correlation) - np.vdot(inner, inner))
        energies.append(abs(peak) * peak * (correlation.size - inner.size) / energy if energy > 0 else 0.0)
    return energies


def _readable(paths: Iterable[str], left_out: list[dict]) -> Iterator[tuple[str, np.ndarray]]:
    """Path and photo where it can be read; the others are added, with the reason, to `left_out`."""
    for path in paths:
        try:
            yield path, read_photo(path)
        except ValueError as error:
            left_out.append({"photo": path, "reason": str(error).removeprefix(f"{path}: ")})


def fingerprints(catalogue: pd.DataFrame) -> pd.DataFrame:
    """Fingerprint of each device of a catalogue, from its photos of its most frequent size: one row per device.

    Columns: device, camera_model, photos (used), others (of another size), height, width, fingerprint and reason: why a
    device has none (fewer than LEAST photos), or "". `catalogues.left_out` names the photos that cannot be read.
    """
    rows, left_out = [], []
    known = catalogue.dropna(subset="device").sort_values("path")
    for device, own in progress(known.groupby("device", observed=True), desc="fingerprints"):
        (height, width), paths = max(own.groupby(["height", "width"])["path"], key=lambda size: (len(size[1]), size[0]))
        broken: list[dict] = []
        pattern = fingerprint(photo for _, photo in _readable(paths, broken)) if len(paths) >= LEAST else None
        used, left_out = len(paths) - len(broken), left_out + broken
        reason = "" if used >= LEAST else f"{used} photos of {width} x {height} pixels, {LEAST} are needed"
        model, others = own["camera_model"].iloc[0], len(own) - len(paths)
        rows.append([device, model, used, others, height, width, None if reason else pattern, reason])
    columns = ["device", "camera_model", "photos", "others", "height", "width", "fingerprint", "reason"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["left_out"] = left_out
    return table


def match(
    catalogue: pd.DataFrame, prints: pd.DataFrame, how: str = "", share: float = 1.0, others: bool = True
) -> pd.DataFrame:
    """Every photo of a catalogue against every fingerprint of `fingerprints`: one row per pair.

    how: see photos.degrade; share: of the photo's area, around its middle; others: not only its own device's.
    Columns: photo (or its path), own (device that took it), camera_model, scene (of the photo), device (of the
    fingerprint), pce (NaN: not compared), same (own device), same_model. `catalogues.left_out` names unreadable photos.
    """
    prints, left_out = prints[prints["reason"] == ""], []
    photos = catalogue.dropna(subset="device").sort_values("path")
    patterns = {device: _middle(own, share) for device, own in prints.set_index("device")["fingerprint"].items()}
    compared = {path: [pattern if others or device == own else None for device, pattern in patterns.items()]
                for path, own in photos.set_index("path")["device"].items()}  # fmt: skip
    readable = _readable(photos["path"], left_out)
    tasks = (joblib.delayed(pce)(_middle(degrade(photo, how), share), compared[path]) for path, photo in readable)
    found = joblib.Parallel(n_jobs=-1, backend="threading", return_as="generator")(tasks)
    found = list(progress(found, total=len(photos), desc=f"matching {how}"))
    photos = photos[~photos["path"].isin([row["photo"] for row in left_out])].rename(columns={"device": "own"})
    devices = prints[["device", "camera_model"]].set_axis(["device", "model"], axis=1)
    table = photos[["photo", "own", "camera_model", "scene"]].astype(object).merge(devices, how="cross")
    table["pce"], table["same"] = np.ravel(found).astype(float), table["device"] == table["own"]
    table["same_model"] = table.pop("model") == table["camera_model"]
    table.attrs["left_out"] = left_out
    return table


def _middle(array: np.ndarray, share: float) -> np.ndarray:
    """The middle of an array [h, w, ...], a share of its area, of the same shape."""
    height, width = (round(side * share**0.5) for side in array.shape[:2])
    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    return array[top : top + height, left : left + width]


def asked(table: pd.DataFrame, question: str) -> pd.DataFrame:
    """The comparable pairs of `match` for one of QUESTIONS; the second needs a model with two devices."""
    pairs = table.dropna(subset="pce")
    if question == QUESTIONS[1]:
        pairs = pairs[pairs["same_model"]]
        pairs = pairs[(~pairs["same"]).groupby(pairs["photo"]).transform("any")]
    return pairs


def decisions(sources: dict[str, pd.DataFrame], seed: int = 0) -> pd.DataFrame:
    """How well fingerprints from each source tell devices apart (tables of `match`), with 95 % intervals.

    Columns: source, question, metric (METRICS), value, low, high, n (photos), own and others (pairs), devices.
    Accuracy: the share of photos whose highest energy is that of their own device. NaN where there are no pairs.
    """
    rows = []
    for (source, table), question in product(sources.items(), QUESTIONS):
        pairs = asked(table, question)
        own, others = pairs[pairs["same"]], pairs[~pairs["same"]]
        best = own["pce"] == pairs.groupby("photo")["pce"].transform("max")[pairs["same"]]
        tested = (own, own["pce"] > THRESHOLD), (others, others["pce"] > THRESHOLD), (own, best)
        area = roc(pairs, seed)[1] if len(own) and len(others) else (np.nan,) * 3
        values = [*(rate(*test, seed) for test in tested), area]
        counts = [pairs["photo"].nunique(), len(own), len(others), pairs["device"].nunique()]
        rows += [[source, question, metric, *ends, *counts] for metric, ends in zip(METRICS, values, strict=True)]
    columns = ["source", "question", "metric", "value", "low", "high", "n", "own", "others", "devices"]
    return pd.DataFrame(rows, columns=columns)


def _weights(pairs: pd.DataFrame, seed: int) -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    """The unit of each pair, the units, and how often each counts; fingerprints are drawn in the place of seeds."""
    code, photos = units(pairs.assign(device=pairs["own"], seed=pd.factorize(pairs["device"], sort=True)[0]))
    return code, photos, bootstrap_weights(photos, [seed, 97])


def rate(pairs: pd.DataFrame, hits: pd.Series, seed: int = 0) -> tuple[float, float, float]:
    """The share of hits among pairs with its 95 % interval; NaN without pairs.

    By bootstrap over the photos' devices and scenes, and over fingerprints (intervals.bootstrap_weights). Where all or
    none are hits, by Wilson's method, of as many pairs as there are intervals.clusters.
    """
    if not len(pairs):
        return (np.nan,) * 3
    code, photos, weights = _weights(pairs, seed)
    found, counts = (weights @ np.bincount(code, values, len(photos)) for values in (hits, np.ones(len(pairs))))
    return interval(found / np.where(counts > 0, counts, np.nan), clusters(photos))


def roc(pairs: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, tuple[float, float, float]]:
    """Receiver operating characteristic over pairs of both kinds, and the area under it, with 95 % intervals (`rate`).

    Columns: false_positive_rate (0, then steps of equal ratio), true_positive_rate, low, high. Area: value, low, high.
    """
    pairs = pairs.sort_values("pce", ascending=False, kind="stable")
    same, energy = pairs["same"].to_numpy(bool), pairs["pce"].to_numpy()
    last = np.append(energy[1:] != energy[:-1], True)  # of pairs with equal energies
    rates = np.append(0, np.geomspace(1 / (~same).sum(), 1, 200))
    code, photos, weights = _weights(pairs, seed)
    areas, found = np.full(len(weights), np.nan), np.full((len(weights), len(rates)), np.nan)
    for i, often in enumerate(weights):
        own, other = often[code] * same, often[code] * ~same
        if own.any() and other.any():
            true, false = (np.append(0, np.cumsum(part)[last]) / part.sum() for part in (own, other))
            areas[i] = np.trapezoid(true, false)
            found[i] = true[np.searchsorted(false, rates * (1 + 1e-9), side="right") - 1]
    low, high = np.nanpercentile(found[1:], [2.5, 97.5], axis=0)
    if (found[0] == 1).all():  # all samples are alike
        low[:], high[:] = interval(found[:, 0], clusters(photos))[1:]
    curve = {"false_positive_rate": rates, "true_positive_rate": found[0], "low": low, "high": high}
    return pd.DataFrame(curve), interval(areas, clusters(photos))


def detection(tables: dict[str, pd.DataFrame], by: str, seed: int = 0) -> pd.DataFrame:
    """The share of true matches above THRESHOLD in each part of tables of `match`, with its 95 % interval (`rate`).

    A row for each source and value of `by`: source, `by`, value, low, high, n (photos), devices, energy (median).
    """
    rows = []
    for source, table in tables.items():
        for name, own in table[table["same"]].dropna(subset="pce").groupby(by, sort=False):
            ends = rate(own, own["pce"] > THRESHOLD, seed)
            rows.append([source, name, *ends, len(own), own["own"].nunique(), own["pce"].median()])
    return pd.DataFrame(rows, columns=["source", by, "value", "low", "high", "n", "devices", "energy"])


def harder(catalogue: pd.DataFrame, prints: pd.DataFrame, shares: list[float], qualities: list[float]) -> pd.DataFrame:
    """`match` with a photo's own device, of the middle of photos and after another JPEG compression: column `what`."""
    ways = {f"{100 * share:g} % of the area": ("", share) for share in shares}
    ways |= {f"JPEG quality {quality:g}": (f"jpeg {quality:g}", 1.0) for quality in qualities}
    return pd.concat([match(catalogue, prints, *way, others=False).assign(what=what) for what, way in ways.items()])
