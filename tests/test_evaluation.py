"""Predictions keep classes and rows together and are cached by what decides them; metrics agree with scikit-learn."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax
from sklearn import metrics as reference
from torch import nn

from camid_utils import evaluation
from camid_utils.analyses import transfer
from camid_utils.evaluation import LOG_PROB, log_probabilities
from camid_utils.models import Model

NAMES = ["Acme_A", "Acme_B", "Bolt_C", "Bolt_D"]


def guesses(predictions: pd.DataFrame) -> list[str]:
    return np.array(evaluation.class_names(predictions))[log_probabilities(predictions).argmax(1)].tolist()


# predictions


class PlantedNet(nn.Module):
    """Predicts the class whose number is the mean of the red channel, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.settings = {"network": "PlantedNet", "num_classes": 4}
        self.scale = nn.Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return nn.functional.one_hot(x[:, 0].mean((1, 2)).round().long(), 4).float() * 9 * self.scale


@pytest.fixture
def red_store(make_store):
    """Twelve patches: three of each class, whose number is the red value."""
    pixels = np.repeat(np.arange(4, dtype=np.uint8), 3)[:, None, None, None] * np.ones((1, 6, 6, 3), np.uint8)
    return make_store(
        pixels, pd.DataFrame({"photo": [f"{i}.jpg" for i in range(12)], "camera_model": np.repeat(NAMES, 3)})
    )


@pytest.fixture
def model():
    return Model(PlantedNet(), NAMES, 6, "0..255", {"target": "camera_model"})


def cached(store) -> list:
    return sorted(store.folder.glob("logits-*.npy"))


def test_predict_puts_each_logit_under_its_own_class(red_store, model, tmp_path):
    out = evaluation.predict(model, red_store, np.array([11, 0, 5]), batch_size=2)
    assert list(out["photo"]) == ["11.jpg", "0.jpg", "5.jpg"]
    assert guesses(out) == list(out["true"]) == ["Bolt_D", "Acme_A", "Acme_B"]
    back = pd.read_parquet(evaluation.save_predictions(out, tmp_path / "p.parquet"))
    np.testing.assert_allclose(log_probabilities(back), log_probabilities(out), rtol=1e-5)
    with pytest.raises(ValueError, match="the model takes 7"):
        evaluation.predict(model._replace(input_size=7), red_store, np.array([0]))


def test_a_second_prediction_is_read_from_the_file_of_the_first(red_store, model):
    first = evaluation.predict(model, red_store, np.arange(5))
    (file,) = cached(red_store)
    again = evaluation.predict(model, red_store, np.arange(5))
    assert model.net.calls == 1 and cached(red_store) == [file]
    pd.testing.assert_frame_equal(again, first, check_exact=True)
    np.save(file, np.load(file)[:, ::-1])  # the answer really comes from there
    assert guesses(evaluation.predict(model, red_store, np.arange(5))) == ["Bolt_D"] * 3 + ["Bolt_C"] * 2


@pytest.mark.parametrize("changed", ["weights", "settings", "rows", "order of the rows", "input range", "batch size"])
def test_whatever_decides_the_logits_gives_another_file(red_store, model, changed):
    rows, batch_size = np.arange(5), 64
    evaluation.predict(model, red_store, rows, batch_size=batch_size)
    if changed == "weights":
        with torch.no_grad():
            model.net.scale += 1e-6
    if changed == "settings":
        model.net.settings["width"] = 0.5
    model = model._replace(input_range="0..1" if changed == "input range" else "0..255")
    rows = {"rows": np.arange(1, 6), "order of the rows": rows[::-1]}.get(changed, rows)
    out = evaluation.predict(model, red_store, rows, batch_size=2 if changed == "batch size" else batch_size)
    assert model.net.calls > 1 and len(cached(red_store)) == 2
    assert list(out["photo"]) == [f"{i}.jpg" for i in rows]


