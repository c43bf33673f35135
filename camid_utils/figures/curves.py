"""Figures of training: curves over epochs and steps, of votes, and shifts of a network's activations."""

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogLocator, NullFormatter

from .style import DASHES, GREY, MARKERS, OURS, PAPER, SERIES, heading


def learning_curves(runs: dict[str, pd.DataFrame], note: str, published: pd.DataFrame | None = None) -> plt.Figure:
    """Loss, accuracy and precision by epoch for each run (History.epochs) and in the authors' published log."""
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharex=True)
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    parts = (("train", ":", "training"), ("val", "-", "validation"))[len(runs) > 4 :]  # more lines hide each other
    colours = list(sns.color_palette("colorblind", len(runs))) if len(runs) > 1 else [OURS]
    if published is not None:
        runs, colours = runs | {"authors' log, real Dresden, 27 classes": published}, [*colours, PAPER]
        axes[0].set_xscale("log")  # its 128 epochs are many more than a small run's
        _plain_numbers(axes[0].xaxis, 1, published["epoch"].max())
    labels = {"loss": "cross-entropy loss", "accuracy": "accuracy", "precision": "macro precision"}
    for ax, (quantity, label) in zip(axes, labels.items(), strict=True):
        for (name, epochs), colour in zip(runs.items(), colours, strict=True):
            style = dict(color=colour, lw=1.7, marker="." if len(epochs) < 30 else None, ms=4)
            for part, dash, word in parts:
                if (column := f"{part}_{quantity}") in epochs:
                    ax.plot(epochs["epoch"], epochs[column], dash, label=f"{name}, {word}", **style)
        ax.set(xlabel="epoch", ylabel=label, ylim=(0, None if quantity == "loss" else 1.02))
    return heading(fig, "Learning curves", note, legend_of=axes[0])


def _plain_numbers(axis, low: float, high: float) -> None:
    """Numbers such as 0.5 or 20 on a logarithmic axis, whatever its span: a loss may hardly change, or diverge."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def step_curves(steps: pd.DataFrame, note: str) -> plt.Figure:
    """Loss and gradient norm at every step, with a running median."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    window = max(3, len(steps) // 40)
    for ax, column in zip(axes, ("loss", "gradient_norm"), strict=True):
        ax.plot(steps["step"], steps[column], color=GREY, lw=0.5, alpha=0.6, label="each step")
        smooth = steps[column].rolling(window, center=True, min_periods=1).median()
        ax.plot(steps["step"], smooth, color=OURS, lw=1.8, label=f"running median of {window}")
        ax.set(xlabel="step", ylabel=column.replace("_", " "), yscale="log")
        _plain_numbers(ax.yaxis, *ax.get_ylim())
    return heading(fig, "Loss and gradient norm of each training step", note, legend_of=axes[0])


def rate_curves(runs: dict[str, tuple[pd.DataFrame, pd.DataFrame]], note: str) -> plt.Figure:
    """Training loss and validation accuracy of some short runs: name -> (History.steps, History.epochs)."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    for i, (name, (steps, epochs)) in enumerate(runs.items()):
        style = dict(color=SERIES[i], ls=DASHES[i], label=name, lw=1.7)
        left.plot(steps["step"], steps["loss"].rolling(max(3, len(steps) // 30)).median(), **style)
        right.plot(epochs["epoch"], epochs["val_accuracy"], marker=MARKERS[i], ms=5, **style)
    left.set(xlabel="step", ylabel="training loss, running median", yscale="log")
    _plain_numbers(left.yaxis, *left.get_ylim())
    right.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.1 * right.dataLim.y1))
    right.xaxis.get_major_locator().set_params(integer=True)
    return heading(fig, "Learning rate and input range", note, legend_of=left)


def accuracy_by_step(runs: dict, note: str) -> plt.Figure:
    """Validation accuracy against training steps for each run (name -> History); a ring where it met its limit."""
    fig, ax = plt.subplots(figsize=(8.4, 4.2))
    looks = product(DASHES, zip(SERIES, MARKERS, strict=True))
    for (name, history), (dashes, (colour, marker)) in zip(runs.items(), looks, strict=False):
        steps, values = history.steps.groupby("epoch")["step"].max().to_numpy(), history.epochs["val_accuracy"]
        look = dict(color=colour, marker=marker, ls=dashes, lw=1.3)
        ax.plot(steps, values, ms=3, label=name, **look)
        ax.plot(steps[-1], values.iloc[-1], ms=7, mfc=colour if history.plateau else "white", **look)
    ax.set(xlabel="training steps; last marker filled: plateau; hollow: limit of epochs", ylabel="validation accuracy")
    ax.set_xscale("log")
    _plain_numbers(ax.xaxis, *ax.get_xlim())
    ax.set_ylim(0, None)
    return heading(fig, "Accuracy against steps", note, legend_of=ax)


def two_epochs(log: pd.DataFrame, best: dict[str, int], note: str) -> plt.Figure:
    """Validation accuracy and loss of one run by epoch, with the epochs (name -> epoch) that are best in each."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    for ax, quantity in zip(axes, ("accuracy", "loss"), strict=True):
        curve = log.set_index("epoch")[f"val_{quantity}"]
        ax.plot(curve, color=GREY, marker=".", ms=5)
        for (name, epoch), colour, marker, above in zip(best.items(), (OURS, PAPER), "os", (-15, 9), strict=True):
            label, place = f"{name}: epoch {epoch}", (epoch, curve[epoch])
            ax.plot(*place, marker, color=colour, ms=8, mfc="none", mew=1.8, label=label)
            style = dict(fontsize=8, color=colour, ha="center")
            ax.annotate(f"{curve[epoch]:.4f}", place, (0, above), textcoords="offset points", **style)
        ax.set(xlabel="epoch", ylabel=f"validation {quantity}", ymargin=0.15)
    return heading(fig, "The two epochs behind one row of Table 2", note, legend_of=axes[0])


