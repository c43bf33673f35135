"""Which photos and crops the figures show."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from . import evaluation
from .content import best_positions
from .datasets import relative_photos
from .patches import Store, read_photo
from .plots import readable
from .plots_photos import gallery
from .progress import headless


def one_scene(catalogue: pd.DataFrame) -> pd.DataFrame:
    """One photo of each camera model, all of the scene that most models share (any scene where none is known).

    The first photo that can be decoded stands for its model.
    """
    shared = catalogue.groupby("scene")["camera_model"].nunique()
    rows = catalogue[catalogue["scene"] == shared.idxmax()] if len(shared) else catalogue
    groups = rows.sort_values("path").groupby("camera_model")["path"]
    chosen = [next((i for i, path in paths.items() if _decodes(path)), None) for _, paths in groups]
    return rows.loc[[i for i in chosen if i is not None]]


def _decodes(path: str) -> bool:
    try:
        read_photo(path)
    except ValueError:
        return False
    return True


def centre_crop(photo: np.ndarray, size: int) -> np.ndarray:
    """The middle [size, size, 3] of a photo [h, w, 3]."""
    top, left = (max(0, extent - size) // 2 for extent in photo.shape[:2])
    return photo[top : top + size, left : left + size]


def best_crop(photo: np.ndarray, size: int) -> np.ndarray:
    """The most telling [size, size, 3] of a photo: well lit and textured (see content.quality)."""
    y, x = best_positions(photo, size, 1)[0]
    return photo[y : y + size, x : x + size]


def two_views(whole: Store, crops: Store, models: int = 4, count: int = 4) -> list[tuple[str, list[np.ndarray]]]:
    """Rows of a gallery: for each of some camera models a squashed photo and `count` native crops of the same photo."""
    rows = []
    for model, photos in list(whole.table.groupby("camera_model")["photo"])[:models]:
        photo = photos.iloc[0]
        own = np.flatnonzero(crops.table["photo"] == photo)
        chosen = own[np.linspace(0, len(own) - 1, min(count, len(own))).astype(int)] if len(own) else []
        squashed = whole.pixels[photos.index[0]]
        rows.append((readable([model])[0], [squashed, *(crops.pixels[i] for i in chosen)]))
    return rows


def confused(
    votes: pd.DataFrame, catalogue: pd.DataFrame, size: int, cell: tuple[str, str] | None = None, count: int = 3
) -> list[tuple[str, list[np.ndarray]]]:
    """Rows of a gallery: photos behind a cell (true, predicted) of the confusion matrix, or behind the three fullest.

    votes: predictions a row a photo. Each photo is followed by its most telling crop of `size` pixels. The
    photos that the network was surest of come first.
    """
    names = np.array(evaluation.class_names(votes))
    logs = evaluation.log_probabilities(votes)
    guess, sure = names[logs.argmax(1)], logs.max(1)
    path_of = dict(zip(relative_photos(catalogue), catalogue["path"], strict=True))
    cells = [cell] if cell else evaluation.biggest_confusions(votes)[["true", "predicted"]].itertuples(index=False)
    rows = []
    for true, predicted in cells:
        found = np.flatnonzero((votes["true"] == true) & (guess == predicted))
        found = found[np.argsort(-sure[found], kind="stable")]
        pictures = []
        for i in found[:count]:
            photo = read_photo(path_of[votes["photo"].iloc[i]])
            pictures += [photo, best_crop(photo, size)]
        if pictures:
            true, predicted = readable([true, predicted])
            rows.append((f"{true} taken for {predicted}: {len(found)} photo{'s' * (len(found) > 1)}", pictures))
    return rows


def pick_cell(votes: pd.DataFrame, pictures: Callable, note: str) -> None:
    """In JupyterLab: choose a true and a predicted class and see the photos of that cell. Headless: nothing.

    pictures(true, predicted) gives the rows of a `gallery`.
    """
    if headless():
        return
    names = evaluation.class_names(votes)

    def show(true: str, predicted: str) -> None:
        rows = pictures(true, predicted)
        if not rows:
            print(f"no {true} was taken for {predicted}")
            return
        plt.show(gallery(rows, f"{readable([true])[0]} taken for {readable([predicted])[0]}", note))

    ipywidgets.interact(show, true=names, predicted=names)
