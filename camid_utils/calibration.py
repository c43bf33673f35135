"""How sure an answer may be, and when it must be "none of the known cameras": fitted on validation photos."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest, rankdata

from . import evaluation, identify, splits
from .datasets import relative_photos
from .evaluation import LOG_PROB, class_names, log_probabilities
from .models import Model
from .progress import progress
from .training import make_fabric


def _each_seen(catalogue: pd.DataFrame, model: Model) -> Iterator[tuple[dict, identify.Seen]]:
    """(row of the catalogue, what the model makes of its photo) for each photo that can be read."""
    fabric = make_fabric(identify.PRECISION)
    model = identify.ready(model, fabric)
    for row in progress(catalogue.to_dict("records"), "photos", unit="photo", disable=len(catalogue) < 20):
        try:
            yield row, identify.look(identify.read(row["path"]), model, fabric)
        except ValueError:
            continue


def looked_at(catalogue: pd.DataFrame, model: Model) -> pd.DataFrame:
    """What `identify.look` makes of each photo of a catalogue: a row a photo, without those that cannot be read.

    The catalogue's columns, `photo`, `true`, `log_prob:<class>` (mean over the photo's patches), and the scores of
    identify.SCORES that need no calibration, likeness only where the model has its cameras' means. ValueError if no
    photo can be read.
    """
    rows = []
    for photo, seen in _each_seen(catalogue.assign(photo=relative_photos(catalogue)), model):
        found = identify.answer(seen.log_probs, seen.features, model)
        means = zip(model.class_names, seen.log_probs.mean(axis=0), strict=True)
        scores = {name: found[name] for name in identify.SCORES if name != "confidence" and name in found}
        rows.append(photo | {"true": photo["camera_model"], **{LOG_PROB + k: v for k, v in means}, **scores})
    if not rows:
        raise ValueError(f"none of {len(catalogue)} photos can be used: too few camera models, damaged or too small")
    return pd.DataFrame(rows).drop(columns="path")


def trained_on(catalogue: pd.DataFrame, model: Model, predictions: pd.DataFrame) -> pd.DataFrame:
    """The photos of a catalogue that trained a model, as its protocol and seed split them.

    predictions: those of the model on the photos that validated and tested it, none of which is ever among them.
    """
    settings = model.info["protocol"], model.info["seed"]
    kept, _ = splits.splittable(catalogue[catalogue["camera_model"].isin(model.class_names)], *settings)
    kept = kept[splits.split(kept, *settings) == "train"]
    return kept[~relative_photos(kept).isin(predictions["photo"])]


def camera_means(catalogue: pd.DataFrame, model: Model) -> list[list[float]]:
    """Mean features [classes, d] of each camera's photos in a catalogue, class by class, for the score `likeness`.

    ValueError names the classes of which the catalogue has no photo that can be read.
    """
    seen = [(photo["camera_model"], found.features.mean(axis=0)) for photo, found in _each_seen(catalogue, model)]
    means = pd.DataFrame([features for _, features in seen]).groupby([name for name, _ in seen]).mean()
    if missing := sorted(set(model.class_names) - set(means.index)):
        raise ValueError(f"no photo of {', '.join(missing)}: every camera that the model knows must be there")
    return [[float(f"{value:.6g}") for value in means.loc[name]] for name in model.class_names]


def calibrated(table: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """The table with its log-probabilities divided by `temperature`, and the columns confidence, predicted, right."""
    logs = log_softmax(log_probabilities(table) / temperature, axis=1)
    names = class_names(table)
    predicted = np.array(names)[logs.argmax(axis=1)]
    columns = pd.DataFrame(logs, columns=[LOG_PROB + name for name in names], index=table.index)
    return table.assign(
        **columns, confidence=np.exp(logs.max(axis=1)), predicted=predicted, right=predicted == table["true"]
    )


def fit_temperature(table: pd.DataFrame) -> float:
    """The temperature under which the true cameras of known photos are likeliest (Guo et al. 2017).

    They divide a network's logits by it; here it divides the mean log-probability of a photo's patches. Between 1 over
    the most patches, as if they were independent, and 20: without an error among the photos there is no other end.
    """
    logs = log_probabilities(table)
    true = pd.Index(class_names(table)).get_indexer(table["true"])

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logs / np.exp(log_temperature), axis=1)
        return -scaled[np.arange(len(true)), true].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-np.log(identify.PATCHES), np.log(20)), method="bounded").x))


def threshold(scores: np.ndarray, refused: float = 0.05) -> float:
    """The score below which at most a share `refused` of these known photos lies."""
    return float(np.sort(scores)[int(refused * len(scores))])


def area(known: np.ndarray, unknown: np.ndarray) -> float:
    """Area under the ROC: the chance that a known photo's score is above an unknown one's, ties count half."""
    ranks = rankdata(np.concatenate([known, unknown]))[: len(known)]
    return (ranks.mean() - (len(known) + 1) / 2) / len(unknown)


def compared_scores(known: pd.DataFrame, unknown: pd.DataFrame, seed: int, resamples: int = 1000) -> pd.DataFrame:
    """A row for each of identify.SCORES: area under the ROC, 95 % interval (bootstrap over photos of both), numbers."""
    rng, rows = np.random.default_rng([seed, 98]), []
    for name in identify.SCORES:
        a, b = known[name].to_numpy(), unknown[name].to_numpy()
        draws = [area(rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(resamples)]
        low, high = np.percentile(draws, [2.5, 97.5])
        rows.append([name, area(a, b), low, high, len(a), len(b)])
    return pd.DataFrame(rows, columns=["score", "value", "low", "high", "known", "unknown"])


def roc(known: np.ndarray, unknown: np.ndarray) -> pd.DataFrame:
    """The curve of a score (evaluation.roc_of), known cameras being the positives."""
    return evaluation.roc_of(np.repeat([1, 0], [len(known), len(unknown)]), np.concatenate([known, unknown]))


def reliability(table: pd.DataFrame, name: str, bins: int = 4) -> pd.DataFrame:
    """Photos in `bins` equal groups by confidence: columns name, confidence (mean), value (share right), low, high, n.

    95 % intervals by Wilson's method (1927).
    """
    ordered = table.sort_values("confidence", kind="stable")
    groups = [ordered.iloc[rows] for rows in np.array_split(np.arange(len(ordered)), bins)]
    rows = [[name, g["confidence"].mean(), *_share(int(g["right"].sum()), len(g)), len(g)] for g in groups if len(g)]
    return pd.DataFrame(rows, columns=["name", "confidence", "value", "low", "high", "n"])


def error_rates(known: pd.DataFrame, unknown: pd.DataFrame, score: str, limit: float) -> pd.DataFrame:
    """What a threshold does: rows (question, value, low, high, n), 95 % intervals by Wilson's method (1927).

    Known cameras refused is the false rejection rate, unknown cameras accepted the false acceptance rate.
    """
    accepted = known[known[score] >= limit]
    counts = {
        "known cameras refused": (len(known) - len(accepted), len(known)),
        "unknown cameras accepted": (int((unknown[score] >= limit).sum()), len(unknown)),
        "right, of all known": (int(known["right"].sum()), len(known)),
        "right, of the known that are accepted": (int(accepted["right"].sum()), len(accepted)),
    }
    rows = [[question, *_share(count, n), n] for question, (count, n) in counts.items()]
    return pd.DataFrame(rows, columns=["question", "value", "low", "high", "n"])


def _share(count: int, n: int) -> tuple[float, float, float]:
    """A share with its 95 % interval by Wilson's method; all NaN of nothing."""
    return (count / n, *binomtest(count, n).proportion_ci(method="wilson")) if n else (np.nan,) * 3


