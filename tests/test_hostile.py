"""Broken and hostile photos: each is read or left out with its reason; none stops a run or exhausts the machine."""

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

from camid_utils import catalogues, datasets
from camid_utils.photos import MAX_PIXELS, read_photo


@cache
def jpeg(mode: str = "RGB", progressive: bool = False) -> bytes:
    """A photo of 96 x 80 pixels as a camera would save it, with EXIF data: place and serial number."""
    pixels = np.random.default_rng(0).integers(60, 200, (80, 96, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (7.0, 7.0, 7.0)}  # GPS
    exif[0xA431] = "SERIAL-12345"
    data = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(data, "JPEG", quality=90, exif=exif, progressive=progressive)
    return data.getvalue()


def patched(at: int, new: bytes) -> bytes:
    """The photo with `new` written `at` bytes after the start of its frame header."""
    data = bytearray(jpeg())
    start = data.index(b"\xff\xc0") + at
    data[start : start + len(new)] = new
    return bytes(data)


READ = [jpeg(), jpeg(progressive=True), jpeg("L")]
LEFT_OUT = [
    b"",
    b"\x89PNG\r\n\x1a\n" + bytes(100),
    b"<!DOCTYPE html><html>not found</html>",
    jpeg("CMYK"),
    patched(1, b"\xc3"),  # lossless
    patched(1, b"\xc9"),  # arithmetic coding
    patched(4, b"\x0c"),  # 12 bits per sample
    patched(5, (60_000).to_bytes(2) * 2),  # 3,600 megapixels
    patched(5, (0).to_bytes(2) * 2),  # no pixels
    patched(11, b"\x14"),  # subsampling 4:4:1
    jpeg()[: jpeg().index(b"\xff\xc0") + 20],
    bytes(5000),
    b"\xff\xd8" + b"\xff\xe1\xff\xff" * 2000,  # no end
    *(jpeg()[: len(jpeg()) * i // 16] for i in range(16)),
]
ENTRY = """
import json, resource, sys, time
from camid_utils import catalogues, datasets, patches
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.monotonic()
catalogue = datasets.load_dresden(sys.argv[1])
store = patches.extract(catalogue, sys.argv[2], size=48, per_photo=4)
left = [*catalogues.left_out(catalogue).to_numpy().tolist(), *store.left_out.to_numpy().tolist()]
shown = catalogue.to_csv() + store.table.to_csv() + json.dumps(catalogue.attrs, default=str)
print(json.dumps({
    "left": {path.rsplit("/", 1)[-1]: reason for path, reason in left},
    "read": sorted(store.table["photo"].unique()),
    "grown": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024**2,
    "seconds": time.monotonic() - started,
    "private": [word for word in ("SERIAL", "GPS", "7.0") if word in shown],
}))
"""


def test_a_folder_of_hostile_files_is_read_or_left_out_with_reasons(tmp_path):
    root = tmp_path / "Dresden"
    root.mkdir()
    for i, data in enumerate(READ):
        (root / f"Nikon_D70_0_{i}.JPG").write_bytes(data)
    for i, data in enumerate(LEFT_OUT):
        (root / f"Nikon_D70_1_{100 + i}.JPG").write_bytes(data)
    Image.new("RGB", (1, 1)).save(root / "Nikon_D200_1_1.JPG")
    (root / "Nikon_D200_1_2.JPG").symlink_to(root / "Nikon_D200_1_2.JPG")
    (root / "odd\nname_with space_é.JPG").write_bytes(jpeg())
    (root / "loop").symlink_to(root, target_is_directory=True)
    os.mkfifo(root / "Nikon_D200_1_3.JPG")
    (root / ".hidden.JPG").write_bytes(jpeg())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "Nikon_D70_0_9.JPG").write_bytes(jpeg())
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    command = [sys.executable, "-c", ENTRY, str(root), str(tmp_path / "stores")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert [name.rsplit("/", 1)[-1] for name in found["read"]] == [f"Nikon_D70_0_{i}.JPG" for i in (0, 1, 2, 9)]
    bad = {f"Nikon_D70_1_{100 + i}.JPG" for i in range(len(LEFT_OUT))} | {f"Nikon_D200_1_{i}.JPG" for i in (1, 2, 3)}
    assert set(found["left"]) == bad | {"odd\nname_with space_é.JPG"}
    assert all(reason and str(root) not in reason for reason in found["left"].values())
    assert found["private"] == []  # neither places nor serial numbers reach the results
    assert found["grown"] < 2 and found["seconds"] < 60  # GiB


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
