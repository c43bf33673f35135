"""Sentences and tables say what the metrics say, and turn when the metrics turn."""

import numpy as np
import pandas as pd
import pytest

from camid_utils import evaluation, report
from camid_utils.evaluation import LOG_PROB, METRIC_COLUMNS
from camid_utils.experiments import Experiment
from camid_utils.models import Model
from camid_utils.training import History

DRESDEN, PHONES = "simulated Dresden", "simulated FloreView"
STRICT = "scene+device"
EXPERIMENTS = {  # experiment: (notebook, dataset, protocol, accuracy of test patches, of test photos)
    "cameraconvnet-patch": ("02_cameraconvnet_dresden", DRESDEN, "patch", 0.60, 0.90),
    "equal-scene+device": ("02_cameraconvnet_dresden", DRESDEN, STRICT, 0.40, 0.50),
    "transfer-released-patch": ("03_transfer_to_floreview", PHONES, "patch", 0.20, 0.25),
    "transfer-matched-patch": ("03_transfer_to_floreview", PHONES, "patch", 0.22, 0.30),
    "transfer-matched-strict": ("03_transfer_to_floreview", PHONES, STRICT, 0.21, 0.28),
    "efficientnet-released": ("04_efficientnet_floreview", PHONES, "photo", 0.35, 0.36),
    "design-squashed": ("04_efficientnet_floreview", PHONES, STRICT, 0.30, 0.31),
    "efficientnet-best": ("04_efficientnet_floreview", PHONES, STRICT, 0.70, 0.80),
}
PUBLISHED = {"cameraconvnet-patch": 0.8189, "transfer-released-patch": 0.302, "efficientnet-released": 0.82}


def row(experiment, part, level, metric, value) -> dict:
    _, dataset, protocol, *_ = EXPERIMENTS[experiment]
    paper = PUBLISHED.get(experiment, np.nan) if (part, level, metric) == ("val", "patch", "accuracy") else np.nan
    values = [experiment, dataset, protocol, part, level, metric, value, value - 0.05, value + 0.05, 500, 50, 8, 0, 2,
              0.01, paper]  # fmt: skip
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


# tables of the metrics


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
    assert last["test"] == "0.360 (0.310 to 0.410)"  # per photo
    assert table["test"][1] == "1.500 (1.450 to 1.550)"
    assert list(table["paper_data"]) == ["real Dresden"] * 2 + ["real FloreView"] * 4
    assert list(table["data"])[::2] == [f"{DRESDEN}, patch", f"{PHONES}, patch", f"{PHONES}, photo"]
    assert (table["test photos"] == 50).all() and (table["classes"] == 8).all()


def test_table_two_does_not_depend_on_the_order_of_the_rows(metrics):
    pd.testing.assert_frame_equal(report.table2(metrics.sample(frac=1, random_state=0)), report.table2(metrics))


def level_of(experiment: str) -> str:
    return "photo" if experiment.startswith(("efficient", "design")) else "patch"


def test_bars_are_test_accuracies_at_the_level_of_the_network(metrics):
    bars = report.accuracy_bars(metrics).set_index("experiment")
    assert bars["value"].to_dict() == pytest.approx(
        {name: photo if level_of(name) == "photo" else patch for name, (*_, patch, photo) in EXPERIMENTS.items()}
    )
    assert bars["published"].dropna().to_dict() == PUBLISHED
    assert bars.index.is_unique and (bars["part"] == "test").all()
    for name, (_, _, protocol, *_) in EXPERIMENTS.items():
        assert bars.loc[name, ["protocol", "photos", "level"]].tolist() == [protocol, 50, level_of(name)]


