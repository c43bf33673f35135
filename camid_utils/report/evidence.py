"""The evidence: the tables of a folder of metrics and the published ones, by name, and rows found in them."""

import re
from pathlib import Path

import pandas as pd
import torch

from .. import published
from ..models import CameraConvNet

Evidence = dict[str, pd.DataFrame]
Keys = dict[str, tuple[str, str]]  # column: ("=" or "!=", value as text)


class EvidenceMissing(LookupError):
    """No such table or row; its text is the number of the notebook that writes it."""


def read(folder: str | Path) -> Evidence:
    """Tables by name: `<name>.csv` of the folder, those of `published.TABLES`, and three that are made here.

    01_datasets: datasets.json, one row per data set, its `name` without "simulated". network: parameters of Table 1
    with 27 classes, counted and published. phones: in alphabetical order (as in training), their brand, and the name
    that the authors' page shows for each; it lists them in natural order, "iPhone8Plus" before "iPhone12".
    A table without a column `dataset` takes that of its notebook's metrics. Tables of epochs get a column `fall`: how
    much lower the validation accuracy is than one epoch before.
    """
    tables = {path.stem: pd.read_csv(path) for path in sorted(Path(folder).glob("*.csv"))}
    for name, table in tables.items():
        metrics = tables.get(f"{name[:2]}_metrics")
        if "dataset" not in table and metrics is not None:
            table["dataset"] = metrics["dataset"].iloc[0]
        if {"epoch", "val_accuracy"} <= set(table):
            table["fall"] = -table["val_accuracy"].diff().where(table["epoch"].diff() == 1, 0.0)
    if (record := Path(folder) / "datasets.json").is_file():
        data = pd.read_json(record, orient="index").rename_axis("dataset").reset_index()
        tables["01_datasets"] = data.assign(name=data["dataset"].str.removeprefix("simulated "))
    theirs = {name: published.read(name) for name in published.TABLES}
    theirs["others"]["figure"] = pd.to_numeric(theirs["others"]["figure"], errors="coerce")  # some are "about 0.93"
    with torch.device("meta"):  # shapes without numbers
        parameters = sum(p.numel() for p in CameraConvNet(27).parameters())
    network = pd.DataFrame({"parameters": [parameters], "published": published.CONVNET_PARAMETERS})
    names = sorted(theirs["floreview_models"]["camera_model"])
    natural = sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])
    phones = {"camera_model": names, "on_page": natural, "brand": [name.split("_")[0] for name in names]}
    return tables | theirs | {"network": network, "phones": pd.DataFrame(phones)}


def find(evidence: Evidence, table: str, keys: Keys) -> pd.DataFrame:
    """The rows of a table with these values; EvidenceMissing where there are none."""
    rows = evidence.get(table, pd.DataFrame())
    for column, (sign, value) in keys.items() if len(rows) else ():
        if column not in rows:
            raise ValueError(f"the table {table} has no column {column!r}; it has {', '.join(rows)}")
        rows = rows[(rows[column].astype(str) == value) == (sign == "=")]
    if rows.empty:
        raise EvidenceMissing(table[:2])
    return rows
