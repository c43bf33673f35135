"""How sure an answer may be, and when it must be "none of the known cameras": calibration, thresholds, error rates."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import rankdata

from .. import splits
from ..catalogues import relative_photos
from ..evaluation import LOG_PROB, class_names, log_probabilities, roc_points
from ..identify.predict import PATCHES, SCORES, combine, predict_photo
from ..intervals import wilson
from ..models import Model
from ..photos import read_image
from ..project import progress


def photo_groups(
    phones: pd.DataFrame, others: pd.DataFrame, predictions: pd.DataFrame, model: Model, most: int, seed: int
) -> dict[str, pd.DataFrame]:
    """At most `most` photos each to train, validate and test with, and two groups by different unknown cameras.

    predictions: the model's own, with the columns part and photo. There are at least 8 training photos per class.
    """
    named = relative_photos(phones)
    groups = {part: phones[named.isin(predictions["photo"][predictions["part"] == part])] for part in ("val", "test")}
    groups["unknown, to choose"], groups["unknown, to test"] = split_models(others)
    training = training_photos(phones, model, predictions)
    trained = sample_photos(training, max(most, 8 * len(model.class_names)), seed)
    return {"train": trained} | {name: sample_photos(photos, most, seed) for name, photos in groups.items()}


def training_photos(catalogue: pd.DataFrame, model: Model, predictions: pd.DataFrame) -> pd.DataFrame:
    """The photos of a catalogue that trained a model, by its protocol and seed; none that has predictions."""
    settings = model.info["protocol"], model.info["seed"]
    kept, _ = splits.splittable(catalogue[catalogue["camera_model"].isin(model.class_names)], *settings)
    kept = kept[splits.split(kept, *settings) == "train"]
    return kept[~relative_photos(kept).isin(predictions["photo"])]


def split_models(catalogue: pd.DataFrame) -> list[pd.DataFrame]:
    """A catalogue in two parts that share no camera model: every other model in name order."""
    models = sorted(catalogue["camera_model"].unique())
    return [catalogue[catalogue["camera_model"].isin(models[start::2])] for start in (0, 1)]


def sample_photos(catalogue: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` random photos of a catalogue, as evenly distributed over its camera models as possible."""
    shuffled = catalogue.sort_values("path").sample(frac=1, random_state=seed)
    turn = shuffled.groupby("camera_model").cumcount()
    return shuffled.loc[turn.sort_values(kind="stable").index[:most]].sort_values("path").reset_index(drop=True)


def predict_photos(catalogue: pd.DataFrame, model: Model) -> pd.DataFrame:
    """One row per readable photo: the catalogue's columns, `photo`, `true`, `log_prob:<class>` (mean over its patches).

    Also mean `features` and SCORES but the confidence, which needs calibration. ValueError if no photo can be read.
    """
    rows, photos = [], catalogue.assign(photo=relative_photos(catalogue), true=catalogue["camera_model"])
    for row in progress(photos.to_dict("records"), "photos", unit="photo", disable=len(photos) < 20):
        try:
            _, log_probs, features = predict_photo(read_image(row["path"]), model)
        except ValueError:
            continue
        row |= {LOG_PROB + name: mean for name, mean in zip(model.class_names, log_probs.mean(axis=0), strict=True)}
        found = combine(log_probs, features, model) | {"features": features.mean(axis=0)}
        rows.append(row | {name: found[name] for name in (*SCORES[1:], "features") if name in found})
    if not rows:
        raise ValueError(f"none of {len(catalogue)} photos can be used: too few camera models, damaged or too small")
    return pd.DataFrame(rows).drop(columns="path")


def camera_means(catalogue: pd.DataFrame, model: Model) -> list[list[float]]:
    """Mean features [classes, d] of each camera's photos; ValueError names the classes without a readable photo."""
    seen = predict_photos(catalogue, model)
    means = pd.DataFrame(list(seen["features"])).groupby(seen["camera_model"]).mean()
    if missing := sorted(set(model.class_names) - set(means.index)):
        raise ValueError(f"no readable photo of {', '.join(missing)}: every camera that the model knows needs one")
    return [[float(f"{value:.6g}") for value in means.loc[name]] for name in model.class_names]


