"""Figures of experiments set against each other: intervals, votes, shifts, robustness, sensor fingerprints."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from .plots import GREY, OURS, PAPER, data_note, readable

SERIES = [OURS, "#edae49", "#7b4b94", "#3a8f5c", PAPER, GREY]  # told apart by marker and line style as well
MARKERS, DASHES = "osD^vX", ["-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1))]


def intervals(rows: pd.DataFrame, title: str, note: str, xlabel: str = "accuracy", zero: float | None = None) -> Figure:
    """A point and its 95 % interval a row: columns label, value, low, high; perhaps group (its colour) and published.

    published: the paper's value, drawn as an open red diamond. zero: where a line marks "no effect", or chance.
    """
    labels = list(dict.fromkeys(rows["label"]))
    apart = 0.22 if len(labels) < len(rows) else 0.0  # labels with several rows: one below the other
    groups = list(dict.fromkeys(rows["group"])) if "group" in rows else [""]
    fig, ax = plt.subplots(figsize=(8.4, 0.32 * len(labels) * (1.5 if apart else 1) + 1.5))
    for i, group in enumerate(groups):
        own = rows[rows["group"] == group] if "group" in rows else rows
        shift = apart * (i - (len(groups) - 1) / 2)
        y = np.array([labels.index(label) for label in own["label"]]) + shift
        errors = np.maximum(np.stack([own["value"] - own["low"], own["high"] - own["value"]]), 0)
        ax.errorbar(own["value"], y, xerr=errors, fmt=MARKERS[i], color=SERIES[i], ms=6, lw=1.6, capsize=3, label=group)
        for place, high, value in zip(y, own["high"], own["value"], strict=True):
            ax.annotate(f"{100 * value:.1f}" if zero != 0 else f"{100 * value:+.1f}", (high, place), xytext=(5, 0),
                        textcoords="offset points", va="center", fontsize=7.5, color=SERIES[i])  # fmt: skip
    if paper := "published" in rows and rows["published"].notna().any():
        ax.scatter(rows["published"], [labels.index(label) - 0.32 for label in rows["label"]], marker="D", s=30,
                   fc="none", ec=PAPER, zorder=3, label="paper: validation accuracy, real photographs")  # fmt: skip
    if zero is not None:
        ax.axvline(zero, color="0.5", lw=1, ls=":")
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.margins(x=0.08)
    ax.xaxis.set_major_formatter(PercentFormatter(1, 0, "" if zero == 0 else " %"))
    unit = ", points" if zero == 0 else ""
    ax.set(xlabel=f"{xlabel}{unit}; bars: 95 %{_photos(rows)}", title=title)
    ax.grid(axis="x", lw=0.4)
    if len(groups) > 1 or paper:
        fig.legend(loc="outside lower center", ncols=2, fontsize=8)
    data_note(ax, note)
    return fig


def voting_curves(rows: pd.DataFrame, title: str, note: str) -> Figure:
    """Photo accuracy by the number of voting patches, a line a choice: columns choice, patches, value, low, high."""
    fig, ax = plt.subplots(figsize=(6.4, 4))
    for i, (choice, own) in enumerate(rows.groupby("choice", sort=False)):
        ax.plot(own["patches"], own["value"], marker=MARKERS[i], ls=DASHES[i], color=SERIES[i], label=choice, ms=5)
        ax.fill_between(own["patches"], own["low"], own["high"], color=SERIES[i], alpha=0.1, lw=0)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sorted(rows["patches"].unique()), [str(n) for n in sorted(rows["patches"].unique())])
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="patches that vote", ylabel="photos named rightly", title=title)
    ax.legend(fontsize=8, title="patches chosen by", title_fontsize=8)
    data_note(ax, f"{note}; bands: 95 %, over {rows['photos'].iloc[0]} photos")
    return fig


def _photos(rows: pd.DataFrame) -> str:
    """Over how many photos the intervals of these rows are."""
    counts = rows.reindex(columns=["photos", "photos_b"] if "photos" in rows else ["n"])
    fewest, most = counts.min(axis=None), counts.max(axis=None)
    if pd.isna(most):
        return ""
    return f", over {fewest:,.0f} to {most:,.0f} photos" if fewest < most else f", over {most:,.0f} photos"


def rate_curves(runs: dict[str, tuple[pd.DataFrame, pd.DataFrame]], note: str) -> Figure:
    """Training loss (running median over steps) and validation accuracy of some short runs, on shared axes.

    runs: name -> (History.steps, History.epochs).
    """
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    for i, (name, (steps, epochs)) in enumerate(runs.items()):
        style = dict(color=SERIES[i], ls=DASHES[i], label=name, lw=1.7)
        smooth = steps["loss"].rolling(max(3, len(steps) // 30), min_periods=1).median()
        axes[0].plot(steps["step"], smooth, **style)
        axes[1].plot(epochs["epoch"], epochs["val_accuracy"], marker=MARKERS[i], ms=5, **style)
    axes[0].set(xlabel="step", ylabel="batch loss, running median", yscale="log")
    low, high = axes[0].get_ylim()
    axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))  # one may diverge
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_minor_formatter(NullFormatter())
    top = max(epochs["val_accuracy"].max() for _, epochs in runs.values())
    axes[1].set(xlabel="epoch", ylabel="validation accuracy per patch", ylim=(0, 1.15 * top))
    axes[1].xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes[1].yaxis.set_major_formatter(PercentFormatter(1))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    fig.suptitle(f"Learning rate and input range\n{note}", x=0.01, ha="left", fontsize=10)
    return fig


def two_epochs(log: pd.DataFrame, best: dict[str, int], note: str) -> Figure:
    """Validation accuracy and loss of one run by epoch, with the epochs (name -> epoch) that are best in each."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for ax, column, label in zip(axes, ("val_accuracy", "val_loss"), ("accuracy", "loss"), strict=True):
        ax.plot(log["epoch"], log[column], color=GREY, marker=".", ms=5)
        for i, (name, epoch) in enumerate(best.items()):
            value = log.set_index("epoch").loc[epoch, column]
            ax.plot(epoch, value, MARKERS[i], color=SERIES[4 * i], ms=8, mfc="none", mew=1.8,
                    label=f"{name}: epoch {epoch}" if ax is axes[0] else None)  # fmt: skip
            ax.annotate(f"{value:.4f}", (epoch, value), xytext=(0, 9 if i else -15), textcoords="offset points",
                        ha="center", fontsize=8, color=SERIES[4 * i])  # fmt: skip
        ax.set(xlabel="epoch", ylabel=f"validation {label}")
        ax.margins(y=0.15)
    fig.legend(loc="outside lower center", ncols=2, fontsize=8)
    fig.suptitle(f"Two epochs behind one row\n{note}", x=0.01, ha="left", fontsize=10)
    return fig