@pytest.mark.parametrize("level", ["patch", "photo"])
def test_test_accuracies_are_labelled_and_grouped_for_a_figure(metrics, level):
    rows = report.test_accuracy(metrics, level).set_index("experiment")
    planted = {name: {"patch": patch, "photo": photo} for name, (*_, patch, photo) in EXPERIMENTS.items()}
    assert rows["value"].to_dict() == {name: values[level] for name, values in planted.items()}
    assert rows["group"].to_dict() == {name: protocol for name, (_, _, protocol, *_) in EXPERIMENTS.items()}
    assert rows["label"]["transfer-matched-patch"] == "range matched, no rotation or jitter"
    assert rows["label"].map(lambda label: label in report.NAMES.values()).all()


def test_a_metric_table_has_value_and_interval_in_a_cell():
    values = ["e", "Dresden", "patch", "test", "patch", "accuracy", 0.5, 0.4, 0.6, 90, 9, 3, 0, 1, 0, None]
    row = dict(zip(METRIC_COLUMNS, values, strict=True))
    table = report.metric_table(pd.DataFrame([row, row | {"metric": "log loss", "value": 1.25}, row | {"part": "val"}]))
    assert len(table) == 2
    assert table.reset_index().query("part == 'test'")[["accuracy", "log loss"]].to_numpy().tolist() == [
        ["0.500 (0.400 to 0.600)", "1.250 (0.400 to 0.600)"]
    ]


def test_the_best_on_validation_photos_whatever_test_says(metrics):
    names = ["efficientnet-released", "design-squashed", "transfer-matched-patch"]
    assert report.best_on_validation(metrics, names) == "efficientnet-released"
    assert report.best_on_validation(metrics, names[1:]) == "design-squashed"
    other = metrics.copy()
    other.loc[other["part"] == "test", "value"] = 1 - other["value"]
    other.loc[other["level"] == "patch", "value"] = 1 - other["value"]
    assert report.best_on_validation(other, names) == "efficientnet-released"
    val = (other["part"] == "val") & (other["level"] == "photo")
    other.loc[val & (other["metric"] == "accuracy"), "value"] = 0.5
    other.loc[val & (other["metric"] == "log loss") & (other["experiment"] == names[1]), "value"] = 0.1
    assert report.best_on_validation(other, names) == names[1]  # equals: the lower loss


def test_every_row_of_table_two_has_a_name():
    assert {experiment for experiment, _, _ in report.TABLE2.values()} <= set(report.NAMES)


# contrasts


CONTRAST = {
    "a": "design-base", "protocol_a": STRICT, "b": "design-squashed", "protocol_b": STRICT, "dataset": PHONES,
    "level": "photo", "difference": 0.123, "low": 0.05, "high": 0.2, "photos": 50, "photos_b": 50, "paired": True,
}  # fmt: skip
TURNS = [(0.01, 0.2, "first"), (-0.2, -0.01, "second"), (-0.1, 0.1, "open"), (0, 0.1, "open"), (-0.1, 0, "open")]


@pytest.mark.parametrize("low, high, said", TURNS)
def test_a_sentence_turns_with_its_interval(low, high, said):
    sentence = report.in_words(CONTRAST | {"low": low, "high": high})
    words = {"first": "the first is better", "second": "the second is better", "open": "not decided"}
    assert [word for word in words.values() if word in sentence] == [words[said]]


def test_a_sentence_quotes_its_figures_and_data():
    sentence = report.in_words(CONTRAST)
    assert "+12.3 points, 95 % interval +5.0 to +20.0, the same 50 photos" in sentence
    assert PHONES in sentence and "native crops (scene+device) less whole photo squashed (scene+device)" in sentence
    apart = report.in_words(CONTRAST | {"paired": False, "photos_b": 70, "level": "patch"})
    assert "50 and 70 photos" in apart and "test patches" in apart
    assert report.points(CONTRAST | {"difference": -0.2, "low": -0.25, "high": 0}) == (
        "-20.0 points, 95 % interval -25.0 to +0.0"
    )


def test_conclusions_say_whether_the_photographs_were_simulated():
    contrasts = pd.DataFrame([CONTRAST, CONTRAST | {"dataset": "Dresden"}])
    *_, last, limits = report.conclusions(contrasts)
    assert "down to 50 of them" in limits
    assert "Dresden and simulated FloreView photographs. Those of simulated FloreView show" in last
    *sentences, last, _ = report.conclusions(contrasts.assign(dataset="Dresden"))
    assert "simulated" not in last and len(sentences) == 2


