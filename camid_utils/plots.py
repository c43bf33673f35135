"""The look of all figures; networks, learning curves and confusion matrices. Each function draws data that it is given,
and says which data they are; nothing is computed here beyond what drawing needs."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from IPython.display import Image as Picture
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from PIL import Image

from .files import complete

OURS, PAPER, GREY = "#1f6f8b", "#d1495b", "#8d99ae"
STYLE = {
    "figure.dpi": 100, "savefig.dpi": 110, "savefig.bbox": "tight", "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5, "axes.titlesize": 11, "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "image.cmap": "mako",
}  # fmt: skip


CAMERACONVNET = [
    ("RGB patch", "48 x 48 x 3"), ("conv 7 x 7\nReLU", "42 x 42 x 128"), ("max pool\n3 / 2", "20 x 20 x 128"),
    ("conv 7 x 7\nReLU", "14 x 14 x 512"), ("max pool\n3 / 2", "6 x 6 x 512"), ("conv 6 x 6\nReLU", "2048"),
    ("linear\ndropout 0.5\nReLU", "2048"), ("linear\nsoftmax", "classes"),
]  # fmt: skip
EFFICIENTNET = [
    ("RGB photo\nor crop", "h x w x 3"), ("EfficientNet\nbackbone", "h/32 x w/32 x 1280"),
    ("average\npool", "1280"), ("linear\nReLU", "512"), ("linear\nReLU", "256"), ("linear\nsoftmax", "classes"),
]  # fmt: skip


def use_style() -> None:
    """Set the study's look; called once a notebook."""
    sns.set_theme(style="ticks", rc=STYLE)


def save(fig: Figure, folder: str | Path, name: str, exact: bool = False) -> None:
    """Write `fig` as folder/name.png, complete or not at all, with no date inside; a notebook shows that very picture.

    256 colours make files a third as large, and charts look the same; exact: all colours, for pixels under a lens.
    """
    drawn = io.BytesIO()
    fig.savefig(drawn, format="png", metadata={"Software": None})
    plt.close(fig)
    picture = Image.open(drawn).convert("RGB")
    picture = picture if exact else picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    with complete(Path(folder) / f"{name}.png") as partial:
        picture.save(partial, "PNG", optimize=True)
    if get_ipython():
        display(Picture(Path(folder) / f"{name}.png"))


def data_note(ax: Axes, text: str) -> None:
    """Say between an axis's title and its plot which data it shows, in small grey print."""
    ax.set_title(ax.get_title(loc="left"), pad=17)
    place = dict(xycoords="axes fraction", xytext=(0, 4), textcoords="offset points", va="bottom")
    ax.annotate(text, (0, 1), fontsize=8, color="0.4", **place)


def readable(names) -> list[str]:
    """Class names as a person writes them."""
    return [str(name).replace("_", " ") for name in names]


def thin_ticks(ax: Axes, axis: str, names, most: int) -> None:
    """Name the ticks of an image's axis, thinned out beyond `most`."""
    step = -(-len(names) // most)
    places = range(0, len(names), step)
    labels = [readable(names)[i] for i in places]
    size = float(np.clip(320 / max(1, len(places)), 5.5, 9))
    if axis == "x":
        ax.set_xticks(places, labels, rotation=90, fontsize=size)
    else:
        ax.set_yticks(places, labels, fontsize=size)
    ax.tick_params(length=0)


def learning_curves(runs: dict[str, pd.DataFrame], note: str, published: pd.DataFrame | None = None) -> Figure:
    """Loss, accuracy and precision by epoch for each run (History.epochs); the authors' published curve beside them.

    Of more than four runs only the validation is drawn, as twice as many lines would hide each other.
    `published` has the columns epoch, train_loss, train_accuracy, val_loss, val_accuracy. The epoch axis is
    logarithmic where it is drawn, as its 128 epochs are many more than a small run's.
    """
    names = (("loss", "cross-entropy loss"), ("accuracy", "accuracy"), ("precision", "macro precision"))
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.6))
    parts = (("train", ":"), ("val", "-")) if len(runs) <= 4 else (("val", "-"),)
    colours = sns.color_palette("colorblind", len(runs)) if len(runs) > 1 else [OURS]
    curves = [(name, epochs, colour) for (name, epochs), colour in zip(runs.items(), colours, strict=False)]
    if published is not None:
        curves.append(("authors' log, real Dresden, 27 classes", published, PAPER))
    for ax, (quantity, label) in zip(axes, names, strict=True):
        for name, epochs, colour in curves:
            for part, dash in parts:
                if f"{part}_{quantity}" in epochs:
                    ax.plot(epochs["epoch"], epochs[f"{part}_{quantity}"], dash, color=colour, lw=1.7,
                            marker="." if len(epochs) < 30 else None, ms=4,
                            label=f"{name}, {'validation' if part == 'val' else 'training'}")  # fmt: skip
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if published is not None:
            ax.set_xscale("log")  # which also sets the locator
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set_xlim(0.9, published["epoch"].max() * 1.1)
        if quantity != "loss":
            ax.set_ylim(0, 1.02)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    fig.suptitle(f"Learning curves\n{note}", x=0.01, ha="left", fontsize=10)
    return fig


