"""Whether a run gives the published headline figures: to the bit, within the seeds' spread, or not.

The same platform and versions must give the same numbers; elsewhere they may differ as much as with another seed.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ..experiments import listed
from ..project import read_record

KEYS = ["experiment", "dataset", "protocol", "part", "level", "metric"]
SPREADS = 3  # standard deviations over seeds, and
LEAST = 0.02  # smallest tolerance of an accuracy: where no spread is known, or rounding changes a few votes
BITWISE, WITHIN, NO = "to the bit", "within the seeds' spread", "no"


def compare(published: str | Path, run: str | Path, seeds: str | Path) -> pd.DataFrame:
    """One row per headline figure: experiment, published, run, difference, tolerance, agreement.

    Headlines: test accuracies, at their own level, of the experiments in the README. published, run, seeds: results
    folders. Where platform or versions differ, the tolerance is SPREADS standard deviations over the seeds of `seeds`,
    but at least LEAST.
    """
    same = read_record(Path(published))["environment"] == read_record(Path(run))["environment"]
    theirs, ours, spread = (_metrics(folder) for folder in (published, run, seeds))
    rows, ids = [], listed()
    for key, row in theirs.iterrows():
        experiment, _, _, part, level, metric = key
        headline = ids.loc[experiment]
        if not headline["readme"] or (part, level, metric) != ("test", headline["level"], "accuracy"):
            continue
        known = spread["spread"].get(key, 0.0) if len(spread) else 0.0
        tolerance = 0.0 if same else max(LEAST, SPREADS * known)
        value = ours["value"].get(key, np.nan)
        gap = abs(value - row["value"])
        agreement = BITWISE if gap == 0 else WITHIN if gap <= tolerance else NO
        rows.append([headline["label"], row["value"], value, gap, tolerance, agreement])
    return pd.DataFrame(rows, columns=["experiment", "published", "run", "difference", "tolerance", "agreement"])


def in_words(table: pd.DataFrame) -> str:
    """The table for the terminal, and how many figures agree."""
    shown = table.assign(**{c: [f"{100 * x:.1f} %" for x in table[c]] for c in ("published", "run")})
    gaps = {c: [f"{100 * x:.1f} points" for x in table[c]] for c in ("difference", "tolerance")}
    text = shown.assign(**gaps).to_string(index=False)
    counts = table["agreement"].value_counts()
    return text + "\nagreement: " + ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _metrics(folder: str | Path) -> pd.DataFrame:
    """Values and spreads of a results folder's metrics files, by KEYS; no rows without any."""
    paths = sorted((Path(folder) / "metrics").glob("0*_metrics.csv"))
    tables = [pd.read_csv(path) for path in paths]
    table = pd.concat(tables) if tables else pd.DataFrame(columns=[*KEYS, "value", "spread"])
    return table.set_index(KEYS)[["value", "spread"]]
