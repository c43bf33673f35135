"""One experiment from plan to metrics: classes are never mixed, files are written, contrasts follow experiments.csv."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from camid_utils import catalogues, evaluation, experiments, intervals, models, planning, published
from camid_utils.evaluation import log_probabilities

SETTINGS = dict(input_range="-1..1", epochs=4, batch_size=16, learning_rate=0.5)
NAME = "cameraconvnet-patch"  # the one that Table 2 has on Dresden
pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture
def run(study, store, colour_net):
    """Runs an experiment on the store of colours, under scene+device unless plans are given."""

    def start(plans=None, store=store, study=study, features=None, **change):
        plans = plans or planning.plans(store.table, "scene+device", 0)
        settings = SETTINGS | change
        return experiments.run(study, NAME, lambda n, _: colour_net(n), store, plans, settings, features=features)

    return start


def right(predictions: pd.DataFrame) -> np.ndarray:
    """Whether each row is classified correctly."""
    names = np.array(evaluation.class_names(predictions))
    return names[log_probabilities(predictions).argmax(1)] == predictions["true"].to_numpy()


def test_photographs_are_simulated_once_or_read_from_a_folder(study, tmp_path):
    made, again = (experiments.photographs(study, "floreview") for _ in range(2))
    assert len(made) == 4 and set(made["dataset"]) == {experiments.dataset_name("floreview", "")} and again.equals(made)
    Image.new("RGB", (64, 64)).save(tmp_path / "Nikon_D70_0_1.JPG")
    own = experiments.photographs(study, "dresden", str(tmp_path))
    assert own["device"].tolist() == ["Nikon_D70_0"] and set(own["dataset"]) == {"Dresden"}
    assert [path.name for path in study.data.glob("simulated-*")] == ["simulated-floreview"]
    experiments.save_datasets(study, [made, own])
    held = json.loads((study.results / "metrics" / "datasets.json").read_text())
    assert {name: record["photos"] for name, record in held.items()} == {"simulated FloreView": 4, "Dresden": 1}


def test_an_experiment_learns_and_writes_its_files(run, study, tmp_path):
    result = run()
    files = {p.relative_to(tmp_path).as_posix() for p in (*study.data.rglob("*.*"), *study.results.rglob("*.*"))}
    written = {f"data/runs/dresden/{NAME}-0/{name}" for name in ("checkpoint.safetensors", "epochs.csv", "steps.csv")}
    written |= {f"data/models/dresden/{NAME}-0.safetensors", f"results/predictions/{NAME}.parquet"}
    assert {name for name in files if not name.endswith(".lock")} == written
    stated = {"experiment": NAME, "protocol": "scene+device", "dataset": "Dresden", "kind": "random", "seed": 0}
    assert result.models[0].info.items() >= (stated | {"val_accuracy": 1.0}).items()
    assert len(experiments.load_predictions(study, NAME)) == len(result.predictions) > len(result.test()) > 0


def test_the_metrics_of_an_experiment_are_those_of_its_predictions(run):
    """Per patch and per photo, on val and test; beside validation stands the paper's Table 2."""
    result = run(epochs=1, learning_rate=0.01)
    rows = result.metrics.set_index(["part", "level", "metric"])
    for part, own in result.predictions.groupby("part"):
        for level, table in (("patch", own), ("photo", evaluation.vote(own))):
            assert rows.loc[part, level, "accuracy"]["value"] == right(table).mean() < 1
    paper = published.read("table2").iloc[0]
    stated = {("val", "patch", "accuracy"): paper["val_accuracy"], ("val", "patch", "log loss"): paper["val_loss"]}
    assert rows["published"].dropna().to_dict() == stated and list(result.metrics) == intervals.METRIC_COLUMNS


