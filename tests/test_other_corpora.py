"""Other corpora: planted answers come out as accuracies, differences and verdicts."""

import numpy as np
import pandas as pd
import pytest
from helpers import colour_net
from PIL import Image

from camid_utils import datasets, evaluation, experiments, intervals
from camid_utils.analyses import other_corpora
from camid_utils.evaluation import LOG_PROB
from camid_utils.models import Model

NAMES = ["A_1", "A_2", "B_1", "B_2"]


def predictions(answers: list[tuple[str, str]], dataset: str, second: str = "B_2", crops: int = 2) -> pd.DataFrame:
    """A photo of some crops for each (true, answer): the answer has 70 %, `second` 20 % if it is another class."""
    rows = []
    for i, (true, answer) in enumerate(answers):
        p = dict.fromkeys(NAMES, 0.05) | {second: 0.2} | {answer: 0.7}
        logs = {LOG_PROB + name: np.log(p[name] / sum(p.values())) for name in NAMES}
        ids = dict(dataset=dataset, camera_model=true, device=f"{dataset} {true}", scene=f"{i}", photo=f"{i:03d}.jpg")
        rows += [ids | dict(y=0, x=x, true=true, part="test", seed=0) | logs for x in range(crops)]
    return pd.DataFrame(rows)


OWN = predictions([(name, name) for name in NAMES for _ in range(10)], "simulated FloreView")
# in the other corpus half the photos are classified as B_1; the second guess is A_1, always correct among A_1 and A_2
HALF_WRONG = [("A_1", "A_1"), ("A_2", "A_2")] * 10 + [("A_1", "B_1")] * 20
OTHER = predictions(HALF_WRONG, "simulated Forchheim", second="A_1")


def test_the_comparison_finds_what_was_planted():
    run = experiments.Experiment("best", "scene+device", [], [], OWN, pd.DataFrame({"plateau": [True]}))
    metrics, contrasts = other_corpora.compare(run, OTHER, ["A_1", "A_2"], "forchheim", 0)
    assert list(metrics.columns) == intervals.METRIC_COLUMNS and metrics["plateau"].all()
    assert not metrics.duplicated(["experiment", "dataset", "protocol", "part", "level", "metric"]).any()
    common = other_corpora.restrict_classes(OTHER, ["A_1", "A_2"], "common")
    assert evaluation.class_names(common) == ["A_1", "A_2"]
    assert np.allclose(np.exp(evaluation.log_probabilities(common)).sum(axis=1), 1)
    assert set(other_corpora.restrict_classes(OWN, ["A_1", "B_2"])["true"]) == {"A_1", "B_2"}
    rows = other_corpora.accuracy_rows(metrics)
    assert rows["experiment"].tolist() == ["forchheim-all"] * 2 + ["forchheim-common"] * 2
    assert rows["value"].tolist() == [0.5, 1, 1, 1] and rows["photos"].tolist() == [40, 20, 40, 20]
    assert rows["classes"].tolist() == [4, 4, 2, 2]
    labels = [f"{experiments.labels()[name]} (simulated)\n40 and 20 photos" for name in rows["experiment"]]
    assert rows["label"].tolist() == labels
    assert rows["group"].tolist() == ["other corpus", "own test photos"] * 2
    assert list(contrasts.columns) == [*experiments.CONTRAST_COLUMNS, "models", "devices"]
    first, second = intervals.judged(contrasts).to_dict("records")
    assert first["difference"] == -0.5 and -0.75 < first["low"] < -0.5 < first["high"] < -0.25
    assert (first["verdict"], second["verdict"]) == ("lower", "undecided")
    assert second["difference"] == second["low"] == second["high"] == 0
    assert (first["models"], first["devices"], first["photos"], first["photos_b"]) == (2, 2, 40, 20)
    for names in (["A_1"], NAMES):  # one class or all: "common" would say nothing more
        run = run._replace(metrics=pd.DataFrame({"plateau": [False]}))
        metrics, only = other_corpora.compare(run, OTHER, names, "forchheim", 0)
        assert only["a"].tolist() == ["forchheim-all"] and not metrics["plateau"].any()
        assert intervals.judged(only)["verdict"].tolist() == [intervals.UNTRAINED]


