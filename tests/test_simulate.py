"""Simulated cameras: layouts, what devices and models leave in their photos, whole-or-nothing writing."""

import io
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from camid_utils import cameras, simulate
from camid_utils.simulate import SIMULATED, simulate_dresden, simulate_floreview

TINY = dict(models=2, devices=2, scenes=3, size=(192, 128), workers=1)


def contents(root) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def cameras_of(kind: str, models: int, devices: int, size=(192, 128)) -> list:
    return list(simulate.make_devices(kind, models, devices, size, seed=0).itertuples(index=False))


@pytest.fixture(scope="module")
def dresden(tmp_path_factory):
    return simulate_dresden(tmp_path_factory.mktemp("data") / "dresden", **TINY)


@pytest.fixture(scope="module")
def floreview(tmp_path_factory):
    return simulate_floreview(tmp_path_factory.mktemp("data") / "floreview", **TINY)


def test_dresden_layout_and_listing(dresden):
    photos = {name for name in contents(dresden) if name.endswith(".JPG")}
    assert len(photos) == 2 * 2 * 3
    assert "Zembrel_C10_0/Zembrel_C10_0_1.JPG" in photos
    assert "Quillor_P300_1/Quillor_P300_1_12.JPG" in photos
    assert set(contents(dresden)) - photos == {"dresden.csv", SIMULATED}
    table = pd.read_csv(dresden / "dresden.csv", keep_default_na=False)
    assert list(table) == (
        "filename brand model instance shot position_num position_name motive_num motive_name url".split()
    )
    assert set(table["filename"]) == {name.split("/")[1] for name in photos}
    names = [f"{r.brand}_{r.model}_{r.instance}_{r.shot}.JPG" for r in table.itertuples()]
    assert names == list(table["filename"])
    scenes = table.groupby(["brand", "model", "instance"])[["position_num", "motive_num"]].apply(
        lambda part: sorted(map(tuple, part.to_numpy().tolist()))
    )
    assert all(seen == [(1, 1), (1, 2), (1, 3)] for seen in scenes)


def test_floreview_layout(floreview):
    devices = ["D01_Pelquon_A4", "D02_Pelquon_A4", "D03_Drumsel_X1", "D04_Drumsel_X1"]
    expected = {f"{d}/Nat/jpeg-h264/L1/S{s}/{d[:3]}_L1S{s}C1.jpg" for d in devices for s in (1, 2, 3)}
    assert set(contents(floreview)) == expected | {SIMULATED}


def test_marker_says_what_it_is_and_with_which_settings(dresden):
    what, settings = (dresden / SIMULATED).read_text().splitlines()
    assert "Simulated" in what and "fictional" in what
    assert "version=" in settings and "seed=0" in settings and "size=192x128" in settings


def test_same_bytes_for_any_number_of_workers_and_other_bytes_for_another_seed(dresden, tmp_path):
    parallel = simulate_dresden(tmp_path / "parallel", **TINY | {"workers": 2})
    assert contents(parallel) == contents(dresden)
    other = contents(simulate_dresden(tmp_path / "other", **TINY | {"seed": 1, "scenes": 1}))
    same_name = "Zembrel_C10_0/Zembrel_C10_0_1.JPG"
    assert other[same_name] != contents(dresden)[same_name]


def test_shots_of_a_scene_are_numbered_and_framed_apart(tmp_path):
    settings = TINY | {"models": 1, "devices": 1, "scenes": 1, "shots": 2}
    folder = simulate_floreview(tmp_path / "two", **settings) / "D01_Pelquon_A4/Nat/jpeg-h264/L1/S1"
    first, second = (np.asarray(Image.open(folder / f"D01_L1S1C{c}.jpg").convert("L"), float) for c in (1, 2))
    assert np.abs(first - second).mean() > 5


def test_exif_names_camera_and_only_phones_have_an_orientation(dresden, floreview):
    photo = Image.open(dresden / "Quillor_P300_0" / "Quillor_P300_0_7.JPG")
    exif = photo.getexif()
    assert (exif[0x010F], exif[0x0110]) == ("Quillor", "P300")
    assert exif[0x0132].startswith("2009:04:") and exif.get_ifd(0x8769)[0x8827] in (100, 200, 400, 800)
    assert 0x0112 not in exif
    phones = [Image.open(path) for path in sorted(floreview.rglob("*.jpg"))]
    assert {phone.getexif()[0x0112] for phone in phones} == {1, 6}
    assert all(phone.width > phone.height for phone in phones)


@pytest.mark.parametrize("kind", ["Dresden", "FloreView"])
def test_jpeg_carries_the_models_tables_and_subsampling(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    factors = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}
    for camera in cameras_of(kind, 8, 1):
        image = Image.open(io.BytesIO(cameras.encode(pixels, camera, Image.Exif())))
        luma, chroma = cameras.JPEG_TABLES[camera.tables]
        assert np.array_equal(image.quantization[0], luma.ravel())
        assert np.array_equal(image.quantization[1], chroma.ravel())
        assert image.layer[0][1:3] == factors[camera.subsampling]


