"""Temperature, thresholds, error rates and splices: planted answers are found."""

import numpy as np
import pandas as pd
import pytest
import simplejpeg
from scipy.special import log_softmax
from test_identify import BLUE, CLASSES, RED, model, photo

from camid_utils import calibration, datasets, evaluation, identify, models, splits
from camid_utils.evaluation import LOG_PROB

__all__ = ["model"]  # the fixture: a network that tells red from blue


def table(logits: np.ndarray, true: np.ndarray) -> pd.DataFrame:
    columns = [f"{LOG_PROB}{i}" for i in range(logits.shape[1])]
    return pd.DataFrame(log_softmax(logits, axis=1), columns=columns).assign(true=true.astype(str))


@pytest.mark.parametrize("planted", [0.2, 1.0, 4.0])
def test_the_planted_temperature_is_found(planted):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 4))
    chances = np.exp(log_softmax(logits, axis=1))
    true = (rng.random((20_000, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    assert calibration.fit_temperature(table(logits * planted, true)) == pytest.approx(planted, rel=0.05)


def test_calibration_changes_how_sure_not_which(model):
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    raw = table(logits, np.array([0, 1, 1]))
    found = calibration.calibrated(raw, 2.0)
    assert found["predicted"].tolist() == ["0", "1", "0"] and found["right"].tolist() == [True, True, False]
    assert found["confidence"].to_numpy() == pytest.approx(1 / (1 + np.exp(-np.array([2, 1, 3]) / 2)))


def test_the_threshold_refuses_the_share_asked_for_and_no_more():
    scores = np.random.default_rng(1).permutation(100) / 100
    limit = calibration.threshold(scores, 0.05)
    assert (scores < limit).sum() == 5
    assert (np.full(10, 0.7) < calibration.threshold(np.full(10, 0.7))).sum() == 0


def test_the_area_counts_pairs_in_the_right_order():
    assert calibration.area(np.array([3.0, 4]), np.array([1.0, 2])) == 1
    assert calibration.area(np.array([1.0, 2]), np.array([3.0, 4])) == 0
    assert calibration.area(np.array([1.0, 3]), np.array([1.0, 2])) == pytest.approx((0.5 + 0 + 1 + 1) / 4)


def test_scores_are_compared_with_intervals_that_hold_the_value():
    rng = np.random.default_rng(2)
    known, unknown = (
        pd.DataFrame({name: rng.normal(shift * i, 1, 60) for i, name in enumerate(identify.SCORES)}) for shift in (1, 0)
    )
    rows = calibration.compared_scores(known, unknown, seed=0)
    assert list(rows["score"]) == list(identify.SCORES) and rows["value"].is_monotonic_increasing
    assert ((rows["low"] < rows["value"]) & (rows["value"] < rows["high"])).all()
    assert set(rows["known"]) == set(rows["unknown"]) == {60}
    curve = calibration.roc(known["clarity"], unknown["clarity"])
    area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
    assert area == pytest.approx(calibration.area(known["clarity"], unknown["clarity"]))


def test_error_rates_count_both_kinds_of_error():
    known = pd.DataFrame({"agreement": [0.2, 0.6, 0.7, 0.9], "right": [False, False, True, True]})
    unknown = pd.DataFrame({"agreement": [0.1, 0.3, 0.5]})
    rows = calibration.error_rates(known, unknown, "agreement", 0.5).set_index("question")
    assert rows["value"].tolist() == pytest.approx([0.25, 1 / 3, 0.5, 2 / 3]) and rows["n"].tolist() == [4, 3, 4, 3]
    assert ((rows["low"] < rows["value"]) & (rows["value"] < rows["high"])).all()
    assert rows.loc["known cameras refused", ["low", "high"]].tolist() == pytest.approx([0.0456, 0.6994], abs=1e-3)
    none = calibration.error_rates(known, unknown, "agreement", 2.0).set_index("question")
    assert none.loc["right, of the known that are accepted", "n"] == 0


def test_reliability_has_groups_of_equal_size_from_unsure_to_sure():
    rng = np.random.default_rng(3)
    sure = rng.uniform(0.2, 1, 4000)
    rows = calibration.reliability(pd.DataFrame({"confidence": sure, "right": rng.random(4000) < sure}), "planted")
    assert set(rows["n"]) == {1000} and rows["confidence"].is_monotonic_increasing
    assert ((rows["low"] <= rows["confidence"]) & (rows["confidence"] <= rows["high"])).sum() >= 3


def test_unknown_cameras_that_choose_and_that_test_are_not_the_same():
    catalogue = pd.DataFrame({"camera_model": list("abcde") * 3, "path": [f"{i}.jpg" for i in range(15)]})
    one, two = calibration.halves(catalogue)
    assert set(one["camera_model"]) == set("ace") and set(two["camera_model"]) == set("bd")
    few = calibration.some(catalogue, 7, seed=0)
    assert len(few) == 7 and few["camera_model"].value_counts().max() == 2 and few["camera_model"].nunique() == 5
    assert few.equals(calibration.some(catalogue.sample(frac=1, random_state=1), 7, seed=0))
    assert len(calibration.some(catalogue, 100, seed=0)) == 15


@pytest.fixture
def catalogue(tmp_path) -> pd.DataFrame:
    rows = []
    for i, (colour, name) in enumerate([(BLUE, CLASSES[0]), (RED, CLASSES[1]), (BLUE, CLASSES[0]), (RED, CLASSES[1])]):
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(simplejpeg.encode_jpeg(photo(colour, colour), 95))
        rows.append(dict(path=str(path), dataset="simulated x", camera_model=name, width=320, height=240))
    return pd.DataFrame(rows)


def test_each_photo_gets_a_row_and_a_bad_one_none(catalogue, model, tmp_path):
    (tmp_path / "2.jpg").write_text("no photo any more")
    seen = calibration.looked_at(catalogue, model)
    assert list(seen["photo"]) == ["0.jpg", "1.jpg", "3.jpg"] and "path" not in seen
    found = calibration.calibrated(seen, 1.0)
    assert found["right"].all() and (found["agreement"] == 1).all()
    assert evaluation.score(found, experiment="x", protocol="photo", level="photo")["value"].iloc[0] == 1


def test_photos_of_known_cameras_are_nearest_to_their_own_mean(catalogue, model, tmp_path):
    with pytest.raises(ValueError, match="no photo of Warm_Red"):
        calibration.camera_means(catalogue.iloc[[0, 2]], model)
    (tmp_path / "2.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:300])  # as any photo on a disk may be
    means = calibration.camera_means(catalogue, model)
    assert np.shape(means) == (2, model.net.classifier[0].in_features)
    strange = tmp_path / "purple.jpg"
    strange.write_bytes(simplejpeg.encode_jpeg(photo((120, 40, 60), (120, 40, 60)), 95))
    catalogue = catalogue.drop(index=2)
    photos = pd.concat([catalogue, catalogue.iloc[:1].assign(path=str(strange))])
    seen = calibration.looked_at(photos, model._replace(info=model.info | {"identification": {"means": means}}))
    assert (seen["likeness"][:3] > -1e-3).all() and seen["likeness"].iloc[3] < -10
    assert "likeness" not in calibration.looked_at(catalogue, model)


def test_photos_that_trained_are_told_from_those_that_tested():
    rows = [
        dict(camera_model=f"m{m}", device=f"m{m}_{d}", scene=f"s{s}")
        for m in range(3)
        for d in (0, 1)
        for s in range(8)
    ]
    table = pd.DataFrame(rows).assign(path=[f"/x/{i}.jpg" for i in range(len(rows))], width=640, height=480)
    info = {"protocol": "photo", "seed": 1}
    model = models.Model(None, ["m0", "m2"], 48, "0..255", info)
    known = table[table["camera_model"] != "m1"]
    parts = splits.split(known, "photo", 1)
    others = pd.DataFrame({"photo": datasets.relative_photos(known[parts != "train"])})
    trained = calibration.trained_on(table, model, others)
    assert set(trained["path"]) == set(known.loc[parts == "train", "path"])
    fewer = calibration.trained_on(table.drop(index=0), model, others)  # one photo left out deals all others anew
    assert not set(datasets.relative_photos(fewer)) & set(others["photo"]) and len(fewer) > 5


def test_without_a_readable_photo_there_is_nothing_to_calibrate(catalogue, model, tmp_path):
    for path in tmp_path.glob("*.jpg"):
        path.write_text("none")
    with pytest.raises(ValueError, match="none of 4 photos"):
        calibration.looked_at(catalogue, model)


def test_the_halves_of_a_splice_name_their_own_cameras(catalogue, model):
    known = calibration.calibrated(calibration.looked_at(catalogue, model), 1.0)
    pairs = calibration.splice_pairs(known, catalogue, 5)
    assert len(pairs) == 2 and all(a["camera_model"] != b["camera_model"] for a, b in pairs)
    assert len({row["path"] for pair in pairs for row in pair}) == 4
    rates = calibration.splice_rates(pairs, model)
    assert (
        len(rates) == 4 and (rates["own"] == 1).all() and (rates["others"] == 0).all() and (rates["patches"] > 10).all()
    )
    assert calibration.splice_pairs(known, catalogue.iloc[[0, 2]], 5) == []  # both of one camera
    whole = calibration.splice_rates(pairs, model._replace(info=model.info | {"kind": "resize"}))
    assert (whole["patches"] == 0).all() and whole[["own", "others"]].isna().all(axis=None)


def test_a_splice_takes_what_both_photos_have():
    both = calibration.spliced(photo(BLUE, BLUE, 100, 200), photo(RED, RED, 120, 170))
    assert both.shape == (100, 170, 3)
    assert (both[:, :80] == BLUE).all() and (both[:, 80:] == RED).all()
