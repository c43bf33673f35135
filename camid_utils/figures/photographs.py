"""Figures of photographs and data sets: which photos are shown; counts, pictures, spectra, patches, maps."""

import textwrap
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.patches import Patch

from .. import catalogues, datasets, evaluation
from ..patches import Store, best_positions, cut_patches
from ..photos import read_photo
from .style import GREY, OURS, PAPER, bare_axes, heading, readable

MAP_COLOURS = (OURS, "#edae49", PAPER)  # of the cameras that most of a photo looks like
PARTS = {"unused": "#c3c9d1", "train": OURS, "val": "#edae49", "test": PAPER}


def class_counts(catalogue: pd.DataFrame) -> plt.Figure:
    """Photos and devices per camera model, in one bar if all are equal; published numbers of photos as red marks."""
    counts = catalogues.summary(catalogue)[["photos", "devices"]]
    published = datasets.compare_with_published(catalogue)["published_photos"].dropna().astype(float)
    if len(published):
        counts = counts.reindex(counts.index.union(published.index), fill_value=0)
    elif len(counts.drop_duplicates()) < min(2, len(counts)):
        counts = counts.head(1).set_axis([f"each of {len(counts)} camera models"])
    fig, ax = plt.subplots(figsize=(8, 1.2 + 0.24 * len(counts)))
    names = [f"{name}  ({n})" for name, n in zip(readable(counts.index), counts["devices"], strict=True)]
    ax.barh(names, counts["photos"], color=OURS)
    ax.set(xlabel="photos; red: published" if len(published) else "photos", ylim=(len(counts) - 0.4, -0.6))
    if len(published):
        ax.scatter(published.reindex(counts.index), range(len(counts)), marker="|", s=90, color=PAPER)
    return heading(fig, "Photos per camera model (number of devices)", catalogues.describe(catalogue))


