import io
import os

import pandas as pd
import pytest
from PIL import Image

from camid_utils import datasets

LISTING = """filename,brand,model,instance,shot,position_num,position_name,motive_num,motive_name,url
Nikon_D70_0_1.JPG,Nikon,D70,0,1,12,Theatre,3,Door,http://x
Nikon_D70_1_2.JPG,Nikon,D70,1,2,12,Theatre,4,Roof,http://x
"""


def jpeg(size=(64, 48), mode="RGB", **options) -> bytes:
    data = io.BytesIO()
    Image.new(mode, size).save(data, "JPEG", **options)
    return data.getvalue()


def plant(root, files: dict[str, bytes]):
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def reasons(catalogue) -> dict[str, str]:
    table = datasets.left_out(catalogue)
    return {os.path.basename(path): reason for path, reason in table.to_numpy()}


def test_dresden_names_decide_in_any_folder_and_case(tmp_path):
    names = ["Nikon_D70_0_1.JPG", "a/Kodak_M1063/Agfa_DC-504_0_7.jpeg", "a/b/Praktica_DCZ5.9_4_9.jpg"]
    names += ["a/OLYMPUS_MJU-1050sw_2_3.Jpg", "Acme_Big_Shot_2_1_5.JPG"]
    table = datasets.load_dresden(plant(tmp_path, dict.fromkeys(names, jpeg())))
    assert list(table.columns) == datasets.COLUMNS
    assert table["path"].is_monotonic_increasing
    assert table.set_index("camera_model")["device"].to_dict() == {
        "Nikon_D70": "Nikon_D70_0",
        "Agfa_DC-504": "Agfa_DC-504_0",
        "Praktica_DCZ5.9": "Praktica_DCZ5.9_4",
        "Olympus_mju-1050SW": "Olympus_mju-1050SW_2",
        "Acme_Big_Shot_2": "Acme_Big_Shot_2_1",
    }
    assert set(table["brand"]) == {"Nikon", "Agfa", "Praktica", "Olympus", "Acme"}
    assert table["scene"].isna().all()
    assert set(table["dataset"]) == {"Dresden"}


def test_dresden_listing_gives_scenes_whatever_the_case(tmp_path):
    files = {"x/nikon_d70_0_1.jpg": jpeg(), "Nikon_D70_1_2.JPG": jpeg(), "Nikon_D70_1_3.JPG": jpeg()}
    root = plant(tmp_path, files | {"dresden.csv": LISTING.encode()})
    table = datasets.load_dresden(root)
    scenes = {os.path.basename(path): scene for path, scene in zip(table["path"], table["scene"], strict=True)}
    assert scenes["nikon_d70_0_1.jpg"] == "12-3"
    assert scenes["Nikon_D70_1_2.JPG"] == "12-4"
    assert pd.isna(scenes["Nikon_D70_1_3.JPG"])
    missing = datasets.missing_photos(table, root)
    assert missing.to_numpy().tolist() == [["Nikon_D70_1_3.JPG", "Nikon_D70", "not listed"]]


