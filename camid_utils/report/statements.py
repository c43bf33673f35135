"""Statements about tables of metrics: the rules of the claims, and what the notebooks' written sentences rest on.

    <table>[ <column>=<value>,...][ vs [<table> ]<column>=<value>,...]: <condition>[ in some|most|no rows]

Table: a file of the metrics folder without ".csv", or another name of `read`. The values choose its rows, as text; `!=`
excludes. `vs` finds another row, whose columns are called `other_<column>`; what is not given is as in the first: its
table, and the values of the columns that both have. The condition must hold in each row, or as its end says:

- higher, lower or undecided: what the column `verdict` says, or the interval in `low` and `high` where there is none;
- a comparison in the language of pandas.eval, such as `low > 1 / classes`, or `6 rows`: this many rows are found.

    02_metrics experiment=cameraconvnet-patch,part=test,level=patch,metric=accuracy: value > 0.3
    04_traces experiment=design-base,group=intact vs group=traces destroyed: low > other_high
    04_robustness experiment=efficientnet-best,kind!=intact: change_high < 0 in some rows

A Markdown cell of a notebook names what its sentences rest on in its metadata, `"rests_on": ["<statement>", ...]`,
which a test checks. These are about the published tables of `full` unless they begin with another profile and a slash:

    photographs/03_contrasts a=transfer-native-strict,b=transfer-random-strict: undecided
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import published
from ..intervals import UNDECIDED, verdict
from ..models import CameraConvNet
from ..project import read_record

Evidence = dict[str, pd.DataFrame]
Keys = dict[str, tuple[str, str]]  # column: ("=" or "!=", value as text)

STANDS_FOR = {"public photographs by cameras": "Dresden", "public photographs by phones": "FloreView"}
_STATEMENT = re.compile(
    r"(?P<table>\w+)(?: (?P<keys>\w+!?=.+?))?(?: vs (?:(?P<other>\w+) )?(?P<other_keys>\w+!?=.+?))?: "
    r"(?P<condition>.+?)(?: in (?P<share>some|most|no) rows)?"
)


class EvidenceMissing(LookupError):
    """No such table or row; its text is the number of the notebook that writes it."""


def read(folder: str | Path) -> Evidence:
    """Tables by name: `<name>.csv` of the folder, those of `published.TABLES`, and five that are made here.

    01_datasets: datasets.json, one row per data set; its `name` is that of the authors' data set in whose place it is.
    network: parameters of Table 1 with 27 classes, counted and published. phones: the authors' folders, with their
    brand. page: those of EfficientNet, in alphabetical order (as in training), and what the authors' page shows for
    each, name and brand; it lists them in natural order, "iPhone8Plus" before "iPhone12". size: of the run's networks,
    as run.json has it; None where it is not set, as the notebooks' own values are smaller than the paper's.
    Tables without the columns `dataset` and `plateau` take those of their notebook's metrics, the latter by experiment
    or run. Tables of epochs get a column `fall`: by how much the validation accuracy of this run and seed falls from
    one epoch to the next, at most.
    """
    tables = {path.stem: pd.read_csv(path) for path in sorted(Path(folder).glob("[!.]*.csv"))}
    for name, table in tables.items():
        metrics = tables.get(f"{name[:2]}_metrics", pd.DataFrame())
        runs = table.get("experiment", table.get("run"))
        if "dataset" not in table and len(metrics):
            table["dataset"] = metrics["dataset"].iloc[0]
        if "plateau" in metrics and "plateau" not in table and runs is not None:
            table["plateau"] = runs.map(metrics.groupby("experiment")["plateau"].all()).ne(False)
        if {"run", "seed", "epoch", "val_accuracy"} <= set(table):
            each = [table["run"], table["seed"]]
            table["fall"] = (-table.groupby(each)["val_accuracy"].diff()).groupby(each).transform("max")
    if (record := Path(folder) / "datasets.json").is_file():
        data = pd.read_json(record, orient="index").rename_axis("dataset").reset_index()
        tables["01_datasets"] = data.assign(name=data["dataset"].str.removeprefix("simulated ").replace(STANDS_FOR))
    theirs = {name: published.read(name) for name in published.TABLES}
    theirs["others"]["figure"] = pd.to_numeric(theirs["others"]["figure"], errors="coerce")  # some are "about 0.93"
    with torch.device("meta"):  # shapes without numbers
        parameters = sum(p.numel() for p in CameraConvNet(27).parameters())
    network = pd.DataFrame({"parameters": [parameters], "published": published.CONVNET_PARAMETERS})
    phones = theirs["floreview_models"][["camera_model"]].sort_values("camera_model", ignore_index=True)
    phones["brand"] = phones["camera_model"].str.split("_").str[0]
    page = phones.query("camera_model != 'Apple_iPhone14pro'").reset_index(drop=True)
    natural = page.sort_values("camera_model", key=lambda names: names.map(_natural), ignore_index=True)
    page = page.join(natural.set_axis(["on_page", "brand_on_page"], axis=1))
    given = read_record(Path(folder).parent).get("parameters", {})
    size = pd.DataFrame([{name: given.get(name) for name in ("convnet_width", "efficientnet_backbone")}])
    return tables | theirs | {"network": network, "phones": phones, "page": page, "size": size}


def _natural(name: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def find(evidence: Evidence, table: str, keys: Keys) -> pd.DataFrame:
    """The rows of a table with these values; EvidenceMissing where there are none."""
    rows = evidence.get(table, pd.DataFrame())
    for column, (sign, value) in keys.items():
        if rows.empty:
            break
        if column not in rows:
            raise ValueError(f"the table {table} has no column {column!r}; it has {', '.join(rows)}")
        rows = rows[(rows[column].astype(str) == value) == (sign == "=")]
    if rows.empty:
        raise EvidenceMissing(table[:2])
    return rows


def evaluate(evidence: Evidence, statement: str) -> tuple[pd.DataFrame, bool]:
    """The rows that a statement is about, with a column `held` (where its condition holds), and whether it is true.

    EvidenceMissing where no row is found; ValueError or NameError where the statement cannot be read.
    """
    form = _STATEMENT.fullmatch(statement)
    if not form:
        raise ValueError("it does not have the form <table> <column>=<value>,...: <condition>")
    keys = _keys(form["keys"])
    rows = find(evidence, form["table"], keys)
    if form["other_keys"]:
        table = form["other"] or form["table"]
        shared = {column: key for column, key in keys.items() if column in evidence.get(table, ())}
        other = find(evidence, table, shared | _keys(form["other_keys"]))
        if len(other) > 1:
            raise ValueError(f"{len(other)} rows of {table} are as its `vs` says: name one")
        rows = rows.assign(**other.iloc[0].add_prefix("other_"))
    held = _holds(rows, form["condition"])
    shares = {None: held.all(), "some": held.any(), "most": held.mean() > 0.5, "no": not held.any()}
    return rows.assign(held=held), bool(shares[form["share"]])


def _keys(text: str | None) -> Keys:
    """The values that choose rows; a value may contain commas."""
    return {name: (sign, value) for name, sign, value in re.findall(r"(\w+)(!?=)(.*?)(?:,(?=\w+!?=)|$)", text or "")}


def _holds(rows: pd.DataFrame, condition: str) -> np.ndarray:
    """For each row, whether a condition holds."""
    if count := re.fullmatch(r"(\d+) rows?", condition):
        return np.full(len(rows), len(rows) == int(count[1]))
    if condition in ("higher", "lower", UNDECIDED):
        found = rows["verdict"] if "verdict" in rows else map(verdict, rows["low"], rows["high"])
        return np.array([word == condition for word in found])
    held = np.asarray(rows.eval(condition))
    if held.dtype != bool:
        raise ValueError(f"{condition!r} is not a comparison")
    return np.broadcast_to(held, len(rows))
