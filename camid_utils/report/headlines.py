"""The headline figures: the README's table of published results, and whether a run agrees with them.

`python -m camid_utils.report.headlines` writes the table into README.md. The same platform and versions must give the
same figures; elsewhere they may differ as much as with another seed.
"""

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
KEYS = ["experiment", "dataset", "protocol", "part", "level", "metric"]
SPREADS = 3  # standard deviations over seeds, and
LEAST = 0.02  # smallest tolerance of an accuracy: where no spread is known, or rounding changes a few votes
BITWISE, WITHIN, NO = "to the bit", "within the seeds' spread", "no"


def results_table(profiles: dict[str, pd.DataFrame]) -> str:
    """Markdown: the paper's accuracies next to ours, from the metrics of each profile, the first being the main one.

    One row per experiment that has a number in the column `readme` of experiments.csv, in that order.
    """
    ids = listed()
    shown = ids[ids["readme"] != ""].sort_values("readme")
    rows = {name: accuracy_rows(metrics).set_index("experiment") for name, metrics in profiles.items()}
    main = next(iter(rows.values()))
    head = ["experiment", "split", "paper, real photographs (validation)", *(f"ours, `{name}`" for name in rows)]
    lines = [[*head, "tested on"], ["---"] * (len(head) + 1)]
    for experiment, label in shown["label"].items():
        own = main.loc[experiment]
        paper = f"{100 * own['published']:.1f} %" if pd.notna(own["published"]) else "not tested"
        found = [table[table.index == experiment] for table in rows.values()]
        ours = [f"**{formatted(row)[0].replace(' (', '** (')}" if len(row) else "not run" for row in found]
        photos = " and ".join(str(row["photos"].iloc[0]) for row in found if len(row))
        tested = {"patch": f"patches of {photos} photos", "photo": f"{photos} photos"}[own["level"]]
        lines.append([label, f"`{own['protocol']}`", paper, *ours, f"{tested}, {own['dataset']}"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def filled(text: str, results: str | Path = RESULTS) -> str:
    """A README's text with its table filled from the results of `default` and `full`; unchanged if neither exists.

    The table is between the lines `<!-- results -->` and `<!-- /results -->`.
    """
    folders = {name: Path(results) / name / "metrics" for name in ("default", "full")}
    profiles = {name: read_metrics(folder) for name, folder in folders.items() if (folder / "02_metrics.csv").is_file()}
    if not PLACE.search(text):
        raise ValueError("the README has no lines <!-- results --> and <!-- /results --> for its table")
    return PLACE.sub(rf"\g<1>{results_table(profiles)}\g<2>", text) if profiles else text


def update(readme: str | Path = README, results: str | Path = RESULTS) -> None:
    """Write the table of the published results into README.md."""
    write_text(readme, filled(Path(readme).read_text(encoding="utf-8"), results))


def compare(published: str | Path, run: str | Path, seeds: str | Path) -> pd.DataFrame:
    """One row per headline figure: experiment, published, run, difference, tolerance, agreement.

    Headlines: test accuracies, at their own level, of the experiments in the README. published, run, seeds: results
    folders. Where platform or versions differ, the tolerance is SPREADS standard deviations over the seeds of `seeds`,
    but at least LEAST.
    """
    same = read_record(Path(published))["environment"] == read_record(Path(run))["environment"]
    ours, spread, label = _metrics(run), _metrics(seeds), listed()["label"]
    rows = []
    for key, row in _headlines(published).iterrows():
        known = spread["spread"].get(key, 0.0) if len(spread) else 0.0
        tolerance = 0.0 if same else max(LEAST, SPREADS * known)
        value = ours["value"].get(key, np.nan)
        gap = abs(value - row["value"])
        agreement = BITWISE if gap == 0 else WITHIN if gap <= tolerance else NO
        rows.append([label[key[0]], row["value"], value, gap, tolerance, agreement])
    return pd.DataFrame(rows, columns=["experiment", "published", "run", "difference", "tolerance", "agreement"])


def by_combination(runs: dict[Path, dict[str, object]]) -> pd.DataFrame:
    """One row per run of a grid (results folder -> its parameters): the parameters, then its headline figures by id.

    Runs that differ in their seed only are followed by two rows, whose `seed` is "mean" and "std": over the seeds.
    """
    rows = [given | _headlines(folder)["value"].droplevel(KEYS[1:]).to_dict() for folder, given in runs.items()]
    table = pd.DataFrame(rows)
    if "seed" not in table:
        return table
    names = [name for name in next(iter(runs.values())) if name != "seed"]
    parts = []
    for _, group in table.groupby(names, sort=False) if names else [(None, table)]:
        spread = group.drop(columns=[*names, "seed"]).agg(["mean", "std"]).rename_axis("seed").reset_index()
        parts += [group, spread.assign(**group[names].iloc[0])]
    return pd.concat(parts, ignore_index=True)[table.columns]


def in_words(table: pd.DataFrame) -> str:
    """The table for the terminal, and how many figures agree."""
    shown = table.assign(**{c: [f"{100 * x:.1f} %" for x in table[c]] for c in ("published", "run")})
    gaps = {c: [f"{100 * x:.1f} points" for x in table[c]] for c in ("difference", "tolerance")}
    text = shown.assign(**gaps).to_string(index=False)
    counts = table["agreement"].value_counts()
    return text + "\nagreement: " + ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _headlines(folder: str | Path) -> pd.DataFrame:
    """The headlines among a results folder's metrics."""
    table, shown = _metrics(folder), listed().query("readme != ''")["level"]
    keep = [shown.get(experiment) == level for experiment, *_, level, _ in table.index]
    return table[np.array(keep, bool)].query("part == 'test' and metric == 'accuracy'")


def _metrics(folder: str | Path) -> pd.DataFrame:
    """Values and spreads of a results folder's metrics files, by KEYS; no rows without any."""
    paths = sorted((Path(folder) / "metrics").glob("0*_metrics.csv"))
    tables = [pd.read_csv(path) for path in paths]
    table = pd.concat(tables) if tables else pd.DataFrame(columns=[*KEYS, "value", "spread"])
    return table.set_index(KEYS)[["value", "spread"]]


if __name__ == "__main__":
    update()
