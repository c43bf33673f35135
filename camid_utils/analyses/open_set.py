"""When the answer must be "none of the known cameras", or two of them: models left out, scores, limits, splices."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, logsumexp

from ..batches import logits_of, make_fabric, set_up
from ..catalogues import fingerprint
from ..evaluation import LOG_PROB, digest, log_probabilities, with_logits
from ..files import atomic_path
from ..identify.predict import SCORES, combine, fitting, parts_statistic, predict_photo, size_key
from ..intervals import clusters, interval, units, wilson
from ..models import Model
from ..patches import Store
from ..photos import read_photo
from ..planning import Plan
from ..project import progress
from .calibration import calibrate, fit_temperature, weights_of

COMPARED = (*SCORES, "mahalanobis")  # the last needs a matrix of features by features, too large for the page
LEAST = float(np.finfo(np.float32).min)  # of a limit: JSON has no infinity
KEPT = (*SCORES[1:], "size", "parts_statistic")  # what `predict_photos` keeps: what needs no calibration


def divide(names: list[str], folds: int, seed: int) -> list[list[str]]:
    """The names in `folds` random groups of about equal size; more groups where fewer than two names would remain."""
    if len(names) < 3:
        raise ValueError(f"{len(names)} camera models: at least three are needed to leave one out and tell two apart")
    folds = min(len(names), max(2, folds, -(-len(names) // (len(names) - 2))))
    mixed = np.random.default_rng([seed, 6]).permutation(sorted(names))
    return [sorted(map(str, group)) for group in np.array_split(mixed, folds)]


def without(plan: Plan, left_out: list[str]) -> Plan:
    """A plan without these classes; all other rows keep their part, so scenes and devices are tested as before."""
    names = [name for name in plan.class_names if name not in left_out]
    number = np.append(pd.Index(names).get_indexer(plan.class_names), -1)  # label -1 stays -1
    labels = number[plan.labels]
    return plan._replace(part=np.where(labels < 0, "unused", plan.part), labels=labels, class_names=names)


def photo_outputs(model: Model, store: Store, rows: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """A network's outputs for the photos of a store's patches `rows`: means over each photo's patches.

    One row per photo (true, `log_prob:<class>`, energy: see predict.SCORES), and the classifier's input [photos, d].
    """
    fabric, net = make_fabric(), model.net
    with set_up(net.features, fabric) as backbone:
        features = logits_of(backbone, fabric, store.pixels, rows, 64, model.input_range)
    with torch.inference_mode():
        logits = net.classifier.eval()(features).double().numpy()
    patches = store.table.iloc[rows].drop(columns=["y", "x"])
    values = np.column_stack([logits, logsumexp(logits, axis=1), features])
    means = pd.DataFrame(values).groupby(patches["photo"].to_numpy()).mean().to_numpy()
    found, classes = patches.groupby("photo").first().reset_index(), len(model.class_names)
    logs = pd.DataFrame(log_softmax(means[:, :classes], axis=1), columns=model.class_names).add_prefix(LOG_PROB)
    return found.assign(true=found["camera_model"], energy=means[:, classes]).join(logs), means[:, classes + 1 :]


def feature_scores(features: np.ndarray, known: np.ndarray, labels: pd.Series, possible=True) -> pd.DataFrame:
    """Minus the distance of features [n, d] to the nearest class mean of the training photos `known` [m, d].

    mahalanobis: Lee et al. 2018; of more features than photos, so the covariance is shrunk (Ledoit and Wolf 2004).
    possible: bool [n, classes], the means that count.
    """
    from sklearn.covariance import LedoitWolf  # a second to import

    means = pd.DataFrame(known).groupby(labels.to_numpy())
    scatter = LedoitWolf(store_precision=False, assume_centered=True).fit(known - means.transform("mean").to_numpy())
    white, centres = np.linalg.inv(np.linalg.cholesky(scatter.covariance_)).T, means.mean().to_numpy()
    similarity, mahalanobis = -cdist(features, centres), -cdist(features @ white, centres @ white)
    scores = {"feature_similarity": similarity, "mahalanobis": mahalanobis}
    return pd.DataFrame({name: np.where(possible, own, -np.inf).max(axis=1) for name, own in scores.items()})


def answered(photos: pd.DataFrame, fits: np.ndarray) -> pd.DataFrame:
    """Calibrated photos with the tool's answers by pixels and size (predict.combine); fits: predict.fitting.

    Probabilities are among the cameras that fit; where none does, all scores are -inf, as the tool then refuses. Energy
    is the caller's: `fold_photos` takes it over all cameras.
    """
    seen = fits.any(axis=1)
    logs = np.where(fits | ~seen[:, None], log_probabilities(photos), -np.inf)
    found = calibrate(with_logits(photos, logs), 1.0)
    return found.assign(**{name: np.where(seen, found[name], -np.inf) for name in COMPARED if name in found})


def fold_photos(
    model: Model, store: Store, plan: Plan, outputs: Callable = photo_outputs, sizes: pd.Series | None = None
) -> pd.DataFrame:
    """One row per val and test photo of a plan, of the model's classes and of others (known: True, False).

    Columns: part, known, those of `outputs` and COMPARED, with probabilities calibrated on the known val photos.
    sizes: the photos' `size_key` by name; with them, only cameras that took training photos of a photo's size are
    possible (`answered`).
    """
    known = store.table["camera_model"].isin(model.class_names).to_numpy()
    rows = np.flatnonzero((plan.part != "unused") & (known | (plan.part != "train")))
    seen, features = outputs(model, store, rows)
    part = pd.Series(plan.part[rows]).groupby(store.table["photo"].iloc[rows].to_numpy()).first()
    part = part[seen["photo"]].to_numpy()
    known = seen["true"].isin(model.class_names)
    seen, train = seen.assign(part=part, known=known, protocol=plan.protocol), part == "train"
    fits = np.ones((len(seen), 1), bool) if sizes is None else fitting(model, sizes[seen["photo"]])
    seen = seen.join(feature_scores(features, features[train], seen["true"][train], fits))
    seen, fits = seen[~train].reset_index(drop=True), fits[~train]
    found = calibrate(seen, fit_temperature(seen[seen["known"] & (seen["part"] == "val")]))
    return found if sizes is None else answered(found, fits)


def camera_means(model: Model, store: Store, rows: np.ndarray, outputs: Callable = photo_outputs) -> list[list[float]]:
    """Mean features [classes, d] of each camera's photos, rounded for the model file."""
    seen, features = outputs(model, store, rows)
    means = pd.DataFrame(features).groupby(seen["true"]).mean().loc[model.class_names]
    return [[float(f"{value:.6g}") for value in row] for row in means.to_numpy()]