@pytest.mark.parametrize("left_out", [None, "Acme_A_1"])
def test_classes_are_never_mixed_even_where_one_is_left_out(run, store, make_store, left_out):
    """Colours were planted by class. Without its second device the first class goes: the others must not shift."""
    kept = (store.table["device"] != left_out).to_numpy()
    smaller = make_store(store.pixels[kept], store.table[kept].reset_index(drop=True))
    plans = planning.plans(smaller.table, "device", 0)
    predictions = run(plans=plans, store=smaller).predictions
    assert right(predictions).all() and (predictions["true"] == predictions["photo"].str.split("/").str[0]).all()
    assert sorted(set(predictions["true"])) == plans[0].class_names == ["Acme_A", "Acme_B", "Bolt_C"][bool(left_out) :]


def test_each_seed_has_its_own_split_model_and_predictions(run, store):
    plans = planning.plans(store.table, "photo", seed=4, seeds=2)
    result = run(plans=plans, epochs=1, learning_rate=0.01)
    assert not torch.equal(*(model.net.classifier.weight for model in result.models))
    for model, plan in zip(result.models, plans, strict=True):
        own = result.test()[result.test()["seed"] == plan.seed]
        alone = evaluation.predict(model, store, plan.rows("test"), batch_size=7)  # not from the same file
        assert model.info["seed"] == plan.seed and own["photo"].tolist() == alone["photo"].tolist()
        np.testing.assert_allclose(log_probabilities(own), log_probabilities(alone), atol=1e-5)
    row = result.metrics.query("part == 'test' and level == 'patch' and metric == 'accuracy'").iloc[0]
    by_seed = pd.Series(right(result.test())).groupby(result.test()["seed"].to_numpy()).mean()
    assert row["seeds"] == 2 and row["n"] == len(result.test()) and row["spread"] == pytest.approx(by_seed.std())
    table = experiments.epochs_of([result])
    assert table["seed"].tolist() == [4, 5] and table["best"].all() and set(table["run"]) == {NAME}
    with pytest.raises(ValueError, match=r"follow different protocols \(photo, scene\)"):
        run(plans=[plans[0], plans[1]._replace(protocol="scene")])


def test_an_experiment_on_features_trains_the_classifier_alone(run, store, study, tmp_path):
    """The means of the channels, known beforehand, give the same predictions; each plan has its own features."""
    plans = planning.plans(store.table, "scene+device", seed=0, seeds=2)
    known = models.to_input(torch.from_numpy(store.pixels).permute(0, 3, 1, 2), "-1..1").mean((2, 3)).numpy()[None]
    whole = run(plans=plans).predictions
    logs = []
    for features in ([known, known], [known, 0 * known]):
        elsewhere = study._replace(data=tmp_path / str(len(logs)))
        logs.append(log_probabilities(run(plans=plans, study=elsewhere, features=features).predictions))
    same = np.isclose(logs, log_probabilities(whole), atol=1e-4).all(2)
    assert same[0].all() and (same[1] == (whole["seed"] == 0)).all()


def test_a_run_is_tested_on_its_own_photos_in_another_store(run, store, make_store):
    result = run(plans=planning.plans(store.table, "scene+device", 0, seeds=2))
    order = np.random.default_rng(5).permutation(len(store.table))
    table = store.table.iloc[order].reset_index(drop=True)
    again = experiments.predict_test(result, make_store(store.pixels[order], table, "random-8-other-order"))
    assert len(again) == len(result.test()) and intervals.paired_difference(again, result.test()) == (0, 0, 0)
    turned = make_store(np.roll(store.pixels[order], 1, axis=3), table, "random-8-other-colours")
    assert not right(experiments.predict_test(result, turned)).any()
    photos = table.drop_duplicates("photo").assign(path=lambda t: "root/" + t["photo"], width=64, height=64)
    tested = experiments.photos_tested([result], photos[catalogues.COLUMNS])
    assert {path.removeprefix("root/") for path in tested["path"]} == set(result.test()["photo"]) < set(photos["photo"])


