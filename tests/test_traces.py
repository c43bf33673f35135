"""Traces that were planted are found where they were planted."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from camid_utils import traces


def noisy(rng, height=300, width=420, deviation=2.0):
    """A mid-grey photo with white noise."""
    values = 128 + deviation * rng.standard_normal((height, width, 3))
    return np.clip(values.round(), 0, 255).astype(np.uint8)


def with_wave(photo, down, across, size, strength=1.5):
    """The photo plus a wave of `down` and `across` periods in `size` pixels."""
    y, x = np.indices(photo.shape[:2])
    wave = strength * np.cos(2 * np.pi * (down * y + across * x) / size)
    return np.clip(np.round(photo + wave[..., None]), 0, 255).astype(np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **({"quality": 100, "subsampling": 0} | options))
    return str(path)


def catalogue_of(models):
    rows = [{"path": path, "camera_model": model} for model, paths in models.items() for path in paths]
    return pd.DataFrame(rows)


def peak(spectrum):
    """The strongest frequency, as (down, across) with across (or else down) not negative."""
    size = len(spectrum)
    down, across = (int(i) - size // 2 for i in np.unravel_index(spectrum.argmax(), spectrum.shape))
    return (down, across) if (across, down) >= (0, 0) else (-down, -across)


def test_residual_keeps_noise_and_drops_the_scene():
    rng = np.random.default_rng(0)
    smooth = np.broadcast_to(np.linspace(40, 200, 300)[:, None, None], (300, 300, 3))
    noise = 2 * rng.standard_normal((300, 300))
    residual = traces.noise_residual(np.round(smooth + noise[..., None]).astype(np.uint8))
    assert residual.shape == (300, 300) and residual.dtype == np.float32
    assert abs(residual.mean()) < 0.02
    assert np.corrcoef(residual.ravel(), noise.ravel())[0, 1] > 0.95
    assert np.corrcoef(residual.ravel(), smooth[..., 1].ravel())[0, 1] < 0.05


def test_residual_holds_back_at_strong_edges():
    photo = np.zeros((64, 64, 3), np.uint8)
    photo[:, 32:] = 255
    assert np.abs(traces.noise_residual(photo)).max() < 1  # of 255


@pytest.mark.parametrize(("down", "across"), [(0, 32), (24, 0), (20, 40), (-12, 30), (64, 64)])
def test_the_spectrum_peaks_exactly_at_the_planted_frequency(tmp_path, down, across):
    rng = np.random.default_rng(1)
    paths = [save(tmp_path / f"{i}.jpg", with_wave(noisy(rng), down, across, 128)) for i in range(3)]
    spectrum = traces.mean_spectrum(paths, size=128)
    expected = (-64, -64) if down == 64 else (down, across)  # half a cycle is both signs at once
    found = peak(spectrum)
    assert found in (expected, (-expected[0], -expected[1]))
    assert abs(spectrum.mean()) < 1e-9


def test_white_noise_has_no_peak_and_its_strength_does_not_show(tmp_path):
    found = []
    for deviation in (1.5, 3.0):
        rng = np.random.default_rng(2)
        paths = [save(tmp_path / f"{deviation}{i}.jpg", noisy(rng, 512, 512, deviation)) for i in range(6)]
        found.append(traces.mean_spectrum(paths, size=64, per_photo=64))
    high = np.hypot(*np.indices((64, 64)) - 32) > 16  # the denoiser takes the low frequencies
    assert found[0][high].std() < 1.5  # dB
    assert abs(found[0][high] - found[1][high]).mean() < 1


def test_photos_that_cannot_be_used_are_skipped(tmp_path):
    rng = np.random.default_rng(3)
    good = save(tmp_path / "good.jpg", noisy(rng))
    white = save(tmp_path / "white.jpg", np.full((300, 300, 3), 255, np.uint8))
    small = save(tmp_path / "small.jpg", noisy(rng, 60, 60))
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    bad = [white, small, str(tmp_path / "broken.jpg"), str(tmp_path / "gone.jpg")]
    np.testing.assert_array_equal(traces.mean_spectrum([good, *bad], 64), traces.mean_spectrum([good], 64))
    with pytest.raises(ValueError, match="none of 4 photos"):
        traces.mean_spectrum(bad, 64)
    found = traces.spectra(catalogue_of({"B_good": [good], "A_bad": bad}), size=64)
    assert list(found) == ["B_good"]


def test_each_model_shows_its_own_frequency(tmp_path):
    rng = np.random.default_rng(4)
    models = {
        model: [save(tmp_path / f"{model}{i}.jpg", with_wave(noisy(rng), 0, wave, 64)) for i in range(4)]
        for model, wave in {"B_two": 20, "A_one": 10}.items()
    }
    catalogue = catalogue_of(models)
    found = traces.spectra(catalogue, photos=2, size=64)
    assert list(found) == ["A_one", "B_two"]
    assert {model: peak(spectrum) for model, spectrum in found.items()} == {
        "A_one": (0, 10),
        "B_two": (0, 20),
    }
    again = traces.spectra(catalogue.sample(frac=1, random_state=0), photos=2, size=64)
    np.testing.assert_array_equal(found["A_one"], again["A_one"])


def test_of_small_photos_the_spectrum_is_small(tmp_path):
    small = save(tmp_path / "small.jpg", noisy(np.random.default_rng(4))[:40, :90])
    found = traces.spectra(catalogue_of({"A_small": [small]}))
    np.testing.assert_array_equal(found["A_small"], traces.mean_spectrum([small], 32))
    assert traces.spectra(catalogue_of({"A_tiny": [save(tmp_path / "tiny.jpg", np.zeros((9, 9, 3), np.uint8))]})) == {}


LUMA = np.arange(1, 65).reshape(8, 8)  # not symmetric: a wrong order or a transposition shows
CHROMA = np.arange(101, 165).reshape(8, 8)


def save_with_tables(path, luma, chroma, subsampling="4:2:0", shape=(64, 80, 3)):
    """Quantisation tables are handed to Pillow as they are read back: in natural order."""
    tables = [luma.ravel().tolist(), chroma.ravel().tolist()]
    return save(path, np.full(shape, 99, np.uint8), qtables=tables, quality=-1, subsampling=subsampling)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_tables_written_are_tables_read(tmp_path, subsampling):
    path = save_with_tables(tmp_path / "p.jpg", LUMA, CHROMA, subsampling)
    luma, chroma, found = traces.jpeg_tables(path)
    np.testing.assert_array_equal(luma, LUMA)
    np.testing.assert_array_equal(chroma, CHROMA)
    assert found == subsampling


def test_table_order_is_that_of_the_file_without_its_zigzag(tmp_path):
    path = save_with_tables(tmp_path / "p.jpg", LUMA, CHROMA)
    data = open(path, "rb").read()
    start = data.index(b"\xff\xdb") + 5  # marker, length, table number
    first = list(data[start : start + 6])
    zigzag = [(0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2)]
    luma, _, _ = traces.jpeg_tables(path)
    assert first == [luma[at] for at in zigzag]


def test_a_grey_photo_has_no_chroma_table(tmp_path):
    luma, chroma, subsampling = traces.jpeg_tables(save(tmp_path / "g.jpg", np.full((64, 80), 99, np.uint8)))
    assert luma.shape == (8, 8) and chroma is None and subsampling == "grey"


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff"])
def test_tables_of_what_is_no_jpeg_are_refused_by_name(tmp_path, content):
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.jpg: its JPEG tables cannot be read"):
        traces.jpeg_tables(tmp_path / "bad.jpg")


def test_table_summary(tmp_path):
    one = [
        save_with_tables(tmp_path / f"one{i}.jpg", LUMA + i % 2, CHROMA, s)
        for i, s in enumerate(["4:2:0", "4:2:2", "4:2:0"])
    ]
    grey = save(tmp_path / "g.jpg", np.full((64, 80), 99, np.uint8))
    two = [save_with_tables(tmp_path / "two.jpg", LUMA * 2, CHROMA, "4:4:4"), grey]
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    broken = [str(tmp_path / "broken.jpg"), str(tmp_path / "gone.jpg")]
    summary = traces.jpeg_table_summary(catalogue_of({"Two": [*two, *broken], "One": one, "None": broken}))
    assert summary["camera_model"].tolist() == ["One", "Two"]
    assert summary["photos"].tolist() == [3, 2]
    assert summary["distinct_tables"].tolist() == [2, 2]
    grey_luma = traces.jpeg_tables(grey)[0].mean()
    np.testing.assert_allclose(summary["mean_luma"], [32.5 + 1 / 3, (65 + grey_luma) / 2])
    np.testing.assert_allclose(summary["mean_chroma"], [132.5, 132.5])
    assert summary["subsampling"].tolist() == ["4:2:0, 4:2:2", "4:4:4, grey"]
