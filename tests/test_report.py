"""Sentences and tables say what the metrics say, and turn when the metrics turn."""

import numpy as np
import pandas as pd
import pytest

from camid_utils import report
from camid_utils.evaluation import LOG_PROB, METRIC_COLUMNS
from camid_utils.experiments import PROJECT, Experiment
from camid_utils.models import Model

EXPERIMENTS = {  # experiment: (notebook, dataset, protocol, accuracy of test patches, of test photos)
    "cameraconvnet-patch": ("02_cameraconvnet_dresden", "simulated Dresden", "patch", 0.60, 0.90),
    "cameraconvnet-strict": ("02_cameraconvnet_dresden", "simulated Dresden", "scene+device", 0.40, 0.50),
    "transfer-released": ("03_transfer_to_floreview", "simulated FloreView", "patch", 0.20, 0.25),
    "transfer-matched": ("03_transfer_to_floreview", "simulated FloreView", "patch", 0.22, 0.30),
    "efficientnet-squashed-photo": ("04_efficientnet_floreview", "simulated FloreView", "photo", 0.35, 0.35),
    "efficientnet-squashed-strict": ("04_efficientnet_floreview", "simulated FloreView", "scene+device", 0.30, 0.30),
    "efficientnet-crops-strict": ("04_efficientnet_floreview", "simulated FloreView", "scene+device", 0.70, 0.80),
}
PUBLISHED = {"cameraconvnet-patch": 0.8189, "transfer-released": 0.302, "efficientnet-squashed-photo": 0.82}


def row(experiment, part, level, metric, value) -> dict:
    _, dataset, protocol, *_ = EXPERIMENTS[experiment]
    paper = PUBLISHED.get(experiment, np.nan) if (part, level, metric) == ("val", "patch", "accuracy") else np.nan
    values = [
        experiment,
        dataset,
        protocol,
        part,
        level,
        metric,
        value,
        value - 0.05,
        value + 0.05,
        500,
        50,
        8,
        0,
        paper,
    ]
    return dict(zip(METRIC_COLUMNS, values, strict=True))


@pytest.fixture
def metrics() -> pd.DataFrame:
    """Planted figures: validation is 0.01 above test, every interval reaches 0.05 to each side, every loss is 1.5."""
    rows = []
    for experiment, (*_, patch, photo) in EXPERIMENTS.items():
        for part, more in (("val", 0.01), ("test", 0.0)):
            for level, value in (("patch", patch), ("photo", photo)):
                rows.append(row(experiment, part, level, "accuracy", value + more))
                rows.append(row(experiment, part, level, "log loss", 1.5 + more))
    return pd.DataFrame(rows)


def test_metrics_are_read_from_three_files(metrics, tmp_path):
    notebook = metrics["experiment"].map(lambda name: EXPERIMENTS[name][0])
    for name, rows in metrics.groupby(notebook):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    read = report.read_metrics(tmp_path)
    assert list(read.columns) == METRIC_COLUMNS and list(read["experiment"].unique()) == list(EXPERIMENTS)
    pd.testing.assert_frame_equal(read, metrics)
    (tmp_path / "03_transfer_to_floreview.csv").unlink()
    with pytest.raises(FileNotFoundError, match="no metrics of 03_transfer_to_floreview in .*: run that notebook"):
        report.read_metrics(tmp_path)


def test_table_two_sets_each_figure_beside_the_papers(metrics):
    table = report.table2(metrics)
    assert list(table["paper"]) == [0.8189, 0.59, 0.302, 1.73, 0.82, 1.03]
    assert list(table["metric"]) == [
        f"{m} per {u}" for u in ("patch", "patch", "photo") for m in ("accuracy", "log loss")
    ]
    first, last = table.iloc[0], table.iloc[4]
    assert (first["validation"], first["test"]) == ("0.610 (0.560 to 0.660)", "0.600 (0.550 to 0.650)")
    assert last["test"] == "0.350 (0.300 to 0.400)" and "squash" not in last["metric"]
    assert table["test"][1] == "1.500 (1.450 to 1.550)"
    assert list(table["paper_data"]) == ["real Dresden"] * 2 + ["real FloreView"] * 4
    assert list(table["data"])[::2] == [
        "simulated Dresden, patch",
        "simulated FloreView, patch",
        "simulated FloreView, photo",
    ]
    assert (table["test photos"] == 50).all() and (table["classes"] == 8).all()


def test_table_two_does_not_depend_on_the_order_of_the_rows(metrics):
    pd.testing.assert_frame_equal(report.table2(metrics.sample(frac=1, random_state=0)), report.table2(metrics))


def test_bars_are_test_accuracies_at_the_level_of_the_network(metrics):
    bars = report.accuracy_bars(metrics).set_index("experiment")
    assert bars["value"].to_dict() == pytest.approx(
        {name: photo if "efficient" in name else patch for name, (*_, patch, photo) in EXPERIMENTS.items()}
    )
    assert bars["published"].dropna().to_dict() == PUBLISHED
    assert bars["label"].is_unique and (bars["part"] == "test").all()
    for name, (_, _, protocol, *_) in EXPERIMENTS.items():
        units = "photos" if "efficient" in name else "photos' patches"
        assert f"{protocol}, 50 {units}" in bars["label"][name]


