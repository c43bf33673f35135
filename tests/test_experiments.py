"""One experiment from plan to metrics: labels, class names and files belong together, and what is missing is said."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from camid_utils import datasets, evaluation, experiments, models, patches

MODELS = ["Acme_A", "Acme_B", "Bolt_C"]


def patch_table(devices=2, scenes=8, per_photo=4, names=MODELS) -> pd.DataFrame:
    """A patch table: every device of every model photographs every scene, `per_photo` patches each."""
    rows = [
        ("Dresden", name.split("_")[0], name, f"{name}_{d}", f"{s}-1", f"{name}/{name}_{d}_{s}.JPG", 0, 48 * p)
        for name in names
        for d in range(devices)
        for s in range(scenes)
        for p in range(per_photo)
    ]
    return pd.DataFrame(rows, columns=patches.PATCH_COLUMNS)


# the plan


@pytest.mark.parametrize("protocol", ["patch", "photo", "scene", "device", "scene+device"])
def test_a_plan_gives_each_row_its_own_class_and_part(protocol):
    table = patch_table()
    plan = experiments.plan(table, protocol, seed=3)
    assert (plan.protocol, plan.target, plan.seed) == (protocol, "camera_model", 3)
    assert plan.note == "every class is in every part" and plan.class_names == MODELS
    used = plan.part != "unused"
    assert (np.array(MODELS)[plan.labels[used]] == table["camera_model"][used]).all()
    assert (plan.labels[~used] == -1).all()
    for part in ("train", "val", "test"):
        assert set(plan.labels[plan.rows(part)]) == {0, 1, 2}
        assert (plan.part[plan.rows(part)] == part).all()


def test_the_order_of_the_rows_changes_nothing():
    table = patch_table()
    shuffled = table.sample(frac=1, random_state=1)
    a, b = (experiments.plan(t, "scene+device", 0) for t in (table, shuffled.reset_index(drop=True)))
    assert (a.part[shuffled.index] == b.part).all() and (a.labels[shuffled.index] == b.labels).all()


def test_devices_and_brands_can_be_the_class():
    table = patch_table()
    assert experiments.plan(table, "photo", 0, "brand").class_names == ["Acme", "Bolt"]
    assert len(experiments.plan(table, "scene", 0, "device").class_names) == 6


def test_a_protocol_that_the_data_do_not_allow_gives_way_and_says_so():
    plan = experiments.plan(patch_table(devices=1), "scene+device", 0)
    assert plan.protocol == "scene" and plan.class_names == MODELS
    assert "scene+device can split 0 of 3 classes" in plan.note and "used instead: scene" in plan.note


def test_a_class_that_the_protocol_cannot_serve_is_left_out_by_name():
    table = pd.concat([patch_table(), patch_table(devices=1, names=["Aged_X"])], ignore_index=True)
    plan = experiments.plan(table, "scene+device", 0)
    assert plan.protocol == "scene+device" and plan.class_names == MODELS
    assert "Aged_X is left out: fewer than 2 devices" in plan.note
    aged = (table["camera_model"] == "Aged_X").to_numpy()
    assert (plan.labels[aged] == -1).all() and (plan.part[aged] == "unused").all()
    used = plan.part != "unused"
    assert (np.array(MODELS)[plan.labels[used]] == table["camera_model"][used]).all()  # no class moved up by one


def test_a_plan_is_counted_by_part():
    table = patch_table()
    counts = experiments.plan_table(table, experiments.plan(table, "patch", 0))
    assert list(counts.index) == ["train", "val", "test"] and counts["patches"].sum() == len(table)
    assert (counts["photos"] <= 48).all() and counts["photos"].sum() > 48  # the leak: photos on several sides
    strict = experiments.plan_table(table, experiments.plan(table, "scene+device", 0))
    assert list(strict.index) == ["train", "val", "test", "unused"]
    assert strict.loc["test"].to_dict() == {"patches": 24, "photos": 6, "scenes": 2, "devices": 3}


def test_every_protocol_of_a_catalogue_is_reported():
    table = patch_table(per_photo=1).assign(path=lambda t: "root/" + t["photo"], width=64, height=64)
    parts, notes = experiments.protocol_parts(table[datasets.COLUMNS], 0)
    assert list(parts) == ["photo", "scene", "device", "scene+device"] and (notes["classes left out"] == 0).all()
    single = table[table["device"].str.endswith("_0")]
    parts, notes = experiments.protocol_parts(single[datasets.COLUMNS], 0)
    assert list(parts) == ["photo", "scene"]
    why = notes.set_index("protocol")
    assert why["classes left out"].to_dict() == {"photo": 0, "scene": 0, "device": 3, "scene+device": 3}
    assert "fewer than 2 devices" in why["why"]["device"]


# the photographs


def test_without_a_root_cameras_are_simulated_once(tmp_path):
    settings = dict(seed=0, models=2, devices=1, scenes=2, width=96)
    made = experiments.photographs("floreview", "", tmp_path, **settings)
    assert len(made) == 4 and set(made["dataset"]) == {"simulated FloreView"}
    assert set(zip(made["width"], made["height"], strict=True)) <= {(96, 72), (104, 80), (96, 80), (104, 72)}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    again = experiments.photographs("floreview", "", tmp_path, **settings)
    assert again.equals(made) and before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}


def test_with_a_root_its_photos_are_read_and_nothing_is_simulated(tmp_path):
    for shot in (1, 2):
        path = tmp_path / "mine" / "Nikon_D70" / f"Nikon_D70_0_{shot}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (shot, 0, 0)).save(path)
    root, data = str(tmp_path / "mine"), tmp_path / "data"
    catalogue = experiments.photographs("dresden", root, data, seed=0, models=2, devices=1, scenes=1, width=96)
    assert list(catalogue["device"]) == ["Nikon_D70_0"] * 2 and set(catalogue["dataset"]) == {"Dresden"}
    assert not data.exists()
    with pytest.raises(FileNotFoundError, match="no folder"):
        experiments.photographs("dresden", root + "x", data, seed=0, models=2, devices=1, scenes=1, width=96)


def test_the_data_sets_name_is_known_without_reading_it(tmp_path):
    assert experiments.dataset_name("dresden", "") == "simulated Dresden"
    assert experiments.dataset_name("floreview", str(tmp_path)) == "FloreView"
    (tmp_path / datasets.SIMULATED).write_text("")
    assert experiments.dataset_name("floreview", str(tmp_path)) == "simulated FloreView"
    assert experiments.slug("simulated FloreView") == "simulated-floreview"


def test_relative_folders_start_at_the_project():
    assert experiments.resolve("data/x") == experiments.PROJECT / "data" / "x"
    assert experiments.resolve("/elsewhere").as_posix() == "/elsewhere"
    assert not experiments.resolve("~/x").as_posix().endswith("~/x")


def test_photos_left_out_are_shown_without_their_folders(tmp_path):
    table = pd.DataFrame({"path": [f"{tmp_path}/a/b.jpg"], "reason": [f"{tmp_path}/a/b.jpg: not a JPEG"]})
    assert experiments.short_paths(table).to_dict("records") == [{"photo": "b.jpg", "reason": "not a JPEG"}]
    assert experiments.short_paths(table[:0]).empty


def test_published_counts_only_where_something_was_published():
    columns = dict(brand="Nikon", scene="1-1", width=64, height=64)
    rows = pd.DataFrame({"path": ["a/1.jpg"], "camera_model": ["Nikon_D70"], "device": ["Nikon_D70_0"]})
    real = experiments.published_counts(rows.assign(dataset="Dresden", **columns))
    assert real.loc["Nikon_D70", "photos"] == 369 and len(real) == 27
    assert experiments.published_counts(rows.assign(dataset="simulated Dresden", **columns)) is None


# one experiment


class BrightestNet(nn.Module):
    """Learns which brightness belongs to which class."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        self.settings = {"network": "CameraConvNet", "num_classes": num_classes, "width": 1.0}

    def forward(self, x):
        return self.head(x.mean((2, 3)))


