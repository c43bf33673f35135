"""Figures of results: confusion matrices, accuracies and differences with their intervals, robustness."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import PercentFormatter

from .style import DASHES, MARKERS, PAPER, SERIES, heading, photo_range, readable


def confusion_matrix(counts: pd.DataFrame, title: str, note: str) -> plt.Figure:
    """True classes down, predicted across, coloured by share of the true class, with percentages or counts."""
    totals = counts.sum(axis=1)
    shares = counts.div(totals.clip(lower=1), axis=0)
    few = totals[totals > 0].min() < 10  # percentages would suggest more precision than there is
    rows, columns = counts.shape
    cell = float(np.clip(11 / max(rows, columns), 0.2, 0.52))  # inches
    fig, ax = plt.subplots(figsize=(max(6.5, cell * columns + 3), max(3, cell * rows + 2.2)))
    ax.imshow(shares, vmin=0, vmax=1, cmap=sns.color_palette("mako_r", as_cmap=True))
    style = dict(ha="center", va="center", fontsize=float(np.clip(22 * cell, 4, 8.5)))
    for (y, x), number in np.ndenumerate((counts if few else 100 * shares).round().astype(int).to_numpy()):
        if number:
            ax.text(x, y, str(number), color="white" if shares.iat[y, x] > 0.45 else "0.15", **style)
    size = float(np.clip(26 * cell, 5, 9))
    labels = [f"{name}  ({n:,})" for name, n in zip(readable(counts.index), totals, strict=True)]
    ax.set_xticks(range(columns), readable(counts.columns), rotation=90, fontsize=size)
    ax.set_yticks(range(rows), labels, fontsize=size)
    ax.set(xlabel="predicted; cells: " + ("counts" if few else "% of the true class"), ylabel="true (number)")
    ax.tick_params(length=0)
    return heading(fig, title, note)


def intervals(rows: pd.DataFrame, title: str, note: str, xlabel="accuracy", zero: float | None = None) -> plt.Figure:
    """A point and its 95 % interval for each row: columns label, value, low, high; optionally group (its colour),
    published (the paper's value, a red diamond), photos.

    zero: where a line marks chance or, at 0, no effect; the values are then differences, in points.
    """
    labels = list(dict.fromkeys(rows["label"]))
    groups = rows["group"] if "group" in rows else pd.Series("", rows.index)
    apart = 0.22 if len(labels) < len(rows) else 0.0  # labels with several rows: one below the other
    fig, ax = plt.subplots(figsize=(8.4, 0.32 * len(labels) * (1.5 if apart else 1) + 1.6))
    for i, group in enumerate(groups.unique()):
        own = rows[groups == group]
        y = own["label"].map(labels.index) + apart * (i - (groups.nunique() - 1) / 2)
        ax.hlines(y, own["low"], own["high"], color=SERIES[i], lw=1.8)
        ax.plot(own["value"], y, MARKERS[i], color=SERIES[i], ms=6, label=group)
        for place, end, value in zip(y, own[["value", "high"]].max(axis=1), own["value"], strict=True):
            text = f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}") if zero == 0 else f"{100 * value:.1f}"
            ax.annotate(text, (end, place), (6, 0), textcoords="offset points", va="center", fontsize=7.5)
    if "published" in rows and rows["published"].notna().any():
        ax.plot(rows["published"], rows["label"].map(labels.index) - 0.32, "D", mfc="none", color=PAPER, ms=5,
                label="paper: validation accuracy, real photographs")  # fmt: skip
    if zero is not None:
        ax.axvline(zero, color="0.5", lw=1, ls=":")
    ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.4, -0.6), xmargin=0.08)
    ax.grid(axis="x", lw=0.4)
    ax.xaxis.set_major_formatter(PercentFormatter(1, None, "" if zero == 0 else " %"))
    ax.set_xlabel(xlabel + (", percentage points" if zero == 0 else "") + "; bars: 95 % intervals" + photo_range(rows))
    return heading(fig, title, note, legend_of=ax)


def robustness(rows: pd.DataFrame, title: str, note: str) -> plt.Figure:
    """Accuracy after each degradation, one panel per kind: columns model, kind, setting, value, low, high."""
    kinds = {kind: list(dict.fromkeys(own["setting"])) for kind, own in rows.groupby("kind", sort=False)}
    widths = [max(1.6, len(settings)) for settings in kinds.values()]
    fig, axes = plt.subplots(1, len(kinds), figsize=(9.5, 3.8), sharey=True, width_ratios=widths, squeeze=False)
    models = list(dict.fromkeys(rows["model"]))
    for ax, (kind, settings) in zip(axes[0], kinds.items(), strict=True):
        for i, model in enumerate(models):
            own = rows[(rows["kind"] == kind) & (rows["model"] == model)]
            x = own["setting"].map(settings.index) + 0.12 * (i - (len(models) - 1) / 2)
            ax.vlines(x, own["low"], own["high"], color=SERIES[i], lw=1.3)
            ax.plot(x, own["value"], MARKERS[i], ls=DASHES[i], color=SERIES[i], ms=5, lw=1.3, label=model)
        ax.set(xlabel=kind, ylim=(0, 1.03), xticks=range(len(settings)), xticklabels=settings, xmargin=0.15)
    axes[0, 0].set(ylabel="accuracy per test photo")
    return heading(fig, title, f"{note}; bars: 95 % intervals{photo_range(rows)}", legend_of=axes[0, 0])
