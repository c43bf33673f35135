"""Evaluation: predictions (one row per patch), votes (one row per photo), metrics and confusion matrices."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from scipy.special import log_softmax, logsumexp
from torch import nn

from . import models
from .batches import logits_of, make_fabric, set_up
from .files import atomic_path
from .models import Model, to_input

BATCH = 64  # patches that are predicted at once
LOG_PROB = "log_prob:"  # prefix of the columns that hold a class's log-probability
METRICS = ("accuracy", "macro precision", "macro recall", "macro F1", "top-3 accuracy", "log loss")
LEAST = float(np.log(np.finfo(float).tiny))  # log-probability of an impossible class in a log loss: -708


def predict(
    model: Model, store, rows: np.ndarray, *, features: np.ndarray | None = None, adapt: Callable | None = None
) -> pd.DataFrame:
    """Log-probabilities of the store's patches `rows`: one row per patch.

    Columns: the patch table's, `true` (class name) and `log_prob:<class>` in the model's order of classes.
    features: the output of the network's frozen part for the store (transfer.features), if already known.
    Without it the logits are kept in the store's folder, and a second call with the same network and rows reads them.
    adapt(model, store, rows): the network to use instead of the model's; called where no logits are kept yet.
    """
    if store.pixels.shape[1:3] != (model.input_size,) * 2:
        raise ValueError(f"the store has {store.pixels.shape[1:3]} pixels, the model takes {model.input_size}")
    fabric = make_fabric()

    def logits(net: nn.Module, inputs: np.ndarray) -> np.ndarray:
        with set_up(net, fabric) as ready:
            return logits_of(ready, fabric, inputs, rows, BATCH, model.input_range).numpy()

    if features is not None:
        values = logits(model.net.classifier, features)
    else:
        how = [fabric.device.type, fabric.strategy.precision.precision, adapt and adapt.__name__, BATCH]
        path = store.folder / f"logits-{digest(model, np.asarray(rows, np.int64), how)}.npy"
        if not path.is_file():
            with atomic_path(path) as partial:
                np.save(partial, logits(adapt(model, store, rows) if adapt else model.net, store.pixels))
        values = np.load(path)
    table = store.table.iloc[rows].reset_index(drop=True)
    table["true"] = table[model.info["target"]]
    logs = pd.DataFrame(log_softmax(values.astype(float), axis=1), columns=model.class_names)
    return table.join(logs.add_prefix(LOG_PROB))


def digest(model: Model, *others) -> str:
    """Short digest of a model and of whatever else decides what it predicts: arrays, or anything that JSON can hold."""
    return models.digest(model.net, [model.net.settings, *model[1:], torch.__version__], *others)[:16]


def sample(store, rows: np.ndarray, input_range: str) -> torch.Tensor:
    """Up to 256 patches spread over a store's `rows`, as a network takes them: floats [n, 3, h, w]."""
    rows = np.unique(np.asarray(rows)[np.linspace(0, len(rows) - 1, 256).astype(int)])
    return to_input(torch.from_numpy(store.pixels[rows]).permute(0, 3, 1, 2), input_range)


def save_predictions(predictions: pd.DataFrame, path: str | Path, precision: type = np.float32) -> Path:
    """Write predictions as Parquet, atomically; splitting the log-probabilities by byte makes the file smaller."""
    logs = list(predictions.filter(like=LOG_PROB))
    packing = dict(compression="zstd", compression_level=19, use_byte_stream_split=logs, store_schema=False,
                   use_dictionary=list(predictions.columns.difference(logs, sort=False)))  # fmt: skip
    finite = predictions.assign(**predictions[logs].clip(lower=np.finfo(precision).min))
    with atomic_path(path) as partial:
        finite.astype(dict.fromkeys(logs, precision)).to_parquet(partial, index=False, **packing)
    return Path(path)


def photo_predictions(path: Path) -> Path:
    """Reduce a file of predictions to one row per test photo (and seed): its patches' votes, in half precision."""
    table = pd.read_parquet(path)
    return save_predictions(vote(table[table["part"] == "test"]), path, np.float16)


def class_names(predictions: pd.DataFrame) -> list[str]:
    """The classes of a predictions table, in the model's order."""
    return [name.removeprefix(LOG_PROB) for name in predictions.columns if name.startswith(LOG_PROB)]


def log_probabilities(predictions: pd.DataFrame) -> np.ndarray:
    """[rows, classes] of a predictions table."""
    return predictions.filter(like=LOG_PROB).to_numpy(float)


