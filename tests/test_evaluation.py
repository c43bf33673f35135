"""Metrics agree with scikit-learn, votes add up, and intervals treat a photo as one observation."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax
from sklearn import metrics as reference

from camid_utils import evaluation
from camid_utils.evaluation import LOG_PROB
from camid_utils.models import Model

NAMES = ["Acme_A", "Acme_B", "Bolt_C", "Bolt_D"]


def predictions(photos: int = 40, patches: int = 5, strength: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """A table of noisy predictions, `patches` a photo."""
    rng = np.random.default_rng(seed)
    true = np.repeat(np.arange(photos) % 4, patches)
    logits = rng.normal(size=(len(true), 4)) + strength * np.eye(4)[true]
    names = np.array(NAMES)[true]
    table = pd.DataFrame(
        {
            "photo": [f"p{i:03d}.jpg" for i in np.repeat(np.arange(photos), patches)],
            "y": 0,
            "x": 0,
            "dataset": "simulated Dresden",
            "brand": [n.split("_")[0] for n in names],
            "camera_model": names,
            "device": [f"{n}_{i // 4 % 2}" for n, i in zip(names, np.repeat(np.arange(photos), patches), strict=True)],
            "true": names,
        }
    )
    return table.join(pd.DataFrame(log_softmax(logits, 1), columns=[LOG_PROB + n for n in NAMES]))


def score(table, **change):
    rows = evaluation.score(table, experiment="e", protocol="photo", **change)
    return rows.set_index("metric")


def test_metrics_agree_with_scikit_learn():
    table = predictions()
    logs = evaluation.log_probabilities(table)
    true, guess = table["true"], np.array(NAMES)[logs.argmax(1)]
    options = dict(labels=NAMES, average="macro", zero_division=0)
    expected = {
        "accuracy": reference.accuracy_score(true, guess),
        "macro precision": reference.precision_score(true, guess, **options),
        "macro recall": reference.recall_score(true, guess, **options),
        "macro F1": reference.f1_score(true, guess, **options),
        "top-3 accuracy": reference.top_k_accuracy_score(true, logs, k=3, labels=NAMES),
        "log loss": reference.log_loss(true, np.exp(logs), labels=NAMES),
    }
    assert score(table)["value"].to_dict() == pytest.approx(expected)


def test_vote_sums_log_probabilities():
    table = predictions(photos=4, patches=3)
    voted = evaluation.vote(table)
    logs = evaluation.log_probabilities(table).reshape(4, 3, 4).sum(1)
    np.testing.assert_allclose(evaluation.log_probabilities(voted), log_softmax(logs, 1))
    assert list(voted["patches"]) == [3] * 4 and list(voted["true"]) == NAMES


def test_voting_helps_when_patches_are_weak_witnesses():
    table = predictions(photos=200, patches=16, strength=0.8)
    assert score(table, level="photo")["value"]["accuracy"] > score(table)["value"]["accuracy"] + 0.2


def test_interval_is_over_photos_not_patches():
    """Patches that only repeat their photo add no certainty: the interval must not shrink."""
    once = predictions(photos=60, patches=1)
    copies = once.loc[once.index.repeat(25)].reset_index(drop=True)
    a, b = (score(table).loc["accuracy"] for table in (once, copies))
    assert (a["low"], a["high"]) == pytest.approx((b["low"], b["high"]))
    assert (a["n"], b["n"], b["photos"]) == (60, 1500, 60)


def test_interval_covers_as_often_as_it_says():
    """95 % intervals of a known accuracy hold it in about 95 of 100 samples."""
    truth = score(predictions(photos=20_000, patches=1, seed=99), resamples=1)["value"]["accuracy"]
    rows = [score(predictions(photos=100, patches=1, seed=s)).loc["accuracy"] for s in range(100)]
    covered = sum(row["low"] <= truth <= row["high"] for row in rows)
    assert 88 <= covered <= 100


def test_confusion_by_model_brand_and_device():
    table = predictions(strength=20)
    assert (evaluation.confusion(table).to_numpy() == 50 * np.eye(4)).all()
    assert (evaluation.confusion(table, by="brand").to_numpy() == 100 * np.eye(2)).all()
    by_device = evaluation.confusion(table, by="device", normalise=True)
    assert by_device.shape == (8, 4) and by_device.loc["Acme_B_1", "Acme_B"] == 1.0


def test_a_class_that_is_never_predicted_keeps_its_row_and_column():
    table = predictions(strength=20)
    table = table[table["true"] != "Bolt_D"]
    matrix = evaluation.confusion(table)
    assert list(matrix.index) == NAMES and matrix.loc["Bolt_D"].sum() == 0
    assert score(table)["value"]["macro recall"] == 1.0


def test_biggest_confusions_finds_the_planted_one():
    table = predictions(strength=20)
    wrong = table["photo"].isin(["p000.jpg", "p004.jpg"])
    table.loc[wrong, LOG_PROB + "Bolt_D"] = 0.0
    (cell,) = evaluation.biggest_confusions(table).to_dict("records")
    assert cell == {"true": "Acme_A", "predicted": "Bolt_D", "rows": 10, "share": 0.2}


def test_difference_finds_a_planted_gap_and_no_gap():
    strong, weak = predictions(400, strength=3), predictions(400, strength=0, seed=1)
    gap, low, high = evaluation.difference(strong, weak)
    assert 0.5 < low < gap < high
    gap, low, high = evaluation.difference(weak, predictions(400, strength=0, seed=2))
    assert low < 0 < high


def test_unknown_class_and_empty_table_are_errors():
    table = predictions()
    with pytest.raises(ValueError, match="does not know these classes: Else_E"):
        score(table.assign(true="Else_E"))
    with pytest.raises(ValueError, match="no predictions"):
        score(table.iloc[:0])


class PlantedNet(torch.nn.Module):
    """Says the class that the red channel's mean names."""

    def forward(self, x):
        red = x[:, 0].mean((1, 2)).round().long()
        return torch.nn.functional.one_hot(red, 4).float() * 9


