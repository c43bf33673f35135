"""Broken and hostile photos: each is read rightly or left out with its reason; none stops a run or eats the machine."""

import io
import json
import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from camid_utils import datasets, patches


@cache
def jpeg(mode: str = "RGB", progressive: bool = False) -> bytes:
    """A photo of 96 x 80 pixels as a camera would save it, EXIF included."""
    pixels = np.random.default_rng(0).integers(60, 200, (80, 96, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0110] = "Model"
    data = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(data, "JPEG", quality=90, exif=exif, progressive=progressive)
    return data.getvalue()


def frame(data: bytes) -> int:
    """Where the frame header of a JPEG starts (SOF0 or SOF2)."""
    return next(data.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in data)


def patched(at: int, new: bytes) -> bytes:
    """The photo with `new` written `at` bytes behind the start of its frame header."""
    data = bytearray(jpeg())
    start = frame(jpeg()) + at
    data[start : start + len(new)] = new
    return bytes(data)


def png() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (96, 80), "red").save(data, "PNG")
    return data.getvalue()


READ = [jpeg(), jpeg(progressive=True), jpeg("L")]
LEFT_OUT = {  # and a word of the reason
    "empty": (b"", ""),
    "png": (png(), ""),
    "html": (b"<!DOCTYPE html><html>not found</html>", ""),
    "text": (b"404", ""),
    "cmyk": (jpeg("CMYK"), "CMYK"),
    "twelve-bit": (patched(4, b"\x0c"), ""),
    "arithmetic": (patched(1, b"\xc9"), ""),
    "lossless": (patched(1, b"\xc3"), ""),
    "huge": (patched(5, (60_000).to_bytes(2) * 2), ""),
    "flat": (patched(5, (0).to_bytes(2) * 2), ""),
    "header-only": (jpeg()[: frame(jpeg()) + 20], ""),
    "zeros": (bytes(5000), ""),
    "no-end": (b"\xff\xd8" + b"\xff\xe1\xff\xff" * 2000, ""),
}
ENTRY = """
import json, resource, sys, time
from camid_utils import datasets, patches
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.monotonic()
catalogue = datasets.load_dresden(sys.argv[1])
store = patches.extract(catalogue, sys.argv[2], size=48, per_photo=4)
left = [*datasets.left_out(catalogue).to_dict("records"), *store.left_out.to_dict("records")]
print(json.dumps({
    "left": {str(entry.get("path", entry.get("photo"))).rsplit("/", 1)[-1]: entry["reason"] for entry in left},
    "read": sorted(store.table["photo"].unique()),
    "grown": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024**2,
    "seconds": time.monotonic() - started,
}))
"""


def test_a_folder_of_hostile_files_is_read_or_left_out_with_reasons(tmp_path):
    root = tmp_path / "Dresden"
    root.mkdir()
    for i, data in enumerate(READ):
        (root / f"Nikon_D70_0_{i}.JPG").write_bytes(data)
    for i, (data, _) in enumerate(LEFT_OUT.values()):
        (root / f"Nikon_D70_1_{100 + i}.JPG").write_bytes(data)
    for i in range(16):
        (root / f"Nikon_D200_0_{200 + i}.JPG").write_bytes(jpeg()[: len(jpeg()) * i // 16])
    Image.new("RGB", (1, 1)).save(root / "Nikon_D200_1_1.JPG")
    (root / "odd\nname_with space_é.JPG").write_bytes(jpeg())
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "Nikon_D200_1_2.JPG").symlink_to(root / "Nikon_D200_1_2.JPG")
    command = [sys.executable, "-c", ENTRY, str(root), str(tmp_path / "stores")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["read"] == [f"Nikon_D70_0_{i}.JPG" for i in range(len(READ))]
    for i, (name, (_, word)) in enumerate(LEFT_OUT.items()):
        reason = found["left"][f"Nikon_D70_1_{100 + i}.JPG"]
        assert reason and word in reason and str(root) not in reason, (name, reason)
    assert all(found["left"][f"Nikon_D200_0_{200 + i}.JPG"] for i in range(16))
    assert found["left"]["Nikon_D200_1_1.JPG"]
    assert any("odd" in name for name in found["left"])
    assert found["grown"] < 2 and found["seconds"] < 10 * len(LEFT_OUT)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=20))
def test_flipped_bits_give_a_photo_or_an_error_that_names_the_file(tmp_path_factory, flips):
    data = bytearray(jpeg())
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.JPG"
    path.write_bytes(data)
    try:
        photo = patches.read_photo(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3
        assert photo.shape[0] * photo.shape[1] <= patches.MAX_PIXELS


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_left_out_by_the_catalogue(tmp_path_factory, data, start):
    root = tmp_path_factory.mktemp("any")
    (root / "Nikon_D70_0_1.JPG").write_bytes((b"\xff\xd8\xff" if start else b"") + data)
    (root / "Nikon_D70_0_2.JPG").write_bytes(jpeg())
    catalogue = datasets.load_dresden(root)
    assert [os.path.basename(path) for path in catalogue["path"]] == ["Nikon_D70_0_2.JPG"]
    assert len(datasets.left_out(catalogue)) == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read every file")
def test_a_photo_without_permission_is_left_out(tmp_path):
    for i in (1, 2):
        (tmp_path / f"Nikon_D70_0_{i}.JPG").write_bytes(jpeg())
    (tmp_path / "Nikon_D70_0_1.JPG").chmod(0)
    assert len(datasets.load_dresden(tmp_path)) == 1


def test_places_and_serial_numbers_never_reach_the_results(tmp_path):
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (7.0, 7.0, 7.0)}  # GPS
    exif[0xA431] = "SERIAL-12345"
    Image.new("RGB", (96, 80), "grey").save(tmp_path / "Nikon_D70_0_1.JPG", exif=exif)
    catalogue = datasets.load_dresden(tmp_path)
    store = patches.extract(catalogue, tmp_path / "stores", size=48, per_photo=1)
    shown = catalogue.to_csv() + store.table.to_csv() + json.dumps(catalogue.attrs, default=str)
    assert "SERIAL" not in shown and "GPS" not in shown and "7.0" not in shown
