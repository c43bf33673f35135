"""Patch stores: planted pixels come back from where they were cut, and nothing else is ever in a store."""

import io
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from camid_utils import degradation, patches


def gradient(height=120, width=200):
    """A photo whose red tells the column and green the row: positions can be read off its pixels."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 128)], axis=2).astype(np.uint8)


def textured(rng, height=120, width=200):
    return rng.integers(90, 170, (height, width, 3), dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=100, subsampling=0, **options)
    return path


def catalogue_of(paths):
    rows = [("made up", "Brand", "Brand_Model", "Brand_Model_0", "1-1", 200, 120)] * len(paths)
    columns = ["dataset", "brand", "camera_model", "device", "scene", "width", "height"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(0, "path", [str(path) for path in paths])
    return table


@pytest.fixture
def photos(tmp_path):
    """Six photos with the gradient, in two folders."""
    return [save(tmp_path / "photos" / f"camera{i % 2}" / f"shot_{i}.jpg", gradient()) for i in range(6)]


def read_off(pixels):
    """Corner (y, x) of each patch of a gradient, from the mean of its values."""
    half = (pixels.shape[1] - 1) / 2
    means = pixels.astype(float).mean(axis=(1, 2))
    return np.round(means[:, [1, 0]] - half).astype(int)


@pytest.mark.parametrize("kind", ["random", "grid", "quality"])
def test_patches_come_from_where_the_table_says(photos, tmp_path, kind):
    store = patches.extract(catalogue_of(photos), tmp_path, kind=kind, size=24, per_photo=5)
    assert store.pixels.shape == (30, 24, 24, 3) and store.pixels.dtype == np.uint8
    assert isinstance(store.pixels, np.memmap)
    np.testing.assert_array_equal(read_off(store.pixels), store.table[["y", "x"]])
    assert list(store.table.columns) == patches.PATCH_COLUMNS
    assert store.table["photo"].unique().tolist() == sorted(f"camera{i % 2}/shot_{i}.jpg" for i in range(6))
    assert store.left_out.empty


def test_random_positions_are_different_and_reach_every_corner():
    positions = patches.random_positions(20, 30, 16, 75, np.random.default_rng(0))
    assert len(np.unique(positions, axis=0)) == 75  # 5 x 15 positions exist: each once
    assert positions.min(axis=0).tolist() == [0, 0] and positions.max(axis=0).tolist() == [4, 14]
    assert len(patches.random_positions(16, 16, 16, 25, np.random.default_rng(0))) == 1
    many = patches.random_positions(2000, 3000, 48, 2000, np.random.default_rng(1))
    assert np.abs(many.mean(axis=0) / [1952 / 2, 2952 / 2] - 1).max() < 0.05  # uniform: 4 standard errors


@pytest.mark.parametrize("count", [None, 1, 2, 7, 25, 39, 40, 1000])
def test_grid_is_inside_and_without_overlap(count):
    corners = patches.grid_positions(130, 210, 26, count)
    assert len(corners) == min(count or 40, 40)
    covered = np.zeros((130, 210), int)
    for y, x in corners:
        covered[y : y + 26, x : x + 26] += 1
    assert covered.max() == 1 and covered.sum() == len(corners) * 26 * 26


def test_grid_covers_a_photo_that_it_fits_and_spreads_over_one_that_it_does_not():
    whole = patches.grid_positions(96, 144, 48)
    assert whole.tolist() == [[0, 0], [0, 48], [0, 96], [48, 0], [48, 48], [48, 96]]
    assert patches.grid_positions(100, 200, 50, 1).tolist() == [[25, 75]]
    four = patches.grid_positions(1000, 1000, 50, 4)
    assert four.tolist() == [[225, 225], [225, 725], [725, 225], [725, 725]]


def test_resize_squashes_the_whole_photo(tmp_path):
    photo = np.zeros((120, 200, 3), np.uint8)
    photo[:60, :100, 0] = photo[60:, 100:, 1] = 255  # red top left, green bottom right
    catalogue = catalogue_of([save(tmp_path / "p.jpg", photo)])
    store = patches.extract(catalogue, tmp_path, kind="resize", size=(30, 40))
    assert store.pixels.shape == (1, 30, 40, 3)
    assert store.table[["y", "x"]].to_numpy().tolist() == [[0, 0]]
    quarters = store.pixels[0].reshape(2, 15, 2, 20, 3).mean(axis=(1, 3))
    expected = [[[255, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 255, 0]]]
    np.testing.assert_allclose(quarters, expected, atol=8)


def test_resize_averages_detail_away_instead_of_aliasing(tmp_path):
    stripes = np.zeros((240, 240, 3), np.uint8)
    stripes[:, ::2] = 255
    catalogue = catalogue_of([save(tmp_path / "p.jpg", stripes)])
    store = patches.extract(catalogue, tmp_path, kind="resize", size=48)
    assert abs(store.pixels[0].astype(int) - 128).max() < 12


def test_neither_order_nor_workers_matter(photos, tmp_path):
    catalogue = catalogue_of(photos)
    one = patches.extract(catalogue, tmp_path / "a", size=16, per_photo=4, workers=1)
    shuffled = catalogue.sample(frac=1, random_state=3)
    two = patches.extract(shuffled, tmp_path / "b", size=16, per_photo=4, workers=3)
    assert one.folder.name == two.folder.name
    for name in ("pixels.npy", "table.parquet"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()


def test_random_positions_depend_on_the_seed_and_differ_between_photos(photos, tmp_path):
    catalogue = catalogue_of(photos)
    tables = [patches.extract(catalogue, tmp_path, size=16, seed=seed).table for seed in (0, 1)]
    assert not tables[0][["y", "x"]].equals(tables[1][["y", "x"]])
    groups = [tuple(map(tuple, rows.to_numpy())) for _, rows in tables[0].groupby("photo")[["y", "x"]]]
    assert len(set(groups)) == 6


def test_a_store_is_reused_until_photos_or_settings_change(photos, tmp_path, monkeypatch):
    catalogue = catalogue_of(photos)
    first = patches.extract(catalogue, tmp_path, size=16)
    with monkeypatch.context() as patch:
        patch.setattr(patches, "read_photo", lambda *_: pytest.fail("a photo was read again"))
        again = patches.extract(catalogue, tmp_path, size=16)
        patches.extract(catalogue, tmp_path, size=16, workers=1)
    assert again.folder == first.folder
    pd.testing.assert_frame_equal(again.table, first.table)
    folders = {first.folder}
    for settings in ({"per_photo": 3}, {"seed": 5}, {"size": 17}, {"kind": "grid"}):
        folders.add(patches.extract(catalogue, tmp_path, **{"size": 16, **settings}).folder)
    os.utime(photos[0], ns=(1, 1))
    folders.add(patches.extract(catalogue, tmp_path, size=16).folder)
    folders.add(patches.extract(catalogue.assign(brand="Other"), tmp_path, size=16).folder)
    assert len(folders) == 7


def test_intact_photos_keep_the_key_they_had_and_each_degradation_has_its_own(photos, tmp_path):
    catalogue = catalogue_of(photos)
    intact = patches.extract(catalogue, tmp_path, size=16)
    settings = {"kind": "random", "per_photo": 25, "seed": 0, "size": [16, 16], "format": patches.FORMAT}
    assert intact.folder.name == f"random-16-{patches._key(catalogue, settings)}"
    names = {
        patches.extract(catalogue, tmp_path, size=16, degrade=how).folder.name for how in ("", "jpeg 70", "jpeg 71")
    }
    assert len(names) == 3 and intact.folder.name in names


@pytest.mark.parametrize("kind", ["random", "grid", "quality"])
def test_degraded_patches_come_from_the_degraded_photo(photos, tmp_path, kind):
    store = patches.extract(catalogue_of(photos), tmp_path, kind=kind, size=24, per_photo=5, degrade="scale 0.5")
    half = (read_off(store.pixels) - 12) / 2  # a pixel further is two levels more, so 24 pixels' mean is 12 more
    np.testing.assert_allclose(half, store.table[["y", "x"]], atol=0.5)
    assert store.table["y"].max() <= 60 - 24 and store.table["x"].max() <= 100 - 24


def test_a_photo_to_squash_is_degraded_at_full_size(tmp_path):
    path = save(tmp_path / "p.jpg", textured(np.random.default_rng(0), 400, 600))
    store = patches.extract(catalogue_of([path]), tmp_path, kind="resize", size=(40, 60), degrade="jpeg 20")
    whole = degradation.degrade(patches.read_photo(path), "jpeg 20")
    np.testing.assert_array_equal(store.pixels[0], degradation.resized(whole, 40, 60))


def test_photos_too_small_once_degraded_are_left_out(photos, tmp_path):
    large = save(tmp_path / "photos" / "large.jpg", textured(np.random.default_rng(0), 400, 600))
    store = patches.extract(catalogue_of([*photos, large]), tmp_path, size=48, degrade="scale 0.3")
    assert store.table["photo"].unique().tolist() == ["large.jpg"]
    assert store.left_out["reason"].unique().tolist() == ["smaller (60 x 36 pixels) than a patch (48 x 48)"]


def test_settings_that_a_kind_ignores_make_no_new_store(photos, tmp_path):
    catalogue = catalogue_of(photos)
    folders = {patches.extract(catalogue, tmp_path, kind="resize", size=8, per_photo=n, seed=n).folder for n in (1, 2)}
    assert len(folders) == 1


def bad_photos(folder):
    """Files that give no patch, and a word of the reason for each."""
    good = io.BytesIO()
    Image.fromarray(gradient()).save(good, "JPEG", quality=95)
    header = bytearray(good.getvalue())
    at = header.index(b"\xff\xc0") + 5
    header[at : at + 4] = b"\xff\xdc\xff\xdc"  # 65,500 x 65,500 pixels
    files = {
        "truncated.jpg": (good.getvalue()[:-400], "truncated"),
        "text.jpg": (b"not a photo at all", "not a JPEG"),
        "empty.jpg": (b"", "not a JPEG"),
        "huge.jpg": (bytes(header), "megapixels"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    save(folder / "tiny.jpg", gradient(10, 10))
    Image.fromarray(gradient()).convert("CMYK").save(folder / "ink.jpg")
    (folder / "folder.jpg").mkdir()
    reasons = {name: word for name, (_, word) in files.items()}
    return reasons | {"tiny.jpg": "smaller (10 x 10", "ink.jpg": "CMYK", "folder.jpg": "cannot be read"}


def test_photos_that_fail_are_named_and_leave_no_hole(photos, tmp_path):
    bad = bad_photos(tmp_path / "photos")
    paths = [*(tmp_path / "photos" / name for name in bad), *photos]
    store = patches.extract(catalogue_of(paths), tmp_path / "stores", size=24, per_photo=5)
    assert store.pixels.shape[0] == len(store.table) == 30
    np.testing.assert_array_equal(read_off(store.pixels), store.table[["y", "x"]])
    reasons = store.left_out.set_index("photo")["reason"].to_dict()
    assert set(reasons) == set(bad)
    assert all(word in reasons[name] for name, word in bad.items()), reasons
    assert not any(str(tmp_path) in reason for reason in reasons.values())


@pytest.mark.parametrize("kind", patches.KINDS)
def test_if_no_photo_gives_a_patch_the_reasons_are_told(tmp_path, kind):
    paths = [tmp_path / name for name in bad_photos(tmp_path)]
    with pytest.raises(ValueError, match=r"(?s)none of the 7 photos.*empty\.jpg: not a JPEG"):
        patches.extract(catalogue_of(paths), tmp_path / "stores", kind=kind)
    assert [path for path in (tmp_path / "stores").iterdir() if path.suffix != ".lock"] == []


def test_an_interrupted_run_leaves_nothing_that_counts_as_a_store(photos, tmp_path, monkeypatch):
    catalogue = catalogue_of(photos)
    read, calls = patches.read_photo, []

    def power_cut(path, *rest):
        calls.append(path)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return read(path, *rest)

    monkeypatch.setattr(patches, "read_photo", power_cut)
    with pytest.raises(KeyboardInterrupt):
        patches.extract(catalogue, tmp_path / "stores", size=16, workers=1)
    assert [path for path in (tmp_path / "stores").iterdir() if path.suffix != ".lock"] == []
    assert len(patches.extract(catalogue, tmp_path / "stores", size=16).pixels) == 150


def test_what_a_killed_run_left_is_not_read(photos, tmp_path):
    catalogue = catalogue_of(photos)
    name = patches.extract(catalogue, tmp_path / "a", size=16).folder.name
    leftover = tmp_path / "b" / f".{name}-abc" / "store"
    leftover.mkdir(parents=True)
    (leftover / "pixels.npy").write_bytes(b"half")
    assert len(patches.extract(catalogue, tmp_path / "b", size=16).pixels) == 150


def test_pixels_are_read_as_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to show"
    path = save(tmp_path / "turned.jpg", gradient(), exif=exif)
    pixels = patches.read_photo(path)
    assert pixels.shape == (120, 200, 3)
    assert abs(pixels.astype(int) - gradient()).max() <= 3


def test_grey_photos_have_three_equal_channels(tmp_path):
    pixels = patches.read_photo(save(tmp_path / "grey.jpg", gradient()[..., 1]))
    assert pixels.shape == (120, 200, 3) and (pixels == pixels[..., :1]).all()
    assert abs(pixels[..., 0].astype(int) - gradient()[..., 1]).max() <= 2


def test_read_photo_names_the_file_and_the_reason(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.jpg: cannot be read \(No such file"):
        patches.read_photo(tmp_path / "gone.jpg")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "best"}, "choose one of random, grid, quality, resize"),
        ({"size": 0}, "size=0"),
        ({"size": (32, 48)}, "only resize"),
        ({"per_photo": None}, "only grid"),
        ({"per_photo": -1, "kind": "grid"}, "per_photo=-1"),
        ({"degrade": "blur 3"}, "degradation 'blur 3': write one of jpeg QUALITY"),
    ],
)
def test_settings_that_make_no_sense_are_refused(photos, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        patches.extract(catalogue_of(photos), tmp_path / "stores", **settings)
    assert not (tmp_path / "stores").exists()


def test_an_empty_catalogue_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no photos"):
        patches.extract(catalogue_of([]), tmp_path)


def test_a_store_opens_again_from_its_folder(photos, tmp_path):
    store = patches.extract(catalogue_of(photos), tmp_path / "deep" / "er", size=16)
    assert patches.open_store(str(store.folder)).pixels.shape == store.pixels.shape
    assert store.folder.name.startswith("random-16-")
