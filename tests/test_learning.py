"""Tables of how training went: the epochs behind a figure, and short runs at several learning rates."""

import pandas as pd
import pytest

from camid_utils import experiments, models, planning, published
from camid_utils.analyses import learning
from camid_utils.training import History


def test_the_epochs_of_best_accuracy_and_of_lowest_loss_are_reported():
    epochs = pd.DataFrame({"epoch": [1, 2, 3], "train_accuracy": [0.5, 0.9, 1.0], "val_accuracy": [0.6, 0.8, 0.7],
                           "val_loss": [1.0, 1.5, 2.0]})  # fmt: skip
    model = models.Model(None, [], 8, "0..1", {"seed": 5})
    runs = [experiments.Experiment("equal-photo", "photo", [model], [History(None, epochs, 2)], None, None)]
    assert learning.two_epochs(runs).loc[0].tolist() == ["equal-photo", 5, 3, 2, 0.8, 1.5, 1, 0.6, 1.0]
    assert learning.accuracies_at_best(runs).loc["photo"].tolist() == [0.9, 0.8]
    log, printed = published.read("dresden_log"), published.read("table2").iloc[0]
    accuracy, loss = (log.set_index("epoch").loc[epoch] for epoch in learning.published_pair(log, printed).values())
    assert accuracy["val_accuracy"] == pytest.approx(printed["val_accuracy"], abs=0.005)
    assert loss["val_loss"] == pytest.approx(printed["val_loss"], abs=0.005) and accuracy.name != loss.name


def test_short_runs_differ_only_in_rate_and_input_range(on_cpu, store, study, colour_net):
    asked, plan = [], planning.plan(store.table, "photo", 0)
    settings = dict(input_range="-1..1", epochs=2, batch_size=8, optimizer="adamw", schedule="one-cycle")

    def make_net(classes, plan, input_range):
        asked.append(input_range)
        return colour_net(classes)

    found = learning.short_runs(study, make_net, store, plan, 24, settings)
    assert list(found) == [(rate, fed) for rate in learning.RATES for fed in learning.RANGES]
    assert asked == [fed for _, fed in found] and all(len(history.steps) == 2 * 3 for history in found.values())
    first = {setting: history.steps["loss"][0] for setting, history in found.items()}  # same weights, same batch
    assert first[0.01, "0..1"] == first[0.001, "0..1"] != first[0.001, "0..255"]
    table = learning.rates_table(found)
    assert table["run"].tolist() == ["0.001, 0..255", "0.001, 0..1", "0.01, 0..255", "0.01, 0..1"]
    assert table["val_loss"].tolist() == [history.epochs["val_loss"].iloc[-1] for history in found.values()]
