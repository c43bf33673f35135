"""Loaders: file names decide, whatever is odd is left out with its reason; catalogues and what was published."""

import os
import sys
from unittest.mock import MagicMock

import pandas as pd
import pytest
from helpers import encoded
from PIL import Image

from camid_utils import catalogues, datasets, published

LISTING = """filename,brand,model,instance,shot,position_num,position_name,motive_num,motive_name,url
Nikon_D70_0_1.JPG,Nikon,D70,0,1,12,Theatre,3,Door,http://x
Nikon_D70_1_2.JPG,Nikon,D70,1,2,12,Theatre,4,Roof,http://x
"""
NAMES = ("dresden", "floreview", "folder", "forchheim", "photographs", "vision")
LOADERS = [getattr(datasets, f"load_{name}") for name in NAMES]


def jpeg(size=(64, 48), mode="RGB", **options) -> bytes:
    return encoded(Image.new(mode, size), **options)


def plant(root, files: dict[str, bytes] | list[str]):
    """Write files under `root`: contents by name, or small photos under each name."""
    for name, data in (files if isinstance(files, dict) else dict.fromkeys(files, jpeg())).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def by_name(catalogue: pd.DataFrame, *columns: str) -> dict[str, list]:
    """Some columns of each photo by its file name."""
    table = catalogue[list(columns)].astype(object).where(catalogue[list(columns)].notna(), None)
    return dict(zip(catalogue["path"].map(os.path.basename), table.to_numpy().tolist(), strict=True))


def test_what_systems_leave_in_folders_is_neither_catalogued_nor_reported(tmp_path):
    litter = ["@eaDir/Nikon_D70_0_1.JPG/SYNOPHOTO_THUMB_M.jpg", "$RECYCLE.BIN/Nikon_D70_0_2.JPG", ".DS_Store"]
    litter += ["__MACOSX/._Nikon_D70_0_1.JPG", "a/lost+found/1.jpg", "System Volume Information/2.jpg", "a/Thumbs.db"]
    litter += ["#recycle/Nikon_D70_0_3.JPG", ".Trashes/501/Nikon_D70_0_4.JPG", "a/._Nikon_D70_0_1.JPG", "desktop.ini"]
    names = ["a/Nikon_D70_0_1.JPG", "@home/Nikon_D70_0_8.JPG", "#1/Nikon_D70_0_9.JPG"]
    table = datasets.load_dresden(plant(tmp_path, names + litter))
    assert sorted(by_name(table)) == sorted(os.path.basename(name) for name in names)
    assert table.attrs == {"left_out": [], "skipped": {}}
    assert [[path.as_posix() for path in catalogues.list_files(tmp_path)[0]]] == [sorted(names)]


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "jpe", "jfif", "JIF"])
def test_a_jpeg_of_any_spelling_is_read_in_every_layout(tmp_path, suffix):
    names = {"dresden": "Nikon_D70_0_1", "folder": "Nikon_D70/x", "forchheim": "D01_Acme_A/D01_img_orig_0001"}
    names |= {"floreview": "Acme_A/D01_L1S1C1", "vision": "D01_Acme_A/D01_I_nat_0001"}
    for kind, name in names.items():
        assert len(getattr(datasets, f"load_{kind}")(plant(tmp_path / kind, [f"{name}.{suffix}"]))) == 1
    flat = plant(tmp_path / "flat", [f"Acme_A/Flat/D01_F1.{suffix}"])
    assert len(datasets.load_floreview(flat, flat=True)) == 1


def test_files_that_are_no_jpegs_are_skipped_and_counted_by_kind(tmp_path):
    names = ["Nikon_D70_0_1.JPG", *"1.HEIC 1.heif 1.avif 1.DNG 1.nef 1.Cr2 1.arw 1.png 1.txt 1.mov".split()]
    table = datasets.load_dresden(plant(tmp_path, names))
    skipped = {"HEIC": 2, "raw": 4, "AVIF": 1, "PNG": 1, "other": 1, "video": 1}
    assert len(table) == 1 and table.attrs["skipped"] == skipped and not reasons(table)


def reasons(catalogue: pd.DataFrame) -> dict[str, str]:
    return dict(catalogues.left_out(catalogue).to_numpy().tolist())