def test_scaled_tables_are_those_of_the_ijg_library():
    for quality in (75, 90, 95):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=quality)
        stored = Image.open(buffer).quantization
        for number, table in enumerate(cameras.scaled_tables(quality)):
            assert np.array_equal(stored[number], table.ravel())


def test_devices_of_a_model_share_its_pipeline_and_models_do_not():
    fleet = simulate.make_devices("Dresden", 8, 2, (640, 480), seed=0)
    own = ["device", "blur", "vignette", "wb_red", "wb_blue", "off_x", "off_y"]
    pipelines = fleet.drop(columns=own)
    assert pipelines.drop_duplicates().shape[0] == 8
    assert (fleet.groupby("model")[own].nunique() == 2).all(axis=None)
    assert pipelines.drop(columns=["brand", "model", "width", "height"]).drop_duplicates().shape[0] == 8


def test_photos_point_to_the_device_that_took_them():
    """Planted sensor patterns are found: even shots correlate with their own device's, not its twin's."""
    twins = cameras_of("Dresden", 1, 2)
    scene, light = np.full((3, 200, 300), 0.5, np.float32), np.ones(3, np.float32)
    patterns = [cameras.sensor_pattern(camera).ravel() for camera in twins]
    for own, camera in enumerate(twins):
        shots = [
            cameras.take_photo(scene, light, 100, camera, (20, 30, 1.2), np.random.default_rng([9, own, shot]))
            for shot in range(12)
        ]
        green = np.mean(shots, axis=0)[..., 1]
        residual = (green - ndimage.gaussian_filter(green, 3)).ravel()
        found = [np.corrcoef(residual, pattern)[0, 1] for pattern in patterns]
        assert found[own] > 0.2
        assert abs(found[1 - own]) < 0.05


@pytest.mark.parametrize("method", ["bilinear", "malvar", "menon", "menon1"])
@pytest.mark.parametrize("cfa", ["RGGB", "GRBG", "GBRG", "BGGR"])
def test_demosaicing_keeps_sampled_pixels_and_smooths_the_others(method, cfa):
    """The filters' period stays in the photo: interpolated green varies less than measured green."""
    noise = np.random.default_rng(0).normal(0.5, 0.05, (3, 192, 256)).astype(np.float32)
    raw = cameras.mosaic(noise, cfa)
    green = cameras.demosaic(raw, cfa, method)[1]
    measured = np.tile(np.array([c == "G" for c in cfa]).reshape(2, 2), (96, 128))
    np.testing.assert_allclose(green[measured], raw[measured], atol=1e-6)
    assert green[measured].std() > 1.03 * green[~measured].std()


def test_demosaicing_leaves_no_coloured_frame():
    grey = np.full((3, 32, 48), 0.4, np.float32)
    for method in ("bilinear", "malvar", "menon", "menon1"):
        np.testing.assert_allclose(cameras.demosaic(cameras.mosaic(grey, "GRBG"), "GRBG", method), 0.4, atol=1e-5)