def test_effects_are_labelled_by_what_they_are_about():
    rows = report.effects(pd.DataFrame([CONTRAST, CONTRAST | {"a": "design-photo", "protocol_a": "photo"}]))
    assert list(rows["label"]) == ["EfficientNet, native crops", "native crops, scenes and devices shared"]
    assert list(rows["group"]) == [STRICT, "photo"] and (rows["value"] == 0.123).all()


@pytest.mark.parametrize("protocol, shown", [("patch", "patch"), ("strict", STRICT)])
@pytest.mark.parametrize("low, high, said", TURNS)
def test_what_the_transfer_shows_turns_with_its_intervals(low, high, said, protocol, shown):
    def one(a, b, **change):
        return (
            CONTRAST | {"a": f"transfer-{a}-{protocol}", "b": f"transfer-{b}-{protocol}", "protocol_a": shown} | change
        )

    rows = pd.DataFrame([
        one("range", "released", low=-0.3, high=-0.2),
        one("matched", "random", low=low, high=high),
        one("degraded", "matched"),  # no question of this list
    ])  # fmt: skip
    filters, recipe = report.transfer_conclusions(rows)
    answer = {"first": "? yes (", "second": "? no, the opposite (", "open": "? not decided ("}[said]
    assert filters.startswith(
        f"{PHONES}, {shown}: pretrained frozen filters are better than random frozen ones{answer}"
    )
    assert f"interval {100 * low:+.1f} to {100 * high:+.1f}" in filters
    assert "matching the input range alone" in recipe and "no, the opposite (" in recipe


def test_contrasts_are_read_from_all_notebooks(tmp_path):
    with pytest.raises(FileNotFoundError, match="run notebooks 02 to 04 first"):
        report.read_contrasts(tmp_path)
    for name in ("02", "03"):
        pd.DataFrame([CONTRAST]).to_csv(tmp_path / f"{name}_contrasts.csv", index=False)
    assert report.read_contrasts(tmp_path).to_dict("records") == [CONTRAST] * 2


# experiments


def epochs(accuracy: list[float], loss: list[float]) -> History:
    table = pd.DataFrame({"epoch": range(1, len(loss) + 1), "val_accuracy": accuracy, "val_loss": loss})
    return History(pd.DataFrame(), table, 1)


def experiment(name: str, protocol: str, right: int, seeds: int = 1, history: History | None = None) -> Experiment:
    """Under each seed it names `right` of its 40 test photos rightly, two patches each, and all of val."""
    photos = np.repeat(np.arange(50), 2)
    wins = (photos < right) | (photos >= 40)
    logs = np.log(np.where(wins, 0.9, 0.1))
    table = pd.DataFrame(
        {
            "photo": [f"{i:02}.jpg" for i in photos], "y": 0, "x": np.tile([0, 48], 50), "true": "A",
            "dataset": DRESDEN, "part": np.where(photos < 40, "test", "val"),
            f"{LOG_PROB}A": logs, f"{LOG_PROB}B": np.log(1 - np.exp(logs)),
        }
    )  # fmt: skip
    found = [Model(None, ["A", "B"], 48, "0..1", {"seed": seed}) for seed in range(seeds)]
    tables = pd.concat([table.assign(seed=seed) for seed in range(seeds)], ignore_index=True)
    return Experiment(name, protocol, found, [history] * seeds, tables, None)


