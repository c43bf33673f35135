"""A planted colour cast costs accuracy, adapted statistics recover it, and every table names what it compares."""

import numpy as np
import pandas as pd
import pytest
import torch

from camid_utils import experiments, planning
from camid_utils.analyses import robustness
from camid_utils.intervals import photo_accuracy

SETTINGS = dict(input_range="-1..1", epochs=9, batch_size=16, learning_rate=0.5, select="val_loss")
pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture
def result(study, store, colour_net):
    """A network with batch normalisation that classifies all test photos of the store correctly."""
    plans = planning.plans(store.table, "scene+device", 0)
    return experiments.run(study, "design-base", lambda n, _: colour_net(n, norm=True), store, plans, SETTINGS)


@pytest.fixture
def cast(store, make_store):
    """The same photos in another order with a cast of one colour: all look like its class."""
    order = np.random.default_rng(5).permutation(len(store.table))
    pixels = store.pixels[order] + np.array([0, 150, 0], np.uint8)
    return make_store(pixels, store.table.iloc[order].reset_index(drop=True), "random-8-cast")


def test_adaptation_uses_the_statistics_of_each_tested_photo_and_no_other(result, cast):
    before = {name: t.clone() for name, t in result.models[0].net.state_dict().items()}
    untested = ~cast.table["photo"].isin(result.test()["photo"]).to_numpy()
    cast.pixels[untested] = 255  # would spoil the statistics
    plain, adapted = experiments.predict_test(result, cast), robustness.predict_adapted(result, cast, batch_size=8)
    assert [photo_accuracy(table)["value"][0] for table in (plain, adapted)] == pytest.approx([1 / 3, 1])
    assert adapted["photo"].tolist() == plain["photo"].tolist() and set(adapted["part"]) == {"test"}
    after = result.models[0].net.state_dict()
    assert all(torch.equal(t, before[name]) for name, t in after.items())  # the run itself is not changed


def test_robustness_compares_each_run_with_the_first_under_the_same_degradation(result, store, cast):
    stores, conditions = {"": store, "jpeg 70": cast}, [("none", "intact", ""), ("JPEG", "quality 70", "jpeg 70")]
    rows = robustness.robustness({"base": result, "same": result}, stores.get, conditions)
    assert rows["model"].tolist() == ["base", "base, adapted", "same", "same, adapted"] * 2
    assert rows["value"].tolist() == pytest.approx([1, 1, 1, 1, 1 / 3, 1, 1 / 3, 1])
    assert rows["change"].tolist() == pytest.approx([0, 0, 0, 0, 0, 2 / 3, 0, 2 / 3])
    shown = robustness.change_table(rows, ["kind", "setting", "model"])
    assert list(shown) == ["kind", "setting", "model", "accuracy", "change, points (95 %)", "verdict"]
    assert shown["verdict"].tolist() == ["undecided"] * 5 + ["higher", "undecided", "higher"]
    rows = robustness.without_traces({"crops": result}, lambda label, how: cast if how == "traces 0.5 90" else store)
    assert rows["group"].tolist() == ["intact", "traces destroyed"]
    assert rows["change"].tolist() == pytest.approx([0, -2 / 3]) and rows["change_high"][1] < 0


def test_the_best_on_validation_is_chosen_by_photos_then_by_loss():
    table = pd.DataFrame({"experiment": list("abccad"), "part": ["val"] * 3 + ["test"] + ["val"] * 2,
                          "level": ["photo"] * 4 + ["patch", "photo"], "accuracy": [0.9, 0.9, 0.8, 1, 1, 1],
                          "log loss": [0.5, 0.4, 0.1, 0.1, 0.1, 0.1]})  # fmt: skip
    metrics = table.melt(["experiment", "part", "level"], var_name="metric")
    assert robustness.best_on_validation(metrics, ["a", "b", "c"]) == "b"
