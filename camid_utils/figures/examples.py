"""Which photos and crops the figures show."""

from itertools import islice

import numpy as np
import pandas as pd

from .. import evaluation
from ..catalogues import relative_photos
from ..patches import Store, best_positions
from ..photos import read_photo
from .style import readable


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


def best_crop(photo: np.ndarray, size: int) -> np.ndarray:
    """The crop [size, size, 3] of a photo with the most traces: well lit and textured (see patches.patch_quality)."""
    y, x = best_positions(photo, size, 1)[0]
    return photo[y : y + size, x : x + size]


def two_views(whole: Store, crops: Store, models: int = 4, count: int = 4) -> list[tuple]:
    """Rows of a gallery: for each of some camera models a squashed photo and `count` native crops of the same photo."""
    rows = []
    for model, photos in list(whole.table.groupby("camera_model")["photo"])[:models]:
        own = np.flatnonzero(crops.table["photo"] == photos.iloc[0])
        chosen = own[np.linspace(0, len(own) - 1, min(count, len(own))).astype(int)]
        rows.append((readable([model])[0], [whole.pixels[photos.index[0]], *(crops.pixels[i] for i in chosen)]))
    return rows


def confused_photos(votes: pd.DataFrame, catalogue: pd.DataFrame, size: int, count: int = 3) -> list[tuple]:
    """Rows of a gallery: for each of the three largest confusions some photos and crops, most confident first."""
    logs = evaluation.log_probabilities(votes)
    predictions = np.array(evaluation.class_names(votes))[logs.argmax(1)]
    path_of = dict(zip(relative_photos(catalogue), catalogue["path"], strict=True))
    rows = []
    for true, predicted in evaluation.biggest_confusions(votes)[["true", "predicted"]].itertuples(index=False):
        found = np.flatnonzero((votes["true"] == true) & (predictions == predicted))
        found = found[np.argsort(-logs.max(1)[found], kind="stable")]
        paths = (path_of[votes["photo"].iloc[i]] for i in found)
        photos = list(islice(map(read_photo, filter(_decodes, paths)), count))
        if photos:
            text = f"{true} classified as {predicted}: {len(found)} photo{'s' * (len(found) > 1)}"
            rows.append((readable([text])[0], [view for photo in photos for view in (photo, best_crop(photo, size))]))
    return rows
