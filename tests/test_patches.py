"""Patch stores: planted pixels come back from where they were cut, and nothing else is ever in a store."""

import os
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
from helpers import save

from camid_utils import catalogues, patches
from camid_utils.photos import degrade, read_photo, resize


def gradient(height=120, width=200):
    """A photo whose red is the column and green the row: positions can be read off its pixels."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 128)], axis=2).astype(np.uint8)


def textured(height, width, seed=0):
    return np.random.default_rng(seed).integers(90, 170, (height, width, 3), dtype=np.uint8)


def catalogue_of(paths):
    labels = dict(dataset="made up", brand="Brand", camera_model="Brand_Model", device="Brand_Model_0", scene="1-1",
                  collection="made up")  # fmt: skip
    names = {"path": [str(path) for path in paths], "photo": [Path(path).name for path in paths]}
    return pd.DataFrame(names).assign(**labels, width=200, height=120)


def read_off(pixels):
    """Corner (y, x) of each patch of a gradient, from the mean of its values."""
    half = (pixels.shape[1] - 1) / 2
    return np.round(pixels.astype(float).mean(axis=(1, 2))[:, [1, 0]] - half).astype(int)


def left_behind(folder):
    """What is in a folder of stores, except locks."""
    return [path for path in folder.iterdir() if path.suffix != ".lock"]


@pytest.fixture
def catalogue(tmp_path):
    """Six photos with the gradient, in two folders."""
    paths = [save(tmp_path / "photos" / f"camera{i % 2}" / f"shot_{i}.jpg", gradient()) for i in range(6)]
    return catalogue_of(paths).assign(photo=[path.relative_to(tmp_path / "photos").as_posix() for path in paths])


@pytest.mark.parametrize("kind", ["random", "grid"])
def test_patches_come_from_where_the_table_says_also_in_a_degraded_photo(catalogue, tmp_path, kind):
    store = patches.extract(catalogue, tmp_path, kind=kind, size=24, per_photo=5)
    assert store.pixels.shape == (30, 24, 24, 3) and store.pixels.dtype == np.uint8
    assert isinstance(store.pixels, np.memmap) and catalogues.left_out(store.table).empty and store.kind == kind
    np.testing.assert_array_equal(read_off(store.pixels), store.table[["y", "x"]])
    assert list(store.table.columns) == patches.PATCH_COLUMNS
    assert store.table["photo"].unique().tolist() == sorted(f"camera{i % 2}/shot_{i}.jpg" for i in range(6))
    again = patches.open_store(str(store.folder))
    assert again.kind == kind and again.pixels.shape == store.pixels.shape
    store = patches.extract(catalogue, tmp_path, kind=kind, size=24, per_photo=5, degrade="scale 0.5")
    half = (read_off(store.pixels) - 12) / 2  # the next pixel is two levels more, so the mean of 24 is 12 more
    np.testing.assert_allclose(half, store.table[["y", "x"]], atol=0.5)
    assert store.table["y"].max() <= 60 - 24 and store.table["x"].max() <= 100 - 24


def test_resize_keeps_the_whole_photo_degraded_at_full_size_and_averages_detail_away(tmp_path):
    photo = np.zeros((240, 400, 3), np.uint8)
    photo[:120, :200, 0] = photo[120:, 200:, 1] = photo[:, ::2, 2] = 255  # red top left, green bottom right
    store = patches.extract(catalogue_of([save(tmp_path / "p.jpg", photo)]), tmp_path, kind="resize", size=40)
    assert store.pixels.shape == (1, 40, 40, 3) and store.table[["y", "x"]].to_numpy().tolist() == [[0, 0]]
    quarters = store.pixels[0].reshape(2, 20, 2, 20, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(quarters[..., :2], [[[255, 0], [0, 0]], [[0, 0], [0, 255]]], atol=8)
    assert abs(store.pixels[0, ..., 2].astype(int) - 128).max() < 12
    path = save(tmp_path / "q.jpg", textured(400, 600))
    store = patches.extract(catalogue_of([path]), tmp_path, kind="resize", size=40, degrade="jpeg 20")
    np.testing.assert_array_equal(store.pixels[0], resize(degrade(read_photo(path), "jpeg 20"), 40, 40))


def test_patches_depend_on_the_seed_and_the_photo_but_not_on_order_or_workers(catalogue, tmp_path):
    one = patches.extract(catalogue, tmp_path / "a", size=16, per_photo=4, workers=1)
    two = patches.extract(catalogue.sample(frac=1, random_state=3), tmp_path / "b", size=16, per_photo=4, workers=3)
    assert one.folder.name == two.folder.name
    for name in ("pixels.bin", "table.parquet"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    one, two = (patches.extract(catalogue, tmp_path, size=16, seed=seed).table for seed in (0, 1))
    assert not one[["y", "x"]].equals(two[["y", "x"]]) and len({tuple(xs) for _, xs in one.groupby("photo")["x"]}) == 6


def test_a_store_is_reused_until_photos_or_settings_change(catalogue, tmp_path, monkeypatch):
    first = patches.extract(catalogue, tmp_path, size=16)
    with monkeypatch.context() as patch:
        patch.setattr(patches, "read_photo", lambda *_: pytest.fail("a photo was read again"))
        again = patches.extract(catalogue, tmp_path, size=16, workers=1)
    assert again.folder == first.folder and again.table.equals(first.table)
    changes = [{"per_photo": 3}, {"seed": 5}, {"size": 17}, {"kind": "grid"}, {"degrade": "jpeg 70"}]
    folders = {patches.extract(catalogue, tmp_path, **{"size": 16, **change}).folder for change in changes}
    os.utime(catalogue["path"][0], ns=(1, 1))
    folders.add(patches.extract(catalogue, tmp_path, size=16).folder)
    folders.add(patches.extract(catalogue.assign(brand="Other"), tmp_path, size=16).folder)
    assert len(folders | {first.folder}) == 8
    ignored = {patches.extract(catalogue, tmp_path, kind="resize", size=8, per_photo=n, seed=n).folder for n in (1, 2)}
    assert len(ignored) == 1


@pytest.mark.parametrize("kind", patches.KINDS)
def test_photos_that_fail_are_named_and_leave_no_hole(catalogue, tmp_path, kind):
    folder, paths = tmp_path / "photos", catalogue["path"]
    (folder / "cut.jpg").write_bytes(Path(paths[0]).read_bytes()[:-400])
    (folder / "text.jpg").write_bytes(b"not a photo at all")
    (folder / "folder.jpg").mkdir()
    save(folder / "tiny.jpg", gradient(10, 30))
    bad = {"cut.jpg": "truncated", "text.jpg": "not a JPEG", "folder.jpg": "cannot be read", "tiny.jpg": "(30 x 10"}
    bad["vanished.jpg"] = "cannot be read"
    bad_paths = [folder / name for name in bad]
    store = patches.extract(catalogue_of([*bad_paths, *paths]), tmp_path / "stores", size=24, per_photo=5, kind=kind)
    assert len(store.pixels) == len(store.table) == (6 if kind == "resize" else 30)
    if kind != "resize":
        np.testing.assert_array_equal(read_off(store.pixels), store.table[["y", "x"]])
    reasons = dict(catalogues.left_out(store.table).to_numpy())
    assert set(reasons) == set(bad) and all(word in reasons[name] for name, word in bad.items()), reasons
    assert str(tmp_path) not in " ".join(reasons.values())
    with pytest.raises(ValueError, match=r"(?s)none of the 5 photos.*text\.jpg: not a JPEG"):
        patches.extract(catalogue_of(bad_paths), tmp_path / "none", kind=kind)
    assert left_behind(tmp_path / "none") == []


def test_what_a_store_leaves_out_goes_where_its_table_goes_and_is_said(catalogue, tmp_path):
    lost = catalogue_of([tmp_path / "photos" / f"{i}.jpg" for i in range(2)]).assign(camera_model="Lost_Model")
    for path in lost["path"]:
        Path(path).write_bytes(b"")
    table = patches.extract(pd.concat([catalogue, lost], ignore_index=True), tmp_path, size=16).table
    left = [dict(photo=f"{i}.jpg", camera_model="Lost_Model", reason="not a JPEG: the file is empty") for i in range(2)]
    table[table["y"] > 50].assign(true="x").reset_index(drop=True).to_parquet(tmp_path / "some.parquet")
    for one in (table, pd.read_parquet(tmp_path / "some.parquet"), pd.concat([table, table])):
        assert one.attrs["left_out"] == left
    words = "made up, 6 photos, 1 camera model, 1 device, 1 scene"
    assert catalogues.describe(table) == f"{words}, 2 photos left out (none is left of Lost_Model)"
    assert catalogues.describe(patches.extract(catalogue, tmp_path, size=16).table) == words


def test_photos_too_small_once_degraded_are_left_out(catalogue, tmp_path):
    large = save(tmp_path / "photos" / "large.jpg", textured(400, 600))
    store = patches.extract(catalogue_of([*catalogue["path"], large]), tmp_path, size=48, degrade="scale 0.3")
    assert store.table["photo"].unique().tolist() == ["large.jpg"]
    assert set(catalogues.left_out(store.table)["reason"]) == {"smaller (60 x 36 pixels) than a patch (48 x 48)"}


def test_an_interrupted_run_leaves_no_store_and_the_next_makes_it(catalogue, tmp_path, monkeypatch):
    power_cut = MagicMock(side_effect=[gradient()] * 3 + [KeyboardInterrupt] * 3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(patches, "read_photo", power_cut)
        patches.extract(catalogue, tmp_path / "stores", size=16, workers=1)
    assert left_behind(tmp_path / "stores") == []
    assert len(patches.extract(catalogue, tmp_path / "stores", size=16).pixels) == 150


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"kind": "best"}, "kind='best'.* one of random, grid, resize"), ({"size": 0}, "size=0"),
     ({"per_photo": None}, "per_photo=None"), ({"per_photo": -1, "kind": "grid"}, "per_photo=-1"),
     ({"degrade": "blur 3"}, "degradation 'blur 3': write one of jpeg QUALITY")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(catalogue, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        patches.extract(catalogue, tmp_path / "stores", **settings)
    assert not (tmp_path / "stores").exists()


def test_random_positions_are_different_and_reach_every_corner():
    positions = patches.random_positions(20, 30, 16, 75, np.random.default_rng(0))
    assert len(np.unique(positions, axis=0)) == 75  # 5 x 15 positions exist: each once
    assert positions.min(axis=0).tolist() == [0, 0] and positions.max(axis=0).tolist() == [4, 14]
    assert len(patches.random_positions(16, 16, 16, 25, np.random.default_rng(0))) == 1
    many = patches.random_positions(2000, 3000, 48, 2000, np.random.default_rng(1))
    assert np.abs(many.mean(axis=0) / [1952 / 2, 2952 / 2] - 1).max() < 0.05  # uniform: 4 standard errors


@pytest.mark.parametrize("count", [None, 1, 2, 7, 25, 39, 40, 1000])
def test_a_grid_is_inside_the_photo_and_without_overlap(count):
    corners = patches.grid_positions(130, 210, 26, count)
    assert len(corners) == min(count or 40, 40)
    covered = np.zeros((130, 210), int)
    for y, x in corners:
        covered[y : y + 26, x : x + 26] += 1
    assert covered.max() == 1 and covered.sum() == len(corners) * 26 * 26
    four = patches.grid_positions(1000, 1000, 50, 4)  # spread over the photo
    assert four.tolist() == [[225, 225], [225, 725], [725, 225], [725, 725]]


def test_best_positions_find_the_planted_texture_in_a_clipped_photo():
    photo = np.full((480, 720, 3), 255, np.uint8)
    planted = [(48, 96), (240, 480), (432, 0)]
    for y, x in planted:
        photo[y : y + 48, x : x + 48] = textured(48, 48, seed=y)
    assert {tuple(map(int, corner)) for corner in patches.best_positions(photo, 48, 3)} == set(planted)
    photo = np.random.default_rng(0).normal(128, np.linspace(1, 9, 480)[:, None, None], (480, 720, 3)).astype(np.uint8)
    every = patches.patch_quality(patches.cut_patches(photo, patches.grid_positions(480, 720, 16), 16))
    best = patches.patch_quality(patches.cut_patches(photo, patches.best_positions(photo, 16, 3), 16))
    np.testing.assert_array_equal(best, np.sort(every)[:-4:-1])  # of all patches, not only of likely ones


def test_quality_is_the_published_formula_and_ranks_texture_above_flat_above_clipped():
    batch = textured(64, 32).reshape(2, 32, 32, 3)
    mean, deviation = (batch / 255).mean(axis=(1, 2)), (batch / 255).std(axis=(1, 2))
    expected = 0.7 * 4 * (mean - mean**2) + 0.3 * (1 - 0.01**deviation)
    np.testing.assert_allclose(patches.patch_quality(batch), expected.mean(axis=1), rtol=1e-6)
    flat = np.stack([np.full((48, 48, 3), value, np.uint8) for value in (255, 0, 128)])
    white, black, grey, rich = patches.patch_quality(np.concatenate([flat, textured(48, 48)[None]]))
    assert white == black == 0 and abs(grey - 0.7) < 1e-4 and rich > grey + 0.1


def test_entropy_counts_the_bits_of_planted_histograms():
    levels = [np.arange(1024).reshape(32, 32) % count * (256 // count) for count in (1, 2, 16, 256)]
    quarter = np.zeros((32, 32))
    quarter[:8] = 200
    planted = np.repeat(np.stack([*levels, quarter]).astype(np.uint8)[..., None], 3, axis=3)
    expected = [0, 1, 4, 8, 0.25 * 2 + 0.75 * np.log2(4 / 3)]
    np.testing.assert_allclose(patches.patch_entropy(planted), expected, atol=1e-12)
    assert patches.patch_entropy(planted[:0]).shape == (0,)
    colours = np.array([[(38, 0, 0)], [(0, 19, 2)]], np.uint8)  # of one grey: 0.299 x 38, 0.587 x 19 + 0.114 x 2
    assert patches.patch_entropy(colours[None])[0] == 0
