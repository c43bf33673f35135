"""95 % intervals of metrics and of differences, by bootstrap over photos; their one formatter and one verdict."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from .evaluation import class_names, log_probabilities, vote, weighted_metrics

METRIC_COLUMNS = [
    "experiment", "dataset", "protocol", "part", "level", "metric", "value", "low", "high", "n", "photos",
    "classes", "seed", "seeds", "spread", "published",
]  # fmt: skip


def bootstrap_counts(photos: int, key: list[int], resamples: int = 1000) -> np.ndarray:
    """How often each photo counts, [1 + resamples, photos]: in the sample itself, then in bootstrap samples of it.

    Efron 1979. key: the seed of the draws. Without photos there is one column, of zeros after its first row.
    """
    places = max(1, photos)
    draws = np.random.default_rng(key).multinomial(photos, np.full(places, 1 / places), resamples)
    return np.vstack([np.ones(places), draws])


def score(
    predictions: pd.DataFrame,
    *,
    experiment: str,
    protocol: str,
    level: str = "patch",
    part: str = "test",
    seed: int = 0,
    published: dict[str, float] | None = None,
    resamples: int = 1000,
) -> pd.DataFrame:
    """One row per metric, with its 95 % interval: percentile bootstrap over photos (Efron 1979).

    A photo's patches are drawn together, as they are not independent; so are its predictions under several seeds
    (column `seed`), which are pooled. `published` maps metrics to the paper's values.
    level: "patch", or "photo" (predictions are voted first). spread: standard deviation of the seeds' own values.
    """
    if predictions.empty:
        raise ValueError(f"no predictions to score for {experiment}, {protocol}, {part}")
    table = vote(predictions) if level == "photo" else predictions
    photos = table["photo"].nunique()
    values = weighted_metrics(table, bootstrap_counts(photos, [seed, 95], resamples))
    by_seed = [own for _, own in table.groupby("seed")] if "seed" in table else [table]
    single = [weighted_metrics(own, np.ones((1, own["photo"].nunique()))) for own in by_seed]
    common = dict(
        experiment=experiment, dataset=", ".join(sorted(table["dataset"].unique())), protocol=protocol, part=part,
        level=level, n=len(table), photos=photos, classes=len(class_names(table)), seed=seed, seeds=len(single),
    )  # fmt: skip
    rows = []
    for metric, series in values.items():
        low, high = np.nanpercentile(series[1:], [2.5, 97.5])
        spread = np.std([one[metric][0] for one in single], ddof=min(1, len(single) - 1))
        own = dict(metric=metric, value=series[0], low=low, high=high, spread=spread)
        rows.append(common | own | {"published": (published or {}).get(metric, np.nan)})
    return pd.DataFrame(rows, columns=METRIC_COLUMNS)


def difference(a: pd.DataFrame, b: pd.DataFrame, seed: int = 0) -> tuple[float, float, float]:
    """(accuracy of a - accuracy of b, low, high) of two tables of predictions; 95 % bootstrap.

    The two samples of photos are drawn independently, as if no photo were in both.
    """
    values = []
    for i, table in enumerate((a, b)):
        weights = bootstrap_counts(table["photo"].nunique(), [seed, 95, i])
        values.append(weighted_metrics(table, weights)["accuracy"])
    gap = values[0] - values[1]
    return float(gap[0]), *np.percentile(gap[1:], [2.5, 97.5]).tolist()


def paired_difference(a: pd.DataFrame, b: pd.DataFrame, seed: int = 0) -> tuple[float, float, float]:
    """(accuracy of a - accuracy of b, low, high) on the same rows; 95 % bootstrap over their photos.

    Rows are matched by photo and, where there are any, seeds and patch positions; ValueError if none is in both.
    """
    keys = [c for c in ("seed", "photo", "y", "x") if c in a and c in b]
    right = [
        pd.Series(np.array(class_names(t))[log_probabilities(t).argmax(1)] == t["true"].to_numpy(),
                  index=pd.MultiIndex.from_frame(t[keys]), dtype=float)
        for t in (a, b)
    ]  # fmt: skip
    gap = (right[0] - right[1]).dropna()
    if gap.empty:
        raise ValueError("the two tables have no row in common to compare")
    photos = gap.groupby(level="photo").agg(["sum", "size"]).to_numpy()
    sums, sizes = (bootstrap_counts(len(photos), [seed, 96]) @ photos).T
    means = sums / sizes
    return float(means[0]), *np.percentile(means[1:], [2.5, 97.5]).tolist()


def photo_accuracy(predictions: pd.DataFrame, reference: pd.DataFrame | None = None, **labels: str) -> pd.DataFrame:
    """One row: accuracy per photo with its 95 % interval; columns of `labels`, value, low, high, n (photos).

    reference: other predictions of the same photos; change, change_low and change_high are then the accuracy minus
    theirs, paired.
    """
    seed = int(predictions["seed"].min())
    rows = score(predictions, experiment="", protocol="", level="photo", seed=seed)
    row = rows.loc[rows["metric"] == "accuracy", ["value", "low", "high", "photos"]]
    row = row.rename(columns={"photos": "n"}).assign(**labels).reset_index(drop=True)
    if reference is not None:
        row[["change", "change_low", "change_high"]] = [paired_difference(vote(predictions), vote(reference), seed)]
    return row


def wilson(count: int, n: int) -> tuple[float, float, float]:
    """A share with its 95 % interval by Wilson's method (1927); NaN if n is 0."""
    return (count / n, *binomtest(count, n).proportion_ci(method="wilson")) if n else (np.nan,) * 3


def verdict(low: float, high: float, zero: float = 0.0) -> str:
    """What a 95 % interval says about a difference: "higher", "lower", or "undecided" if it includes `zero`."""
    return "higher" if low > zero else "lower" if high < zero else "undecided"


def format_interval(value: float, low: float, high: float, unit: str = "%") -> str:
    """A number with its 95 % interval, as text.

    unit: "%" for shares of 1, "points" for differences of shares, "" for a number as it is.
    """
    form = {
        "%": "{:.1f} % ({:.1f} to {:.1f})",
        "points": "{:+.1f} ({:+.1f} to {:+.1f})",
        "": "{:.3f} ({:.3f} to {:.3f})",
    }
    factor = 1 if unit == "" else 100
    return form[unit].format(*(factor * number for number in (value, low, high)))


def formatted(rows: pd.DataFrame, unit: str | None = None, value: str = "value", ends: str = "") -> list[str]:
    """`format_interval` of each row of a table: columns `value`, `<ends>low` and `<ends>high`.

    unit: None takes "" for rows whose `metric` is the log loss and "%" for others.
    """
    return [
        format_interval(row[value], row[f"{ends}low"], row[f"{ends}high"],
                        ("" if row.get("metric") == "log loss" else "%") if unit is None else unit)
        for row in rows.to_dict("records")
    ]  # fmt: skip
