"""Predictions are cached by what decides them; metrics agree with scikit-learn; intervals treat a photo as one."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax
from sklearn import metrics as reference

from camid_utils import evaluation, intervals
from camid_utils.evaluation import LOG_PROB, log_probabilities
from camid_utils.models import Model

NAMES = ["Acme_A", "Acme_B", "Bolt_C", "Bolt_D"]
WRONG = dict(zip(NAMES, np.roll(NAMES, -1), strict=True))  # a wrong class for each
ROWS = np.array([11, 0, 5])  # of the classes Bolt_D, Acme_A, Acme_B


def guesses(predictions: pd.DataFrame) -> list[str]:
    return np.array(evaluation.class_names(predictions))[log_probabilities(predictions).argmax(1)].tolist()


@pytest.fixture
def red(make_store, colour_net, on_cpu):
    """(model, store) of twelve patches: three of each class, whose number is the red value."""
    net, number = colour_net(4, norm=True), torch.arange(4.0)  # not trained: the normalisation changes nothing
    net.classifier.load_state_dict({"weight": number[:, None] * torch.tensor([1.0, 0, 0]), "bias": (0 - number**2) / 2})
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


@pytest.mark.parametrize("changed", ["weights", "statistics", "adapted", "settings", "rows", "order", "range", "batch"])
def test_whatever_decides_the_logits_gives_another_file(red, changed):
    model, store = red
    evaluation.predict(model, store, ROWS)
    with torch.no_grad():
        model.net.classifier.bias += 1e-6 * (changed == "weights")
        model.net.features[0].running_mean += 1e-6 * (changed == "statistics")
    model.net.settings |= {"width": 0.5} if changed == "settings" else {}
    model = model._replace(input_range="0..1" if changed == "range" else "0..255")
    rows = {"rows": np.array([11, 0, 4]), "order": ROWS[::-1]}.get(changed, ROWS)
    adapt = (lambda model, *_: model.net) if changed == "adapted" else None
    out = evaluation.predict(model, store, rows, adapt=adapt, batch_size=2 if changed == "batch" else 64)
    assert len(list(store.folder.glob("logits-*.npy"))) == 2 and list(out["photo"]) == [f"{i}.jpg" for i in rows]


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


def accuracy(table: pd.DataFrame, **change) -> pd.Series:
    """The row of `intervals.score` for the accuracy."""
    return intervals.score(table, experiment="e", protocol="photo", **change).set_index("metric").loc["accuracy"]


def with_seeds(*tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table.assign(seed=i) for i, table in enumerate(tables)], ignore_index=True)


def certain(table: pd.DataFrame, classes) -> pd.DataFrame:
    """The table with certain predictions of these classes, one for each row."""
    logs = np.where(np.array(NAMES) == np.asarray(classes)[:, None], 0.0, -9.0)
    return table.assign(**{LOG_PROB + name: logs[:, i] for i, name in enumerate(NAMES)})


@pytest.mark.parametrize("how", ["patches", "seeds"])
def test_patches_and_seeds_that_only_repeat_a_photo_add_no_certainty(noisy_predictions, how):
    """Photos are drawn whole, with all their patches and seeds."""
    tables = [noisy_predictions(60, 1, seed=seed) for seed in (1, 2)]
    copies = [with_seeds(*[table.assign(x=i * (how == "patches")) for i in range(9)]) for table in tables]
    copies = [table.assign(seed=table["seed"] * (how == "seeds")) for table in copies]
    once, often = (accuracy(found[0]) for found in (tables, copies))
    assert often[["value", "low", "high"]].tolist() == pytest.approx(once[["value", "low", "high"]].tolist())
    assert once["low"] < once["value"] < once["high"] and once["photos"] == often["photos"] == 60
    assert intervals.paired_difference(*copies) == pytest.approx(intervals.paired_difference(*tables))


def test_intervals_cover_as_often_as_they_say(noisy_predictions):
    """Of an accuracy, and of two differences that are zero: other photos (unpaired), or two networks (paired)."""
    truth = accuracy(noisy_predictions(photos=20_000, per_photo=1, seed=99), resamples=1)["value"]
    covered = np.zeros(3)
    for s in range(100):
        a, b = (noisy_predictions(photos=80, per_photo=1, seed=[s, i]) for i in range(2))
        row = accuracy(a)
        ends = [f(a, b, seed=s)[1:] for f in (intervals.difference, intervals.paired_difference)]
        covered += [row["low"] <= truth <= row["high"], *(low <= 0 <= high for low, high in ends)]
    assert (covered >= 88).all() and (covered < 100).all()


def test_seeds_are_pooled_and_their_spread_is_reported(noisy_predictions):
    """The seeds' accuracies are 1, 0 and 1, of 20, 40 and 20 photos."""
    right = noisy_predictions(photos=40, per_photo=1, strength=50)
    row = accuracy(with_seeds(right[:20], certain(right, right["true"].map(WRONG)), right[20:]))
    assert row[["value", "n", "photos", "seeds"]].tolist() == [0.5, 80, 40, 3]
    assert row["spread"] == pytest.approx(np.std([1, 0, 1], ddof=1))
    assert row["low"] == row["high"] == 0.5  # every photo is right once and wrong once, whichever are drawn
    with pytest.raises(ValueError, match="no predictions to score for e, photo, test"):
        accuracy(right[:0])