def test_predict_puts_each_logit_under_its_own_class(tmp_path):
    class Store:
        pixels = np.repeat(np.arange(4, dtype=np.uint8), 3)[:, None, None, None] * np.ones((1, 6, 6, 3), np.uint8)
        table = pd.DataFrame({"photo": [f"{i}.jpg" for i in range(12)], "camera_model": np.repeat(NAMES, 3)})

    model = Model(PlantedNet(), NAMES, 6, "0..255", {"target": "camera_model"})
    out = evaluation.predict(model, Store, np.array([11, 0, 5]), batch_size=2)
    assert list(out["photo"]) == ["11.jpg", "0.jpg", "5.jpg"]
    guess = np.array(evaluation.class_names(out))[evaluation.log_probabilities(out).argmax(1)]
    assert list(guess) == list(out["true"]) == ["Bolt_D", "Acme_A", "Acme_B"]
    back = pd.read_parquet(evaluation.save_predictions(out, tmp_path / "p.parquet"))
    np.testing.assert_allclose(evaluation.log_probabilities(back), evaluation.log_probabilities(out), rtol=1e-5)
    with pytest.raises(ValueError, match="takes 7"):
        evaluation.predict(model._replace(input_size=7), Store, np.array([0]))


def test_write_metrics_keeps_every_column(tmp_path):
    rows = evaluation.score(predictions(), experiment="e", protocol="photo", published={"accuracy": 0.8})
    evaluation.write_metrics([rows, rows], tmp_path / "m.csv")
    back = pd.read_csv(tmp_path / "m.csv")
    assert list(back.columns) == evaluation.METRIC_COLUMNS and len(back) == 12
    assert back.set_index("metric")["published"]["accuracy"].max() == 0.8