def version(wrong: int, name: str) -> pd.DataFrame:
    """40 photos of one version, the last `wrong` of them misclassified."""
    answers = [(f"A_{1 + i % 2}", f"A_{1 + i % 2}" if i < 40 - wrong else "B_1") for i in range(40)]
    return predictions(answers, "Forchheim").assign(photo=lambda table: f"{name}/" + table["photo"])


MISTAKES = {("best", "orig"): 0, ("best", "whatsapp"): 20, ("robust", "orig"): 0, ("robust", "whatsapp"): 0}
VERSIONS = {key: version(wrong, key[1]) for key, wrong in MISTAKES.items()}


def test_versions_are_compared_on_the_same_photos():
    trained = {"best": True, "robust": True}
    rows, gaps = other_corpora.compare_versions(VERSIONS, trained, seed=0)
    assert rows["value"].to_list() == [1.0, 0.5, 1.0, 1.0] and (rows[["n", "crops"]] == [40, 2]).all(axis=None)
    assert gaps[["model", "version", "minus", "difference", "verdict"]].to_numpy().tolist() == [
        ["best", "whatsapp", "orig", -0.5, "lower"], ["robust", "orig", "best", 0.0, "undecided"],
        ["robust", "whatsapp", "orig", 0.0, "undecided"], ["robust", "whatsapp", "best", 0.5, "higher"],
    ]  # fmt: skip
    assert -0.7 < gaps["low"][0] < gaps["high"][0] < -0.3 and 0.3 < gaps["low"][3] < gaps["high"][3] < 0.7
    table = other_corpora.version_table(rows, gaps)
    assert table.loc[("best", "whatsapp"), "accuracy"].startswith("50.0 % (")
    loss, gain = table["minus orig, points"], table["minus best, points"]
    assert loss["best", "orig"] == gain["best", "orig"] == gain["best", "whatsapp"] == ""
    assert loss["best", "whatsapp"].startswith("-50.0 (") and loss["best", "whatsapp"].endswith(": lower")
    assert gain["robust", "orig"] == "+0.0 (+0.0 to +0.0): undecided"
    fewer = VERSIONS | {("best", "whatsapp"): VERSIONS["best", "whatsapp"].query("scene != '39'")}
    missing, gaps = other_corpora.compare_versions(fewer, trained | {"robust": False}, seed=0)
    assert (missing["n"] == 39).all() and missing["value"].to_list() == pytest.approx([1, 20 / 39, 1, 1])
    assert gaps["verdict"].tolist() == ["lower"] + [intervals.UNTRAINED] * 3  # one photo is left out of all versions


def plant(root, phone: str, grey: int, scenes: int, version: str = "orig", size=(80, 60)):
    folder = root / f"{phone}_1" / version
    folder.mkdir(parents=True)
    for scene in range(1, scenes + 1):
        Image.new("RGB", size, (grey,) * 3).save(folder / f"{phone[:3]}_img_{version}_{scene:04d}.jpg")
    return root


@pytest.mark.parametrize(("kind", "crops"), [("grid", 3), ("resize", 1)])
def test_every_model_sees_a_corpus_as_it_was_trained_to(tmp_path, kind, crops):
    plant(plant(tmp_path / "photos", "D01_X_dark", 40, 2), "D02_X_bright", 220, 2)
    catalogue = datasets.load_forchheim(tmp_path / "photos")
    infos = [{"target": "camera_model", "kind": kind, "seed": seed} for seed in (4, 5)]
    net = colour_net(2, weight=[[-7.0] * 3, [7.0] * 3], bias=[10.0, -10.0])
    models = [Model(net, ["X_dark", "X_bright"], 24, "0..1", info) for info in infos]
    found = other_corpora.predict_catalogue(models, catalogue, tmp_path / "patches", 3, seed=0)
    assert len(found) == 2 * 4 * crops and set(found["seed"]) == {4, 5} and set(found["part"]) == {"test"}
    assert intervals.photo_accuracy(found)["value"].item() == 1.0
    assert set(found["device"]) == {"Forchheim_D01", "Forchheim_D02"}


