"""Pixels as stored, degradations as named; broken and hostile files are named or left out and exhaust nothing."""

import io
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from functools import cache

import numpy as np
import pytest
import simplejpeg
from helpers import encoded, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from camid_utils import catalogues, datasets
from camid_utils.photos import MAX_PIXELS, degrade, jpeg_header, quantisation_tables, read_noted, read_photo


@cache
def jpeg(mode: str = "RGB", **options) -> bytes:
    """A photo of 160 x 96 pixels as a camera would save it, with a place and a serial number in its EXIF data."""
    exif = Image.Exif()
    exif[0x8825], exif[0xA431] = {1: "N", 2: (7.0, 7.0, 7.0)}, "SERIAL-12345"
    return encoded(Image.fromarray(scene()).convert(mode), quality=90, exif=exif, **options)


def with_frame(position: int, new: bytes) -> bytes:
    """The photo with `new` written at a position of its frame header."""
    start = jpeg().index(b"\xff\xc0") + position
    return jpeg()[:start] + new + jpeg()[start + len(new) :]


def inserted(before: bytes, new: bytes) -> bytes:
    """The photo with `new` before the first place where `before` stands."""
    start = jpeg().index(before)
    return jpeg()[:start] + new + jpeg()[start:]


def with_scan(new: bytes) -> bytes:
    """The photo with other last bytes in its scan header: first and last coefficient, bits."""
    end = jpeg().index(b"\xff\xda") + 14
    return jpeg()[: end - 3] + new + jpeg()[end:]


def three_scans(last: bytes = b"\0\x3f\0", count: int = 3) -> bytes:
    """A baseline JPEG whose layers are scanned one after the other, `count` of them; `last`: as for `with_scan`."""
    grey = [encoded(scene()[..., i], quality=90) for i in range(3)]
    head, scan = grey[0].index(b"\xff\xc0"), grey[0].index(b"\xff\xda")
    frame = b"\xff\xc0\0\x11" + grey[0][head + 4 : head + 9] + b"\3\1\x11\0\2\x11\0\3\x11\0"
    scans = [b"\xff\xda\0\x08\1" + bytes([i + 1, 0]) + last + grey[i][scan + 10 : -2] for i in range(count)]
    return grey[0][:head] + frame + grey[0][head + 13 : scan] + b"".join(scans) + b"\xff\xd9"


def detail(photo):
    """The average difference between neighbouring pixels."""
    return np.abs(np.diff(photo.astype(int), axis=1)).mean()


def test_pixels_are_read_as_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to show"
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(scene(), quality=100, subsampling=0, exif=exif))
    pixels = read_photo(path)
    assert pixels.shape == (96, 160, 3) and abs(pixels.astype(int) - scene()).max() <= 4
    assert read_photo(path, at_least=(20, 20)).shape == (24, 40, 3)
    path.write_bytes(encoded(np.dstack([pixels, pixels[..., 0]]), "PNG"))  # the content decides, not the name
    np.testing.assert_array_equal(read_photo(path), pixels)


def test_a_grey_photo_has_three_equal_channels_and_no_chroma_table(tmp_path):
    (tmp_path / "grey.jpg").write_bytes(encoded(scene()[..., 1], quality=100))
    luma, chroma, subsampling = quantisation_tables(tmp_path / "grey.jpg")
    assert luma.shape == (8, 8) and chroma is None and subsampling == "grey"
    pixels = read_photo(tmp_path / "grey.jpg")
    assert (pixels == pixels[..., :1]).all() and abs(pixels[..., 0].astype(int) - scene()[..., 1]).max() <= 2


def chunks(names: str) -> bytes:
    """A PNG of four pixels with a palette, of these chunks only; iCCP is empty."""
    found = {"IHDR": struct.pack(">IIBBBBB", 2, 2, 8, 3, 0, 0, 0), "PLTE": bytes(3), "tRNS": b"\0", "iCCP": b"",
             "IDAT": zlib.compress(bytes(6)), "IEND": b""}  # fmt: skip
    parts = [(name.encode(), found[name]) for name in names.split()]
    packed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


