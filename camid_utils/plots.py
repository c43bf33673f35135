"""All figures: each function draws data that it is given, and says which data they are. Nothing is computed here
beyond what drawing needs."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import LogLocator, NullFormatter

from . import datasets
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


def save(fig: Figure, folder: str | Path, name: str) -> None:
    """Write `fig` as folder/name.png, complete or not at all, with no date inside."""
    with complete(Path(folder) / f"{name}.png") as partial:
        fig.savefig(partial, metadata={"Software": None})


def data_note(ax: Axes, text: str) -> None:
    """Say between an axis's title and its plot which data it shows, in small grey print."""
    ax.set_title(ax.get_title(loc="left"), pad=17)
    place = dict(xycoords="axes fraction", xytext=(0, 4), textcoords="offset points", va="bottom")
    ax.annotate(text, (0, 1), fontsize=8, color="0.4", **place)


def readable(names) -> list[str]:
    """Class names as a person writes them."""
    return [str(name).replace("_", " ") for name in names]


def class_counts(
    catalogue: pd.DataFrame, published: pd.DataFrame | None = None, column: str = "camera_model"
) -> Figure:
    """Photos per class, a shade a device; the published counts (index: class, column photos) as red marks."""
    order = catalogue[column].value_counts().sort_index().index
    if published is not None:
        order = order.union(published.index)
    fig, ax = plt.subplots(figsize=(8, 1.2 + 0.24 * len(order)))
    devices = catalogue.assign(device=catalogue["device"].fillna("unknown"))
    numbered = devices.groupby(column)["device"].transform(lambda s: pd.factorize(s, sort=True)[0])
    counts = pd.crosstab(devices[column], numbered).reindex(order, fill_value=0)
    left = np.zeros(len(order))
    shades = sns.color_palette("crest_r", max(2, counts.shape[1]))
    for i, device in enumerate(counts.columns):
        ax.barh(readable(order), counts[device], left=left, color=shades[i], edgecolor="white", linewidth=0.5)
        left += counts[device].to_numpy()
    if published is not None:
        ax.scatter(
            published["photos"].reindex(order), range(len(order)), marker="|", s=90, color=PAPER, label="published"
        )
        ax.legend(loc="best")
    ax.margins(y=0.01)
    ax.invert_yaxis()
    ax.set(xlabel="photos", title=f"Photos per {column.replace('_', ' ')}, a shade a device")
    data_note(ax, datasets.describe(catalogue))
    return fig


