"""What lies behind a reported figure: the epoch, the learning rate and input range, the number of voting patches."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import torch

from ..evaluation import class_names, log_probabilities
from ..experiments import Experiment, Study, epochs_of
from ..intervals import bootstrap_weights, units
from ..patches import Store, patch_entropy, patch_quality, scores
from ..planning import Plan
from ..training import History, fit

RATES, RANGES = (0.001, 0.01), ("0..255", "0..1")  # the paper's and its code's
COUNTS = (1, 2, 4, 8, 16, 32, 64)  # voting patches


def two_epochs(runs: list[Experiment]) -> pd.DataFrame:
    """For each run and seed, the epochs of highest validation accuracy and of lowest loss, with both figures."""
    rows, reported = [], ["val_accuracy", "val_loss"]
    for (run, seed), epochs in epochs_of(runs).set_index("epoch").groupby(["run", "seed"], sort=False):
        best, lowest = epochs["val_accuracy"].idxmax(), epochs["val_loss"].fillna(np.inf).idxmin()
        rows.append([run, seed, len(epochs), best, *epochs.loc[best, reported], lowest, *epochs.loc[lowest, reported]])
    accuracy, loss = ["accuracy_epoch", "its_accuracy", "its_loss"], ["loss_epoch", "accuracy_there", "loss_there"]
    return pd.DataFrame(rows, columns=["run", "seed", "epochs", *accuracy, *loss])


def published_pair(log: pd.DataFrame, printed: pd.Series) -> dict[str, int]:
    """The epochs of the authors' log that have the printed accuracy and the printed loss."""
    nearest = {name: (log[f"val_{name}"] - printed[f"val_{name}"]).abs().idxmin() for name in ("accuracy", "loss")}
    return {f"the printed {name}": int(log["epoch"][row]) for name, row in nearest.items()}


def rate_runs(study: Study, make_net: Callable, store: Store, plan: Plan, settings: dict) -> dict:
    """A History for each of RATES and RANGES: trainings of make_net(classes, plan, input_range=...) with SGD."""
    histories = {}
    for rate, fed in product(RATES, RANGES):
        torch.manual_seed(plan.seed)
        net, name = make_net(len(plan.class_names), plan, input_range=fed), f"rate-{rate}-{fed}"
        own = settings | dict(input_range=fed, learning_rate=rate, optimizer="sgd")
        parts, folder = (plan.rows("train"), plan.rows("val")), study.data / "runs" / name
        histories[rate, fed] = fit(net, store.pixels, plan.labels, *parts, own, folder, seed=plan.seed, title=name)
    return histories


def rates_table(runs: dict[tuple[float, str], History], classes: int) -> pd.DataFrame:
    """One row per run: its epoch of lowest validation loss, and whether that is below nine tenths of guessing's."""
    rows = []
    for (rate, fed), history in runs.items():
        epochs, guess = history.epochs, np.log(classes)
        best = epochs.loc[epochs["val_loss"].fillna(np.inf).idxmin()]
        figures = len(epochs), best["val_accuracy"], best["val_loss"], best["val_loss"] < 0.9 * guess, history.plateau
        rows.append([f"{rate}, {fed}", rate, fed, *figures])
    columns = ["run", "learning_rate", "input_range", "epochs", "val_accuracy", "val_loss", "left_start", "plateau"]
    return pd.DataFrame(rows, columns=columns)


def vote_scores(predictions: pd.DataFrame, store: Store) -> dict[str, np.ndarray]:
    """Quality and entropy of the patch of each row of predictions of a grid store; ValueError if it is not there."""
    found = {name: scores(store.pixels, of) for name, of in (("quality", patch_quality), ("entropy", patch_entropy))}
    place = ["photo", "y", "x"]
    own = predictions[place].merge(store.table[place].assign(**found), how="left", validate="many_to_one")
    if own.isna().any(axis=None):
        raise ValueError(f"predictions of patches that are not in {store.folder}: give the store that was predicted")
    return {name: own[name].to_numpy() for name in found}


def accuracy_by_votes(
    predictions: pd.DataFrame, scores: dict[str, np.ndarray], counts: tuple = COUNTS, draws: int = 20, seed: int = 0
) -> pd.DataFrame:
    """Accuracy per photo by the number of voting patches: choice, patches, value, low, high (95 %), photos.

    predictions: one row per patch that may vote. scores: for each choice one value per row; the highest vote first, in
    a small photo all. The choice "random" is added: the mean over `draws` orders.
    """
    rng = np.random.default_rng([seed, 64])
    orders = {"random": [rng.random(len(predictions)) for _ in range(draws)]} | {k: [v] for k, v in scores.items()}
    code, found = units(predictions)
    weights, rows = bootstrap_weights(found, [seed, 95]), []
    for choice, values in orders.items():
        correct = np.mean([_correct_votes(predictions, code, order, counts) for order in values], axis=0)
        with np.errstate(invalid="ignore"):  # a sample may miss every photo
            shares = weights @ correct / weights.sum(axis=1, keepdims=True)
        value, (low, high) = shares[0], np.nanpercentile(shares[1:], [2.5, 97.5], axis=0)
        photos = found["photo"].nunique()
        rows += [[choice, count, value[i], low[i], high[i], photos] for i, count in enumerate(counts)]
    return pd.DataFrame(rows, columns=["choice", "patches", "value", "low", "high", "photos"])


def _correct_votes(predictions: pd.DataFrame, code: np.ndarray, score: np.ndarray, counts: tuple) -> np.ndarray:
    """Whether the first patches of each unit (intervals.units) vote for the true class: float [units, counts]."""
    order = np.lexsort((-score, code))
    sums = pd.DataFrame(log_probabilities(predictions)[order]).groupby(code[order]).cumsum().to_numpy()
    hit = sums.argmax(1) == pd.Index(class_names(predictions)).get_indexer(predictions["true"].to_numpy()[order])
    sizes = np.bincount(code)
    last = (np.cumsum(sizes) - sizes)[:, None] + np.minimum(np.array(counts), sizes[:, None]) - 1
    return hit[last].astype(float)
