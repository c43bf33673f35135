"""Models left out, scores, limits, calibration, likelihood ratios and splices: planted answers are found."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import colour_net, halves, patch_table, save
from scipy.special import log_softmax
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from camid_utils import catalogues, evaluation, intervals, patches, planning
from camid_utils.analyses import calibration, open_set
from camid_utils.evaluation import LOG_PROB
from camid_utils.identify import predict
from camid_utils.models import Model

BLUE, RED, PURPLE = (40, 40, 200), (200, 40, 40), (120, 40, 60)
CLASSES = ["Cold_Blue", "Warm_Red"]


@pytest.fixture
def model() -> Model:
    """It tells red from blue."""
    net = colour_net(2, weight=[[0.0, 0, 0], [0.1, 0, -0.1]], bias=[0.0, 0])
    return Model(net, CLASSES, 48, "0..255", {"dataset": "simulated x", "kind": "grid"})


def photographed(folder: Path, *colours: tuple) -> pd.DataFrame:
    """A catalogue of four photos, of two colours by turns and so by two cameras."""
    paths = [str(save(folder / f"{i}.jpg", halves(colour, colour))) for i, colour in enumerate(colours * 2)]
    others = dict.fromkeys(["brand", "device", "scene", "collection"], pd.NA)
    names = {"path": paths, "photo": [f"{i}.jpg" for i in range(4)], "camera_model": CLASSES * 2}
    return pd.DataFrame({**names, "dataset": "simulated x", **others})


@pytest.fixture
def catalogue(tmp_path) -> pd.DataFrame:
    return photographed(tmp_path, BLUE, RED)


def strict_plan(table: pd.DataFrame) -> planning.Plan:
    return planning.shared_training(table, "scene+device", seed=0)["scene+device"][0]


def test_every_model_is_left_out_once_and_two_remain():
    for names, folds, sizes in (("abcdefgh", 4, [2] * 4), ("abc", 2, [1] * 3), ("abcd", 9, [1] * 4)):
        found = open_set.divide(list(names), folds, seed=0)
        assert sorted(itertools.chain(*found)) == list(names) and sorted(map(len, found)) == sizes
        assert found == open_set.divide(list(names)[::-1], folds, seed=0)
    assert len({str(open_set.divide(list("abcdefgh"), 4, seed)) for seed in range(5)}) > 2
    with pytest.raises(ValueError, match="2 camera models: at least three"):
        open_set.divide(["a", "b"], 2, seed=0)


def test_a_fold_without_some_models_trains_and_tests_the_others_as_before():
    table = patch_table(devices=4, scenes=10, per_photo=2, names=list("abcd"))
    whole = strict_plan(table)
    fold = open_set.without(whole, ["a", "c"])
    left_out = table["camera_model"].isin(["a", "c"]).to_numpy()
    assert set(fold.part[left_out]) == {"unused"} and set(fold.labels[left_out]) == {-1}
    assert (fold.part[~left_out] == whole.part[~left_out]).all() and fold.class_names == ["b", "d"]
    used = fold.part != "unused"
    assert (np.array(fold.class_names)[fold.labels[used]] == table["camera_model"][used]).all()
    assert (fold.labels[~used] == -1).all() and set(whole.part[left_out]) >= {"train", "val", "test"}


@pytest.fixture
def store() -> patches.Store:
    """Patches of each camera model's colour, each photo a little brighter or darker."""
    colours, rng = {"Cold_Blue": BLUE, "Warm_Red": RED, "Odd_Purple": PURPLE}, np.random.default_rng(0)
    table = patch_table(devices=4, scenes=10, per_photo=2, names=list(colours))
    photo = pd.factorize(table["photo"])[0]
    shades = rng.normal(0, 4, (photo.max() + 1, 3))[photo] + rng.normal(0, 1, (len(table), 3))
    pixels = np.array([colours[name] for name in table["camera_model"]]) + shades
    pixels = np.broadcast_to(pixels.round().clip(0, 255).astype(np.uint8)[:, None, None], (len(table), 48, 48, 3))
    return patches.Store(pixels, table, Path("none"), "grid")


