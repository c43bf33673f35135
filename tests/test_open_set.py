"""Temperature, thresholds, error rates and splices: planted answers are found."""

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import torch
from scipy.special import log_softmax
from torch import nn

from camid_utils import catalogues, intervals, splits
from camid_utils.analyses import open_set
from camid_utils.evaluation import LOG_PROB
from camid_utils.identify.predict import SCORES
from camid_utils.models import Model

BLUE, RED, PURPLE = (40, 40, 200), (200, 40, 40), (120, 40, 60)
CLASSES = ["Cold_Blue", "Warm_Red"]


@pytest.fixture
def model() -> Model:
    """A network with weights set by hand, which tells red from blue; its features are a patch's mean colour."""
    net = nn.Module()
    net.settings = {}
    net.features, net.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(3, 2)
    net.classifier.weight.data = torch.tensor([[0.0, 0, 0], [0.1, 0, -0.1]])
    return Model(net, CLASSES, 48, "0..255", {"dataset": "simulated x", "kind": "grid"})


def halves(left: tuple, right: tuple, height: int = 240, width: int = 320) -> np.ndarray:
    """A photo of two colours, side by side."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    return pixels


@pytest.fixture
def catalogue(tmp_path) -> pd.DataFrame:
    """Four photos, of blue and red cameras by turns."""
    paths = [tmp_path / f"{i}.jpg" for i in range(4)]
    for path, colour in zip(paths, [BLUE, RED] * 2, strict=True):
        path.write_bytes(simplejpeg.encode_jpeg(halves(colour, colour), 95))
    others = dict.fromkeys(["brand", "device", "scene"], pd.NA)
    return pd.DataFrame({"path": map(str, paths), "dataset": "simulated x", "camera_model": CLASSES * 2, **others})


def table(logits: np.ndarray, true: np.ndarray) -> pd.DataFrame:
    columns = [f"{LOG_PROB}{i}" for i in range(logits.shape[1])]
    return pd.DataFrame(log_softmax(logits, axis=1), columns=columns).assign(true=true.astype(str))


@pytest.mark.parametrize("planted", [0.2, 1.0, 4.0])
def test_the_planted_temperature_is_found(planted):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 4))
    chances = np.exp(log_softmax(logits, axis=1))
    true = (rng.random((20_000, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    assert open_set.fit_temperature(table(logits * planted, true)) == pytest.approx(planted, rel=0.05)


def test_calibration_changes_the_confidence_and_not_the_camera():
    found = open_set.calibrate(table(np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), np.array([0, 1, 1])), 2.0)
    assert found["predicted"].tolist() == ["0", "1", "0"] and found["right"].tolist() == [True, True, False]
    assert found["confidence"].to_numpy() == pytest.approx(1 / (1 + np.exp(-np.array([2, 1, 3]) / 2)))


def test_the_threshold_refuses_the_share_asked_for_and_no_more():
    scores = np.random.default_rng(1).permutation(100) / 100
    assert (scores < open_set.threshold(scores, 0.05)).sum() == 5
    assert (np.full(10, 0.7) < open_set.threshold(np.full(10, 0.7), 0.05)).sum() == 0


def test_no_kind_of_camera_exceeds_the_limit_of_splices_more_often_than_promised():
    tables = [pd.DataFrame({"parts_statistic": np.random.default_rng(i).permutation(100) / 100 + i}) for i in (0, 1)]
    limit = open_set.splice_limit(tables, 0.05)
    assert [(table["parts_statistic"] > limit).sum() for table in tables] == [0, 5]
    assert open_set.splice_limit(tables[::-1], 0.05) == limit
    rows = open_set.shares({"all": tables[0]["parts_statistic"] >= 0, "none": tables[0]["parts_statistic"][:0] > 0})
    assert rows["value"][0] == 1 and rows["n"].tolist() == [100, 0] and rows["value"].isna().tolist() == [False, True]


@pytest.mark.parametrize("known, unknown, area", [([3, 4], [1, 2], 1), ([1, 2], [3, 4], 0), ([1, 3], [1, 2], 2.5 / 4)])
def test_the_area_under_the_roc_counts_pairs_in_the_right_order(known, unknown, area):
    known, unknown = np.array(known, float), np.array(unknown, float)
    assert open_set.auroc(known, unknown) == pytest.approx(area)
    curve = open_set.roc(known, unknown)
    assert np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"]) == pytest.approx(area)


def test_the_better_score_is_found_with_an_interval():
    draws = np.random.default_rng(2).normal(size=(2, 60, len(SCORES)))
    known, unknown = (pd.DataFrame(each, columns=SCORES) for each in draws)
    known += np.arange(len(SCORES))  # each score tells them apart better than the one before
    rows = open_set.compare_scores(known, unknown, seed=0)
    assert list(rows["score"]) == list(SCORES) and rows["value"].is_monotonic_increasing
    assert ((rows["low"] < rows["value"]) & (rows["value"] < rows["high"])).all()
    assert set(rows["known"]) == set(rows["unknown"]) == {60}


def test_error_rates_count_both_kinds_of_error():
    known = pd.DataFrame({"vote_share": [0.2, 0.6, 0.7, 0.9], "right": [False, False, True, True]})
    unknown = pd.DataFrame({"vote_share": [0.1, 0.3, 0.5]})
    rows = open_set.error_rates(known, unknown, "vote_share", 0.5).set_index("question")
    assert rows["value"].tolist() == pytest.approx([0.25, 1 / 3, 0.5, 2 / 3]) and rows["n"].tolist() == [4, 3, 4, 3]
    assert ((rows["low"] < rows["value"]) & (rows["value"] < rows["high"])).all()
    assert rows.loc["known cameras refused", ["low", "high"]].tolist() == pytest.approx([0.0456, 0.6994], abs=1e-3)
    none = open_set.error_rates(known, unknown, "vote_share", 2.0).set_index("question")
    assert none.loc["accepted known cameras correctly classified", "n"] == 0


def test_reliability_has_groups_of_equal_size_by_confidence():
    rng = np.random.default_rng(3)
    sure = rng.uniform(0.2, 1, 4000)
    rows = open_set.reliability(pd.DataFrame({"confidence": sure, "right": rng.random(4000) < sure}), "planted")
    assert set(rows["n"]) == {1000} and rows["confidence"].is_monotonic_increasing
    assert ((rows["low"] <= rows["confidence"]) & (rows["confidence"] <= rows["high"])).sum() >= 3


def test_groups_of_photos_share_no_photo_and_unknown_cameras_no_model():
    cells = [(m, d, s) for m in range(3) for d in (0, 1) for s in range(8)]
    rows = [dict(camera_model=f"m{m}", device=f"{m}{d}", scene=f"s{s}", path=f"/x/{m}{d}{s}.jpg") for m, d, s in cells]
    photos = pd.DataFrame(rows).assign(width=640, height=480)
    known = photos[photos["camera_model"] != "m1"]
    part = splits.split(known, "photo", 1)
    predictions = pd.DataFrame({"photo": catalogues.relative_photos(known), "part": part})[part != "train"]
    model = Model(None, ["m0", "m2"], 48, "0..255", {"protocol": "photo", "seed": 1})
    others = pd.DataFrame({"camera_model": list("abcde") * 3, "path": [f"/y/{i}.jpg" for i in range(15)]})
    everything = open_set.photo_groups(photos, others, predictions, model, most=99, seed=0)["train"]
    assert set(everything["path"]) == set(known.loc[part == "train", "path"])
    fewer = photos.drop(index=0)  # without one photo the split differs
    fewer = open_set.photo_groups(fewer, others, predictions, model, most=99, seed=0)["train"]
    assert not set(catalogues.relative_photos(fewer)) & set(predictions["photo"]) and len(fewer) > 5
    groups = open_set.photo_groups(photos, others, predictions, model, most=4, seed=0)
    sizes = {"train": 16, "val": 4, "test": 4, "unknown, to choose": 4, "unknown, to test": 4}
    assert {name: len(group) for name, group in groups.items()} == sizes and pd.concat(groups)["path"].is_unique
    for part in ("val", "test"):
        assert set(groups[part]["path"].str[3:]) <= set(predictions.loc[predictions["part"] == part, "photo"])
    choose, measure = (set(groups[f"unknown, to {use}"]["camera_model"]) for use in ("choose", "test"))
    assert choose == set("ace") and measure == set("bd")
    few, mixed = (open_set.sample_photos(table, 7, seed=0) for table in (others, others.sample(frac=1, random_state=1)))
    assert few.equals(mixed) and len(few) == 7 and sorted(few["camera_model"].value_counts()) == [1, 1, 1, 2, 2]


def test_each_readable_photo_gets_a_row(catalogue, model, tmp_path):
    (tmp_path / "2.jpg").write_text("no photo")
    seen = open_set.predict_photos(catalogue, model, tmp_path)
    assert list(seen["photo"]) == ["0.jpg", "1.jpg", "3.jpg"] and not {"path", "feature_similarity"} & set(seen)
    found = open_set.calibrate(open_set.predict_photos(catalogue, model, tmp_path), 1.0)  # read from its file
    assert catalogues.describe(found) == "simulated x, 3 photos, 2 camera models, 1 photo left out"
    assert found["right"].all() and (found["vote_share"] == 1).all()
    assert intervals.score(found, experiment="x", protocol="photo", level="photo")["value"].iloc[0] == 1
    with pytest.raises(ValueError, match="none of 1 photos"):
        open_set.predict_photos(catalogue.iloc[[2]], model, tmp_path)


def test_photos_of_known_cameras_are_near_the_mean_of_their_own(catalogue, model, tmp_path):
    with pytest.raises(ValueError, match="no readable photo of Warm_Red"):
        open_set.camera_means(catalogue.iloc[[0, 2]], model, tmp_path)
    (tmp_path / "2.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:300])  # truncated
    means = open_set.camera_means(catalogue, model, tmp_path)
    assert means == [pytest.approx(BLUE, abs=1), pytest.approx(RED, abs=1)]
    (tmp_path / "purple.jpg").write_bytes(simplejpeg.encode_jpeg(halves(PURPLE, PURPLE), 95))
    catalogue.loc[2, "path"] = str(tmp_path / "purple.jpg")
    seen = open_set.predict_photos(
        catalogue, model._replace(info=model.info | {"identification": {"means": means}}), tmp_path
    )
    near = seen["feature_similarity"] > -1e-3
    assert near.tolist() == [True, True, False, True] and seen["feature_similarity"][2] < -10


def test_the_halves_of_a_splice_vote_for_their_own_cameras(catalogue, model, tmp_path):
    known = open_set.calibrate(open_set.predict_photos(catalogue, model, tmp_path), 1.0)
    pairs = open_set.splice_pairs(known, catalogue, 5)
    assert len(pairs) == 2 and all(a["camera_model"] != b["camera_model"] for a, b in pairs)
    assert len({row["path"] for pair in pairs for row in pair}) == 4
    assert open_set.splice_pairs(known, catalogue.iloc[[0, 2]], 5) == []  # both by one camera
    rates = open_set.splice_rates(pairs, model)
    assert len(rates) == 4 and (rates[["own", "others"]] == [1, 0]).all(axis=None) and (rates["patches"] > 10).all()
    assert rates["half"].tolist() == ["left", "right"] * 2 and (rates["camera"] != rates["other"]).all()
    assert rates["named"].all() and (known["parts_statistic"] == 0).all() and (rates["parts_statistic"] > 1).all()
    swapped = model._replace(class_names=CLASSES[::-1])
    assert not open_set.splice_rates(pairs, swapped)["named"].any()
    whole = open_set.splice_rates(pairs, model._replace(info=model.info | {"kind": "resize"}))
    assert (whole["patches"] == 0).all() and whole[["own", "others"]].isna().all(axis=None)
    assert (whole["parts_statistic"] == 0).all() and not whole["named"].any()
    both = open_set.splice(halves(BLUE, BLUE, 100, 200), halves(RED, RED, 120, 170))  # what both photos have
    assert both.shape == (100, 170, 3) and (both[:, :80] == BLUE).all() and (both[:, 80:] == RED).all()
