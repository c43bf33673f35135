"""Predictions keep classes and rows together and are cached by what decides them; metrics agree with scikit-learn."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax
from sklearn import metrics as reference

from camid_utils import evaluation
from camid_utils.analyses import transfer
from camid_utils.evaluation import LOG_PROB, log_probabilities
from camid_utils.models import Model

NAMES = ["Acme_A", "Acme_B", "Bolt_C", "Bolt_D"]
ROWS = np.array([11, 0, 5])  # of the classes Bolt_D, Acme_A, Acme_B


def guesses(predictions: pd.DataFrame) -> list[str]:
    return np.array(evaluation.class_names(predictions))[log_probabilities(predictions).argmax(1)].tolist()


@pytest.fixture
def red(make_store, colour_net, on_cpu):
    """(model, store) of twelve patches: three of each class, whose number is the red value."""
    net, number = colour_net(4), torch.arange(4.0)
    net.classifier.load_state_dict({"weight": number[:, None] * torch.tensor([1.0, 0, 0]), "bias": -(number**2) / 2})
    pixels = np.repeat(np.arange(4, dtype=np.uint8), 3)[:, None, None, None] * np.ones((1, 6, 6, 3), np.uint8)
    table = pd.DataFrame({"photo": [f"{i}.jpg" for i in range(12)], "camera_model": np.repeat(NAMES, 3)})
    return Model(net.eval(), NAMES, 6, "0..255", {"target": "camera_model"}), make_store(pixels, table)


def test_predict_puts_each_logit_under_its_own_class(red, tmp_path):
    """From pixels, and from known features: the first are the originals', the second would give other classes."""
    model, store = red
    colours = store.pixels.mean((1, 2), dtype=np.float32)
    for known in (None, np.stack([colours, 3 - colours])):
        out = evaluation.predict(model, store, ROWS, batch_size=2, features=known)
        assert list(out["photo"]) == ["11.jpg", "0.jpg", "5.jpg"]
        assert guesses(out) == list(out["true"]) == ["Bolt_D", "Acme_A", "Acme_B"]
    back = pd.read_parquet(evaluation.save_predictions(out, tmp_path / "p.parquet"))
    np.testing.assert_allclose(log_probabilities(back), log_probabilities(out), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="the model takes 7"):
        evaluation.predict(model._replace(input_size=7), store, ROWS)


def test_a_second_prediction_is_read_from_the_file_of_the_first(red):
    first, again = (evaluation.predict(*red, ROWS) for _ in range(2))
    pd.testing.assert_frame_equal(again, first, check_exact=True)
    (file,) = red[1].folder.glob("logits-*.npy")
    np.save(file, np.load(file)[:, ::-1])  # the answer really comes from there
    assert guesses(evaluation.predict(*red, ROWS)) == ["Acme_A", "Bolt_D", "Bolt_C"]


@pytest.mark.parametrize("changed", ["weights", "settings", "rows", "order of rows", "input range", "batch size"])
def test_whatever_decides_the_logits_gives_another_file(red, changed):
    model, store = red
    evaluation.predict(model, store, ROWS)
    with torch.no_grad():
        model.net.classifier.bias += 1e-6 * (changed == "weights")
    model.net.settings |= {"width": 0.5} if changed == "settings" else {}
    model = model._replace(input_range="0..1" if changed == "input range" else "0..255")
    rows = {"rows": np.array([11, 0, 4]), "order of rows": ROWS[::-1]}.get(changed, ROWS)
    out = evaluation.predict(model, store, rows, batch_size=2 if changed == "batch size" else 64)
    assert len(list(store.folder.glob("logits-*.npy"))) == 2 and list(out["photo"]) == [f"{i}.jpg" for i in rows]


def test_an_adapted_network_does_not_get_the_answers_of_the_plain_one(store, colour_net, on_cpu):
    """Only buffers differ: the statistics of a batch normalisation."""
    plain = Model(colour_net(3, norm=True).eval(), NAMES[:3], 8, "-1..1", {"target": "camera_model"})
    batch = evaluation.sample(store, np.arange(96), "-1..1")
    adapted = plain._replace(net=transfer.adabn_batchnorm(plain.net, [batch]))
    before, after = (log_probabilities(evaluation.predict(one, store, np.arange(9))) for one in (plain, adapted))
    assert len(batch) == 96 and not np.allclose(before, after, atol=1e-3)
    with torch.no_grad():
        np.testing.assert_allclose(after, adapted.net(batch[:9]).log_softmax(1), atol=1e-5)


def metrics(table: pd.DataFrame) -> dict[str, float]:
    weights = np.ones((1, table["photo"].nunique()))
    return {name: value[0] for name, value in evaluation.weighted_metrics(table, weights).items()}


def test_metrics_agree_with_scikit_learn(noisy_predictions):
    table = noisy_predictions()
    logs, options = log_probabilities(table), dict(labels=NAMES, average="macro", zero_division=0)
    true, guess = table["true"], guesses(table)
    expected = {
        "accuracy": reference.accuracy_score(true, guess),
        "macro precision": reference.precision_score(true, guess, **options),
        "macro recall": reference.recall_score(true, guess, **options),
        "macro F1": reference.f1_score(true, guess, **options),
        "top-3 accuracy": reference.top_k_accuracy_score(true, logs, k=3, labels=NAMES),
        "log loss": reference.log_loss(true, np.exp(logs), labels=NAMES),
    }
    assert metrics(table) == pytest.approx(expected)
    with pytest.raises(ValueError, match="does not know these classes: Else_E"):
        metrics(table.assign(true="Else_E"))


def test_votes_sum_log_probabilities_for_each_photo_and_seed(noisy_predictions):
    tables = [noisy_predictions(photos=4, per_photo=n, seed=n) for n in (3, 2)]
    seeds = pd.concat([table.assign(seed=i) for i, table in enumerate(tables)])
    votes = evaluation.vote(seeds.sample(frac=1, random_state=0))
    assert list(votes["patches"]) == [3] * 4 + [2] * 4 and list(votes["true"]) == NAMES * 2
    sums = [log_probabilities(table).reshape(4, -1, 4).sum(1) for table in tables]
    np.testing.assert_allclose(log_probabilities(votes), log_softmax(np.concatenate(sums), 1))
    weak = noisy_predictions(photos=200, per_photo=16, strength=0.8)
    assert metrics(evaluation.vote(weak))["accuracy"] > metrics(weak)["accuracy"] + 0.2


def test_confusion_by_model_brand_and_device(noisy_predictions):
    table = noisy_predictions(strength=20)
    assert (evaluation.confusion(table).to_numpy() == 50 * np.eye(4)).all()
    assert (evaluation.confusion(table, by="brand").to_numpy() == 100 * np.eye(2)).all()
    by_device = evaluation.confusion(table, by="device", normalise=True)
    assert by_device.shape == (8, 4) and by_device.loc["Acme_B_1", "Acme_B"] == 1.0
    absent = table[table["true"] != "Bolt_D"]  # never true and never predicted: row and column stay
    assert evaluation.confusion(absent).loc["Bolt_D"].sum() == 0 and metrics(absent)["macro recall"] == 1.0
    table.loc[table["photo"].isin(["p00000.jpg", "p00004.jpg"]), LOG_PROB + "Bolt_D"] = 0.0
    (cell,) = evaluation.biggest_confusions(table).to_dict("records")
    assert cell == {"true": "Acme_A", "predicted": "Bolt_D", "rows": 10, "share": 0.2}
