"""What the metrics files say: tables beside the paper's, and sentences that change when the figures do."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import published
from .evaluation import METRIC_COLUMNS, paired_difference, vote
from .evaluation import difference as unpaired_difference
from .experiments import Experiment

CONTRAST_COLUMNS = ["a", "protocol_a", "b", "protocol_b", "dataset", "level", "difference", "low", "high", "photos",
                    "photos_b", "paired"]  # fmt: skip

# row of the paper's Table 2: (our experiment, level of the paper's figure, notebook that runs it)
TABLE2 = {
    0: ("cameraconvnet-patch", "patch", "02_cameraconvnet_dresden"),
    1: ("transfer-released", "patch", "03_transfer_to_floreview"),
    2: ("efficientnet-squashed-photo", "photo", "04_efficientnet_floreview"),
}

NAMES = {  # experiments as a person calls them
    "cameraconvnet-patch": "CameraConvNet from scratch",
    "cameraconvnet-strict": "CameraConvNet from scratch",
    "transfer-released": "CameraConvNet transferred as released",
    "transfer-matched": "CameraConvNet transferred, input range matched",
    "efficientnet-squashed-photo": "EfficientNet, whole photo squashed",
    "efficientnet-squashed-strict": "EfficientNet, whole photo squashed",
    "efficientnet-crops-strict": "EfficientNet, native crops",
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
    units = rows["photos"].astype(str) + rows["level"].map({"patch": " photos' patches", "photo": " photos"})
    label = rows["experiment"].replace(NAMES) + "\n" + rows["protocol"] + ", " + units
    return rows.assign(label=label, published=rows["experiment"].map(paper))


def metric_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics as a person reads them: a row an experiment, part and level; value and interval in one cell."""
    index = ["dataset", "experiment", "protocol", "part", "level", "n", "photos"]
    cells = metrics.assign(cell=[with_interval(row) for _, row in metrics.iterrows()])
    return cells.pivot_table(index=index, columns="metric", values="cell", aggfunc="first", sort=False)


def contrast(a: Experiment, b: Experiment, level: str = "patch") -> pd.DataFrame:
    """Test accuracy of `a` less that of `b`, with its 95 % interval: one row.

    Where both were tested on the same photos the difference is taken row by row (paired), else between the two samples.
    Columns: a, protocol_a, b, protocol_b, dataset, level, difference, low, high, photos and photos_b (tested),
    paired.
    """
    tests = [run.predictions[run.predictions["part"] == "test"] for run in (a, b)]
    tests = [vote(table) for table in tests] if level == "photo" else tests
    one, two = a.model.info, b.model.info
    paired = one["protocol"] == two["protocol"]
    compare = paired_difference if paired else unpaired_difference
    gap, low, high = compare(*tests, seed=one["seed"])
    row = [
        one["experiment"],
        one["protocol"],
        two["experiment"],
        two["protocol"],
        one["dataset"],
        level,
        gap,
        low,
        high,
    ]
    photos = [table["photo"].nunique() for table in tests]
    return pd.DataFrame([[*row, *photos, paired]], columns=CONTRAST_COLUMNS)


def in_words(row: dict) -> str:
    """A row of `contrast` as a sentence, with what its interval says."""
    names = [f"{NAMES.get(row[k], row[k])} ({row[f'protocol_{k}']})" for k in ("a", "b")]
    points = (
        f"{100 * row['difference']:+.1f} points (95 % interval {100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
    )
    verdict = "the first is better" if row["low"] > 0 else "the second is better" if row["high"] < 0 else "not decided"
    unit = {"patch": "patches", "photo": "photos"}[row["level"]]
    photos = f"the same {row['photos']}" if row["paired"] else f"{row['photos']} and {row['photos_b']}"
    return (
        f"{row['dataset']}, test {unit} named rightly: {names[0]} less {names[1]}: {points}, "
        f"{photos} photos: {verdict}."
    )


def read_contrasts(folder: str | Path) -> pd.DataFrame:
    """All contrasts that notebooks 02 to 04 wrote."""
    paths = sorted(Path(folder).glob("*_contrasts.csv"))
    if not paths:
        raise FileNotFoundError(f"no contrasts in {folder}: run notebooks 02 to 04 first")
    return pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)


def conclusions(contrasts: pd.DataFrame) -> list[str]:
    """Sentences on what was found, each computed from the contrast that it quotes, and what they are about."""
    data = sorted(contrasts["dataset"].unique())
    simulated = [name for name in data if name.startswith("simulated")]
    about = f"The figures are of {' and '.join(data)} photographs"
    if simulated:
        about += (
            f". Those of {' and '.join(simulated)} show what the methods do on cameras whose every step is known, "
            "not how well real cameras are told apart"
        )
    fewest = contrasts[["photos", "photos_b"]].min(axis=None)
    limits = (
        f"The intervals cover the choice of test photos, down to {fewest} of them, "
        "and not another training seed, split or set of cameras."
    )
    return [*(in_words(row) for row in contrasts.to_dict("records")), about + ".", limits]


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
