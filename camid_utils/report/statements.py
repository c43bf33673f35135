"""Statements about tables of metrics: the rules of the claims, and what the notebooks' written sentences rest on.

    <table>[ <column>=<value>,...][ vs [<table> ]<column>=<value>,...]: <condition>[ in some|most|no rows]

Table: a file of the metrics folder without ".csv", or another name of `evidence.read`. The values choose its rows, as
text; `!=` excludes. `vs` finds another row, whose columns are called `other_<column>`; what is not given is as in the
first: its table, and the values of the columns that both have. The condition must hold in each row, or as its end says:

- [not] higher, lower or undecided: what the interval in `low` and `high` says; `change higher`: `change_low`, ...;
- a comparison in the language of pandas.eval, such as `low > 1 / classes`, or `6 rows`: this many rows are found.

    02_metrics experiment=cameraconvnet-patch,part=test,level=patch,metric=accuracy: value > 0.3
    04_traces experiment=design-base,group=intact vs group=traces destroyed: low > other_high
    04_robustness experiment=efficientnet-best,kind!=intact: change lower in some rows
"""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..intervals import verdict
from .evidence import Evidence, EvidenceMissing, Keys, find, read

_STATEMENT = re.compile(
    r"(?P<table>\w+)(?: (?P<keys>\w+!?=.+?))?(?: vs (?:(?P<other>\w+) )?(?P<other_keys>\w+!?=.+?))?: "
    r"(?P<condition>.+?)(?: in (?P<share>some|most|no) rows)?"
)
_VERDICT = re.compile(r"(?:(?!not )(\w+) )?(not )?(higher|lower|undecided)")


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
        rows = rows.assign(**other.iloc[0].add_prefix("other_"))
    held = _holds(rows, form["condition"])
    shares = {None: held.all(), "some": held.any(), "most": held.mean() > 0.5, "no": not held.any()}
    return rows.assign(held=held), bool(shares[form["share"]])


def _keys(text: str | None) -> Keys:
    """The values that choose rows; a value may contain commas."""
    parts = [re.fullmatch(r"(\w+)(!?=)(.*)", part) for part in re.split(r",(?=\w+!?=)", text)] if text else []
    if not all(parts):
        raise ValueError(f"{text!r} is not a list of <column>=<value>")
    return {part[1]: (part[2], part[3]) for part in parts}


def _holds(rows: pd.DataFrame, condition: str) -> np.ndarray:
    """For each row, whether a condition holds."""
    if count := re.fullmatch(r"(\d+) rows?", condition):
        return np.full(len(rows), len(rows) == int(count[1]))
    if words := _VERDICT.fullmatch(condition):
        prefix, negated, wanted = f"{words[1]}_" if words[1] else "", bool(words[2]), words[3]
        found = map(verdict, rows[f"{prefix}low"], rows[f"{prefix}high"])
        return np.array([(word == wanted) != negated for word in found])
    held = np.asarray(rows.eval(condition))
    if held.dtype != bool:
        raise ValueError(f"{condition!r} is not a comparison")
    return np.broadcast_to(held, len(rows))


def check(notebook: str | Path, metrics: str | Path) -> list[str]:
    """Statements of a notebook that the metrics do not support, each as a problem in words; empty if all agree.

    A Markdown cell names its statements in its metadata: `"rests_on": ["<statement>", ...]`.
    """
    evidence, problems = read(metrics), []
    cells = enumerate(json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"], 1)
    for number, statement in [(n, text) for n, cell in cells for text in cell["metadata"].get("rests_on", [])]:
        try:
            rows, true = evaluate(evidence, statement)
            said = "" if true else f"does not hold: true in {rows['held'].sum()} of {len(rows)} rows"
        except EvidenceMissing:
            said = f"is about a row that is not in {metrics}"
        except (LookupError, NameError, SyntaxError, TypeError, ValueError) as error:
            said = f"cannot be read: {error}"
        problems += [f"{Path(notebook).name}, cell {number}: {statement!r} {said}"] if said else []
    return problems
