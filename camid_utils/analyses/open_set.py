"""How confident an answer may be, and when it must be "none of the known cameras": calibration, thresholds, splices."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import rankdata

from .. import splits
from ..catalogues import fingerprint, relative_photos
from ..evaluation import LOG_PROB, class_names, digest, log_probabilities, roc_points
from ..files import atomic_path
from ..identify.predict import PATCHES, SCORES, combine, compare_parts, parts_statistic, predict_photo
from ..intervals import wilson
from ..models import Model
from ..photos import read_image
from ..project import progress

KEPT = (*SCORES[1:], "parts_statistic")  # what `predict_photos` keeps of an answer: what needs no calibration


def photo_groups(
    phones: pd.DataFrame, others: pd.DataFrame, predictions: pd.DataFrame, model: Model, most: int, seed: int
) -> dict[str, pd.DataFrame]:
    """At most `most` photos each to train, validate and test with, and two groups by different unknown cameras.

    predictions: the model's own, with the columns part and photo. There are at least 8 training photos per class.
    """
    settings = model.info["protocol"], model.info["seed"]
    kept, _ = splits.splittable(phones[phones["camera_model"].isin(model.class_names)], *settings)
    kept = kept[splits.split(kept, *settings) == "train"]
    kept = kept[~relative_photos(kept).isin(predictions["photo"])]  # even if the folder has changed since training
    groups = {"train": sample_photos(kept, max(most, 8 * len(model.class_names)), seed)}
    for part, own in predictions.groupby("part", sort=False)["photo"]:
        groups[part] = sample_photos(phones[relative_photos(phones).isin(own)], most, seed)
    models = sorted(others["camera_model"].unique())
    for start, use in enumerate(("choose", "test")):
        groups[f"unknown, to {use}"] = sample_photos(others[others["camera_model"].isin(models[start::2])], most, seed)
    return groups


def sample_photos(catalogue: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` random photos of a catalogue, as evenly distributed over its camera models as possible."""
    shuffled = catalogue.sort_values("path").sample(frac=1, random_state=seed)
    turn = shuffled.groupby("camera_model").cumcount()
    return shuffled.loc[turn.sort_values(kind="stable").index[:most]].sort_values("path").reset_index(drop=True)


def predict_photos(catalogue: pd.DataFrame, model: Model, folder: str | Path) -> pd.DataFrame:
    """One row per readable photo: the catalogue's columns, photo, true, KEPT, mean `log_prob:<class>` and features.

    attrs: left_out, the photos that cannot be read; ValueError if none can. The table is kept in `folder`, and a second
    call with the same photos and model reads it.
    """
    path = Path(folder) / f"photos-{digest(model, fingerprint(catalogue), KEPT)}.parquet"
    if path.is_file():
        return pd.read_parquet(path)
    rows, left_out, photos = [], [], catalogue.assign(photo=relative_photos(catalogue), true=catalogue["camera_model"])
    for row in progress(photos.to_dict("records"), "photos", unit="photo", disable=len(photos) < 20):
        try:
            corners, log_probs, features = predict_photo(read_image(row["path"]), model)
        except ValueError as error:
            reason = str(error).removeprefix(f"{row['path']}: ")
            left_out.append({"photo": row["photo"], "camera_model": row["camera_model"], "reason": reason})
            continue
        row.update(zip([LOG_PROB + name for name in model.class_names], log_probs.mean(axis=0), strict=True))
        found = combine(log_probs, features, model) | compare_parts(corners, log_probs, model)
        row |= {name: found[name] for name in KEPT if name in found}
        rows.append(row | {"features": features.mean(axis=0)})
    if not rows:
        raise ValueError(f"none of {len(catalogue)} photos can be used: too few camera models, damaged or too small")
    table = pd.DataFrame(rows).drop(columns="path")
    table.attrs["left_out"] = left_out
    with atomic_path(path) as partial:
        table.to_parquet(partial)
    return pd.read_parquet(path)


def camera_means(catalogue: pd.DataFrame, model: Model, folder: str | Path) -> list[list[float]]:
    """Mean features [classes, d] of each camera's photos; ValueError names the classes without a readable photo."""
    seen = predict_photos(catalogue, model, folder)
    means = pd.DataFrame(list(seen["features"])).groupby(seen["camera_model"]).mean()
    if missing := sorted(set(model.class_names) - set(means.index)):
        raise ValueError(f"no readable photo of {', '.join(missing)}: every camera that the model knows needs one")
    return [[float(f"{value:.6g}") for value in means.loc[name]] for name in model.class_names]


