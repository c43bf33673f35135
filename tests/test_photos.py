"""Pixels as stored, errors that say what is wrong with a file, and degradations that do what their names say."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from camid_utils.photos import degrade, read_image, read_photo


def scene(height=96, width=160):
    """Smooth blobs with pixel noise on top: content and traces."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(60, 200, (height // 16, width // 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + rng.integers(-12, 13, (height, width, 3))).clip(0, 255).astype(np.uint8)


def encoded(pixels, form="JPEG", mode=None, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def with_frame(position: int, new: bytes) -> bytes:
    """A JPEG with `new` written at a position of its frame header."""
    data = bytearray(encoded(scene()))
    start = data.index(b"\xff\xc0") + position
    data[start : start + len(new)] = new
    return bytes(data)


def detail(photo):
    """The average difference between neighbouring pixels."""
    return np.abs(np.diff(photo.astype(int), axis=1)).mean()


# reading


def test_pixels_are_read_as_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to show"
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(scene(), quality=100, subsampling=0, exif=exif))
    pixels = read_photo(path)
    assert pixels.shape == (96, 160, 3) and abs(pixels.astype(int) - scene()).max() <= 4
    np.testing.assert_array_equal(read_image(path), pixels)
    assert read_photo(path, at_least=(20, 20)).shape == (24, 40, 3)
    path.write_bytes(encoded(np.dstack([pixels, pixels[..., 0]]), "PNG"))  # the content decides, not the name
    np.testing.assert_array_equal(read_image(path), pixels)


def test_grey_photos_have_three_equal_channels(tmp_path):
    (tmp_path / "grey.jpg").write_bytes(encoded(scene()[..., 1], quality=100))
    pixels = read_photo(tmp_path / "grey.jpg")
    assert (pixels == pixels[..., :1]).all() and abs(pixels[..., 0].astype(int) - scene()[..., 1]).max() <= 2


BAD_FILES = {
    "empty": (b"", "not a JPEG: the file is empty"),
    "html": (b"<!DOCTYPE html>", "not a JPEG: it begins with b'<!DOCTYP'"),
    "cut": (encoded(scene())[:-400], "truncated JPEG"),
    "cut in its header": (encoded(scene())[:200], "its JPEG header is damaged, cut short"),
    "cmyk": (encoded(scene(), mode="CMYK"), "a CMYK JPEG"),
    "huge": (with_frame(5, b"\xff\xdc\xff\xdc"), "65500 x 65500 pixels; the limit is 300 megapixels"),
    "4:4:1": (with_frame(11, b"\x14"), "of a form that the decoder does not know"),
    "16 bits": (encoded(scene()[..., 0].astype(np.uint16), "PNG"), "16 bits per sample"),
    "cut png": (encoded(scene(), "PNG")[:100], ""),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path, name):
    path = tmp_path / "bad.jpg"
    path.write_bytes(BAD_FILES[name][0])
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*{re.escape(BAD_FILES[name][1])}"):
        read_image(path)


@pytest.mark.parametrize("read", [read_photo, read_image])
def test_a_missing_file_is_named_with_the_reason(tmp_path, read):
    with pytest.raises(ValueError, match=r"gone\.jpg: cannot be read \(No such file"):
        read(tmp_path / "gone.jpg")


# degradations


def test_jpeg_is_that_of_pillow_with_halved_chroma():
    with Image.open(io.BytesIO(encoded(scene(), quality=70, subsampling=2))) as image:
        np.testing.assert_array_equal(degrade(scene(), "jpeg 70"), image)


def test_scale_changes_both_sides_and_averages_detail_away():
    stripes = np.zeros((100, 201, 3), np.uint8)
    stripes[:, ::2] = 255
    half = degrade(stripes, "scale 0.5")
    assert half.shape == (50, 100, 3) and abs(half[:, 2:-2].astype(int) - 128).max() < 12
    assert degrade(scene(), "scale 0.01").shape == (1, 2, 3)


def test_traces_go_and_content_stays():
    photo = scene()
    gone = degrade(photo, "traces 0.5 90")
    assert gone.shape == photo.shape and detail(gone) < 0.4 * detail(photo)
    small = [np.asarray(Image.fromarray(p).resize((20, 12), Image.Resampling.BOX)).astype(int) for p in (photo, gone)]
    assert abs(small[0] - small[1]).mean() < 2


def test_messenger_makes_the_longer_side_fit_and_never_enlarges():
    photo = scene(96, 160)
    np.testing.assert_array_equal(degrade(photo, "messenger 1600 75"), degrade(degrade(photo, ""), "jpeg 75"))
    fitted = degrade(photo, "messenger 80 75")
    np.testing.assert_array_equal(fitted, degrade(degrade(photo, "scale 0.5"), "jpeg 75"))
    assert degrade(photo.transpose(1, 0, 2).copy(), "messenger 80 75").shape == (80, 48, 3)


def test_noise_has_its_deviation_and_differs_between_photos_but_not_between_calls():
    photos = [np.full((200, 200, 3), value, np.uint8) for value in (100, 101)]
    first, other = (degrade(photo, "noise 3").astype(int) - photo for photo in photos)
    assert abs(first.std() / (9 + 1 / 12) ** 0.5 - 1) < 0.02 and abs(first.mean()) < 0.05  # rounding adds 1/12
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(degrade(photos[0], "noise 3"), first + photos[0])
    assert degrade(np.full((50, 50, 3), 254, np.uint8), "noise 3").min() > 230  # clipped, no overflow


@pytest.mark.parametrize(
    "how",
    ["blur 3", "jpeg", "jpeg 70 2", "jpeg 0", "jpeg 101", "jpeg 7.5", "jpeg high", "scale 0", "scale 5", "scale nan",
     "traces 0.5", "messenger 1600", "messenger 0 75", "noise -1"],
)  # fmt: skip
def test_an_unknown_degradation_is_refused_with_those_there_are(how):
    known = "write one of jpeg QUALITY, scale FACTOR, traces FACTOR QUALITY"
    with pytest.raises(ValueError, match=rf"degradation '{how}': {known}.*QUALITY 1 to 100"):
        degrade(scene(), how)