def _for_screen(picture: np.ndarray) -> np.ndarray:
    """Every n-th pixel, so that no side is longer than 1600: a screen shows no more, and drawing takes memory."""
    step = -(-max(picture.shape[:2]) // 1600)
    return picture[::step, ::step]


def picture_grid(
    pictures: list[np.ndarray], titles, columns: int, title: str, note: str, size=(1.9, 1.65), scale="", **options
) -> plt.Figure:
    """Pictures (uint8 [h, w, 3], or numbers [h, w] with a colour scale) in rows, pixels shown as they are."""
    fig, axes = bare_axes(max(1, -(-len(pictures) // columns)), columns, size, title, note)
    for ax, picture, name in zip(axes.flat, pictures, readable(titles), strict=False):
        image = ax.imshow(_for_screen(picture), interpolation="nearest", **options)
        ax.set_title(textwrap.fill(name, 23), fontsize=8, loc="center")  # does not reach its neighbours
    if scale:
        fig.colorbar(image, ax=axes, shrink=0.7, label=scale)
    return fig


def spectra(by_model: dict[str, np.ndarray], note: str) -> plt.Figure:
    """Mean noise-residual spectra [size, size], zero frequency in the middle, all on one colour scale."""
    low, high = np.percentile(np.stack(list(by_model.values())), [2, 99.8])
    scale = dict(scale="magnitude, dB above the mean", vmin=low, vmax=high, extent=(-0.5, 0.5, -0.5, 0.5))
    title = "Noise-residual spectra, mean of at most 8 photos per model"
    fig = picture_grid(list(by_model.values()), by_model, 4, title, note, (2, 2.1), **scale)
    fig.axes[0].axis("on")
    fig.axes[0].set(xticks=[-0.5, 0, 0.5], yticks=[-0.5, 0, 0.5], xlabel="cycles per pixel")  # the scale of all
    return fig


def jpeg_tables(by_model: dict[str, tuple], note: str) -> plt.Figure:
    """Luma quantisation tables [8, 8] and chroma subsampling, by camera model."""
    tables, names = [table[0] for table in by_model.values()], [f"{name}, {t[2]}" for name, t in by_model.items()]
    colours = dict(norm="log", vmin=1, vmax=(top := max(table.max() for table in tables)), cmap="mako_r")
    title = "JPEG luma tables and chroma subsampling: one photo per model"
    fig = picture_grid(tables, names, 4, title, note, (2, 2.15), **colours)
    for ax, table in zip(fig.axes, tables, strict=False):
        for (y, x), q in np.ndenumerate(table):
            ax.text(x, y, int(q), ha="center", va="center", fontsize=5, color="white" if q > top**0.44 else "0.1")
    return fig


def gallery(rows: list[tuple[str, list[np.ndarray]]], title: str, note: str) -> plt.Figure:
    """Rows of pictures, each with its caption: the photos (and patches) behind the cells of a confusion matrix."""
    rows = rows or [("There is no such photo.", [])]
    columns = max(3, *(len(own) for _, own in rows))
    fig, axes = bare_axes(len(rows), columns, (1.7, 1.75), title, note)
    for line, (caption, own) in zip(axes, rows, strict=True):
        for ax, picture in zip(line, own, strict=False):
            ax.imshow(_for_screen(picture), interpolation="nearest")
            ax.set_anchor("NW")
        line[0].set_title(caption, fontsize=8)
    return fig


def patch_positions(photo: np.ndarray, corners: dict[str, np.ndarray], size: int, note: str) -> plt.Figure:
    """A photo with the outlines of its patches, once for each way of choosing them (corners [n, 2]: y, x)."""
    height, width = photo.shape[:2]
    fig, axes = bare_axes(1, len(corners), (4.6, 3.4), f"Patches of {size} x {size} pixels", note)
    for ax, (name, places) in zip(axes[0], corners.items(), strict=True):
        ax.imshow(_for_screen(photo), extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        for y, x in places:
            ax.add_patch(plt.Rectangle((x, y), size, size, fill=False, ec=PAPER, lw=1.6))
        ax.set_title(f"{len(places)} patch{'es' * (len(places) != 1)}, {name}", fontsize=9)
    return fig


def camera_map(photo: np.ndarray, corners: np.ndarray, logs: np.ndarray, names: list[str], note: str) -> plt.Figure:
    """A photo under a grid of cells, one per patch (corners: y, x), in the colour of the most likely camera."""
    best, sure = logs.argmax(axis=1), np.exp(logs.max(axis=1))
    counts = np.bincount(best, minlength=len(names))
    order = [i for i in np.argsort(-counts, kind="stable")[: len(MAP_COLOURS)] if counts[i]]  # others: grey
    colour_of = dict(zip(order, MAP_COLOURS, strict=False))
    cells = np.array([to_rgba(colour_of.get(i, GREY), 0.15 + 0.6 * p) for i, p in zip(best, sure, strict=True)])
    (height, width), (ys, xs) = photo.shape[:2], map(np.unique, corners.T)
    size, title = (5, 5 * height / width + 0.5), "Most likely camera model of each part of the photo, by its pixels"
    fig, ((left, right),) = bare_axes(1, 2, size, title, note)
    for ax in (left, right):
        ax.imshow(_for_screen(photo), extent=(0, width, height, 0))
    right.pcolormesh(_cell_edges(xs, width), _cell_edges(ys, height), cells.reshape(len(ys), len(xs), 4))
    texts = [f"{name}, {counts[i]} patches" for i, name in zip(order, readable(names[i] for i in order), strict=True)]
    texts.append(f"others, {len(best) - counts[order].sum()}")
    legend = [Patch(color=colour) for colour in (*colour_of.values(), GREY)]
    fig.legend(legend, texts, loc="outside lower center", ncols=len(texts))
    return fig


def _cell_edges(starts: np.ndarray, length: int) -> np.ndarray:
    """Edges of the cells around patches that start at `starts`: halfway between neighbours, and the photo's own."""
    centres = starts + (length - starts[-1]) / 2  # the last patch ends with the photo, or lies in its middle
    return np.concatenate([[0], (centres[1:] + centres[:-1]) / 2, [length]])


def split_map(catalogue: pd.DataFrame, parts: dict[str, pd.Series]) -> plt.Figure:
    """For each protocol one row per device and one column per scene, each photo in the colour of its part."""
    key = "one row per device, one column per scene (its first photo); white: no photo"
    note = f"{catalogues.describe(catalogue)}; {key}"
    columns, title = 1 + (len(parts) > 1), "Photos for training, validation and test under each protocol"
    size = (5, 0.9 + 0.11 * max(8, catalogue["device"].nunique()))
    fig, axes = bare_axes(max(1, -(-len(parts) // columns)), columns, size, title, note)
    for ax, (name, part) in zip(axes.flat, parts.items(), strict=False):
        coded = catalogue.assign(code=part.map(list(PARTS).index, na_action="ignore"))
        grid = coded.pivot_table(index="device", columns="scene", values="code", aggfunc="first")
        if len(grid):
            grid = grid.iloc[:, np.argsort(grid.notna().to_numpy().argmax(axis=0), kind="stable")]  # by device
            look = dict(cmap=ListedColormap(list(PARTS.values())), aspect="auto", interpolation="nearest")
            ax.imshow(grid, vmin=-0.5, vmax=3.5, **look)
        sizes = ", ".join(f"{one} {(part == one).sum()}" for one in ("train", "val", "test"))
        ax.set_title(f"{name}: {sizes}" + " (scenes unknown)" * grid.empty, fontsize=9)
    fig.legend([Patch(color=colour) for colour in PARTS.values()], PARTS, loc="outside lower center", ncols=4)
    return fig


def one_scene(catalogue: pd.DataFrame) -> pd.DataFrame:
    """One photo of each camera model, the first that decodes, all of the scene that most models share (if known)."""
    shared = catalogue.groupby("scene")["camera_model"].nunique()
    rows = catalogue[catalogue["scene"] == shared.idxmax()] if len(shared) else catalogue
    groups = rows.sort_values("path").groupby("camera_model")["path"]
    chosen = [next((i for i, path in paths.items() if _decodes(path)), None) for _, paths in groups]
    return rows.loc[[i for i in chosen if i is not None]]


def _decodes(path: str) -> bool:
    try:
        return read_photo(path, (1, 1)) is not None  # reduced: faster, and as strict
    except ValueError:
        return False


def centre_crop(photo: np.ndarray, size: int) -> np.ndarray:
    """The middle [size, size] of a photo or pattern [h, w] or [h, w, 3], or as much as there is."""
    top, left = (max(0, extent - size) // 2 for extent in photo.shape[:2])
    return photo[top : top + size, left : left + size]


def two_views(whole: Store, crops: Store) -> list[tuple]:
    """Rows of a gallery: for each of four camera models a squashed photo and four native crops of the same photo."""
    rows = []
    for model, photos in list(whole.table.groupby("camera_model")["photo"])[:4]:
        own = np.flatnonzero(crops.table["photo"] == photos.iloc[0])
        chosen = own[np.linspace(0, len(own) - 1, min(4, len(own))).astype(int)]
        rows.append((readable([model])[0], [whole.pixels[photos.index[0]], *(crops.pixels[i] for i in chosen)]))
    return rows


def confused_photos(votes: pd.DataFrame, catalogue: pd.DataFrame, size: int, count: int = 3) -> list[tuple]:
    """Rows of a gallery: for each of the three largest confusions some photos, most confident first, and best crops."""
    logs = evaluation.log_probabilities(votes)
    predictions = evaluation.predicted(votes)
    path_of = dict(zip(catalogue["photo"], catalogue["path"], strict=True))
    rows = []
    for true, predicted in evaluation.biggest_confusions(votes)[["true", "predicted"]].itertuples(index=False):
        found = np.flatnonzero((votes["true"] == true) & (predictions == predicted))
        found = found[np.argsort(-logs.max(1)[found], kind="stable")]
        paths = (path_of[votes["photo"].iloc[i]] for i in found)
        photos = list(islice(map(read_photo, filter(_decodes, paths)), count))
        if photos:
            text = f"{true} classified as {predicted}: {len(found)} photo{'s' * (len(found) > 1)}"
            views = [(photo, cut_patches(photo, best_positions(photo, size, 1), size)[0]) for photo in photos]
            rows.append((readable([text])[0], [view for pair in views for view in pair]))
    return rows
