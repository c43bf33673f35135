"""Robustness of trained networks: test photos without traces, recompressed, downscaled, sent by a messenger."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pandas as pd
import torch
from torch import nn

from .. import intervals
from ..batches import batches, best_device
from ..experiments import Experiment, predict_test
from ..intervals import formatted, photo_accuracy
from ..models import Model, to_input
from ..patches import Store

INTACT = "intact"
CONDITIONS = {INTACT: "scale 1", "traces destroyed": "traces 0.5 90", "coarse content only": "traces 0.125 95"}


def best_on_validation(metrics: pd.DataFrame, names: list[str]) -> str:
    """The experiment with the highest validation accuracy per photo; in a tie, the one with the lowest log loss."""
    rows = metrics[(metrics["part"] == "val") & (metrics["level"] == "photo") & metrics["experiment"].isin(names)]
    table = rows.pivot(index="experiment", columns="metric", values="value")
    return table.sort_values(["accuracy", "log loss"], ascending=[False, True]).index[0]


@torch.no_grad()
def adapted_network(model: Model, store: Store, rows: np.ndarray) -> nn.Module:
    """A copy of the network, batch normalised by the statistics of the store's `rows` (AdaBN, Li et al. 2016)."""
    net = deepcopy(model.net).to(best_device()).eval()
    layers = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not layers:
        raise ValueError(f"{type(net).__name__} has no batch normalisation: use transfer.adabn for a CameraConvNet")
    for layer in layers:
        layer.train().reset_running_stats()
        layer.momentum = None  # the plain average over all batches, not a moving one
    chunks = np.array_split(rows, -(-len(rows) // 64))  # of about equal size, as each counts equally
    for _, batch in batches(store.pixels, chunks, next(net.parameters()).device):
        net(to_input(batch, model.input_range))
    return net.eval()


def without_traces(runs: dict[str, Experiment], stores: Callable[[str, str], Store]) -> pd.DataFrame:
    """Accuracy per photo of labelled runs under CONDITIONS, on stores(label, degradation); change: from INTACT."""
    rows = []
    for label, run in runs.items():
        seen = {group: predict_test(run, stores(label, how)) for group, how in CONDITIONS.items()}
        for group, own in seen.items():
            row = photo_accuracy(own, seen[INTACT], label=label, group=group, experiment=run.name)
            rows.append(row.assign(plateau=run.plateau))
    return _judged(rows, "group", INTACT)


def robustness(runs: dict[str, Experiment], stores: Callable, conditions: list[tuple]) -> pd.DataFrame:
    """Accuracy per photo of each run, as trained and adapted, on the test photos of stores(degradation).

    conditions: (kind, setting, degradation). change: minus the first run, not adapted, under the same degradation.
    """
    rows, plateau = [], all(run.plateau for run in runs.values())
    for kind, setting, how in conditions:
        store, seen = stores(how), {}
        for name, run in runs.items():
            seen[name, False], seen[name, True] = predict_test(run, store), predict_test(run, store, adapted_network)
        reference = next(iter(seen.values()))
        for (name, adapted), own in seen.items():
            model = f"{name}, adapted" if adapted else name
            row = photo_accuracy(own, reference, model=model, kind=kind, setting=setting, condition=how or INTACT)
            rows.append(row.assign(experiment=runs[name].name, adapted=adapted, plateau=plateau))
    return _judged(rows, "model", next(iter(runs)))


def _judged(rows: list[pd.DataFrame], column: str, reference: str) -> pd.DataFrame:
    """The rows with the verdict on their changes, judged together; where `column` is `reference` there is none."""
    table = pd.concat(rows, ignore_index=True)
    compared = table[table[column] != reference].assign(difference=table["change"])
    return table.join(intervals.judged(compared)[["p_holm", "verdict"]]).fillna({"verdict": ""})


def change_table(rows: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    """Rows of `without_traces` or `robustness` as text: columns of `index`, accuracy, change, verdict."""
    table = rows[index].assign(accuracy=formatted(rows))
    table["change, points (95 %)"] = formatted(rows, "points", "change", "change_")
    return table.assign(verdict=rows["verdict"])