def test_missing_photos_tells_the_absent_from_the_unusable(tmp_path):
    more = LISTING + "Nikon_D70_0_8.JPG,Nikon,D70,0,8,1,x,1,x,x\n"
    files = {"Nikon_D70_0_1.JPG": jpeg(), "Nikon_D70_1_2.JPG": b"", "dresden.csv": more.encode()}
    missing = datasets.missing_photos(datasets.load_dresden(plant(tmp_path, files)), tmp_path)
    assert dict(zip(missing["photo"], missing["status"], strict=True)) == {
        "Nikon_D70_0_8.JPG": "missing",
        "Nikon_D70_1_2.JPG": "left out",
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_listing_with_doubled_broken_and_accented_lines(tmp_path, encoding):
    text = (
        LISTING.replace("Theatre", "Schloßplatz") + "Nikon_D70_0_1.JPG,,,,,9,,9,,\na,b\n1,2,3,4,5,6,7,8,9,10,11\n,,,\n"
    )
    (tmp_path / "dresden.csv").write_bytes((text + "Nikon_D70_0_5.JPG,,,,,7,,,,\n").encode(encoding))
    table = datasets.read_listing(tmp_path)
    assert table.loc[["nikon_d70_0_1.jpg", "nikon_d70_1_2.jpg"], "scene"].tolist() == ["12-3", "12-4"]
    assert table.index.is_unique
    assert pd.isna(table.loc["nikon_d70_0_5.jpg", "scene"])


@pytest.mark.parametrize("text, words", [("", "not a table"), ("filename,x\na,b\n", "position_num, motive_num")])
def test_listing_that_is_none_is_an_error(tmp_path, text, words):
    plant(tmp_path, {"Nikon_D70_0_1.JPG": jpeg(), "dresden.csv": text.encode()})
    with pytest.raises(ValueError, match=words):
        datasets.load_dresden(tmp_path)


def test_flat_field_frames_of_dresden_are_skipped_unless_listed(tmp_path):
    names = ["flat/Nikon_D70_0_1.JPG", "flat/Nikon_D70_0_99.JPG", "Flat-Field/Nikon_D70_0_98.JPG"]
    table = datasets.load_dresden(plant(tmp_path, dict.fromkeys(names, jpeg()) | {"dresden.csv": LISTING.encode()}))
    assert table["scene"].tolist() == ["12-3"]
    assert table.attrs["skipped"] == {"flat": 2}


def test_floreview_both_layouts(tmp_path):
    names = [
        "Dataset/D27_DOOGEE_S96Pro/Nat/jpeg-h264/L1/S1/D27_L1S1C1.jpg",
        "Samsung_GalaxyS10+/d08_l2s3c1.JPG",
    ]
    table = datasets.load_floreview(plant(tmp_path, dict.fromkeys(names, jpeg())))
    assert table[["brand", "camera_model", "device", "scene"]].to_numpy().tolist() == [
        ["DOOGEE", "DOOGEE_S96Pro", "D27", "L1S1"],
        ["Samsung", "Samsung_GalaxyS10+", "D08", "L2S3"],
    ]


def test_floreview_natural_stills_by_default_flat_on_request(tmp_path):
    phone = "D27_DOOGEE_S96Pro"
    files = {
        f"{phone}/Nat/jpeg-h264/L1/S1/D27_L1S1C1.jpg": jpeg(),
        f"{phone}/Flat/jpeg-h264/D27_F1.jpg": jpeg(),
    }
    files |= {
        f"{phone}/Nat/heic/D27_L1S1C1.HEIC": b"x",
        f"{phone}/Nat/D27_L1S1C4.mp4": b"x",
        "readme.txt": b"x",
    }
    natural = datasets.load_floreview(plant(tmp_path, files))
    assert natural["scene"].tolist() == ["L1S1"]
    assert natural.attrs["skipped"] == {"HEIC": 1, "flat": 1, "other": 1, "video": 1}
    flat = datasets.load_floreview(tmp_path, flat=True)
    assert flat["device"].tolist() == ["D27"]
    assert flat["scene"].isna().all()
    assert flat.attrs["skipped"]["natural"] == 1


def test_folder_a_class(tmp_path):
    files = {"Nikon_D70/deep/DSC_1.JPG": jpeg(), "phone/1.jpg": jpeg(), "stray.jpg": jpeg()}
    table = datasets.load_folder(plant(tmp_path / "mine", files))
    assert table[["dataset", "brand", "camera_model"]].to_numpy().tolist() == [
        ["mine", "Nikon", "Nikon_D70"],
        ["mine", "phone", "phone"],
    ]
    assert table[["device", "scene"]].isna().all(axis=None)
    assert "no class's folder" in reasons(table)["stray.jpg"]


def test_simulated_folders_say_so(tmp_path):
    table = datasets.load_dresden(plant(tmp_path, {"Acme_One_0_1.JPG": jpeg(), "SIMULATED.txt": b""}))
    assert set(table["dataset"]) == {"simulated Dresden"}
    assert table.attrs["skipped"] == {}
    assert datasets.compare_with_published(table).empty


def test_pixels_are_measured_as_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    exif[0x9286] = b"x" * 60_000
    plant(
        tmp_path,
        {"Nikon_D70_0_1.JPG": jpeg((80, 60), exif=exif), "Nikon_D70_0_2.JPG": jpeg((60, 80), mode="L")},
    )
    assert datasets.load_dresden(tmp_path)[["width", "height"]].to_numpy().tolist() == [[80, 60], [60, 80]]


def test_header_behind_long_segments_is_found(tmp_path):
    whole = jpeg((80, 60))
    for number, count in enumerate([2, 20]):
        segments = (b"\xff\xe2" + (60_002).to_bytes(2, "big") + b"x" * 60_000) * count
        plant(tmp_path, {f"Nikon_D70_0_{number}.JPG": whole[:2] + segments + whole[2:]})
    assert datasets.load_dresden(tmp_path)["width"].tolist() == [80, 80]


def test_unusable_photos_are_left_out_with_their_reason(tmp_path):
    png = io.BytesIO()
    Image.new("RGB", (64, 64)).save(png, "PNG")
    huge = bytearray(jpeg())
    start = huge.index(b"\xff\xc0") + 5
    huge[start : start + 4] = b"\xea\x60\xea\x60"
    planted = {
        "empty": (b"", "empty"),
        "png": (png.getvalue(), "PNG"),
        "page": (b"<!DOCTYPE html>", "not a JPEG"),
        "cut": (jpeg()[:200], "cut short"),
        "rubbish": (b"\xff\xd8" + b"rubbish" * 100, "damaged"),
        "cmyk": (jpeg(mode="CMYK"), "CMYK"),
        "pixel": (jpeg((1, 1)), "1 x 1 pixels"),
        "huge": (bytes(huge), "60000 x 60000"),
    }
    files = {f"Nikon_{name}_0_1.JPG": data for name, (data, _) in planted.items()}
    table = datasets.load_dresden(plant(tmp_path, files | {"Nikon_D70_0_1.JPG": jpeg(), "DSC_0001.JPG": jpeg()}))
    assert table["camera_model"].tolist() == ["Nikon_D70"]
    found = reasons(table)
    for name, (_, words) in planted.items():
        assert words in found.pop(f"Nikon_{name}_0_1.JPG")
    assert found == {"DSC_0001.JPG": "its name is not <Brand>_<Model>_<device>_<shot>.JPG"}


def test_least_size_is_a_parameter(tmp_path):
    plant(tmp_path, {"Nikon_D70_0_1.JPG": jpeg((64, 47)), "Nikon_D70_0_2.JPG": jpeg((64, 48))})
    assert len(datasets.load_dresden(tmp_path)) == 1
    assert len(datasets.load_dresden(tmp_path, min_size=47)) == 2


def test_copies_of_a_photo_count_once(tmp_path):
    names = ["a/Nikon_D70_0_1.JPG", "b/nikon_d70_0_1.jpg", "c/Nikon_D70_0_1.JPG"]
    plant(tmp_path, dict.fromkeys(names, jpeg()))
    (tmp_path / names[0]).write_bytes(b"")
    table = datasets.load_dresden(tmp_path)
    assert table["path"].tolist() == [str(tmp_path / names[1])]
    assert datasets.left_out(table)["reason"].tolist() == [
        "the file is empty",
        f"another copy of {tmp_path / names[1]}",
    ]


def test_links_loops_pipes_and_hidden_files(tmp_path):
    root = plant(tmp_path / "photos", {"a/Nikon_D70_0_1.JPG": jpeg(), "a/._Nikon_D70_0_2.JPG": b"x"})
    plant(tmp_path / "elsewhere", {"Nikon_D70_0_3.JPG": jpeg()})
    (root / "a" / "loop").symlink_to(root)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "Nikon_D70_0_4.JPG").symlink_to(root / "nowhere")
    os.mkfifo(root / "Nikon_D70_0_5.JPG")
    (tmp_path / "link").symlink_to(root)
    table = datasets.load_dresden(tmp_path / "link")
    assert [os.path.basename(path) for path in table["path"]] == ["Nikon_D70_0_1.JPG", "Nikon_D70_0_3.JPG"]
    assert set(reasons(table)) == {"Nikon_D70_0_4.JPG", "Nikon_D70_0_5.JPG"}


