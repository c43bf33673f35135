"""Evaluation: predictions a row a patch, votes a row a photo, and figures with intervals over photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from scipy.special import log_softmax, logsumexp
from sklearn.metrics import roc_curve

from .files import complete, write_csv
from .models import Model, to_input
from .training import logits_of, make_fabric

LOG_PROB = "log_prob:"  # prefix of the columns that hold a class's log-probability
METRICS = ("accuracy", "macro precision", "macro recall", "macro F1", "top-3 accuracy", "log loss")
METRIC_COLUMNS = [
    "experiment", "dataset", "protocol", "part", "level", "metric", "value", "low", "high", "n", "photos",
    "classes", "seed", "seeds", "spread", "published",
]  # fmt: skip


def predict(
    model: Model, store, rows: np.ndarray, fabric=None, batch_size: int = 64, features: np.ndarray | None = None
) -> pd.DataFrame:
    """Log-probabilities of the store's patches `rows`: a row a patch.

    features: what the network's frozen part made of the store (transfer.features), where that is known already.
    Columns: the patch table's, `true` (class name) and `log_prob:<class>` in the model's order of classes.
    """
    if store.pixels.shape[1:3] != (model.input_size,) * 2:
        raise ValueError(f"the store has {store.pixels.shape[1:3]} pixels, the model takes {model.input_size}")
    fabric = fabric or make_fabric()
    net, inputs = (model.net, store.pixels) if features is None else (model.net.classifier, features)
    net = fabric.setup_module(net.to(memory_format=torch.channels_last))
    logits = logits_of(net, fabric, inputs, rows, batch_size, model.input_range)
    table = store.table.iloc[rows].reset_index(drop=True)
    table["true"] = table[model.info["target"]]
    columns = [LOG_PROB + name for name in model.class_names]
    return table.join(pd.DataFrame(log_softmax(logits.numpy().astype(float), axis=1), columns=columns))


def sample(store, rows: np.ndarray, input_range: str, count: int = 256) -> torch.Tensor:
    """Up to `count` patches spread over a store's `rows`, as a network takes them: floats [count, 3, h, w]."""
    rows = np.unique(np.asarray(rows)[np.linspace(0, len(rows) - 1, count).astype(int)])
    return to_input(torch.from_numpy(store.pixels[rows]).permute(0, 3, 1, 2), input_range)


def save_predictions(predictions: pd.DataFrame, path: str | Path) -> Path:
    """Write predictions as Parquet, complete or not at all; first bytes stand with first bytes, which packs better."""
    logs = [name for name in predictions.columns if name.startswith(LOG_PROB)]
    others = [name for name in predictions.columns if name not in logs]
    packing = dict(compression="zstd", compression_level=19, use_byte_stream_split=logs, use_dictionary=others)
    with complete(path) as partial:
        predictions.astype(dict.fromkeys(logs, np.float32)).to_parquet(partial, index=False, **packing)
    return Path(path)


def read_predictions(results: str | Path, experiment: str, notebook: str) -> pd.DataFrame:
    """An experiment's predictions in a results folder; where there are none, the error says which notebook to run."""
    path = Path(results) / "predictions" / f"{experiment}.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"no predictions of {experiment} in {results}: run notebook {notebook} first")
    return pd.read_parquet(path)


def class_names(predictions: pd.DataFrame) -> list[str]:
    """The classes that a predictions table speaks of, in the model's order."""
    return [name.removeprefix(LOG_PROB) for name in predictions.columns if name.startswith(LOG_PROB)]


def log_probabilities(predictions: pd.DataFrame) -> np.ndarray:
    """[rows, classes] of a predictions table."""
    return predictions.filter(like=LOG_PROB).to_numpy(float)


def vote(predictions: pd.DataFrame) -> pd.DataFrame:
    """A row a photo (and seed): log-probabilities summed over its patches and normalised; `patches` counts them."""
    columns = [LOG_PROB + name for name in class_names(predictions)]
    unit = [c for c in ("seed", "photo") if c in predictions]
    ids = [c for c in predictions.columns if c not in (*columns, *unit, "y", "x")]
    groups = predictions.groupby(unit, sort=True)
    summed = groups[columns].sum()
    photos = groups[ids].first().join(groups.size().rename("patches"))
    normalised = summed.sub(logsumexp(summed.to_numpy(), axis=1), axis=0)
    return photos.join(normalised).reset_index()


