"""The ledger: each claim of the paper with our figures in words, a verdict and a link; the summary figure's rows.

published/claims.csv holds a claim's rules, statements separated by "; " (see `statements`): what must hold for it to be
`supported` and what for it to be `contradicted`. All must be true, or at least one if they begin with "or "; of these,
some may be about tables that a profile does not have. A statement about a run that did not reach its plateau counts as
not true (unless the rule asks for the plateau itself). Where neither rule holds, the claim is undecided. `{strict}` in
a rule is the strictest protocol that notebook 02 could test. Column `testable`: whether these photographs can test the
claim, in terms of its rows, `simulated` and the columns of the table `size`; a claim about the authors' data sets is
tested on most of these only, never on other real photographs. `decides`: the rules in a plain sentence. `ours`: a
template for what was found; `{figures}` stands for all figures with intervals. In the part `documents`, published
tables settle a claim: borne out if its rule holds.
"""

import html
from types import SimpleNamespace

import pandas as pd
from pandas.io.formats.style import Styler

from .. import published
from ..experiments import labels, listed
from ..intervals import UNDECIDED, UNTRAINED, formatted
from ..splits import PROTOCOLS
from .statements import Evidence, EvidenceMissing, evaluate

SETTLED, SUPPORTED, CONTRADICTED = "settled by documents", "supported", "contradicted"
CANNOT, MISSING = "cannot be tested on these data", "evidence missing: run notebook"
COLOURS = {SETTLED: "#e3dcf0", SUPPORTED: "#cfe8dc", CONTRADICTED: "#f6dcc8", UNDECIDED: "#e3f0f4", CANNOT: "#eceff1",
           MISSING: "#fff3bf"}  # fmt: skip
COLUMNS = ["id", "part", "section", "claim", "paper", "code_or_log", "decides", "ours", "verdict", "link"]
HEADERS = {"code_or_log": "its code or log", "section": "where", "decides": "what would decide it"}


def ledger(evidence: Evidence) -> pd.DataFrame:
    """One row per claim (columns: COLUMNS), judged by its rules on what `statements.read` found."""
    table = claims(evidence)
    table[["ours", "verdict"]] = [judge(evidence, claim) for claim in table.to_dict("records")]
    table["link"] = table["notebook"] + ".ipynb#" + table["heading"].str.replace(" ", "-")
    return table[COLUMNS]


def claims(evidence: Evidence) -> pd.DataFrame:
    """claims.csv, with the strictest protocol of CameraConvNet's tests in place of `{strict}` in the rules."""
    table, rules = published.read("claims").fillna(""), [SUPPORTED, CONTRADICTED]
    tests = evidence.get("02_metrics", pd.DataFrame()).reindex(columns=["experiment", "protocol"]).astype(str)
    known = tests.loc[tests["experiment"].str.startswith("cameraconvnet-"), "protocol"]
    strict = max(known, key=PROTOCOLS.index, default=PROTOCOLS[-1])
    table[rules] = table[rules].apply(lambda rule: rule.str.replace("{strict}", strict, regex=False))
    return table


def judge(evidence: Evidence, claim: dict[str, str]) -> tuple[str, str]:
    """Our figures in words and the verdict on a claim, a row of `claims`; MISSING names the notebook to run."""
    try:
        asked = "plateau" in claim[CONTRADICTED]  # about the plateau itself
        supports, one = _hold(evidence, claim[SUPPORTED], asked)
        contradicts, two = _hold(evidence, claim[CONTRADICTED], asked)
    except EvidenceMissing as missing:
        return "", f"{MISSING} {missing}"
    tables, template = [*one, *two], claim["ours"]
    figures = [in_words(rows.iloc[0]) for rows in tables] if "{figures}" in template else []
    words = template.format(*map(_facts, tables), figures="; ".join(dict.fromkeys(figures)))
    if claim["part"] == "documents":
        return f"{'borne out' if supports else CONTRADICTED}: {words}", SETTLED
    words += "" if figures else f"; {tables[0]['dataset'].iloc[0]}"
    simulated = ["simulated" in table["dataset"].iloc[0] for table in tables]
    if any(simulated):  # beside real photographs, only the planted leak is
        words += "; on simulated photographs" if all(simulated) else "; the planted leak is simulated"
    rows = tables[0].assign(simulated=simulated[0], **evidence["size"].iloc[0])
    if claim["testable"] and not rows.eval(claim["testable"]).all():
        return words, CANNOT
    if supports or contradicts:
        return words, SUPPORTED if supports else CONTRADICTED
    return words + ("" if asked or all(map(_trained, tables)) else f"; {UNTRAINED}"), UNDECIDED


def _trained(rows: pd.DataFrame) -> bool:
    return bool(rows.filter(regex="plateau$").astype(bool).all(axis=None))


