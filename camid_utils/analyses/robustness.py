"""Robustness of trained networks: test photos without traces, recompressed, downscaled, sent by a messenger."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from ..evaluation import predict
from ..experiments import Experiment, predict_test, rows_of_photos
from ..intervals import formatted, photo_accuracy, verdict
from ..models import to_input
from ..patches import Store
from .transfer import adabn_batchnorm

INTACT, DESTROYED = "intact", "traces destroyed"


def best_on_validation(metrics: pd.DataFrame, names: list[str]) -> str:
    """The experiment with the highest validation accuracy per photo; among equals, the one with the lowest log loss."""
    rows = metrics[(metrics["part"] == "val") & (metrics["level"] == "photo") & metrics["experiment"].isin(names)]
    table = rows.pivot(index="experiment", columns="metric", values="value")
    return table.sort_values(["accuracy", "log loss"], ascending=[False, True]).index[0]


def predict_adapted(run: Experiment, store: Store, batch_size: int = 64) -> pd.DataFrame:
    """As `experiments.predict_test`, with batch normalisation statistics of the same photos (AdaBN, no labels)."""
    tables, tests = [], run.test()
    for model in run.models:
        rows = rows_of_photos(tests[tests["seed"] == model.info["seed"]], store)
        device = next(model.net.parameters()).device
        chunks = np.array_split(rows, -(-len(rows) // batch_size))  # of about one size: each counts alike
        pixels = (torch.from_numpy(store.pixels[chunk]).to(device).permute(0, 3, 1, 2) for chunk in chunks)
        net = adabn_batchnorm(model.net, (to_input(batch, model.input_range) for batch in pixels))
        tables.append(predict(model._replace(net=net), store, rows).assign(part="test", seed=model.info["seed"]))
    return pd.concat(tables, ignore_index=True)


def without_traces(runs: dict[str, Experiment], stores: Callable[[str, str], Store]) -> pd.DataFrame:
    """Accuracy per photo on intact test photos and on the same photos without traces: label, group, experiment, ...

    runs: label -> experiment; stores(label, degradation) gives the test photos as that experiment sees them.
    """
    rows = []
    for label, run in runs.items():
        seen = {
            name: predict_test(run, stores(label, how)) for name, how in ((INTACT, ""), (DESTROYED, "traces 0.5 90"))
        }
        rows += [photo_accuracy(own, seen[INTACT], label=label, group=name, experiment=run.name)
                 for name, own in seen.items()]  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def robustness(
    runs: dict[str, Experiment], stores: Callable[[str], Store], conditions: list[tuple[str, str, str]]
) -> pd.DataFrame:
    """Accuracy per photo of each run after each degradation, with its own statistics and with adapted ones.

    conditions: (kind, setting, degradation); stores(degradation) gives the degraded test photos. The change columns
    compare with the first run, not adapted, under the same degradation.
    """
    rows = []
    for kind, setting, how in conditions:
        store = stores(how)
        seen = {}
        for name, run in runs.items():
            seen[name, False] = predict_test(run, store)
            seen[name, True] = predict_adapted(run, store)
        reference = next(iter(seen.values()))
        for (name, adapted), own in seen.items():
            model = f"{name}, adapted" if adapted else name
            row = photo_accuracy(own, reference, model=model, kind=kind, setting=setting)
            rows.append(row.assign(experiment=runs[name].name, condition=how or INTACT, adapted=adapted))
    return pd.concat(rows, ignore_index=True)


def change_table(rows: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    """Rows of `without_traces` or `robustness` as text: columns of `index`, accuracy, change, verdict."""
    table = rows[index].assign(accuracy=formatted(rows))
    table["change, points (95 %)"] = formatted(rows, "points", "change", "change_")
    ends = zip(rows["change_low"], rows["change_high"], strict=True)
    return table.assign(verdict=[verdict(low, high) for low, high in ends])