def calibrate(table: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """The table with its log-probabilities divided by `temperature`, and the columns confidence, predicted, right."""
    names, logs = class_names(table), log_softmax(log_probabilities(table) / temperature, axis=1)
    columns = dict(zip([LOG_PROB + name for name in names], logs.T, strict=True))
    predicted = np.array(names)[logs.argmax(axis=1)]
    right = predicted == table["true"]
    return table.assign(**columns, confidence=np.exp(logs.max(axis=1)), predicted=predicted, right=right)


def fit_temperature(table: pd.DataFrame) -> float:
    """The temperature with the smallest log loss over known photos (Guo et al. 2017, who divide logits by it).

    From 1 / PATCHES (patches are independent) to 20: if no photo is misclassified, there is no minimum.
    """
    logs, true = log_probabilities(table), pd.Index(class_names(table)).get_indexer(table["true"])
    rows, bounds = np.arange(len(true)), (-np.log(PATCHES), np.log(20))
    found = minimize_scalar(lambda log: -log_softmax(logs / np.exp(log), axis=1)[rows, true].mean(), bounds=bounds)
    return float(np.exp(found.x))


def threshold(scores: np.ndarray, refused: float) -> float:
    """The threshold below which at most the share `refused` of these known photos scores."""
    return float(np.sort(scores)[int(refused * len(scores))])


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Area under the ROC: the probability that a known photo scores higher than an unknown one, ties count half."""
    ranks = rankdata(np.concatenate([known, unknown]))[: len(known)]
    return (ranks.mean() - (len(known) + 1) / 2) / len(unknown)


def roc(known: np.ndarray, unknown: np.ndarray) -> pd.DataFrame:
    """The ROC of a score (evaluation.roc_points); known cameras are the positives."""
    return roc_points(np.repeat([1, 0], [len(known), len(unknown)]), np.concatenate([known, unknown]))


def compare_scores(known: pd.DataFrame, unknown: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One row for each of SCORES: AUROC, 95 % bootstrap interval over the photos of both groups, their numbers."""
    rng, rows = np.random.default_rng([seed, 98]), []
    for name in SCORES:
        a, b = known[name].to_numpy(), unknown[name].to_numpy()
        draws = [auroc(rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(1000)]
        rows.append([name, auroc(a, b), *np.percentile(draws, [2.5, 97.5]), len(a), len(b)])
    return pd.DataFrame(rows, columns=["score", "value", "low", "high", "known", "unknown"])


def reliability(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Accuracy in four equal groups by confidence: columns name, confidence (mean), value, low, high (Wilson), n."""
    ordered = table.sort_values("confidence", kind="stable")
    groups = [ordered.iloc[rows] for rows in np.array_split(np.arange(len(ordered)), 4)]
    rows = [[name, g["confidence"].mean(), *wilson(int(g["right"].sum()), len(g)), len(g)] for g in groups if len(g)]
    return pd.DataFrame(rows, columns=["name", "confidence", "value", "low", "high", "n"])


def error_rates(known: pd.DataFrame, unknown: pd.DataFrame, score: str, limit: float) -> pd.DataFrame:
    """What a threshold does, as `shares`."""
    return shares({
        "known cameras refused": known[score] < limit,  # false rejection rate
        "unknown cameras accepted": unknown[score] >= limit,  # false acceptance rate
        "known cameras correctly classified": known["right"],
        "accepted known cameras correctly classified": known.loc[known[score] >= limit, "right"],
    })  # fmt: skip


def shares(answers: dict[str, pd.Series]) -> pd.DataFrame:
    """How often the answer is yes: rows (question, value, low, high, n) with 95 % intervals (intervals.wilson)."""
    rows = [[question, *wilson(int(each.sum()), len(each)), len(each)] for question, each in answers.items()]
    return pd.DataFrame(rows, columns=["question", "value", "low", "high", "n"])


def splice(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The left half of one photo next to the right half of another, each in its original position."""
    height, width = np.minimum(left.shape[:2], right.shape[:2])  # from the top left corner: JPEG grids stay in place
    return np.concatenate([left[:height, : _seam(width)], right[:height, _seam(width) : width]], axis=1)


def _seam(width: int) -> int:
    """The column in which the right half of a splice begins: the middle, on the edge of a JPEG block."""
    return width // 16 * 8


def splice_pairs(known: pd.DataFrame, catalogue: pd.DataFrame, most: int) -> list[tuple[pd.Series, pd.Series]]:
    """At most `most` pairs of photos by different cameras, most confident answers first; each photo is used once."""
    photos = catalogue.assign(photo=relative_photos(catalogue)).merge(known[["photo", "confidence"]], on="photo")
    left = [row for _, row in photos.sort_values("confidence", ascending=False, kind="stable").iterrows()]
    pairs = []
    while left and len(pairs) < most:
        one = left.pop(0)
        others = (i for i, two in enumerate(left) if two["camera_model"] != one["camera_model"])
        if (i := next(others, None)) is not None:
            pairs.append((one, left.pop(i)))
    return pairs


def splice_rates(pairs: list[tuple[pd.Series, pd.Series]], model: Model) -> pd.DataFrame:
    """How the patches within each half of a splice vote: one row per half, so two rows per splice.

    own and others: shares of `patches` that vote for the half's camera and for the other half's; NaN without patches.
    parts_statistic: of the splice (predict.parts_statistic); named: whether its sides are named as its cameras.
    """
    rows = []
    for pair in pairs:
        photo = splice(*(read_image(one["path"]) for one in pair))
        corners, log_probs, _ = predict_photo(photo, model)
        votes, middle = np.array(model.class_names)[log_probs.argmax(axis=1)], _seam(photo.shape[1])
        across = model.input_size if len(corners) > 1 else photo.shape[1]  # a single patch is the whole photo
        statistic, sides = parts_statistic(corners, log_probs)
        named = [model.class_names[i] for _, i in sides] == [one["camera_model"] for one in pair]
        for half, inside in {"left": corners[:, 1] + across <= middle, "right": corners[:, 1] >= middle}.items():
            own, other = (one["camera_model"] for one in (pair if half == "left" else pair[::-1]))
            names = pd.Series(votes[inside])
            voting = len(names), (names == own).mean(), (names == other).mean()
            rows.append([half, own, other, *voting, statistic, named])
    return pd.DataFrame(rows, columns=["half", "camera", "other", "patches", "own", "others", KEPT[-1], "named"])


def splice_limit(untouched: list[pd.DataFrame], share: float) -> float:
    """The parts_statistic that at most this share of the photos of each table (`predict_photos`) exceeds."""
    return max(-threshold(-table["parts_statistic"].to_numpy(), share) for table in untouched)
