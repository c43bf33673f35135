"""Evaluation: predictions (one row per patch), votes (one row per photo), metrics and confusion matrices."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from scipy.special import log_softmax, logsumexp
from sklearn.metrics import roc_curve
from torch import nn

from .batches import layout, logits_of, make_fabric
from .files import atomic_path
from .models import Model, to_input

LOG_PROB = "log_prob:"  # prefix of the columns that hold a class's log-probability
METRICS = ("accuracy", "macro precision", "macro recall", "macro F1", "top-3 accuracy", "log loss")


def predict(
    model: Model,
    store,
    rows: np.ndarray,
    *,
    features: np.ndarray | None = None,
    adapt: Callable | None = None,
    batch_size: int = 64,
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
        net = fabric.setup_module(net.to(memory_format=layout(fabric.device)))
        return logits_of(net, fabric, inputs, rows, batch_size, model.input_range).numpy()

    if features is not None:
        values = logits(model.net.classifier, features)
    else:
        how = [fabric.device.type, fabric.strategy.precision.precision, adapt and adapt.__name__, batch_size]
        path = store.folder / f"logits-{digest(model, np.asarray(rows, np.int64), how)}.npy"
        if not path.is_file():
            net = fabric.to_device(model.net.to(memory_format=layout(fabric.device)))
            net = adapt(model, store, rows) if adapt else net
            with atomic_path(path) as partial:
                np.save(partial, logits(net, store.pixels))
        values = np.load(path)
    table = store.table.iloc[rows].reset_index(drop=True)
    table["true"] = table[model.info["target"]]
    columns = [LOG_PROB + name for name in model.class_names]
    return table.join(pd.DataFrame(log_softmax(values.astype(float), axis=1), columns=columns))


def digest(model: Model, *others) -> str:
    """Short digest of a model and of whatever else decides what it predicts: arrays, or anything that JSON can hold."""
    found = hashlib.sha256(json.dumps([model.net.settings, *model[1:], torch.__version__]).encode())
    for tensor in model.net.state_dict().values():
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for other in others:
        found.update(other.tobytes() if isinstance(other, np.ndarray) else json.dumps(other).encode())
    return found.hexdigest()[:16]


def sample(store, rows: np.ndarray, input_range: str, count: int = 256) -> torch.Tensor:
    """Up to `count` patches spread over a store's `rows`, as a network takes them: floats [count, 3, h, w]."""
    rows = np.unique(np.asarray(rows)[np.linspace(0, len(rows) - 1, count).astype(int)])
    return to_input(torch.from_numpy(store.pixels[rows]).permute(0, 3, 1, 2), input_range)


def save_predictions(predictions: pd.DataFrame, path: str | Path) -> Path:
    """Write predictions as Parquet, atomically; splitting the log-probabilities by byte makes the file smaller."""
    logs = [name for name in predictions.columns if name.startswith(LOG_PROB)]
    others = [name for name in predictions.columns if name not in logs]
    packing = dict(compression="zstd", compression_level=19, use_byte_stream_split=logs, use_dictionary=others)
    with atomic_path(path) as partial:
        predictions.astype(dict.fromkeys(logs, np.float32)).to_parquet(partial, index=False, **packing)
    return Path(path)


def class_names(predictions: pd.DataFrame) -> list[str]:
    """The classes of a predictions table, in the model's order."""
    return [name.removeprefix(LOG_PROB) for name in predictions.columns if name.startswith(LOG_PROB)]


def log_probabilities(predictions: pd.DataFrame) -> np.ndarray:
    """[rows, classes] of a predictions table."""
    return predictions.filter(like=LOG_PROB).to_numpy(float)


def vote(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row per photo (and seed): log-probabilities summed over its patches and normalised; `patches` counts them."""
    columns = [LOG_PROB + name for name in class_names(predictions)]
    unit = [c for c in ("seed", "photo") if c in predictions]
    ids = [c for c in predictions.columns if c not in (*columns, *unit, "y", "x")]
    groups = predictions.groupby(unit, sort=True)
    summed = groups[columns].sum()
    photos = groups[ids].first().join(groups.size().rename("patches"))
    normalised = summed.sub(logsumexp(summed.to_numpy(), axis=1), axis=0)
    return photos.join(normalised).reset_index()


def roc_points(positive: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    """Receiver operating characteristic of a score: columns false_positive_rate, true_positive_rate, threshold."""
    columns = ["false_positive_rate", "true_positive_rate", "threshold"]
    return pd.DataFrame(dict(zip(columns, roc_curve(positive, score), strict=True)))


def confusion(predictions: pd.DataFrame, by: str | None = None, normalise: bool = False) -> pd.DataFrame:
    """Confusion matrix: counts of (true, predicted), with one row per true class, or per value of the column `by`.

    by="brand" merges the predicted classes of a brand too. Other rows, such as devices, are sorted by their class, and
    their names begin with it. normalise: each row sums to 1.
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


def biggest_confusions(predictions: pd.DataFrame, count: int = 3) -> pd.DataFrame:
    """The off-diagonal cells with the most rows: true, predicted, rows, share of the true class."""
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


def weighted_metrics(table: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
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