def calibrate(table: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """The table with its log-probabilities divided by `temperature`, and the columns confidence, predicted, right."""
    names, logs = class_names(table), log_softmax(log_probabilities(table) / temperature, axis=1)
    predicted = np.array(names)[logs.argmax(axis=1)]
    columns = pd.DataFrame(logs, columns=[LOG_PROB + name for name in names], index=table.index)
    answers = {"confidence": np.exp(logs.max(axis=1)), "predicted": predicted, "right": predicted == table["true"]}
    return table.assign(**columns, **answers)


def fit_temperature(table: pd.DataFrame) -> float:
    """The temperature with the smallest log loss over known photos (Guo et al. 2017, who divide logits by it).

    From 1 / PATCHES (patches are independent) to 20: without an error among the photos there is no minimum.
    """
    logs, true = log_probabilities(table), pd.Index(class_names(table)).get_indexer(table["true"])

    def loss(log_temperature: float) -> float:
        return -log_softmax(logs / np.exp(log_temperature), axis=1)[np.arange(len(true)), true].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-np.log(PATCHES), np.log(20)), method="bounded").x))


def threshold(scores: np.ndarray, refused: float = 0.05) -> float:
    """The score below which at most the share `refused` of these known photos lies."""
    return float(np.sort(scores)[int(refused * len(scores))])


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Area under the ROC: the probability that a known photo scores higher than an unknown one, ties count half."""
    ranks = rankdata(np.concatenate([known, unknown]))[: len(known)]
    return (ranks.mean() - (len(known) + 1) / 2) / len(unknown)


def roc(known: np.ndarray, unknown: np.ndarray) -> pd.DataFrame:
    """The ROC of a score (evaluation.roc_points); known cameras are the positives."""
    return roc_points(np.repeat([1, 0], [len(known), len(unknown)]), np.concatenate([known, unknown]))


def compare_scores(known: pd.DataFrame, unknown: pd.DataFrame, seed: int, resamples: int = 1000) -> pd.DataFrame:
    """One row for each of SCORES: AUROC, 95 % bootstrap interval over the photos of both groups, their numbers."""
    rng, rows = np.random.default_rng([seed, 98]), []
    for name in SCORES:
        a, b = known[name].to_numpy(), unknown[name].to_numpy()
        draws = [auroc(rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(resamples)]
        rows.append([name, auroc(a, b), *np.percentile(draws, [2.5, 97.5]), len(a), len(b)])
    return pd.DataFrame(rows, columns=["score", "value", "low", "high", "known", "unknown"])


def reliability(table: pd.DataFrame, name: str, bins: int = 4) -> pd.DataFrame:
    """Accuracy in `bins` equal groups by confidence: columns name, confidence (mean), value, low, high (Wilson), n."""
    ordered = table.sort_values("confidence", kind="stable")
    groups = [ordered.iloc[rows] for rows in np.array_split(np.arange(len(ordered)), bins)]
    rows = [[name, g["confidence"].mean(), *wilson(int(g["right"].sum()), len(g)), len(g)] for g in groups if len(g)]
    return pd.DataFrame(rows, columns=["name", "confidence", "value", "low", "high", "n"])


def error_rates(known: pd.DataFrame, unknown: pd.DataFrame, score: str, limit: float) -> pd.DataFrame:
    """What a threshold does: rows (question, value, low, high, n) with 95 % intervals by Wilson's method (1927).

    Known cameras refused is the false rejection rate, unknown cameras accepted the false acceptance rate.
    """
    answers = {
        "known cameras refused": known[score] < limit,
        "unknown cameras accepted": unknown[score] >= limit,
        "known cameras correctly classified": known["right"],
        "accepted known cameras correctly classified": known.loc[known[score] >= limit, "right"],
    }
    rows = [[question, *wilson(int(each.sum()), len(each)), len(each)] for question, each in answers.items()]
    return pd.DataFrame(rows, columns=["question", "value", "low", "high", "n"])


def limits(
    known: pd.DataFrame, unknown: pd.DataFrame, validation_scores: np.ndarray, score: str, shares=(0.05, 0.1, 0.2)
) -> pd.DataFrame:
    """What other thresholds would do: one row per share of validation photos below it, with both error rates."""
    columns = [f"{name}{end}" for name in ("refused", "accepted") for end in ("", "_low", "_high")]
    rows = []
    for share in shares:
        limit = threshold(validation_scores, share)
        rates = error_rates(known, unknown, score, limit)[["value", "low", "high"]]
        rows.append([share, limit, *rates[:2].to_numpy().ravel()])
    return pd.DataFrame(rows, columns=["share", "threshold", *columns])