def test_paired_difference_finds_a_planted_gap():
    """Weak predictions, and the same with 100 of 500 wrong rows put right: the gap is known, whatever the order."""
    weak = predictions(photos=100, patches=5, strength=0)
    names = np.array(NAMES)
    wrong = np.flatnonzero(names[evaluation.log_probabilities(weak).argmax(1)] != weak["true"])[:100]
    mended = weak.copy()
    for i in wrong:
        mended.loc[i, LOG_PROB + weak["true"][i]] = 5.0
    for table in (weak, mended):
        table["x"] = np.arange(len(table)) % 5
    gap, low, high = evaluation.paired_difference(mended.sample(frac=1, random_state=0), weak)
    assert gap == pytest.approx(0.2) and 0 < low < gap < high < 0.4
    assert evaluation.paired_difference(weak, mended)[0] == pytest.approx(-0.2)
    assert evaluation.paired_difference(weak, weak) == (0, 0, 0)


def test_paired_difference_is_surer_than_two_separate_intervals():
    """Two networks that err on the same photos differ by little, and surely."""
    weak = predictions(photos=200, patches=1, strength=1)
    logs = [LOG_PROB + n for n in NAMES]
    better = weak.copy()
    better.loc[:9, logs] = np.where(np.array(NAMES) == weak["true"][:10].to_numpy()[:, None], 0.0, -9.0)
    paired, separate = (f(better, weak) for f in (evaluation.paired_difference, evaluation.difference))
    assert paired[0] == pytest.approx(separate[0])
    assert paired[2] - paired[1] < 0.5 * (separate[2] - separate[1])


def test_paired_difference_draws_whole_photos():
    """Copies of a photo's patch add no certainty."""
    once, other = predictions(60, 1, seed=1), predictions(60, 1, seed=2)
    copies = [t.loc[t.index.repeat(25)].reset_index(drop=True) for t in (once, other)]
    for table in copies:
        table["x"] = np.arange(len(table)) % 25
    assert evaluation.paired_difference(*copies) == pytest.approx(evaluation.paired_difference(once, other))


def test_paired_difference_compares_only_rows_that_both_have():
    strong, weak = predictions(photos=40, patches=1, strength=20), predictions(photos=40, patches=1, strength=0)
    half = evaluation.paired_difference(strong[:20], weak)
    assert half == pytest.approx(evaluation.paired_difference(strong[:20], weak[:20]))
    votes = evaluation.vote(strong), evaluation.vote(weak)  # photos without positions
    assert evaluation.paired_difference(*votes)[0] == pytest.approx(evaluation.paired_difference(strong, weak)[0])
    with pytest.raises(ValueError, match="no row in common"):
        evaluation.paired_difference(strong[:20], weak[20:])


# several seeds


def seeded(*tables: pd.DataFrame) -> pd.DataFrame:
    """Predictions of several seeds, 0, 1, ..., in one table."""
    return pd.concat([table.assign(seed=i) for i, table in enumerate(tables)], ignore_index=True)


def flipped(table: pd.DataFrame) -> pd.DataFrame:
    """The same predictions, each surely wrong: the class after the true one is named."""
    after = np.roll(NAMES, -1)
    guess = after[pd.Index(NAMES).get_indexer(table["true"])]
    logs = np.where(np.array(NAMES) == guess[:, None], 0.0, -9.0)
    return table.assign(**{LOG_PROB + name: logs[:, i] for i, name in enumerate(NAMES)})


def test_seeds_vote_apart():
    first, second = predictions(photos=6, patches=3), predictions(photos=4, patches=2, seed=1)
    votes = evaluation.vote(seeded(first, second))
    assert len(votes) == 6 + 4 and list(votes["patches"]) == [3] * 6 + [2] * 4
    for seed, table in enumerate((first, second)):
        own = votes[votes["seed"] == seed].reset_index(drop=True)
        pd.testing.assert_frame_equal(own.drop(columns="seed"), evaluation.vote(table), check_like=True)


@pytest.mark.parametrize("level", ["patch", "photo"])
def test_one_seed_scores_as_a_table_without_seeds(level):
    plain, one = score(predictions(), level=level), score(seeded(predictions()), level=level)
    pd.testing.assert_frame_equal(plain, one)
    assert (one["seeds"] == 1).all() and (one["spread"] == 0).all()


