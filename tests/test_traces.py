"""Planted traces are found where they were planted."""

import numpy as np
import pandas as pd
import pytest
from helpers import save

from camid_utils.analyses import traces
from camid_utils.analyses.fingerprints import noise_residual as wavelet_residual
from camid_utils.photos import quantisation_tables


def noisy(rng, height=300, width=420, deviation=2.0, wave=(0, 0), size=128):
    """A mid-grey photo with white noise and a wave of so many periods (down, across) in `size` pixels."""
    y, x = np.indices((height, width))
    periodic = 1.5 * np.cos(2 * np.pi * (wave[0] * y + wave[1] * x) / size)
    values = 128 + deviation * rng.standard_normal((height, width, 3)) + periodic[..., None]
    return np.clip(values.round(), 0, 255).astype(np.uint8)


def catalogue_of(models):
    return pd.DataFrame([(str(p), m) for m, paths in models.items() for p in paths], columns=["path", "camera_model"])


def peak(spectrum):
    """The strongest frequency, as (down, across) with across (or else down) not negative."""
    down, across = (int(i) - len(spectrum) // 2 for i in np.unravel_index(spectrum.argmax(), spectrum.shape))
    return (down, across) if (across, down) >= (0, 0) else (-down, -across)


@pytest.mark.parametrize("residual, share, ringing", [(traces.noise_residual, 0.95, 1), (wavelet_residual, 0.9, 5)])
def test_the_residual_keeps_noise_and_removes_the_scene(residual, share, ringing):
    scene = np.broadcast_to(np.linspace(40, 200, 300)[:, None], (300, 301))
    noise = 2 * np.random.default_rng(0).standard_normal(scene.shape)
    found = residual(np.round(scene + noise).astype(np.uint8)[..., None].repeat(3, axis=2))
    assert found.shape == (300, 301) and found.dtype == np.float32 and abs(found.mean()) < 0.02
    assert np.corrcoef(found.ravel(), noise.ravel())[0, 1] > share
    assert abs(np.corrcoef(found.ravel(), scene.ravel())[0, 1]) < 0.02
    edge = np.repeat([0, 200], 32).astype(np.uint8)[None, :, None] + np.zeros((64, 1, 3), np.uint8)
    assert np.abs(residual(edge)).max() < ringing


def test_the_spectrum_of_each_model_peaks_exactly_at_its_planted_frequency(tmp_path):
    rng = np.random.default_rng(1)
    waves = {"A": (0, 32), "B": (24, 0), "C": (20, 40), "D": (-12, 30), "E": (64, 64)}
    paths = {m: [save(tmp_path / f"{m}{i}.jpg", noisy(rng, wave=w)) for i in range(4)] for m, w in waves.items()}
    catalogue = catalogue_of(paths).sample(frac=1, random_state=0)
    found = traces.spectra(catalogue, photos=3)
    assert {model: peak(spectrum) for model, spectrum in found.items()} == waves
    assert all(abs(spectrum.mean()) < 1e-9 for spectrum in found.values())


def test_white_noise_has_no_peak_whatever_its_strength(tmp_path):
    rng, paths = np.random.default_rng(2), {}
    for model, strength in {"A": 1.5, "B": 3.0}.items():
        paths[model] = [save(tmp_path / f"{model}{i}.jpg", noisy(rng, 512, 512, strength)) for i in range(6)]
    one, two = traces.spectra(catalogue_of(paths), size=64, per_photo=64).values()
    high = np.hypot(*np.indices((64, 64)) - 32) > 16  # the denoiser removes the low frequencies
    assert one[high].std() < 1.5 and abs(one[high] - two[high]).mean() < 1  # dB


def test_unusable_photos_are_skipped_and_small_ones_have_a_small_spectrum(tmp_path):
    rng = np.random.default_rng(3)
    good = save(tmp_path / "good.jpg", noisy(rng))
    white = save(tmp_path / "white.jpg", np.full((300, 300, 3), 255, np.uint8))
    small = save(tmp_path / "small.jpg", noisy(rng, 40, 90))
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    bad = [white, small, str(tmp_path / "broken.jpg"), str(tmp_path / "gone.jpg")]
    found = traces.spectra(catalogue_of({"B_good": [good], "A_bad": bad, "C_mixed": [good, *bad]}), size=64)
    assert list(found) == ["B_good", "C_mixed"]
    np.testing.assert_array_equal(*found.values())
    assert traces.spectra(catalogue_of({"A_small": [small]}))["A_small"].shape == (32, 32)
    assert traces.spectra(catalogue_of({"A_tiny": [save(tmp_path / "tiny.jpg", np.zeros((9, 9, 3), np.uint8))]})) == {}


def test_the_summary_of_jpeg_tables_counts_each_model(tmp_path):
    luma, chroma = np.arange(1, 65), np.arange(101, 165)

    def photo(name, scale, subsampling):
        tables = {"qtables": [(scale * luma).tolist(), chroma.tolist()], "quality": -1}
        return save(tmp_path / name, np.full((64, 80, 3), 99, np.uint8), subsampling=subsampling, **tables)

    one = [photo(f"one{i}.jpg", 1 + i % 2, kind) for i, kind in enumerate(["4:2:0", "4:2:2", "4:2:0"])]
    grey = save(tmp_path / "grey.jpg", np.full((64, 80), 99, np.uint8))
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    broken = [str(tmp_path / "broken.jpg"), str(tmp_path / "gone.jpg")]
    models = {"Two": [photo("two.jpg", 2, "4:4:4"), grey, *broken], "One": one, "None": broken}
    summary = traces.jpeg_table_summary(catalogue_of(models)).set_index("camera_model")
    assert summary["photos"].to_dict() == {"One": 3, "Two": 2} and summary["distinct_tables"].tolist() == [2, 2]
    np.testing.assert_allclose(summary["mean_luma"], [32.5 * 4 / 3, (65 + quantisation_tables(grey)[0].mean()) / 2])
    np.testing.assert_allclose(summary["mean_chroma"], [132.5, 132.5])
    assert summary["subsampling"].tolist() == ["4:2:0, 4:2:2", "4:4:4, grey"]
