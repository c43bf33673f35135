"""What an answer is worth: calibrated probabilities, their reliability, and likelihood ratios for an examiner."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from .. import intervals
from ..evaluation import class_names, log_probabilities, predicted, with_logits
from ..identify.predict import PATCHES
from ..intervals import interval

BINS = 5  # groups of equal size by confidence, of the reliability figure and of the calibration error


def calibrate(table: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """The table with its log-probabilities divided by `temperature`, and the columns confidence, predicted, right."""
    table = with_logits(table, log_probabilities(table) / temperature)
    sure, names = np.exp(log_probabilities(table).max(axis=1)), predicted(table)
    return table.assign(confidence=sure, predicted=names, right=names == table["true"])


def fit_temperature(table: pd.DataFrame) -> float:
    """The temperature with the smallest log loss over known photos (Guo et al. 2017, who divide logits by it).

    From 1 / PATCHES (as if patches were independent) to 20: without misclassified photos there is no minimum.
    """
    logs, true = log_probabilities(table), pd.Index(class_names(table)).get_indexer(table["true"])
    rows, bounds = np.arange(len(true)), (-np.log(PATCHES), np.log(20))
    found = minimize_scalar(lambda log: -log_softmax(logs / np.exp(log), axis=1)[rows, true].mean(), bounds=bounds)
    return float(np.exp(found.x))


def weights_of(table: pd.DataFrame, seed: int) -> np.ndarray:
    """How often each row counts in bootstrap samples of devices and scenes (intervals.bootstrap_weights)."""
    code, found = intervals.units(table)
    return intervals.bootstrap_weights(found, [seed, 98])[:, code]


@np.errstate(invalid="ignore")  # a draw without photos
def reliability(tables: dict[str, pd.DataFrame], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy in BINS groups of equal size by confidence, and the expected calibration error over them, of each table.

    That is the mean distance between accuracy and confidence (Guo et al. 2017, who take groups of equal width).
    """
    rows, errors = [], []
    for name, table in tables.items():
        table = table.sort_values("confidence", kind="stable")
        weights, gaps = weights_of(table, seed), 0.0
        for group in np.array_split(np.arange(len(table)), BINS):
            own, sure, right = weights[:, group], *(table[c].to_numpy(float)[group] for c in ("confidence", "right"))
            gaps = gaps + abs(own @ (sure - right))
            independent = intervals.clusters(intervals.units(table.iloc[group])[1])
            rows.append([name, sure.mean(), *interval(own @ right / own.sum(1), independent), len(group)])
        errors.append([name, table["confidence"].mean(), *interval(gaps / weights.sum(1)), len(table)])
    columns = ["name", "confidence", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns), pd.DataFrame(errors, columns=columns)


def trials(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each photo and each class as the hypothesis "this photo is from this model", with its llr.

    That is the log of p(photo | hypothesis) / p(photo | another known class): of the class's probability to the mean of
    the others', as the network takes all classes for equally likely before it sees the photo. same: whether it is true.
    """
    names, logs = np.array(class_names(table)), log_probabilities(table)
    others = logsumexp(logs[:, None, :], axis=2, b=1 - np.eye(len(names))) - np.log(len(names) - 1)
    kept = ["photo", "camera_model", "device", "scene", "collection", "part", "protocol", "known"]
    rows = table.reindex(columns=kept).loc[table.index.repeat(len(names))].reset_index(drop=True)
    rows = rows.assign(hypothesis=np.tile(names, len(table)), llr=(logs - others).ravel())
    return rows.assign(same=rows["hypothesis"] == rows["camera_model"])


def calibrated_ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """`trials` with their llr mapped by a * llr + b, fitted by logistic regression on the known val photos.

    Both kinds of trial weigh the same, so that log odds are log-likelihood ratios (Brümmer and du Preez 2006). The fit
    is slightly regularised; without errors, a would otherwise grow without limit.
    """
    from sklearn.linear_model import LogisticRegression  # a second to import

    own = rows[rows["known"] & (rows["part"] == "val")]
    fitted = LogisticRegression(class_weight="balanced").fit(own[["llr"]].to_numpy(), own["same"])
    return rows.assign(llr=fitted.decision_function(rows[["llr"]].to_numpy()))


def equal_error_rate(llr: np.ndarray, same: np.ndarray, weights: np.ndarray) -> float:
    """The error rate at the limit of llr at which as many true hypotheses are missed as false ones are accepted."""
    order = np.argsort(llr, kind="stable")
    own = [np.where(kind, weights, 0)[order] for kind in (same, ~same)]
    missed, refused = (np.append(0, each.cumsum()) / each.sum() for each in own)
    best = np.abs(missed - 1 + refused).argmin()
    return float((missed[best] + 1 - refused[best]) / 2)


@np.errstate(invalid="ignore")  # a draw without trials
def ratio_metrics(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Cllr and equal error rate of test trials, with intervals; false hypotheses are about known or unknown cameras.

    Cllr (Brümmer and du Preez 2006), in bits: 0 for an examiner who is always right and certain, 1 for one who learns
    nothing, more for a misled one. same, different: numbers of trials.
    """
    found, tested = [], rows[rows["part"] == "test"].sort_values("llr", kind="stable")
    for name, known in (("of known cameras", True), ("of unknown cameras", False)):
        own = tested[tested["same"] | (tested["known"] == known)]
        llr, same = own["llr"].to_numpy(), own["same"].to_numpy()
        code, photos = intervals.units(own)
        weights = intervals.bootstrap_weights(photos, [seed, 98])
        cost = np.logaddexp(0, np.where(same, -llr, llr)) / np.log(2)  # what each trial adds to Cllr
        sums = [(weights @ np.bincount(code, cost * kind), weights @ np.bincount(code, kind)) for kind in (same, ~same)]
        metrics = {"Cllr": sum(total / count for total, count in sums) / 2}
        metrics["equal error rate"] = np.array([equal_error_rate(llr, same, drawn[code]) for drawn in weights])
        for metric, draws in metrics.items():
            ends = interval(draws, span=(0, np.inf) if metric == "Cllr" else (0, 1))
            found.append([name, metric, *ends, same.sum(), (~same).sum()])
    return pd.DataFrame(found, columns=["false_hypotheses", "metric", "value", "low", "high", "same", "different"])