def test_dresden_file_names_decide_in_any_folder_and_case(tmp_path):
    names = ["Nikon_D70_0_1.JPG", "a/Kodak_M1063/Agfa_DC-504_0_7.jpeg", "a/b/Praktica_DCZ5.9_4_9.jpg"]
    names += ["a/OLYMPUS_MJU-1050sw_2_3.Jpg", "Acme_Big_Shot_2_1_5.JPG"]
    table = datasets.load_dresden(plant(tmp_path, names))
    assert list(table.columns) == catalogues.COLUMNS and table["photo"].tolist() == sorted(names)
    assert table["path"].tolist() == [str(tmp_path / name) for name in sorted(names)]
    devices = {"Nikon_D70": 0, "Agfa_DC-504": 0, "Praktica_DCZ5.9": 4, "Olympus_mju-1050SW": 2, "Acme_Big_Shot_2": 1}
    assert table.set_index("camera_model")["device"].to_dict() == {name: f"{name}_{d}" for name, d in devices.items()}
    assert set(table["brand"]) == {"Nikon", "Agfa", "Praktica", "Olympus", "Acme"}
    assert table["scene"].isna().all() and set(table["dataset"]) == {"Dresden"}


def test_the_listing_gives_scenes_and_says_what_is_missing(tmp_path):
    files = {"x/nikon_d70_0_1.jpg": jpeg(), "Nikon_D70_1_2.JPG": b"", "Nikon_D70_1_3.JPG": jpeg()}
    listing = LISTING + "Nikon_D70_0_8.JPG,Nikon,D70,0,8,1,x,1,x,x\n"
    table = datasets.load_dresden(plant(tmp_path, files | {"dresden.csv": listing.encode()}))
    assert by_name(table, "scene") == {"nikon_d70_0_1.jpg": ["12-3"], "Nikon_D70_1_3.JPG": [None]}
    status = {"Nikon_D70_0_8.JPG": "missing", "Nikon_D70_1_2.JPG": "left out", "Nikon_D70_1_3.JPG": "not listed"}
    assert datasets.missing_photos(table, tmp_path).set_index("photo")["status"].to_dict() == status
    assert set(datasets.missing_photos(table, tmp_path)["camera_model"]) == {"Nikon_D70"}
    assert datasets.missing_photos(table, tmp_path / "x").empty


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_a_listing_with_doubled_broken_and_accented_lines_is_read(tmp_path, encoding):
    odd = "Nikon_D70_0_1.JPG,,,,,9,,9,,\na,b\n1,2,3,4,5,6,7,8,9,10,11\n,,,\nNikon_D70_0_5.JPG,,,,,7,,,,\n"
    (tmp_path / "dresden.csv").write_bytes((LISTING.replace("Theatre", "Schloßplatz") + odd).encode(encoding))
    scenes = datasets.read_listing(tmp_path)["scene"]
    assert scenes.index.is_unique and pd.isna(scenes["nikon_d70_0_5.jpg"])
    assert scenes[["nikon_d70_0_1.jpg", "nikon_d70_1_2.jpg"]].tolist() == ["12-3", "12-4"]
    (tmp_path / "dresden.csv").write_text(LISTING.replace("http://x", "http://x,"))  # not so the header
    assert datasets.read_listing(tmp_path)["scene"].tolist() == ["12-3", "12-4"]


@pytest.mark.parametrize("text, words", [("", "No columns"), ("filename,x\na,b\n", "'position_num', 'motive_num'")])
def test_another_file_in_place_of_the_listing_is_an_error(tmp_path, text, words):
    plant(tmp_path, {"Nikon_D70_0_1.JPG": jpeg(), "dresden.csv": text.encode()})
    with pytest.raises(ValueError, match=f"dresden.csv is not the public listing.*{words}"):
        datasets.load_dresden(tmp_path)


def test_flat_field_frames_of_dresden_are_skipped_unless_listed(tmp_path):
    plant(tmp_path, ["flat/Nikon_D70_0_1.JPG", "flat/Nikon_D70_0_99.JPG", "Flat-Field/Nikon_D70_0_98.JPG"])
    table = datasets.load_dresden(plant(tmp_path, {"dresden.csv": LISTING.encode()}))
    assert table["scene"].tolist() == ["12-3"] and table.attrs["skipped"] == {"flat": 2}