def statistics_shift(tables: dict[str, pd.DataFrame], note: str) -> Figure:
    """How the channels of each layer shift between two data sets, a column a recipe.

    tables: recipe -> DataFrame with columns layer, channel, mean_source, mean_target, variance_source,
    variance_target. Above, the target's mean less the source's in the source's standard deviations; below,
    the ratio of the standard deviations, a dot a channel.
    """
    fig, axes = plt.subplots(2, len(tables), figsize=(3.4 * len(tables), 5), sharey="row", sharex=True, squeeze=False)
    for column, (recipe, table) in zip(axes.T, tables.items(), strict=True):
        deviation = np.sqrt(table["variance_source"].clip(lower=1e-12))
        values = (
            (table["mean_target"] - table["mean_source"]) / deviation,
            np.sqrt(table["variance_target"].clip(lower=1e-12)) / deviation,
        )
        place, names = pd.factorize(table["layer"])
        place = place + np.random.default_rng(0).uniform(-0.3, 0.3, len(table))
        for ax, value, level in zip(column, values, (0, 1), strict=True):
            ax.scatter(place, value, s=7, color=OURS, alpha=0.6, lw=0)
            ax.axhline(level, color=PAPER, lw=1, ls="--")
            ax.set_xticks(range(len(names)), names)
        column[0].set_title(recipe, fontsize=9)
    axes[0, 0].set(ylabel="shift of the mean,\nin source deviations")
    axes[0, 0].set_yscale("symlog", linthresh=1)
    axes[0, 0].yaxis.set_major_locator(FixedLocator([-100, -10, -1, 0, 1, 10, 100]))
    axes[0, 0].yaxis.set_major_formatter("{x:g}")
    axes[1, 0].set(ylabel="deviation,\ntarget over source", yscale="log")
    fig.suptitle(f"Activations before each ReLU, a dot a channel\n{note}", x=0.01, ha="left", fontsize=10)
    return fig


