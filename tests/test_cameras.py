"""Simulated cameras and scenes: each step does what its model says, and photos carry their camera's traces."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from camid_utils.simulate import build, cameras, scenes


def devices(table, models: int, per_model: int, size=(192, 128)) -> list:
    return list(build.make_devices(table[:models], per_model, size, seed=0).itertuples(index=False))


def even(height: int, width: int, light: float = 0.5, iso: int = 100) -> scenes.Scene:
    return scenes.Scene(np.full((3, height, width), light, np.float32), np.ones(3, np.float32), iso)


@pytest.mark.parametrize("table", [cameras.COMPACTS, cameras.PHONES], ids=["compacts", "phones"])
def test_a_jpeg_has_its_models_tables_subsampling_and_exif(table):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    factors = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}
    first = {"k90": 3, "k93": 2, "k95": 2, "even": 2, "steep": 1}  # 16 scaled as the IJG's library does; makers' own
    for camera in devices(table, 8, 1):
        image = Image.open(io.BytesIO(cameras.encode(pixels, camera, "2020:01:02 03:04:05", 200, None)))
        assert image.layer[0][1:3] == factors[camera.subsampling]
        assert image.quantization[0][0] == first[camera.tables] and len(image.quantization) == 2
        exif = image.getexif()
        assert (exif[0x010F], exif[0x0110], exif.get_ifd(0x8769)[0x8827]) == (camera.brand, camera.model, 200)


def test_devices_of_a_model_share_its_pipeline_and_models_do_not():
    fleet = build.make_devices(cameras.COMPACTS, 2, (640, 480), seed=0)
    own = ["device", "blur", "vignette", "wb_red", "wb_blue", "off_x", "off_y"]
    assert (fleet.groupby("model")[own].nunique() == 2).all(axis=None)
    for same_size in ([], ["brand", "model", "width", "height"]):
        assert len(fleet.drop(columns=own + same_size).drop_duplicates()) == 8


def test_photos_carry_the_sensor_pattern_of_the_device_that_took_them():
    twins = devices(cameras.COMPACTS, 1, 2)
    patterns = [cameras.sensor_pattern(camera).ravel() for camera in twins]
    for own, camera in enumerate(twins):
        draws = [np.random.default_rng([9, own, shot]) for shot in range(12)]
        shots = [cameras.take_photo(even(200, 300), camera, (20, 30, 1.2), rng) for rng in draws]
        green = np.mean(shots, axis=0)[..., 1]
        residual = (green - ndimage.gaussian_filter(green, 3)).ravel()
        found = [np.corrcoef(residual, pattern)[0, 1] for pattern in patterns]
        assert found[own] > 0.2 and abs(found[1 - own]) < 0.05


@pytest.mark.parametrize("method", ["bilinear", "malvar", "menon", "menon1"])
@pytest.mark.parametrize("cfa", ["RGGB", "GRBG", "GBRG", "BGGR"])
def test_demosaicing_keeps_measured_pixels_smooths_the_others_and_leaves_no_coloured_frame(method, cfa):
    noise = np.random.default_rng(0).normal(0.5, 0.05, (3, 192, 256)).astype(np.float32)
    raw = cameras.mosaic(noise, cfa)
    green = cameras.demosaic(raw, cfa, method)[1]
    measured = np.tile(np.array([c == "G" for c in cfa]).reshape(2, 2), (96, 128))
    np.testing.assert_allclose(green[measured], raw[measured], atol=1e-6)
    assert green[measured].std() > 1.03 * green[~measured].std()
    grey = np.full((32, 48), 0.4, np.float32)
    np.testing.assert_allclose(cameras.demosaic(grey, cfa, method), 0.4, atol=1e-5)


def test_a_photo_shows_the_period_of_the_colour_filters():
    """A residual varies in a lattice: a peak at the highest frequency both ways (Gallagher and Chen 2008)."""
    camera = devices(cameras.COMPACTS, 2, 1, (384, 256))[1]
    photo = cameras.take_photo(even(300, 480, iso=400), camera, (5, 5, 1.0), np.random.default_rng(0))
    green = photo[..., 1].astype(float)
    variance = (green - ndimage.uniform_filter(green, 3))[8:-8, 8:-8] ** 2
    spectrum = np.abs(np.fft.fft2(variance - variance.mean()))
    assert spectrum[spectrum.shape[0] // 2, spectrum.shape[1] // 2] > 5 * np.median(spectrum)


def test_the_lens_keeps_even_light_and_magnifies_red_away_from_the_axis():
    camera = devices(cameras.COMPACTS, 1, 1)[0]._replace(ca_red=20.0, off_x=0.0, off_y=0.0)
    light = np.full((3, 160, 240), 0.3, np.float32)
    np.testing.assert_allclose(cameras.lens_image(light, camera, (10, 10, 1.1)), 0.3, rtol=1e-5)
    light[:, :, 200:] = 0
    edge = [np.flatnonzero(plane[60] > 0.15)[-1] for plane in cameras.lens_image(light, camera, (10, 20, 1.0))]
    assert edge[0] == edge[1] - 2  # at 84 pixels from the axis, 2 % is 1.7 pixels: red samples farther out


def test_noise_has_the_variance_of_its_model():
    camera = devices(cameras.COMPACTS, 1, 1)[0]._replace(prnu=0.0, linear=0.0)
    raw = np.full((camera.height, camera.width), 0.4, np.float32)
    noisy = cameras.expose(raw, camera, 400, np.random.default_rng(0))
    electrons = camera.full_well / 4
    assert noisy.var() == pytest.approx(0.4 / electrons + (camera.read / electrons) ** 2, rel=0.05)


def test_every_data_set_has_scenes_of_its_own():
    seeds = [[0, *layout.dataset.encode(), 2, scene] for layout in build.LAYOUTS.values() for scene in (0, 1)]
    alike = np.corrcoef([scenes.make_scene(seed, (96, 64)).light.ravel() for seed in seeds])
    assert alike[np.triu_indices(8, 1)].max() < 0.8
