"""A planted sensor pattern is found in the photos that carry it, and in no others."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from camid_utils import evaluation, fingerprints

HEIGHT, WIDTH = 160, 240


def pattern(device, shape=(HEIGHT, WIDTH)):
    """A device's photo-response non-uniformity, 3 %."""
    return 0.03 * np.random.default_rng([7, device]).standard_normal(shape)


def photo(device, number, shape=(HEIGHT, WIDTH), grid=0.0):
    """A smooth scene through a device's pattern, with shot noise and, if asked, a grid that all devices share."""
    rng = np.random.default_rng([8, device, number])
    y, x = np.indices(shape)
    scene = 120 + 60 * np.sin(2 * np.pi * (rng.random() + y * rng.random() / 90 + x * rng.random() / 70))
    light = scene * (1 + pattern(device, shape)) + 2 * rng.standard_normal(shape)
    light = light + grid * ((y % 8 == 0) & (x % 8 == 0)) + grid * (y % 8 == 4)
    return np.clip(light.round(), 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def catalogue(folder, devices=3, photos=range(6), shapes=None):
    """Photos on disk, two devices to a camera model."""
    rows = []
    for device in range(devices):
        for number in photos:
            shape = (shapes or {}).get((device, number), (HEIGHT, WIDTH))
            path = folder / f"d{device}_{number:02d}.jpg"
            Image.fromarray(photo(device, number, shape)).save(path, quality=98, subsampling=0)
            labels = {"camera_model": f"M{device // 2}", "device": f"D{device}"}
            rows.append({"path": str(path), **labels, "height": shape[0], "width": shape[1]})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def prints():
    return [fingerprints.fingerprint([photo(device, i) for i in range(6)]) for device in range(2)]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    photos = catalogue(tmp_path_factory.mktemp("photos"), devices=4, photos=range(8))
    train = photos["path"].str.contains("_0[0-4]")
    return fingerprints.match(photos[~train], fingerprints.fingerprints(photos[train]))


def pairs(rows):
    """A table of `match` from (photo, own device, fingerprint's device, energy); models are the devices' letters."""
    table = pd.DataFrame(rows, columns=["photo", "own", "device", "pce"])
    same_model = table["own"].str[0] == table["device"].str[0]
    return table.assign(camera_model=table["own"].str[0], same=table["own"] == table["device"], same_model=same_model)


def test_residual_keeps_noise_and_drops_the_scene():
    rng = np.random.default_rng(0)
    scene = np.broadcast_to(np.linspace(40, 200, 300)[:, None], (300, 301))
    noise = 2 * rng.standard_normal(scene.shape)
    seen = np.round(scene + noise).astype(np.uint8)[..., None].repeat(3, axis=2)
    residual = fingerprints.residual(seen)
    assert residual.shape == (300, 301) and residual.dtype == np.float32
    assert np.corrcoef(residual.ravel(), noise.ravel())[0, 1] > 0.9
    assert abs(np.corrcoef(residual.ravel(), scene.ravel())[0, 1]) < 0.02


def test_residual_holds_back_at_strong_edges():
    seen = np.zeros((64, 64, 3), np.uint8)
    seen[:, 32:] = 200
    assert np.abs(fingerprints.residual(seen)).max() < 5  # of 200 grey levels


def test_the_fingerprint_is_the_planted_pattern(prints):
    assert prints[0].shape == (HEIGHT, WIDTH) and prints[0].dtype == np.float32
    assert np.corrcoef(prints[0].ravel(), pattern(0).ravel())[0, 1] > 0.7
    assert abs(np.corrcoef(prints[0].ravel(), pattern(1).ravel())[0, 1]) < 0.03
    assert abs(prints[0].mean(axis=0)).max() < 1e-3 and abs(prints[0].mean(axis=1)).max() < 1e-3


@pytest.mark.parametrize("device", [0, 1])
def test_a_photo_matches_its_own_device_alone(prints, device):
    seen = photo(device, 20)
    energies = [fingerprints.pce(fingerprints.residual(seen), one, seen) for one in prints]
    assert energies[device] > 500 and abs(energies[1 - device]) < 15


def test_a_moved_photo_and_the_negative_pattern_do_not_match(prints):
    seen = photo(0, 20)
    residual = fingerprints.residual(seen)
    moved, light = np.roll(residual, (3, 5), (0, 1)), np.roll(seen, (3, 5), (0, 1))
    assert abs(fingerprints.pce(moved, prints[0], light)) < 15
    assert fingerprints.pce(-residual, prints[0], seen) == pytest.approx(-fingerprints.pce(residual, prints[0], seen))


def test_the_energy_of_noise_is_about_one(prints):
    rng = np.random.default_rng(3)
    seen = photo(0, 20)
    noise = rng.standard_normal((200, HEIGHT, WIDTH)).astype(np.float32)
    energies = np.abs([fingerprints.pce(one, prints[0], seen) for one in noise])
    assert 0.7 < energies.mean() < 1.4  # chi-square of one degree of freedom


def test_what_devices_share_is_not_in_the_fingerprint():
    one, two = (fingerprints.fingerprint([photo(d, i, grid=12) for i in range(6)]) for d in (0, 1))
    seen = photo(0, 20, grid=12)
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.07  # 0.12 without Wiener filter, 0.25 as estimated
    assert fingerprints.pce(fingerprints.residual(seen), one, seen) > 3000


def test_order_and_workers_do_not_matter(prints):
    photos = [photo(0, i) for i in range(6)]
    again = fingerprints.fingerprint(photos[::-1], workers=1)
    np.testing.assert_allclose(again, prints[0], atol=1e-6)
    np.testing.assert_array_equal(fingerprints.fingerprint(photos, workers=1), prints[0])


def test_clipped_and_black_photos_carry_nothing(prints):
    for level in (0, 255):
        seen = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
        assert fingerprints.pce(fingerprints.residual(seen), prints[0], seen) == 0
        assert np.abs(fingerprints.fingerprint([seen])).max() == 0


def test_other_sizes_are_refused(prints, tmp_path):
    with pytest.raises(ValueError, match="240 x 160.*fingerprint for each size"):
        fingerprints.fingerprint([photo(0, 0), photo(0, 1, (WIDTH, HEIGHT))])
    turned = photo(0, 0, (WIDTH, HEIGHT))
    with pytest.raises(ValueError, match="160 x 240 pixels.*fingerprint 240 x 160"):
        fingerprints.pce(fingerprints.residual(turned), prints[0], turned)
    with pytest.raises(ValueError, match="at least one photo"):
        fingerprints.fingerprint([])
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    with pytest.raises(ValueError, match="broken.jpg"):
        fingerprints.fingerprint([tmp_path / "broken.jpg"])


def test_every_photo_of_the_catalogue_finds_its_device(table):
    assert len(table) == 4 * 3 * 4 and table["same"].sum() == 12 and table["same_model"].sum() == 24
    assert table.loc[table["same"], "pce"].min() > 100 > 20 > table.loc[~table["same"], "pce"].abs().max()
    found = fingerprints.scores(table, resamples=50)
    np.testing.assert_allclose(found[["value", "low", "high"]], 1)
    assert found["n"].eq(12).all() and found["others"].tolist() == [36] * 3 + [12] * 3


def test_devices_without_enough_photos_of_one_size_say_so(tmp_path):
    small = {(1, 0): (96, 128), (2, 0): (96, 128), (2, 1): (96, 128)}
    photos = catalogue(tmp_path, photos=range(4), shapes=small)
    found = fingerprints.fingerprints(photos, least=3).set_index("device")
    assert found["reason"].tolist() == ["", "", "2 photos of 240 x 160 pixels, 3 are needed"]
    assert found["photos"].tolist() == [4, 3, 2] and found["others"].tolist() == [0, 1, 2]
    matched = fingerprints.match(photos, found.reset_index())
    assert matched.loc[matched["photo"].str.contains("d1_00|d2_00|d2_01"), "pce"].isna().all()
    assert matched["pce"].isna().sum() == 6


def test_scores_of_a_table_that_is_known():
    energies = {"p1": (90, 1, 2), "p2": (80, 3, 0), "p3": (5, 1, 40), "p4": (30, 35, 1)}
    rows = [(p, "A1", d, e) for p, row in energies.items() for d, e in zip(("A1", "A2", "B1"), row, strict=True)]
    rows += [("p5", "A9", "A1", 7.0)]  # a device without a fingerprint counts among the others alone
    table = pairs(rows)
    found = fingerprints.scores(table, resamples=300).set_index(["question", "metric"])["value"].unstack()
    everyone, model = found.loc[fingerprints.QUESTIONS[0]], found.loc[fingerprints.QUESTIONS[1]]
    assert everyone["accuracy"] == 0.5 and model["accuracy"] == 0.75
    assert everyone["area under the ROC"] == pytest.approx(roc_auc_score(table["same"], table["pce"]))
    assert everyone["true positives at 1% false"] == 0.5  # 90 and 80 lie above all others


def test_intervals_hold_the_value_and_are_the_same_again(table):
    noisy = table.assign(pce=table["pce"] + np.random.default_rng(1).normal(0, 800, len(table)))
    one, two = (fingerprints.scores(noisy.sample(frac=1, random_state=i), seed=4, resamples=200) for i in (1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert (one["low"] <= one["value"]).all() and (one["value"] <= one["high"]).all()
    assert (one["low"] < one["high"]).any()


def test_without_pairs_there_is_no_figure():
    alone = pairs(
        [("p1", "A1", "A1", 50.0), ("p2", "B1", "B1", 60.0), ("p1", "A1", "B1", 1.0), ("p2", "B1", "A1", 2.0)]
    )
    found = fingerprints.scores(alone, resamples=20).set_index("question")
    assert found.loc[fingerprints.QUESTIONS[0], "value"].eq(1).all()
    assert found.loc[fingerprints.QUESTIONS[1], "value"].isna().all()
    assert fingerprints.scores(alone[:0], resamples=20)["value"].isna().all()
    assert fingerprints.as_predictions(alone[:0]).columns.tolist() == ["photo", "true"]


def test_roc_is_over_comparable_pairs():
    table = pairs(
        [("p1", "A1", "A1", 50.0), ("p1", "A1", "A2", 60.0), ("p1", "A1", "B1", np.nan), ("p2", "A2", "A2", 70.0)]
    )
    curve = fingerprints.roc(table)
    assert curve[["false_positive_rate", "true_positive_rate"]].to_numpy().tolist() == [
        [0, 0],
        [0, 0.5],
        [1, 0.5],
        [1, 1],
    ]


def test_as_predictions_names_the_device_of_highest_energy():
    rows = [("p1", "A1", "A1", 50.0), ("p1", "A1", "B1", np.nan), ("p2", "B1", "A1", 9.0), ("p2", "B1", "B1", 4.0)]
    table = pairs([*rows, ("p3", "A9", "A1", 3.0), ("p3", "A9", "B1", 2.0)])
    found = fingerprints.as_predictions(table)
    assert found["photo"].tolist() == ["p1", "p2"] and found["true"].tolist() == ["A1", "B1"]
    np.testing.assert_allclose(np.exp(evaluation.log_probabilities(found)).sum(axis=1), 1)
    assert evaluation.confusion(found).to_numpy().tolist() == [[1, 0], [1, 0]]
    two_seeds = pd.concat([table.assign(seed=0), table.assign(seed=1)])
    assert len(fingerprints.as_predictions(two_seeds)) == 4


def test_a_network_is_asked_the_same_questions():
    names = ["A1", "A2", "B1"]
    votes = pd.DataFrame({"photo": ["p1", "p2", "p3"], "device": names, "camera_model": ["A", "A", "B"]})
    shares = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.5, 0.1, 0.4]])
    votes[[evaluation.LOG_PROB + name for name in names]] = np.log(shares)
    table = fingerprints.as_pairs(votes)
    assert len(table) == 9 and table["same"].sum() == 3 and table["same_model"].sum() == 5
    assert fingerprints.mistakes(table) == {"photos": 3, "wrong": 2, "within the model": 1}
    found = fingerprints.scores(table, resamples=20).set_index(["question", "metric"])["value"]
    assert found[fingerprints.QUESTIONS[0], "accuracy"] == pytest.approx(1 / 3)
    assert found[fingerprints.QUESTIONS[1], "accuracy"] == pytest.approx(1 / 2)
    again = fingerprints.as_predictions(table)
    assert again["true"].tolist() == names and evaluation.confusion(again).to_numpy().diagonal().tolist() == [1, 0, 0]
