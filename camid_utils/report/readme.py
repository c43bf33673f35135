"""The README's table of the published results: `python -m camid_utils.report.readme` writes it into README.md."""

import re
from pathlib import Path

import pandas as pd

from ..experiments import listed
from ..files import write_text
from ..intervals import formatted
from ..project import PROJECT
from .tables import accuracy_rows, read_metrics

README, RESULTS = PROJECT / "README.md", PROJECT / "results"
PLACE = re.compile(r"(<!-- results.*?-->\n).*?(<!-- /results -->)", re.DOTALL)


def results_table(profiles: dict[str, pd.DataFrame]) -> str:
    """Markdown: the paper's accuracies beside ours, from the metrics of each profile, the first being the main one.

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
    """A README's text with its table filled from the results of `default` and `full`; unchanged where neither is there.

    The table stands between the lines `<!-- results -->` and `<!-- /results -->`.
    """
    folders = {name: Path(results) / name / "metrics" for name in ("default", "full")}
    profiles = {name: read_metrics(folder) for name, folder in folders.items() if (folder / "02_metrics.csv").is_file()}
    if not PLACE.search(text):
        raise ValueError("the README has no lines <!-- results --> and <!-- /results --> for its table")
    return PLACE.sub(rf"\g<1>{results_table(profiles)}\g<2>", text) if profiles else text


def update(readme: str | Path = README, results: str | Path = RESULTS) -> None:
    """Write the table of the published results into README.md."""
    write_text(readme, filled(Path(readme).read_text(encoding="utf-8"), results))


if __name__ == "__main__":
    update()