BAD_FILES = {
    "empty": (b"", "not a JPEG: the file is empty"),
    "html": (b"<!DOCTYPE html>", "not a JPEG: it begins with b'<!DOCTYP'"),
    "cut": (jpeg()[:-400], "truncated JPEG"),
    "cut in its header": (jpeg()[: jpeg().index(b"\xff\xc0") + 20], "its JPEG header is damaged, cut short"),
    "cmyk": (jpeg("CMYK"), "a CMYK JPEG"),
    "huge": (with_frame(5, b"\xff\xdc\xff\xdc"), "65500 x 65500 pixels; the limit is 300 megapixels"),
    "4:4:1": (with_frame(11, b"\x14"), "of a form that the decoder does not know"),
    "4 x 2": (with_frame(11, b"\x42"), "sampling factors, 4 x 2, 1 x 1, 1 x 1, are of a form that the decoder"),
    "12 bits": (with_frame(4, b"\x0c"), "precision 12"),
    "heic": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC photo, whatever its name"),
    "avif": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "an AVIF picture, whatever its name"),
    "tiff": (encoded(scene(), "TIFF"), "a raw photo or a TIFF, whatever its name"),
    "cut, then an end marker": (jpeg()[:-400] + b"\xff\xd9", "truncated JPEG"),
    "cut, then zeros": (jpeg()[:-400] + bytes(400), "truncated JPEG"),
    "cut in its last bytes, then zeros": (jpeg()[:-5] + bytes(9), "truncated JPEG"),
    "scans missing": (jpeg(progressive=True)[: jpeg(progressive=True).rindex(b"\xff\xda")], "truncated JPEG"),
    "last scan cut": (jpeg(progressive=True)[:-20], "truncated JPEG"),
    "layers missing": (three_scans(count=2)[:-2], "truncated JPEG"),
    "wrong sampling": (with_frame(11, b"\x12"), "Corrupt JPEG data"),
    "16 bits": (encoded(scene()[..., 0].astype(np.uint16), "PNG"), "16 bits per sample"),
    "cut png": (encoded(scene(), "PNG")[:100], "image file is truncated"),
    "png without its palette": (chunks("IHDR tRNS IDAT IEND"), "a damaged PNG"),
    "png with an empty profile": (chunks("IHDR PLTE IDAT iCCP IEND"), "a damaged PNG"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path, name):
    path = tmp_path / "bad.jpg"
    path.write_bytes(BAD_FILES[name][0])
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*{re.escape(BAD_FILES[name][1])}"):
        read_photo(path)


ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"  # the colour transform follows
RESTARTED = jpeg(restart_marker_blocks=4)
ODD = {
    "scan header of zeros": (with_scan(bytes(3)), "scan header"),
    "scan header of other values": (with_scan(b"\0\x3f\x11"), "scan header"),
    "no end marker": (jpeg()[:-2], "no end marker"),
    "half an end marker": (jpeg()[:-1], "no end marker"),
    "no end marker, but zeros": (jpeg()[:-2] + bytes(2), "no end marker"),
    "restart markers, no end marker": (RESTARTED[:-2], "no end marker"),
    "progressive, no end marker": (jpeg(progressive=True)[:-2], "no end marker"),
    "bytes before a table": (inserted(b"\xff\xdb", b"\0\1"), "between its segments"),
    "bytes before the scan": (inserted(b"\xff\xda", b"\0\1"), "between its segments"),
    "bytes at the start": (inserted(b"\xff\xe0", b"\0"), "between its segments"),
    "zeros at the end": (jpeg()[:-2] + bytes(100) + jpeg()[-2:], "after its compressed data"),
    "JFIF 2": (jpeg().replace(b"JFIF\0\1", b"JFIF\0\2", 1), "JFIF"),
    "Adobe 5": (jpeg()[:2] + ADOBE + b"\5" + jpeg()[20:], "Adobe"),
    "damaged profile": (inserted(b"\xff\xdb", b"\xff\xe2\0\x12ICC_PROFILE\0\2\3xx"), "metadata"),
    "two at once": (with_scan(bytes(3))[:-2], "scan header of unusual values, no end marker"),
}


