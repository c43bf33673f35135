import pytest

from camid_utils import published


@pytest.mark.parametrize("name", published.TABLES)
def test_every_table_is_read_without_blanks_at_the_ends_of_its_cells(name):
    table = published.read(name)
    assert len(table) > 0
    for column in table.select_dtypes(exclude="number"):
        texts = table[column].dropna()
        assert (texts == texts.str.strip()).all()


def test_unknown_table_names_the_known_ones():
    with pytest.raises(ValueError, match="table2"):
        published.read("table3")


def test_table_2_joins_two_epochs_of_the_log():
    log = published.read("dresden_log").set_index("epoch")
    row = published.read("table2").iloc[0]
    assert log["val_accuracy"].sub(row["val_accuracy"]).abs().idxmin() == 100
    assert log["val_loss"].sub(row["val_loss"]).abs().idxmin() == 71
    assert log["val_loss"].idxmin() == 71
    assert log["val_accuracy"].idxmax() == 117
    assert len(log) == 16


def test_counts_add_up_to_the_published_totals():
    dresden = published.read("dresden_models")
    assert (len(dresden), dresden["devices"].sum(), dresden["photos"].sum()) == (27, 74, 16961)
    phones = published.read("floreview_models")
    assert len(phones) == 40
    assert phones["camera_model"].is_unique
    assert phones["camera_model"].str.split("_").str[0].nunique() == 10


def test_compare_says_what_differs():
    counts = published.read("dresden_models").set_index("camera_model")
    counts.loc["Nikon_D70", "photos"] -= 1
    counts.loc["Kodak_M1063"] -= [2, 300]
    counts.loc["Sony_DSC-T77", "photos"] += 2
    counts.loc["Acme_One"] = [1, 10]
    table = published.compare(counts.drop("Ricoh_GX100"), "Dresden").set_index("camera_model")
    assert table["status"][table["status"] != "as published"].to_dict() == {
        "Acme_One": "extra",
        "Kodak_M1063": "2 devices fewer, 300 photos fewer",
        "Nikon_D70": "1 photo fewer",
        "Ricoh_GX100": "missing",
        "Sony_DSC-T77": "2 photos more",
    }
    assert table.loc["Nikon_D70", ["photos", "published_photos"]].tolist() == [368, 369]


def test_compare_without_published_counts_is_empty():
    counts = published.read("dresden_models").set_index("camera_model")
    table = published.compare(counts, "simulated Dresden")
    assert len(table) == 0
    assert "status" in table
