"""Does a rerun give the committed results? `python -m camid_utils.regression --profile NAME` runs and compares.

The same commit on the same platform and versions must give the same numbers to the last digit; elsewhere a metric may
differ by what another seed would have changed: three times the standard deviation over the seeds of profile `full`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from . import study
from .experiments import PROJECT

KEYS = ["experiment", "dataset", "protocol", "part", "level", "metric"]
LEAST = 0.02  # tolerance elsewhere where no spread over seeds is known, or a smaller one: rounding moves a few votes
RECORDS = (".csv", ".parquet", ".png")  # files without a clock or a path in them
COLUMNS = ["what", "committed", "rerun", "difference", "tolerance", "verdict"]


def compare(committed: str | Path, rerun: str | Path, spread: pd.Series | None = None) -> pd.DataFrame:
    """A row a metric and file of `committed`, and whether `rerun` has the same (columns: COLUMNS).

    Tolerances are 0 where both ran on the same platform and versions, else 3 x `spread` (by KEYS), at least LEAST.
    """
    committed, rerun = Path(committed), Path(rerun)
    same = _environment(committed) == _environment(rerun)
    rows = [_file(committed / path, rerun / path, path.as_posix(), same) for path in _expected(committed)]
    old, new = (_metrics(folder) for folder in (committed, rerun))
    for key, value in old.items():
        tolerance = 0.0 if same else max(LEAST, 3 * spread.get(key, 0.0) if spread is not None else 0.0)
        if key not in new:
            rows.append([", ".join(key), value, np.nan, np.nan, tolerance, "missing"])
            continue
        gap = abs(new[key] - value)
        verdict = "holds" if gap <= tolerance + 1e-9 else "differs"
        rows.append([", ".join(key), value, new[key], gap, tolerance, verdict])
    return pd.DataFrame(rows, columns=COLUMNS)


def _expected(committed: Path) -> list[Path]:
    """Executed notebooks, pages, figures and tables that a rerun must write again, relative to the folder."""
    found = [
        p for name in ("notebooks", "html", "figures", "metrics", "predictions") for p in (committed / name).glob("*")
    ]
    return sorted(path.relative_to(committed) for path in found if not path.name.startswith("."))


def _file(committed: Path, rerun: Path, name: str, same: bool) -> list:
    """The row of a file: it has to be there, and a table or figure to be the same where platform and versions are."""
    verdict = "holds" if rerun.is_file() else "missing"
    if verdict == "holds" and same and rerun.suffix in RECORDS and rerun.read_bytes() != committed.read_bytes():
        verdict = "differs"
    return [name, np.nan, np.nan, np.nan, np.nan, verdict]


def _environment(folder: Path) -> dict:
    """Platform and versions of a run."""
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))["environment"]


def _metrics(folder: Path) -> dict[tuple, float]:
    """All values of a results folder's metrics files, by KEYS."""
    tables = [pd.read_csv(path) for path in sorted((folder / "metrics").glob("0*.csv"))]
    table = pd.concat([t for t in tables if set(KEYS) <= set(t)], ignore_index=True)
    return table.set_index(KEYS)["value"].to_dict()


def seeds_spread() -> pd.Series | None:
    """Standard deviation of each metric over the seeds of the committed profile `full`, or None without it."""
    paths = sorted((PROJECT / "results" / "full" / "metrics").glob("0*.csv"))
    tables = [t for t in map(pd.read_csv, paths) if {"spread", *KEYS} <= set(t)]
    return pd.concat(tables).set_index(KEYS)["spread"] if tables else None


def main(arguments: list[str] | None = None) -> int:
    """Rerun a profile in a scratch folder and print the comparison; 0: all holds, 1: not, 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m camid_utils.regression", description=__doc__)
    parser.add_argument("--profile", default="default")
    parser.add_argument("--against", help="results folder to compare with (default: results/<profile>)")
    options = parser.parse_args(arguments)
    committed = Path(options.against or PROJECT / "results" / options.profile)
    if not (committed / "run.json").is_file():
        print(f"error: no results in {committed}: run make study PROFILE={options.profile} first", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "results"
        settings = ["--profile", options.profile, "--out", str(out), "-p", f"data_dir={scratch}/data"]
        ended = study.main(settings)
        if ended:
            return ended
        table = compare(committed, out, seeds_spread())
    with pd.option_context("display.max_rows", None, "display.width", 200, "display.max_colwidth", 90):
        print(table.to_string(index=False, na_rep=""))
    print(", ".join(f"{count} {verdict}" for verdict, count in table["verdict"].value_counts().items()))
    return int((table["verdict"] != "holds").any())


if __name__ == "__main__":
    sys.exit(main())
