"""Forchheim and VISION: file names decide, versions are kept apart, and phones are known under any spelling."""

import io
import os

import pandas as pd
import pytest
from PIL import Image

from camid_utils import corpora, datasets


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 48)).save(data, "JPEG")
    return data.getvalue()


def plant(root, names, data: bytes):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def reasons(catalogue: pd.DataFrame) -> dict[str, str]:
    return {os.path.basename(path): reason for path, reason in datasets.left_out(catalogue).to_numpy()}


FORCHHEIM = [
    "D01_Motorola_E3_1/orig/D01_img_orig_0001.jpg",
    "D01_Motorola_E3_1/orig/D01_img_orig_0143.jpg",
    "D15_Samsung_GalaxyA6_1/orig/D15_img_orig_0001.jpg",
    "mirror/D16_Samsung_GalaxyA6_2/D16_img_orig_0001.JPG",  # a mirror without the folders of the versions
    "D17_Samsung_Galaxy_A6/orig/d17_img_ORIG_0002.jpeg",
    "D18_Nokia_5/orig/D18_img_orig_0002.jpg",
]
COPIES = [f"D01_Motorola_E3_1/{v}/D01_img_{v}_0001.jpg" for v in corpora.FORCHHEIM_VERSIONS[1:]]


def test_forchheim_device_model_and_scene(tmp_path, jpeg):
    table = corpora.load_forchheim(plant(tmp_path, FORCHHEIM + COPIES, jpeg))
    assert list(table.columns) == datasets.COLUMNS and set(table["dataset"]) == {"Forchheim"}
    found = table.set_index(table["path"].map(os.path.basename))[["camera_model", "device", "scene"]]
    assert found.T.to_dict("list") == {
        "D01_img_orig_0001.jpg": ["Motorola_E3", "Forchheim_D01", "0001"],
        "D01_img_orig_0143.jpg": ["Motorola_E3", "Forchheim_D01", "0143"],
        "D15_img_orig_0001.jpg": ["Samsung_GalaxyA6", "Forchheim_D15", "0001"],
        "D16_img_orig_0001.JPG": ["Samsung_GalaxyA6", "Forchheim_D16", "0001"],
        "d17_img_ORIG_0002.jpeg": ["Samsung_Galaxy_A6", "Forchheim_D17", "0002"],
        "D18_img_orig_0002.jpg": ["Nokia_5", "Forchheim_D18", "0002"],
    }
    assert set(table["brand"]) == {"Motorola", "Samsung", "Nokia"}
    assert table.attrs["skipped"] == dict.fromkeys(sorted(corpora.FORCHHEIM_VERSIONS[1:]), 1)


@pytest.mark.parametrize("version", corpora.FORCHHEIM_VERSIONS[1:])
def test_forchheim_versions_are_told_by_the_file_name(tmp_path, jpeg, version):
    misplaced = "D15_Samsung_GalaxyA6_1/orig/D15_img_whatsapp_0009.jpg"
    table = corpora.load_forchheim(plant(tmp_path, [*FORCHHEIM, *COPIES, misplaced], jpeg), version)
    assert table["path"].str.contains(f"_img_{version}_").all()
    assert len(table) == (2 if version == "whatsapp" else 1)
    assert table.attrs["skipped"]["orig"] == len(FORCHHEIM)


def test_an_unknown_version_in_a_name_is_counted_and_one_asked_for_is_an_error(tmp_path, jpeg):
    root = plant(tmp_path, [*FORCHHEIM, "D01_Motorola_E3_1/myspace/D01_img_myspace_0001.jpg"], jpeg)
    assert corpora.load_forchheim(root).attrs["skipped"] == {"myspace": 1}
    with pytest.raises(ValueError, match="Forchheim has no version 'myspace': choose one of orig, facebook"):
        corpora.load_forchheim(root, "myspace")


def test_photos_that_cannot_be_placed_are_left_out_with_the_reason(tmp_path, jpeg):
    bad = ["D01_Motorola_E3_1/orig/IMG_1.jpg", "pictures/D09_img_orig_0001.jpg"]
    bad += ["D01_Motorola_E3_1/orig/D02_img_orig_0001.jpg", "copy/D01_Motorola_E3_1/D01_img_orig_0001.jpg"]
    table = corpora.load_forchheim(plant(tmp_path, FORCHHEIM + bad, jpeg))
    assert len(table) == len(FORCHHEIM)
    found = reasons(table)
    assert found["IMG_1.jpg"] == "its name is not like D01_img_orig_0001.jpg"
    assert found["D09_img_orig_0001.jpg"] == "no folder above it names the phone as D01_<Brand>_<Model>"
    assert found["D02_img_orig_0001.jpg"] == "its name says D02, the folder above it D01"
    assert found["D01_img_orig_0001.jpg"].startswith("another copy of ")


VISION = [
    "D01_Samsung_GalaxyS3Mini/images/nat/D01_I_nat_0001.jpg",
    "D26_Samsung_GalaxyS3Mini/images/nat/D26_I_nat_0001.jpg",
    "D32_OnePlus_A3003/images/nat/D32_I_nat_0100.JPG",
]
BESIDE = [
    "D01_Samsung_GalaxyS3Mini/images/natFBH/D01_I_natFBH_0001.jpg",
    "D01_Samsung_GalaxyS3Mini/images/natWA/D01_I_natWA_0001.jpg",
    "D01_Samsung_GalaxyS3Mini/images/flat/D01_I_flat_0001.jpg",
    "D01_Samsung_GalaxyS3Mini/images/flatFBH/D01_I_flatFBH_0001.jpg",
    "D01_Samsung_GalaxyS3Mini/videos/flat/D01_V_flat_panrot_0001.mp4",
    "D01_Samsung_GalaxyS3Mini/videos/nat/D01_V_indoor_move_0001.MOV",
]


