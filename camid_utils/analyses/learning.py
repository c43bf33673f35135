"""How training went: the epochs behind a reported figure, and runs with several learning rates and input ranges."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import torch

from ..experiments import Experiment, Study, epochs_of
from ..patches import Store
from ..planning import Plan
from ..training import History, fit

RATES, RANGES = (0.001, 0.01), ("0..255", "0..1")  # the paper's and its code's


def two_epochs(runs: list[Experiment]) -> pd.DataFrame:
    """For each run and seed, the epochs of highest validation accuracy and of lowest loss, with both figures."""
    rows, reported = [], ["val_accuracy", "val_loss"]
    for (run, seed), epochs in epochs_of(runs).set_index("epoch").groupby(["run", "seed"], sort=False):
        best, lowest = epochs["val_accuracy"].idxmax(), epochs["val_loss"].idxmin()
        rows.append([run, seed, len(epochs), best, *epochs.loc[best, reported], lowest, *epochs.loc[lowest, reported]])
    accuracy, loss = ["accuracy_epoch", "its_accuracy", "its_loss"], ["loss_epoch", "accuracy_there", "loss_there"]
    return pd.DataFrame(rows, columns=["run", "seed", "epochs", *accuracy, *loss])


def published_pair(log: pd.DataFrame, printed: pd.Series) -> dict[str, int]:
    """The epochs of the authors' log that have the printed accuracy and the printed loss."""
    nearest = {name: (log[f"val_{name}"] - printed[f"val_{name}"]).abs().idxmin() for name in ("accuracy", "loss")}
    return {f"the printed {name}": int(log["epoch"][row]) for name, row in nearest.items()}


def rate_runs(study: Study, make_net: Callable, store: Store, plan: Plan, settings: dict) -> dict:
    """A History for each of RATES and RANGES: trainings with SGD on the same patches.

    make_net(classes, plan, input_range=...) returns the network.
    """
    histories = {}
    for rate, fed in product(RATES, RANGES):
        torch.manual_seed(plan.seed)
        net, name = make_net(len(plan.class_names), plan, input_range=fed), f"rate-{rate}-{fed}"
        own = settings | dict(input_range=fed, learning_rate=rate, optimizer="sgd")
        parts, folder = (plan.rows("train"), plan.rows("val")), study.data / "runs" / name
        histories[rate, fed] = fit(net, store.pixels, plan.labels, *parts, own, folder, seed=plan.seed, title=name)
    return histories


def rates_table(runs: dict[tuple[float, str], History], classes: int) -> pd.DataFrame:
    """One row per run, named by learning rate and input range: its epoch of lowest validation loss, and its end.

    left_start: whether that loss is below nine tenths of the loss of guessing; plateau: see training.History.
    """
    rows = []
    for (rate, fed), history in runs.items():
        epochs, guess = history.epochs, np.log(classes)
        best = epochs.loc[epochs["val_loss"].fillna(np.inf).idxmin()]
        figures = len(epochs), best["val_accuracy"], best["val_loss"], best["val_loss"] < 0.9 * guess, history.plateau
        rows.append([f"{rate}, {fed}", rate, fed, *figures])
    columns = ["run", "learning_rate", "input_range", "epochs", "val_accuracy", "val_loss", "left_start", "plateau"]
    return pd.DataFrame(rows, columns=columns)
