"""The summary figure: what each change of the split or the recipe does to test accuracy."""

import matplotlib.pyplot as plt
import pandas as pd

from ..intervals import formatted, verdict
from .style import OURS, photo_range

PANELS = ("Leakage: CameraConvNet", "Transfer from Dresden: CameraConvNet", "Design choices: EfficientNet")
KEY = "filled: the 95 % interval excludes zero; hollow: it includes zero; squares: controls"


def summary(rows: pd.DataFrame) -> plt.Figure:
    """One panel per question: test accuracy of each experiment minus that of the panel's baseline, with its interval.

    Columns as in report.ledger.summary_rows. Controls come last; a panel without rows is marked as such.
    """
    rows = rows.sort_values("role", kind="stable")
    panels = [rows[rows["panel"] == panel].reset_index(drop=True) for panel in range(len(PANELS))]
    heights = [len(own) + (2.6 if len(own) else 1.6) for own in panels]
    fig, axes = plt.subplots(len(PANELS), figsize=(8.2, 0.25 * sum(heights) + 0.7), height_ratios=heights, sharex=True)
    place = dict(xy=(0.01, 1), xycoords=("figure fraction", "axes fraction"), textcoords="offset points", va="bottom")
    for ax, own, title in zip(axes, panels, PANELS, strict=True):
        note = "no results yet"
        if len(own):
            title += " on " + " and ".join(own["dataset"].unique())
            label, accuracy = own.loc[0, ["baseline_label", "baseline_accuracy"]]
            note = f"baseline: {label}, accuracy {100 * accuracy:.1f} %{photo_range(own)}"
        ax.annotate(title, xytext=(0, 19), fontsize=10.5, weight="bold", **place)
        ax.annotate(note, xytext=(0, 7), fontsize=8, color="0.4", **place)
        _panel(ax, own) if len(own) else ax.axis("off")
    last = max((i for i, own in enumerate(panels) if len(own)), default=0)
    axes[last].set_xlabel("change in test accuracy, percentage points")
    fig.supxlabel(KEY, fontsize=8, color="0.4")
    return fig


def _panel(ax: plt.Axes, rows: pd.DataFrame) -> None:
    """One line per experiment, from top to bottom, its value in a column at the right."""
    texts = formatted(rows, "points", "difference")
    for (y, row), text in zip(rows.iterrows(), texts, strict=True):
        face = "white" if verdict(row["low"], row["high"]) == "undecided" else OURS
        ax.plot([100 * row["low"], 100 * row["high"]], [y, y], color=OURS, lw=1.6)
        mark = dict(marker="s" if row["role"] == "control" else "o", mfc=face, ms=6.5, mew=1.4)
        ax.plot(100 * row["difference"], y, color=OURS, **mark)
        place = dict(transform=ax.get_yaxis_transform(), va="center", fontsize=8.5)
        ax.text(1.02, y, text.replace("-", "\N{MINUS SIGN}"), **place)
    names = rows["label"].where(rows["role"] != "control", "control: " + rows["label"].astype(str))
    ax.set(yticks=range(len(rows)), yticklabels=names, ylim=(len(rows) - 0.4, -0.6))
    ax.axvline(0, color="0.3", lw=1, zorder=1)
    ax.grid(axis="x", color="0.92", zorder=0)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelbottom=True)
    ax.spines["left"].set_visible(False)
