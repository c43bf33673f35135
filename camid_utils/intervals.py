"""95 % intervals of metrics and of differences; their one formatter and one verdict.

By percentile bootstrap over photos (Efron 1979): a photo's patches are drawn together, as they are not independent, and
so are its predictions under several seeds.
"""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from .evaluation import class_names, log_probabilities, vote, weighted_metrics

METRIC_COLUMNS = [
    "experiment", "dataset", "protocol", "part", "level", "metric", "value", "low", "high", "n", "photos",
    "classes", "seed", "seeds", "spread", "published",
]  # fmt: skip
FORMATS = {
    "%": "{:.1f} % ({:.1f} to {:.1f})",  # shares of 1
    "points": "{:+.1f} ({:+.1f} to {:+.1f})",  # differences of shares
    "": "{:.3f} ({:.3f} to {:.3f})",  # numbers as they are
}


def bootstrap_counts(photos: int, key: list[int], resamples: int = 1000) -> np.ndarray:
    """How often each photo counts, [1 + resamples, photos]: in the sample itself, then in bootstrap samples of it.

    key: the seed of the draws. Without photos there is one column, of zeros after its first row.
    """
    places = max(1, photos)
    draws = np.random.default_rng(key).multinomial(photos, np.full(places, 1 / places), resamples)
    return np.vstack([np.ones(places), draws])


def score(
    predictions: pd.DataFrame, *, experiment: str, protocol: str, level: str = "patch", part: str = "test",
    seed: int = 0, published: dict[str, float] | None = None, resamples: int = 1000,
) -> pd.DataFrame:  # fmt: skip
    """One row per metric, with its 95 % interval: METRIC_COLUMNS. Seeds (column `seed`) are pooled.

    level: "patch", or "photo" (predictions are voted first). spread: standard deviation of the seeds' own values.
    `published` maps metrics to the paper's values.
    """
    if predictions.empty:
        raise ValueError(f"no predictions to score for {experiment}, {protocol}, {part}")
    table = vote(predictions) if level == "photo" else predictions
    photos = table["photo"].nunique()
    values = weighted_metrics(table, bootstrap_counts(photos, [seed, 95], resamples))
    by_seed = [own for _, own in table.groupby("seed")] if "seed" in table else [table]
    single = [weighted_metrics(own, np.ones((1, own["photo"].nunique()))) for own in by_seed]
    rows = []
    for metric, draws in values.items():
        low, high = np.nanpercentile(draws[1:], [2.5, 97.5])
        spread = np.std([one[metric][0] for one in single], ddof=min(1, len(single) - 1))
        rows.append([metric, draws[0], low, high, spread, (published or {}).get(metric, np.nan)])
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high", "spread", "published"]).assign(
        experiment=experiment, dataset=", ".join(sorted(table["dataset"].unique())), protocol=protocol, part=part,
        level=level, n=len(table), photos=photos, classes=len(class_names(table)), seed=seed, seeds=len(single),
    )[METRIC_COLUMNS]  # fmt: skip


def difference(a: pd.DataFrame, b: pd.DataFrame, seed: int = 0) -> tuple[float, float, float]:
    """(accuracy of a - accuracy of b, low, high) of two tables of predictions, as if no photo were in both."""
    one, two = (
        weighted_metrics(table, bootstrap_counts(table["photo"].nunique(), [seed, 95, i]))["accuracy"]
        for i, table in enumerate((a, b))
    )
    return _first_and_ends(one - two)


def paired_difference(a: pd.DataFrame, b: pd.DataFrame, seed: int = 0) -> tuple[float, float, float]:
    """(accuracy of a - accuracy of b, low, high) on the same rows.

    Rows are matched by photo and, where there are any, seeds and patch positions; ValueError if none is in both.
    """
    keys, right = [c for c in ("seed", "photo", "y", "x") if c in a and c in b], []
    for table in (a, b):
        named = np.array(class_names(table))[log_probabilities(table).argmax(1)]
        correct = (named == table["true"].to_numpy()).astype(float)
        right.append(pd.Series(correct, pd.MultiIndex.from_frame(table[keys])))
    gap = (right[0] - right[1]).dropna()
    if gap.empty:
        raise ValueError("the two tables have no row in common to compare")
    photos = gap.groupby(level="photo").agg(["sum", "size"]).to_numpy()
    sums, sizes = (bootstrap_counts(len(photos), [seed, 96]) @ photos).T
    return _first_and_ends(sums / sizes)


def _first_and_ends(draws: np.ndarray) -> tuple[float, float, float]:
    return float(draws[0]), *np.percentile(draws[1:], [2.5, 97.5]).tolist()


def photo_accuracy(predictions: pd.DataFrame, reference: pd.DataFrame | None = None, **labels: str) -> pd.DataFrame:
    """One row: accuracy per photo with its 95 % interval; columns value, low, high, n (photos), those of `labels`.

    reference: other predictions of the same photos; change, change_low, change_high: the accuracy minus theirs, paired.
    """
    seed = int(predictions["seed"].min())
    rows = score(predictions, experiment="", protocol="", level="photo", seed=seed).set_index("metric")
    row = rows.loc[["accuracy"], ["value", "low", "high", "photos"]].reset_index(drop=True)
    row = row.rename(columns={"photos": "n"}).assign(**labels)
    if reference is not None:
        row[["change", "change_low", "change_high"]] = [paired_difference(vote(predictions), vote(reference), seed)]
    return row


def wilson(count: int, n: int) -> tuple[float, float, float]:
    """A share with its 95 % interval by Wilson's method (1927); NaN if n is 0."""
    return (count / n, *binomtest(count, n).proportion_ci(method="wilson")) if n else (np.nan,) * 3


def verdict(low: float, high: float) -> str:
    """What a 95 % interval says about a difference: "higher", "lower", or "undecided" if it includes zero."""
    return "higher" if low > 0 else "lower" if high < 0 else "undecided"


def format_interval(value: float, low: float, high: float, unit: str = "%") -> str:
    """A number with its 95 % interval, as text; unit: one of FORMATS."""
    return FORMATS[unit].format(*((100 if unit else 1) * number for number in (value, low, high)))


def formatted(rows: pd.DataFrame, unit: str | None = None, value: str = "value", ends: str = "") -> list[str]:
    """`format_interval` of each row of a table: columns `value`, `<ends>low` and `<ends>high`.

    unit: None takes "" for rows whose `metric` is the log loss and "%" for others.
    """
    units = [unit] * len(rows)
    if unit is None:
        units = ["" if metric == "log loss" else "%" for metric in rows.get("metric", units)]
    return list(map(format_interval, rows[value], rows[f"{ends}low"], rows[f"{ends}high"], units))