def test_photos_and_devices_are_counted_beside_the_published_numbers(tmp_path, monkeypatch):
    names = [f"Nikon_D70_{number % 3}_{number}.JPG" for number in range(4)]
    table = datasets.load_dresden(plant(tmp_path, [*names, "Kodak_M1063_0_1.JPG", "Acme_One_0_1.JPG"]))
    assert catalogues.summary(table).loc["Nikon_D70"].tolist() == [4, 3, 0]
    compared = datasets.compare_with_published(table)
    words = {"Acme_One": "extra", "Kodak_M1063": "differs", "Nikon_D70": "differs"}
    assert compared["status"][compared["status"] != "missing"].to_dict() == words and len(compared) == 28
    assert [*compared.loc["Nikon_D70"]] == [4, 369, 3, 2, "differs"]
    simulated = datasets.load_dresden(plant(tmp_path, ["SIMULATED.txt"]))
    assert {*simulated["dataset"], *simulated["collection"]} == {"simulated Dresden"}
    assert {*table["collection"]} == {"Dresden"} and simulated.attrs["skipped"] == {}
    assert datasets.compare_with_published(simulated).empty
    monkeypatch.setattr(published, "read", lambda _: catalogues.summary(table).drop(columns="scenes").reset_index())
    assert set(datasets.compare_with_published(table)["status"]) == {"as published"}


def test_a_photo_in_the_folder_of_another_phone_is_left_out(tmp_path):
    names = [f"Acer_Z/D01_L1S{i}C1.jpg" for i in range(3)] + ["Samsung_S9/D01_L2S1C1.jpg", "Samsung_S9/D02_L1S1C1.jpg"]
    table = datasets.load_floreview(plant(tmp_path, names))
    assert table["device"].tolist() == ["D01"] * 3 + ["D02"] and "L2S1" not in set(table["scene"])
    assert reasons(table) == {"D01_L2S1C1.jpg": "other photos of this device are in the folder of Acer_Z"}
    with pytest.raises(ValueError, match=r"device D01 is in the folders of several phones \(Acer_Z, Samsung_S9\)"):
        datasets.load_floreview(plant(tmp_path / "tie", [names[0], "Samsung_S9/D01_L2S1C1.jpg"]))


def test_simulated_photos_are_never_taken_for_real_ones_even_deep_in_a_folder(tmp_path):
    plant(tmp_path, ["simulated-dresden/Nikon_D70_0/Nikon_D70_0_1.JPG"])
    assert set(datasets.load_dresden(tmp_path)["dataset"]) == {"Dresden"}
    (tmp_path / "simulated-dresden" / catalogues.SIMULATED).touch()
    for root in (tmp_path, tmp_path / "simulated-dresden" / "Nikon_D70_0"):
        assert set(datasets.load_dresden(root)["dataset"]) == {"simulated Dresden"}
    with pytest.raises(ValueError, match="has real photos and, in simulated-dresden, simulated ones"):
        datasets.load_dresden(plant(tmp_path, ["Nikon_D70_1_1.JPG"]))


def test_floreview_is_read_in_both_layouts_natural_or_flat(tmp_path):
    phone = "Dataset/D27_DOOGEE_S96Pro"
    names = ["Nat/jpeg-h264/L1/S1/D27_L1S1C1.jpg", "Flat/jpeg-h264/D27_F1.jpg", "Nat/D27_L1S1C1.HEIC", "D27_L1S1C4.mp4"]
    names = [f"{phone}/{name}" for name in names] + ["Samsung_GalaxyS10+/d08_l2s3c1.JPG", "readme.txt"]
    natural = datasets.load_floreview(plant(tmp_path, names))
    assert by_name(natural, "brand", "camera_model", "device", "scene") == {
        "D27_L1S1C1.jpg": ["DOOGEE", "DOOGEE_S96Pro", "D27", "L1S1"],
        "d08_l2s3c1.JPG": ["Samsung", "Samsung_GalaxyS10+", "D08", "L2S3"],
    }
    assert natural.attrs["skipped"] == {"HEIC": 1, "flat": 1, "other": 1, "video": 1}
    more = ["D28_Samsung_S9/all_images/D28_L1S1C1.jpg", "Acer_Z/day_1/D01_L1S1C1.jpg", "D30_LG_G7/x/D31_L1S1C1.jpg"]
    table = datasets.load_floreview(plant(tmp_path / "more", [*more, "D27_/D27_L1S1C1.jpg", "A_B/D01_L1S1C1_flat.jpg"]))
    assert table.attrs["skipped"] == {"flat": 1}
    assert set(table["camera_model"]) == {"Samsung_S9", "Acer_Z"}
    assert reasons(table)["D31_L1S1C1.jpg"] == "its name says D31, the folder above it D30"
    flat = datasets.load_floreview(tmp_path / "Dataset", flat=True)
    assert by_name(flat, "device", "scene") == {"D27_F1.jpg": ["D27", None]} and flat.attrs["skipped"]["natural"] == 1