def test_each_val_and_test_photo_is_scored_and_unknown_cameras_are_far(model, store):
    table, plan = store.table, strict_plan(store.table)
    seen = open_set.fold_photos(model, store, plan)
    expected = table[np.isin(plan.part, ["val", "test"])]
    assert sorted(seen["photo"]) == sorted(expected["photo"].unique())
    parts = expected.assign(part=plan.part[expected.index]).drop_duplicates("photo").set_index("photo")["part"]
    assert (seen["part"] == seen["photo"].map(parts)).all() and (seen["known"] == (seen["true"] != "Odd_Purple")).all()
    assert seen.loc[seen["known"], "right"].all() and not seen.loc[~seen["known"], "right"].any()
    for name in ("feature_similarity", "mahalanobis"):
        assert seen.loc[seen["known"], name].min() > seen.loc[~seen["known"], name].max()
    own = seen.iloc[0]
    rows = np.flatnonzero(table["photo"] == own["photo"])
    logits = 0.1 * (store.pixels[rows, 0, 0, 0].astype(float) - store.pixels[rows, 0, 0, 2])
    assert own["energy"] == pytest.approx(np.logaddexp(0, logits).mean(), rel=1e-4)
    train = np.flatnonzero((plan.part == "train") & (table["camera_model"] != "Odd_Purple"))
    means = open_set.camera_means(model, store, train)
    assert np.abs(np.array(means) - [BLUE, RED]).max() < 5


def test_mahalanobis_allows_for_what_varies_within_classes():
    rng = np.random.default_rng(1)
    known = rng.normal(0, [10, 1], (4000, 2)) + np.repeat([[0, 0], [0, 5]], 2000, axis=0)
    found = open_set.feature_scores(np.array([[10.0, 0], [0, -8]]), known, pd.Series(np.repeat(["a", "b"], 2000)))
    assert found["feature_similarity"].is_monotonic_increasing  # ten away is farther than eight,
    assert found["mahalanobis"].is_monotonic_decreasing  # but common among photos of a known camera
    assert found["mahalanobis"].tolist() == pytest.approx([-1, -8], rel=0.15)


def table_of(logits: np.ndarray, true: np.ndarray) -> pd.DataFrame:
    columns = [f"{LOG_PROB}{i}" for i in range(logits.shape[1])]
    found = pd.DataFrame(log_softmax(logits, axis=1), columns=columns).assign(true=true.astype(str))
    photo = np.arange(len(found)).astype(str)
    return found.assign(photo=photo, camera_model=found["true"], device=photo, scene=photo)