def halves(catalogue: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A catalogue in two parts that share no camera model: every other model in name order."""
    models = sorted(catalogue["camera_model"].unique())
    one, two = (catalogue[catalogue["camera_model"].isin(models[start::2])] for start in (0, 1))
    return one, two


def some(catalogue: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` photos of a catalogue, as evenly over its camera models as it can be, drawn by the seed."""
    shuffled = catalogue.sort_values("path").sample(frac=1, random_state=seed)
    turn = shuffled.groupby("camera_model").cumcount()
    return shuffled.loc[turn.sort_values(kind="stable").index[:most]].sort_values("path").reset_index(drop=True)


def spliced(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A photo whose left half is of one photo and whose right half is of another, each where it was in its own.

    Of photos of different sizes the common part from the top left corner is taken, so that grids stay in place.
    """
    height, width = np.minimum(left.shape[:2], right.shape[:2])
    middle = seam(width)
    return np.concatenate([left[:height, :middle], right[:height, middle:width]], axis=1)


def seam(width: int) -> int:
    """The column in which the right half of a splice begins: the middle, on the edge of a JPEG block."""
    return width // 16 * 8


def splice_pairs(known: pd.DataFrame, catalogue: pd.DataFrame, most: int) -> list[tuple[pd.Series, pd.Series]]:
    """At most `most` pairs of a catalogue's photos of different cameras, those with the surest answers first.

    known: the calibrated table of these photos; whether an answer is right does not matter. No photo is used twice.
    """
    photos = catalogue.assign(photo=relative_photos(catalogue)).merge(known[["photo", "confidence"]], on="photo")
    left = [row for _, row in photos.sort_values("confidence", ascending=False, kind="stable").iterrows()]
    pairs = []
    while left and len(pairs) < most:
        one = left.pop(0)
        others = (i for i, two in enumerate(left) if two["camera_model"] != one["camera_model"])
        if (i := next(others, None)) is not None:
            pairs.append((one, left.pop(i)))
    return pairs


def splice_rates(splices: list[tuple[pd.Series, pd.Series]], model: Model) -> pd.DataFrame:
    """Whether the patches of each half of a splice name the half's own camera: a row a half.

    splices: pairs of photos (rows with path and camera_model). Columns half, camera, other, patches (those wholly
    within the half), own and others (shares of them that name the half's camera, and the other half's; NaN of none).
    """
    fabric, rows = make_fabric(identify.PRECISION), []
    model = identify.ready(model, fabric)
    for pair in splices:
        photo = spliced(*(identify.read(one["path"]) for one in pair))
        seen = identify.look(photo, model, fabric)
        named = np.array(model.class_names)[seen.log_probs.argmax(axis=1)]
        middle = seam(photo.shape[1])
        across = model.input_size if len(seen.corners) > 1 else photo.shape[1]  # a single patch is the whole photo
        inside = seen.corners[:, 1] + across <= middle, seen.corners[:, 1] >= middle
        for i, half in enumerate(("left", "right")):
            own, other = pair[i]["camera_model"], pair[1 - i]["camera_model"]
            names = pd.Series(named[inside[i]])
            rows.append([half, own, other, len(names), (names == own).mean(), (names == other).mean()])
    return pd.DataFrame(rows, columns=["half", "camera", "other", "patches", "own", "others"])
