"""What the metrics files say: tables beside the paper's, and sentences that change when the figures do."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import published
from .evaluation import METRIC_COLUMNS, paired_difference, score, vote
from .evaluation import difference as unpaired_difference
from .experiments import Experiment
from .splits import PROTOCOLS
from .training import History

CONTRASTS = "0[2-4]*_contrasts.csv"  # those about the paper's experiments, by notebooks 02 to 04b
CONTRAST_COLUMNS = ["a", "protocol_a", "b", "protocol_b", "dataset", "level", "difference", "low", "high", "photos",
                    "photos_b", "paired"]  # fmt: skip

# row of the paper's Table 2: (our experiment, level of the paper's figure, notebook that runs it)
TABLE2 = {
    0: ("cameraconvnet-patch", "patch", "02_cameraconvnet_dresden"),
    1: ("transfer-released-patch", "patch", "03_transfer_to_floreview"),
    2: ("efficientnet-released", "photo", "04_efficientnet_floreview"),
}

NAMES = {  # experiments as a person calls them
    "cameraconvnet-patch": "CameraConvNet from scratch",
    **{f"equal-{p}": "CameraConvNet, equal data and budget" for p in PROTOCOLS},
    **{
        f"transfer-{cell}-{protocol}": name
        for protocol in ("patch", "strict")
        for cell, name in {
            "released": "transfer as released",
            "range": "released, but input range matched",
            "still": "released, but no rotation or jitter",
            "matched": "range matched, no rotation or jitter",
            "finetuned": "matched, nothing frozen",
            "scratch": "matched, nothing pretrained",
            "random": "matched, random frozen filters",
            "adapted": "released, statistics adapted",
            "degraded": "matched, degradation augmentation",
        }.items()
    },
    "efficientnet-released": "EfficientNet as released",
    "design-base": "EfficientNet, native crops",
    "design-scratch": "native crops, not pretrained",
    "design-squashed": "whole photo squashed",
    "design-rotated": "native crops, rotated",
    "design-photo": "native crops, scenes and devices shared",
    "design-linear": "native crops, head without ReLUs",
    "design-degraded": "native crops, degradation augmentation",
    "efficientnet-best": "EfficientNet, best recipe",
    "efficientnet-best-degraded": "best recipe, degradation augmentation",
    "identifier": "identifier, calibrated",
    "identifier-independent": "identifier, patches taken as independent",
    "devices-network": "EfficientNet, device as the class",
    "devices-fingerprint": "sensor-noise fingerprints, device as the class",
    "devices-network-within": "EfficientNet, among devices of one model",
    "devices-fingerprint-within": "sensor-noise fingerprints, among devices of one model",
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


def with_interval(row: pd.Series | dict) -> str:
    """A metric's value with its 95 % interval."""
    return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def accuracy_bars(metrics: pd.DataFrame) -> pd.DataFrame:
    """Test accuracies beside the paper's, a row an experiment, at the level that its network sees."""
    rows = metrics[(metrics["metric"] == "accuracy") & (metrics["part"] == "test")]
    small = rows["experiment"].str.contains("cameraconvnet|equal|transfer")
    rows = rows[rows["level"] == small.map({True: "patch", False: "photo"})]
    paper = metrics[metrics["metric"] == "accuracy"].groupby("experiment")["published"].max()
    return rows.assign(published=rows["experiment"].map(paper))


def test_accuracy(metrics: pd.DataFrame, level: str) -> pd.DataFrame:
    """Rows for `plots_evidence.intervals`: test accuracy of each experiment, labelled, its protocol as the group."""
    rows = metrics[(metrics["metric"] == "accuracy") & (metrics["part"] == "test") & (metrics["level"] == level)]
    return rows.assign(label=rows["experiment"].replace(NAMES), group=rows["protocol"])