def test_shared_versions_have_the_same_photos_of_common_models(tmp_path):
    plant(plant(tmp_path, "D01_X_dark", 40, 3), "D01_X_dark", 90, 2, "twitter", size=(64, 48))
    plant(plant(tmp_path, "D02_X_bright", 220, 3), "D02_X_bright", 220, 3, "twitter")
    everything = datasets.load_forchheim(tmp_path)
    row = other_corpora.overview({"forchheim": everything}).loc["Forchheim"]  # counts here and as published
    counts = {name: row[name].to_list() for name in ("photos", "phones", "models", "scenes", "versions")}
    assert counts == {"photos": [6, 0], "phones": [2, 27], "models": [2, 25], "scenes": [3, 143], "versions": [2, 6]}
    common = other_corpora.common_models(everything.query("camera_model == 'X_dark'"), everything)
    copies = other_corpora.shared_versions(tmp_path, common)
    scenes = {version: table["scene"].to_list() for version, table in copies.items()}
    assert scenes == {"orig": ["0001", "0002"], "twitter": ["0001", "0002"]}
    assert all(set(table["camera_model"]) == {"X_dark"} for table in copies.values())
    rows = other_corpora.example_versions(copies, 50)
    found = [(caption, photo.shape[:2], crop.shape[:2]) for caption, photo, crop in rows]
    assert found == [("orig, 80 x 60", (60, 80), (50, 50)), ("twitter, 64 x 48", (48, 64), (48, 50))]
    broken = {version: table.assign(path=[__file__, *table["path"][1:]]) for version, table in copies.items()}
    assert len(other_corpora.example_versions(broken, 50)) == 2
    broken = {version: table.assign(path=__file__) for version, table in copies.items()}
    with pytest.raises(ValueError, match="no photo can be read in all of orig, twitter"):
        other_corpora.example_versions(broken, 50)
    assert other_corpora.shared_versions(tmp_path, common.iloc[:0]) == {}
    assert other_corpora.shared_versions(plant(tmp_path / "alone", "D01_X_dark", 40, 1), common) == {}


def catalogue_of(models: dict[str, list[str]]) -> pd.DataFrame:
    """Two photos by each device: camera model -> devices."""
    rows = [[f"/{d}_{i}.jpg", m.split("_")[0], m, d, "1"] for m, ds in models.items() for d in ds for i in range(2)]
    return pd.DataFrame(rows, columns=["path", "brand", "camera_model", "device", "scene"]).astype("string")


def test_common_models_are_found_under_other_spellings():
    floreview = {"Huawei_P9Lite": ["D1"], "Samsung_GalaxyS10+": ["D2", "D3"], "LG_G4c": ["D4"]}
    other = catalogue_of({"HUAWEI_P9_lite": ["F1", "F2"], "Huawei_P9": ["F3"], "Samsung_Galaxy S10 Plus": ["F4"]})
    common = other_corpora.common_models(catalogue_of(floreview), other)
    assert common.to_dict("list") == {
        "camera_model": ["Huawei_P9Lite", "Samsung_GalaxyS10+"], "photos": [2, 4], "devices": [1, 2],
        "other": ["HUAWEI_P9_lite", "Samsung_Galaxy S10 Plus"], "other_photos": [4, 2], "other_devices": [2, 1],
    }  # fmt: skip
    photos = other_corpora.photos_in_common(other, common)
    assert photos["camera_model"].to_list() == ["Huawei_P9Lite"] * 4 + ["Samsung_GalaxyS10+"] * 2
    assert photos["brand"].to_list() == ["Huawei"] * 4 + ["Samsung"] * 2 and set(photos["device"]) == {"F1", "F2", "F4"}
    assert (photos.dtypes == other.dtypes).all()
    nothing = other_corpora.common_models(catalogue_of({"LG_G4c": ["D4"]}), other)
    assert len(nothing) == 0 and other_corpora.photos_in_common(other, nothing).empty
    with pytest.raises(ValueError, match="several names: Huawei_P9Lite, Huawei_P9_lite"):
        other_corpora.common_models(catalogue_of(floreview | {"Huawei_P9_lite": ["D9"]}), other)
