"""The published tables, and how a catalogue compares with them."""

import pandas as pd
import pytest

from camid_utils import datasets, published


@pytest.mark.parametrize("name", published.TABLES)
def test_every_table_is_read_without_blanks_at_the_ends_of_its_cells(name):
    texts = published.read(name).select_dtypes(exclude="number").melt()["value"].dropna().astype(str)
    assert len(published.read(name)) > 0 and (texts == texts.str.strip()).all()


def test_a_catalogue_is_compared_with_the_published_counts_in_words():
    counts = published.read("dresden_models").set_index("camera_model").drop("Ricoh_GX100")
    counts.loc["Nikon_D70", "photos"] -= 1
    counts.loc["Kodak_M1063"] -= [2, 300]
    counts.loc["Sony_DSC-T77", "photos"] += 2
    counts.loc["Acme_One"] = [1, 10]
    photos = counts.loc[counts.index.repeat(counts["photos"])].reset_index()
    device = photos.groupby("camera_model").cumcount() % photos["devices"]
    photos = photos.assign(device=photos["camera_model"] + device.astype(str), scene=pd.NA, path="", dataset="Dresden")
    table = datasets.compare_with_published(photos).set_index("camera_model")
    assert table["status"][table["status"] != "as published"].to_dict() == {
        "Acme_One": "extra",
        "Kodak_M1063": "2 devices fewer, 300 photos fewer",
        "Nikon_D70": "1 photo fewer",
        "Ricoh_GX100": "missing",
        "Sony_DSC-T77": "2 photos more",
    }
    assert table.loc["Nikon_D70", ["photos", "published_photos"]].tolist() == [368, 369]