def effects(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Rows for `plots_evidence.intervals`: each contrast, labelled by what it is about, its protocol as the group."""
    return contrasts.assign(
        label=contrasts["a"].replace(NAMES), value=contrasts["difference"], group=contrasts["protocol_a"]
    )


def metric_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics as a person reads them: a row an experiment, part and level; value and interval in one cell."""
    index = ["dataset", "experiment", "protocol", "part", "level", "n", "photos"]
    return _cells(metrics, index, "metric")


def _cells(rows: pd.DataFrame, index: list[str], columns: str) -> pd.DataFrame:
    """A table of values with their intervals, a row for each `index`, a column for each of `columns`."""
    cells = rows.assign(cell=[with_interval(row) for _, row in rows.iterrows()])
    return cells.pivot_table(index=index, columns=columns, values="cell", aggfunc="first", sort=False)


def contrast(a: Experiment, b: Experiment, level: str = "patch") -> pd.DataFrame:
    """Test accuracy of `a` less that of `b`, with its 95 % interval: one row.

    Where both were tested on the same photos the difference is taken row by row (paired), else between the two samples.
    Columns: a, protocol_a, b, protocol_b, dataset, level, difference, low, high, photos and photos_b (tested),
    paired.
    """
    tests = [vote(run.test()) if level == "photo" else run.test() for run in (a, b)]
    units = [set(zip(table["seed"], table["photo"], strict=True)) for table in tests]
    paired = units[0] == units[1] and a.protocol == b.protocol
    compare = paired_difference if paired else unpaired_difference
    gap, low, high = compare(*tests, seed=int(tests[0]["seed"].min()))
    row = [a.name, a.protocol, b.name, b.protocol, tests[0]["dataset"].iloc[0], level, gap, low, high]
    photos = [table["photo"].nunique() for table in tests]
    return pd.DataFrame([[*row, *photos, paired]], columns=CONTRAST_COLUMNS)


def contrasts(runs: list[Experiment], base: Experiment, levels: tuple[str, ...]) -> pd.DataFrame:
    """Each run less `base`, at each level: rows of `contrast`."""
    return pd.concat([contrast(run, base, level) for run in runs for level in levels], ignore_index=True)


def two_epochs(runs: list[Experiment]) -> pd.DataFrame:
    """For each run and seed the epoch of highest validation accuracy and that of lowest loss, and what each reports."""
    rows = []
    for run in runs:
        for model, history in zip(run.models, run.histories, strict=True):
            epochs = history.epochs.set_index("epoch")
            best = [epochs["val_accuracy"].idxmax(), epochs["val_loss"].idxmin()]
            cells = [[i, *epochs.loc[i, ["val_accuracy", "val_loss"]]] for i in best]
            rows.append([run.name, model.info["seed"], len(epochs), *cells[0], *cells[1]])
    columns = ["run", "seed", "epochs", "accuracy_epoch", "its_accuracy", "its_loss", "loss_epoch", "accuracy_there",
               "loss_there"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def in_words(row: dict) -> str:
    """A row of `contrast` as a sentence, with what its interval says."""
    names = [f"{NAMES.get(row[k], row[k])} ({row[f'protocol_{k}']})" for k in ("a", "b")]
    verdict = "the first is better" if row["low"] > 0 else "the second is better" if row["high"] < 0 else "not decided"
    unit = {"patch": "patches", "photo": "photos"}[row["level"]]
    photos = f"the same {row['photos']}" if row["paired"] else f"{row['photos']} and {row['photos_b']}"
    return (
        f"{row['dataset']}, test {unit} named rightly: {names[0]} less {names[1]}: {points(row)}, "
        f"{photos} photos: {verdict}."
    )


def rates_table(runs: dict[tuple[float, str], History]) -> pd.DataFrame:
    """The last epoch of short runs, named by learning rate and input range: a row a run."""
    rows = [
        [f"{rate}, {fed}", rate, fed, *history.epochs.iloc[-1][["epoch", "val_accuracy", "val_loss"]]]
        for (rate, fed), history in runs.items()
    ]
    return pd.DataFrame(rows, columns=["run", "learning_rate", "input_range", "epochs", "val_accuracy", "val_loss"])


def voting_table(curve: pd.DataFrame) -> pd.DataFrame:
    """Table of `voting.curve`: a row a choice of patches, a column a number of votes, value and interval a cell."""
    return _cells(curve, ["choice", "photos"], "patches")


def shift_table(shifts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Medians over channels of what `plots_evidence.statistics_shift` draws: a row a recipe and layer."""
    tables = {}
    for recipe, table in shifts.items():
        deviation = table["variance_source"].clip(lower=1e-12) ** 0.5
        shift = (table["mean_target"] - table["mean_source"]).abs() / deviation
        ratio = table["variance_target"].clip(lower=1e-12) ** 0.5 / deviation
        values = pd.DataFrame({"shift of the mean, source deviations": shift, "deviation, target over source": ratio})
        tables[recipe] = values.groupby(table["layer"]).median()
    return pd.concat(tables, names=["recipe", "layer"]).round(4)


def transfer_conclusions(contrasts: pd.DataFrame) -> list[str]:
    """What the intervals of notebook 03 say on the filters and on the recipe: a sentence a question and protocol."""
    questions = {
        ("matched", "random"): "pretrained frozen filters are better than random frozen ones",
        ("matched", "scratch"): "pretrained frozen filters are better than a network trained from nothing",
        ("range", "released"): "matching the input range alone improves the released recipe",
        ("still", "released"): "leaving out rotation and jitter alone improves the released recipe",
        ("matched", "released"): "doing both improves it",
        ("matched", "range"): "leaving out rotation and jitter improves the recipe once its input range is matched",
    }
    sentences = []
    for protocol in ("patch", "strict"):
        for (a, b), claim in questions.items():
            names = [f"transfer-{cell}-{protocol}" for cell in (a, b)]
            for row in contrasts[(contrasts["a"] == names[0]) & (contrasts["b"] == names[1])].to_dict("records"):
                answer = "yes" if row["low"] > 0 else "no, the opposite" if row["high"] < 0 else "not decided"
                sentences.append(f"{row['dataset']}, {row['protocol_a']}: {claim}? {answer} ({points(row)}).")
    return sentences


def points(row: dict) -> str:
    """A contrast in points of accuracy, with its interval."""
    return f"{100 * row['difference']:+.1f} points, 95 % interval {100 * row['low']:+.1f} to {100 * row['high']:+.1f}"


def best_on_validation(metrics: pd.DataFrame, names: list[str]) -> str:
    """The experiment with most validation photos named rightly; among equals that of the lowest log loss."""
    rows = metrics[(metrics["part"] == "val") & (metrics["level"] == "photo") & metrics["experiment"].isin(names)]
    table = rows.pivot(index="experiment", columns="metric", values="value")
    return table.sort_values(["accuracy", "log loss"], ascending=[False, True]).index[0]


def photo_accuracy(predictions: pd.DataFrame, reference: pd.DataFrame | None = None, **labels: str) -> pd.DataFrame:
    """One row: share of photos named rightly, with its 95 % interval; columns of `labels`, value, low, high, n.

    reference: other predictions of the same photos; change, change_low and change_high are then the accuracy less
    theirs, paired.
    """
    seed = int(predictions["seed"].min())
    rows = score(predictions, experiment="", protocol="", level="photo", seed=seed)
    row = rows.loc[rows["metric"] == "accuracy", ["value", "low", "high", "photos"]]
    row = row.rename(columns={"photos": "n"}).assign(**labels).reset_index(drop=True)
    if reference is not None:
        row[["change", "change_low", "change_high"]] = [paired_difference(vote(predictions), vote(reference), seed)]
    return row


def change_in_words(row: dict) -> str:
    """The change of a row of `photo_accuracy`, and whether its interval leaves out zero."""
    verdict = "rises" if row["change_low"] > 0 else "falls" if row["change_high"] < 0 else "not decided"
    figures = (100 * row[f"change{end}"] for end in ("", "_low", "_high"))
    return "{:+.1f} points (95 % interval {:+.1f} to {:+.1f}): {}".format(*figures, verdict)


def robustness_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy after each degradation, a column a model: value and interval in one cell."""
    return _cells(rows, ["kind", "setting", "n"], "model")


def robustness_conclusions(rows: pd.DataFrame) -> list[str]:
    """Each model against the first one on the same degraded photos: settings that are decided, and how many are not.

    rows: photo_accuracy of each model and setting, its reference the first model under that setting.
    """
    first, sentences = rows["model"].iloc[0], []
    for model, own in rows[rows["model"] != first].groupby("model", sort=False):
        decided = own[(own["change_low"] > 0) | (own["change_high"] < 0)]
        told = [f"{row['kind']}, {row['setting']}: {change_in_words(row)}" for row in decided.to_dict("records")]
        undecided = f"not decided in {len(own) - len(told)} of {len(own)} settings"
        sentences.append(f"{model} less {first}, {own['n'].max()} photos: {'; '.join([*told, undecided])}.")
    return sentences


def read_contrasts(folder: str | Path) -> pd.DataFrame:
    """All contrasts that notebooks 02 to 04 wrote."""
    paths = sorted(Path(folder).glob(CONTRASTS))
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
