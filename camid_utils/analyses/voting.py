"""How many patches a photo needs, and which: decisions from the first few patches in a given order."""

import numpy as np
import pandas as pd

from ..evaluation import class_names, log_probabilities
from ..intervals import bootstrap_counts
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
    """Accuracy per photo by the number of voting patches: choice, patches, value, low, high (95 %, bootstrap), photos.

    predictions: one row per patch that may vote. scores: for each named choice one value per row; the highest vote
    first. The choice "random" is added: the mean over `draws` orders. A photo with fewer patches votes with all.
    """
    rng = np.random.default_rng([seed, 64])
    photos = predictions["photo"].nunique()
    orders = {"random": [rng.random(len(predictions)) for _ in range(draws)]} | {k: [v] for k, v in scores.items()}
    weights = bootstrap_counts(photos, [seed, 95])
    rows = []
    for choice, values in orders.items():
        correct, votes = np.mean([_correct_votes(predictions, order, counts) for order in values], axis=0)
        shares = (weights @ correct) / (weights @ votes)
        value, (low, high) = shares[0], np.percentile(shares[1:], [2.5, 97.5], axis=0)
        rows += [[choice, count, value[i], low[i], high[i], photos] for i, count in enumerate(counts)]
    return pd.DataFrame(rows, columns=["choice", "patches", "value", "low", "high", "photos"])


def _correct_votes(predictions: pd.DataFrame, score: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
    """How many of a photo's votes are correct, and how many there are, one per seed: [2, n, counts]."""
    table = pd.DataFrame({"photo": predictions["photo"], "seed": predictions.get("seed", 0), "score": score})
    order = np.lexsort((-score, table["seed"], table["photo"]))
    table = table.iloc[order].reset_index(drop=True)
    groups = table.groupby(["photo", "seed"], sort=False)
    sums = pd.DataFrame(log_probabilities(predictions)[order]).groupby([table["photo"], table["seed"]]).cumsum()
    true = pd.Index(class_names(predictions)).get_indexer(predictions["true"].to_numpy()[order])
    hit = sums.to_numpy().argmax(1) == true
    starts, size = np.flatnonzero(groups.cumcount() == 0), groups.size().to_numpy()
    chosen = starts[:, None] + np.minimum(np.array(counts), size[:, None]) - 1
    votes = pd.DataFrame(hit[chosen].astype(float)).groupby(table["photo"].to_numpy()[starts], sort=True)
    return np.stack([votes.sum(), votes.count()])