def with_logits(predictions: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
    """Predictions with log-probabilities from these logits [rows, classes] in place of their own; -inf: impossible."""
    columns = zip(predictions.filter(like=LOG_PROB), log_softmax(logits, axis=1).T, strict=True)
    return predictions.assign(**dict(columns))


def predicted(predictions: pd.DataFrame) -> np.ndarray:
    """The most probable class of each row; classes without a value, which a fold leaves out, are never predicted."""
    return np.array(class_names(predictions))[_most_probable(log_probabilities(predictions))]


def _most_probable(logs: np.ndarray) -> np.ndarray:
    """Number of the most probable class of each row of log-probabilities, of which NaN is none."""
    return np.nan_to_num(logs, nan=-np.inf).argmax(1)


def vote(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row per photo (and seed, and fold): log-probabilities summed over its patches and normalised.

    `patches` counts the rows, 1 in a table that was voted before. Classes that a fold leaves out stay without a value.
    """
    columns = [LOG_PROB + name for name in class_names(predictions)]
    unit = [c for c in ("seed", "fold", "photo") if c in predictions]
    ids = [c for c in predictions.columns if c not in (*columns, *unit, "y", "x", "patches")]
    groups = predictions.groupby(unit, sort=True)
    summed = groups[columns].sum(min_count=1)
    photos = groups[ids].first().join(groups.size().rename("patches"))
    normalised = summed.sub(logsumexp(np.nan_to_num(summed, nan=-np.inf), axis=1), axis=0)
    return photos.join(normalised).reset_index()


def confusion(predictions: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """Confusion matrix: counts of (true, predicted), with one row per true class, or per value of the column `by`.

    by="brand" merges predicted classes too; other rows, such as devices, are sorted by class and named after it.
    """
    columns, named = class_names(predictions), pd.Series(predicted(predictions), predictions.index)
    if by == "brand":
        columns, named = list(dict.fromkeys(name.split("_")[0] for name in columns)), named.str.split("_").str[0]
    rows, order = predictions[by or "true"], columns
    if by not in (None, "brand"):
        prefixed = [own.startswith(true) for own, true in zip(rows, predictions["true"], strict=True)]
        rows = rows.where(prefixed, predictions["true"] + " " + rows)
        order = rows.iloc[np.lexsort([rows, predictions["true"]])].unique()
    counts = pd.crosstab(rows, named).reindex(index=order, columns=columns, fill_value=0)
    return counts.rename_axis(index="true", columns="predicted")


def biggest_confusions(predictions: pd.DataFrame) -> pd.DataFrame:
    """The three off-diagonal cells with the most rows: true, predicted, rows, share of the true class."""
    counts = confusion(predictions)
    cells = counts.stack().rename("rows").reset_index()
    cells["share"] = cells["rows"] / cells["true"].map(counts.sum(axis=1))
    cells = cells[(cells["true"] != cells["predicted"]) & (cells["rows"] > 0)]
    return cells.sort_values(["rows", "true", "predicted"], ascending=[False, True, True]).head(3)


def weighted_metrics(table: pd.DataFrame, weights: np.ndarray, unit: np.ndarray) -> dict[str, np.ndarray]:
    """Each metric for each row of `weights` [draws, units], which says how often each unit counts.

    unit: that of each row (intervals.units). NaN where no row counts; macro means leave out classes without such rows.
    """
    names, logs = class_names(table), log_probabilities(table)
    if strangers := sorted(set(table["true"]) - set(names)):
        raise ValueError(f"the model does not know these classes: {', '.join(strangers)}")
    k, true = len(names), pd.Index(names).get_indexer(table["true"])
    ones, picked = np.ones(len(table)), np.take_along_axis(logs, true[:, None], 1)
    shape = weights.shape[1], k * k
    per_unit = sparse.csr_array((ones, (unit, true * k + _most_probable(logs))), shape=shape)
    matrices = (per_unit.T @ weights.T).T.reshape(-1, k, k)
    places = 3 - (logs > picked).sum(1)  # equal classes share them, and impossible ones have none
    top3 = np.where(picked[:, 0] > -np.inf, np.clip(places / (logs == picked).sum(1).clip(1), 0, 1), 0)
    values = ones, top3, -np.maximum(picked[:, 0], LEAST)
    n, top3, loss = (weights @ np.stack([np.bincount(unit, v, shape[0]) for v in values], axis=1)).T
    hits, predicted, actual = np.einsum("nii->ni", matrices), matrices.sum(1), matrices.sum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = [np.where(predicted > 0, hits / predicted, 0.0), hits / actual, 2 * hits / (actual + predicted)]
        macro = [np.where(actual > 0, x, 0.0).sum(1) / (actual > 0).sum(1) for x in shares]
        return dict(zip(METRICS, [hits.sum(1) / n, *macro, top3 / n, loss / n], strict=True))