def test_vision_without_scenes_flat_frames_and_videos(tmp_path, jpeg):
    table = corpora.load_vision(plant(tmp_path, VISION + BESIDE, jpeg))
    assert table["device"].to_list() == ["VISION_D01", "VISION_D26", "VISION_D32"]
    assert table["camera_model"].to_list() == ["Samsung_GalaxyS3Mini"] * 2 + ["OnePlus_A3003"]
    assert table["scene"].isna().all()
    assert table.attrs["skipped"] == {"flat": 2, "natFBH": 1, "natWA": 1, "video": 2}


def test_vision_versions_in_any_case_and_odd_copies(tmp_path, jpeg):
    odd = "D01_Samsung_GalaxyS3Mini/images/natFBH/D01_I_natFBH_0001 (1).jpg"
    table = corpora.load_vision(plant(tmp_path, [*VISION, *BESIDE, odd], jpeg), "natFBH")
    assert table["path"].map(os.path.basename).to_list() == ["D01_I_natFBH_0001.jpg"]
    assert reasons(table) == {"D01_I_natFBH_0001 (1).jpg": "its name is not like D01_I_natFBH_0001.jpg"}


@pytest.mark.parametrize("load", [corpora.load_forchheim, corpora.load_vision])
def test_a_root_without_such_photos_shows_the_layout(tmp_path, jpeg, load):
    with pytest.raises(FileNotFoundError, match="there is no folder.*Expected"):
        load(tmp_path / "nowhere")
    plant(tmp_path, ["Apple_iPhone12/D01_L1S1C1.jpg"], jpeg)
    with pytest.raises(FileNotFoundError, match=r"(?s)Expected:.*0001\.jpg.*Left out"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Samsung_GalaxyS3Mini", "Samsung_Galaxy_S3_mini"),
        ("Huawei_P9Lite", "Huawei_P9lite"),
        ("Samsung_GalaxyS10+", "Samsung_Galaxy S10 Plus"),
    ],
)
def test_one_phone_spelled_in_two_ways(one, other):
    assert corpora.spelling(one) == corpora.spelling(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Samsung_GalaxyS10", "Samsung_GalaxyS10+"),
        ("Huawei_P9", "Huawei_P9Lite"),
        ("Apple_iPhone6", "Apple_iPhone6Plus"),
    ],
)
def test_two_phones_stay_two(one, other):
    assert corpora.spelling(one) != corpora.spelling(other)


def catalogue(models: dict[str, list[str]]) -> pd.DataFrame:
    """Two photos by each device: camera model -> devices."""
    rows = [[f"/{d}_{i}.jpg", m.split("_")[0], m, d, "1"] for m, ds in models.items() for d in ds for i in range(2)]
    return pd.DataFrame(rows, columns=["path", "brand", "camera_model", "device", "scene"]).astype("string")


FLOREVIEW = {"Huawei_P9Lite": ["D1"], "Samsung_GalaxyS10+": ["D2", "D3"], "LG_G4c": ["D4"]}
OTHER = {"HUAWEI_P9_lite": ["F1", "F2"], "Huawei_P9": ["F3"], "Samsung_Galaxy_S10_Plus": ["F4"]}


def test_common_models_and_their_photos_under_the_others_names():
    other = catalogue(OTHER)
    common = corpora.common_models(catalogue(FLOREVIEW), other)
    assert common.to_dict("list") == {
        "camera_model": ["Huawei_P9Lite", "Samsung_GalaxyS10+"],
        "photos": [2, 4],
        "devices": [1, 2],
        "other": ["HUAWEI_P9_lite", "Samsung_Galaxy_S10_Plus"],
        "other_photos": [4, 2],
        "other_devices": [2, 1],
    }
    photos = corpora.in_common(other, common)
    assert photos["camera_model"].to_list() == ["Huawei_P9Lite"] * 4 + ["Samsung_GalaxyS10+"] * 2
    assert photos["brand"].to_list() == ["Huawei"] * 4 + ["Samsung"] * 2
    assert set(photos["device"]) == {"F1", "F2", "F4"}
    pd.testing.assert_frame_equal(other, catalogue(OTHER))
    assert (photos.dtypes == other.dtypes).all()


def test_no_common_model_is_an_empty_table():
    common = corpora.common_models(catalogue({"LG_G4c": ["D4"]}), catalogue(OTHER))
    assert len(common) == 0 and corpora.in_common(catalogue(OTHER), common).empty


def test_one_model_under_two_names_is_an_error():
    with pytest.raises(ValueError, match="several names: Huawei_P9Lite, Huawei_P9_lite"):
        corpora.common_models(catalogue(FLOREVIEW | {"Huawei_P9_lite": ["D9"]}), catalogue(OTHER))


def test_devices_of_joined_catalogues_stay_apart(tmp_path, jpeg):
    one = corpora.load_forchheim(plant(tmp_path / "f", FORCHHEIM[:1], jpeg))
    two = corpora.load_vision(plant(tmp_path / "v", VISION[:1], jpeg))
    three = datasets.load_floreview(plant(tmp_path / "p", ["D01_LG_G4c/Nat/jpeg/L1/S1/D01_L1S1C1.jpg"], jpeg))
    assert pd.concat([one, two, three])["device"].nunique() == 3