def test_differences_find_a_planted_gap_whatever_the_order(noisy_predictions):
    """Weak predictions, and the same with 100 of 500 wrong rows corrected; pairing narrows the interval."""
    weak = noisy_predictions(photos=100, strength=0)
    corrected = np.array(guesses(weak))
    wrong = np.flatnonzero(corrected != weak["true"])[::3][:100]
    corrected[wrong] = weak["true"].to_numpy()[wrong]
    better = certain(weak, corrected).sample(frac=1, random_state=0)
    for compare, widest in ((intervals.paired_difference, 0.08), (intervals.difference, 0.12)):
        gap, low, high = compare(better, weak)
        assert gap == pytest.approx(0.2) and 0 < low < gap < high and widest - 0.03 < high - low < widest
        assert compare(weak, better)[0] == pytest.approx(-0.2)
    assert intervals.paired_difference(weak, weak) == (0, 0, 0)


def test_a_paired_difference_compares_only_rows_that_both_have_matched_by_seed(noisy_predictions):
    strong, weak = (noisy_predictions(photos=40, per_photo=1, strength=s) for s in (20, 0))
    half = intervals.paired_difference(strong[:20], weak)
    assert half == pytest.approx(intervals.paired_difference(strong[:20], weak[:20]))
    seeds = with_seeds(strong, certain(strong, strong["true"].map(WRONG)))  # all right, all wrong
    assert intervals.paired_difference(seeds.sample(frac=1, random_state=0), seeds) == (0, 0, 0)
    assert intervals.paired_difference(with_seeds(strong, strong), seeds[40:]) == (1, 1, 1)
    for a, b in ((strong[:20], weak[20:]), (seeds[:40], seeds[40:])):
        with pytest.raises(ValueError, match="no row in common"):
            intervals.paired_difference(a, b)


def test_a_paired_difference_weighs_photos_by_their_patches(noisy_predictions):
    """Ten patches of a photo gained and two of another lost: eight of twelve, not nothing on average over photos."""
    right = noisy_predictions(photos=2, per_photo=10, strength=50).drop(index=range(12, 20))
    wrong = certain(right, right["true"].map(WRONG))
    a, b = pd.concat([right[:10], wrong[10:]]), pd.concat([wrong[:10], right[10:]])
    assert intervals.paired_difference(a, b)[0] == pytest.approx(8 / 12)


def test_wilson_agrees_with_its_formula():
    """(p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.96, at 8 of 10."""
    assert intervals.wilson(8, 10) == pytest.approx((0.8, 0.490162, 0.943318), abs=1e-5)
    assert np.isnan(intervals.wilson(0, 0)).all()


def test_intervals_have_one_format_and_one_verdict_undecided_where_they_include_zero():
    forms = {"%": "12.3 % (10.0 to 15.1)", "points": "+12.3 (+10.0 to +15.1)", "": "0.123 (0.100 to 0.151)"}
    assert {unit: intervals.format_interval(0.1234, 0.1, 0.151, unit) for unit in forms} == forms
    rows = pd.DataFrame({"metric": ["accuracy", "log loss"], "value": [0.5, 1.5], "low": [0.4, 1.0], "high": [0.6, 2.0],
                         "change": [-0.1, 0.0], "change_low": [-0.2, -0.1], "change_high": [0.0, 0.1]})  # fmt: skip
    assert intervals.formatted(rows) == ["50.0 % (40.0 to 60.0)", "1.500 (1.000 to 2.000)"]
    changes = ["-10.0 (-20.0 to +0.0)", "+0.0 (-10.0 to +10.0)"]
    assert intervals.formatted(rows, "points", "change", "change_") == changes
    cases = {(0.1, 0.2): "higher", (-0.2, -0.1): "lower", (-0.1, 0.1): "undecided", (0.0, 0.1): "undecided"}
    assert {ends: intervals.verdict(*ends) for ends in cases} == cases