def _hold(evidence: Evidence, rule: str, asked: bool) -> tuple[bool, list[pd.DataFrame]]:
    """Whether a rule holds, and the rows of each of its statements; an empty rule never holds.

    asked: whether statements about runs that did not reach their plateau count.
    """
    found, missing = [], None
    for statement in filter(None, rule.split("; ")):
        try:
            found.append(evaluate(evidence, statement.removeprefix("or ")))
        except EvidenceMissing as error:
            missing = error
    if missing and not (found and rule.startswith("or ")):
        raise missing
    true = [holds and (asked or _trained(rows)) for rows, holds in found]
    return bool(true) and (any(true) if rule.startswith("or ") else all(true)), [rows for rows, _ in found]


def _facts(rows: pd.DataFrame) -> SimpleNamespace:
    """What a template in column `ours` may quote of a statement's rows."""
    numbers = rows.select_dtypes("number")
    ends = {"total": numbers.sum(), "least": numbers.min(), "most": numbers.max()}
    return SimpleNamespace(row=rows.iloc[0], rows=len(rows), held=rows["held"].sum(), different=rows.nunique(), **ends)


def in_words(row: pd.Series) -> str:
    """A row with an interval in words: what was measured, the figure, photos and data set; of two, if it has two."""
    names, table = labels(), row.to_frame().T
    if "difference" in row:
        pair = " - ".join(f"{names[row[end]]} ({row[f'protocol_{end}']})" for end in "ab")
        figure = f"{pair}, per {row['level']}: {formatted(table, 'points', 'difference')[0]} points, {row['verdict']}"
    elif "part" in row:
        what = f"{names[row['experiment']]} ({row['protocol']}), {row['part']} {row['metric']} per {row['level']}"
        figure = f"{what}: {formatted(table)[0]}, {row['classes']} classes"
    elif "change" in row:
        change = formatted(table, "points", "change", "change_")[0]
        figure = f"{names[row['experiment']]}, {row['group']}: {formatted(table)[0]}, change {change} points"
    else:
        figure = f"fingerprints from {row['source']}, {row['metric']}: {formatted(table, '')[0]}"
    other = row.filter(like="other_").rename(lambda name: name.removeprefix("other_"))
    against = f"; against {in_words(other)}" if "experiment" in other else ""
    return f"{figure}, {row.get('photos', row.get('n'))} photos, {row['dataset']}{against}"


def kinds(table: pd.DataFrame) -> pd.Series:
    """The verdicts of a ledger, without the notebook that missing evidence names."""
    return table["verdict"].where(~table["verdict"].str.startswith(MISSING), MISSING)


def counts(table: pd.DataFrame) -> str:
    """How often each verdict occurs, as a sentence."""
    found, against = kinds(table).value_counts(), table["ours"].str.startswith(f"{CONTRADICTED}:").sum()
    parts = [f"{found[kind]} {kind.partition(':')[0]}" for kind in COLOURS if kind in found]
    return f"Of {len(table)} claims: {', '.join(parts)}. The documents contradict {against} of those that they settle."


def documents(table: pd.DataFrame) -> pd.DataFrame:
    """Where documents disagree, first the rows that settle a claim of the ledger, and claims without a disagreement.

    Columns: what, paper, code, log or page, why it matters, finding on the paper's claims.
    """
    settled = table[table["verdict"] == SETTLED].set_index("id")
    shown = published.read("disagreements").fillna("")
    named = shown.pop("claim").str.split()
    settled["ours"] += " (borne out if " + settled["decides"] + ")"
    shown["finding"] = ["; ".join(settled["ours"][claim] for claim in claims) for claims in named]
    rest = settled.drop(named.explode().dropna()).rename(columns={"claim": "what", "code_or_log": "released"})
    shown = pd.concat([shown, rest.assign(finding=rest["ours"])[["what", "paper", "released", "finding"]]]).fillna("")
    columns = {"released": "code, log or page", "why": "why it matters", "finding": "finding on the paper's claim"}
    first = shown.sort_values("finding", key=lambda finding: finding == "", kind="stable")
    return first.rename(columns=columns).reset_index(drop=True)


def styled(table: pd.DataFrame, linked: str = "verdict") -> Styler:
    """A table of texts for a page: wrapped, verdicts coloured; the cells of column `linked` lead to those of `link`."""
    shown = table.drop(columns=["id", "part", "link"], errors="ignore").astype(str).map(html.escape)
    if "link" in table:
        shown[linked] = '<a href="' + table["link"] + '">' + shown[linked] + "</a>"
    look = {"text-align": "left", "vertical-align": "top", "white-space": "normal", "overflow-wrap": "break-word",
            "padding": "4px 8px", "border-bottom": "1px solid #d5d9dd"}  # fmt: skip
    page = shown.rename(columns=HEADERS).style.hide(axis="index").set_properties(**look)
    if "verdict" in table:
        colours = [f"background-color: {COLOURS[kind]}; color: #1a1a1a" for kind in kinds(table)]
        page = page.apply(lambda _: colours, subset=["verdict"])
    return page.set_table_styles([{"selector": "th", "props": "text-align: left; padding: 4px 8px"}])


def summary_rows(metrics: pd.DataFrame, contrasts: pd.DataFrame) -> pd.DataFrame:
    """What the summary figure shows: each change and control of experiments.csv against its first baseline.

    Columns: those of contrasts, panel (0 to 2), role ("change" or "control"), label, baseline_label, baseline_accuracy.
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