def robustness(rows: pd.DataFrame, title: str, note: str) -> Figure:
    """Accuracy after each degradation, a panel a kind: columns model, kind, setting (its order on the axis), value,
    low, high."""
    kinds = list(dict.fromkeys(rows["kind"]))
    widths = [max(1.6, rows[rows["kind"] == kind]["setting"].nunique()) for kind in kinds]
    fig, axes = plt.subplots(1, len(kinds), figsize=(9.5, 3.8), sharey=True, width_ratios=widths, squeeze=False)
    models = list(dict.fromkeys(rows["model"]))
    for ax, kind in zip(axes[0], kinds, strict=True):
        settings = list(dict.fromkeys(rows[rows["kind"] == kind]["setting"]))
        for i, model in enumerate(models):
            own = rows[(rows["kind"] == kind) & (rows["model"] == model)]
            x = np.array([settings.index(s) for s in own["setting"]]) + 0.12 * (i - (len(models) - 1) / 2)
            errors = np.maximum(np.stack([own["value"] - own["low"], own["high"] - own["value"]]), 0)
            ax.errorbar(x, own["value"], errors, fmt=MARKERS[i], ls=DASHES[i], color=SERIES[i], ms=5, lw=1.3,
                        capsize=2, label=model)  # fmt: skip
        ax.set_xticks(range(len(settings)), settings, fontsize=8)
        ax.set(xlabel=kind, ylim=(0, 1.03))
        ax.margins(x=0.15)
    axes[0, 0].yaxis.set_major_formatter(PercentFormatter(1))
    axes[0, 0].set(ylabel="photos named rightly")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    fig.suptitle(f"{title}\n{note}", x=0.01, ha="left", fontsize=10)
    return fig