def roc_of(positive: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    """Receiver operating characteristic of a score: columns false_positive_rate, true_positive_rate, threshold."""
    columns = ["false_positive_rate", "true_positive_rate", "threshold"]
    return pd.DataFrame(dict(zip(columns, roc_curve(positive, score), strict=True)))


def confusion(predictions: pd.DataFrame, by: str | None = None, normalise: bool = False) -> pd.DataFrame:
    """Counts of (true, predicted): rows by the true class, or by `by`, another column such as "device".

    by="brand" also joins the predicted classes of a brand; other rows stand in the order of their classes, and their
    names begin with them. normalise: each row sums to 1.
    """
    names = class_names(predictions)
    predicted = pd.Series(np.array(names)[log_probabilities(predictions).argmax(1)], index=predictions.index)
    columns = names
    if by == "brand":
        brand_of = {name: name.split("_")[0] for name in names}
        predicted, columns = predicted.map(brand_of), list(dict.fromkeys(brand_of.values()))
    rows, order = predictions[by or "true"], columns
    if by not in (None, "brand"):
        named = [own.startswith(true) for own, true in zip(rows, predictions["true"], strict=True)]
        rows = rows.where(named, predictions["true"] + " " + rows)
        order = rows[np.lexsort([rows, predictions["true"]])].unique()
    counts = pd.crosstab(rows, predicted).reindex(index=order, columns=columns, fill_value=0)
    counts.index.name, counts.columns.name = "true", "predicted"
    return counts.div(counts.sum(axis=1).clip(lower=1), axis=0) if normalise else counts


def resampled(photos: int, key: list[int], resamples: int = 1000) -> np.ndarray:
    """How often each photo counts, [1 + resamples, photos]: in the sample itself, then in bootstrap samples of it.

    Efron 1979. key: the seed of the draws. Of no photos there is one column, for none.
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
    """A row a metric, with its 95 % interval: percentile bootstrap over photos (Efron 1979).

    A photo's patches are drawn together, as they are not independent; so are its predictions under several seeds
    (column `seed`), which are pooled. `published` maps metrics to the paper's values.
    level: "patch", or "photo" (predictions are voted first). spread: standard deviation of the seeds' own values.
    """
    if predictions.empty:
        raise ValueError(f"no predictions to score for {experiment}, {protocol}, {part}")
    table = vote(predictions) if level == "photo" else predictions
    photos = table["photo"].nunique()
    values = _weighted_metrics(table, resampled(photos, [seed, 95], resamples))
    by_seed = [own for _, own in table.groupby("seed")] if "seed" in table else [table]
    single = [_weighted_metrics(own, np.ones((1, own["photo"].nunique()))) for own in by_seed]
    rows = [
        {
            "experiment": experiment,
            "dataset": ", ".join(sorted(table["dataset"].unique())),
            "protocol": protocol,
            "part": part,
            "level": level,
            "metric": metric,
            "value": series[0],
            "low": np.nanpercentile(series[1:], 2.5),
            "high": np.nanpercentile(series[1:], 97.5),
            "n": len(table),
            "photos": photos,
            "classes": len(class_names(table)),
            "seed": seed,
            "seeds": len(single),
            "spread": np.std([one[metric][0] for one in single], ddof=min(1, len(single) - 1)),
            "published": (published or {}).get(metric, np.nan),
        }
        for metric, series in values.items()
    ]
    return pd.DataFrame(rows, columns=METRIC_COLUMNS)


def _weighted_metrics(table: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each metric for each row of `weights` [draws, photos], which says how often each photo counts."""
    names, logs = class_names(table), log_probabilities(table)
    if strangers := sorted(set(table["true"]) - set(names)):
        raise ValueError(f"the model does not know these classes: {', '.join(strangers)}")
    k, true = len(names), pd.Index(names).get_indexer(table["true"])
    photo = pd.factorize(table["photo"], sort=True)[0]
    rows = np.arange(len(table))
    picked = logs[rows, true]
    cell = true * k + logs.argmax(1)
    per_photo = sparse.csr_array((np.ones(len(table)), (photo, cell)), shape=(weights.shape[1], k * k))
    matrices = (per_photo.T @ weights.T).T.reshape(-1, k, k)
    sums = np.stack([np.bincount(photo, v, minlength=weights.shape[1]) for v in
                     (np.ones(len(table)), (logs > picked[:, None]).sum(1) < 3, -picked)], axis=1)  # fmt: skip
    n, top3, loss = (weights @ sums).T
    hits, predicted, actual = np.einsum("nii->ni", matrices), matrices.sum(1), matrices.sum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(predicted > 0, hits / predicted, 0.0)
        recall = np.where(actual > 0, hits / actual, np.nan)
        f1 = np.where(actual > 0, 2 * hits / (actual + predicted), np.nan)
    precision = np.where(actual > 0, precision, np.nan)  # classes absent from the sample do not count
    macro = [np.nanmean(x, axis=1) for x in (precision, recall, f1)]
    return dict(zip(METRICS, [hits.sum(1) / n, *macro, top3 / n, loss / n], strict=True))


def difference(a: pd.DataFrame, b: pd.DataFrame, seed: int = 0) -> tuple[float, float, float]:
    """(accuracy of a - accuracy of b, low, high) of two tables of predictions; 95 % bootstrap.

    The two samples of photos are drawn independently, as if no photo were in both.
    """
    values = []
    for i, table in enumerate((a, b)):
        weights = resampled(table["photo"].nunique(), [seed, 95, i])
        values.append(_weighted_metrics(table, weights)["accuracy"])
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
    sums, sizes = (resampled(len(photos), [seed, 96]) @ photos).T
    means = sums / sizes
    return float(means[0]), *np.percentile(means[1:], [2.5, 97.5]).tolist()


def biggest_confusions(predictions: pd.DataFrame, count: int = 3) -> pd.DataFrame:
    """The off-diagonal cells with most rows: true, predicted, rows, share of the true class."""
    counts = confusion(predictions)
    share = confusion(predictions, normalise=True)
    cells = [
        {"true": t, "predicted": p, "rows": int(counts.loc[t, p]), "share": float(share.loc[t, p])}
        for t in counts.index
        for p in counts.columns
        if t != p and counts.loc[t, p]
    ]
    table = pd.DataFrame(cells, columns=["true", "predicted", "rows", "share"])
    return table.sort_values(["rows", "true", "predicted"], ascending=[False, True, True]).head(count)


def write_metrics(tables: list[pd.DataFrame], path: str | Path) -> pd.DataFrame:
    """Join tables of `score` and write them as CSV, complete or not at all; returns what was written."""
    metrics = pd.concat(tables, ignore_index=True)
    write_csv(path, metrics)
    return metrics