def test_a_metric_table_has_value_and_interval_in_a_cell():
    row = dict(
        zip(
            METRIC_COLUMNS,
            ["e", "Dresden", "patch", "test", "patch", "accuracy", 0.5, 0.4, 0.6, 90, 9, 3, 0, None],
            strict=True,
        )
    )
    table = report.metric_table(pd.DataFrame([row, row | {"metric": "log loss", "value": 1.25}, row | {"part": "val"}]))
    assert len(table) == 2
    assert table.reset_index().query("part == 'test'")[["accuracy", "log loss"]].to_numpy().tolist() == [
        ["0.500 (0.400 to 0.600)", "1.250 (0.400 to 0.600)"]
    ]


CONTRAST = {
    "a": "efficientnet-crops-strict", "protocol_a": "scene+device", "b": "efficientnet-squashed-strict",
    "protocol_b": "scene+device", "dataset": "simulated FloreView", "level": "photo", "difference": 0.123, "low": 0.05,
    "high": 0.2, "photos": 50, "photos_b": 50, "paired": True,
}  # fmt: skip


@pytest.mark.parametrize(
    "low, high, said",
    [
        (0.01, 0.2, "the first is better"),
        (-0.2, -0.01, "the second is better"),
        (-0.1, 0.1, "not decided"),
        (0, 0.1, "not decided"),
    ],
)
def test_a_sentence_turns_with_its_interval(low, high, said):
    sentence = report.in_words(CONTRAST | {"low": low, "high": high})
    others = {"the first is better", "the second is better", "not decided"} - {said}
    assert said in sentence and not any(word in sentence for word in others)


def test_a_sentence_quotes_its_figures_and_data():
    sentence = report.in_words(CONTRAST)
    assert "+12.3 points (95 % interval +5.0 to +20.0), the same 50 photos" in sentence
    assert "simulated FloreView" in sentence and "native crops (scene+device) less" in sentence


def test_conclusions_say_whether_the_photographs_were_simulated():
    contrasts = pd.DataFrame([CONTRAST, CONTRAST | {"dataset": "Dresden"}])
    *_, last, limits = report.conclusions(contrasts)
    assert "down to 50 of them" in limits
    assert "Dresden and simulated FloreView photographs. Those of simulated FloreView show" in last
    *sentences, last, _ = report.conclusions(contrasts.assign(dataset="Dresden"))
    assert "simulated" not in last and len(sentences) == 2


def experiment(name: str, protocol: str, right: int) -> Experiment:
    """An experiment that names `right` of its 40 test photos rightly, two patches each, and all of val."""
    photos = np.repeat(np.arange(50), 2)
    wins = (photos < right) | (photos >= 40)
    logs = np.log(np.where(wins, 0.9, 0.1))
    table = pd.DataFrame(
        {
            "photo": [f"{i:02}.jpg" for i in photos],
            "y": 0,
            "x": np.tile([0, 48], 50),
            "true": "A",
            "part": np.where(photos < 40, "test", "val"),
            f"{LOG_PROB}A": logs,
            f"{LOG_PROB}B": np.log(1 - np.exp(logs)),
        }
    )
    info = {"experiment": name, "protocol": protocol, "seed": 0, "dataset": "simulated Dresden"}
    return Experiment(Model(None, ["A", "B"], 48, "0..1", info), None, table, None)


@pytest.mark.parametrize("level", ["patch", "photo"])
def test_contrast_finds_the_planted_difference_of_the_test_part(level):
    one, two = experiment("one", "scene", 30), experiment("two", "scene", 20)
    (row,) = report.contrast(one, two, level).to_dict("records")
    assert row["difference"] == pytest.approx(0.25) and row["paired"] and row["photos"] == 40
    assert 0 < row["low"] < 0.25 < row["high"]
    (other,) = report.contrast(one, experiment("two", "patch", 20), level).to_dict("records")
    assert other["difference"] == pytest.approx(0.25) and not other["paired"]
    assert other["high"] - other["low"] > row["high"] - row["low"]


def test_contrasts_are_read_from_all_notebooks(tmp_path):
    for name in ("02", "03"):
        pd.DataFrame([CONTRAST]).to_csv(tmp_path / f"{name}_contrasts.csv", index=False)
    assert report.read_contrasts(tmp_path).to_dict("records") == [CONTRAST] * 2


def test_the_readmes_table_has_a_row_an_experiment(metrics):
    head, rule, *rows = report.readme_table(metrics).splitlines()
    assert len(rows) == len(EXPERIMENTS) and {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}
    assert "81.9 %" in rows[0] and "**60.0 %** of patches (55.0 to 65.0)" in rows[0] and "simulated Dresden" in rows[0]
    assert "not tested" in rows[1] and "**40.0 %**" in rows[1] and "`scene+device`" in rows[1]
    assert "**80.0 %** of photos (75.0 to 85.0)" in rows[-1] and "50 test photos, 8 classes" in rows[-1]


def test_the_readme_shows_what_the_committed_results_say():
    """Paste report.readme_table(report.read_metrics("results/default/metrics")) between the marks where this fails."""
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    shown = readme.split("a test compares -->\n")[1].split("<!-- /results -->")[0]
    assert shown == report.readme_table(report.read_metrics(PROJECT / "results" / "default" / "metrics"))
