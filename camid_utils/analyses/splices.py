"""Detecting photos spliced from two by different cameras: do two cameras explain a photo better than one?"""

import numpy as np
import pandas as pd

from ..catalogues import relative_photos
from ..identify.predict import parts_statistic, predict_photo
from ..intervals import wilson
from ..models import Model
from ..photos import read_image
from .open_set import threshold


def splice(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The left half of one photo next to the right half of another, each in its original position.

    The seam is in the middle, on the edge of a JPEG block.
    """
    height, width = np.minimum(left.shape[:2], right.shape[:2])  # from the top left corner: JPEG grids stay in place
    seam = width // 16 * 8
    return np.concatenate([left[:height, :seam], right[:height, seam:width]], axis=1)


def splice_pairs(known: pd.DataFrame, catalogue: pd.DataFrame, most: int) -> list[tuple[pd.Series, pd.Series]]:
    """At most `most` pairs of photos by different cameras, most confident answers first; each photo is used once."""
    photos = catalogue.assign(photo=relative_photos(catalogue)).merge(known[["photo", "confidence"]], on="photo")
    left = [row for _, row in photos.sort_values("confidence", ascending=False, kind="stable").iterrows()]
    pairs = []
    while left and len(pairs) < most:
        one = left.pop(0)
        others = (i for i, two in enumerate(left) if two["camera_model"] != one["camera_model"])
        if (i := next(others, None)) is not None:
            pairs.append((one, left.pop(i)))
    return pairs


def splice_statistics(pairs: list[tuple[pd.Series, pd.Series]], model: Model) -> pd.DataFrame:
    """One row per splice: left and right (cameras), parts_statistic, named (whether its sides are named as these)."""
    rows = []
    for pair in pairs:
        corners, logits, _ = predict_photo(splice(*(read_image(one["path"]) for one in pair)), model)
        statistic, sides = parts_statistic(corners, logits)
        left, right = (one["camera_model"] for one in pair)
        named = [(side, model.class_names[i]) for side, i in sides] == [("left", left), ("right", right)]
        rows.append([left, right, statistic, named])
    return pd.DataFrame(rows, columns=["left", "right", "parts_statistic", "named"])


def splice_limit(untouched: pd.DataFrame, share: float) -> float:
    """The parts_statistic that at most this share of untouched photos (open_set.predict_photos) exceeds."""
    return -threshold(-untouched["parts_statistic"].to_numpy(), share)


def splice_rates(untouched: pd.DataFrame, spliced: pd.DataFrame, limit: float) -> pd.DataFrame:
    """What a limit of the parts_statistic does: rows (question, value, low, high, n) with 95 % intervals (Wilson)."""
    alarms, found = untouched["parts_statistic"] > limit, spliced["parts_statistic"] > limit
    answers = {"untouched photos called spliced": alarms, "splices detected": found,
               "detected splices with both cameras named": spliced.loc[found, "named"]}  # fmt: skip
    rows = [[question, *wilson(int(each.sum()), len(each)), len(each)] for question, each in answers.items()]
    return pd.DataFrame(rows, columns=["question", "value", "low", "high", "n"])
