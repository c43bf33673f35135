"""Robustness of trained networks: test photos without traces, recompressed, downscaled, sent by a messenger."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from ..experiments import Experiment, predict_test, rows_of_photos
from ..intervals import formatted, photo_accuracy, verdict
from ..models import to_input
from ..patches import Store
from .transfer import adabn_batchnorm

INTACT = "intact"
CONDITIONS = {INTACT: "", "traces destroyed": "traces 0.5 90"}


def best_on_validation(metrics: pd.DataFrame, names: list[str]) -> str:
    """The experiment with the highest validation accuracy per photo; among equals, the one with the lowest log loss."""
    rows = metrics[(metrics["part"] == "val") & (metrics["level"] == "photo") & metrics["experiment"].isin(names)]
    table = rows.pivot(index="experiment", columns="metric", values="value")
    return table.sort_values(["accuracy", "log loss"], ascending=[False, True]).index[0]


def predict_adapted(run: Experiment, store: Store, batch_size: int = 64) -> pd.DataFrame:
    """As `experiments.predict_test`, with batch normalisation statistics of the same photos (AdaBN, no labels)."""
    tests, adapted = run.test(), []
    for model in run.models:
        rows = rows_of_photos(tests[tests["seed"] == model.info["seed"]], store)
        device = next(model.net.parameters()).device
        chunks = np.array_split(rows, -(-len(rows) // batch_size))  # of about one size: each counts alike
        pixels = (torch.from_numpy(store.pixels[chunk]).to(device).permute(0, 3, 1, 2) for chunk in chunks)
        inputs = (to_input(batch, model.input_range) for batch in pixels)
        adapted.append(model._replace(net=adabn_batchnorm(model.net, inputs)))
    return predict_test(run._replace(models=adapted), store)


def without_traces(runs: dict[str, Experiment], stores: Callable[[str, str], Store]) -> pd.DataFrame:
    """Accuracy per photo on intact test photos and on the same photos without traces: label, group, experiment, ...

    runs: label -> experiment; stores(label, degradation) gives the test photos as that experiment sees them.
    """
    rows = []
    for label, run in runs.items():
        seen = {group: predict_test(run, stores(label, how)) for group, how in CONDITIONS.items()}
        for group, own in seen.items():
            rows.append(photo_accuracy(own, seen[INTACT], label=label, group=group, experiment=run.name))
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
        store, seen = stores(how), {}
        for name, run in runs.items():
            seen[name, False], seen[name, True] = predict_test(run, store), predict_adapted(run, store)
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
    return table.assign(verdict=list(map(verdict, rows["change_low"], rows["change_high"])))
