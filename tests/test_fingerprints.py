"""A planted sensor pattern is found in the photos that carry it, and in no others."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from camid_utils import catalogues, evaluation, experiments
from camid_utils.analyses import fingerprints
from camid_utils.analyses.fingerprints import QUESTIONS, compare_answers, pce

SHAPE = (160, 240)
NOISE = np.random.default_rng(3).standard_normal((200, *SHAPE)).astype(np.float32)


def pattern(device, shape=SHAPE):
    """A device's photo-response non-uniformity, 3 %."""
    return 0.03 * np.random.default_rng([7, device]).standard_normal(shape)


def photo(device, number, shape=SHAPE, grid=0.0):
    """A smooth scene through a device's pattern, with shot noise and, if asked, a grid that all devices share."""
    rng = np.random.default_rng([8, device, number])
    y, x = np.indices(shape)
    scene = 120 + 60 * np.sin(2 * np.pi * (rng.random() + y * rng.random() / 90 + x * rng.random() / 70))
    light = scene * (1 + pattern(device, shape)) + 2 * rng.standard_normal(shape)
    light = light + grid * ((y % 8 == 0) & (x % 8 == 0)) + grid * (y % 8 == 4)
    return np.clip(light.round(), 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def catalogue(folder, devices=3, photos=5, small=()):
    """Photos on disk, two devices of each camera model; `small`: (device, number) of photos of another size."""
    rows = []
    for device, number in np.ndindex(devices, photos):
        shape, path = (96, 128) if (device, number) in small else SHAPE, folder / f"d{device}_{number:02d}.jpg"
        Image.fromarray(photo(device, number, shape)).save(path, quality=98, subsampling=0)
        rows.append([str(path), f"M{device // 2}", f"D{device}", *shape])
    return pd.DataFrame(rows, columns=["path", "camera_model", "device", "height", "width"])


def pairs(rows):
    """A table of `match` from (photo, own device, fingerprint's device, energy); a device begins with its model."""
    table = pd.DataFrame(rows, columns=["photo", "own", "device", "pce"])
    same_model = table["own"].str[0] == table["device"].str[0]
    return table.assign(camera_model=table["own"].str[0], same=table["own"] == table["device"], same_model=same_model)


@pytest.fixture(scope="module")
def prints():
    return [fingerprints.fingerprint([photo(device, i) for i in range(6)]) for device in range(2)]


def test_the_fingerprint_is_the_planted_pattern_whatever_the_order(prints):
    assert prints[0].shape == SHAPE and prints[0].dtype == np.float32
    assert np.corrcoef(prints[0].ravel(), pattern(0).ravel())[0, 1] > 0.7
    assert abs(np.corrcoef(prints[0].ravel(), pattern(1).ravel())[0, 1]) < 0.03
    assert abs(prints[0].mean(axis=0)).max() < 1e-3 and abs(prints[0].mean(axis=1)).max() < 1e-3
    photos = [photo(0, i) for i in range(6)]
    np.testing.assert_array_equal(fingerprints.fingerprint(photos), prints[0])
    np.testing.assert_allclose(fingerprints.fingerprint(photos[::-1]), prints[0], atol=1e-6)


def test_a_photo_matches_only_its_own_device_and_only_unmoved(prints):
    for device in (0, 1):
        energies = pce(photo(device, 20), prints)
        assert energies[device] > 500 and abs(energies[1 - device]) < 15
    assert abs(pce(np.roll(photo(0, 20), (3, 5), (0, 1)), prints[:1])[0]) < 15
    own, negative, *unrelated = pce(photo(0, 20), [prints[0], -prints[0], *NOISE])
    assert negative == pytest.approx(-own)
    assert 0.7 < np.abs(unrelated).mean() < 1.4  # chi-square with one degree of freedom


def test_what_devices_share_is_not_in_the_fingerprint():
    one, two = (fingerprints.fingerprint([photo(d, i, grid=12) for i in range(6)]) for d in (0, 1))
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.07  # 0.12 without Wiener filter, 0.25 as estimated
    assert pce(photo(0, 20, grid=12), [one])[0] > 3000


def test_clipped_and_black_photos_carry_nothing_and_other_sizes_do_not_mix(prints):
    for level in (0, 255):
        seen = np.full((*SHAPE, 3), level, np.uint8)
        assert pce(seen, prints) == [0, 0] and np.abs(fingerprints.fingerprint([seen])).max() == 0
    turned = photo(0, 1, SHAPE[::-1])
    assert np.isnan(pce(turned, prints)).all()
    with pytest.raises(ValueError):
        fingerprints.fingerprint([photo(0, 0), turned])
    assert fingerprints.fingerprint([]) is None


def test_every_photo_of_a_catalogue_finds_its_device(tmp_path):
    photos = catalogue(tmp_path, devices=4, photos=8)
    train = photos["path"].str.contains("_0[0-4]")
    table = fingerprints.match(photos[~train], fingerprints.fingerprints(photos[train]))
    assert len(table) == 4 * 3 * 4 and table["same"].sum() == 12 and table["same_model"].sum() == 24
    assert table.loc[table["same"], "pce"].min() > 100 > 20 > table.loc[~table["same"], "pce"].abs().max()
    found = compare_answers({"photos": table}, resamples=50)
    np.testing.assert_allclose(found[["value", "low", "high"]], 1)
    assert found["n"].eq(12).all() and found["others"].tolist() == [36] * 3 + [12] * 3
    noisy = table.assign(pce=table["pce"] + np.random.default_rng(1).normal(0, 800, len(table)))
    one, two = (compare_answers({"": noisy.sample(frac=1, random_state=i)}, 4, resamples=200) for i in (1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert one["value"].between(one["low"], one["high"]).all() and (one["low"] < one["high"]).any()


def test_damaged_photos_are_left_out_and_too_few_of_one_size_are_a_reason(tmp_path):
    photos = catalogue(tmp_path, small=[(1, 0), (2, 0), (2, 1)])
    intact = fingerprints.fingerprints(photos[~photos["path"].str.contains("d0_02")])
    for name in ("d0_02", "d1_01"):
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(path.read_bytes()[:3000])
    found = fingerprints.fingerprints(photos)
    assert found["photos"].tolist() == [4, 3, 3] and found["others"].tolist() == [0, 1, 2]
    assert found["reason"].tolist() == [""] + ["3 photos of 240 x 160 pixels, 4 are needed"] * 2
    np.testing.assert_array_equal(found["fingerprint"][0], intact["fingerprint"][0])
    matched = fingerprints.match(photos, found)
    assert len(matched) == 13 and (matched["pce"].isna() == matched["photo"].str.contains("d1_00|d2_00|d2_01")).all()
    for result in (found, matched):
        left_out = catalogues.left_out(result)
        assert left_out["path"].str[-9:].tolist() == ["d0_02.jpg", "d1_01.jpg"]
        assert left_out["reason"].str.contains("truncated").all()


def test_scores_of_a_known_table():
    energies = {"p1": (90, 1, 2), "p2": (80, 3, 0), "p3": (5, 1, 40), "p4": (30, 35, 1)}
    rows = [(p, "A1", d, e) for p, row in energies.items() for d, e in zip(("A1", "A2", "B1"), row, strict=True)]
    table = pairs([*rows, ("p5", "A9", "A1", 7.0)])  # a device without a fingerprint counts only among the others
    found = compare_answers({"": table}, resamples=20).set_index(["question", "metric"])["value"].unstack()
    everyone, model = (found.loc[question] for question in QUESTIONS)
    assert everyone["accuracy"] == 0.5 and model["accuracy"] == 0.75
    assert everyone["area under the ROC"] == pytest.approx(roc_auc_score(table["same"], table["pce"]))
    assert everyone["true positives at 1% false"] == 0.5  # 90 and 80 are above all others
    assert compare_answers({"": table[:0]}, resamples=20)["value"].isna().all()
    assert fingerprints.as_predictions(table[:0]).columns.tolist() == ["photo", "true"]


def test_only_comparable_pairs_count():
    own = ("p1", "A1", "A1", 50.0)
    curve = fingerprints.roc(pairs([own, ("p1", "A1", "A2", 60.0), ("p1", "A1", "B1", np.nan), ("p2", "A2", "A2", 70)]))
    assert curve.to_numpy()[:, :2].tolist() == [[0, 0], [0, 0.5], [1, 0.5], [1, 1]]
    rows = [own, ("p1", "A1", "B1", np.nan), ("p2", "B1", "A1", 9.0), ("p2", "B1", "B1", 4.0), ("p3", "A9", "A1", 3.0)]
    found = fingerprints.as_predictions(pairs(rows))
    assert found["photo"].tolist() == ["p1", "p2"] and found["true"].tolist() == ["A1", "B1"]
    np.testing.assert_allclose(np.exp(evaluation.log_probabilities(found)).sum(axis=1), 1)
    assert evaluation.confusion(found).to_numpy().tolist() == [[1, 0], [1, 0]]
    assert len(fingerprints.as_predictions(pd.concat([pairs(rows).assign(seed=seed) for seed in (0, 1)]))) == 4


def test_a_network_answers_the_same_questions_and_is_compared_on_the_same_photos():
    names = ["A1", "A2", "B1"]
    votes = pd.DataFrame({"photo": ["p1", "p2", "p3"], "device": names, "camera_model": ["A", "A", "B"]})
    shares = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.5, 0.1, 0.4]])  # correct, wrong within its model, beyond it
    votes[[evaluation.LOG_PROB + name for name in names]] = np.log(shares)
    network = fingerprints.as_pairs(votes)
    assert len(network) == 9 and network["same"].sum() == 3 and network["same_model"].sum() == 5
    assert fingerprints.mistakes(network) == {"photos": 3, "wrong": 2, "within the model": 1}
    assert evaluation.confusion(fingerprints.as_predictions(network)).to_numpy().diagonal().tolist() == [1, 0, 0]
    perfect = network.assign(pce=100.0 * network["same"])
    scores = compare_answers({"network": network, "fingerprint": perfect})
    accuracy = scores[scores["metric"] == "accuracy"].set_index(["answer", "question"])["value"]
    assert accuracy["fingerprint"].tolist() == [1, 1] and accuracy["network"].tolist() == pytest.approx([1 / 3, 1 / 2])
    contrasts = fingerprints.contrast_answers(perfect, network, "scene", "D", seed=0)
    assert contrasts.columns.tolist() == experiments.CONTRAST_COLUMNS
    assert contrasts["a"].tolist() == ["devices-fingerprint", "devices-fingerprint-within"]
    assert set(contrasts["a"]) | set(contrasts["b"]) <= set(experiments.listed().index)
    assert contrasts["difference"].tolist() == pytest.approx([2 / 3, 1 / 2]) and contrasts["photos"].tolist() == [3, 2]
    single = [pairs[pairs["photo"] == "p3"] for pairs in (perfect, network)]
    assert fingerprints.contrast_answers(*single, "scene", "D", 0)["a"].tolist() == ["devices-fingerprint"]
