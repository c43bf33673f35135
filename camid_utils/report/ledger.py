"""The ledger: each claim of the paper with our figures in words, a verdict and a link; the summary figure's rows.

A claim's rule is in published/claims.csv, column `rule`: statements (see `statements`), separated by "; ". All must be
true, or at least one if "or " precedes one. A claim is reproduced only where an interval shows it: "better" needs one
above zero, "no different" one within 5 points of it. Column `testable`: whether these photographs can test the claim,
in terms of its rows and `simulated`. Column `ours`: a template, if figures with intervals do not say enough.
"""

import html
from types import SimpleNamespace

import pandas as pd
from pandas.io.formats.style import Styler

from .. import published
from ..experiments import labels, listed
from ..intervals import formatted
from .evidence import Evidence, EvidenceMissing
from .statements import evaluate

REPRODUCED, DIRECTION, NOT = "reproduced", "reproduced in direction", "not reproduced"
CANNOT, MISSING = "cannot be tested without the real data", "evidence missing: run notebook"
COLOURS = {REPRODUCED: "#cfe8dc", DIRECTION: "#e3f0f4", NOT: "#f6dcc8", CANNOT: "#eceff1", MISSING: "#fff3bf"}
COLUMNS = ["id", "section", "claim", "paper", "code_or_log", "ours", "verdict", "link"]


def ledger(evidence: Evidence) -> pd.DataFrame:
    """One row per claim (columns: COLUMNS), judged by its rule on what `evidence.read` found."""
    table = published.read("claims").fillna("")
    table[["ours", "verdict"]] = [judge(evidence, claim) for claim in table.to_dict("records")]
    table["link"] = table["notebook"] + ".ipynb#" + table["heading"].str.replace(" ", "-")
    return table[COLUMNS]


def judge(evidence: Evidence, claim: dict[str, str]) -> tuple[str, str]:
    """Our figures in words and the verdict on a claim, a row of claims.csv; MISSING names the notebook to run."""
    statements = [text.removeprefix("or ") for text in claim["rule"].split("; ")]
    try:
        tables, true = zip(*(evaluate(evidence, statement) for statement in statements), strict=True)
    except EvidenceMissing as missing:
        return "", f"{MISSING} {missing}"
    holds = any(true) if "; or " in claim["rule"] else all(true)
    template = claim["ours"] or "{figures}"
    figures = "; ".join(in_words(rows.iloc[0]) for rows in tables) if "{figures}" in template else ""
    words = template.format(*map(_facts, tables), figures=figures)
    if not claim["rule"][0].isdigit():  # tables of notebooks begin with a number: this one was published
        return words, REPRODUCED if holds else NOT
    rows, dataset = tables[0], tables[0]["dataset"].iloc[0]
    simulated = "simulated" in dataset
    verdict = NOT if not holds else DIRECTION if simulated else REPRODUCED
    if claim["testable"] and not rows.assign(simulated=simulated).eval(claim["testable"]).all():
        verdict = CANNOT
    return words if figures else f"{words}, {dataset}", verdict


def _facts(rows: pd.DataFrame) -> SimpleNamespace:
    """What a template in column `ours` may quote of a statement's rows."""
    counts = {"rows": len(rows), "held": rows["held"].sum(), "different": rows.nunique()}
    return SimpleNamespace(row=rows.iloc[0], total=rows.sum(numeric_only=True), **counts)


def in_words(row: pd.Series) -> str:
    """A row with an interval in words: what was measured, the figure, photos and data set."""
    names, table = labels(), row.to_frame().T
    if "difference" in row:
        figure = f"{names[row['a']]} minus {names[row['b']]}: {formatted(table, 'points', 'difference')[0]} points"
    elif "part" in row:
        what = f"{names[row['experiment']]}, {row['part']} {row['metric']} per {row['level']}"
        figure = f"{what}: {formatted(table)[0]}, {row['classes']} classes"
    elif "change" in row:
        change = formatted(table, "points", "change", "change_")[0]
        figure = f"{names[row['experiment']]}, {row['group']}: {formatted(table)[0]}, change {change} points"
    else:
        figure = f"{row['answer']}, {row['metric']}: {formatted(table, '')[0]}"
    return f"{figure}, {row.get('photos', row.get('n'))} photos, {row['dataset']}"


def kinds(table: pd.DataFrame) -> pd.Series:
    """The verdicts of a ledger, without the notebook that missing evidence names."""
    return table["verdict"].where(~table["verdict"].str.startswith(MISSING), MISSING)


def counts(table: pd.DataFrame) -> str:
    """How often each verdict occurs, as a sentence."""
    found = kinds(table).value_counts()
    parts = [f"{found[kind]} {kind.partition(':')[0]}" for kind in COLOURS if kind in found]
    return f"Of {len(table)} claims: {', '.join(parts)}."


def styled(table: pd.DataFrame) -> Styler:
    """The ledger for a page: text wrapped, each verdict on its colour and linked to its evidence."""
    shown = table.map(html.escape)
    shown["verdict"] = [f'<a href="{row.link}">{row.verdict}</a>' for row in shown.itertuples()]
    shown = shown.drop(columns=["id", "link"]).rename(columns={"code_or_log": "its code or log", "section": "where"})
    look = {"text-align": "left", "vertical-align": "top", "white-space": "normal", "overflow-wrap": "break-word",
            "padding": "4px 8px", "border-bottom": "1px solid #d5d9dd"}  # fmt: skip
    colours = [f"background-color: {COLOURS[kind]}; color: #1a1a1a" for kind in kinds(table)]
    page = shown.style.hide(axis="index").set_properties(**look).apply(lambda _: colours, subset=["verdict"])
    return page.set_table_styles([{"selector": "th", "props": "text-align: left; padding: 4px 8px"}])


def summary_rows(metrics: pd.DataFrame, contrasts: pd.DataFrame) -> pd.DataFrame:
    """What the summary figure shows: each change and control of experiments.csv against its first baseline.

    Columns: those of contrasts, panel (0 to 2), role ("change" or "control"), label, baseline_label, baseline_accuracy.
    Without a contrast there is no row.
    """
    ids = listed()
    places = ids["panel"].str.extract(r"(?P<panel>\d) (?P<role>change|control)").join(ids[["label", "level"]]).dropna()
    pairs = places.assign(a=places.index, b=ids["baseline"].str.split().str[0], panel=places["panel"].astype(int) - 1)
    rows = pairs.merge(contrasts, on=["a", "b", "level"])
    tested = metrics[(metrics["metric"] == "accuracy") & (metrics["part"] == "test")]
    accuracies = tested.set_index(["experiment", "level"])["value"]
    rows["baseline_label"] = rows["b"].map(ids["label"]) + " (" + rows["protocol_b"] + "), per " + rows["level"]
    rows["baseline_accuracy"] = [accuracies[pair] for pair in zip(rows["b"], rows["level"], strict=True)]
    return rows