def fingerprint_crops(patterns: dict[str, np.ndarray], note: str, size: int = 96, columns: int = 4) -> Figure:
    """The middle `size` x `size` pixels of each fingerprint [h, w], in per cent of the light, on one grey scale."""
    crops = {}
    for name, pattern in patterns.items():
        y, x = ((length - size) // 2 if length > size else 0 for length in pattern.shape)
        crops[name] = 100 * pattern[y : y + size, x : x + size]
    limit = float(np.percentile(np.abs(np.concatenate([crop.ravel() for crop in crops.values()])), 99))
    rows = -(-len(crops) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(2 * columns, 2.1 * rows + 0.6), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, (name, crop) in zip(axes.flat, crops.items(), strict=False):
        image = ax.imshow(crop, vmin=-limit, vmax=limit, cmap="gray", interpolation="nearest")
        ax.set_title(readable([name])[0], fontsize=8, loc="center")
    fig.colorbar(image, ax=axes, shrink=0.7, label="response to light, %")
    fig.suptitle(f"Fingerprints, the middle {size} x {size} pixels\n{note}", x=0.01, ha="left", fontsize=10)
    return fig


def energies(table: pd.DataFrame, note: str) -> Figure:
    """Peak-to-correlation energy of each pair of photo and fingerprint (fingerprints.match), own device or other."""
    kinds = {
        "own device": (table["same"], OURS, "o"),
        "other device, same camera model": (~table["same"] & table["same_model"], PAPER, "X"),
        "other camera model": (~table["same_model"], GREY, "."),
    }
    fig, ax = plt.subplots(figsize=(8, 3.2))
    _strips(ax, {name: (table.loc[rows, "pce"].dropna(), colour, mark) for name, (rows, colour, mark) in kinds.items()})
    ax.set_xscale("symlog", linthresh=10)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.axvline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(xlabel="signed peak-to-correlation energy (logarithmic beyond 10)", title="Photos and fingerprints")
    data_note(ax, note)
    return fig


def known_and_unknown(known: pd.DataFrame, unknown: pd.DataFrame, score: str, limit: float, note: str) -> Figure:
    """The score of each photo (calibration.calibrated), and the limit below which the answer is "none of them"."""
    kinds = {
        "known camera, named rightly": (known.loc[known["right"], score], OURS, "o"),
        "known camera, named wrongly": (known.loc[~known["right"], score], PAPER, "X"),
        "unknown camera": (unknown[score], GREY, "."),
    }
    fig, ax = plt.subplots(figsize=(8, 2.8))
    _strips(ax, kinds)
    ax.axvline(limit, color="0.3", lw=1, ls="--", zorder=0)
    ax.set(xlabel=f"{score}; left of the dashed line ({limit:.2f}) the answer is none of the known cameras",
           title="Photos of known and unknown cameras")  # fmt: skip
    data_note(ax, note)
    return fig


def _strips(ax, kinds: dict[str, tuple[pd.Series, str, str]]) -> None:
    """For each kind (values, colour, marker) a strip of points, spread so that few hide others, and their number."""
    for y, (values, colour, marker) in enumerate(kinds.values()):
        values = np.sort(values.to_numpy())
        spread = y + 0.5 * (np.modf(np.arange(len(values)) * 0.618)[0] - 0.5)  # golden ratio: even, without a draw
        ax.scatter(values, spread, s=14, marker=marker, color=colour, alpha=0.6, lw=0)
        ax.annotate(f"n = {len(values):,}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    ax.set_yticks(range(len(kinds)), kinds)
    ax.invert_yaxis()


def reliability(rows: pd.DataFrame, note: str) -> Figure:
    """Share of right answers by how sure they were (calibration.reliability): on the diagonal if that was true."""
    fig, ax = plt.subplots(figsize=(5.4, 4.2))
    ax.plot([0, 1], [0, 1], color="0.8", lw=0.8, zorder=0)
    for i, (name, own) in enumerate(rows.groupby("name", sort=False)):
        errors = np.stack([own["value"] - own["low"], own["high"] - own["value"]])
        ax.errorbar(own["confidence"], own["value"], yerr=errors, fmt=MARKERS[i], ls=DASHES[i], color=SERIES[i], ms=6,
                    lw=1.4, capsize=3, label=name)  # fmt: skip
    ax.set(xlabel="mean probability of the camera named", ylabel="share of photos named rightly", xlim=(0, 1.02),
           ylim=(-0.02, 1.02), title="How sure, and how often right")  # fmt: skip
    ax.legend(fontsize=8, loc="upper left")
    data_note(ax, note)
    return fig


def roc_curves(curves: dict[str, pd.DataFrame], note: str, title: str = "Own device or another?") -> Figure:
    """Receiver operating characteristics (fingerprints.roc), the false-positive rate also on a logarithmic axis."""
    fig, axes = plt.subplots(1, 2, figsize=(8, 3.8), sharey=True)
    colours = sns.color_palette([OURS, PAPER, GREY, SERIES[1]])
    for i, (name, curve) in enumerate(curves.items()):
        for ax in axes:
            false = curve["false_positive_rate"]
            style = dict(ls=DASHES[i], color=colours[i], lw=1.8, drawstyle="steps-post", label=name)
            ax.plot(false, curve["true_positive_rate"], **style)
    least = min((c["false_positive_rate"][lambda f: f > 0].min() for c in curves.values()), default=0.01)
    axes[0].plot([0, 1], [0, 1], color="0.8", lw=0.8, zorder=0)
    axes[1].set(xscale="log", xlim=(least / 1.5, 1.05))
    if least <= 0.01:
        axes[1].axvline(0.01, color="0.8", lw=0.8, zorder=0)
    for ax in axes:
        ax.set(xlabel="false-positive rate", ylim=(-0.02, 1.02))
    axes[1].xaxis.set_major_formatter("{x:g}")
    axes[0].set(ylabel="true-positive rate")
    axes[1].set_title("the same, logarithmic" + "; grey: 1 %" * bool(least <= 0.01), fontsize=9)
    axes[0].legend(fontsize=8, loc="lower right")
    fig.suptitle(f"{title}\n{note}", x=0.01, ha="left", fontsize=10)
    return fig