class TinyStore(NamedTuple):
    pixels: np.ndarray
    table: pd.DataFrame
    folder: object


@pytest.fixture
def store(tmp_path):
    """Each camera model has its own pure colour; the models stand in the table in no order."""
    table = patch_table(per_photo=2).sample(frac=1, random_state=0).reset_index(drop=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 40, (len(table), 8, 8, 3), dtype=np.uint8)
    channel = pd.Index(MODELS).get_indexer(table["camera_model"])
    pixels[np.arange(len(table)), :, :, channel] += 200
    return TinyStore(pixels, table, tmp_path / "random-8-0123")


def run(store, folder, plan=None, **change):
    plan = plan or experiments.plan(store.table, "scene+device", 0)
    settings = dict(input_range="-1..1", epochs=3, batch_size=16, learning_rate=0.5) | change
    return experiments.run(
        "tiny", BrightestNet, store, plan, data_dir=folder / "data", results_dir=folder / "results", **settings
    )


def test_an_experiment_learns_and_leaves_its_files(store, tmp_path):
    result = run(store, tmp_path, published={"accuracy": 0.8})
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert files == [
        "data/models/dresden/tiny.safetensors",
        "data/runs/dresden/tiny/checkpoint.safetensors",
        "data/runs/dresden/tiny/epochs.csv",
        "data/runs/dresden/tiny/steps.csv",
        "results/predictions/tiny.parquet",
    ]
    info = result.model.info
    assert result.model.class_names == MODELS and result.model.input_size == 8
    assert (info["protocol"], info["dataset"], info["kind"]) == ("scene+device", "Dresden", "random")
    assert info["epoch"] == result.history.best_epoch and info["val_accuracy"] == 1.0

    predictions = pd.read_parquet(tmp_path / "results" / "predictions" / "tiny.parquet")
    assert [c for c in predictions if c.startswith("log_prob:")] == [f"log_prob:{name}" for name in MODELS]
    assert predictions["part"].value_counts().to_dict() == {
        part: len(experiments.plan(store.table, "scene+device", 0).rows(part)) for part in ("val", "test")
    }
    assert np.allclose(np.exp(evaluation.log_probabilities(predictions)).sum(1), 1, atol=1e-4)

    metrics = result.metrics
    assert list(metrics.columns) == evaluation.METRIC_COLUMNS and len(metrics) == 2 * 2 * len(evaluation.METRICS)
    accuracy = metrics[metrics["metric"] == "accuracy"].set_index(["part", "level"])
    assert (accuracy["value"] == 1).all()
    losses = metrics.query("metric == 'log loss' and level == 'patch'").set_index("part")["value"]
    for part, rows in result.predictions.groupby("part"):
        own = [row[f"log_prob:{row['true']}"] for row in rows.to_dict("records")]
        assert losses[part] == pytest.approx(-np.mean(own))
    assert accuracy["published"].dropna().to_dict() == {("val", "patch"): 0.8}


