"""What is done is told by the very run, what is left adds up, and measuring it changes no figure."""

from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from test_planning import patch_table

from camid_utils import experiments, forecast, models, planning, progress, study, training, transfer

SETTINGS = dict(input_range="-1..1", batch_size=16, learning_rate=0.01)


class PatchStore(NamedTuple):
    pixels: np.ndarray
    table: pd.DataFrame
    folder: Path


@pytest.fixture
def store(tmp_path) -> PatchStore:
    table = patch_table(per_photo=1)
    pixels = np.random.default_rng(0).integers(0, 256, (len(table), 48, 48, 3), dtype=np.uint8)
    return PatchStore(pixels, table, tmp_path / "random-48-0123")


@pytest.fixture
def plans(store) -> list[planning.Plan]:
    return planning.plans(store.table, "scene+device", 0)


@pytest.fixture
def measured(monkeypatch) -> list:
    """A step takes 2 seconds and predicting a batch half of one; gives the calls that measured it."""
    calls = []

    def speed(*args):
        calls.append(args)
        return 2.0, 0.5

    monkeypatch.setattr(training, "speed", speed)
    return calls


def small_net(classes: int, plan) -> models.CameraConvNet:
    return models.CameraConvNet(classes, width=1 / 64)


def train(name, store, plans, folder, **settings) -> experiments.Experiment:
    places = dict(data_dir=folder, results_dir=folder / "results")
    return experiments.run(name, small_net, store, plans, **places, **SETTINGS | settings)