@pytest.mark.parametrize("planted", [0.2, 1.0, 4.0])
def test_the_planted_temperature_is_found(planted):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 4))
    chances = np.exp(log_softmax(logits, axis=1))
    true = (rng.random((20_000, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    assert calibration.fit_temperature(table_of(logits * planted, true)) == pytest.approx(planted, rel=0.05)


def test_answers_with_the_size_are_among_the_cameras_that_fit_and_other_sizes_are_refused(model, store):
    """The blue camera took photos of 1 x 1 in training, both took 2 x 2; each photo gets one of three sizes."""
    plan, names = strict_plan(store.table), np.unique(store.table["photo"])
    sizes = pd.Series(np.resize(["1 x 1", "2 x 2", "3 x 3"], len(names)), names)
    knowing = model._replace(info=model.info | {"sizes": {"1 x 1": ["Cold_Blue"], "2 x 2": CLASSES}})
    alone, seen = (open_set.fold_photos(knowing, store, plan, sizes=given) for given in (None, sizes))
    size = sizes[seen["photo"]].to_numpy()
    scores = list(open_set.COMPARED)
    assert (seen.loc[size == "3 x 3", scores] == -np.inf).all(axis=None)
    assert np.isfinite(seen.loc[size != "3 x 3", scores]).all(axis=None)
    pd.testing.assert_frame_equal(seen[size == "2 x 2"], alone[size == "2 x 2"])  # as all cameras fit
    one = seen[size == "1 x 1"]
    assert (one["predicted"] == "Cold_Blue").all() and (one["confidence"] == 1).all()
    red = one["true"] == "Warm_Red"
    assert (one["feature_similarity"] < alone.loc[one.index, "feature_similarity"])[red].all() and red.any()
    decided = open_set.decide(seen.assign(fold=0), {0: "feature_similarity"}, 0.4)
    assert not decided["accepted"][size == "3 x 3"].any() and decided["accepted"].any()
    assert np.isfinite(decided["margin"][size != "3 x 3"]).all()


def test_calibration_changes_the_confidence_and_not_the_camera():
    found = calibration.calibrate(table_of(np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), np.array([0, 1, 1])), 2.0)
    assert found["predicted"].tolist() == ["0", "1", "0"] and found["right"].tolist() == [True, True, False]
    assert found["confidence"].to_numpy() == pytest.approx(1 / (1 + np.exp(-np.array([2, 1, 3]) / 2)))


def test_the_threshold_refuses_the_share_asked_for_and_no_more():
    scores = np.random.default_rng(1).permutation(100) / 100
    assert (scores < open_set.threshold(scores, 0.05)).sum() == 5
    assert (scores < open_set.threshold(scores, 1.0)).sum() == 99  # the best one is always accepted
    assert (np.full(10, 0.7) < open_set.threshold(np.full(10, 0.7), 0.05)).sum() == 0
    assert (scores > open_set.splice_limit(pd.DataFrame({"parts_statistic": scores}), 0.05)).sum() == 5


def test_areas_are_sklearns_within_each_fold_and_ties_count_half():
    rng = np.random.default_rng(0)
    seen = pd.DataFrame({"fold": np.repeat([1, 0], 60), "known": rng.random(120) < 0.4, "right": False})
    seen["score"] = rng.integers(0, 6, 120) + 100.0 * seen["fold"]
    weights = np.vstack([np.ones(120), rng.integers(0, 4, (20, 120))])
    found, plain = open_set.areas(seen, "score", weights=weights), open_set.areas(seen, "score")
    for fold, own in seen.groupby("fold"):
        expected = [roc_auc_score(own["known"], own["score"], sample_weight=drawn[own.index]) for drawn in weights]
        np.testing.assert_allclose(found[fold], expected)
        assert plain[fold] == found[fold][0] and open_set.areas(seen, "score", "right")[fold] == 0


def folds(rng, photos: int = 400, gap: float = 2.0) -> pd.DataFrame:
    """Two folds of val and test photos; confidence tells known from unknown with a planted gap, energy does not.

    The second fold's scores have another scale. Three of four known photos are correctly classified.
    """
    parts = []
    for fold, part, known in itertools.product((0, 1), ("val", "test"), (True, False)):
        score = (rng.normal(gap * known, 1, photos) + 5 * fold) * (1 + fold)
        number = np.arange(photos)
        names = [f"{part}{known}{i}" for i in number]
        own = pd.DataFrame({"photo": names, "scene": number // 4, "device": number % 20})
        own = own.assign(fold=fold, part=part, known=known, confidence=score, energy=rng.normal(size=photos))
        own["right"] = known & (rng.random(photos) < 0.75)
        parts.append(own.assign(feature_similarity=-own["energy"], mahalanobis=score, camera_model=str(known)))
    return pd.concat(parts, ignore_index=True)


def test_the_planted_separation_is_found_by_every_measure():
    seen = folds(np.random.default_rng(2))
    rows = open_set.compare_scores(seen, 0.05, seed=0).set_index(["score", "metric"])
    expected = {"AUROC": norm.cdf(2 / 2**0.5), "OSCR area": 0.75 * norm.cdf(2 / 2**0.5), "known cameras refused": 0.05,
                "unknown cameras accepted": norm.sf(norm.ppf(0.05) + 2)}  # fmt: skip
    for metric, value in expected.items():
        found = rows.loc["confidence", metric]
        assert found["value"] == pytest.approx(value, abs=0.035) and found["low"] < found["value"] < found["high"]
        assert 0.005 < found["high"] - found["low"] < 0.2
    assert rows.loc["energy", "AUROC"]["value"] == pytest.approx(0.5, abs=0.05)
    assert set(rows["known"]) == set(rows["unknown"]) == {800}
    test = seen[seen["part"] == "test"]
    for metric, credit in (("AUROC", "known"), ("OSCR area", "right")):
        curve = open_set.curves(test, ("confidence",), credit)["confidence"]
        below = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
        assert below == pytest.approx(rows.loc["confidence", metric]["value"], abs=0.01)
        assert curve["true_positive_rate"].iloc[-1] == pytest.approx(test.loc[test["known"], credit].mean())


def test_limits_are_those_of_each_folds_known_validation_photos_only():
    seen = folds(np.random.default_rng(3))
    decided = open_set.decide(seen, {0: "confidence", 1: "confidence"}, 0.05)
    val = decided[decided["part"] == "val"]
    assert (~val.loc[val["known"], "accepted"]).groupby(val["fold"]).sum().tolist() == [20, 20]
    chosen_by = seen["known"] & (seen["part"] == "val")
    changed = seen.assign(confidence=seen["confidence"].where(chosen_by, 0.0))
    again = open_set.decide(changed, {0: "confidence", 1: "confidence"}, 0.05)
    assert decided.loc[chosen_by, "margin"].equals(again.loc[chosen_by, "margin"])
    energy = open_set.decide(seen, {0: "confidence", 1: "energy"}, 0.05)  # each fold by its own score
    assert (energy["margin"] == decided["margin"]).groupby(seen["fold"]).mean().tolist() == [1, 0]
    rates = open_set.error_rates(decided.assign(accepted=decided["known"]), seed=0).set_index("question")
    assert rates["value"].iloc[:2].tolist() == [0, 0] and (rates["high"].iloc[:2] > 0.001).all()  # Wilson, not 0 to 0
    none = open_set.error_rates(decided.assign(accepted=False), seed=0).set_index("question")
    assert none["n"].tolist() == [800, 800, 800, 0, 800, 800]
    assert none["value"].isna().tolist() == [False] * 3 + [True] + [False] * 2
    rates = open_set.error_rates(decided, seed=0).set_index("question")["value"]
    named = rates["known cameras named correctly"], rates["known cameras named wrongly"]
    assert sum(named) == pytest.approx(1 - rates["known cameras refused"])
    assert named[0] == pytest.approx(rates.iloc[3] * (1 - rates.iloc[0]))


def test_the_limit_in_a_model_file_is_that_of_validation_photos(model, catalogue, tmp_path):
    """Test photos are less certain than all of validation, so a limit that refuses hardly any of these refuses all."""
    dull = photographed(tmp_path / "dull", *(np.array(colour) // 4 + 90 for colour in (BLUE, RED)))
    val = catalogue.assign(camera_model=[*CLASSES, CLASSES[0], CLASSES[0]])  # one is wrong, so no answer is certain
    shown = {"test": dull, "unknown": dull.iloc[:2], "val": val}
    facts, rates = open_set.limits(model, shown, tmp_path, "confidence", 0.05, seed=0)
    seen = open_set.calibrate(open_set.predict_photos(val, model, tmp_path), facts["temperature"])
    assert facts["threshold"] == pytest.approx(seen["confidence"].min())
    assert rates["value"].iloc[:2].tolist() == [1, 0]
    sized = model._replace(info=model.info | {"sizes": {predict.size_key(*halves(RED, RED).shape[:2]): CLASSES[:1]}})
    facts, rates = open_set.limits(sized, shown, tmp_path, "confidence", 0.05, seed=0)  # only one answer is possible
    assert facts["threshold"] == 1 and rates["value"].tolist()[:3] == [0, 1, 0.5]
    other = model._replace(info=model.info | {"sizes": {"1 x 1": CLASSES}})
    assert open_set.limits(other, shown, tmp_path, "confidence", 0.05, seed=0)[0]["threshold"] == open_set.LEAST


def test_a_miscalibrated_answer_has_the_planted_error():
    rng = np.random.default_rng(3)
    sure = rng.uniform(0.5, 1, 2000)
    table = table_of(np.zeros((2000, 2)), np.zeros(2000)).assign(confidence=sure, right=rng.random(2000) < sure - 0.2)
    tables = {"planted": table, "calibrated": table.assign(right=rng.random(2000) < sure)}
    rows, errors = calibration.reliability(tables, seed=0)
    rows = rows[rows["name"] == "planted"]
    assert set(rows["n"]) == {400} and rows["confidence"].is_monotonic_increasing
    assert ((rows["low"] - 0.01 <= rows["confidence"] - 0.2) & (rows["confidence"] - 0.2 <= rows["high"] + 0.01)).all()
    assert errors["name"].tolist() == list(tables)
    assert errors["value"][0] == pytest.approx(0.2, abs=0.02) and errors["low"][0] > 0.15 and errors["value"][1] < 0.04


def test_a_likelihood_ratio_compares_a_class_with_the_mean_of_the_others():
    table = table_of(np.log([[0.7, 0.2, 0.1]]), np.array([0])).assign(part="test", known=True)
    rows = calibration.trials(table)
    assert rows["hypothesis"].tolist() == ["0", "1", "2"] and rows["same"].tolist() == [True, False, False]
    assert np.exp(rows["llr"]).tolist() == pytest.approx([0.7 / 0.15, 0.2 / 0.4, 0.1 / 0.45])


def planted_trials(rng, scale: float, photos: int = 2000) -> pd.DataFrame:
    """Scores N(2, 2) of true and N(-2, 2) of false hypotheses: their true log-likelihood ratio is 2 * score * 4 / 4."""
    parts = []
    for part, known, same in (("val", 1, 1), ("val", 1, 0), ("test", 1, 1), ("test", 1, 0), ("test", 0, 0)):
        photo = [f"{part}{known}{i}" for i in range(photos)]
        llr = scale * rng.normal(2 if same else 2 if not known else -2, 2, photos) + scale
        own = pd.DataFrame({"photo": photo, "camera_model": "a", "device": photo, "llr": llr})
        own["scene"] = np.arange(photos) // 10
        parts.append(own.assign(part=part, known=bool(known), same=bool(same)))
    return pd.concat(parts, ignore_index=True)


def test_ratios_are_calibrated_whatever_their_scale_and_unknown_cameras_can_mislead():
    for scale in (1.0, 0.1):
        rows = planted_trials(np.random.default_rng(4), scale)
        found = calibration.calibrated_ratios(rows)
        assert found["llr"].corr(rows["llr"]) == pytest.approx(1)
        line = np.polyfit(rows["llr"] / scale - 1, found["llr"], 1)
        np.testing.assert_allclose(line, [1, 0], atol=0.15)  # log of N(2, 2) over N(-2, 2)
    metrics = calibration.ratio_metrics(found, seed=0).set_index(["false_hypotheses", "metric"])["value"]
    x = np.random.default_rng(5).normal(2, 2, 200_000)
    assert metrics["of known cameras", "Cllr"] == pytest.approx(np.logaddexp(0, -x).mean() / np.log(2), abs=0.04)
    assert metrics["of known cameras", "equal error rate"] == pytest.approx(norm.sf(1), abs=0.02)
    assert metrics["of unknown cameras", "Cllr"] > 1 and metrics["of unknown cameras", "equal error rate"] > 0.45


def test_photos_are_sampled_evenly_over_cameras():
    others = pd.DataFrame({"camera_model": list("abcde") * 3, "path": [f"/y/{i}.jpg" for i in range(15)]})
    few, mixed = (open_set.sample_photos(table, 7, seed=0) for table in (others, others.sample(frac=1, random_state=1)))
    assert few.equals(mixed) and len(few) == 7 and sorted(few["camera_model"].value_counts()) == [1, 1, 1, 2, 2]


def test_each_readable_photo_gets_a_row(catalogue, model, tmp_path):
    (tmp_path / "2.jpg").write_text("no photo")
    seen = open_set.predict_photos(catalogue, model, tmp_path)
    assert list(seen["photo"]) == ["0.jpg", "1.jpg", "3.jpg"] and not {"path", "feature_similarity"} & set(seen)
    found = calibration.calibrate(open_set.predict_photos(catalogue, model, tmp_path), 1.0)  # read from its file
    assert catalogues.describe(found) == "simulated x, 3 photos, 2 camera models, 1 photo left out"
    assert found["right"].all() and np.allclose(np.exp(evaluation.log_probabilities(found)).sum(axis=1), 1)
    assert found["energy"].tolist() == pytest.approx([0, 16, 16], abs=0.2)
    assert intervals.score(found, experiment="x", protocol="photo", level="photo")["value"].iloc[0] == 1
    with pytest.raises(ValueError, match="none of 1 photos"):
        open_set.predict_photos(catalogue.iloc[[2]], model, tmp_path)
    near = model._replace(info=model.info | {"identification": {"means": [BLUE, PURPLE]}})
    seen = open_set.predict_photos(catalogue.iloc[:2], near, tmp_path)
    assert seen["feature_similarity"].iloc[0] > -2 and seen["feature_similarity"].iloc[1] < -10


def test_the_halves_of_a_splice_are_named_as_their_cameras(catalogue, model, tmp_path):
    known = calibration.calibrate(open_set.predict_photos(catalogue, model, tmp_path), 1.0)
    pairs = open_set.splice_pairs(known, catalogue, 5)
    assert len(pairs) == 2 and all(a["camera_model"] != b["camera_model"] for a, b in pairs)
    assert len({row["path"] for pair in pairs for row in pair}) == 4
    assert open_set.splice_pairs(known, catalogue.iloc[[0, 2]], 5) == []  # both by one camera
    spliced = open_set.splice_statistics(pairs, model)
    assert len(spliced) == 2 and spliced["named"].all()
    assert (known["parts_statistic"] == 0).all() and (spliced["parts_statistic"] > 1).all()
    assert not open_set.splice_statistics(pairs, model._replace(class_names=CLASSES[::-1]))["named"].any()
    whole = open_set.splice_statistics(pairs, model._replace(info=model.info | {"kind": "resize"}))
    assert (whole["parts_statistic"] == 0).all() and not whole["named"].any()
    both = open_set.splice(halves(BLUE, BLUE, 100, 200), halves(RED, RED, 120, 170))  # what both photos have
    assert both.shape == (100, 170, 3) and (both[:, :80] == BLUE).all() and (both[:, 80:] == RED).all()
    rates = open_set.splice_rates(known, spliced, open_set.splice_limit(known, 0.05))
    assert rates["value"].tolist() == [0, 1, 1] and rates["n"].tolist() == [4, 2, 2]
