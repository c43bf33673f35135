"""Another corpus: planted answers come out as accuracies, differences and sentences that turn with them."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from camid_utils import corpora, cross_corpus, evaluation, report
from camid_utils.evaluation import LOG_PROB, METRIC_COLUMNS
from camid_utils.models import Model

NAMES = ["A_1", "A_2", "B_1", "B_2"]


def predictions(answers: list[tuple[str, str]], dataset: str, second: str = "B_2", crops: int = 2) -> pd.DataFrame:
    """A photo for each (true, answer), of some crops: the answer has 70 %, `second` 20 % if it is another class."""
    rows = []
    for i, (true, answer) in enumerate(answers):
        p = dict.fromkeys(NAMES, 0.05)
        p[second] = 0.2
        p[answer] = 0.7
        logs = {LOG_PROB + name: np.log(p[name] / sum(p.values())) for name in NAMES}
        ids = dict(dataset=dataset, camera_model=true, device=f"{dataset} {true}", scene=f"{i}", photo=f"{i:03d}.jpg")
        rows += [ids | dict(y=0, x=x, true=true, part="test", seed=0) | logs for x in range(crops)]
    return pd.DataFrame(rows)


OWN = predictions([(name, name) for name in NAMES for _ in range(10)], "simulated FloreView")
# in the other corpus half the photos of A_1 and A_2 are taken for B_1, where the model's second thought is the truth
WRONG = [("A_1", "A_1"), ("A_2", "A_2")] * 10 + [("A_1", "B_1")] * 20
OTHER = predictions(WRONG, "simulated Forchheim", second="A_1")


def test_all_classes_or_only_the_common_ones():
    everything = cross_corpus.among(OTHER, ["A_1", "A_2"])
    assert evaluation.class_names(everything) == NAMES and len(everything) == 80
    fewer = cross_corpus.among(OTHER, ["A_1", "A_2"], "common")
    assert evaluation.class_names(fewer) == ["A_1", "A_2"]
    assert np.allclose(np.exp(evaluation.log_probabilities(fewer)).sum(axis=1), 1)
    accuracies = [report.photo_accuracy(table)["value"].item() for table in (everything, fewer)]
    assert accuracies == [0.5, 1.0]
    assert set(cross_corpus.among(OWN, ["A_1", "B_2"])["true"]) == {"A_1", "B_2"}


def test_choices_that_mean_something():
    assert cross_corpus.choices(OWN, ["A_1", "A_2"]) == ["all", "common"]
    assert cross_corpus.choices(OWN, ["A_1"]) == ["all"]
    assert cross_corpus.choices(OWN, NAMES) == ["all"]


@pytest.fixture(scope="module")
def compared() -> tuple[pd.DataFrame, pd.DataFrame]:
    return cross_corpus.compare(OWN, OTHER, ["A_1", "A_2"], "forchheim", "scene+device", seed=0)


def test_comparison_finds_what_was_planted(compared):
    metrics, contrasts = compared
    assert list(metrics.columns) == METRIC_COLUMNS
    assert not metrics.duplicated(["experiment", "dataset", "protocol", "part", "level", "metric"]).any()
    photo = metrics.query("metric == 'accuracy' and level == 'photo'").set_index(["experiment", "dataset"])
    assert photo["value"].to_dict() == {
        ("forchheim-all", "simulated Forchheim"): 0.5,
        ("forchheim-all", "simulated FloreView"): 1.0,
        ("forchheim-common", "simulated Forchheim"): 1.0,
        ("forchheim-common", "simulated FloreView"): 1.0,
    }
    assert photo["photos"].to_list() == [40, 20, 40, 20] and photo["classes"].to_list() == [4, 4, 2, 2]
    assert list(contrasts.columns) == [*report.CONTRAST_COLUMNS, "models", "devices"]
    first, second = contrasts.to_dict("records")
    assert first["difference"] == -0.5 and -0.75 < first["low"] < -0.5 < first["high"] < -0.25
    assert second["difference"] == second["low"] == second["high"] == 0
    assert (first["models"], first["devices"], first["photos"], first["photos_b"]) == (2, 2, 40, 20)


def test_rows_of_the_figure_ask_two_questions_of_two_data_sets(compared):
    rows = cross_corpus.accuracy_rows(compared[0])
    label = "simulated Forchheim, {} classes to choose from\n40 photos, 20 of its own"
    assert rows["label"].to_list() == [label.format(n) for n in (4, 4, 2, 2)]
    assert rows["group"].to_list() == ["other corpus", "test photos of its own corpus"] * 2


def test_conclusions_turn_with_the_figures(compared):
    metrics, contrasts = compared
    worse, undecided, limits, simulated = cross_corpus.conclusions(metrics, contrasts)
    assert worse.startswith(
        "simulated Forchheim, phone models in common (2), all the model's classes to choose from: 50.0 %"
    )
    assert "of 40 photos; simulated FloreView, its own test photos of the same models: 100.0 %" in worse
    assert "Difference -50.0 points" in worse and worse.endswith(": worse there.")
    assert "only the classes in common" in undecided and undecided.endswith(": not decided.")
    assert limits.endswith("Phones tested: simulated Forchheim 2 (of 2 models).")
    assert simulated.startswith("Simulated corpora")
    turned = cross_corpus.compare(OTHER, OWN, ["A_1", "A_2"], "forchheim", "scene+device", seed=0)
    assert cross_corpus.conclusions(*turned)[0].endswith(": better there.")


# versions of the same photos


def version(answers: list[tuple[str, str]], name: str) -> pd.DataFrame:
    table = predictions(answers, "Forchheim")
    return table.assign(photo=f"{name}/" + table["photo"])


RIGHT = [("A_1", "A_1"), ("A_2", "A_2")] * 20
HALF = [(true, true if i < 20 else "B_1") for i, (true, _) in enumerate(RIGHT)]
VERSIONS = {
    ("best", "orig"): version(RIGHT, "orig"),
    ("best", "whatsapp"): version(HALF, "whatsapp"),
    ("robust", "orig"): version(RIGHT, "orig"),
    ("robust", "whatsapp"): version(RIGHT, "whatsapp"),
}


def test_the_same_photos_have_one_name_and_those_missing_somewhere_go():
    fewer = VERSIONS | {("best", "whatsapp"): VERSIONS["best", "whatsapp"].query("scene != '3'")}
    same = cross_corpus.same_photos(fewer)
    photos = [set(table["photo"]) for table in same.values()]
    assert all(own == photos[0] for own in photos) and len(photos[0]) == 39
    assert "Forchheim A_2 3" not in photos[0]
    nothing = {
        ("best", "orig"): VERSIONS["best", "orig"],
        ("best", "twitter"): version(RIGHT[:0] or [("B_1", "B_1")], "t"),
    }
    with pytest.raises(ValueError, match="no photo is in all of best orig, best twitter"):
        cross_corpus.same_photos(nothing)


def test_losses_and_gains_are_paired_over_the_same_photos():
    rows = cross_corpus.version_rows(VERSIONS, seed=0).set_index(["model", "version"])
    assert rows["value"].to_list() == [1.0, 0.5, 1.0, 1.0]
    assert rows["loss"].to_list() == [0.0, -0.5, 0.0, 0.0] and rows["gain"].to_list() == [0.0, 0.0, 0.0, 0.5]
    assert -0.7 < rows.loc[("best", "whatsapp"), "loss_low"] < rows.loc[("best", "whatsapp"), "loss_high"] < -0.3
    assert 0.3 < rows.loc[("robust", "whatsapp"), "gain_low"] < rows.loc[("robust", "whatsapp"), "gain_high"] < 0.7
    assert (rows["n"] == 40).all() and (rows["crops"] == 2).all()


def test_sentences_and_table_of_the_versions():
    rows = cross_corpus.version_rows(VERSIONS, seed=0)
    assert cross_corpus.version_conclusions(rows) == [
        "Forchheim, the same 40 photos, best, less the originals: worse: whatsapp -50.0.",
        "Forchheim, the same 40 photos, robust, less the originals: not decided: whatsapp +0.0.",
        "Forchheim, the same 40 photos, robust less best: better: whatsapp +50.0; not decided: orig +0.0.",
    ]
    table = cross_corpus.version_table(rows)
    assert table.index.to_list() == ["orig", "whatsapp"]
    assert table.loc["whatsapp", ("best", "accuracy")].startswith("0.500 (")
    assert table.loc["whatsapp", ("best", "less the original, points")].startswith("-50.0 (")


# photos on disk


class Bright(nn.Module):
    """Logits of (dark, bright) from the mean of 0..1 images."""

    def forward(self, images):
        mean = images.mean(dim=(1, 2, 3))
        return 20 * torch.stack([0.5 - mean, mean - 0.5], dim=1)


def model(seed: int, kind: str) -> Model:
    info = {"target": "camera_model", "kind": kind, "seed": seed}
    return Model(Bright(), ["X_bright", "X_dark"][::-1], 24, "0..1", info)


def plant(root, phone: str, grey: int, scenes: int, version: str = "orig", size=(80, 60)):
    folder = root / f"{phone}_1" / version
    folder.mkdir(parents=True)
    for scene in range(1, scenes + 1):
        data = io.BytesIO()
        Image.new("RGB", size, (grey,) * 3).save(data, "JPEG")
        (folder / f"{phone[:3]}_img_{version}_{scene:04d}.jpg").write_bytes(data.getvalue())
    return root


@pytest.mark.parametrize(("kind", "crops"), [("grid", 3), ("resize", 1)])
def test_every_seed_sees_a_corpus_as_it_was_trained_to(tmp_path, kind, crops):
    plant(plant(tmp_path / "photos", "D01_X_dark", 40, 2), "D02_X_bright", 220, 2)
    catalogue = corpora.load_forchheim(tmp_path / "photos")
    found = cross_corpus.tested_on([model(4, kind), model(5, kind)], catalogue, tmp_path / "patches", 3, seed=0)
    assert len(found) == 2 * 4 * crops and set(found["seed"]) == {4, 5} and set(found["part"]) == {"test"}
    assert report.photo_accuracy(found)["value"].item() == 1.0
    assert set(found["device"]) == {"Forchheim_D01", "Forchheim_D02"}


def test_overview_counts_what_is_there_beside_what_was_published(tmp_path):
    plant(plant(tmp_path, "D01_X_dark", 40, 3), "D02_X_bright", 220, 2)
    plant(tmp_path, "D03_X_dark", 40, 1, "twitter")
    catalogue = corpora.load_forchheim(tmp_path)
    assert cross_corpus.versions("forchheim", catalogue) == ["orig", "twitter"]
    row = cross_corpus.overview({"forchheim": catalogue}).loc["Forchheim"]
    assert row["photos"].to_list() == [5, 0]
    pairs = {name: row[name].to_list() for name in ("phones", "models", "scenes", "versions")}
    assert pairs == {"phones": [2, 27], "models": [2, 25], "scenes": [3, 143], "versions": [2, 6]}


def test_copies_are_of_photos_that_every_version_has(tmp_path):
    plant(plant(tmp_path, "D01_X_dark", 40, 3), "D01_X_dark", 90, 2, "twitter", size=(64, 48))
    plant(plant(tmp_path, "D02_X_bright", 220, 3), "D02_X_bright", 220, 3, "twitter")
    known = corpora.load_forchheim(tmp_path).query("camera_model == 'X_dark'")
    common = corpora.common_models(known, corpora.load_forchheim(tmp_path))
    copies = cross_corpus.copies(tmp_path, common)
    assert {version: table["scene"].to_list() for version, table in copies.items()} == {
        "orig": ["0001", "0002"],
        "twitter": ["0001", "0002"],
    }
    assert all(set(table["camera_model"]) == {"X_dark"} for table in copies.values())
    rows = cross_corpus.one_photo(copies, 50)
    found = [(caption, photo.shape[:2], crop.shape[:2]) for caption, photo, crop in rows]
    assert found == [("orig, 80 x 60", (60, 80), (50, 50)), ("twitter, 64 x 48", (48, 64), (48, 50))]
    broken = {version: table.assign(path=[__file__, *table["path"][1:]]) for version, table in copies.items()}
    assert [len(cross_corpus.one_photo(some, 50)) for some in (copies, broken)] == [2, 2]
    with pytest.raises(ValueError, match="no photo can be read in all of orig, twitter"):
        cross_corpus.one_photo({version: table.assign(path=__file__) for version, table in copies.items()}, 50)


def test_nothing_in_common_and_no_copies_are_no_versions(tmp_path):
    plant(plant(tmp_path, "D01_X_dark", 40, 1), "D01_X_dark", 90, 1, "twitter")
    table = corpora.load_forchheim(tmp_path)
    common = corpora.common_models(table, table)
    assert list(cross_corpus.copies(tmp_path, common)) == ["orig", "twitter"]
    assert cross_corpus.copies(tmp_path, common.iloc[:0]) == {}
    alone = plant(tmp_path / "alone", "D01_X_dark", 40, 1)
    assert cross_corpus.copies(alone, common) == {}


def test_a_folder_that_is_named_is_used_and_none_means_a_stand_in(tmp_path, monkeypatch):
    made = []
    monkeypatch.setitem(cross_corpus.SIMULATORS, "vision", lambda root, **settings: made.append(settings) or root)
    settings = dict(seed=3, models=2, scenes=5, width=256)
    assert cross_corpus.folder("vision", str(tmp_path), tmp_path / "data", **settings) == tmp_path and not made
    assert cross_corpus.folder("vision", "", tmp_path / "data", **settings) == tmp_path / "data/simulated-vision"
    assert made == [dict(seed=3, models=2, scenes=5, size=(256, 192))]