def test_the_model_of_an_earlier_notebook_is_found_or_that_notebook_is_named(study):
    model = models.Model(models.CameraConvNet(2, width=1 / 64), ["A", "B"], 48, "0..255", {"seed": 3})
    models.save_model(model, experiments.model_path(study.data, "simulated Dresden", NAME, 3))
    assert experiments.load_trained(study, "simulated Dresden", NAME, 3).info == {"seed": 3}
    with pytest.raises(
        FileNotFoundError, match=f"no model {NAME} for Dresden and seed 3 yet: run notebook 02 .* first"
    ):
        experiments.load_trained(study, "Dresden", NAME, 3)
    with pytest.raises(FileNotFoundError, match="no predictions of design-base in .*: run notebook 04 first"):
        experiments.load_predictions(study, "design-base")


@pytest.fixture
def finished(noisy_predictions):
    """Makes an experiment of planted predictions, as `run` returns it."""

    def make(name: str, strength: float = 1, protocol: str = "scene") -> experiments.Experiment:
        table = noisy_predictions(strength=strength).assign(part="test", seed=0)
        return experiments.Experiment(name, protocol, [], [], table, pd.DataFrame())

    return make


@pytest.mark.parametrize("protocol, compare", [("scene", "paired_difference"), ("photo", "difference")])
def test_a_contrast_is_paired_only_on_the_same_photos_and_protocol(finished, protocol, compare):
    a, b = finished("equal-photo", 3), finished("equal-patch", 0.5, protocol)
    for level, tests in (("patch", [a.test(), b.test()]), ("photo", [evaluation.vote(one.test()) for one in (a, b)])):
        (row,) = experiments.contrast(a, b, level).to_dict("records")
        assert list(row) == experiments.CONTRAST_COLUMNS and row["paired"] == (protocol == "scene")
        assert (row["difference"], row["low"], row["high"]) == getattr(intervals, compare)(*tests)
        assert row["low"] > 0 and row["photos"] == row["photos_b"] == 40


def test_contrasts_follow_experiments_csv(finished):
    """Each run against those of its baselines that were run, at its own level unless levels are given."""
    names = "equal-patch equal-scene transfer-matched-patch transfer-random-patch design-base design-photo".split()
    runs = [finished(name) for name in names]
    found = experiments.contrasts(runs)[["a", "b", "level"]].agg(" ".join, axis=1).tolist()
    assert found == ["equal-scene equal-patch patch", "transfer-matched-patch transfer-random-patch patch",
                     "design-photo design-base photo"]  # fmt: skip
    assert experiments.contrasts(runs[:2], ("patch", "photo"))["level"].tolist() == ["patch", "photo"]


def test_experiments_csv_agrees_with_itself_and_with_what_was_published():
    table = experiments.listed()
    assert table.index.is_unique and (table["label"] != "").all() and set(table["level"]) == {"patch", "photo"}
    for name, bases in table["baseline"].str.split().items():
        assert set(bases) <= set(table.index) - {name}, name
        assert (table.loc[bases, ["notebook", "level"]] == table.loc[name, ["notebook", "level"]]).all(axis=None), name
    assert sorted(table["table2"][table["table2"] != ""].astype(int)) == list(range(len(published.read("table2"))))
    assert set(table["claim"].str.split().sum()) <= set(published.read("claims")["id"])


def test_a_notebook_ends_with_its_tables_or_early_without_an_error(study, capsys):
    record = experiments.finish(study, "02", rates=pd.DataFrame({"a": [1 / 3]}))
    assert (study.results / "metrics" / "02_rates.csv").read_text() == "a\n0.333333\n"
    assert {"commit", "clean", "torch", "processor"} <= set(record)
    with pytest.raises(SystemExit) as end:
        experiments.end_notebook("one device per model: nothing to compare")
    assert end.value.code == 0 and "nothing to compare" in capsys.readouterr().out