def batches(rows: np.ndarray) -> int:
    return -(-len(rows) // SETTINGS["batch_size"])


def test_what_is_left_adds_up(store, plans, tmp_path, measured):
    row = forecast.cost("new", small_net, store, plans, data_dir=tmp_path, epochs=3, **SETTINGS)
    train, val = (batches(plans[0].rows(part)) for part in ("train", "val"))
    assert (row["patches"], row["epochs"], row["done"]) == (len(plans[0].rows("train")), 3, 0)
    assert row["steps"] == 3 * train and row["seconds"] == 3 * (2.0 * train + 0.5 * val)
    two = plans + planning.plans(store.table, "scene+device", 1)
    assert forecast.cost("new", small_net, store, two, data_dir=tmp_path, epochs=3, **SETTINGS)["epochs"] == 6


def test_a_finished_run_is_done_and_another_one_is_not(store, plans, tmp_path, measured):
    train("known", store, plans, tmp_path, epochs=2)
    planned = dict(make_net=small_net, store=store, plans=plans, data_dir=tmp_path, epochs=2, **SETTINGS)
    row = forecast.cost("known", **planned)
    assert (row["done"], row["steps"], row["seconds"], row["disk"]) == (2, 0, 0, 0) and not measured
    for change in ({"learning_rate": 0.02}, {"epochs": 3}, {"plans": planning.plans(store.table, "photo", 0)}):
        row = forecast.cost("known", **planned | change)
        assert row["done"] == 0 and row["steps"] > 0
    assert forecast.cost("unknown", **planned)["done"] == 0


def test_epochs_of_a_run_that_was_stopped_count(store, plans, tmp_path, monkeypatch, measured):
    ordinary = training._train_epoch

    def stopped(*args):
        if args[-2][1] == 3:  # [seed, epoch]
            raise KeyboardInterrupt
        return ordinary(*args)

    monkeypatch.setattr(training, "_train_epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        train("cut", store, plans, tmp_path, epochs=5)
    row = forecast.cost("cut", small_net, store, plans, data_dir=tmp_path, epochs=5, **SETTINGS)
    assert row["done"] == 2 and row["steps"] == 3 * batches(plans[0].rows("train"))


def test_a_run_that_stopped_early_is_done(store, plans, tmp_path, measured):
    settings = dict(epochs=9, patience=1, learning_rate=0.0)
    assert len(train("early", store, plans, tmp_path, **settings).histories[0].epochs) == 2
    row = forecast.cost("early", small_net, store, plans, data_dir=tmp_path, **SETTINGS | settings)
    assert row["done"] == 9 and row["steps"] == 0


def test_measuring_changes_no_figure(store, plans, tmp_path):
    settings = dict(epochs=1, augment=training.augmentation(flip=True, rotation=10))
    before = torch.get_rng_state()
    row = forecast.cost("later", small_net, store, plans, data_dir=tmp_path, **SETTINGS | settings)
    assert row["seconds"] > 0 and row["memory"] > 1e6 and not (tmp_path / "runs").exists()
    assert torch.equal(torch.get_rng_state(), before)
    after = train("later", store, plans, tmp_path / "measured", **settings).predictions
    settings["augment"] = training.augmentation(flip=True, rotation=10)
    pd.testing.assert_frame_equal(after, train("later", store, plans, tmp_path / "alone", **settings).predictions)


def test_runs_that_are_alike_are_measured_once(store, plans, tmp_path, measured):
    planned = {name: dict(plans=plans) for name in ("one", "two")} | {"three": dict(plans=plans, batch_size=8)}
    common = SETTINGS | dict(make_net=small_net, store=store, data_dir=tmp_path, epochs=1)
    table = forecast.costs(planned, **common)
    assert len(measured) == 2 and list(table["run"]) == ["one", "two", "three"]
    assert table["seconds"][0] == table["seconds"][1] != table["seconds"][2]


def test_what_is_to_be_written_is_what_a_run_writes(store, plans, tmp_path):
    def wide(classes, plan):
        return models.CameraConvNet(classes, width=1 / 8)

    settings = SETTINGS | dict(epochs=1, optimizer="adam", data_dir=tmp_path)
    disk = forecast.cost("wide", wide, store, plans, **settings)["disk"]
    experiments.run("wide", wide, store, plans, results_dir=tmp_path / "results", **settings)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert disk == pytest.approx(written, rel=0.02)


def test_features_are_counted_once_and_only_until_they_are_there(store, plans, tmp_path, measured, monkeypatch):
    monkeypatch.setattr(forecast, "_features_speed", lambda *args: 1000.0)
    torch.manual_seed(3)
    source, augment = models.CameraConvNet(4, width=1 / 64), training.augmentation(flip=True)

    def frozen(classes, plan):
        return transfer.transferred(source, classes)

    common = SETTINGS | dict(make_net=frozen, store=store, plans=plans, data_dir=tmp_path, epochs=1, augment=augment)
    table = forecast.costs({"a": dict(copies=2), "b": dict(copies=2)}, **common)
    views = 3 * len(store.table)
    assert table["seconds"][0] - table["seconds"][1] == pytest.approx(1000 * views)
    assert table["disk"][0] - table["disk"][1] == views * source.features[-2].out_features * 4
    known = transfer.features(source, store, "-1..1", tmp_path / "features", augment, 2, plans[0].seed)
    assert forecast.costs({"a": dict(copies=2)}, **common)["seconds"][0] < 1000
    places = dict(data_dir=tmp_path, results_dir=tmp_path / "results")
    experiments.run("a", frozen, store, plans, features=[known], epochs=1, **places, **SETTINGS)
    assert list(forecast.costs({"a": dict(copies=2), "b": dict(copies=2)}, **common)["done"]) == [1, 0]


def test_without_its_store_a_run_is_known_by_its_folder_and_that_is_said(store, plans, tmp_path, measured):
    common = SETTINGS | dict(make_net=small_net, store=store, plans=plans, data_dir=tmp_path, epochs=2, times=3.0)
    before = forecast.costs({"final": {}}, **common)
    assert before["patches"][0] == 3 * len(plans[0].rows("train")) and before["disk"][0] > 3 * store.pixels.nbytes
    train("final", store, plans, tmp_path, epochs=1)
    after = forecast.costs({"final": {}}, **common)
    assert after["done"][0] == 1 and forecast.table(after).loc["final", "done"] == "1 (by folder)"


def test_a_direct_training_names_its_own_rows_and_folder(store, plans, tmp_path, measured):
    rows, folder = plans[0].rows("train")[::-2], tmp_path / "elsewhere"
    torch.manual_seed(0)
    net = small_net(len(plans[0].class_names), plans[0])
    training.fit(net, store.pixels, plans[0].labels, rows, plans[0].rows("val"), folder=folder, epochs=1, **SETTINGS)
    own = dict(train=rows, folder=folder, epochs=1, data_dir=tmp_path)
    row = forecast.cost("direct", small_net, store, plans, **own, **SETTINGS)
    assert (row["patches"], row["done"]) == (len(rows), 1)


def table_of(**columns) -> pd.DataFrame:
    row = dict(run="a", patches=10, epochs=4, done=1, steps=6, seconds=90.0, memory=2e9, disk=3e6, by_folder=False)
    done = row | dict(run="b", done=4, steps=0, seconds=0.0, memory=0, disk=0)
    return pd.DataFrame([row | columns, done])


def test_the_table_has_a_sum():
    shown = forecast.table(table_of())
    assert list(shown.index) == ["a", "b", "all"]
    assert shown.loc["all"].to_dict() == {
        "patches": "", "epochs": 8, "done": "5", "steps left": "6", "time": "90 s", "disk": "3 MB",
    }  # fmt: skip


def test_the_sentence_says_what_is_left_and_whether_there_is_room(tmp_path):
    text = forecast.in_words(table_of(), tmp_path / "not" / "there")
    assert text.startswith("1 of 2 runs are trained.") and "about 90 s" in text and "2.0 GB so far" in text
    assert "NOT ENOUGH" not in text and "NOT ENOUGH ROOM" in forecast.in_words(table_of(disk=1e18), tmp_path)
    assert "evaluate" in forecast.in_words(table_of(done=4), tmp_path)


@pytest.mark.parametrize("headless", ["", "1"])
def test_a_headless_run_says_it_in_the_terminal_too(headless, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(progress.HEADLESS, headless)
    forecast.announce(table_of(), tmp_path)
    out, err = capsys.readouterr()
    assert out.startswith("1 of 2 runs are trained.")
    assert err == (progress.SAID + out if headless else "")
    said = nbformat.v4.new_output("stream", name="stderr", text=err or progress.SAID)
    cell = nbformat.v4.new_code_cell(outputs=[said, nbformat.v4.new_output("stream", text=out)])
    study.clean(nbformat.v4.new_notebook(cells=[cell]))
    assert [output.text for output in cell.outputs] == [out]


@pytest.mark.parametrize(
    "seconds, text",
    [(0.4, "0 s"), (90, "90 s"), (150, "2.5 min"), (1800, "30 min"), (9000, "2.5 h"), (1e6, "12 days")],
)
def test_durations_come_in_their_unit(seconds, text):
    assert forecast.in_time(seconds) == text


def test_amounts_come_in_their_unit():
    assert [forecast.in_bytes(n) for n in (3e5, 2.5e9, 4.1e13)] == ["0 MB", "2.5 GB", "41.0 TB"]
