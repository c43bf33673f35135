"""Tables of results for readers, from the metrics files, with the paper's figures."""

from pathlib import Path

import pandas as pd

from .. import published
from ..experiments import Experiment, Study, labels, listed
from ..intervals import METRIC_COLUMNS, formatted
from ..splits import TESTS

BASELINES = ("header alone", "content alone", "residual features")  # labels, without the test


def read_results(folder: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All metrics and contrasts that notebooks 01 to 05 wrote; the error names the notebook to run first."""
    for number in ("02", "03", "04"):
        if not (Path(folder) / f"{number}_metrics.csv").is_file():
            raise FileNotFoundError(f"no metrics of notebook {number} in {folder}: run that notebook first")
    return read_tables(folder, "0[1-5]_metrics.csv"), read_tables(folder, "0[1-5]_contrasts.csv")


def read_tables(folder: str | Path, pattern: str = "[0-9][0-9]_metrics.csv") -> pd.DataFrame:
    """The tables of a folder whose names match, one below the other; no rows without any."""
    tables = [pd.read_csv(path) for path in sorted(Path(folder).glob(pattern))]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=METRIC_COLUMNS)


def metrics_of(study: Study, notebook: str) -> pd.DataFrame:
    """The metrics that another notebook wrote, by its number."""
    path = study.results / "metrics" / f"{notebook}_metrics.csv"
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: run notebook {notebook} first")
    return pd.read_csv(path)


def family(experiment: str) -> str:
    """The label of an experiment without the test, its last part: "CameraConvNet, new scenes" -> "CameraConvNet"."""
    return labels()[experiment].rpartition(", ")[0]


def method(experiment: str) -> str:
    """The `family` of an experiment of notebook 09, without "all models"; other names stay."""
    return family(experiment).removeprefix("all models, ") if experiment in labels() else experiment


def tested(rows: pd.DataFrame) -> pd.Series:
    """What each row of metrics tests, and on how many photos: for example "new collections (710 photos)"."""
    counts = rows.groupby("protocol")["photos"].transform("max").astype(str)
    return rows["protocol"].map(TESTS) + " (" + counts + " photos)"


def training_table(runs: list[Experiment]) -> pd.DataFrame:
    """How the trainings ended: one row per run and seed, with the epoch kept and whether it reached a plateau."""
    rows = [
        [labels().get(run.name, run.name), model.info["seed"], len(history.epochs), history.best_epoch]
        + [*history.epochs.loc[history.best_epoch - 1, ["val_accuracy", "val_loss"]].round(4), history.plateau]
        for run in runs
        for model, history in zip(run.models, run.histories, strict=True)
    ]
    return pd.DataFrame(rows, columns=["run", "seed", "epochs", "kept", "val_accuracy", "val_loss", "plateau"])


def accuracy_rows(metrics: pd.DataFrame, level: str | None = None) -> pd.DataFrame:
    """Test accuracies, labelled, with the protocol as `group`: at `level`, or each at its experiment's own level."""
    accuracies = metrics[metrics["metric"] == "accuracy"]
    rows = accuracies[accuracies["part"] == "test"]
    rows = rows[rows["level"] == (level or rows["experiment"].map(listed()["level"]))]
    paper = rows["experiment"].map(accuracies.groupby("experiment")["published"].max())
    return rows.assign(label=rows["experiment"].map(labels()), group=rows["protocol"], published=paper)


def effect_rows(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Contrasts as rows for `results.intervals`, labelled by the experiment, with its protocol as `group`."""
    label, value, group = contrasts["a"].map(labels()), contrasts["difference"], contrasts["protocol_a"]
    return contrasts.assign(label=label, value=value, group=group)


def metric_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment, part and level, one column per metric; value and 95 % interval in one cell."""
    return pivot(metrics, ["dataset", "experiment", "protocol", "part", "level", "n", "photos"], "metric")


def pivot(rows: pd.DataFrame, index: list[str], columns: str) -> pd.DataFrame:
    """Values with their intervals: a row per `index` (experiments by their labels), a column per value of `columns`."""
    cells = rows.assign(cell=formatted(rows)).replace({"experiment": labels()})
    return cells.pivot_table(index=index, columns=columns, values="cell", aggfunc="first", sort=False)


def by_group(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per `method`, one column per `group`, which says how many photos it has."""
    named = rows["group"] + " (" + rows["photos"].astype(str) + ")"
    return pivot(rows.assign(group=named, method=rows["experiment"].map(method)), ["method"], "group").fillna("-")


def contrast_table(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Contrasts for readers: what is compared, on which data, the difference in points, and its verdict."""
    contrasts = contrasts.reset_index(drop=True)  # they may be some rows of a larger table
    a, b = ([*map(_with_test, contrasts[end].map(labels()), contrasts[f"protocol_{end}"])] for end in "ab")
    table = pd.DataFrame({"A": a, "B": b}).join(contrasts[["dataset", "level"]])
    a, b = contrasts["photos"].astype(str), contrasts["photos_b"].astype(str)
    table["photos"] = a.where(a == b, a + " and " + b)
    table["A - B, points (95 %)"] = formatted(contrasts, "points", "difference")
    table["p, Holm"] = contrasts["p_holm"].map("{:.3f}".format, na_action="ignore").fillna("")
    table["A is"] = contrasts["verdict"]
    return table


def _with_test(label: str, protocol: str) -> str:
    """A label that says how it was tested; most do."""
    return label if label.endswith(f", {TESTS.get(protocol)}") else f"{label} ({protocol})"


def table2(metrics: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 2 beside our test figures with their 95 % intervals: one row per model and metric.

    BASELINES: the accuracy per photo of each in the same test (data set and protocol), where there is one.
    """
    rows, ids, photo = [], listed(), accuracy_rows(metrics, "photo")
    photo["family"] = photo["experiment"].map(family)
    for i, paper in published.read("table2").iterrows():
        experiment = ids.index[ids["table2"] == str(i)][0]
        level = ids.loc[experiment, "level"]
        ours = metrics.query("experiment == @experiment and level == @level and part == 'test'")
        for metric, value in (("accuracy", paper["val_accuracy"]), ("log loss", paper["val_loss"])):
            test = ours[ours["metric"] == metric]
            photos, classes, *data = test[["photos", "classes", "dataset", "protocol"]].iloc[0]
            what, where = f"{metric} per {level}", f"real {paper['dataset']}"
            same = photo[(photo[["dataset", "protocol"]] == data).all(axis=1) & (metric == "accuracy")]
            beside = [next(iter(formatted(same[same["family"] == name])), "") for name in BASELINES]
            row = [paper["model"], what, value, where, *formatted(test), photos, classes, ", ".join(data)]
            rows.append([*row, *beside])
    columns = ["model", "metric", "paper", "paper_data", "test", "test photos", "classes", "data", *BASELINES]
    return pd.DataFrame(rows, columns=columns)