@pytest.mark.parametrize("level", ["patch", "photo"])
def test_contrast_finds_the_planted_difference_of_the_test_part(level):
    one, two = experiment("one", "scene", 30), experiment("two", "scene", 20)
    (row,) = report.contrast(one, two, level).to_dict("records")
    assert list(row) == report.CONTRAST_COLUMNS and (row["a"], row["b"], row["level"]) == ("one", "two", level)
    assert row["difference"] == pytest.approx(0.25) and row["paired"] and row["photos"] == row["photos_b"] == 40
    assert 0 < row["low"] < 0.25 < row["high"] and row["dataset"] == DRESDEN
    (other,) = report.contrast(one, experiment("two", "patch", 20), level).to_dict("records")
    assert other["difference"] == pytest.approx(0.25) and not other["paired"] and other["protocol_b"] == "patch"
    assert other["high"] - other["low"] > row["high"] - row["low"]
    (back,) = report.contrast(two, one, level).to_dict("records")
    assert back["difference"] == pytest.approx(-0.25) and back["high"] < 0


def test_contrast_of_several_seeds_is_paired_only_where_all_seeds_are():
    """Equal seeds add no certainty; of a run with fewer seeds not every row has its other half."""
    one, two = experiment("one", "scene", 30, seeds=3), experiment("two", "scene", 20, seeds=3)
    (row,) = report.contrast(one, two).to_dict("records")
    (single,) = report.contrast(experiment("one", "scene", 30), experiment("two", "scene", 20)).to_dict("records")
    assert row["paired"] and row["photos"] == 40
    assert [row[k] for k in ("difference", "low", "high")] == pytest.approx(
        [single[k] for k in ("difference", "low", "high")]
    )
    (mixed,) = report.contrast(one, experiment("two", "scene", 20)).to_dict("records")
    assert not mixed["paired"] and mixed["difference"] == pytest.approx(0.25)


def test_contrasts_have_a_row_a_run_and_level():
    base = experiment("base", "scene", 20)
    rows = report.contrasts([experiment("x", "scene", 30), experiment("y", "scene", 10)], base, ("patch", "photo"))
    assert rows[["a", "level"]].to_numpy().tolist() == [["x", "patch"], ["x", "photo"], ["y", "patch"], ["y", "photo"]]
    assert (rows["b"] == "base").all() and rows["difference"].tolist() == pytest.approx([0.25, 0.25, -0.25, -0.25])


def test_two_epochs_are_those_of_highest_accuracy_and_of_lowest_loss():
    apart = experiment("apart", "patch", 1, 2, epochs([0.1, 0.5, 0.7, 0.7], [2.0, 0.9, 1.1, 1.3]))
    together = experiment("together", "patch", 1, 1, epochs([0.1, 0.5], [2.0, 0.9]))
    rows = report.two_epochs([apart, together])
    assert rows.iloc[0].to_dict() == {
        "run": "apart", "seed": 0, "epochs": 4, "accuracy_epoch": 3, "its_accuracy": 0.7, "its_loss": 1.1,
        "loss_epoch": 2, "accuracy_there": 0.5, "loss_there": 0.9,
    }  # fmt: skip
    assert rows[["run", "seed"]].to_numpy().tolist() == [["apart", 0], ["apart", 1], ["together", 0]]
    assert rows.iloc[2][["accuracy_epoch", "loss_epoch"]].tolist() == [2, 2]


def test_rates_are_told_by_their_last_epoch():
    runs = {(0.01, "0..255"): epochs([0.2, 0.1], [2, 9]), (0.001, "0..1"): epochs([0.2, 0.4, 0.3], [2, 1, 1.5])}
    rows = report.rates_table(runs)
    assert rows.to_numpy().tolist() == [
        ["0.01, 0..255", 0.01, "0..255", 2, 0.1, 9],
        ["0.001, 0..1", 0.001, "0..1", 3, 0.3, 1.5],
    ]
    assert list(rows) == ["run", "learning_rate", "input_range", "epochs", "val_accuracy", "val_loss"]


# votes, shifts and robustness


