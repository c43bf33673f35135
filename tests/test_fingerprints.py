"""A planted sensor pattern is found in the photos that carry it, and in no others."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from camid_utils import catalogues, datasets
from camid_utils.analyses import fingerprints
from camid_utils.analyses.fingerprints import ALARMS, DETECTED, METRICS, QUESTIONS, THRESHOLD, decisions, pce
from camid_utils.photos import read_photo
from camid_utils.simulate import build, cameras

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
        rows.append([str(path), path.name, f"M{device // 2}", f"D{device}", f"S{number}", *shape])
    return pd.DataFrame(rows, columns=["path", "photo", "camera_model", "device", "scene", "height", "width"])


def pairs(rows):
    """A table of `match` from (photo, own device, fingerprint's device, energy); a device begins with its model."""
    table = pd.DataFrame(rows, columns=["photo", "own", "device", "pce"]).assign(scene=None)
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
    assert 0.7 < np.abs(unrelated).mean() < 1.4 and max(unrelated) < THRESHOLD / 2  # chi-square, 1 degree of freedom


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
    found = decisions({"photos": table})
    assert found["metric"].tolist() == [*METRICS] * 2 and found["value"].tolist() == [1, 0, 1, 1] * 2
    assert found["n"].eq(12).all() and found["others"].tolist() == [36] * 4 + [12] * 4 and found["devices"].eq(4).all()
    ends = found.set_index(["question", "metric"])[["low", "high"]].xs(ALARMS, level=1).to_numpy()
    np.testing.assert_allclose(ends, [[0, 0.4899], [0, 0.4899]], atol=1e-4)  # Wilson's of 0 in 4 devices
    noisy = table.assign(pce=table["pce"] + np.random.default_rng(1).normal(0, 800, len(table)))
    one, two = (decisions({"": noisy.sample(frac=1, random_state=i)}, 4) for i in (1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert one["value"].between(one["low"], one["high"]).all() and (one["low"] < one["high"]).all()


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
        assert left_out["photo"].str[-9:].tolist() == ["d0_02.jpg", "d1_01.jpg"]
        assert left_out["reason"].str.contains("truncated").all()


def test_decisions_about_a_known_table():
    energies = {"p1": (90, 1, 2), "p2": (80, 3, 0), "p3": (5, 1, 70), "p4": (61, 65, 1)}
    rows = [(p, "A1", d, e) for p, row in energies.items() for d, e in zip(("A1", "A2", "B1"), row, strict=True)]
    table = pairs([*rows, ("p5", "A9", "A1", 7.0), ("p5", "A9", "B1", np.nan)])  # A9 has no fingerprint
    found = decisions({"": table}).set_index(["question", "metric"])["value"].unstack()
    everyone, model = (found.loc[question] for question in QUESTIONS)
    assert everyone["accuracy"] == 0.5 and model["accuracy"] == 0.75
    assert everyone[DETECTED] == model[DETECTED] == 0.75
    assert everyone[ALARMS] == pytest.approx(2 / 9) and model[ALARMS] == pytest.approx(1 / 5)
    comparable = table.dropna(subset="pce")
    area = roc_auc_score(comparable["same"], comparable["pce"])
    assert everyone["area under the ROC"] == pytest.approx(area)
    curve, ends = fingerprints.roc(comparable)
    assert ends[0] == pytest.approx(area) and curve["true_positive_rate"].iloc[[0, -1]].tolist() == [0.5, 1]
    assert (curve["low"] <= curve["high"]).all() and np.ptp(curve["low"]) > 0
    assert decisions({"": table[:0]})["value"].isna().all()


def test_intervals_are_wider_where_devices_differ_than_where_photos_do():
    rng, rows = np.random.default_rng(0), []
    for device, number in np.ndindex(10, 12):
        rows.append((f"{device}-{number}", f"A{device}", f"A{device}", 100 * (device % 2)))
    devices = pairs(rows)
    photos = devices.assign(pce=rng.permutation(devices["pce"]))
    (value, low, high), (other, *ends) = (fingerprints.rate(t, t["pce"] > THRESHOLD) for t in (devices, photos))
    assert value == other == 0.5 and high - low > 1.5 * (ends[1] - ends[0]) > 0.2
    others = pd.concat([photos.assign(device=f"B{i}", same=False, pce=100 * (i < 3)) for i in range(10)])
    low, high = fingerprints.rate(others, others["pce"] > THRESHOLD)[1:]
    assert low < 0.1 and high > 0.5  # three of ten fingerprints match all photos: ten were drawn
    found = fingerprints.detection({"flat": devices}, "own")
    assert found["value"].tolist() == [0, 1] * 5 and found["n"].eq(12).all() and found["energy"].max() == 100


def test_smaller_and_compressed_photos_match_less(tmp_path):
    photos = catalogue(tmp_path, devices=2, photos=8)
    train = photos["path"].str.contains("_0[0-4]")
    found = fingerprints.harder(photos[~train], fingerprints.fingerprints(photos[train]), [1, 0.25], [50])
    assert found["what"].unique().tolist() == ["100 % of the area", "25 % of the area", "JPEG quality 50"]
    energy = found[found["same"]].groupby("what", sort=False)["pce"].median()
    assert found.loc[~found["same"], "pce"].isna().all() and found.loc[found["same"], "pce"].notna().all()
    assert 2.5 < energy.iloc[0] / energy.iloc[1] < 6 and energy.iloc[0] > 2 * energy.iloc[2]  # 4: in proportion


def test_simulated_flat_field_frames_show_the_sensor_of_the_phones_that_took_the_photos(tmp_path):
    settings = dict(models=1, devices=2, scenes=4, size=(256, 192), workers=1)
    frames = datasets.load_floreview(build.simulate("flat", tmp_path / "flat", **settings), flat=True)
    photos = datasets.load_floreview(build.simulate("floreview", tmp_path / "photos", **settings))
    assert frames.groupby("device").size().tolist() == [4, 4] and set(frames["device"]) == set(photos["device"])
    assert frames["scene"].isna().all() and frames["dataset"].eq("simulated FloreView").all()
    found = fingerprints.fingerprints(frames)
    fleet = build.make_devices(cameras.PHONES[:1], 2, (256, 192), 0).itertuples()
    planted = [cameras.sensor_pattern(camera).ravel() for camera in fleet]
    alike = np.corrcoef([*planted, *(one.ravel() for one in found["fingerprint"])])[:2, 2:]
    assert np.diag(alike).min() > 0.3 and abs(alike[[0, 1], [1, 0]]).max() < 0.05
    greys = [read_photo(path).mean(axis=2) for path in frames["path"]]
    assert all(120 < grey.mean() < 220 and grey.std() < 20 and grey.max() < fingerprints.SATURATED for grey in greys)


def test_noise_reduction_leaves_no_fingerprint_in_flat_field_frames():
    camera = next(build.make_devices(cameras.PHONES[:1], 1, (256, 192), 0).itertuples())
    wall, alike = cameras.make_wall([1], (256, 192)), []
    for own in (camera, camera._replace(denoise=0.0)):
        rngs = map(np.random.default_rng, range(6))
        frames = [cameras.take_photo(wall, own, (0, 0, 1.3), rng, cameras.BRIGHT) for rng in rngs]
        planted = cameras.sensor_pattern(camera)
        alike.append(np.corrcoef(fingerprints.fingerprint(frames).ravel(), planted.ravel())[0, 1])
    assert alike[0] < 0.1 and alike[1] > 0.4
