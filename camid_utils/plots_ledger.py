"""The summary figure: what the paper reports, what the same run gives here, and what each correction does to it."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .plots import GREY, OURS, PAPER

GAIN, LOSS = "#5aa9c4", "#e69f00"  # blue and orange: told apart with any colour vision, and by the sign of the figure
PANEL_TITLES = [
    "1  CameraConvNet on Dresden, and with the leak closed",
    "2  CameraConvNet taken to FloreView, and with its recipe corrected",
    "3  EfficientNet on FloreView corrected, and with one part of its recipe taken back",
]
WHOLE_BARS = {  # kind: style of a bar that starts at zero
    "paper": dict(facecolor="white", edgecolor=PAPER, hatch="////", lw=1.2),
    "ours": dict(facecolor=OURS, edgecolor=OURS),
    "anchor": dict(facecolor=GREY, edgecolor=GREY),
    "best": dict(facecolor=OURS, edgecolor=OURS),
}


def summary(rows: pd.DataFrame) -> Figure:
    """A panel for each row of the paper's Table 2, from the rows of `ledger.summary`; what is missing is named."""
    drawn = [panel.dropna(subset=["value"]).reset_index(drop=True) for _, panel in rows.groupby("panel")]
    missing = [_missing_text(panel) for _, panel in rows.groupby("panel")]
    lines = [len(text.splitlines()) for text in missing]
    heights = [len(panel) + 2.2 + 0.7 * (n + 1 if n else 0) for panel, n in zip(drawn, lines, strict=True)]
    fig, axes = plt.subplots(len(drawn), 1, figsize=(8.2, 0.235 * sum(heights) + 0.9), height_ratios=heights,
                             sharex=True, squeeze=False)  # fmt: skip
    for ax, panel, text, title in zip(axes[:, 0], drawn, missing, PANEL_TITLES, strict=True):
        _panel(ax, panel, title)
        ax.set_xlabel(text, loc="left", fontsize=7.5, color="0.4")
    axes[-1, 0].tick_params(labelbottom=True)
    fig.legend(*_legend(), loc="outside lower center", ncols=3, fontsize=7.5, handlelength=2.2)
    return fig


def _missing_text(rows: pd.DataFrame) -> str:
    """Names the rows of a panel that have no figure, in lines of at most 100 characters."""
    missing = rows.loc[rows["value"].isna(), "label"]
    return textwrap.fill("no figures yet: " + "; ".join(missing), 100) if len(missing) else ""


def _panel(ax: Axes, rows: pd.DataFrame, title: str) -> None:
    """Bars from top to bottom: figures from zero, changes from the dashed line at their anchor; text at the right."""
    for y, row in rows.iterrows():
        whole = WHOLE_BARS.get(row["kind"])
        style = whole or _change_style(row)
        ax.barh(y, row["value"] - row["start"], 0.66, left=row["start"], zorder=2, **style)
        if pd.notna(row["low"]):
            ax.plot([row["low"], row["high"]], [y, y], color="0.15", lw=1.1, marker="|", ms=5, zorder=4)
        ax.text(1.02, y, _figure_text(row), transform=ax.get_yaxis_transform(), va="center", fontsize=8,
                weight="bold" if whole else "normal", color=PAPER if row["kind"] == "paper" else "0.15")  # fmt: skip
    _anchor_line(ax, rows)
    ax.set_yticks(range(len(rows)), rows["label"])
    for label, kind in zip(ax.get_yticklabels(), rows["kind"], strict=True):
        label.set_color(PAPER if kind == "paper" else "0.15")
        label.set_weight("bold" if kind in WHOLE_BARS else "normal")
    ax.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.7), xticks=np.arange(0, 1.01, 0.2))
    ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=7.5, length=3, width=0.8)
    ax.spines[["left", "bottom"]].set_linewidth(0.8)
    ax.grid(axis="x", color="0.92", zorder=0)
    place = dict(xy=(0.01, 1), xycoords=("figure fraction", "axes fraction"), textcoords="offset points", va="bottom")
    ax.annotate(title, xytext=(0, 17), fontsize=10.5, weight="bold", **place)
    ax.annotate(_data_text(rows), xytext=(0, 5), fontsize=7.5, color="0.4", **place)


def _change_style(row: pd.Series) -> dict:
    """Blue for a gain, orange for a loss; hollow where the interval holds zero; dots for a control."""
    colour = GAIN if row["difference"] > 0 else LOSS
    decided = row["low"] > row["start"] or row["high"] < row["start"]
    dots = {"hatch": "....", "edgecolor": "0.25"} if row["kind"] == "control" else {"edgecolor": colour}
    return {"facecolor": colour if decided else "white", "lw": 1.1} | dots


def _figure_text(row: pd.Series) -> str:
    """An accuracy, or a change in points, with its interval, for the column of figures."""
    if row["kind"] == "paper":
        return f"{100 * row['value']:.1f} %"
    if row["kind"] in WHOLE_BARS:
        return f"{100 * row['value']:.1f} % ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
    low, high = (100 * (row[k] - row["start"]) for k in ("low", "high"))
    return f"{100 * row['difference']:+.1f} ({low:+.0f} to {high:+.0f})".replace("-", "\N{MINUS SIGN}")


def _anchor_line(ax: Axes, rows: pd.DataFrame) -> None:
    """The dashed line that changes are counted from, and the dotted one of guessing."""
    changes = rows[rows["kind"].isin(["change", "control"])]
    if len(changes):
        anchor = rows.index[rows["kind"] == "anchor"][0]
        ax.plot([changes["start"].iloc[0]] * 2, [anchor, changes.index[-1] + 0.5], color="0.3", ls="--", lw=1, zorder=3)
    if (classes := rows["classes"].dropna()).size:
        ax.axvline(1 / classes.iloc[0], color="0.55", ls=":", lw=1, zorder=1)


def _data_text(rows: pd.DataFrame) -> str:
    """Which data a panel shows."""
    unit = {"patch": "patches", "photo": "photos"}[rows["level"].iloc[0]]
    ours = rows[rows["kind"] != "paper"]
    paper = f"{unit} named rightly; paper: validation, {rows['dataset'].iloc[0]}"
    if ours.empty:
        return paper
    few, many = int(ours["photos"].min()), int(ours["photos"].max())
    photos = f"{few}" if few == many else f"{few} to {many}"
    data = " and ".join(ours["dataset"].unique())
    classes = f", {ours['classes'].max():.0f} classes" if ours["classes"].notna().any() else ""
    return f"{paper}; ours: test, {data}, {photos} photos{classes}"


def _legend() -> tuple[list, list[str]]:
    """Handles and labels of the summary figure's legend."""
    marks = {
        "paper, real photographs": Patch(**WHOLE_BARS["paper"]),
        "ours": Patch(**WHOLE_BARS["ours"]),
        "ours, where the changes start": Patch(**WHOLE_BARS["anchor"]),
        "change: gain, in points": Patch(facecolor=GAIN, edgecolor=GAIN),
        "change: loss, in points": Patch(facecolor=LOSS, edgecolor=LOSS),
        "hollow: interval holds zero": Patch(facecolor="white", edgecolor="0.35"),
        "dots: control": Patch(facecolor="0.85", edgecolor="0.25", hatch="...."),
        "95 % interval over photos": plt.Line2D([], [], color="0.15", lw=1.1, marker="|", ms=5),
        "guessing": plt.Line2D([], [], color="0.55", ls=":", lw=1),
    }
    return list(marks.values()), list(marks)