def sample_photos(catalogue: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` random photos of a catalogue, as evenly distributed over its camera models as possible."""
    shuffled = catalogue.sort_values("path").sample(frac=1, random_state=seed)
    turn = shuffled.groupby("camera_model").cumcount()
    return shuffled.loc[turn.sort_values(kind="stable").index[:most]].sort_values("path").reset_index(drop=True)


def predict_photos(catalogue: pd.DataFrame, model: Model, folder: str | Path) -> pd.DataFrame:
    """The tool's output, one row per readable photo; kept in `folder`.

    Columns: the catalogue's without path, true, protocol (the model's), KEPT (scores among the cameras of the photo's
    size) and, by the pixels alone, the mean `log_prob:<class>`. attrs: left_out, the photos that cannot be read;
    ValueError if none can.
    """
    path = Path(folder) / f"photos-{digest(model, fingerprint(catalogue), KEPT)}.parquet"
    if path.is_file():
        return pd.read_parquet(path)
    photos = catalogue.assign(true=catalogue["camera_model"], protocol=model.info.get("protocol"))
    rows, left_out = [], []
    for row in progress(photos.to_dict("records"), "photos", unit="photo", disable=len(photos) < 20):
        try:
            photo = read_photo(row["path"])
            corners, logits, features = predict_photo(photo, model)
        except ValueError as error:
            reason = str(error).removeprefix(f"{row['path']}: ")
            left_out.append({"photo": row["photo"], "camera_model": row["camera_model"], "reason": reason})
            continue
        size = size_key(*photo.shape[:2])
        found = combine(logits, features, model, size)
        found |= {"size": size, "parts_statistic": parts_statistic(corners, logits)[0]}
        logs = zip(model.class_names, log_softmax(logits.mean(axis=0)), strict=True)
        row |= {LOG_PROB + name: value for name, value in logs}
        rows.append(row | {name: found[name] for name in KEPT if name in found})
    if not rows:
        raise ValueError(f"none of {len(catalogue)} photos can be used: too few camera models, damaged or too small")
    table = pd.DataFrame(rows).drop(columns="path")
    table.attrs["left_out"] = left_out
    with atomic_path(path) as partial:
        table.to_parquet(partial)
    return pd.read_parquet(path)


def threshold(scores: np.ndarray, refused: float) -> float:
    """The threshold below which at most the share `refused` of these known photos scores."""
    return float(np.sort(scores)[min(int(refused * len(scores)), len(scores) - 1)])


@np.errstate(invalid="ignore")  # a draw without unknown photos
def areas(seen: pd.DataFrame, name: str, credit: str = "known", weights: np.ndarray | None = None) -> dict:
    """For each fold the probability [draws] that a known photo scores higher than an unknown one; ties count half.

    Times the known photo's `credit`: with the column "known" it is the area under the ROC, with "right" that under the
    curve of correct classification over false acceptance (OSCR; Dhamija et al. 2018). weights: [draws, rows].
    """
    weights, found = np.ones((1, len(seen))) if weights is None else weights, {}
    values, credits = seen[name].to_numpy(), seen[credit].to_numpy()
    for fold in seen["fold"].unique():
        known, unknown = ((seen["fold"] == fold).to_numpy() & (seen["known"] == side).to_numpy() for side in (1, 0))
        of_known, of_unknown = weights[:, known], weights[:, unknown]
        order = np.argsort(values[unknown], kind="stable")
        below = np.pad(of_unknown[:, order].cumsum(axis=1), ((0, 0), (1, 0)))
        ends = [np.searchsorted(values[unknown][order], values[known], side) for side in ("left", "right")]
        hits = of_known * credits[known] * (below[:, ends[0]] + below[:, ends[1]]) / 2
        found[fold] = hits.sum(1) / (of_known.sum(1) * of_unknown.sum(1))
    return found


def curves(seen: pd.DataFrame, names: tuple[str, ...], credit: str = "known") -> dict[str, pd.DataFrame]:
    """For each score the mean over folds of the curve under which `areas` lie, at 501 false-acceptance rates."""
    grid, found = np.linspace(0, 1, 501), {}
    for name in names:
        heights = []
        for _, own in seen.groupby("fold"):
            limits, known = np.append(np.inf, np.sort(own[name].unique())[::-1]), own["known"]
            counted = own.loc[known, name].where(own.loc[known, credit], -np.inf)
            rates = [(each.to_numpy() >= limits[:, None]).mean(1) for each in (own.loc[~known, name], counted)]
            heights.append(rates[1][np.searchsorted(rates[0], grid, "right") - 1])
        found[name] = pd.DataFrame({"false_positive_rate": grid, "true_positive_rate": np.mean(heights, axis=0)})
    return found


def decide(seen: pd.DataFrame, chosen: dict, refused: float) -> pd.DataFrame:
    """The photos with the columns margin and accepted (margin >= 0): by each fold's `chosen` score, minus its limit.

    The limit refuses the share `refused` of the fold's known val photos; margins are in deviations of their scores.
    """
    parts = []
    for fold, own in seen.groupby("fold"):
        values = own[chosen[fold]]
        val = values[own["known"] & (own["part"] == "val")]
        margin = (values - threshold(val, refused)) / (val[np.isfinite(val)].std(ddof=0) or 1)
        parts.append(own.assign(margin=margin, accepted=margin >= 0))
    return pd.concat(parts, ignore_index=True)


@np.errstate(invalid="ignore")  # a draw without such photos
def error_rates(decided: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What limits do to test photos (`decide`): rows (question, value, low, high, n), all folds' answers pooled."""
    decided = decided[decided["part"] == "test"]
    weights, known, passed, right = weights_of(decided, seed), *(decided[c] for c in ("known", "accepted", "right"))
    rows = []
    for question, among, answer in (
        ("known cameras refused", known, ~passed),  # false refusal
        ("unknown cameras accepted", ~known, passed),  # false acceptance
        ("known cameras correctly classified", known, right),
        ("accepted known cameras correctly classified", known & passed, right),
        ("known cameras named correctly", known, passed & right),
        ("known cameras named wrongly", known, passed & ~right),
    ):
        own, n = weights[:, among], int(among.sum())
        rows.append([question, *interval(own @ answer[among] / own.sum(1), clusters(units(decided[among])[1])), n])
    return pd.DataFrame(rows, columns=["question", "value", "low", "high", "n"])


def compare_scores(seen: pd.DataFrame, refused: float, seed: int) -> pd.DataFrame:
    """Each of COMPARED on test photos: AUROC and OSCR area, means over folds, and error rates at the folds' limits."""
    test, rows = seen[seen["part"] == "test"], []
    weights = weights_of(test, seed)
    for name in COMPARED:
        for metric, credit in (("AUROC", "known"), ("OSCR area", "right")):
            found = np.mean(list(areas(test, name, credit, weights).values()), axis=0)
            rows.append([name, metric, *interval(found)])
        rates = error_rates(decide(seen, dict.fromkeys(seen["fold"], name), refused), seed).iloc[:2]
        rows += [[name, *row] for row in rates[["question", "value", "low", "high"]].to_numpy()]
    found = pd.DataFrame(rows, columns=["score", "metric", "value", "low", "high"])
    return found.assign(known=int(test["known"].sum()), unknown=int((~test["known"]).sum()))


def limits(
    model: Model, photos: dict[str, pd.DataFrame], folder: str | Path, score: str, refused: float, seed: int
) -> tuple[dict, pd.DataFrame]:
    """A model's temperature, score and threshold for the tool, and the `error_rates` with them, as the tool is used.

    photos: catalogues `val`, which fixes temperature and threshold, `test`, both of known cameras, and `unknown`.
    """
    raw = {part: predict_photos(own, model, folder) for part, own in photos.items()}
    temperature = round(fit_temperature(raw["val"]), 6)
    answers = [calibrate(own, temperature).assign(part=part, known=part != "unknown") for part, own in raw.items()]
    if "sizes" in model.info:
        answers = [answered(own, fitting(model, own["size"])) for own in answers]
    seen = pd.concat(answers, ignore_index=True).replace({"part": {"unknown": "test"}}).assign(fold=0)
    limit = max(threshold(seen.loc[seen["part"] == "val", score], refused), LEAST)
    facts = dict(temperature=temperature, score=score, threshold=limit)
    return facts, error_rates(decide(seen, {0: score}, refused), seed)


def splice(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The left half of one photo and the right half of another, in their places; the seam is between JPEG blocks."""
    height, width = np.minimum(left.shape[:2], right.shape[:2])  # from the top left corner: JPEG grids stay in place
    seam = width // 16 * 8
    return np.concatenate([left[:height, :seam], right[:height, seam:width]], axis=1)


def splice_pairs(known: pd.DataFrame, catalogue: pd.DataFrame, most: int) -> list[tuple[pd.Series, pd.Series]]:
    """At most `most` pairs of photos by different cameras, most confident answers first; each photo is used once."""
    photos = catalogue.merge(known[["photo", "confidence"]], on="photo")
    left = [row for _, row in photos.sort_values("confidence", ascending=False, kind="stable").iterrows()]
    pairs = []
    while left and len(pairs) < most:
        one = left.pop(0)
        others = (i for i, two in enumerate(left) if two["camera_model"] != one["camera_model"])
        if (i := next(others, None)) is not None:
            pairs.append((one, left.pop(i)))
    return pairs


def splice_statistics(pairs: list[tuple[pd.Series, pd.Series]], model: Model) -> pd.DataFrame:
    """One row per splice: parts_statistic, named (whether its sides are named as the cameras that took them)."""
    rows = []
    for pair in pairs:
        corners, logits, _ = predict_photo(splice(*(read_photo(one["path"]) for one in pair)), model)
        statistic, sides = parts_statistic(corners, logits)
        true = [(side, one["camera_model"]) for side, one in zip(("left", "right"), pair, strict=True)]
        rows.append([statistic, [(side, model.class_names[i]) for side, i in sides] == true])
    return pd.DataFrame(rows, columns=["parts_statistic", "named"])


def splice_limit(untouched: pd.DataFrame, share: float) -> float:
    """The parts_statistic that at most this share of untouched photos (`predict_photos`) exceeds."""
    return -threshold(-untouched["parts_statistic"].to_numpy(), share)


def splice_rates(untouched: pd.DataFrame, spliced: pd.DataFrame, limit: float) -> pd.DataFrame:
    """What a limit of the parts_statistic does: rows (question, value, low, high, n) with 95 % intervals (Wilson)."""
    alarms, found = untouched["parts_statistic"] > limit, spliced["parts_statistic"] > limit
    answers = {"untouched photos called spliced": alarms, "splices detected": found,
               "detected splices with both cameras named": spliced.loc[found, "named"]}  # fmt: skip
    rows = [[question, *wilson(int(each.sum()), len(each)), len(each)] for question, each in answers.items()]
    return pd.DataFrame(rows, columns=["question", "value", "low", "high", "n"])
