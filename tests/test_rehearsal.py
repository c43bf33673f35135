"""The stand-ins for a rehearsal have the real data sets' numbers, and are read by the real data sets' loaders."""

import pandas as pd
import pytest

from camid_utils import datasets, published, rehearsal


def test_dresden_has_its_published_numbers():
    photos = rehearsal.dresden_photos()
    assert len(photos) == 16_961 and photos["path"].is_unique and photos["scene"].nunique() == 83
    counts = photos.groupby("camera_model")["path"].size()
    assert counts.equals(
        published.read("dresden_models").set_index("camera_model")["photos"].sort_index().rename("path")
    )
    assert len(photos[["camera_model", "device"]].drop_duplicates()) == 74
    assert all(datasets.DRESDEN_NAME.fullmatch(path.split("/")[1]) for path in photos["path"])


def test_floreview_has_its_published_numbers():
    photos = rehearsal.floreview_photos()
    counts = published.read("floreview_models").set_index("camera_model")["photos"]
    assert len(photos) == 6637 and photos["path"].is_unique
    raised = photos["camera_model"].value_counts() / counts
    assert ((raised > 1.03) & (raised < 1.1)).all()  # 6,637 for 6,265
    assert photos["camera_model"].nunique() == 40
    assert photos["path"].str.split("_").str[0].nunique() == 46
    assert all(datasets.FLOREVIEW_NAME.fullmatch(path.split("/")[-1]) for path in photos["path"])


def test_every_device_is_a_camera_of_its_own():
    photos = rehearsal.with_cameras(rehearsal.dresden_photos(), "Dresden", seed=0)
    assert len(photos) == 16_961 and photos["shot"].is_unique
    own = photos.groupby(["camera_model", "device"])[["wb_red", "wb_blue"]].first()
    assert len(own.drop_duplicates()) == 74
    demosaicing = photos.groupby("camera_model")["demosaic"].nunique()
    assert (demosaicing == 1).all()


@pytest.fixture
def listing() -> pd.DataFrame:
    rows = [("Nikon", "D70", device, f"{device}{scene}", "1", str(scene)) for device in ("0", "1") for scene in (1, 2)]
    table = pd.DataFrame(rows, columns=["brand", "model", "instance", "shot", "position_num", "motive_num"])
    names = table["brand"] + "_" + table["model"] + "_" + table["instance"] + "_" + table["shot"] + ".JPG"
    return table.assign(filename=names)


def test_a_listings_photos_are_written_and_read_as_the_real_ones(listing, tmp_path):
    root = rehearsal.make(tmp_path / "Dresden", "Dresden", listing, workers=1)
    catalogue = datasets.load_dresden(root)
    assert sorted(catalogue["path"].str.split("/").str[-1]) == sorted(listing["filename"])
    assert set(catalogue["dataset"]) == {"simulated Dresden"} and set(catalogue["camera_model"]) == {"Nikon_D70"}
    assert set(catalogue["device"]) == {"Nikon_D70_0", "Nikon_D70_1"} and set(catalogue["scene"]) == {"1-1", "1-2"}
    assert catalogue[["width", "height"]].min(axis=None) >= 48
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.JPG")}
    rehearsal.make(tmp_path / "Dresden", "Dresden", listing, workers=1)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*.JPG")}


def test_a_listing_that_cannot_be_read_is_an_error(tmp_path, capsys):
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    assert rehearsal.main(["--to", str(tmp_path), "--listing", str(tmp_path / "bad.csv")]) == 2
    assert "filename" in capsys.readouterr().err
