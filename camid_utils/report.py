"""What the metrics files say: tables beside the paper's, and sentences that change when the figures do."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import published
from .evaluation import METRIC_COLUMNS

# row of the paper's Table 2: (our experiment, level of the paper's figure, notebook that runs it)
TABLE2 = {
    0: ("cameraconvnet-patch", "patch", "02_cameraconvnet_dresden"),
    1: ("transfer-released", "patch", "03_transfer_to_floreview"),
    2: ("efficientnet-squashed-photo", "photo", "04_efficientnet_floreview"),
}

NAMES = {  # experiments as a person calls them
    "cameraconvnet-patch": "CameraConvNet from scratch, the authors' split",
    "cameraconvnet-strict": "CameraConvNet from scratch, nothing shared",
    "transfer-released": "CameraConvNet transferred, as released",
    "transfer-matched": "CameraConvNet transferred, input range matched",
    "efficientnet-squashed-photo": "EfficientNet, whole photo squashed, the authors' split",
    "efficientnet-squashed-strict": "EfficientNet, whole photo squashed, nothing shared",
    "efficientnet-crops-strict": "EfficientNet, native crops, nothing shared",
}


def read_metrics(folder: str | Path) -> pd.DataFrame:
    """All metrics that notebooks 02 to 04 wrote; the error names the notebook to run first."""
    tables = []
    for _, _, notebook in TABLE2.values():
        path = Path(folder) / f"{notebook}.csv"
        if not path.is_file():
            raise FileNotFoundError(f"no metrics of {notebook} in {folder}: run that notebook first")
        tables.append(pd.read_csv(path))
    return pd.concat(tables, ignore_index=True)[METRIC_COLUMNS]


def table2(metrics: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 2 beside our validation and test figures: a row a model and metric.

    Columns: model, metric, paper, paper_data, validation, test (value and 95 % interval), n (test photos), data.
    """
    rows = []
    for i, paper in published.read("table2").iterrows():
        experiment, level, _ = TABLE2[i]
        ours = metrics[(metrics["experiment"] == experiment) & (metrics["level"] == level)]
        for metric, value in (("accuracy", paper["val_accuracy"]), ("log loss", paper["val_loss"])):
            val, test = (ours[(ours["metric"] == metric) & (ours["part"] == part)].iloc[0] for part in ("val", "test"))
            rows.append(
                {
                    "model": paper["model"], "metric": f"{metric} per {level}", "paper": value,
                    "paper_data": f"real {paper['dataset']}", "validation": with_interval(val),
                    "test": with_interval(test), "test photos": test["photos"], "classes": test["classes"],
                    "data": f"{test['dataset']}, {test['protocol']}",
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def with_interval(row: pd.Series) -> str:
    """A metric's value with its 95 % interval."""
    return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def accuracy_bars(metrics: pd.DataFrame) -> pd.DataFrame:
    """Test accuracies for `plots.bars_beside_paper`, a row an experiment, at the level that its network sees."""
    rows = metrics[(metrics["metric"] == "accuracy") & (metrics["part"] == "test")]
    small = rows["experiment"].str.contains("cameraconvnet|transfer")
    rows = rows[rows["level"] == small.map({True: "patch", False: "photo"})]
    paper = metrics[metrics["metric"] == "accuracy"].groupby("experiment")["published"].max()
    units = rows["level"].map({"patch": "patches", "photo": "photos"})
    label = rows["experiment"].replace(NAMES) + "\n" + rows["protocol"] + ", " + units
    return rows.assign(label=label, published=rows["experiment"].map(paper))


def verdict(low: float, high: float, positive: str, negative: str) -> str:
    """What a difference with a 95 % interval says."""
    if low > 0:
        return positive
    if high < 0:
        return negative
    return "the interval holds zero: these photos do not decide it"


def difference(what: str, gap: float, low: float, high: float) -> str:
    """A difference of two accuracies in percentage points, with its interval."""
    return f"{what}: {100 * gap:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f})"


def conclusions(metrics: pd.DataFrame) -> list[str]:
    """Sentences on what was found, each computed from the metrics that it quotes."""
    data = sorted(metrics["dataset"].unique())
    simulated = [name for name in data if name.startswith("simulated")]
    return [
        compare(metrics, "cameraconvnet-patch", "cameraconvnet-strict", "patch"),
        compare(metrics, "transfer-matched", "transfer-released", "patch"),
        compare(metrics, "efficientnet-crops-strict", "efficientnet-squashed-strict", "photo"),
        f"The figures are of {' and '.join(simulated)} photographs: they show what the methods do on cameras whose "
        "every step is known, not how well real cameras are told apart."
        if simulated
        else f"The figures are of {' and '.join(data)}.",
    ]


def compare(metrics: pd.DataFrame, a: str, b: str, level: str) -> str:
    """One sentence on the test accuracies of two experiments, by whether their intervals overlap."""
    rows = metrics[(metrics["metric"] == "accuracy") & (metrics["part"] == "test") & (metrics["level"] == level)]
    one, two = (rows[rows["experiment"] == name].iloc[0] for name in (a, b))
    words = [_in_words(row) for row in (one, two)]
    if one["low"] > two["high"]:
        relation = "is above"
    elif one["high"] < two["low"]:
        relation = "is below"
    else:
        relation = "cannot be told apart from"
    return f"Accuracy per {level} on {one['dataset']}: {words[0]} {relation} {words[1]}."


def _in_words(row: pd.Series) -> str:
    """An experiment's name, protocol and accuracy with its interval."""
    name = NAMES.get(row["experiment"], row["experiment"])
    interval = f"95 % interval {100 * row['low']:.1f} to {100 * row['high']:.1f}, {row['photos']} photos"
    return f"{name} ({row['protocol']}) {100 * row['value']:.1f} % ({interval})"


def readme_table(metrics: pd.DataFrame) -> str:
    """The README's results as Markdown: the paper's Table 2 beside ours, then what the paper did not test."""
    lines = [
        "| experiment | split | paper, real photographs (validation) | ours (test, 95 % interval) | our data |",
        "|---|---|---|---|---|",
    ]
    bars = accuracy_bars(metrics)
    for row in bars.to_dict("records"):
        paper = f"{100 * row['published']:.1f} %" if pd.notna(row["published"]) else "not tested"
        unit = {"patch": "patches", "photo": "photos"}[row["level"]]
        ours = f"**{100 * row['value']:.1f} %** of {unit} ({100 * row['low']:.1f} to {100 * row['high']:.1f})"
        data = f"{row['dataset']}, {row['photos']} test photos, {row['classes']} classes"
        lines.append(
            f"| {NAMES.get(row['experiment'], row['experiment'])} | `{row['protocol']}` | {paper} | {ours} | {data} |"
        )
    return "\n".join(lines) + "\n"