def coverage(catalogue: pd.DataFrame) -> Figure:
    """Which device photographed which scene: photos per (device, scene)."""
    counts = pd.crosstab(catalogue["device"].fillna("unknown"), catalogue["scene"].fillna("unknown"))
    fig, ax = plt.subplots(figsize=(8, 1.5 + 0.17 * max(6, len(counts))))
    top = int(counts.to_numpy().max())
    image = ax.imshow(counts, aspect="auto", cmap=sns.color_palette("mako_r", as_cmap=True), vmin=0, vmax=top,
                      interpolation="nearest")  # fmt: skip
    _ticks(ax, "y", counts.index, 60)
    _ticks(ax, "x", counts.columns, 40)
    ax.set(xlabel="scene", ylabel="", title="Photos of each scene by each device")
    data_note(ax, datasets.describe(catalogue))
    fig.colorbar(image, ax=ax, label="photos", ticks=range(0, top + 1, max(1, top // 5)))
    return fig


def _ticks(ax: Axes, axis: str, names, most: int) -> None:
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


def picture_grid(pictures: list[np.ndarray], titles: list[str], columns: int, title: str, note: str) -> Figure:
    """Photos or crops (uint8 [h, w, 3]) in rows, pixels shown as they are."""
    rows = max(1, -(-len(pictures) // columns))
    fig, axes = plt.subplots(rows, columns, figsize=(1.9 * columns, 1.65 * rows + 0.6), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture, name in zip(axes.flat, pictures, titles, strict=False):
        ax.imshow(picture, interpolation="nearest")
        ax.set_title(name, fontsize=8, loc="center")
    fig.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=11)
    fig.text(0.01, 0.985 - 0.3 / fig.get_figheight(), note, fontsize=8, color="0.4", va="top")
    return fig


def spectra(by_model: dict[str, np.ndarray], note: str, columns: int = 4) -> Figure:
    """Mean noise-residual spectra [size, size], zero frequency in the middle, all on one colour scale."""
    rows = -(-len(by_model) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(2 * columns, 2.05 * rows + 0.6), squeeze=False)
    values = np.stack(list(by_model.values()))
    low, high = np.percentile(values, [2, 99.8])
    for ax in axes.flat:
        ax.axis("off")
    for ax, (name, spectrum) in zip(axes.flat, by_model.items(), strict=False):
        image = ax.imshow(spectrum, vmin=low, vmax=high, cmap="mako", extent=(-0.5, 0.5, -0.5, 0.5))
        ax.set_title(readable([name])[0], fontsize=8, loc="center")
    fig.colorbar(image, ax=axes, shrink=0.7, label="mean log magnitude, dB about its mean")
    fig.suptitle(f"Noise-residual spectra: what the pipeline leaves (cycles per pixel, -0.5 to 0.5)\n{note}",
                 x=0.01, ha="left", fontsize=10)  # fmt: skip
    return fig


def jpeg_tables(by_model: dict[str, tuple], note: str, columns: int = 4) -> Figure:
    """Luma quantisation tables [8, 8] and chroma subsampling, by camera model."""
    rows = -(-len(by_model) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(2 * columns, 2.15 * rows + 0.6), squeeze=False)
    top = max(table[0].max() for table in by_model.values())
    for ax in axes.flat:
        ax.axis("off")
    for ax, (name, (luma, _, subsampling)) in zip(axes.flat, by_model.items(), strict=False):
        ax.imshow(luma, cmap="mako_r", norm="log", vmin=1, vmax=top)
        for (y, x), q in np.ndenumerate(luma):
            ax.text(x, y, int(q), ha="center", va="center", fontsize=5, color="white" if q > top**0.5 else "0.2")
        ax.set_title(f"{readable([name])[0]}, {subsampling}", fontsize=8, loc="center")
    fig.suptitle(f"JPEG luma quantisation tables and chroma subsampling\n{note}", x=0.01, ha="left", fontsize=10)
    return fig


def learning_curves(runs: dict[str, pd.DataFrame], note: str, published: pd.DataFrame | None = None) -> Figure:
    """Loss, accuracy and precision by epoch for each run (History.epochs); the authors' published curve beside them.

    `published` has the columns epoch, train_loss, train_accuracy, val_loss, val_accuracy. The epoch axis is
    logarithmic where it is drawn, as its 128 epochs are many more than a small run's.
    """
    names = (("loss", "cross-entropy loss"), ("accuracy", "accuracy"), ("precision", "macro precision"))
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.6))
    colours = sns.color_palette("crest_r", max(2, len(runs))) if len(runs) > 1 else [OURS]
    curves = [(name, epochs, colour) for (name, epochs), colour in zip(runs.items(), colours, strict=False)]
    if published is not None:
        curves.append(("authors' log, real Dresden, 27 classes", published, PAPER))
    for ax, (quantity, label) in zip(axes, names, strict=True):
        for name, epochs, colour in curves:
            for part, dash in (("train", ":"), ("val", "-")):
                if f"{part}_{quantity}" in epochs:
                    ax.plot(epochs["epoch"], epochs[f"{part}_{quantity}"], dash, color=colour, lw=1.7,
                            marker="." if len(epochs) < 30 else None, ms=4,
                            label=f"{name}, {'validation' if part == 'val' else 'training'}")  # fmt: skip
        ax.set(xlabel="epoch", ylabel=label)
        if published is not None:
            ax.set_xscale("log")
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
    cell = float(np.clip(9 / max(rows, columns), 0.2, 0.52))  # inches
    fig, ax = plt.subplots(figsize=(max(6.5, cell * columns + 3), max(3, cell * rows + 2.2)))
    palette = sns.color_palette("mako_r", as_cmap=True)
    image = ax.imshow(shares, vmin=0, vmax=1, cmap=palette, interpolation="nearest")
    if max(rows, columns) <= 45:
        size = float(np.clip(15 * cell, 3.5, 8))
        for (y, x), share in np.ndenumerate(shares.to_numpy()):
            if share >= 0.005:
                colour = "white" if share > 0.45 else "0.15"
                ax.text(x, y, f"{100 * share:.0f}", ha="center", va="center", fontsize=size, color=colour)
    else:
        fig.colorbar(image, ax=ax, label="share of the true class", shrink=0.6)
    tick = float(np.clip(26 * cell, 5, 9))
    ax.set_xticks(range(columns), readable(counts.columns), rotation=90, fontsize=tick)
    labels = [f"{name}  ({n:,})" for name, n in zip(readable(counts.index), counts.sum(axis=1), strict=True)]
    ax.set_yticks(range(rows), labels, fontsize=tick)
    ax.set(xlabel="predicted", ylabel="true (number)", title=title)
    ax.tick_params(length=0)
    data_note(ax, note)
    return fig


def gallery(rows: list[tuple[str, list[np.ndarray]]], title: str, note: str) -> Figure:
    """Rows of pictures, each with its caption: the photos (and patches) behind the cells of a confusion matrix."""
    rows = rows or [("none: there is no such photo", [])]
    columns = max(1, *(len(pictures) for _, pictures in rows))
    fig, axes = plt.subplots(len(rows), columns, figsize=(1.7 * columns, 1.75 * len(rows) + 0.6), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
        ax.set_anchor("NW")
    for line, (caption, pictures) in zip(axes, rows, strict=True):
        for ax, picture in zip(line, pictures, strict=False):
            ax.imshow(picture, interpolation="nearest")
        line[0].set_title(caption, fontsize=8, loc="left")
    fig.suptitle(f"{title}\n{note}", x=0.01, ha="left", fontsize=10)
    return fig


def bars_beside_paper(rows: pd.DataFrame, title: str, note: str) -> Figure:
    """Accuracy of each row (columns: label, value, low, high, published) with its interval, beside the paper's."""
    fig, ax = plt.subplots(figsize=(8, 0.5 * len(rows) + 1.6))
    y = np.arange(len(rows))
    value = rows["value"].to_numpy()
    errors = np.abs(np.stack([value - rows["low"], rows["high"] - value]))
    ax.barh(y, value, 0.6, color=OURS, xerr=errors, error_kw={"lw": 1.2, "capsize": 3},
            label="ours, 95 % interval over photos")  # fmt: skip
    if rows["published"].notna().any():
        style = dict(marker="D", s=36, color=PAPER, zorder=3, label="paper: validation accuracy, real photographs")
        ax.scatter(rows["published"], y, **style)
    for i, (v, high) in enumerate(zip(value, rows["high"], strict=True)):
        ax.text(high + 0.03, i, f"{100 * v:.1f} %", va="center", fontsize=8)
    ax.set_yticks(y, rows["label"])
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.12), xticks=np.arange(0, 1.01, 0.2), xlabel="accuracy", title=title)
    fig.legend(loc="outside lower center", ncols=2, fontsize=8)
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


def patch_positions(photo: np.ndarray, corners: dict[str, np.ndarray], size: int, note: str) -> Figure:
    """A photo with the outlines of its patches, once for each way of choosing them (corners [n, 2]: y, x)."""
    fig, axes = plt.subplots(1, len(corners), figsize=(4.6 * len(corners), 4), squeeze=False)
    for ax, (name, places) in zip(axes[0], corners.items(), strict=True):
        ax.imshow(photo)
        for y, x in places:
            ax.add_patch(plt.Rectangle((x, y), size, size, fill=False, ec="white", lw=2.2))
            ax.add_patch(plt.Rectangle((x, y), size, size, fill=False, ec=PAPER, lw=1.1))
        ax.set_title(f"{len(places)} patches, {name}", fontsize=9)
        ax.axis("off")
    fig.suptitle(f"Patches of {size} pixels\n{note}", x=0.01, ha="left", fontsize=10)
    return fig


def split_map(catalogue: pd.DataFrame, parts: dict[str, pd.Series]) -> Figure:
    """For each protocol, devices down and scenes across, a cell in the colour of its photo's part."""
    codes = {"unused": 0, "train": 1, "val": 2, "test": 3}
    colours = ["#e9ecef", OURS, "#edae49", PAPER]
    columns = 2 if len(parts) > 1 else 1
    lines = max(1, -(-len(parts) // columns))
    devices = catalogue["device"].nunique()
    fig, axes = plt.subplots(
        lines, columns, squeeze=False, figsize=(5 * columns, lines * (0.9 + 0.11 * max(8, devices)) + 0.7)
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, (name, part) in zip(axes.flat, parts.items(), strict=False):
        coded = catalogue.assign(code=part.map(codes)).dropna(subset=["code", "device", "scene"])
        grid = coded.pivot_table(index="device", columns="scene", values="code", aggfunc="first")
        if grid.empty:
            ax.text(0.5, 0.5, "scenes unknown", ha="center", va="center", color="0.4")
        else:
            ax.imshow(grid, cmap=ListedColormap(colours), vmin=-0.5, vmax=3.5, aspect="auto", interpolation="nearest")
        counts = part.value_counts()
        numbers = ", ".join(f"{key} {counts[key]}" for key in codes if key in counts and key != "unused")
        ax.set_title(f"{name}: {numbers}", fontsize=9)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in colours]
    fig.legend(handles, ["unused", "train", "val", "test"], loc="outside lower center", ncols=4, fontsize=8)
    fig.suptitle(
        f"Parts by device (row) and scene (column), photos\n{datasets.describe(catalogue)}",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    return fig
