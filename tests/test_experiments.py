"""One experiment from plan to metrics: labels, class names and files belong together, and what is missing is said."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_planning import MODELS, patch_table
from torch import nn

from camid_utils import adaptation, datasets, evaluation, experiments, models, planning

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
    """Learns which brightness of the three channels belongs to which class; `norm`: batch normalisation before that."""

    def __init__(self, num_classes: int, norm: bool = False):
        super().__init__()
        self.features = nn.Sequential(
            nn.BatchNorm2d(3, momentum=0.5) if norm else nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.classifier = nn.Linear(3, num_classes)
        self.settings = {"network": "CameraConvNet", "num_classes": num_classes, "width": 1.0}

    def forward(self, x):
        return self.classifier(self.features(x))


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


def run(store, folder, plans=None, net=BrightestNet, name="tiny", **change):
    plans = plans or planning.plans(store.table, "scene+device", 0)
    settings = dict(input_range="-1..1", epochs=4, batch_size=16, learning_rate=0.5) | change
    return experiments.run(
        name, lambda classes, plan: net(classes), store, plans, data_dir=folder / "data",
        results_dir=folder / "results", **settings,
    )  # fmt: skip


def guesses(predictions: pd.DataFrame) -> np.ndarray:
    return np.array(evaluation.class_names(predictions))[evaluation.log_probabilities(predictions).argmax(1)]


def test_an_experiment_learns_and_leaves_its_files(store, tmp_path):
    result = run(store, tmp_path, published={"accuracy": 0.8})
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert [name for name in files if not name.endswith(".lock")] == [
        "data/models/dresden/tiny-0.safetensors",
        "data/runs/dresden/tiny-0/checkpoint.safetensors",
        "data/runs/dresden/tiny-0/epochs.csv",
        "data/runs/dresden/tiny-0/steps.csv",
        "results/predictions/tiny.parquet",
    ]
    (model,), (history,) = result.models, result.histories
    assert (result.name, result.protocol) == ("tiny", "scene+device")
    assert model.class_names == MODELS and model.input_size == 8
    assert (model.info["protocol"], model.info["dataset"], model.info["kind"]) == ("scene+device", "Dresden", "random")
    assert model.info["epoch"] == history.best_epoch and model.info["val_accuracy"] == 1.0

    predictions = pd.read_parquet(tmp_path / "results" / "predictions" / "tiny.parquet")
    assert [c for c in predictions if c.startswith("log_prob:")] == [f"log_prob:{name}" for name in MODELS]
    assert predictions["part"].value_counts().to_dict() == {
        part: len(planning.plan(store.table, "scene+device", 0).rows(part)) for part in ("val", "test")
    }
    assert np.allclose(np.exp(evaluation.log_probabilities(predictions)).sum(1), 1, atol=1e-4)
    assert set(result.test()["part"]) == {"test"} and len(result.test()) == (predictions["part"] == "test").sum()

    metrics = result.metrics
    assert list(metrics.columns) == evaluation.METRIC_COLUMNS and len(metrics) == 2 * 2 * len(evaluation.METRICS)
    accuracy = metrics[metrics["metric"] == "accuracy"].set_index(["part", "level"])
    assert (accuracy["value"] == 1).all()
    losses = metrics.query("metric == 'log loss' and level == 'patch'").set_index("part")["value"]
    for part, rows in result.predictions.groupby("part"):
        own = [row[f"log_prob:{row['true']}"] for row in rows.to_dict("records")]
        assert losses[part] == pytest.approx(-np.mean(own))
    assert accuracy["published"].dropna().to_dict() == {("val", "patch"): 0.8}


def test_each_seed_has_its_own_split_model_and_predictions(store, tmp_path):
    plans = planning.plans(store.table, "photo", seed=4, seeds=2)
    made = []

    def net(classes, plan):
        made.append((classes, plan.seed, torch.initial_seed()))
        return BrightestNet(classes)

    result = experiments.run(
        "tiny", net, store, plans, input_range="-1..1", epochs=1, batch_size=16, learning_rate=0.01,
        data_dir=tmp_path / "data", results_dir=tmp_path / "results",
    )  # fmt: skip
    assert made == [(3, 4, 4), (3, 5, 5)]
    names = sorted(path.name for path in (tmp_path / "data" / "models" / "dresden").iterdir())
    assert names == ["tiny-4.safetensors", "tiny-5.safetensors"]
    assert [model.info["seed"] for model in result.models] == [4, 5] and len(result.histories) == 2
    assert not torch.equal(*(model.net.classifier.weight for model in result.models))
    for model, plan in zip(result.models, plans, strict=True):
        for part in ("val", "test"):
            own = result.predictions.query(f"seed == {plan.seed} and part == '{part}'")
            alone = evaluation.predict(model, store, plan.rows(part))
            assert own["photo"].tolist() == alone["photo"].tolist()
            np.testing.assert_allclose(evaluation.log_probabilities(own), evaluation.log_probabilities(alone))
    metrics = result.metrics
    assert (metrics["seeds"] == 2).all() and (metrics["seed"] == 4).all()
    values = [score["value"].iloc[0] for score in (
        evaluation.score(own, experiment="", protocol="") for _, own in result.test().groupby("seed"))]  # fmt: skip
    row = metrics.query("part == 'test' and level == 'patch' and metric == 'accuracy'").iloc[0]
    assert row["n"] == len(result.test()) and row["spread"] == pytest.approx(np.std(values, ddof=1))


def test_an_experiment_on_features_trains_the_classifier_alone(store, tmp_path):
    """Means of the channels, known beforehand: the same figures as through the whole network."""
    plans = planning.plans(store.table, "scene+device", seed=0, seeds=2)
    images = torch.from_numpy(store.pixels).permute(0, 3, 1, 2)
    known = models.to_input(images, "-1..1").mean((2, 3)).numpy()[None]
    whole = run(store, tmp_path / "whole", plans)
    result = run(store, tmp_path / "features", plans, features=[known, known])
    assert result.metrics["seeds"].eq(2).all()
    logs = [evaluation.log_probabilities(r.predictions) for r in (result, whole)]
    np.testing.assert_allclose(*logs, atol=0.05)  # bfloat16, where the processor has it
    assert (guesses(result.predictions) == result.predictions["true"]).all()

    first, second = (run(store, tmp_path / folder, plans, features=f).metrics["value"][0]
                     for folder, f in (("a", [known, 0 * known]), ("b", [0 * known, known])))  # fmt: skip
    assert first < 1 and second < 1  # each plan has its own


def test_classes_are_never_mixed(store, tmp_path):
    """Colours were planted by class, so every prediction must name the class of its own colour."""
    predictions = run(store, tmp_path).predictions
    guess = guesses(predictions)
    assert (guess == predictions["camera_model"]).all() and (guess == predictions["true"]).all()
    assert {p.split("/")[0] for p in predictions["photo"]} == set(MODELS)
    assert all(photo.startswith(name) for photo, name in zip(predictions["photo"], predictions["true"], strict=True))


def test_classes_are_not_mixed_where_one_is_left_out(store, tmp_path):
    """The first class in the alphabet has one device and goes: the others' labels must not shift."""
    kept = (store.table["device"] != "Acme_A_1").to_numpy()
    smaller = TinyStore(store.pixels[kept], store.table[kept].reset_index(drop=True), store.folder)
    plans = planning.plans(smaller.table, "device", 0)
    assert plans[0].class_names == ["Acme_B", "Bolt_C"]
    result = run(smaller, tmp_path, plans)
    assert result.metrics.query("metric == 'accuracy'")["value"].min() == 1
    assert set(result.predictions["true"]) == {"Acme_B", "Bolt_C"}


