"""How many patches a photo needs, and which: decisions from the first few patches in a given order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .evaluation import class_names, log_probabilities, resampled

COUNTS = (1, 2, 4, 8, 16, 32, 64)


def curve(
    predictions: pd.DataFrame,
    scores: dict[str, np.ndarray],
    counts: tuple[int, ...] = COUNTS,
    draws: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Photo accuracy by the number of voting patches: a row a choice and number.

    predictions: a row a patch, of all patches that may vote. scores: for each named choice a value a row; the
    highest vote first. The choice "random" is added: the mean over `draws` orders. A photo with fewer patches
    votes with all. Columns: choice, patches, value, low, high (95 % bootstrap over photos), photos.
    """
    rng = np.random.default_rng([seed, 64])
    photos = predictions["photo"].nunique()
    orders = {"random": [rng.random(len(predictions)) for _ in range(draws)]} | {k: [v] for k, v in scores.items()}
    weights = resampled(photos, [seed, 95])
    rows = []
    for choice, values in orders.items():
        right, votes = np.mean([_right(predictions, order, counts) for order in values], axis=0)  # [photos, counts]
        shares = (weights @ right) / (weights @ votes)
        value, (low, high) = shares[0], np.percentile(shares[1:], [2.5, 97.5], axis=0)
        rows += [[choice, count, value[i], low[i], high[i], photos] for i, count in enumerate(counts)]
    return pd.DataFrame(rows, columns=["choice", "patches", "value", "low", "high", "photos"])


def _right(predictions: pd.DataFrame, score: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
    """How many of a photo's votes (one a seed) are right, and how many there are: [2, photos, counts]."""
    seeds = predictions["seed"] if "seed" in predictions else pd.Series(0, index=predictions.index)
    table = pd.DataFrame({"photo": predictions["photo"].to_numpy(), "seed": seeds.to_numpy(), "score": score})
    order = np.lexsort((-score, table["seed"], table["photo"]))
    table = table.iloc[order].reset_index(drop=True)
    groups = table.groupby(["photo", "seed"], sort=False)
    sums = pd.DataFrame(log_probabilities(predictions)[order]).groupby([table["photo"], table["seed"]]).cumsum()
    true = pd.Index(class_names(predictions)).get_indexer(predictions["true"].to_numpy()[order])
    hit = sums.to_numpy().argmax(1) == true
    first, size = groups.cumcount().to_numpy() == 0, groups.size().to_numpy()
    starts = np.flatnonzero(first)
    chosen = starts[:, None] + np.minimum(np.array(counts), size[:, None]) - 1
    votes = pd.DataFrame(hit[chosen].astype(float)).groupby(table["photo"].to_numpy()[starts], sort=True)
    return np.stack([votes.sum(), votes.count()])