def test_photo_that_cannot_be_opened_is_left_out(tmp_path, monkeypatch):
    plant(tmp_path, {"Nikon_D70_0_1.JPG": jpeg(), "Nikon_D70_0_2.JPG": jpeg()})
    header = datasets._jpeg_header

    def refuse(file):
        if file.name.endswith("_2.JPG"):
            raise PermissionError(13, "Permission denied")
        return header(file)

    monkeypatch.setattr(datasets, "_jpeg_header", refuse)
    table = datasets.load_dresden(tmp_path)
    assert len(table) == 1
    assert reasons(table) == {"Nikon_D70_0_2.JPG": "it cannot be opened: Permission denied"}


def test_name_that_is_no_unicode_is_left_out(tmp_path):
    plant(tmp_path, {"Nikon_D70_0_1.JPG": jpeg()})
    try:
        with open(os.fsencode(tmp_path) + b"/Nikon_\xe9_0_1.JPG", "wb") as file:
            file.write(jpeg())
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    table = datasets.load_dresden(tmp_path)
    assert list(reasons(table).values()) == ["its name is not valid Unicode"]
    datasets.left_out(table).to_parquet(tmp_path / "left_out.parquet")


LOADERS = [datasets.load_dresden, datasets.load_floreview, datasets.load_folder]