def voting_curves(rows: pd.DataFrame, title: str, note: str) -> plt.Figure:
    """Accuracy by the number of voting patches, one line per choice: columns choice, patches, value, low, high."""
    fig, ax = plt.subplots(figsize=(6.4, 4))
    for i, (choice, own) in enumerate(rows.groupby("choice", sort=False)):
        ax.plot(own["patches"], own["value"], marker=MARKERS[i], ls=DASHES[i], color=SERIES[i], label=choice, ms=5)
        ax.fill_between(own["patches"], own["low"], own["high"], color=SERIES[i], alpha=0.1, lw=0)
    ax.set(xlabel="number of patches that vote", ylabel="accuracy per test photo", xscale="log")
    ax.set_xticks(numbers := sorted(rows["patches"].unique()), numbers)
    ax.minorticks_off()
    ax.legend(title="patches chosen by", title_fontsize=8)
    return heading(fig, title, f"{note}; bands: 95 % intervals over {rows['photos'].iloc[0]:,} photos")


def statistics_shift(tables: dict[str, pd.DataFrame], note: str) -> plt.Figure:
    """How the mean and standard deviation of each layer's channels shift between two data sets, for each recipe."""
    fig, axes = plt.subplots(2, len(tables), figsize=(3.4 * len(tables), 5), sharey="row", sharex=True, squeeze=False)
    for column, (recipe, table) in zip(axes.T, tables.items(), strict=True):
        source, target = (np.sqrt(table[f"variance_{of}"].clip(lower=1e-12)) for of in ("source", "target"))
        shift = (table["mean_target"] - table["mean_source"]) / source
        place, names = pd.factorize(table["layer"])
        place = place + np.random.default_rng(0).uniform(-0.3, 0.3, len(table))
        for ax, values, unchanged in zip(column, (shift, target / source), (0, 1), strict=True):
            ax.scatter(place, values, s=7, color=OURS, alpha=0.6, lw=0)
            ax.axhline(unchanged, color=PAPER, lw=1, ls="--")
            ax.set_xticks(range(len(names)), names)
        column[0].set_title(recipe, fontsize=9)
    (top, bottom), (low, high) = axes[:, 0], axes[0, 0].get_ylim()
    top.set(yscale="symlog", yticks=[-100, -10, -1, 0, 1, 10, 100], ylim=(min(low, -2), max(high, 2)))
    top.set_ylabel("target mean minus source mean,\nin source deviations")
    top.yaxis.set_major_formatter("{x:g}")
    bottom.set(ylabel="standard deviation,\ntarget divided by source", yscale="log")
    low, high = bottom.get_ylim()
    bottom.set_ylim(min(low, 0.45), max(high, 2.2))
    _plain_numbers(bottom.yaxis, *bottom.get_ylim())
    return heading(fig, "Activations before each ReLU, one dot per channel", note)
