"""The ledger: each claim of the paper beside our figures, with a verdict; and what each correction changes."""

from __future__ import annotations

import html

import pandas as pd
from pandas.io.formats.style import Styler

from . import published
from .claims import CANNOT, DIRECTION, NOT, REPRODUCED, RULES
from .evidence import Evidence, EvidenceMissing, contrast, figure
from .report import TABLE2

MISSING = "evidence missing: run notebook"
VERDICTS = [REPRODUCED, DIRECTION, NOT, CANNOT, MISSING]
COLOURS = {REPRODUCED: "#cfe8dc", DIRECTION: "#e3f0f4", NOT: "#f6dcc8", CANNOT: "#eceff1", MISSING: "#fff3bf"}
COLUMNS = ["id", "section", "claim", "paper", "code_or_log", "ours", "verdict", "link"]

# rows of the summary under each row of Table 2: (kind, label, experiment) or (kind, label, a, b): what changes, and by
# which contrast; a change is counted from the anchor above it
PANELS: list[list[tuple[str, ...]]] = [
    [
        ("ours", "ours, the authors' split", "cameraconvnet-patch"),
        ("anchor", "equal budgets, patches dealt", "equal-patch"),
        ("change", "whole photos dealt", "equal-photo", "equal-patch"),
        ("change", "new scenes", "equal-scene", "equal-patch"),
        ("change", "new devices", "equal-device", "equal-patch"),
        ("change", "new scenes and devices", "equal-scene+device", "equal-patch"),
    ],
    [
        ("ours", "ours, as released", "transfer-released-patch"),
        ("anchor", "the same, without the leak", "transfer-released-strict"),
        ("change", "input range matched", "transfer-range-strict", "transfer-released-strict"),
        ("change", "no rotation and no jitter", "transfer-still-strict", "transfer-released-strict"),
        ("change", "both", "transfer-matched-strict", "transfer-released-strict"),
        ("change", "both, nothing frozen", "transfer-finetuned-strict", "transfer-released-strict"),
        ("control", "control: random filters, frozen", "transfer-random-strict", "transfer-released-strict"),
        ("control", "control: nothing pretrained", "transfer-scratch-strict", "transfer-released-strict"),
    ],
    [
        ("ours", "ours, as released", "efficientnet-released"),
        ("anchor", "corrected recipe, no leak", "design-base"),
        ("change", "whole photo squashed, as theirs", "design-squashed", "design-base"),
        ("change", "rotated, as theirs", "design-rotated", "design-base"),
        ("change", "head without ReLUs, as theirs", "design-linear", "design-base"),
        ("change", "scenes and phones seen, as theirs", "design-photo", "design-base"),
        ("control", "control: nothing pretrained", "design-scratch", "design-base"),
        ("best", "best recipe, larger budget", "efficientnet-best"),
    ],
]  # fmt: skip


def judge(evidence: Evidence, claim: str) -> tuple[str, str]:
    """Our figures in words and the verdict on a claim, by its id; what is missing is the verdict where it is."""
    try:
        return RULES[claim](evidence)
    except EvidenceMissing as missing:
        return "", f"{MISSING} {missing}"


def ledger(evidence: Evidence) -> pd.DataFrame:
    """A row a claim (columns: COLUMNS), judged by its rule of `claims.RULES` on what `evidence.read` found."""
    rows = []
    for claim in published.read("claims").fillna("").to_dict("records"):
        ours, verdict = judge(evidence, claim["id"])
        link = f"{claim['notebook']}.ipynb#{claim['heading'].replace(' ', '-')}"
        rows.append(claim | {"ours": ours, "verdict": verdict, "link": link})
    return pd.DataFrame(rows)[COLUMNS]


def counts(table: pd.DataFrame) -> str:
    """How often each verdict fell, as a sentence."""
    kinds = table["verdict"].where(~table["verdict"].str.startswith(MISSING), "evidence missing")
    found = kinds.value_counts()
    order = [*VERDICTS[:-1], "evidence missing"]
    return f"Of {len(table)} claims: " + ", ".join(f"{found[kind]} {kind}" for kind in order if kind in found) + "."


def styled(table: pd.DataFrame) -> Styler:
    """The ledger as a page shows it: text wrapped, each verdict on its colour, a link to its evidence."""
    shown = table.map(html.escape)
    shown["verdict"] = [f'<a href="{row.link}">{row.verdict}</a>' for row in shown.itertuples()]
    shown = shown.drop(columns=["id", "link"]).rename(columns={"code_or_log": "its code or log", "section": "where"})
    background = [next(COLOURS[kind] for kind in reversed(VERDICTS) if v.startswith(kind)) for v in table["verdict"]]
    look = {"text-align": "left", "vertical-align": "top", "white-space": "normal", "overflow-wrap": "break-word",
            "padding": "4px 8px", "border-bottom": "1px solid #d5d9dd"}  # fmt: skip
    return (
        shown.style.hide(axis="index")
        .set_properties(**look)
        .apply(lambda _: [f"background-color: {colour}; color: #1a1a1a" for colour in background], subset=["verdict"])
        .set_table_styles([{"selector": "th", "props": "text-align: left; padding: 4px 8px"}])
    )


def summary(metrics: pd.DataFrame, contrasts: pd.DataFrame) -> pd.DataFrame:
    """What the summary figure shows: test accuracies of ours under the paper's, and what each correction changes.

    Columns: panel (row of Table 2), kind (paper, ours, anchor, change, control, best), label, start (where the bar
    begins: 0, or its anchor), value, low, high (accuracies; those of a change are its anchor plus the contrast),
    difference, dataset, level, photos, classes. A row whose evidence is missing has no value and no start.
    """
    evidence = {"metrics": metrics, "contrasts": contrasts}
    rows = []
    for panel, paper in enumerate(published.read("table2").to_dict("records")):
        level = TABLE2[panel][1]
        theirs = {"dataset": f"real {paper['dataset']}", "start": 0.0, "value": paper["val_accuracy"]}
        rows.append(
            {"panel": panel, "kind": "paper", "label": f"paper, real {paper['dataset']}", "level": level} | theirs
        )
        anchor = None
        for kind, label, *names in PANELS[panel]:
            found = _bar(evidence, names, level, anchor)
            anchor = found if kind == "anchor" else anchor
            rows.append({"panel": panel, "kind": kind, "label": label, "level": level} | found)
    columns = ["panel", "kind", "label", "start", "value", "low", "high", "difference", "dataset", "level", "photos",
               "classes"]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=columns)


def _bar(evidence: Evidence, names: list[str], level: str, anchor: dict | None) -> dict:
    """Start, end and interval of one bar of ours: an experiment's, or a contrast's counted from its anchor; or {}."""
    try:
        if len(names) == 1:
            row = figure(evidence, *names, level)
            return {"start": 0.0} | row[["value", "low", "high", "dataset", "photos", "classes"]].to_dict()
        row = contrast(evidence, *names, level)
    except EvidenceMissing:
        return {}
    if not anchor:
        return {}
    ends = {k: anchor["value"] + row[v] for k, v in (("value", "difference"), ("low", "low"), ("high", "high"))}
    return {"start": anchor["value"], **ends} | row[["difference", "dataset", "photos"]].to_dict()