def test_period_of_the_filters_is_found_in_a_whole_photo():
    """A residual varies in a lattice: a peak at the highest frequency both ways (Gallagher and Chen 2008)."""
    camera = cameras_of("Dresden", 2, 1, (384, 256))[1]
    scene = np.full((3, 300, 480), 0.5, np.float32)
    photo = cameras.take_photo(scene, np.ones(3), 400, camera, (5, 5, 1.0), np.random.default_rng(0))
    green = photo[..., 1].astype(float)
    variance = (green - ndimage.uniform_filter(green, 3))[8:-8, 8:-8] ** 2
    spectrum = np.abs(np.fft.fft2(variance - variance.mean()))
    assert spectrum[spectrum.shape[0] // 2, spectrum.shape[1] // 2] > 5 * np.median(spectrum)


def test_lens_keeps_even_light_and_magnifies_red_away_from_the_axis():
    camera = cameras_of("Dresden", 1, 1)[0]._replace(ca_red=20.0, off_x=0.0, off_y=0.0)
    scene = np.full((3, 160, 240), 0.3, np.float32)
    np.testing.assert_allclose(cameras.lens_image(scene, camera, (10, 10, 1.1)), 0.3, rtol=1e-5)
    scene[:, :, 200:] = 0
    edge = [np.flatnonzero(plane[60] > 0.15)[-1] for plane in cameras.lens_image(scene, camera, (10, 20, 1.0))]
    assert edge[0] == edge[1] - 2  # at 84 pixels from the axis, 2 % is 1.7 pixels: red samples farther out


def test_noise_has_the_variance_of_its_model():
    camera = cameras_of("Dresden", 1, 1)[0]._replace(prnu=0.0, linear=0.0)
    raw = np.full((camera.height, camera.width), 0.4, np.float32)
    noisy = cameras.expose(raw, camera, 400, np.random.default_rng(0))
    electrons = camera.full_well / 4
    assert noisy.var() == pytest.approx(0.4 / electrons + (camera.read / electrons) ** 2, rel=0.05)


def test_white_balance_takes_an_illuminants_tint_away():
    camera = cameras_of("FloreView", 1, 1)[0]._replace(wb=1.0, wb_red=0.0, wb_blue=0.0)
    light = np.array([1.6, 1.0, 0.5])
    raw = cameras.mosaic(np.ones((3, 8, 8), np.float32) * (0.2 * light[:, None, None]).astype(np.float32), "BGGR")
    balanced = cameras.balance(raw, cameras.white_balance(light, camera), "BGGR")
    np.testing.assert_allclose(balanced, balanced[0, 0], rtol=1e-6)


def test_photos_are_well_exposed_and_neutral_on_the_whole(dresden, floreview):
    paths = [*dresden.rglob("*.JPG"), *floreview.rglob("*.jpg")]
    means = np.array([np.asarray(Image.open(path)).mean(axis=(0, 1)) for path in paths])
    assert ((means.mean(axis=1) > 50) & (means.mean(axis=1) < 200)).all()
    assert np.ptp(means.mean(axis=0)) < 40


def test_scenes_differ_between_data_sets_and_are_shared_by_cameras(dresden):
    seeds = [[0, *kind.encode(), 2, scene] for kind in ("Dresden", "FloreView") for scene in (0, 1)]
    lights = [simulate.make_scene(seed, (96, 64))[0] for seed in seeds]
    rows = [np.corrcoef(lights[0].ravel(), light.ravel())[0, 1] for light in lights]
    assert rows[0] > 0.999 and max(rows[1:]) < 0.8

    def small(name):
        return np.asarray(Image.open(dresden / name).convert("L").resize((12, 8)), float).ravel()

    a, b = small("Zembrel_C10_0/Zembrel_C10_0_1.JPG"), small("Quillor_P300_1/Quillor_P300_1_10.JPG")
    assert np.corrcoef(a, b)[0, 1] > 0.6


def test_a_whole_root_is_left_as_it_is(dresden, monkeypatch):
    monkeypatch.setattr(simulate, "make_scene", None)  # any new photo would fail
    before = {path: path.stat().st_mtime_ns for path in dresden.rglob("*")}
    assert simulate_dresden(dresden, **TINY) == dresden
    assert {path: path.stat().st_mtime_ns for path in dresden.rglob("*")} == before


def test_a_run_cut_short_leaves_nothing_and_is_done_again(tmp_path, monkeypatch):
    settings = TINY | {"models": 1, "devices": 1, "scenes": 2}
    root = tmp_path / "data" / "dresden"
    real, taken = cameras.encode, []

    def encode_once(*args):
        if taken:
            raise KeyboardInterrupt
        taken.append(1)
        return real(*args)

    monkeypatch.setattr(cameras, "encode", encode_once)
    with pytest.raises(KeyboardInterrupt):
        simulate_dresden(root, **settings)
    assert taken and os.listdir(root.parent) == [".dresden.lock"]
    monkeypatch.setattr(cameras, "encode", real)
    assert len(list(simulate_dresden(root, **settings).rglob("*.JPG"))) == 2


def test_photos_of_other_settings_are_replaced_whole(tmp_path):
    root = simulate_dresden(tmp_path / "root", **TINY | {"scenes": 1})
    assert len(list(root.rglob("*.JPG"))) == 4
    simulate_dresden(root, **TINY | {"models": 1, "devices": 1, "scenes": 2})
    assert len(list(root.rglob("*.JPG"))) == 2
    assert sorted(os.listdir(tmp_path)) == [".root.lock", "root"]


def test_an_unfinished_or_foreign_root_is_never_taken_for_whole_nor_deleted(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "Nikon_D70_0_1.JPG").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=SIMULATED):
        simulate_dresden(tmp_path / "own", **TINY)
    assert (tmp_path / "own" / "Nikon_D70_0_1.JPG").read_bytes() == b"precious"
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file"):
        simulate_dresden(tmp_path / "file", **TINY)
    (tmp_path / "empty").mkdir()
    root = simulate_dresden(tmp_path / "empty", **TINY | {"models": 1, "devices": 1, "scenes": 1})
    assert (root / SIMULATED).is_file()


@pytest.mark.parametrize(
    "wrong", [{"models": 9}, {"models": 0}, {"devices": 0}, {"scenes": 0}, {"shots": 0}, {"size": (32, 32)}]
)
def test_impossible_settings_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="give"):
        simulate_floreview(tmp_path / "root", **TINY | wrong)
    assert os.listdir(tmp_path) == []