@pytest.mark.parametrize("load", LOADERS)
def test_roots_without_photos_are_errors_that_show_the_layout(tmp_path, load):
    with pytest.raises(FileNotFoundError, match="(?s)there is no folder.*ROOT/"):
        load(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="(?s)it holds nothing.*ROOT/"):
        load(tmp_path / "empty")
    with pytest.raises(NotADirectoryError, match="(?s)is a file.*ROOT/"):
        load(plant(tmp_path, {"file": b"x"}) / "file")
    plant(tmp_path / "other", {"a.png": b"x", "b.png": b"x", "DSC_1.JPG": jpeg()})
    with pytest.raises(FileNotFoundError, match="(?s)2 .png.*ROOT/.*DSC_1.JPG: "):
        load(tmp_path / "other")


def test_summary_and_comparison(tmp_path):
    names = [f"Nikon_D70_{number % 2}_{number}.JPG" for number in range(4)] + ["Kodak_M1063_0_1.JPG"]
    table = datasets.load_dresden(plant(tmp_path, dict.fromkeys(names, jpeg())))
    assert datasets.summary(table).loc["Nikon_D70"].tolist() == [4, 2, 0]
    assert datasets.summary(table, by="device").loc["Nikon_D70_1"].tolist() == [2, 1, 0]
    status = datasets.compare_with_published(table).set_index("camera_model")["status"]
    assert status["Nikon_D70"] == "365 photos fewer"
    assert status["Kodak_M1063"] == "4 devices fewer, 2390 photos fewer"
    assert (status == "missing").sum() == 25


def test_relative_photos_start_at_the_common_folder(tmp_path):
    table = datasets.load_dresden(plant(tmp_path, dict.fromkeys(["r/a/X_Y_0_1.JPG", "r/b/c/X_Y_0_2.JPG"], jpeg())))
    assert datasets.relative_photos(table).tolist() == ["a/X_Y_0_1.JPG", "b/c/X_Y_0_2.JPG"]
    assert datasets.relative_photos(table[1:]).to_dict() == {1: "X_Y_0_2.JPG"}
    assert datasets.relative_photos(table[:0]).empty


def test_fingerprint_knows_changes_but_not_the_order_or_the_place(tmp_path):
    names = dict.fromkeys(["a/X_Y_0_1.JPG", "b/X_Y_0_2.JPG"], jpeg())
    here = datasets.load_dresden(plant(tmp_path / "here", names))
    there = datasets.load_dresden(plant(tmp_path / "there", names))
    os.utime(there["path"][0], ns=(1, 1))
    first = datasets.fingerprint(here)
    assert datasets.fingerprint(here[::-1]) == first != datasets.fingerprint(there)
    assert datasets.fingerprint(here, with_mtime=False) == datasets.fingerprint(there, with_mtime=False)
    assert datasets.fingerprint(here.assign(scene="1-1")) != first
    plant(tmp_path / "there", {"a/X_Y_0_1.JPG": jpeg() + b"x"})
    assert datasets.fingerprint(here, with_mtime=False) != datasets.fingerprint(there, with_mtime=False)


def test_catalogue_survives_parquet(tmp_path):
    table = datasets.load_dresden(plant(tmp_path, {"Nikon_D70_0_1.JPG": jpeg(), "DSC_1.JPG": jpeg(), "a.mp4": b""}))
    table.to_parquet(tmp_path / "catalogue.parquet")
    again = pd.read_parquet(tmp_path / "catalogue.parquet")
    pd.testing.assert_frame_equal(again, table)
    assert again.attrs == table.attrs


def test_describe_counts_what_there_is():
    rows = pd.DataFrame(
        {
            "dataset": "simulated Dresden",
            "camera_model": ["A", "B"] * 10,
            "device": [f"D{i % 4}" for i in range(20)],
            "scene": [f"S{i % 5}" for i in range(20)],
        }
    )
    assert datasets.describe(rows) == "simulated Dresden, 20 photos, 2 camera models, 4 devices, 5 scenes"
    bare = rows.assign(scene=pd.NA, dataset="mine")[:1]
    assert datasets.describe(bare) == "mine, 1 photo, 1 camera model, 1 device"
