"""The evidence of the ledger: what the results folder and the published tables hold, fetched by name, and in words.

`read` gives named tables; `table`, `figure` and `contrast` take one thing out or say which notebook makes it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import torch

from . import published
from .evaluation import METRIC_COLUMNS
from .models import CameraConvNet
from .report import CONTRASTS

NOTEBOOKS = {"datasets": "01", "cameraconvnet": "02", "equal": "02", "transfer": "03", "design": "04",
             "efficientnet": "04", "devices": "04b"}  # fmt: skip  # first word of an experiment: who runs it
METRICS = ("02_cameraconvnet_dresden", "03_transfer_to_floreview", "04_efficientnet_floreview",
           "04b_individual_instances")  # fmt: skip
SMALL = ("02_two_epochs", "02_rates", "03_epochs", "04_epochs", "04_traces", "04_robustness", "04b_fingerprints")
PUBLISHED = ("table2", "dresden_log", "dresden_models", "floreview_models", "others")
CONTRAST_COLUMNS = ["a", "b", "dataset", "level", "difference", "low", "high", "photos"]  # those that are used here

Evidence = dict[str, pd.DataFrame]


class EvidenceMissing(LookupError):
    """A figure that no metrics file holds; its text is the number of the notebook that makes it."""


def read(folder: str | Path) -> Evidence:
    """All that a results folder's metrics files say, and what was published; a file that is not there is no error.

    Keys: metrics, contrasts (empty where there are none), those of SMALL and PUBLISHED, datasets (index: name of the
    data set), network (parameters of the layers of Table 1 at 27 classes, counted, and published).
    """
    folder = Path(folder)
    metrics = _joined([folder / f"{name}.csv" for name in METRICS], METRIC_COLUMNS)
    contrasts = _joined(sorted(folder.glob(CONTRASTS)), CONTRAST_COLUMNS)
    found = {name: pd.read_csv(folder / f"{name}.csv") for name in SMALL if (folder / f"{name}.csv").is_file()}
    if (folder / "datasets.json").is_file():
        record = json.loads((folder / "datasets.json").read_text(encoding="utf-8"))
        found["datasets"] = pd.DataFrame.from_dict(record, orient="index")
    with torch.device("meta"):  # shapes without numbers
        parameters = sum(p.numel() for p in CameraConvNet(27).parameters())
    network = pd.DataFrame({"parameters": [parameters], "published": [published.CONVNET_PARAMETERS]})
    theirs = {name: published.read(name) for name in PUBLISHED}
    return {"metrics": metrics, "contrasts": contrasts, "network": network, **found, **theirs}


def _joined(paths: list[Path], columns: list[str]) -> pd.DataFrame:
    """The tables of those files that exist, one below the other; no rows where none does."""
    tables = [pd.read_csv(path) for path in paths if path.is_file()]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def table(evidence: Evidence, name: str) -> pd.DataFrame:
    """One table of the evidence; EvidenceMissing where it is not there or empty."""
    if name not in evidence or evidence[name].empty:
        raise EvidenceMissing(NOTEBOOKS.get(name, name.split("_")[0]))
    return evidence[name]


def figure(
    evidence: Evidence, experiment: str, level: str = "patch", part: str = "test", metric: str = "accuracy"
) -> pd.Series:
    """The metrics row of one figure of ours."""
    wanted = {"experiment": experiment, "level": level, "part": part, "metric": metric}
    return _row(evidence["metrics"], wanted, NOTEBOOKS[experiment.split("-")[0]])


def contrast(evidence: Evidence, a: str, b: str, level: str = "patch") -> pd.Series:
    """The contrasts row of the test accuracy of `a` less that of `b`, whichever way round it was written."""
    rows, notebook = evidence["contrasts"], max(NOTEBOOKS[name.split("-")[0]] for name in (a, b))
    try:
        return _row(rows, {"a": a, "b": b, "level": level}, notebook)
    except EvidenceMissing:
        row = _row(rows, {"a": b, "b": a, "level": level}, notebook)
    return pd.Series(
        {**row, "a": a, "b": b, "difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
    )


def _row(rows: pd.DataFrame, wanted: dict[str, str], notebook: str) -> pd.Series:
    """The first row with these values that has a figure."""
    if not rows.empty:
        rows = rows[(rows[list(wanted)] == pd.Series(wanted)).all(axis=1)].dropna(subset=["low", "high"])
    if rows.empty:
        raise EvidenceMissing(notebook)
    return rows.iloc[0]


def simulated(dataset: str) -> bool:
    """Whether a data set's name says that its photographs are simulated."""
    return "simulated" in dataset


def percent(row: pd.Series) -> str:
    """An accuracy with its interval."""
    return "{:.1f} % ({:.1f} to {:.1f})".format(*(100 * row[k] for k in ("value", "low", "high")))


def in_figures(row: pd.Series) -> str:
    """A metrics row in words: figure, interval, part, photos, data."""
    said = (
        percent(row) if row["metric"] == "accuracy" else "{value:.2f} ({low:.2f} to {high:.2f}) log loss".format(**row)
    )
    unit = {"patch": "patches", "photo": "photos"}[row["level"]]
    part = {"val": "validation"}.get(row["part"], row["part"])
    return f"{said} of {part} {unit}, {row['photos']} photos, {row['classes']} classes, {row['dataset']}"


def in_points(row: pd.Series) -> str:
    """A contrasts row in words: what is compared, difference, interval, photos, data."""
    points = "{:+.1f} points ({:+.1f} to {:+.1f})".format(*(100 * row[k] for k in ("difference", "low", "high")))
    zero = "" if row["low"] > 0 or row["high"] < 0 else ", interval holds zero"
    return f"{row['a']} less {row['b']}: {points}{zero}, {row['photos']} photos, {row['dataset']}"
