"""Predictions are cached by what decides them; metrics agree with scikit-learn; intervals cover what was planted."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import colour_net, noisy_predictions
from scipy.special import expit, log_softmax
from scipy.stats import norm
from sklearn import metrics as reference

from camid_utils import evaluation, intervals
from camid_utils.evaluation import LOG_PROB, log_probabilities, predicted
from camid_utils.models import Model

NAMES = ["Acme_A", "Acme_B", "Bolt_C", "Bolt_D"]
WRONG = dict(zip(NAMES, np.roll(NAMES, -1), strict=True))  # a wrong class for each
ROWS = np.array([11, 0, 5])  # of the classes Bolt_D, Acme_A, Acme_B
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def red(make_store, on_cpu):
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
        out = evaluation.predict(model, store, ROWS, features=known)
        assert list(out["photo"]) == ["11.jpg", "0.jpg", "5.jpg"]
        assert list(predicted(out)) == list(out["true"]) == ["Bolt_D", "Acme_A", "Acme_B"]
    back = pd.read_parquet(evaluation.save_predictions(out, tmp_path / "p.parquet"))
    sure = out.assign(**{column: -1e5 for column in out.filter(like=LOG_PROB)})  # beyond half precision
    assert np.isfinite(pd.read_parquet(evaluation.save_predictions(sure, tmp_path / "h.parquet", np.float16))
                       .filter(like=LOG_PROB)).all(axis=None)  # fmt: skip
    np.testing.assert_allclose(log_probabilities(back), log_probabilities(out), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="the model takes 7"):
        evaluation.predict(model._replace(input_size=7), store, ROWS)


def test_a_second_prediction_is_read_from_the_file_of_the_first(red):
    first, again = (evaluation.predict(*red, ROWS) for _ in range(2))
    pd.testing.assert_frame_equal(again, first, check_exact=True)
    (file,) = red[1].folder.glob("logits-*.npy")
    np.save(file, np.load(file)[:, ::-1])  # the answer really comes from there
    assert list(predicted(evaluation.predict(*red, ROWS))) == ["Acme_A", "Bolt_D", "Bolt_C"]


@pytest.mark.parametrize("changed", ["weights", "statistics", "adapted", "settings", "rows", "order", "range"])
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
    out = evaluation.predict(model, store, rows, adapt=adapt)
    assert len(list(store.folder.glob("logits-*.npy"))) == 2 and list(out["photo"]) == [f"{i}.jpg" for i in rows]


def metrics(table: pd.DataFrame) -> dict[str, float]:
    code, found = intervals.units(table)
    found = evaluation.weighted_metrics(table, np.ones((1, len(found))), code)
    return {name: value[0] for name, value in found.items()}


def test_metrics_agree_with_scikit_learn():
    table = noisy_predictions()
    logs, options = log_probabilities(table), dict(labels=NAMES, average="macro", zero_division=0)
    true, guess = table["true"], predicted(table)
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
    code, found = intervals.units(table)
    none = evaluation.weighted_metrics(table, np.zeros((2, len(found))), code)  # a bootstrap sample may miss all rows
    assert all(np.isnan(values).all() for values in none.values())


def test_votes_keep_folds_apart_and_classes_that_a_fold_does_not_know_empty():
    logs = {"log_prob:K": [-1.0, -2.0, np.nan], "log_prob:L": [-1.0, -1.0, -3.0], "log_prob:M": [np.nan, np.nan, -3.0]}
    votes = evaluation.vote(pd.DataFrame({"photo": "a", "fold": [0, 0, 1], "true": "K", "seed": 0} | logs))
    assert votes["fold"].tolist() == [0, 1] and votes["patches"].tolist() == [2, 1]
    found = np.exp(votes.filter(like="log_prob").to_numpy(float))
    np.testing.assert_allclose(found, [[1 / (1 + np.e), np.e / (1 + np.e), np.nan], [np.nan, 0.5, 0.5]], rtol=1e-6)


def test_votes_sum_log_probabilities_for_each_photo_and_seed():
    tables = [noisy_predictions(photos=4, per_photo=n, seed=n) for n in (3, 2)]
    seeds = pd.concat([table.assign(seed=i) for i, table in enumerate(tables)])
    votes = evaluation.vote(seeds.sample(frac=1, random_state=0))
    assert list(votes["patches"]) == [3] * 4 + [2] * 4 and list(votes["true"]) == NAMES * 2
    sums = [log_probabilities(table).reshape(4, -1, 4).sum(1) for table in tables]
    np.testing.assert_allclose(log_probabilities(votes), log_softmax(np.concatenate(sums), 1))
    weak = noisy_predictions(photos=200, per_photo=16, strength=0.8)
    assert metrics(evaluation.vote(weak))["accuracy"] > metrics(weak)["accuracy"] + 0.2


def test_confusion_by_model_brand_and_device():
    table = noisy_predictions(strength=20)
    assert (evaluation.confusion(table).to_numpy() == 50 * np.eye(4)).all()
    assert (evaluation.confusion(table, by="brand").to_numpy() == 100 * np.eye(2)).all()
    by_device = evaluation.confusion(table.sample(frac=1, random_state=0), by="device")
    assert by_device.shape == (8, 4) and by_device.loc["Acme_B_1"].to_list() == [0, 25, 0, 0]
    assert by_device.index.is_monotonic_increasing
    absent = table[table["true"] != "Bolt_D"]  # never true and never predicted: row and column stay
    assert evaluation.confusion(absent).loc["Bolt_D"].sum() == 0 and metrics(absent)["macro recall"] == 1.0
    table.loc[table["photo"].isin(["p00000.jpg", "p00004.jpg"]), LOG_PROB + "Bolt_D"] = 0.0
    (cell,) = evaluation.biggest_confusions(table).to_dict("records")
    assert cell == {"true": "Acme_A", "predicted": "Bolt_D", "rows": 10, "share": 0.2}


def accuracy(table: pd.DataFrame, protocol: str = "photo", **change) -> pd.Series:
    """The row of `intervals.score` for the accuracy."""
    return intervals.score(table, experiment="e", protocol=protocol, **change).set_index("metric").loc["accuracy"]


def with_seeds(*tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table.assign(seed=i) for i, table in enumerate(tables)], ignore_index=True)


def certain(table: pd.DataFrame, classes) -> pd.DataFrame:
    """The table with certain predictions of these classes, one for each row."""
    logs = np.where(np.array(NAMES) == np.asarray(classes)[:, None], 0.0, -9.0)
    return table.assign(**{LOG_PROB + name: logs[:, i] for i, name in enumerate(NAMES)})


def crossed(right=True, devices: int = 5, scenes: int = 12) -> pd.DataFrame:
    """Each device of each model photographs each scene once; right: whether each photo is classified correctly."""
    rows = [(n, f"{n}_{d}", f"{s}", f"{n}_{d}_{s}.jpg") for n, d, s in product(NAMES, range(devices), range(scenes))]
    table = pd.DataFrame(rows, columns=["true", "device", "scene", "photo"]).assign(dataset="Dresden", seed=0)
    table["camera_model"] = table["true"]
    return certain(table, table["true"].where(np.broadcast_to(right, len(table)), table["true"].map(WRONG)))


def test_intervals_cover_as_often_as_they_say_and_over_photos_alone_would_not():
    """Devices and scenes have effects, common to two networks and on each; their true difference is zero."""
    design, spread = crossed(), 0.6
    codes = [pd.factorize(design[name])[0] for name in ("device", "scene")]
    truth, covered = norm.cdf(0.5 / np.sqrt(1 + 4 * spread**2)), np.zeros(4)
    for i in range(120):
        rng = np.random.default_rng(i)
        common, *own = [sum(spread * rng.normal(size=code.max() + 1)[code] for code in codes) for _ in range(3)]
        a, b = (crossed(0.5 + common + effects + rng.normal(size=len(design)) > 0) for effects in own)
        gap, low, high, p = intervals.difference(a, b, seed=i, resamples=300)
        rows = [accuracy(table, resamples=300) for table in (a, a.drop(columns=["device", "scene"]))]
        assert low < gap < high
        covered += [low <= 0 <= high, p > 0.05, *(row["low"] <= truth <= row["high"] for row in rows)]
    assert (covered[:3] >= 107).all() and (covered < 120).all() and covered[3] < 90, covered


def new_collections(rate: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Photos of two collections by each of 13 models in random order of size; rate: of correct answers, [13, 2]."""
    sizes = np.tile([30, 24, 12, 8], 7)[:26].reshape(13, 2)
    rows = [(f"M{m}", c, f"M{m}-{c}/photos") for m, c in np.ndindex(13, 2) for _ in range(sizes[m, c])]
    table = pd.DataFrame(rows, columns=["camera_model", "seed", "collection"])
    table = table.assign(photo=[f"{i}.jpg" for i in range(len(rows))], device="D", scene=np.arange(len(rows)) // 4)
    right = rng.random(len(table)) < np.repeat(rate.ravel(), sizes.ravel())
    table = table.assign(dataset="public", true=NAMES[0])
    return certain(table, np.where(right, NAMES[0], NAMES[1]))


def test_intervals_over_new_collections_cover_and_over_their_scenes_would_not():
    """A model's collections have rates of their own; seeds are folds, each tests one collection of every model."""
    rng, covered, trials = np.random.default_rng(0), np.zeros(2), 80
    normal = rng.normal(size=4000)
    for _ in range(trials):
        level = 0.3 + rng.normal(size=(13, 1))
        table = new_collections(expit(level + 1.5 * rng.normal(size=(13, 2))), rng)
        sizes = table["camera_model"].value_counts().reindex([f"M{m}" for m in range(13)])
        truth = np.average(expit(level + 1.5 * normal).mean(1), weights=sizes)
        rows = [accuracy(table, protocol, resamples=200) for protocol in ("collection", "scene")]
        covered += [row["low"] <= truth <= row["high"] for row in rows]
    assert rows[0]["collections"] == 26 and rows[0]["value"] == rows[1]["value"]
    assert 0.9 * trials <= covered[0] <= trials and covered[1] < 0.8 * trials


def by_owners(photos: list[int], rng: np.random.Generator) -> pd.DataFrame:
    """Photos of new collections, as many for each owner; rates of correct answers vary as much as native crops' do."""
    right = rng.random(sum(photos)) < np.repeat(rng.beta(0.6, 1.3, len(photos)), photos)
    owners = np.repeat([f"owner{i}/photos" for i in range(len(photos))], photos)
    table = pd.DataFrame({"collection": owners, "photo": [f"{i}.jpg" for i in range(len(owners))], "seed": 0})
    table = table.assign(dataset="public", device="D", scene="S", camera_model=NAMES[0], true=NAMES[0])
    return certain(table, np.where(right, NAMES[0], NAMES[1]))


@pytest.mark.parametrize(
    ("photos", "least", "most"),
    [
        ([240, 55, 42, *[30] * 8, 25, 24, 22, 19, 16, 10, 9, 8], 0.84, 0.96),  # the owners of new collections
        ([240, 42, 55], 0.65, 0.84),  # those among them whose cameras training saw
    ],
)
def test_intervals_over_few_owners_are_as_much_too_narrow_as_the_readme_says(photos, least, most):
    rng, truth, trials = np.random.default_rng(0), 0.6 / 1.9, 150
    rows = [accuracy(by_owners(photos, rng), "collection", resamples=200) for _ in range(trials)]
    assert least <= np.mean([row["low"] <= truth <= row["high"] for row in rows]) <= most


def test_seeds_that_are_folds_are_not_drawn_against_each_other():
    found = intervals.units(new_collections(np.full((13, 2), 0.5), np.random.default_rng(0)))[1]
    weights = intervals.bootstrap_weights(found.assign(scene="one"), [0], resamples=50)
    assert (weights == 1).all()
    again = pd.concat([found, found.assign(seed=found["seed"] + 2)], ignore_index=True)
    weights = intervals.bootstrap_weights(again.assign(scene="one"), [0], resamples=50)
    by_seed = pd.DataFrame(weights.T).groupby(again["seed"]).first()
    assert (by_seed.loc[0] + by_seed.loc[2] == 2).all() and (by_seed.loc[1] + by_seed.loc[3] == 2).all()
    assert by_seed.to_numpy().min() == 0 and not by_seed.loc[0].equals(by_seed.loc[1])
    weights = intervals.bootstrap_weights(found.assign(new=True), [0], resamples=50)
    assert np.unique(weights, axis=1).shape[1] == 26 and (
        pd.DataFrame(weights.T).groupby(found["collection"]).nunique() == 1
    ).all(axis=None)


def test_collections_of_one_owner_are_drawn_together_and_folds_are_no_repeats_even_where_set_aside_photos_are():
    table = new_collections(np.full((13, 2), 0.5), np.random.default_rng(0))
    owner = "owner " + table["camera_model"].str[:2]
    named = intervals.units(table.assign(collection=owner + "/" + table["collection"].str.replace("/", " ")))[1]
    found = intervals.units(table)[1].assign(new=True)
    owner = "owner " + found["camera_model"].str[:2]
    assert set(named["owner"]) == set(owner)
    two = ["MicroPasts/arretonHoardData", "BritishMuseumDH/livia"]  # of one photographer
    assert set(intervals.units(table.assign(collection=two[0]))[1]["owner"]) == {two[1].split("/")[0]}
    weights = intervals.bootstrap_weights(found.assign(owner=owner), [0], resamples=50)
    assert (pd.DataFrame(weights.T).groupby(owner).nunique() == 1).all(axis=None) and np.ptp(weights, axis=1)[1:].all()
    aside = pd.concat([found.assign(new=False, photo="the same", seed=seed) for seed in (0, 1)])
    both = pd.concat([found, aside], ignore_index=True).assign(owner="one")
    assert (intervals.bootstrap_weights(both, [0], resamples=50) == 1).all()


def test_devices_are_drawn_within_their_model_and_a_photo_counts_the_product_of_its_draws():
    _, found = intervals.units(with_seeds(*[crossed(devices=3, scenes=4)] * 2))
    weights = intervals.bootstrap_weights(found, [0], resamples=50)
    assert weights.shape == (51, 96) and (weights[0] == 1).all()
    w = weights.reshape(51, 2, 4, 3, 4)  # seed, model, device, scene
    device, scene, seed = w.sum((1, 4)) / 8, w.sum((1, 2, 3)) / 24, w.sum((2, 3, 4)) / 48
    assert [np.ptp(np.round(each, 9)) for each in (device.sum(2), scene.sum(1), seed.sum(1))] == [0, 0, 0]
    np.testing.assert_allclose(w, np.einsum("nmd,nc,ns->nsmdc", device, scene, seed))
    assert all(np.ptp(draws, axis=0).min() > 0 for draws in (device, scene, seed))


def test_a_photo_of_an_unknown_scene_is_a_scene_of_its_own_and_unknown_devices_are_one():
    table = crossed(devices=2, scenes=3).sample(frac=1, random_state=0)
    table.loc[table["true"] == "Acme_A", ["device", "scene"]] = pd.NA
    code, found = intervals.units(table)
    assert (found["photo"].to_numpy()[code] == table["photo"]).all() and found["photo"].is_unique
    weights = intervals.bootstrap_weights(found, [0], resamples=200)[1:, found["camera_model"] == "Acme_A"]
    assert np.unique(weights, axis=1).shape[1] == 6  # six scenes
    one = crossed(devices=2, scenes=1).assign(device=pd.NA)
    assert (intervals.bootstrap_weights(intervals.units(one)[1], [0], resamples=9) == 1).all()  # all drawn only once


@pytest.mark.parametrize("how", ["patches", "seeds"])
def test_patches_and_seeds_that_only_repeat_a_photo_add_no_certainty(how):
    tables = [noisy_predictions(60, 1, seed=seed) for seed in (1, 2)]
    copies = [with_seeds(*[table.assign(x=i * (how == "patches")) for i in range(9)]) for table in tables]
    copies = [table.assign(seed=table["seed"] * (how == "seeds")) for table in copies]
    once, often = (accuracy(found[0]) for found in (tables, copies))
    assert often[["value", "low", "high"]].tolist() == pytest.approx(once[["value", "low", "high"]].tolist())
    assert once["low"] < once["value"] < once["high"] and once["photos"] == often["photos"] == 60
    assert intervals.difference(*copies) == pytest.approx(intervals.difference(*tables))


def test_seeds_are_pooled_widen_the_interval_and_their_spread_is_reported():
    """The seeds' accuracies are 1, 0 and 1, of 20, 40 and 20 photos: of the two draws, both may be the same seed."""
    right = noisy_predictions(photos=40, per_photo=1, strength=50)
    wrong = certain(right, right["true"].map(WRONG))
    row = accuracy(with_seeds(right[:20], wrong, right[20:]), plateau=False)
    assert row[["value", "n", "photos", "devices", "scenes", "seeds"]].tolist() == [0.5, 80, 40, 8, 40, 3]
    assert row["spread"] == pytest.approx(np.std([1, 0, 1], ddof=1)) and not row["plateau"]
    assert (row["low"], row["high"]) == pytest.approx((0, 1))
    with pytest.raises(ValueError, match="no predictions to score for e, photo, test"):
        accuracy(right[:0])
    for table, ends in ((right, intervals.wilson(8, 8)), (wrong, intervals.wilson(0, 8))):  # binomial
        row = accuracy(with_seeds(table, table))
        assert (row["value"], row["low"], row["high"]) == ends and row["high"] - row["low"] > 0.05


def test_a_planted_difference_is_found_and_the_same_photos_are_compared_pair_by_pair():
    """A scene is hard or easy for both networks; one of them also gets every tenth photo right, or eight more."""
    rng, scene = np.random.default_rng(0), pd.factorize(crossed()["scene"])[0]
    base = rng.random(240) < np.linspace(0, 1, 12)[scene]
    a, b = crossed(base | (np.arange(240) % 10 == 0)), crossed(base)
    gained = (np.arange(0, 240, 10).size - base[::10].sum()) / 240
    gap, low, high, p = intervals.difference(a.sample(frac=1, random_state=0), b)
    assert gap == pytest.approx(gained) and 0 < low < gap < high and p < 0.05
    assert intervals.difference(b, a) == pytest.approx((-gap, -high, -low, p))
    assert intervals.difference(b, b) == (0, 0, 0, 1)
    others = b.assign(**{name: "other " + b[name] for name in ("photo", "device", "scene")})
    apart = intervals.difference(a, others)
    assert apart[0] == pytest.approx(gap) and apart[2] - apart[1] > 4 * (high - low) and apart[3] > 0.5


def test_bootstrap_samples_that_miss_one_side_are_left_out_unless_they_are_many():
    """The sides are photos of different devices, one photo each: of ten devices few samples miss all five of a side."""
    right, wrong = (crossed(how, devices=10, scenes=1)[:10] for how in (True, False))
    assert intervals.difference(right[:5], right[5:]) == (0, 0, 0, 1)
    assert intervals.difference(right[:5], wrong[5:]) == (1, 1, 1, 2 * 0.5**10)  # as of a sign test
    assert intervals.difference(*(crossed(how, devices=10, scenes=12) for how in (True, False))) == (1, 1, 1, 1 / 2000)
    assert intervals.difference(right[:1], wrong[1:]) == (1, -1, 1, 1)
    assert intervals.difference(right[:1], wrong[1:2]) == (1, -1, 1, 1)


def test_holm_multiplies_the_smallest_of_n_by_n_the_next_by_one_less_and_never_falls():
    found = intervals.holm([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02])
    assert intervals.holm([0.6, 0.7]).tolist() == [1, 1] and len(intervals.holm([])) == 0


def test_a_change_has_its_own_interval_and_a_verdict_is_undecided_where_it_includes_zero():
    rows = pd.DataFrame({"low": [0.4], "high": [0.6], "change": [-0.1], "change_low": [-0.2], "change_high": [0.0]})
    assert intervals.formatted(rows, "points", "change", "change_") == ["-10.0 (-20.0 to +0.0)"]
    one_each = pd.DataFrame({"value": [0.875], "low": 0.875, "high": 0.875})  # devices of two models, one each
    assert intervals.formatted(one_each) == ["87.5 % (no interval)"]
    assert intervals.formatted(one_each.assign(value=np.nan, low=np.nan, high=np.nan)) == ["-"]
    cases = {(0.1, 0.2): "higher", (-0.2, -0.1): "lower", (-0.1, 0.0): "undecided", (0.0, 0.1): "undecided"}
    assert {ends: intervals.verdict(*ends) for ends in cases} == cases


def test_few_owners_of_new_collections_decide_nothing_even_if_all_agree():
    rng = np.random.default_rng(0)
    better, worse = (
        new_collections(np.full((13, 2), rate), rng).assign(protocol="collection", part="test") for rate in (1, 0)
    )
    assert intervals.difference(better, worse, resamples=200)[3] == 1 / 200
    few = [table[table["camera_model"].isin(["M0", "M1"])] for table in (better, worse)]  # of four owners
    assert intervals.difference(*few, resamples=200)[3] == 2 * 0.5**4


def test_where_a_tenth_of_the_samples_lack_what_is_measured_anything_is_possible():
    draws = np.array([0.6, *[0.5, 0.7] * 44, *[np.nan] * 12])  # defined in 88 of 100 samples
    assert intervals.interval(draws) == (0.6, 0, 1)
    assert intervals.interval(draws, span=(0, np.inf)) == (0.6, 0, np.inf)
    assert intervals.interval(draws[:-4]) == pytest.approx((0.6, 0.5, 0.7))  # in 88 of 96
    assert np.isnan(intervals.wilson(0, 0)).all()


def test_classes_that_are_equally_probable_share_the_places_of_a_top_three():
    """Of four equal classes three are named; a true class that is not possible never counts."""
    base = noisy_predictions(photos=4, per_photo=1)
    columns = [name for name in base if name.startswith(evaluation.LOG_PROB)]
    equal, one = base.assign(**dict.fromkeys(columns, np.log(0.25))), base.assign(**dict.fromkeys(columns, -np.inf))
    one[columns[1]] = 0.0  # only the second class is possible
    for table, expected in ((equal, 0.75), (one, 0.25)):
        found = evaluation.weighted_metrics(table, np.ones((1, 4)), np.arange(4))
        assert found["top-3 accuracy"] == pytest.approx(expected)
