"""Learning: the epochs behind a figure, short runs. Robustness: a planted colour cast, and statistics adapted to it."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import MODELS, colour_net, patch_table

from camid_utils import experiments, models, planning, published
from camid_utils.analyses import learning, robustness
from camid_utils.intervals import UNTRAINED, photo_accuracy
from camid_utils.training import History

SETTINGS = dict(input_range="-1..1", epochs=9, batch_size=16, learning_rate=0.5)
pytestmark = pytest.mark.usefixtures("on_cpu")


def test_the_epochs_of_best_accuracy_and_of_lowest_loss_are_reported():
    epochs = pd.DataFrame({"epoch": [1, 2, 3], "train_accuracy": [0.5, 0.9, 1.0], "val_accuracy": [0.6, 0.8, 0.7],
                           "val_loss": [1.0, 1.5, 2.0]})  # fmt: skip
    model = models.Model(None, [], 8, "0..1", {"seed": 5})
    history = History(None, epochs, 2, True)
    runs = [experiments.Experiment("cameraconvnet-photo", "photo", [model], [history], None, None)]
    assert learning.two_epochs(runs).loc[0].tolist() == ["cameraconvnet-photo", 5, 3, 2, 0.8, 1.5, 1, 0.6, 1.0]
    log, printed = published.read("dresden_log"), published.read("table2").iloc[0]
    accuracy, loss = (log.set_index("epoch").loc[epoch] for epoch in learning.published_pair(log, printed).values())
    assert accuracy["val_accuracy"] == pytest.approx(printed["val_accuracy"], abs=0.005)
    assert loss["val_loss"] == pytest.approx(printed["val_loss"], abs=0.005) and accuracy.name != loss.name


def test_rate_runs_differ_only_in_rate_and_input_range(store, study):
    settings = dict(input_range="-1..1", epochs=2, batch_size=8, optimizer="adamw", patience=2)
    plan = planning.plan(store.table, "photo", 0)
    found = learning.rate_runs(study, lambda n, _, input_range: colour_net(n), store, plan, settings)
    assert list(found) == [(rate, fed) for rate in learning.RATES for fed in learning.RANGES]
    first = {setting: history.steps["loss"][0] for setting, history in found.items()}  # same weights, same batch
    assert first[0.01, "0..1"] == first[0.001, "0..1"] != first[0.001, "0..255"]


def test_the_table_of_rates_says_which_runs_left_the_start_and_which_diverged():
    losses = {(0.001, "0..255"): [2.0, 1.2, 1.5], (0.001, "0..1"): [1.39, 1.3, 1.38], (0.01, "0..1"): [np.nan] * 3}
    epochs = pd.DataFrame({"epoch": [1, 2, 3], "val_accuracy": [0.2, 0.7, 0.6]})
    runs = {
        setting: History(None, epochs.assign(val_loss=own), 2, i < 1) for i, (setting, own) in enumerate(losses.items())
    }
    table = learning.rates_table(runs, 4)  # guessing has a loss of 1.39, nine tenths of it are 1.25
    assert table["run"].tolist() == ["0.001, 0..255", "0.001, 0..1", "0.01, 0..1"]
    assert table["val_loss"].fillna(9).tolist() == [1.2, 1.3, 9] and table["val_accuracy"].tolist() == [0.7, 0.7, 0.2]
    assert table["left_start"].tolist() == table["plateau"].tolist() == [True, False, False]


@pytest.fixture
def store(make_store):
    """As in conftest.py, of enough scenes for a verdict: a patch of each photo, in random order."""
    table = patch_table(scenes=32, per_photo=1).sample(frac=1, random_state=0).reset_index(drop=True)
    pixels = np.random.default_rng(0).integers(0, 40, (len(table), 8, 8, 3), dtype=np.uint8)
    pixels[np.arange(len(table)), :, :, pd.Index(MODELS).get_indexer(table["camera_model"])] += 60
    return make_store(pixels, table)


@pytest.fixture
def result(study, store):
    """A network with batch normalisation that classifies all test photos of the store correctly."""
    plans = planning.plans(store.table, "scene+device", 0)
    return experiments.run(study, "design-base", lambda n, _: colour_net(n, norm=True), store, plans, SETTINGS)


@pytest.fixture
def cast(store, make_store):
    """The same photos in another order with a cast of one colour: all look like its class."""
    order = np.random.default_rng(5).permutation(len(store.table))
    table = store.table.iloc[order].reset_index(drop=True)
    return make_store(store.pixels[order] + np.array([0, 150, 0], np.uint8), table, "random-8-cast")


def test_adaptation_uses_the_statistics_of_the_tested_photos_and_no_others(result, cast):
    before = deepcopy(result.models[0].net.state_dict())
    cast.pixels[~cast.table["photo"].isin(result.test()["photo"])] = 255  # would spoil the statistics
    plain, adapted = (experiments.predict_test(result, cast, how) for how in (None, robustness.adapted_network))
    assert [photo_accuracy(table)["value"][0] for table in (plain, adapted)] == pytest.approx([1 / 3, 1])
    assert adapted["photo"].tolist() == plain["photo"].tolist() and set(adapted["part"]) == {"test"}
    assert all(torch.equal(t, before[name]) for name, t in result.models[0].net.state_dict().items())  # not changed


def test_adapted_statistics_are_means_over_batches_of_one_size(result, cast):
    model, rows = result.models[0], np.arange(96)
    adapted = robustness.adapted_network(model, cast, rows)
    inputs = models.to_input(torch.from_numpy(cast.pixels[rows]).permute(0, 3, 1, 2), model.input_range).split(48)
    means, variances = (torch.stack([take(x, (0, 2, 3)) for x in inputs]).mean(0) for take in (torch.mean, torch.var))
    torch.testing.assert_close(adapted.features[0].running_mean, means)
    torch.testing.assert_close(adapted.features[0].running_var, variances)
    assert not any(part.training for part in adapted.modules())
    with pytest.raises(ValueError, match="Sequential has no batch normalisation"):
        robustness.adapted_network(model._replace(net=colour_net(3)), cast, rows)


def test_robustness_compares_each_run_with_the_first_under_the_same_degradation(result, store, cast):
    trained = result._replace(metrics=result.metrics.assign(plateau=True))  # nine epochs without patience are none
    stores, conditions = {"": store, "jpeg 70": cast}, [("none", "intact", ""), ("JPEG", "quality 70", "jpeg 70")]
    rows = robustness.robustness({"base": trained, "same": trained}, stores.get, conditions)
    assert rows["model"].tolist() == ["base", "base, adapted", "same", "same, adapted"] * 2
    assert rows["value"].tolist() == pytest.approx([1, 1, 1, 1, 1 / 3, 1, 1 / 3, 1])
    assert rows["change"].tolist() == pytest.approx([0, 0, 0, 0, 0, 2 / 3, 0, 2 / 3])
    shown = robustness.change_table(rows, ["kind", "setting", "model"])
    assert list(shown) == ["kind", "setting", "model", "accuracy", "change, points (95 %)", "verdict"]
    assert shown["verdict"].tolist() == ["", *["undecided"] * 3, "", "higher", "undecided", "higher"]
    stores = {robustness.CONDITIONS["traces destroyed"]: cast}
    rows = robustness.without_traces({"crops": trained, "squashed": result}, lambda label, how: stores.get(how, store))
    assert rows["group"].tolist() == ["intact", "traces destroyed", "coarse content only"] * 2
    assert rows["change"].tolist() == pytest.approx([0, -2 / 3, 0] * 2) and rows["change_high"][1] < 0
    assert rows["verdict"].tolist() == ["", "lower", "undecided", "", UNTRAINED, UNTRAINED]


def test_validation_photos_choose_the_best_experiment_and_the_loss_decides_a_tie():
    table = pd.DataFrame({"experiment": [*"abccd"], "part": ["val", "val", "val", "test", "val"], "level": "photo",
                          "accuracy": [0.8, 0.8, 0.7, 1, 1], "log loss": [0.9, 0.5, 0.1, 0, 0]})  # fmt: skip
    metrics = table.melt(["experiment", "part", "level"], var_name="metric")
    assert robustness.best_on_validation(metrics, ["a", "b", "c"]) == "b"
    assert robustness.best_on_validation(metrics.iloc[::-1], ["a", "c"]) == "a"