def test_an_adapted_network_does_not_get_the_answers_of_the_plain_one(store, colour_net, on_cpu):
    """Only buffers differ: the statistics of a batch normalisation."""
    torch.manual_seed(0)
    plain = Model(colour_net(3, norm=True).eval(), NAMES[:3], 8, "-1..1", {"target": "camera_model"})
    batch = torch.from_numpy(store.pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    adapted = plain._replace(net=transfer.adabn_batchnorm(plain.net, [batch]))
    before, after = (evaluation.predict(one, store, np.arange(9)) for one in (plain, adapted))
    assert len(cached(store)) == 2 and not np.allclose(log_probabilities(before), log_probabilities(after))
    with torch.no_grad():
        np.testing.assert_allclose(log_probabilities(after), adapted.net(batch[:9]).log_softmax(1), atol=1e-5)


def test_an_interrupted_prediction_leaves_no_file(red_store, model):
    def interrupt(*_):
        raise KeyboardInterrupt

    hook = model.net.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluation.predict(model, red_store, np.arange(5))
    assert not list(red_store.folder.iterdir())
    hook.remove()
    assert guesses(evaluation.predict(model, red_store, np.array([11]))) == ["Bolt_D"]


def test_predict_uses_known_features_of_the_original_images(red_store, model):
    """Row i has the feature i % 4; the augmented copy would give another class, and the frozen part is not called."""

    class Head(nn.Module):
        def forward(self, x):
            return nn.functional.one_hot(x[:, 0].long(), 4).float() * 9

    model.net.classifier = Head()
    first = (np.arange(12, dtype=np.float32) % 4)[:, None]
    features = np.stack([first, (first + 1) % 4])
    out = evaluation.predict(model, red_store, np.array([11, 0, 5]), batch_size=2, features=features)
    assert list(out["photo"]) == ["11.jpg", "0.jpg", "5.jpg"]
    assert guesses(out) == ["Bolt_D", "Acme_A", "Acme_B"] and model.net.calls == 0 and not cached(red_store)


def test_a_sample_is_spread_over_the_rows(make_store):
    pixels = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    store = make_store(pixels, pd.DataFrame(index=range(100)))
    drawn = evaluation.sample(store, np.arange(50, 100), "0..255", count=8)
    assert drawn.shape == (8, 3, 4, 4) and drawn[0, 0, 0, 0] == 50 and drawn[-1, 0, 0, 0] == 99
    few = evaluation.sample(store, np.array([3, 9]), "0..1", count=8)
    assert few[:, 0, 0, 0].tolist() == pytest.approx([3 / 255, 9 / 255])


# metrics, votes, confusion matrices


def metrics(table: pd.DataFrame) -> dict[str, float]:
    photos = table["photo"].nunique()
    return {name: value[0] for name, value in evaluation.weighted_metrics(table, np.ones((1, photos))).items()}


def test_metrics_agree_with_scikit_learn(noisy_predictions):
    table = noisy_predictions()
    logs = log_probabilities(table)
    options = dict(labels=NAMES, average="macro", zero_division=0)
    true, guess = table["true"], guesses(table)
    expected = {
        "accuracy": reference.accuracy_score(true, guess),
        "macro precision": reference.precision_score(true, guess, **options),
        "macro recall": reference.recall_score(true, guess, **options),
        "macro F1": reference.f1_score(true, guess, **options),
        "top-3 accuracy": reference.top_k_accuracy_score(true, logs, k=3, labels=NAMES),
        "log loss": reference.log_loss(true, np.exp(logs), labels=NAMES),
    }
    assert metrics(table) == pytest.approx(expected) and tuple(expected) == evaluation.METRICS


def test_weights_count_photos_as_if_they_were_repeated(noisy_predictions):
    table = noisy_predictions(photos=8, per_photo=3)
    weights = np.array([3, 0, 1, 1, 2, 0, 1, 1])
    repeated = table.loc[table.index.repeat(np.repeat(weights, 3))]
    weighted = evaluation.weighted_metrics(table, weights[None])
    assert {name: value[0] for name, value in weighted.items()} == pytest.approx(metrics(repeated))


def test_a_class_that_is_never_predicted_keeps_its_row_and_column(noisy_predictions):
    table = noisy_predictions(strength=20)
    table = table[table["true"] != "Bolt_D"]
    matrix = evaluation.confusion(table)
    assert list(matrix.index) == NAMES and matrix.loc["Bolt_D"].sum() == 0
    assert metrics(table)["macro recall"] == 1.0


def test_an_unknown_class_is_an_error(noisy_predictions):
    with pytest.raises(ValueError, match="does not know these classes: Else_E"):
        metrics(noisy_predictions().assign(true="Else_E"))


def test_votes_sum_log_probabilities(noisy_predictions):
    table = noisy_predictions(photos=4, per_photo=3)
    voted = evaluation.vote(table.sample(frac=1, random_state=0))
    logs = log_probabilities(table).reshape(4, 3, 4).sum(1)
    np.testing.assert_allclose(log_probabilities(voted), log_softmax(logs, 1))
    assert list(voted["patches"]) == [3] * 4 and list(voted["true"]) == NAMES


def test_voting_improves_weak_predictions(noisy_predictions):
    table = noisy_predictions(photos=200, per_photo=16, strength=0.8)
    assert metrics(evaluation.vote(table))["accuracy"] > metrics(table)["accuracy"] + 0.2


def test_seeds_vote_separately(noisy_predictions):
    tables = noisy_predictions(photos=6, per_photo=3), noisy_predictions(photos=4, per_photo=2, seed=1)
    votes = evaluation.vote(pd.concat([table.assign(seed=i) for i, table in enumerate(tables)]))
    assert list(votes["patches"]) == [3] * 6 + [2] * 4
    for seed, table in enumerate(tables):
        own = votes[votes["seed"] == seed].reset_index(drop=True)
        pd.testing.assert_frame_equal(own.drop(columns="seed"), evaluation.vote(table), check_like=True)


def test_confusion_by_model_brand_and_device(noisy_predictions):
    table = noisy_predictions(strength=20)
    assert (evaluation.confusion(table).to_numpy() == 50 * np.eye(4)).all()
    assert (evaluation.confusion(table, by="brand").to_numpy() == 100 * np.eye(2)).all()
    by_device = evaluation.confusion(table, by="device", normalise=True)
    assert by_device.shape == (8, 4) and by_device.loc["Acme_B_1", "Acme_B"] == 1.0


def test_the_biggest_confusion_is_the_planted_one(noisy_predictions):
    table = noisy_predictions(strength=20)
    table.loc[table["photo"].isin(["p00000.jpg", "p00004.jpg"]), LOG_PROB + "Bolt_D"] = 0.0
    (cell,) = evaluation.biggest_confusions(table).to_dict("records")
    assert cell == {"true": "Acme_A", "predicted": "Bolt_D", "rows": 10, "share": 0.2}


def test_roc_points_agree_with_scikit_learn(noisy_predictions):
    table = noisy_predictions()
    positive, score = (table["true"] == "Acme_A").to_numpy(), log_probabilities(table)[:, 0]
    points = evaluation.roc_points(positive, score)
    area = np.trapezoid(points["true_positive_rate"], points["false_positive_rate"])
    assert area == pytest.approx(reference.roc_auc_score(positive, score))
