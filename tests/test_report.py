"""Sentences and tables say what the metrics say, and turn when the metrics turn."""

import numpy as np
import pandas as pd
import pytest

from camid_utils import report
from camid_utils.evaluation import METRIC_COLUMNS

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


def change(metrics, experiment, value, level="patch"):
    """The same with another test accuracy."""
    chosen = metrics["experiment"].eq(experiment) & metrics["level"].eq(level) & metrics["metric"].eq("accuracy")
    chosen &= metrics["part"].eq("test")
    out = metrics.copy()
    out.loc[chosen, ["value", "low", "high"]] = [value, value - 0.05, value + 0.05]
    return out


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
        units = "photos" if "efficient" in name else "patches"
        assert f"{protocol}, {units}" in bars["label"][name]


@pytest.mark.parametrize(
    "low, high, said", [(0.01, 0.2, "better"), (-0.2, -0.01, "worse"), (-0.1, 0.1, "do not decide"), (0, 0.1, "do not")]
)
def test_a_verdict_needs_an_interval_off_zero(low, high, said):
    assert said in report.verdict(low, high, "better", "worse")


@pytest.mark.parametrize(
    "strict, relation",
    [(0.40, "is above"), (0.49, "is above"), (0.80, "is below"), (0.55, "cannot be told apart from")],
)
def test_a_comparison_turns_with_the_figures(metrics, strict, relation):
    turned = change(metrics, "cameraconvnet-strict", strict)
    sentence = report.compare(turned, "cameraconvnet-patch", "cameraconvnet-strict", "patch")
    relations = ("is above", "is below", "cannot be told apart from")
    assert [words for words in relations if words in sentence] == [relation]
    assert "simulated Dresden" in sentence and "50 photos" in sentence
    assert "60.0 % (95 % interval 55.0 to 65.0" in sentence
    assert f"{100 * strict:.1f} %" in sentence and "scene+device" in sentence


def test_a_comparison_is_of_test_figures_at_the_asked_level(metrics):
    sentence = report.compare(metrics, "efficientnet-crops-strict", "efficientnet-squashed-strict", "photo")
    assert "80.0 %" in sentence and "30.0 %" in sentence and "is above" in sentence and "per photo" in sentence


def test_conclusions_say_whether_the_photographs_were_simulated(metrics):
    text = " ".join(report.conclusions(metrics))
    assert "simulated Dresden and simulated FloreView" in text and "not how well real cameras" in text
    real = metrics.assign(dataset=metrics["dataset"].str.removeprefix("simulated "))
    text = " ".join(report.conclusions(real))
    assert "Dresden and FloreView" in text and "simulated" not in text


def test_conclusions_quote_their_own_figures(metrics):
    sentences = report.conclusions(change(metrics, "transfer-matched", 0.9))
    (sentence,) = [s for s in sentences if "90.0 %" in s]
    assert "20.0 %" in sentence and "is above" in sentence


def test_a_difference_is_in_points():
    assert report.difference("a minus b", 0.123, -0.01, 0.25) == (
        "a minus b: +12.3 points (95 % interval -1.0 to +25.0)"
    )


def test_the_readmes_table_has_a_row_an_experiment(metrics):
    head, rule, *rows = report.readme_table(metrics).splitlines()
    assert len(rows) == len(EXPERIMENTS) and {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}
    assert "81.9 %" in rows[0] and "**60.0 %** of patches (55.0 to 65.0)" in rows[0] and "simulated Dresden" in rows[0]
    assert "not tested" in rows[1] and "**40.0 %**" in rows[1] and "`scene+device`" in rows[1]
    assert "**80.0 %** of photos (75.0 to 85.0)" in rows[-1] and "50 test photos, 8 classes" in rows[-1]