def test_classes_are_never_mixed(store, tmp_path):
    """Colours were planted by class, so every prediction must name the class of its own colour."""
    predictions = run(store, tmp_path).predictions
    guess = np.array(evaluation.class_names(predictions))[evaluation.log_probabilities(predictions).argmax(1)]
    assert (guess == predictions["camera_model"]).all() and (guess == predictions["true"]).all()
    assert {p.split("/")[0] for p in predictions["photo"]} == set(MODELS)
    assert all(photo.startswith(name) for photo, name in zip(predictions["photo"], predictions["true"], strict=True))


def test_classes_are_not_mixed_where_one_is_left_out(store, tmp_path):
    """The first class in the alphabet has one device and goes: the others' labels must not shift."""
    plan = experiments.plan(store.table[store.table["device"] != "Acme_A_1"].reset_index(drop=True), "device", 0)
    assert plan.class_names == ["Acme_B", "Bolt_C"]
    kept = (store.table["device"] != "Acme_A_1").to_numpy()
    smaller = TinyStore(store.pixels[kept], store.table[kept].reset_index(drop=True), store.folder)
    result = run(smaller, tmp_path, plan)
    assert result.metrics.query("metric == 'accuracy'")["value"].min() == 1
    assert set(result.predictions["true"]) == {"Acme_B", "Bolt_C"}


def test_the_same_seed_gives_the_same_figures_to_the_bit(store, tmp_path):
    metrics = [run(store, tmp_path / folder, epochs=1, learning_rate=0.01).metrics for folder in "ab"]
    assert metrics[0].to_csv() == metrics[1].to_csv()


def test_the_history_of_several_runs_is_one_file(store, tmp_path):
    result = run(store, tmp_path)
    experiments.write_history(tmp_path / "epochs.csv", {"first": result.history, "second": result.history})
    table = pd.read_csv(tmp_path / "epochs.csv")
    assert table["run"].to_list() == ["first"] * 3 + ["second"] * 3
    assert table.query("best")["epoch"].to_list() == [result.history.best_epoch] * 2


# the model of an earlier notebook


def test_an_earlier_model_is_found_by_data_set_and_name(tmp_path):
    torch.manual_seed(0)
    model = models.Model(models.CameraConvNet(2, width=1 / 64), ["A", "B"], 48, "0..255", {"seed": 3})
    models.save_model(model, experiments.model_path(tmp_path, "simulated Dresden", "net"))
    found = experiments.earlier_model(tmp_path, "simulated Dresden", "net", "02_x")
    assert found.class_names == ["A", "B"] and found.info == {"seed": 3}


def test_a_missing_model_names_the_notebook_to_run_first(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model net for Dresden yet: run notebook 02_x .* first"):
        experiments.earlier_model(tmp_path, "Dresden", "net", "02_x")