def test_each_own_folder_is_a_class(tmp_path):
    table = datasets.load_folder(plant(tmp_path / "mine", ["Nikon_D70/deep/DSC_1.JPG", "phone/1.jpg", "stray.jpg"]))
    labels = table[["dataset", "collection", "brand", "camera_model"]].to_numpy().tolist()
    assert labels == [["mine", "mine", "Nikon", "Nikon_D70"], ["mine", "mine", "phone", "phone"]]
    assert table[["device", "scene"]].isna().all(axis=None) and "not in a class's folder" in reasons(table)["stray.jpg"]


@pytest.fixture
def public(tmp_path, monkeypatch) -> pd.DataFrame:
    """A list of six public photographs, all of them in the folder `tmp_path`, their EXIF data of another camera."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x8825], exif[0xA431] = "Evil", "Corp", {1: "N", 2: (7.0, 7.0, 7.0)}, "SERIAL-1"
    files = {}
    rows = [
        ("camera", "Nikon_D90", 0, "natural", 1, "ann/zoo"),
        ("camera", "Nikon_D90", 1, "natural", 8, "bob/sea"),
        ("camera", "Nikon_D70s", 0, "flat", pd.NA, "bob/sea"),
        ("phone", "Apple_iPhone6", 0, "natural", 2, "ann/zoo"),
        ("phone", "Apple_iPhone6", 0, "natural", 3, "ann/zoo"),
        ("phone", "LG_OptimusL9II", 0, "flat", pd.NA, "x/y"),
    ]
    for number, (_, model, device, *_) in enumerate(rows):
        files[f"{model}/{model}_{device}_{number:03}.jpg"] = jpeg((64, 48 + number), exif=exif)
    plant(tmp_path, files)
    table = pd.DataFrame(rows, columns=["role", "camera_model", "device", "kind", "block", "collection"])
    table["device"] = table["camera_model"] + "_" + table["device"].astype(str)
    table = table.assign(file=list(files), bytes=[len(data) for data in files.values()])
    monkeypatch.setattr(published, "photographs", lambda: table.copy())
    return table


def test_public_photographs_are_labelled_by_the_list_and_never_by_their_exif_data(tmp_path, public):
    table = datasets.load_photographs(tmp_path, role="camera")
    assert list(table.columns) == catalogues.COLUMNS
    assert set(table["dataset"]) == {"public photographs by cameras"}
    assert by_name(table, "brand", "camera_model", "device", "scene", "collection") == {
        "Nikon_D90_0_000.jpg": ["Nikon", "Nikon_D90", "Nikon_D90_0", "ann/zoo/1", "ann/zoo"],
        "Nikon_D90_1_001.jpg": ["Nikon", "Nikon_D90", "Nikon_D90_1", "bob/sea/8", "bob/sea"],
    }
    assert table["height"].tolist() == [48, 49]
    assert table.attrs == {"left_out": [], "skipped": {"flat (camera)": 1, "flat (phone)": 1, "natural (phone)": 2}}
    flat = datasets.load_photographs(tmp_path, kind="flat")
    assert by_name(flat, "scene", "collection", "dataset") == {
        "Nikon_D70s_0_002.jpg": [None, "bob/sea", "public photographs"],
        "LG_OptimusL9II_0_005.jpg": [None, "x/y", "public photographs"],
    }
    assert len(datasets.load_photographs(tmp_path, kind="flat", role="camera")) == 1
    skipped = datasets.load_photographs(tmp_path, least=2).attrs["skipped"]
    assert skipped == {"flat (camera)": 1, "flat (phone)": 1}
    with pytest.raises(FileNotFoundError, match="no usable photo"):
        datasets.load_photographs(tmp_path, least=3)
    everything = datasets.load_photographs(tmp_path, kind=None)
    assert len(everything) == 6 and not any(s in everything.to_csv() for s in ("Evil", "Corp", "SERIAL", "7.0"))


def test_public_photographs_that_are_missing_changed_or_unlisted_are_left_out(tmp_path, public):
    first, second, flat, *phones, _ = public["file"]
    os.remove(tmp_path / first)
    os.remove(tmp_path / flat)  # not asked for
    with open(tmp_path / second, "ab") as file:
        file.write(b"x")
    plant(tmp_path, ["Nikon_D90/Nikon_D90_0_999.jpg", "Apple_iPhone6_0_003.jpg"])
    table = datasets.load_photographs(tmp_path)
    found, size = reasons(table), public["bytes"][1]
    assert [os.path.relpath(path, tmp_path) for path in table["path"]] == phones
    assert found.pop("Nikon_D90_0_000.jpg") == "it is missing: download it again"
    changed = f"it has {size + 1:,} bytes, the listed photo {size:,}: download it again"
    assert found.pop("Nikon_D90_1_001.jpg") == changed
    assert found == dict.fromkeys(["Nikon_D90_0_999.jpg", "Apple_iPhone6_0_003.jpg"], unlisted := [*found.values()][0])
    assert "does not name it" in unlisted and "none is left of Nikon_D90" in catalogues.describe(table)


def test_the_list_of_public_photographs_is_complete_and_agrees_with_itself():
    table = published.photographs()
    models = table.groupby("role")["camera_model"].nunique()
    assert len(table) == 1648 and models.to_dict() == {"camera": 23, "phone": 21}
    assert table.drop(columns=["block", "owner", "room", "mixed_device"]).notna().all(axis=None)
    assert set(table["mixed_device"].dropna()) == {"Apple_iPhone6_0"} <= set(table["device"])
    assert set(table["room"].dropna()) == {"gallery", "library", "laboratory"}
    assert (table.dropna(subset="room").groupby("room")["collection"].nunique() > 1).all()
    assert (table["block"].isna() == (table["kind"] == "flat")).all()
    assert table["block"].dropna().isin(range(1, 9)).all() and table["file"].is_unique and table["blob"].is_unique
    assert table["blob"].str.fullmatch("[0-9a-f]{40}").all() and table["commit"].str.fullmatch("[0-9a-f]{40}").all()
    assert (table["file"].str.rsplit("/").str[1].str.rsplit("_", n=1).str[0] == table["device"]).all()
    assert table["device"].str.rsplit("_", n=1).str[0].eq(table["camera_model"]).all()
    names = set(published.read("collections")["collection"])
    assert names == set(table["collection"]) and len(names) == 52


FORCHHEIM = [
    "D01_Motorola_E3_1/orig/D01_img_orig_0001.jpg", "D01_Motorola_E3_1/orig/D01_img_orig_0143.jpg",
    "D15_Samsung_GalaxyA6_1/orig/D15_img_orig_0001.jpg", "D17_Samsung_Galaxy_A6/orig/d17_img_ORIG_0002.jpeg",
    "D18_Nokia_5/orig/D18_img_orig_0002.jpg",
    "mirror/D16_Samsung_GalaxyA6_2/D16_img_orig_0001.JPG",  # a mirror without the folders of the versions
]  # fmt: skip
COPIES = [f"D01_Motorola_E3_1/{v}/D01_img_{v}_0001.jpg" for v in datasets.FORCHHEIM_VERSIONS[1:]]
VISION = ["D26_Samsung_GalaxyS3Mini/images/nat/D26_I_nat_0001.jpg", "D32_OnePlus_A3003/images/nat/D32_I_nat_0100.JPG"]
VISION += [f"D01_Samsung_GalaxyS3Mini/images/{v}/D01_I_{v}_0001.jpg" for v in "nat natFBH natWA flat flatFBH".split()]
VISION += [f"D01_Samsung_GalaxyS3Mini/videos/{v}" for v in ("flat/D01_V_flat_panrot_1.mp4", "nat/D01_V_indoor_1.MOV")]


def test_forchheim_names_give_device_model_and_scene(tmp_path):
    table = datasets.load_forchheim(plant(tmp_path, FORCHHEIM + COPIES))
    assert list(table.columns) == catalogues.COLUMNS and set(table["dataset"]) == {"Forchheim"}
    assert table[["camera_model", "device", "scene"]].to_numpy().tolist() == [
        ["Motorola_E3", "Forchheim_D01", "0001"], ["Motorola_E3", "Forchheim_D01", "0143"],
        ["Samsung_GalaxyA6", "Forchheim_D15", "0001"], ["Samsung_Galaxy_A6", "Forchheim_D17", "0002"],
        ["Nokia_5", "Forchheim_D18", "0002"], ["Samsung_GalaxyA6", "Forchheim_D16", "0001"],
    ]  # fmt: skip
    assert set(table["brand"]) == {"Motorola", "Samsung", "Nokia"}
    assert table.attrs["skipped"] == dict.fromkeys(sorted(datasets.FORCHHEIM_VERSIONS[1:]), 1)


@pytest.mark.parametrize("version", datasets.FORCHHEIM_VERSIONS[1:])
def test_the_file_name_says_which_version_a_photo_is(tmp_path, version):
    misplaced = "D15_Samsung_GalaxyA6_1/orig/D15_img_whatsapp_0009.jpg"
    unknown = "D01_Motorola_E3_1/myspace/D01_img_myspace_0001.jpg"
    table = datasets.load_forchheim(plant(tmp_path, [*FORCHHEIM, *COPIES, misplaced, unknown]), version)
    assert table["path"].str.contains(f"_img_{version}_").all() and len(table) == 1 + (version == "whatsapp")
    assert table.attrs["skipped"]["orig"] == len(FORCHHEIM) and table.attrs["skipped"]["myspace"] == 1


def test_photos_without_a_known_phone_are_left_out_with_the_reason(tmp_path):
    bad = ["D01_Motorola_E3_1/orig/IMG_1.jpg", "pictures/D09_img_orig_0001.jpg"]
    bad += ["D01_Motorola_E3_1/orig/D02_img_orig_0001.jpg", "copy/D01_Motorola_E3_1/D01_img_orig_0001.jpg"]
    table = datasets.load_forchheim(plant(tmp_path, FORCHHEIM + bad))
    found = reasons(table)
    assert len(table) == len(FORCHHEIM) and found["IMG_1.jpg"] == "its name is not like D01_img_orig_0001.jpg"
    assert found["D09_img_orig_0001.jpg"] == "no folder above it names the phone as D01_<Brand>_<Model>"
    assert found["D02_img_orig_0001.jpg"] == "its name says D02, the folder above it D01"
    assert found["D01_img_orig_0001.jpg"].startswith("another copy of ")


def test_vision_skips_flat_frames_videos_and_other_versions(tmp_path):
    table = datasets.load_vision(plant(tmp_path, VISION))
    assert table["device"].to_list() == ["VISION_D01", "VISION_D26", "VISION_D32"] and table["scene"].isna().all()
    assert table["camera_model"].to_list() == ["Samsung_GalaxyS3Mini"] * 2 + ["OnePlus_A3003"]
    assert table.attrs["skipped"] == {"flat": 2, "natFBH": 1, "natWA": 1, "video": 2}
    table = datasets.load_vision(plant(tmp_path, ["D01_Samsung_GalaxyS3Mini/images/natFBH/D01_I_natFBH_0001 (1).jpg"]))
    assert reasons(table) == {"D01_I_natFBH_0001 (1).jpg": "its name is not like D01_I_nat_0001.jpg"}


@pytest.mark.parametrize("load", LOADERS)
def test_folders_without_photos_are_errors_that_show_the_layout(tmp_path, load):
    with pytest.raises(FileNotFoundError, match="(?s)there is no folder.*ROOT/"):
        load(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="(?s)it holds nothing.*ROOT/"):
        load(tmp_path / "empty")
    with pytest.raises(NotADirectoryError, match="(?s)ROOT/"):
        load(plant(tmp_path, {"file": b"x"}) / "file")
    plant(tmp_path / "other", {"a.png": b"x", "b.png": b"x", "DSC_1.JPG": jpeg()})
    with pytest.raises(FileNotFoundError, match="(?s)2 .png.*ROOT/.*DSC_1.JPG: "):
        load(tmp_path / "other")


def test_width_and_height_are_those_of_the_pixels_as_stored_and_at_least_48(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to show"
    exif[0x9286] = b"x" * 60_000
    whole = jpeg((80, 60))
    files = {"Nikon_D70_0_1.JPG": jpeg((80, 60), exif=exif), "Nikon_D70_0_2.JPG": jpeg((60, 80), mode="L")}
    for number, count in ((3, 2), (4, 20)):  # the header lies behind long segments
        segments = (b"\xff\xe2" + (60_002).to_bytes(2, "big") + b"x" * 60_000) * count
        files[f"Nikon_D70_0_{number}.JPG"] = whole[:2] + segments + whole[2:]
    files |= {"Nikon_D70_0_5.JPG": jpeg((64, 47)), "Nikon_D70_0_6.JPG": jpeg((64, 48))}
    table = datasets.load_dresden(plant(tmp_path, files))
    assert [*zip(table["width"], table["height"], strict=True)] == [(80, 60), (60, 80), (80, 60), (80, 60), (64, 48)]
    assert "64 x 47 pixels are too few" in reasons(table)["Nikon_D70_0_5.JPG"]


def test_copies_of_a_photo_count_once(tmp_path):
    names = ["a/Nikon_D70_0_1.JPG", "b/nikon_d70_0_1.jpg", "c/Nikon_D70_0_1.JPG"]
    table = datasets.load_dresden(plant(tmp_path, dict(zip(names, (b"", jpeg(), jpeg()), strict=True))))
    (path,) = table["path"]
    assert path == str(tmp_path / names[1])
    assert [*catalogues.left_out(table)["reason"]] == ["not a JPEG: the file is empty", f"another copy of {names[1]}"]


def test_a_photo_that_cannot_be_opened_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogues, "jpeg_header", MagicMock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(FileNotFoundError, match=r"Nikon_D70_0_1\.JPG: it cannot be opened: Permission denied"):
        datasets.load_dresden(plant(tmp_path, ["Nikon_D70_0_1.JPG"]))


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes Unicode names only")
def test_a_name_that_is_not_unicode_is_left_out(tmp_path):
    table = datasets.load_dresden(plant(tmp_path, ["Nikon_D70_0_1.JPG", os.fsdecode(b"Nikon_\xe9_0_1.JPG")]))
    assert list(reasons(table).values()) == ["its name is not valid Unicode"]
    catalogues.left_out(table).to_parquet(tmp_path / "left_out.parquet")
    for root in (tmp_path / os.fsdecode(b"\xe9"), plant(tmp_path / "x", [os.fsdecode(b"1.\xe9")])):
        with pytest.raises(FileNotFoundError, match="\ufffd") as error:
            datasets.load_dresden(root)
        assert str(error.value).encode()  # can be printed


def test_the_fingerprint_changes_with_the_photos_and_not_with_their_order_or_place(tmp_path):
    names = ["a/X_Y_0_1.JPG", "b/X_Y_0_2.JPG"]
    here, there = (datasets.load_dresden(plant(tmp_path / place, names)) for place in ("here", "there"))
    os.utime(there["path"][0], ns=(1, 1))
    first = catalogues.fingerprint(here)
    assert catalogues.fingerprint(here[::-1]) == first != catalogues.fingerprint(there)
    assert catalogues.fingerprint(here, with_mtime=False) == catalogues.fingerprint(there, with_mtime=False)
    for column in ("scene", "collection"):
        assert catalogues.fingerprint(here.assign(**{column: "1-1"})) != first
    plant(tmp_path / "there", {"a/X_Y_0_1.JPG": jpeg() + b"x"})
    assert catalogues.fingerprint(here, with_mtime=False) != catalogues.fingerprint(there, with_mtime=False)
    os.remove(here["path"][0])
    assert catalogues.fingerprint(here) != first


@pytest.mark.parametrize("name", published.TABLES)
def test_every_table_is_read_without_blanks_at_the_ends_of_its_cells(name):
    texts = published.read(name).select_dtypes(exclude="number").melt()["value"].dropna().astype(str)
    assert len(published.read(name)) > 0 and (texts == texts.str.strip()).all()