def test_the_same_seed_gives_the_same_figures_to_the_bit(store, tmp_path):
    metrics = [run(store, tmp_path / folder, epochs=1, learning_rate=0.01).metrics for folder in "ab"]
    assert metrics[0].to_csv() == metrics[1].to_csv()


def test_the_history_of_several_runs_is_one_file(store, tmp_path):
    plans = planning.plans(store.table, "photo", seed=0, seeds=2)
    runs = [run(store, tmp_path, plans, name="first"), run(store, tmp_path, plans[:1], name="second")]
    experiments.write_history(tmp_path / "epochs.csv", runs)
    table = pd.read_csv(tmp_path / "epochs.csv")
    assert table["run"].to_list() == ["first"] * 8 + ["second"] * 4
    assert table["seed"].to_list() == [0] * 4 + [1] * 4 + [0] * 4
    best = [history.best_epoch for one in runs for history in one.histories]
    assert table.query("best")["epoch"].to_list() == best


# the same photos in another store


def changed(store, pixels=None, extra: str = "jpeg-70") -> TinyStore:
    """The store as another extraction would give it: a folder and an order of its own, as many patches."""
    order = np.random.default_rng(5).permutation(len(store.table))
    pixels = store.pixels if pixels is None else pixels
    return TinyStore(pixels[order], store.table.iloc[order].reset_index(drop=True), store.folder / extra)