def test_the_voting_table_has_a_row_a_choice_and_a_column_a_number():
    columns = ["choice", "patches", "value", "low", "high", "photos"]
    rows = [["random", 2, 0.5, 0.4, 0.6, 9], ["random", 16, 0.6, 0.5, 0.7, 9], ["entropy", 16, 0.8, 0.7, 0.9, 9],
            ["entropy", 2, 0.7, 0.6, 0.8, 9]]  # fmt: skip
    table = report.voting_table(pd.DataFrame(rows, columns=columns))
    assert table.loc[("random", 9)].tolist() == ["0.500 (0.400 to 0.600)", "0.600 (0.500 to 0.700)"]
    assert table.loc[("entropy", 9), 2] == "0.700 (0.600 to 0.800)" and list(table.columns) == [2, 16]


def shifts(mean: list[float], deviation: float) -> pd.DataFrame:
    """Channels of one layer whose source has mean 1 and deviation 2."""
    return pd.DataFrame(
        {"layer": "conv1", "channel": range(len(mean)), "mean_source": 1.0, "variance_source": 4.0,
         "mean_target": np.array(mean), "variance_target": deviation**2}
    )  # fmt: skip


def test_shifts_are_medians_over_channels_in_source_deviations():
    table = report.shift_table({"released": shifts([1, -7, 9], 0.02), "matched": shifts([1, 1, 2], 2)})
    assert table.loc[("released", "conv1")].tolist() == [4.0, 0.01]  # shifts of 0, -4, +4
    assert table.loc[("matched", "conv1")].tolist() == [0.0, 1.0]
    both = pd.concat([shifts([1], 2), shifts([3], 4).assign(layer="conv2")])
    assert report.shift_table({"r": both})["deviation, target over source"].tolist() == [1.0, 2.0]


def test_photo_accuracy_is_the_share_of_photos_with_its_labels():
    test = experiment("x", "scene", 30).test()
    (row,) = report.photo_accuracy(test, model="best", setting="jpeg 70").to_dict("records")
    scored = evaluation.score(test, experiment="", protocol="", level="photo").set_index("metric").loc["accuracy"]
    assert row == {"value": 0.75, "low": scored["low"], "high": scored["high"], "n": 40, "model": "best",
                   "setting": "jpeg 70"}  # fmt: skip
    assert 0.5 < row["low"] < 0.75 < row["high"] < 1


def robust(model: str, kind: str, setting: str, value: float) -> dict:
    return {"model": model, "kind": kind, "setting": setting, "value": value, "low": value - 0.1, "high": value + 0.1,
            "n": 40}  # fmt: skip


def test_the_robustness_table_has_a_column_a_model():
    rows = [robust(m, k, s, v) for k, s in (("scale", "0.8"), ("JPEG quality", "50"))
            for m, v in (("plain", 0.5), ("degraded", 0.75))]  # fmt: skip
    table = report.robustness_table(pd.DataFrame(rows))
    assert list(table.columns) == ["plain", "degraded"]
    assert table.loc[("scale", "0.8", 40), "degraded"] == "0.750 (0.650 to 0.850)"
    assert list(table.index) == [("scale", "0.8", 40), ("JPEG quality", "50", 40)]  # in the order given


def test_robustness_is_judged_by_the_change_on_the_same_photos():
    def change(model: str, setting: str, value: float, half: float) -> dict:
        change = {"change": value, "change_low": value - half, "change_high": value + half}
        return robust(model, "scale", setting, 0.5) | change

    rows = pd.DataFrame([
        change("plain", "0.8", 0, 0), change("degraded", "0.8", 0.1, 0.2), change("adapted", "0.8", -0.3, 0.1),
        change("plain", "0.4", 0, 0), change("degraded", "0.4", 0.3, 0.2), change("adapted", "0.4", -0.3, 0.1),
    ])  # fmt: skip
    degraded, adapted = report.robustness_conclusions(rows)
    assert degraded == (
        "degraded less plain, 40 photos: scale, 0.4: +30.0 points (95 % interval +10.0 to +50.0): rises; "
        "not decided in 1 of 2 settings."
    )
    assert adapted.count("falls") == 2 and adapted.endswith("not decided in 0 of 2 settings.")
