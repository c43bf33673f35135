"""Photos put together from the halves of two: whether the patches of each half vote for the half's own camera.

The map of an answer should then show the seam.
"""

import numpy as np
import pandas as pd

from ..catalogues import relative_photos
from ..identify.predict import predict_photo
from ..models import Model
from ..photos import read_image


def splice(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The left half of one photo beside the right half of another, each where it was in its own.

    Of photos of different sizes the common part from the top left corner is taken, so that JPEG grids stay in place.
    """
    height, width = np.minimum(left.shape[:2], right.shape[:2])
    middle = seam(width)
    return np.concatenate([left[:height, :middle], right[:height, middle:width]], axis=1)


def seam(width: int) -> int:
    """The column in which the right half of a splice begins: the middle, on the edge of a JPEG block."""
    return width // 16 * 8


def splice_pairs(known: pd.DataFrame, catalogue: pd.DataFrame, most: int) -> list[tuple[pd.Series, pd.Series]]:
    """At most `most` pairs of a catalogue's photos by different cameras, most confident answers first.

    known: the calibrated table of these photos; whether an answer is right does not matter. Each photo is used once.
    """
    photos = catalogue.assign(photo=relative_photos(catalogue)).merge(known[["photo", "confidence"]], on="photo")
    left = [row for _, row in photos.sort_values("confidence", ascending=False, kind="stable").iterrows()]
    pairs = []
    while left and len(pairs) < most:
        one = left.pop(0)
        others = (i for i, two in enumerate(left) if two["camera_model"] != one["camera_model"])
        if (i := next(others, None)) is not None:
            pairs.append((one, left.pop(i)))
    return pairs


def splice_rates(pairs: list[tuple[pd.Series, pd.Series]], model: Model) -> pd.DataFrame:
    """One row per half of each splice of two photos (rows with path and camera_model).

    Columns half, camera, other, patches (those entirely within the half), own and others (shares of them that vote for
    the half's camera and for the other half's; NaN without patches).
    """
    rows = []
    for pair in pairs:
        photo = splice(*(read_image(one["path"]) for one in pair))
        corners, log_probs, _ = predict_photo(photo, model)
        votes, middle = np.array(model.class_names)[log_probs.argmax(axis=1)], seam(photo.shape[1])
        across = model.input_size if len(corners) > 1 else photo.shape[1]  # a single patch is the whole photo
        for half, inside in {"left": corners[:, 1] + across <= middle, "right": corners[:, 1] >= middle}.items():
            own, other = (one["camera_model"] for one in (pair if half == "left" else pair[::-1]))
            names = pd.Series(votes[inside])
            rows.append([half, own, other, len(names), (names == own).mean(), (names == other).mean()])
    return pd.DataFrame(rows, columns=["half", "camera", "other", "patches", "own", "others"])
