"""Planted faults in a folder of photos, and none where there are none."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from camid_utils import checking, download
from camid_utils.published import read

DIGITS = {"D70": "NIKON D70", "D70s": "NIKON D70s", "D200": "NIKON D200"}


def shoot(path, seed: int, make: str = "", model: str = "", quality: int = 90):
    """A noisy photo of 96 x 80 pixels with a make, a model, a place and a serial number in its EXIF data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = make, model
    exif[0x8825] = {1: "N", 2: (7.0, 7.0, 7.0)}
    exif[0xA431] = "SERIAL-12345"
    pixels = np.random.default_rng(seed).integers(0, 255, (80, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG", exif=exif, quality=quality)


@pytest.fixture
def dresden(tmp_path):
    """Three camera models with four photos each, all as they should be."""
    for m, (name, model) in enumerate(DIGITS.items()):
        for shot in range(4):
            shoot(tmp_path / name / f"Nikon_{name}_0_{100 * m + shot}.JPG", 10 * m + shot, "NIKON CORPORATION", model)
    return tmp_path


def found(folder) -> dict[str, pd.DataFrame]:
    """The findings but for those about what is missing: the folder holds a tiny part of the data set."""
    tables = checking.findings(checking.load(folder), folder)
    return {name: table for name, table in tables.items() if name not in ("counts", "absent", "photos")}


def test_nothing_is_found_where_nothing_is_wrong(dresden):
    assert found(dresden) == {}


def test_the_same_pixels_under_two_names_are_found(dresden):
    shoot(dresden / "D200" / "Nikon_D200_1_900.JPG", 21, "NIKON CORPORATION", "NIKON D200")  # as Nikon_D200_0_201
    shoot(dresden / "D200" / "Nikon_D200_1_901.JPG", 22, "NIKON CORPORATION", "NIKON D200", quality=89)  # not the same
    (double,) = found(dresden)["double"].to_dict("records")
    assert double == {"path": "D200/Nikon_D200_1_900.JPG", "same_as": "D200/Nikon_D200_0_201.JPG"}


def test_photos_alike_at_an_eighth_are_not_taken_for_double(tmp_path):
    for shot, value in enumerate((0, 1)):  # one pixel of 64 differs by one level: the mean of its block stays
        pixels = np.full((80, 96), 128, np.uint8)
        pixels[40:48, 40:48] += (np.indices((8, 8)).sum(0) % 2 * 6 * value - 3 * value).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"Nikon_D70_0_{shot}.JPG", quality=100, subsampling=0)
    small = [checking._small_digest(str(path)) for path in sorted(tmp_path.iterdir())]
    assert small[0] == small[1]
    assert checking.same_pixels(checking.load(tmp_path))[0].empty


def test_a_photo_that_cannot_be_decoded_is_found(dresden):
    path = dresden / "D70" / "Nikon_D70_0_1.JPG"
    path.write_bytes(path.read_bytes()[:-900])
    (broken,) = found(dresden)["broken"].to_dict("records")
    assert broken["path"] == "D70/Nikon_D70_0_1.JPG" and "truncated" in broken["reason"]


def test_a_photo_of_another_camera_is_found(dresden):
    shoot(dresden / "D70" / "Nikon_D70_0_800.JPG", 80, "NIKON CORPORATION", "NIKON D70s")
    shoot(dresden / "D70" / "Nikon_D70_0_801.JPG", 81, "Canon", "Canon PowerShot A640")
    shoot(dresden / "D70" / "Nikon_D70_0_802.JPG", 82, "Canon", "Canon EOS 5D")
    table = found(dresden)["exif"].set_index("path")
    assert table["says"].to_dict() == {
        "D70/Nikon_D70_0_800.JPG": "Nikon_D70s",
        "D70/Nikon_D70_0_801.JPG": "Canon_PowerShotA640",
        "D70/Nikon_D70_0_802.JPG": "Canon",
    }


def verdicts(*rows: tuple[str, str]) -> list[tuple[str, str]]:
    """(named, says) of the photos whose EXIF text is found wanting; each row stands for three photos."""
    photos = pd.DataFrame([row for row in rows for _ in range(3)], columns=["camera_model", "exif"])
    table = checking.other_cameras(photos.assign(path=[f"{i}.jpg" for i in range(len(photos))]))
    return sorted(set(zip(table["named"], table["says"], strict=True)))


def test_the_ways_in_which_cameras_write_their_names_raise_no_alarm():
    rows = [
        ("Kodak_M1063", "EASTMAN KODAK COMPANY, KODAK EASYSHARE M1063 DIGITAL CAMERA"),
        ("Agfa_DC-504", "Camera"),
        ("Agfa_DC-733s", "Camera"),
        ("Canon_Ixus70", "Canon, Canon DIGITAL IXUS 70"),
        ("Nikon_D200", ""),
        ("Nikon_D200", "NIKON CORPORATION, NIKON D700"),
        ("Nikon_D70", "NIKON CORPORATION, NIKON D700"),
        ("Olympus_mju-1050SW", "OLYMPUS IMAGING CORP., u1050SW,S1050SW"),
        ("Pentax_OptioA40", "PENTAX Corporation, PENTAX Optio A40"),
        ("Praktica_DCZ5.9", "JENOPTIK, DCZ 5.9"),
        ("Samsung_GalaxyS10", "samsung, SM-G973F"),
        ("Samsung_GalaxyS10+", "samsung, SM-G975F"),
        ("Huawei_P30Lite", "HUAWEI, MAR-LX1A"),
        ("LG_G4c", "LGE, LG-H525n"),
        ("OnePlus_6T", "OnePlus, ONEPLUS A6013"),
        ("Apple_iPhone12", "Apple, iPhone 12"),
        ("Google_Pixel5", "Google, Pixel 5"),
        ("Xiaomi_RedmiNote8T", "Xiaomi, Redmi Note 8T"),
        ("Motorola_MotoG5", "motorola, Moto G (5)"),
        ("Motorola_MotoG5SPlus", "motorola, Moto G (5S) Plus"),
    ]
    assert verdicts(*rows) == []


def test_a_factory_code_counts_where_it_is_another_model_s():
    codes = [("Samsung_GalaxyS10", "samsung, SM-G973F")] * 3 + [("Samsung_GalaxyA12", "samsung, SM-A125F")] * 3
    assert verdicts(*codes) == []
    assert verdicts(*codes, ("Samsung_GalaxyS10", "samsung, SM-A125F")) == [("Samsung_GalaxyS10", "Samsung_GalaxyA12")]
    assert verdicts(*codes, ("Samsung_GalaxyS10", "samsung, SM-XXXXX")) == []


def test_every_published_model_is_itself_by_its_own_name():
    models = [model for table in ("dresden_models", "floreview_models") for model in read(table)["camera_model"]]
    assert verdicts(*[(model, model.replace("_", ", ")) for model in models]) == []
    assert verdicts(*[(model, model.replace("_", ", ").upper()) for model in models]) == []


def test_counts_and_listing_are_compared(dresden, capsys):
    (dresden / "dresden.csv").write_text(
        "filename,position_num,motive_num\nNikon_D70_0_0.JPG,1,1\nNikon_D70_0_77.JPG,1,2\nSony_DSC-H50_0_1.JPG,1,2\n"
    )
    (dresden / "D70" / ".Nikon_D70_0_9.JPG.part").write_bytes(b"half")
    tables = checking.findings(checking.load(dresden), dresden)
    photos = tables["photos"].set_index("photo")["status"]
    assert photos["Nikon_D70_0_77.JPG"] == "missing" and photos["Nikon_D70s_0_100.JPG"] == "not listed"
    assert "Sony_DSC-H50_0_1.JPG" not in photos.index and "Sony_DSC-H50" in set(tables["absent"]["camera_model"])
    assert "365 photos fewer" in tables["counts"].set_index("camera_model")["status"]["Nikon_D70"]
    assert tables["unfinished"]["path"].tolist() == ["D70/.Nikon_D70_0_9.JPG.part"]
    assert download.main(["check", str(dresden)]) == 1
    shown = capsys.readouterr().out
    assert "Nikon_D70_0_77.JPG" in shown and "SERIAL" not in shown and "7.0" not in shown


def test_a_floreview_folder_is_known_by_its_names(tmp_path):
    for shot in range(3):
        shoot(tmp_path / "D27_DOOGEE_S96Pro" / "Nat" / f"D27_L1S{shot}C1.jpg", shot, "DOOGEE", "S96Pro")
    photos = checking.load(tmp_path)
    assert set(photos["dataset"]) == {"FloreView"}
    assert set(checking.findings(photos, tmp_path)) == {"absent", "counts"}


def test_simulated_photos_have_nothing_wrong(dresden, capsys):
    (dresden / "SIMULATED.txt").write_text("simulated")  # nothing was published about them
    assert download.main(["check", str(dresden)]) == 0
    assert "nothing wrong" in capsys.readouterr().out


def test_a_folder_without_photos_is_an_error(tmp_path, capsys):
    assert download.main(["check", str(tmp_path)]) == 2
    assert download.main(["check", str(tmp_path / "none")]) == 2
    shown = capsys.readouterr().err
    assert "Dresden" in shown and "FloreView" in shown


DIRECTORY = b"\xff\xe1\x00\x10Exif\x00\x00II*\x00\xff\xff\xff\xff"  # of tags, said to lie far behind the end


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("rest", [b"", b"\xff\xe1", DIRECTORY])
def test_damaged_exif_names_no_camera(tmp_path, rest):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8" + rest)
    assert checking.camera_text(str(tmp_path / "a.jpg")) == ""


def test_a_make_is_shown_without_what_a_terminal_would_obey(tmp_path):
    shoot(tmp_path / "a.jpg", 0, "EVIL\x1b[2J", "x" * 500)
    assert checking.camera_text(str(tmp_path / "a.jpg")) == "EVIL [2J, " + "x" * 60