def step_curves(steps: pd.DataFrame, note: str) -> Figure:
    """Loss and gradient norm at every step, with a running median."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3))
    for ax, column, label in zip(axes, ("loss", "gradient_norm"), ("batch loss", "gradient norm"), strict=True):
        ax.plot(steps["step"], steps[column], color=GREY, lw=0.5, alpha=0.6, label="each step")
        window = max(3, len(steps) // 40)
        smooth = steps[column].rolling(window, center=True, min_periods=1).median()
        ax.plot(steps["step"], smooth, color=OURS, lw=1.8, label=f"median of {window}")
        ax.set(xlabel="step", ylabel=label, yscale="log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes[0].legend(fontsize=8)
    fig.suptitle(f"Every step\n{note}", x=0.01, ha="left", fontsize=10)
    return fig


def confusion_matrix(counts: pd.DataFrame, title: str, note: str) -> Figure:
    """Rows normalised to per cent: true classes down, predicted across; numbered while the numbers can be read."""
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    rows, columns = counts.shape
    cell = float(np.clip(11 / max(rows, columns), 0.2, 0.52))  # inches
    fig, ax = plt.subplots(figsize=(max(6.5, cell * columns + 3), max(3, cell * rows + 2.2)))
    palette = sns.color_palette("mako_r", as_cmap=True)
    image = ax.imshow(shares, vmin=0, vmax=1, cmap=palette, interpolation="nearest")
    if max(rows, columns) <= 45:
        size = float(np.clip(22 * cell, 4, 8.5))
        for (y, x), share in np.ndenumerate(shares.to_numpy()):
            if share >= 0.005:
                colour = "white" if share > 0.45 else "0.15"
                ax.text(x, y, f"{100 * share:.0f}", ha="center", va="center", fontsize=size, color=colour)
    else:
        fig.colorbar(image, ax=ax, label="share of the true class", shrink=0.6, format=PercentFormatter(1))
    tick = float(np.clip(26 * cell, 5, 9))
    ax.set_xticks(range(columns), readable(counts.columns), rotation=90, fontsize=tick)
    labels = [f"{name}  ({n:,})" for name, n in zip(readable(counts.index), counts.sum(axis=1), strict=True)]
    ax.set_yticks(range(rows), labels, fontsize=tick)
    ax.set(xlabel="predicted", ylabel="true (number)", title=title)
    ax.tick_params(length=0)
    data_note(ax, note)
    return fig


def network_diagram(layers: list[tuple[str, str]], title: str) -> Figure:
    """Boxes from left to right: (name, size) of each stage, as in Figure 1 of the paper."""
    fig, ax = plt.subplots(figsize=(1.45 * len(layers), 1.9))
    colours = sns.color_palette("crest", len(layers))
    for i, ((name, size), colour) in enumerate(zip(layers, colours, strict=True)):
        ax.add_patch(FancyBboxPatch((i, 0), 0.72, 1, boxstyle="round,pad=0.03", fc=colour, ec="none", alpha=0.9))
        ax.text(i + 0.36, 0.5, name, ha="center", va="center", color="white", fontsize=8.5, weight="bold")
        ax.text(i + 0.36, -0.2, size, ha="center", va="top", fontsize=8, color="0.25")
        if i:
            ax.add_patch(
                FancyArrowPatch((i - 0.24, 0.5), (i - 0.04, 0.5), arrowstyle="-|>", mutation_scale=10, color=GREY)
            )
    ax.set(xlim=(-0.1, len(layers) - 0.15), ylim=(-0.45, 1.15), title=title)
    ax.axis("off")
    return fig