def test_every_scan_header_of_a_baseline_photo_is_repaired(tmp_path):
    (tmp_path / "odd.jpg").write_bytes(three_scans(bytes(3)))
    clean = simplejpeg.decode_jpeg(three_scans(), "RGB", strict=True)
    np.testing.assert_array_equal(read_photo(tmp_path / "odd.jpg"), clean)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_gives_the_pixels_and_tables_of_the_clean_one_and_a_note(tmp_path, name):
    path = tmp_path / "odd.jpg"
    for data, note in ((jpeg(), ""), ODD[name]):
        path.write_bytes(data)
        pixels, found = read_noted(path)
        np.testing.assert_array_equal(pixels, simplejpeg.decode_jpeg(jpeg(), "RGB"))
        np.testing.assert_array_equal(read_photo(path, (1, 1)), simplejpeg.decode_jpeg(jpeg(), "RGB", min_height=1))
        assert note in found and bool(found) == bool(note) and jpeg_header(io.BytesIO(data)) == (96, 160)
        assert quantisation_tables(path)[2] == "4:2:0"


SOUND = {name: simplejpeg.encode_jpeg(scene(), 90, colorsubsampling=name) for name in ("411", "440", "422", "444")}
SOUND |= {"RGB by Adobe's marker": encoded(scene(), quality=90, keep_rgb=True), "restart markers": RESTARTED}
SOUND |= {"two photos": encoded(scene(), "MPO", save_all=True, append_images=[Image.new("RGB", (80, 48))])}
SOUND |= {"a video behind it": jpeg() + b"\0\0\0\x18ftypmp42" + jpeg()[::-1], "progressive": jpeg(progressive=True)}


@pytest.mark.parametrize("name", SOUND)
def test_what_needs_no_repair_is_read_as_another_decoder_reads_it_without_a_note(tmp_path, name):
    (tmp_path / "sound.jpg").write_bytes(SOUND[name])
    pixels, note = read_noted(tmp_path / "sound.jpg")
    with Image.open(io.BytesIO(SOUND[name])) as image:
        np.testing.assert_array_equal(pixels, image.convert("RGB"))
    assert note == ""


def test_a_photo_of_200_megapixels_is_within_the_only_limit(tmp_path):
    data = with_frame(5, (12240).to_bytes(2) + (16320).to_bytes(2))
    (tmp_path / "large.jpg").write_bytes(data)
    assert jpeg_header(io.BytesIO(data)) == (12240, 16320)
    assert quantisation_tables(tmp_path / "large.jpg")[2] == "4:2:0"
    with Image.open(tmp_path / "large.jpg") as image:
        assert image.size == (16320, 12240)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_quantisation_tables_written_are_tables_read_without_the_zigzag_order_of_the_file(tmp_path, subsampling):
    written = np.arange(2, 130).reshape(2, 8, 8)  # luma and chroma, which Pillow takes in natural order
    data = encoded(scene(), qtables=written.reshape(2, 64).tolist(), quality=-1, subsampling=subsampling)
    (tmp_path / "p.jpg").write_bytes(data)
    *read, found = quantisation_tables(tmp_path / "p.jpg")
    assert np.array_equal(read, written) and found == subsampling
    start = data.index(b"\xff\xdb") + 5  # marker, length, table number
    zigzag = [(0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2)]
    assert list(data[start : start + 6]) == [read[0][at] for at in zigzag]


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff"])
def test_tables_of_what_is_no_jpeg_are_refused_by_name(tmp_path, content):
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.jpg: its JPEG tables cannot be read"):
        quantisation_tables(tmp_path / "bad.jpg")


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


@pytest.mark.parametrize(
    "how",
    ["blur 3", "jpeg", "jpeg 70 2", "jpeg 0", "jpeg 101", "jpeg 7.5", "jpeg high", "scale 0", "scale 5", "scale nan",
     "traces 0.5", "messenger 1600", "messenger 0 75"],
)  # fmt: skip
def test_an_unknown_degradation_is_refused_with_those_there_are(how):
    known = "write one of jpeg QUALITY, scale FACTOR, traces FACTOR QUALITY"
    with pytest.raises(ValueError, match=rf"degradation '{how}': {known}.*QUALITY 1 to 100"):
        degrade(scene(), how)


