"""The headline figures: README.md's table (written by `python -m camid_utils.report.headlines`), agreement of runs."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..experiments import listed
from ..files import write_text
from ..intervals import formatted
from ..project import PROJECT, read_record
from .tables import accuracy_rows, read_tables

README, RESULTS = PROJECT / "README.md", PROJECT / "results"
PLACE = re.compile(r"(<!-- results.*?-->\n).*?(<!-- /results -->)", re.DOTALL)
REAL, SIMULATED = "photographs", "full"  # profiles
CONTENT = "content alone, same real photos (per photo)"
KEYS = ["experiment", "dataset", "protocol"]
SPREADS = 3  # standard deviations over seeds, and
LEAST = 0.02  # smallest tolerance of an accuracy: rounding changes a few votes
BITWISE, WITHIN, NO = "to the bit", "within the seeds' spread", "no"
UNKNOWN = "another platform: no spread over seeds is published"


def filled(text: str, results: str | Path = RESULTS) -> str:
    """A README's text with its table filled from the published results of REAL and SIMULATED; unchanged without any.

    One row per number in the column `readme` of experiments.csv: of ids that share one, each profile shows the one that
    it tested. The table is between the lines `<!-- results -->` and `<!-- /results -->`.
    """
    if not PLACE.search(text):
        raise ValueError("the README has no lines <!-- results --> and <!-- /results --> for its table")
    real, simulated = (_cells(Path(results) / name) for name in (REAL, SIMULATED))
    if real.empty and simulated.empty:
        return text
    table = pd.DataFrame({
        "experiment": _both(real["experiment"], simulated["experiment"]),
        "split": _both(real["split"], simulated["split"]),
        "paper (validation)": real["paper"].combine_first(simulated["paper"]),
        f"ours, real photographs (`{REAL}`)": real["ours"],
        CONTENT: real["content"],
        f"ours, simulated (`{SIMULATED}`)": simulated["ours"],
        "tested on": pd.concat([real["tested"], simulated["tested"]]).groupby(level=0).agg("; ".join),
    }).sort_index().fillna("-")  # fmt: skip
    lines = [table.columns, ["---"] * table.shape[1], *table.to_numpy()]
    written = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return PLACE.sub(rf"\g<1>{written}\g<2>", text)


def _cells(folder: Path) -> pd.DataFrame:
    """What the README's table shows of one profile's results, as texts, by row number; no rows without results.

    Columns: experiment (its label), split, paper, ours (per patch also per photo), content (content alone, per photo,
    in the same test), tested.
    """
    rows, numbers, cells = _headlines(folder), listed()["readme"], []
    rows = rows[rows["experiment"].map(numbers) != "methods"]
    photo = accuracy_rows(read_tables(folder / "metrics"), "photo")
    contents = photo[photo["label"].str.contains("content alone")]
    for _, row in rows.iterrows():
        same = (contents[["dataset", "protocol", "photos"]] == row[["dataset", "protocol", "photos"]]).all(axis=1)
        beside = contents[same & (contents["experiment"] != row["experiment"])]
        paper = f"{100 * row['published']:.1f} %" if pd.notna(row["published"]) else "not tested"
        ours = "**" + formatted(row.to_frame().T)[0].replace(" (", "** (")
        if row["level"] == "patch":
            ours += f"; per photo {formatted(photo[photo['experiment'] == row['experiment']])[0]}"
        tested = {"patch": f"patches of {row['photos']} photos", "photo": f"{row['photos']} photos"}[row["level"]]
        tested += f" from {row['collections']} collections" if row["protocol"] == "collection" else ""
        content = next(iter(formatted(beside)), "-")
        cells.append([row["label"], f"`{row['protocol']}`", paper, ours, content, f"{tested}, {row['dataset']}"])
    index = rows["experiment"].map(numbers).astype(int)
    return pd.DataFrame(cells, index, ["experiment", "split", "paper", "ours", "content", "tested"], dtype=object)


def _both(real: pd.Series, simulated: pd.Series) -> pd.Series:
    """One text for real and simulated photographs; where theirs differ, with the last part of the latter's."""
    pairs = pd.DataFrame({"real": real, "simulated": simulated})
    last = pairs["simulated"].str.split(", ").str[-1]
    both = pairs["real"] + " (simulated: " + last + ")"
    return both.where(pairs["real"] != pairs["simulated"]).fillna(pairs["real"]).fillna(pairs["simulated"])


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
    known, ours, repeated = (_headlines(folder).set_index(KEYS) for folder in (published, run, seeds))
    table = known[["label", "value"]].set_axis(["experiment", "published"], axis=1)
    table["run"] = ours["value"].reindex(known.index)
    table["difference"] = (table["run"] - table["published"]).abs()
    spread = repeated["spread"].reindex(known.index).astype(float)
    table["tolerance"] = 0.0 if same else (SPREADS * spread).clip(lower=LEAST)
    gap, tolerance = table["difference"], table["tolerance"]
    kinds = {BITWISE: gap == 0, WITHIN: gap <= tolerance, UNKNOWN: (gap > 0) & tolerance.isna()}
    table["agreement"] = np.select(list(kinds.values()), list(kinds), NO)
    return table.reset_index(drop=True)


def by_combination(runs: dict[Path, dict[str, object]]) -> pd.DataFrame:
    """One row per run of a grid (results folder -> its parameters): the parameters, then its headline figures by id.

    Runs that differ in their seed only are followed by two rows, whose `seed` is "mean" and "std": over the seeds.
    """
    rows = [given | _headlines(folder).set_index("experiment")["value"].to_dict() for folder, given in runs.items()]
    table, parts = pd.DataFrame(rows), []
    if "seed" not in table:
        return table
    names = [name for name in next(iter(runs.values())) if name != "seed"]
    for _, group in table.groupby(names, sort=False, dropna=False) if names else [(None, table)]:
        values = group.drop(columns=[*names, "seed"])
        spread = pd.DataFrame({"mean": values.mean(), "std": values.std()}).T.rename_axis("seed").reset_index()
        parts += [group, spread.assign(**group[names].iloc[0])]
    return pd.concat(parts, ignore_index=True)[table.columns]


def in_words(table: pd.DataFrame) -> str:
    """The table for the terminal, and how many figures agree."""
    units = {"published": "%", "run": "%", "difference": "points", "tolerance": "points"}
    text = {name: [f"{100 * x:.1f} {unit}" for x in table[name]] for name, unit in units.items()}
    counts = ", ".join(f"{count} {kind}" for kind, count in table["agreement"].value_counts().items())
    return f"{table.assign(**text).to_string(index=False)}\nagreement: {counts}"


def _headlines(folder: str | Path) -> pd.DataFrame:
    """The `accuracy_rows` of a results folder that the README shows."""
    rows = accuracy_rows(read_tables(Path(folder) / "metrics"))
    return rows[rows["experiment"].isin(listed().query("readme != ''").index)]


if __name__ == "__main__":
    update()
