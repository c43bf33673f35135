"""Figures of photographs and data sets: each function draws what it is given and says which data they are."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from . import datasets
from .plots import GREY, OURS, PAPER, data_note, readable, thin_ticks

MAP_COLOURS = (OURS, "#edae49", PAPER)  # of the cameras that most of a photo looks like


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
    thin_ticks(ax, "y", counts.index, 60)
    thin_ticks(ax, "x", counts.columns, 40)
    ax.set(xlabel="scene", ylabel="", title="Photos of each scene by each device")
    data_note(ax, datasets.describe(catalogue))
    fig.colorbar(image, ax=ax, label="photos", ticks=range(0, top + 1, max(1, top // 5)))
    return fig


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


def camera_map(
    photo: np.ndarray, corners: np.ndarray, log_probs: np.ndarray, class_names: list[str], note: str, leading: int = 3
) -> Figure:
    """A photo, and over it a cell a patch in the colour of its likeliest camera, the stronger the surer.

    corners [n, 2] (y, x) are a grid's, in rows (identify.positions); log_probs [n, classes]. The `leading` cameras with
    most patches have colours, all others are grey.
    """
    best, sure = log_probs.argmax(axis=1), np.exp(log_probs.max(axis=1))
    counts = np.bincount(best, minlength=len(class_names))
    order = [i for i in np.argsort(-counts, kind="stable")[:leading] if counts[i]]
    cells = np.full((len(corners), 4), to_rgba(GREY))
    for i, colour in zip(order, MAP_COLOURS, strict=False):
        cells[best == i] = to_rgba(colour)
    cells[:, 3] = 0.15 + 0.6 * sure
    ys, xs = (np.unique(corners[:, axis]) for axis in (0, 1))
    extent = photo.shape[:2]
    step = -(-max(extent) // 1600)  # a screen shows no more
    fig, axes = plt.subplots(1, 2, figsize=(10, 10 * extent[0] / extent[1] / 2 + 1.1))
    for ax in axes:
        ax.imshow(photo[::step, ::step], extent=(0, extent[1], extent[0], 0))
        ax.axis("off")
    edges = [_between(places, length) for places, length in zip((ys, xs), extent, strict=True)]
    axes[1].pcolormesh(edges[1], edges[0], cells.reshape(len(ys), len(xs), 4))
    handles = [Patch(color=colour) for colour in (*MAP_COLOURS[: len(order)], GREY)]
    names = [f"{readable([class_names[i]])[0]}, {counts[i]} patches" for i in order]
    names.append(f"others, {len(best) - counts[order].sum()}")
    fig.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8)
    fig.suptitle(f"What each part of the photo looks like\n{note}", x=0.01, ha="left", fontsize=10)
    return fig


def _between(starts: np.ndarray, length: int) -> np.ndarray:
    """Edges of the cells around patches that start at `starts`: halfway between neighbours, and the photo's own."""
    size = length - starts[-1]  # the last patch ends with the photo, or lies in its middle
    centres = starts + size / 2
    return np.concatenate([[0], (centres[1:] + centres[:-1]) / 2, [length]])


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