READ = [jpeg(), jpeg(progressive=True), jpeg("L")]
LEFT_OUT = [data for data, _ in BAD_FILES.values()] + [jpeg()[: len(jpeg()) * i // 16] for i in range(16)]
LEFT_OUT += [bytes(5000), b"\xff\xd8" + b"\xff\xe1\xff\xff" * 2000]  # the header of the last has no end
LEFT_OUT += [with_frame(1, b"\xc3"), with_frame(1, b"\xc9")]  # lossless; arithmetic coding
LEFT_OUT += [with_frame(5, bytes(4))]  # no pixels
ENTRY = """
import json, resource, sys
import pandas as pd
from camid_utils import catalogues, datasets, patches
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
catalogue = datasets.load_dresden(sys.argv[1])
store = patches.extract(catalogue, sys.argv[2], size=48, per_photo=4)
left = pd.concat([catalogues.left_out(catalogue), catalogues.left_out(store.table)])
shown = catalogue.to_csv() + store.table.to_csv() + json.dumps(catalogue.attrs, default=str)
print(json.dumps({
    "left": dict(left.to_numpy().tolist()),
    "read": sorted(store.table["photo"].unique()),
    "grown": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024**2,
    "private": [word for word in ("SERIAL", "GPS", "7.0") if word in shown],
}))
"""


def test_a_folder_of_hostile_files_is_read_or_left_out_with_reasons(tmp_path):
    root = tmp_path / "Dresden"
    root.mkdir()
    for device, kind in enumerate((READ, LEFT_OUT)):
        for i, data in enumerate(kind):
            (root / f"Nikon_D70_{device}_{i}.JPG").write_bytes(data)
    Image.new("RGB", (1, 1)).save(root / "Nikon_D200_1_1.JPG")
    (root / "Nikon_D200_1_2.JPG").symlink_to(root / "Nikon_D200_1_2.JPG")
    (root / "odd\nname_with space_é.JPG").write_bytes(jpeg())
    (root / "loop").symlink_to(root, target_is_directory=True)
    os.mkfifo(root / "Nikon_D200_1_3.JPG")
    (root / ".hidden.JPG").write_bytes(jpeg())
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "Nikon_D70_0_9.JPG").write_bytes(jpeg())
    (root / "linked").symlink_to(tmp_path / "else")
    command = [sys.executable, "-c", ENTRY, str(root), str(tmp_path / "stores")]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert [name.rsplit("/", 1)[-1] for name in found["read"]] == [f"Nikon_D70_0_{i}.JPG" for i in (0, 1, 2, 9)]
    bad = {f"Nikon_D70_1_{i}.JPG" for i in range(len(LEFT_OUT))} | {f"Nikon_D200_1_{i}.JPG" for i in (1, 2, 3)}
    assert set(found["left"]) == bad | {"odd\nname_with space_é.JPG"}
    assert all(reason and str(root) not in reason for reason in found["left"].values())
    assert found["private"] == []  # neither places nor serial numbers reach the results
    assert found["grown"] < 2  # GiB


@pytest.mark.parametrize("examples", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_flipped_bits_give_a_photo_or_an_error_that_names_the_file(tmp_path, examples):
    path = tmp_path / "flipped.JPG"

    @settings(max_examples=examples, deadline=None)
    @given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=20))
    def check(flips):
        data = bytearray(jpeg())
        for place, bit in flips:
            data[int(place * len(data))] ^= 1 << bit
        path.write_bytes(data)
        try:
            photo = read_photo(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3
            assert photo.shape[0] * photo.shape[1] <= MAX_PIXELS

    check()


@pytest.mark.parametrize("examples", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_any_bytes_are_left_out_by_the_catalogue(tmp_path, examples):
    (tmp_path / "Nikon_D70_0_2.JPG").write_bytes(jpeg())

    @settings(max_examples=examples, deadline=None)
    @given(st.binary(max_size=400), st.booleans())
    def check(data, start):
        (tmp_path / "Nikon_D70_0_1.JPG").write_bytes((b"\xff\xd8\xff" if start else b"") + data)
        catalogue = datasets.load_dresden(tmp_path)
        assert [os.path.basename(path) for path in catalogue["path"]] == ["Nikon_D70_0_2.JPG"]
        assert len(catalogues.left_out(catalogue)) == 1

    check()