@pytest.mark.parametrize("level", ["patch", "photo"])
def test_a_seed_that_only_repeats_another_adds_no_certainty(level):
    """Photos are drawn with all their seeds' predictions: three times the same is as sure as once."""
    table = predictions(photos=60)
    once, thrice = score(table, level=level), score(seeded(table, table, table), level=level)
    for column in ("value", "low", "high"):
        assert thrice[column].to_dict() == pytest.approx(once[column].to_dict())
    assert (thrice["seeds"] == 3).all() and thrice["spread"].abs().max() < 1e-12
    assert (thrice["n"] == 3 * once["n"]).all() and (thrice["photos"] == 60).all()


def test_seeds_are_pooled_and_their_spread_is_told():
    """The seeds' accuracies are 1, 0 and 1, of 20, 40 and 20 photos."""
    right = predictions(photos=40, patches=1, strength=50)
    table = seeded(right[:20], flipped(right), right[20:])
    row = score(table).loc["accuracy"]
    assert row["value"] == 0.5 and row["n"] == 80 and row["photos"] == 40 and row["seeds"] == 3
    assert row["spread"] == pytest.approx(np.std([1, 0, 1], ddof=1))
    assert row["low"] == row["high"] == 0.5  # every photo is once right and once wrong, whichever are drawn


def test_paired_difference_matches_seeds():
    """Under seed 0 all is right, under seed 1 all is wrong: matched by seed a table does not differ from itself."""
    right = predictions(photos=20, patches=2, strength=50)
    right["x"] = np.arange(len(right)) % 2
    table = seeded(right, flipped(right))
    assert evaluation.paired_difference(table.sample(frac=1, random_state=0), table) == (0, 0, 0)
    assert evaluation.paired_difference(table, seeded(flipped(right), right)) == (0, -0, 0)
    only = table[table["seed"] == 1]
    assert evaluation.paired_difference(seeded(right, right), only) == (1, 1, 1)
    with pytest.raises(ValueError, match="no row in common"):
        evaluation.paired_difference(table[table["seed"] == 0], only)


def test_paired_difference_draws_a_photo_with_all_its_seeds():
    once, other = predictions(60, 1, seed=1), predictions(60, 1, seed=2)
    thrice = [seeded(table, table, table) for table in (once, other)]
    assert evaluation.paired_difference(*thrice) == pytest.approx(evaluation.paired_difference(once, other))


class HalfKnownNet(torch.nn.Module):
    """Its frozen part must not be asked again; its classifier says the class that a feature names."""

    def __init__(self):
        super().__init__()
        self.classifier = PlantedHead()

    def forward(self, x):
        raise AssertionError("the features are known already")


class PlantedHead(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.one_hot(x[:, 0].long(), 4).float() * 9


def test_predict_takes_features_that_are_known():
    """Row i has the feature i % 4, of the patch as it is; the augmented copy would say another class."""

    class Store:
        pixels = np.zeros((12, 6, 6, 3), np.uint8)
        table = pd.DataFrame({"photo": [f"{i}.jpg" for i in range(12)], "camera_model": NAMES * 3})

    first = (np.arange(12, dtype=np.float32) % 4)[:, None]
    features = np.stack([first, (first + 1) % 4])
    model = Model(HalfKnownNet(), NAMES, 6, "0..255", {"target": "camera_model"})
    out = evaluation.predict(model, Store, np.array([11, 0, 5]), batch_size=2, features=features)
    assert list(out["photo"]) == ["11.jpg", "0.jpg", "5.jpg"]
    guess = np.array(NAMES)[evaluation.log_probabilities(out).argmax(1)]
    assert list(guess) == list(out["true"]) == ["Bolt_D", "Acme_A", "Acme_B"]


def test_a_sample_is_spread_over_the_rows():
    class Store:
        pixels = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)

    drawn = evaluation.sample(Store, np.arange(50, 100), "0..255", count=8)
    assert drawn.shape == (8, 3, 4, 4) and drawn[0, 0, 0, 0] == 50 and drawn[-1, 0, 0, 0] == 99
    few = evaluation.sample(Store, np.array([3, 9]), "0..1", count=8)
    assert few[:, 0, 0, 0].tolist() == pytest.approx([3 / 255, 9 / 255])
