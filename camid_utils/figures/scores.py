"""Figures of scores: sensor-noise fingerprints, calibrated probabilities, known and unknown cameras."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from .photographs import centre_crop, picture_grid
from .style import DASHES, GREY, MARKERS, OURS, PAPER, SERIES, heading, readable


def fingerprint_crops(patterns: dict[str, np.ndarray], note: str) -> plt.Figure:
    """The middle 96 x 96 pixels of each fingerprint [h, w], in per cent of the light, on one grey scale."""
    crops = [100 * centre_crop(pattern, 96) for pattern in patterns.values()]
    limit = float(np.percentile(np.abs(np.concatenate([crop.ravel() for crop in crops])), 99))
    title = "Sensor-noise fingerprints, the middle 96 x 96 pixels"
    scale = dict(scale="response to light, %", vmin=-limit, vmax=limit, cmap="gray")
    return picture_grid(crops, patterns, 4, title, note, (2, 2.1), **scale)


def energies(table: pd.DataFrame, note: str, limit: float) -> plt.Figure:
    """Peak-to-correlation energies of photos and fingerprints (fingerprints.match), with the limit of the decision."""
    pce, same, alike = table["pce"].dropna(), table["same"], table["same_model"]
    kinds = {"own device": same, "other device, same camera model": ~same & alike, "other camera model": ~alike}
    values, title = {name: pce[rows] for name, rows in kinds.items()}, "Correlation of photos with fingerprints"
    fig, ax = _strips(values, limit, title, note)
    ax.set(xlabel=f"signed peak-to-correlation energy, logarithmic beyond 10; dashed: {limit:g}")
    ax.set_xscale("symlog", linthresh=10)
    ax.autoscale(axis="x")  # margins of this scale, not of a linear one
    ax.xaxis.set_major_formatter("{x:g}")
    ax.axvline(0, color="0.8", lw=0.8, zorder=0)
    return fig


def known_and_unknown(known: pd.DataFrame, unknown: pd.DataFrame, note: str) -> plt.Figure:
    """The margin of each photo (open_set.decide): below 0 the answer is "none of them"."""
    correct, margins = known["predicted"] == known["true"], known["margin"]
    kinds = {"known camera, correctly classified": margins[correct], "known camera, misclassified": margins[~correct]}
    kinds["unknown camera"] = unknown["margin"]
    fig, ax = _strips(kinds, 0, "Open set: photos of known and unknown cameras", note)
    ax.set(xlabel="score minus limit, in deviations; below 0 (dashed): none of the known cameras")
    return fig


def _strips(kinds: dict[str, pd.Series], limit: float, title: str, note: str) -> tuple[plt.Figure, plt.Axes]:
    """For each of three kinds, unless empty, a strip of points, spread so that few hide others; dashed: the limit."""
    fig, ax = plt.subplots(figsize=(8, 3))
    strips = [strip for strip in zip(kinds, kinds.values(), (OURS, PAPER, GREY), "oXs", strict=True) if len(strip[1])]
    for y, (_, values, colour, marker) in enumerate(strips):
        spread = y + 0.5 * (np.modf(np.arange(len(values)) * 0.618)[0] - 0.5)  # golden ratio: even, not random
        ax.scatter(np.sort(values), spread, s=14, marker=marker, color=colour, alpha=0.6, lw=0)
    ax.set_yticks(range(len(strips)), [f"{name} (n = {len(values):,})" for name, values, *_ in strips])
    ax.set_ylim(len(strips) - 0.6, -0.4)
    ax.axvline(limit, color="0.3", lw=1, ls="--", zorder=0)
    heading(fig, title, note)
    return fig, ax


def reliability(rows: pd.DataFrame, note: str) -> plt.Figure:
    """Accuracy (filled) and mean probability (hollow) of groups of answers by their probability; equal if it is right.

    rows: of calibration.reliability, where each name's groups go from the least to the most probable answers.
    """
    fig, ax = plt.subplots(figsize=(6.4, 4.2))
    tables = list(rows.groupby("name", sort=False))
    for i, (name, own) in enumerate(tables):
        x, look = np.arange(1, len(own) + 1) + 0.2 * (i - (len(tables) - 1) / 2), dict(color=SERIES[i], ls="")
        ax.vlines(x, own["low"], own["high"], color=SERIES[i], lw=1.6)
        ax.plot(x, own["confidence"], MARKERS[i], mfc="white", ms=8, **look)
        ax.plot(x, own["value"], MARKERS[i], label=f"{name} ({own['n'].sum():,} answers)", **look)
    ax.set(ylim=(0, 1.04), ylabel="accuracy (filled, 95 % interval)\nand mean probability (hollow)")
    ax.set_xticks(places := range(1, rows.groupby("name").size().max() + 1), places)
    ax.set_xlabel("groups of equal size, from the least to the most probable answers")
    return heading(fig, "Reliability of the probabilities", note, legend_of=ax)


def roc_curves(
    curves: dict[str, pd.DataFrame], note: str, title: str = "Same device or another?",
    rates: tuple[str, str] = ("false-positive rate", "true-positive rate"), chance: bool = True,
) -> plt.Figure:  # fmt: skip
    """Receiver operating characteristics, the false-positive rate also on a logarithmic axis.

    curves: tables with false_positive_rate and true_positive_rate (low, high: bands). rates: what these two are called.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), sharey=True)
    for i, (name, curve) in enumerate(curves.items()):
        colour = (OURS, PAPER, GREY, SERIES[1])[i]
        style = dict(ls=DASHES[i], color=colour, lw=1.8, where="post", label=readable([name])[0])
        for ax in (left, right):
            ax.step(curve["false_positive_rate"], curve["true_positive_rate"], **style)
            if "low" in curve:
                band = curve["false_positive_rate"], curve["low"], curve["high"]
                ax.fill_between(*band, step="post", color=colour, alpha=0.15, lw=0)
    if chance:
        left.plot([0, 1], [0, 1], color="0.8", lw=0.8, zorder=0)
    left.set(xlabel=rates[0], ylabel=rates[1], ylim=(-0.02, 1.02))
    right.axvline(0.01, color="0.8", lw=0.8, zorder=0)
    right.set(xlabel=f"{rates[0]}, logarithmic; grey line: 1 %", xscale="log")
    right.xaxis.set_major_formatter("{x:g}")
    return heading(fig, title, note, legend_of=left)


def tippett(ratios: dict[str, np.ndarray], note: str) -> plt.Figure:
    """Tippett plot: for each kind of trial, how many have a likelihood ratio above a value; arrays: its logarithms."""
    fig, ax = plt.subplots(figsize=(7, 3.8))
    for i, (name, llr) in enumerate(ratios.items()):
        shares = 1 - np.arange(len(llr)) / max(1, len(llr))
        label = f"{name} (n = {len(llr):,})"
        ax.step(np.sort(llr) / np.log(10), shares, ls=DASHES[i], color=SERIES[i], lw=1.8, where="pre", label=label)
    ax.axvline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(xlabel="logarithm of the likelihood ratio to base 10", ylabel="share with a higher ratio", ylim=(0, 1.02))
    return heading(fig, "Likelihood ratios", note, legend_of=ax)
