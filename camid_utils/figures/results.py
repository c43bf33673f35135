"""Figures of results: confusion matrices, accuracies and differences with their intervals, robustness, the summary."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import PercentFormatter

from ..intervals import formatted
from ..splits import TESTS
from .style import DASHES, MARKERS, OURS, PAPER, SERIES, heading, photo_range, readable

PANELS = ("Leakage: CameraConvNet", "Transfer from cameras to phones: CameraConvNet", "Design choices: EfficientNet")
KEY = "filled: higher or lower after Holm's correction; hollow: undecided or not at the plateau; squares: controls"


def confusion_matrix(counts: pd.DataFrame, title: str, note: str) -> plt.Figure:
    """True classes down, predicted across, coloured by share of the true class, with percentages or counts."""
    counts = counts[counts.sum(axis=1) > 0]  # a class without test photos would look like one never found
    totals = counts.sum(axis=1)
    shares = counts.div(totals, axis=0)
    few = totals.min() < 10  # percentages would suggest more precision than there is
    rows, columns = counts.shape
    cell = float(np.clip(11 / max(rows, columns), 0.2, 0.52))  # inches
    fig, ax = plt.subplots(figsize=(max(6.5, cell * columns + 3), max(3, cell * rows + 2.2)))
    ax.imshow(shares, vmin=0, vmax=1, cmap=sns.color_palette("mako_r", as_cmap=True))
    style = dict(ha="center", va="center", fontsize=float(np.clip(34 * cell, 4, 8.5)))
    for (y, x), number in np.ndenumerate((counts if few else 100 * shares).round().astype(int).to_numpy()):
        if number:
            ax.text(x, y, str(number), color="white" if shares.iat[y, x] > 0.45 else "0.15", **style)
    for y, name in enumerate(counts.index):
        if own := [x for x, column in enumerate(counts.columns) if str(name).startswith(column)]:
            x = max(own, key=lambda x: len(counts.columns[x]))  # iPhone6Plus begins with iPhone6
            ax.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec=PAPER, lw=1.2))
    size = float(np.clip(34 * cell, 5, 9))
    labels = [f"{name}  ({n:,})" for name, n in zip(readable(counts.index), totals, strict=True)]
    ax.set_xticks(range(columns), readable(counts.columns), rotation=90, fontsize=size)
    ax.set_yticks(range(rows), labels, fontsize=size)
    cells = "counts, coloured by share" if few else "%"
    ax.set(xlabel=f"predicted; cells: {cells} of the true class; red frame: correct", ylabel="true (number)")
    ax.tick_params(length=0)
    return heading(fig, title, note)


def intervals(rows: pd.DataFrame, title: str, note: str, xlabel="accuracy", zero: float | None = None) -> plt.Figure:
    """A point and its 95 % interval for each row: columns label, value, low, high; optionally group (its colour),
    published (the paper's value, a red diamond), photos, plateau (False: a hollow marker).

    zero: where a line marks chance or, at 0, no effect; the values are then differences, in points.
    """
    rows = rows.reset_index(drop=True).replace({"label": TESTS, "group": TESTS})
    labels = list(dict.fromkeys(rows["label"]))
    groups = rows["group"] if "group" in rows else pd.Series("", rows.index)
    several = len(labels) < len(rows)  # rows of one label are drawn one below the other
    apart = min(0.22, 0.8 / groups.nunique()) if several else 0.0
    tall = max(1.5, 0.43 * groups.nunique()) if several else 1
    fig, ax = plt.subplots(figsize=(8.4, 0.32 * len(labels) * tall + 1.6))
    unfinished = ~rows["plateau"].astype(bool) if "plateau" in rows else pd.Series(False, rows.index)
    for i, group in enumerate(groups.unique()):
        own = rows[groups == group]
        hollow = unfinished[own.index]
        y = own["label"].map(labels.index) + apart * (i - (groups.nunique() - 1) / 2)
        ax.hlines(y, own["low"], own["high"], color=SERIES[i], lw=1.8)
        ax.plot(own["value"], y, MARKERS[i], color=SERIES[i], ms=6, label=group)
        ax.plot(own["value"][hollow], y[hollow], MARKERS[i], color="white", ms=3)
        for place, end, value in zip(y, own[["value", "high"]].max(axis=1), own["value"], strict=True):
            text = f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}") if zero == 0 else f"{100 * value:.1f}"
            ax.annotate(text, (end, place), (6, 0), textcoords="offset points", va="center", fontsize=7.5)
    if "published" in rows and rows["published"].notna().any():
        own = rows[rows["published"].notna()]
        label = f"paper: validation accuracy per {own['level'].iloc[0]}, real photographs"
        place = own["label"].map(labels.index) - 0.32
        ax.plot(own["published"], place, "D", mfc="none", color="0.15", ms=5, label=label)
    if zero is not None:
        ax.axvline(zero, color="0.5", lw=1, ls=":")
    ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.4, -0.6), xmargin=0.08)
    ax.grid(axis="x", lw=0.4)
    ax.xaxis.set_major_formatter(PercentFormatter(1, None, "" if zero == 0 else " %"))
    bars = "; bars: 95 % intervals" + photo_range(rows) + ("; hollow: not at the plateau" if unfinished.any() else "")
    ax.set_xlabel(xlabel + (", percentage points" if zero == 0 else "") + bars)
    return heading(fig, title, note, legend_of=ax)


def interval_matrix(rows: pd.DataFrame, index: str, columns: str, title: str, note: str, label: str) -> plt.Figure:
    """A matrix of values from 0 to 1, where 0.5 means no effect: columns value, low and high (95 %), and verdict."""
    cells = [rows.pivot(index=index, columns=columns, values=name) for name in ("value", "low", "high", "verdict")]
    values, low, high, verdict = (table.loc[rows[index].unique(), rows[columns].unique()] for table in cells)
    fig, ax = plt.subplots(figsize=(1.15 * values.shape[1] + 3, 0.46 * len(values) + 1.6))
    image = ax.imshow(values, vmin=0, vmax=1, cmap=sns.color_palette("vlag_r", as_cmap=True), aspect="auto")
    for (y, x), value in np.ndenumerate(values.to_numpy()):
        style = dict(ha="center", va="center", color="white" if abs(value - 0.5) > 0.35 else "0.15")
        weight = "bold" if verdict.iat[y, x] in ("higher", "lower") else "normal"
        ax.text(x, y - 0.14, f"{value:.2f}", weight=weight, fontsize=9, **style)
        ax.text(x, y + 0.24, f"{low.iat[y, x]:.2f} to {high.iat[y, x]:.2f}", fontsize=6.5, **style)
    ax.set_xticks(range(values.shape[1]), values.columns)
    ax.set_yticks(range(len(values)), values.index)
    ax.tick_params(length=0)
    fig.colorbar(image, ax=ax, label=label, shrink=0.9)
    key = f"small: 95 % intervals; bold: differs from 0.5 after Holm's correction{photo_range(rows)} per pair"
    return heading(fig, title, f"{note}; {key}")


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
        ax.set(xlabel=kind, xticks=range(len(settings)), xticklabels=settings, xmargin=0.15)
    axes[0, 0].set(ylabel="accuracy per test photo", ylim=(0, 1.03 * max(0.1, rows["high"].max())))
    return heading(fig, title, f"{note}; bars: 95 % intervals{photo_range(rows)}", legend_of=axes[0, 0])


def summary(rows: pd.DataFrame) -> plt.Figure:
    """One panel per question: each experiment's test accuracy minus its baseline's (report.ledger.summary_rows)."""
    rows = rows.sort_values("role", kind="stable")
    panels = [rows[rows["panel"] == panel].reset_index(drop=True) for panel in range(len(PANELS))]
    heights = [len(own) + (2 + 0.6 * own["baseline_label"].nunique() if len(own) else 1.6) for own in panels]
    fig, axes = plt.subplots(len(PANELS), figsize=(8.2, 0.25 * sum(heights) + 0.7), height_ratios=heights, sharex=True)
    place = dict(xy=(0.01, 1), xycoords=("figure fraction", "axes fraction"), textcoords="offset points", va="bottom")
    for ax, own, title in zip(axes, panels, PANELS, strict=True):
        note = "no results yet"
        if len(own):
            title += " on " + " and ".join(own.loc[own["role"] != "control", "dataset"].unique())
            label, accuracy = own.loc[0, ["baseline_label", "baseline_accuracy"]]
            note = f"compared with {label}, accuracy {100 * accuracy:.1f} %{photo_range(own)}"
            others = own[own["baseline_label"] != label].drop_duplicates("baseline_label")
            for row in others.itertuples():
                name = f"control ({row.dataset})" if row.role == "control" else row.label
                note += f"\n{name} with {row.baseline_label}, {100 * row.baseline_accuracy:.1f} %"
        ax.annotate(title, xytext=(0, 19 + 11 * note.count("\n")), fontsize=10.5, weight="bold", **place)
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
        face = OURS if row["verdict"] in ("higher", "lower") else "white"
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
