"""How many patches a photo needs, and which: decisions from the first few patches in a given order."""

import numpy as np
import pandas as pd

from ..evaluation import class_names, log_probabilities
from ..intervals import bootstrap_weights, units
from ..patches import Store, patch_entropy, patch_quality

COUNTS = (1, 2, 4, 8, 16, 32, 64)


def vote_scores(predictions: pd.DataFrame, store: Store) -> dict[str, np.ndarray]:
    """Quality and entropy of the patch of each row of predictions of a grid store; ValueError if it is not there."""
    scores = {"quality": patch_quality(store.pixels), "entropy": patch_entropy(store.pixels)}
    place = ["photo", "y", "x"]
    own = predictions[place].merge(store.table[place].assign(**scores), how="left", validate="many_to_one")
    if own.isna().any(axis=None):
        raise ValueError(f"predictions of patches that are not in {store.folder}: give the store that was predicted")
    return {name: own[name].to_numpy() for name in scores}


def accuracy_by_votes(
    predictions: pd.DataFrame, scores: dict[str, np.ndarray], counts: tuple = COUNTS, draws: int = 20, seed: int = 0
) -> pd.DataFrame:
    """Accuracy per photo by the number of voting patches: choice, patches, value, low, high (95 %), photos.

    predictions: one row per patch that may vote. scores: for each named choice one value per row; the highest vote
    first. The choice "random" is added: the mean over `draws` orders. A photo with fewer patches votes with all.
    """
    rng = np.random.default_rng([seed, 64])
    orders = {"random": [rng.random(len(predictions)) for _ in range(draws)]} | {k: [v] for k, v in scores.items()}
    code, found = units(predictions)
    weights, rows = bootstrap_weights(found, [seed, 95]), []
    for choice, values in orders.items():
        correct = np.mean([_correct_votes(predictions, code, order, counts) for order in values], axis=0)
        with np.errstate(invalid="ignore"):  # a sample may miss every photo
            shares = weights @ correct / weights.sum(axis=1, keepdims=True)
        value, (low, high) = shares[0], np.nanpercentile(shares[1:], [2.5, 97.5], axis=0)
        photos = found["photo"].nunique()
        rows += [[choice, count, value[i], low[i], high[i], photos] for i, count in enumerate(counts)]
    return pd.DataFrame(rows, columns=["choice", "patches", "value", "low", "high", "photos"])


def _correct_votes(predictions: pd.DataFrame, code: np.ndarray, score: np.ndarray, counts: tuple) -> np.ndarray:
    """Whether the first patches of each unit (intervals.units) vote for the true class: float [units, counts]."""
    order = np.lexsort((-score, code))
    sums = pd.DataFrame(log_probabilities(predictions)[order]).groupby(code[order]).cumsum().to_numpy()
    hit = sums.argmax(1) == pd.Index(class_names(predictions)).get_indexer(predictions["true"].to_numpy()[order])
    sizes = np.bincount(code)
    last = (np.cumsum(sizes) - sizes)[:, None] + np.minimum(np.array(counts), sizes[:, None]) - 1
    return hit[last].astype(float)