def test_a_run_is_tested_on_its_own_photos_in_another_store(store, tmp_path):
    result = run(store, tmp_path, planning.plans(store.table, "scene+device", 0, seeds=2))
    again = experiments.tested_on(result, changed(store))
    assert set(again["part"]) == {"test"} and list(again["seed"].unique()) == [0, 1]
    assert evaluation.paired_difference(again, result.test()) == (0, 0, 0)
    for seed in (0, 1):
        photos = [set(table.loc[table["seed"] == seed, "photo"]) for table in (again, result.test())]
        assert photos[0] == photos[1]
    turned = experiments.tested_on(result, changed(store, np.roll(store.pixels, 1, axis=3)))
    assert (guesses(turned) == pd.Series(dict(zip(MODELS, np.roll(MODELS, -1), strict=True)))[turned["true"]]).all()


def test_adapting_takes_the_statistics_of_the_photos_that_are_tested(store, tmp_path):
    """A cast of one colour over all photos: many photos look like its class, until the cast is normalised away."""
    store = store._replace(pixels=store.pixels // 3)
    result = run(store, tmp_path, net=lambda n: BrightestNet(n, norm=True), epochs=8)
    assert (guesses(result.test()) == result.test()["true"]).all()
    cast = store.pixels.copy()
    cast[..., 1] += 150
    before = {name: t.clone() for name, t in result.models[0].net.state_dict().items()}
    plain = experiments.tested_on(result, changed(store, cast))
    adapted = experiments.tested_on(result, changed(store, cast), adapt=True, batch_size=8)
    assert (guesses(plain) == plain["true"]).mean() < 0.7 and (guesses(adapted) == adapted["true"]).all()
    after = result.models[0].net.state_dict()
    assert all(torch.equal(t, before[name]) for name, t in after.items())  # the run itself stays as it was


def test_adapting_sees_each_tested_photo_and_no_other(store, tmp_path, monkeypatch):
    result = run(store, tmp_path, net=lambda n: BrightestNet(n, norm=True))
    other = changed(store, np.broadcast_to(np.arange(96, dtype=np.uint8)[:, None, None, None], (96, 8, 8, 3)))
    seen, ordinary = [], adaptation.renormalised

    def listening(net, batches):
        batches = list(batches)
        seen.extend(batches)
        return ordinary(net, batches)

    monkeypatch.setattr(adaptation, "renormalised", listening)
    experiments.tested_on(result, other, adapt=True, batch_size=10)
    rows = np.flatnonzero(other.table["photo"].isin(result.test()["photo"]))
    expected = sorted(other.pixels[rows, 0, 0, 0].tolist())
    numbers = torch.cat(seen)[:, 0, 0, 0] * 127.5 + 127.5
    assert sorted(numbers.round().int().tolist()) == expected
    assert max(map(len, seen)) <= 10 and max(map(len, seen)) - min(map(len, seen)) <= 1


def test_the_photos_that_some_run_was_tested_on(store, tmp_path):
    photos = store.table.drop_duplicates("photo").assign(path=lambda t: "root/" + t["photo"], width=64, height=64)
    plans = planning.plans(store.table, "scene+device", 0, seeds=2)
    runs = [run(store, tmp_path, [plan], name=f"tiny{plan.seed}") for plan in plans]
    tested = experiments.test_photos(runs, photos[datasets.COLUMNS])
    expected = set(store.table["photo"].iloc[np.concatenate([plan.rows("test") for plan in plans])])
    assert {path.removeprefix("root/") for path in tested["path"]} == expected
    assert len(tested) == len(expected) < len(photos) and list(tested.index) == list(range(len(tested)))


# the model of an earlier notebook


def test_an_earlier_model_is_found_by_data_set_name_and_seed(tmp_path):
    for seed in (3, 4):
        torch.manual_seed(seed)
        model = models.Model(models.CameraConvNet(2, width=1 / 64), ["A", "B"], 48, "0..255", {"seed": seed})
        models.save_model(model, experiments.model_path(tmp_path, "simulated Dresden", "net", seed))
    found = experiments.earlier_model(tmp_path, "simulated Dresden", "net", 3, "02_x")
    assert found.class_names == ["A", "B"] and found.info == {"seed": 3}


def test_a_missing_model_names_the_notebook_to_run_first(tmp_path):
    said = "no model net for Dresden and seed 4 yet: run notebook 02_x .* first"
    with pytest.raises(FileNotFoundError, match=said):
        experiments.earlier_model(tmp_path, "Dresden", "net", 4, "02_x")
