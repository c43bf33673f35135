"""The headline figures: README.md's table (written by `python -m camid_utils.report.headlines`), agreement of runs."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..experiments import listed
from ..files import write_text
from ..intervals import formatted
from ..project import PROJECT, read_record
from .tables import accuracy_rows, read_metrics

README, RESULTS = PROJECT / "README.md", PROJECT / "results"
PLACE = re.compile(r"(<!-- results.*?-->\n).*?(<!-- /results -->)", re.DOTALL)
EVIDENCE = "full", "default"  # profiles, the most telling first
KEYS = ["experiment", "dataset", "protocol", "part", "level", "metric"]
SPREADS = 3  # standard deviations over seeds, and
LEAST = 0.02  # smallest tolerance of an accuracy: rounding changes a few votes
BITWISE, WITHIN, NO = "to the bit", "within the seeds' spread", "no"
UNKNOWN = "another platform: no spread over seeds is published"


def filled(text: str, results: str | Path = RESULTS) -> str:
    """A README's text with its table filled from the first of EVIDENCE that is published; unchanged if none is.

    The paper's accuracies next to ours: one row per experiment with a number in the column `readme` of experiments.csv,
    in that order. The table is between the lines `<!-- results -->` and `<!-- /results -->`.
    """
    if not PLACE.search(text):
        raise ValueError("the README has no lines <!-- results --> and <!-- /results --> for its table")
    folders = {name: Path(results) / name / "metrics" for name in EVIDENCE}
    profile = next((name for name, folder in folders.items() if (folder / "02_metrics.csv").is_file()), None)
    if profile is None:
        return text
    rows = accuracy_rows(read_metrics(folders[profile])).set_index("experiment")
    head = ["experiment", "split", "paper, real photographs (validation)", f"ours, `{profile}`", "tested on"]
    lines = [head, ["---"] * len(head)]
    for experiment, label in listed().query("readme != ''").sort_values("readme")["label"].items():
        own = rows.loc[experiment]
        paper = f"{100 * own['published']:.1f} %" if pd.notna(own["published"]) else "not tested"
        ours = formatted(rows.loc[[experiment]])[0].replace(" (", "** (")
        tested = {"patch": f"patches of {own['photos']} photos", "photo": f"{own['photos']} photos"}[own["level"]]
        lines.append([label, f"`{own['protocol']}`", paper, f"**{ours}", f"{tested}, {own['dataset']}"])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return PLACE.sub(rf"\g<1>{table}\g<2>", text)


def update(readme: str | Path = README, results: str | Path = RESULTS) -> None:
    """Write the table of the published results into README.md."""
    write_text(readme, filled(Path(readme).read_text(encoding="utf-8"), results))


def compare(published: str | Path, run: str | Path, seeds: str | Path) -> pd.DataFrame:
    """One row per headline figure: experiment, published, run, difference, tolerance, agreement.

    Headlines: test accuracies, at their own level, of the experiments in the README. published, run, seeds: results
    folders. On the same platform with the same versions figures must be equal; elsewhere the tolerance is SPREADS
    standard deviations over the seeds of `seeds`, but at least LEAST. Without published seeds nothing is judged.
    """
    same = read_record(Path(published))["environment"] == read_record(Path(run))["environment"]
    ours, spread, label = _metrics(run), _metrics(seeds), listed()["label"]
    rows = []
    for key, row in _headlines(published).iterrows():
        known = spread["spread"].get(key, np.nan) if len(spread) else np.nan
        tolerance = 0.0 if same else np.maximum(LEAST, SPREADS * known)
        value = ours["value"].get(key, np.nan)
        gap = abs(value - row["value"])
        agreement = BITWISE if gap == 0 else WITHIN if gap <= tolerance else NO
        if gap > 0 and np.isnan(tolerance):
            agreement = UNKNOWN
        rows.append([label[key[0]], row["value"], value, gap, tolerance, agreement])
    return pd.DataFrame(rows, columns=["experiment", "published", "run", "difference", "tolerance", "agreement"])


def by_combination(runs: dict[Path, dict[str, object]]) -> pd.DataFrame:
    """One row per run of a grid (results folder -> its parameters): the parameters, then its headline figures by id.

    Runs that differ in their seed only are followed by two rows, whose `seed` is "mean" and "std": over the seeds.
    """
    rows = [given | _headlines(folder)["value"].droplevel(KEYS[1:]).to_dict() for folder, given in runs.items()]
    table, parts = pd.DataFrame(rows), []
    if "seed" not in table:
        return table
    names = [name for name in next(iter(runs.values())) if name != "seed"]
    for _, group in table.groupby(names, sort=False) if names else [(None, table)]:
        spread = group.drop(columns=[*names, "seed"]).agg(["mean", "std"]).rename_axis("seed").reset_index()
        parts += [group, spread.assign(**group[names].iloc[0])]
    return pd.concat(parts, ignore_index=True)[table.columns]


def in_words(table: pd.DataFrame) -> str:
    """The table for the terminal, and how many figures agree."""
    units = {"published": "%", "run": "%", "difference": "points", "tolerance": "points"}
    text = {name: [f"{100 * x:.1f} {unit}" for x in table[name]] for name, unit in units.items()}
    counts = ", ".join(f"{count} {kind}" for kind, count in table["agreement"].value_counts().items())
    return f"{table.assign(**text).to_string(index=False)}\nagreement: {counts}"


def _headlines(folder: str | Path) -> pd.DataFrame:
    table, shown = _metrics(folder), listed().query("readme != ''")["level"]
    keep = [shown.get(experiment) == level for experiment, *_, level, _ in table.index]
    return table[np.array(keep, bool)].query("part == 'test' and metric == 'accuracy'")


def _metrics(folder: str | Path) -> pd.DataFrame:
    """Values and spreads of a results folder's metrics files, by KEYS; no rows without any."""
    tables = [pd.read_csv(path) for path in sorted((Path(folder) / "metrics").glob("0*_metrics.csv"))]
    table = pd.concat(tables) if tables else pd.DataFrame(columns=[*KEYS, "value", "spread"])
    return table.set_index(KEYS)[["value", "spread"]]


if __name__ == "__main__":
    update()
