"""One experiment from plan to metrics: classes are never mixed, files are written, contrasts follow experiments.csv."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from camid_utils import catalogues, evaluation, experiments, intervals, models, planning, published

SETTINGS = dict(input_range="-1..1", epochs=4, batch_size=16, learning_rate=0.5)
NAME, OTHER = "equal-photo", "equal-patch"  # OTHER is a baseline of NAME; experiments.csv has no published value


@pytest.fixture(autouse=True)
def _on_cpu(on_cpu):
    pass


@pytest.fixture
def run(study, store, colour_net):
    """Runs an experiment on the store of colours, by default under scene+device."""

    def start(name=NAME, plans=None, settings=None, store=store, study=study, **options):
        plans = plans or planning.plans(store.table, "scene+device", 0)
        settings = SETTINGS | (settings or {})
        return experiments.run(study, name, lambda n, _: colour_net(n), store, plans, settings, **options)

    return start


def guesses(predictions: pd.DataFrame) -> np.ndarray:
    return np.array(evaluation.class_names(predictions))[evaluation.log_probabilities(predictions).argmax(1)]


# photographs


def test_without_a_folder_photographs_are_simulated_once(study):
    made = experiments.photographs(study, "floreview")
    assert len(made) == 4 and set(made["dataset"]) == {"simulated FloreView"} and (made["width"] <= 104).all()
    before = {path: path.stat().st_mtime_ns for path in study.data.rglob("*.jpg")}
    assert experiments.photographs(study, "floreview").equals(made)
    assert before == {path: path.stat().st_mtime_ns for path in study.data.rglob("*.jpg")}
    assert experiments.photo_folder(study, "floreview") == study.data / "simulated-floreview"


def test_photographs_in_a_folder_are_read_and_nothing_is_simulated(study, tmp_path):
    for shot in (1, 2):
        path = tmp_path / "mine" / "Nikon_D70" / f"Nikon_D70_0_{shot}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (shot, 0, 0)).save(path)
    catalogue = experiments.photographs(study, "dresden", str(tmp_path / "mine"))
    assert list(catalogue["device"]) == ["Nikon_D70_0"] * 2 and set(catalogue["dataset"]) == {"Dresden"}
    assert not study.data.exists()
    with pytest.raises(FileNotFoundError, match="no folder"):
        experiments.photographs(study, "dresden", str(tmp_path / "absent"))


def test_the_name_of_a_data_set_is_known_without_reading_it(tmp_path):
    assert experiments.dataset_name("dresden", "") == "simulated Dresden"
    assert experiments.dataset_name("floreview", str(tmp_path)) == "FloreView"
    (tmp_path / catalogues.SIMULATED).write_text("")
    assert experiments.dataset_name("floreview", str(tmp_path)) == "simulated FloreView"


# one experiment


def test_an_experiment_learns_and_writes_its_files(run, store, study, tmp_path):
    result = run("cameraconvnet-patch")
    files = {p.relative_to(tmp_path).as_posix() for p in (*study.data.rglob("*"), *study.results.rglob("*"))}
    runs = "data/runs/dresden/cameraconvnet-patch-0"
    written = {f"{runs}/{name}" for name in ("checkpoint.safetensors", "epochs.csv", "steps.csv")}
    written |= {
        "data/models/dresden/cameraconvnet-patch-0.safetensors",
        "results/predictions/cameraconvnet-patch.parquet",
    }
    assert {name for name in files if "." in name and not name.endswith(".lock")} == written
    (model,), (history,) = result.models, result.histories
    assert (model.class_names, model.input_size) == (["Acme_A", "Acme_B", "Bolt_C"], 8)
    stated = {"experiment": "cameraconvnet-patch", "protocol": "scene+device", "dataset": "Dresden", "kind": "random"}
    assert model.info.items() >= (stated | {"epoch": history.best_epoch, "val_accuracy": 1.0, "seed": 0}).items()
    predictions = experiments.load_predictions(study, "cameraconvnet-patch")
    plan = planning.plan(store.table, "scene+device", 0)
    assert predictions["part"].value_counts().to_dict() == {part: len(plan.rows(part)) for part in ("val", "test")}
    assert np.allclose(np.exp(evaluation.log_probabilities(predictions)).sum(1), 1, atol=1e-4)
    assert len(result.test()) == len(plan.rows("test"))


def test_the_metrics_of_an_experiment_are_those_of_its_predictions(run):
    """Per patch and per photo, on val and test; beside validation stand the figures of the paper's Table 2."""
    result = run("cameraconvnet-patch", settings={"epochs": 1, "learning_rate": 0.01})
    rows = result.metrics.set_index(["part", "level", "metric"])
    assert list(result.metrics) == intervals.METRIC_COLUMNS and len(rows) == 2 * 2 * len(evaluation.METRICS)
    for part, own in result.predictions.groupby("part"):
        for level, table in (("patch", own), ("photo", evaluation.vote(own))):
            losses = [row[f"log_prob:{row['true']}"] for row in table.to_dict("records")]
            assert rows.loc[part, level, "log loss"]["value"] == pytest.approx(-np.mean(losses))
            assert rows.loc[part, level, "accuracy"]["value"] == (guesses(table) == table["true"]).mean()
    paper = published.read("table2").iloc[0]
    stated = {("val", "patch", "accuracy"): paper["val_accuracy"], ("val", "patch", "log loss"): paper["val_loss"]}
    assert rows["published"].dropna().to_dict() == stated


def test_classes_are_never_mixed(run):
    """Colours were planted by class, so every prediction must name the class of its own colour."""
    predictions = run().predictions
    assert (guesses(predictions) == predictions["camera_model"]).all()
    assert (predictions["true"] == predictions["photo"].str.split("/").str[0]).all()
    assert set(predictions["true"]) == {"Acme_A", "Acme_B", "Bolt_C"}


def test_classes_are_not_mixed_where_one_is_left_out(run, store, make_store):
    """The first class in the alphabet has one device and is left out: the others' labels must not shift."""
    kept = (store.table["device"] != "Acme_A_1").to_numpy()
    smaller = make_store(store.pixels[kept], store.table[kept].reset_index(drop=True))
    plans = planning.plans(smaller.table, "device", 0)
    assert plans[0].class_names == ["Acme_B", "Bolt_C"]
    predictions = run(plans=plans, store=smaller).predictions
    assert (guesses(predictions) == predictions["true"]).all() and set(predictions["true"]) == {"Acme_B", "Bolt_C"}


def test_each_seed_has_its_own_split_model_and_predictions(study, store, colour_net):
    plans = planning.plans(store.table, "photo", seed=4, seeds=2)
    made = []

    def make_net(classes, plan):
        made.append((classes, plan.seed, torch.initial_seed()))
        return colour_net(classes)

    result = experiments.run(study, NAME, make_net, store, plans, SETTINGS | {"epochs": 1, "learning_rate": 0.01})
    assert made == [(3, 4, 4), (3, 5, 5)]
    names = sorted(path.name for path in (study.data / "models" / "dresden").iterdir())
    assert names == [f"{NAME}-4.safetensors", f"{NAME}-5.safetensors"]
    assert [model.info["seed"] for model in result.models] == [4, 5] and len(result.histories) == 2
    assert not torch.equal(*(model.net.classifier.weight for model in result.models))
    for model, plan in zip(result.models, plans, strict=True):
        for part in ("val", "test"):
            own = result.predictions.query(f"seed == {plan.seed} and part == '{part}'")
            alone = evaluation.predict(model, store, plan.rows(part), batch_size=7)  # not from the same file
            assert own["photo"].tolist() == alone["photo"].tolist()
            logs = (evaluation.log_probabilities(table) for table in (own, alone))
            np.testing.assert_allclose(*logs, atol=1e-5)
    assert (result.metrics["seeds"] == 2).all() and (result.metrics["seed"] == 4).all()
    right = pd.Series(guesses(result.test()) == result.test()["true"].to_numpy()).groupby(
        result.test()["seed"].to_numpy()
    )
    row = result.metrics.query("part == 'test' and level == 'patch' and metric == 'accuracy'").iloc[0]
    assert row["n"] == len(result.test()) and row["spread"] == pytest.approx(right.mean().std())


def test_seeds_of_different_protocols_are_refused(run, store):
    plans = [planning.plan(store.table, protocol, 0) for protocol in ("photo", "scene")]
    with pytest.raises(ValueError, match=r"follow different protocols \(photo, scene\)"):
        run(plans=plans)


def test_an_experiment_on_features_trains_the_classifier_alone(run, store, study, tmp_path):
    """The means of the channels, known beforehand, give the same predictions as the whole network."""
    plans = planning.plans(store.table, "scene+device", seed=0, seeds=2)
    known = models.to_input(torch.from_numpy(store.pixels).permute(0, 3, 1, 2), "-1..1").mean((2, 3)).numpy()[None]
    elsewhere = {name: study._replace(data=tmp_path / name, results=tmp_path / name) for name in "abc"}
    whole, quick = run(plans=plans), run(plans=plans, study=elsewhere["a"], features=[known, known])
    logs = (evaluation.log_probabilities(result.predictions) for result in (whole, quick))
    np.testing.assert_allclose(*logs, atol=1e-4)
    for name, features in (("b", [known, 0 * known]), ("c", [0 * known, known])):  # each plan has its own
        predictions = run(plans=plans, study=elsewhere[name], features=features).predictions
        right = (guesses(predictions) == predictions["true"]).groupby(predictions["seed"]).mean()
        assert right[0 if name == "b" else 1] == 1 > 0.5 > right[1 if name == "b" else 0]


def test_the_same_seed_gives_the_same_metrics_to_the_bit(run, study, tmp_path):
    studies = [study._replace(data=tmp_path / name) for name in "ab"]
    settings = {"epochs": 1, "learning_rate": 0.01}
    first = run(study=studies[0], settings=settings).metrics
    for path in tmp_path.rglob("logits-*.npy"):
        path.unlink()
    assert first.to_csv() == run(study=studies[1], settings=settings).metrics.to_csv()


def test_the_epochs_of_several_runs_are_one_table(run, store):
    plans = planning.plans(store.table, "photo", seed=0, seeds=2)
    runs = [run(plans=plans), run(OTHER, plans=plans[:1])]
    table = experiments.epochs_of(runs)
    assert table["run"].tolist() == [NAME] * 8 + [OTHER] * 4
    assert table["seed"].tolist() == [0] * 4 + [1] * 4 + [0] * 4
    best = [history.best_epoch for one in runs for history in one.histories]
    assert table.query("best")["epoch"].tolist() == best


# other stores, earlier notebooks


def test_a_run_is_tested_on_its_own_photos_in_another_store(run, store, make_store):
    result = run(plans=planning.plans(store.table, "scene+device", 0, seeds=2))
    order = np.random.default_rng(5).permutation(len(store.table))
    table = store.table.iloc[order].reset_index(drop=True)
    again = experiments.predict_test(result, make_store(store.pixels[order], table, "random-8-other-order"))
    assert set(again["part"]) == {"test"} and list(again["seed"].unique()) == [0, 1]
    assert intervals.paired_difference(again, result.test()) == (0, 0, 0)
    for seed in (0, 1):
        photos = [set(rows.loc[rows["seed"] == seed, "photo"]) for rows in (again, result.test())]
        assert photos[0] == photos[1]
    turned = make_store(np.roll(store.pixels[order], 1, axis=3), table, "random-8-other-colours")
    predictions = experiments.predict_test(result, turned)
    after = {"Acme_A": "Acme_B", "Acme_B": "Bolt_C", "Bolt_C": "Acme_A"}
    assert (guesses(predictions) == predictions["true"].map(after)).all()


def test_photos_tested_are_those_of_any_run(run, store):
    photos = store.table.drop_duplicates("photo").assign(path=lambda t: "root/" + t["photo"], width=64, height=64)
    plans = planning.plans(store.table, "scene+device", 0, seeds=2)
    runs = [run(name, plans=[plan]) for name, plan in zip((NAME, OTHER), plans, strict=True)]
    tested = experiments.photos_tested(runs, photos[catalogues.COLUMNS])
    expected = set(store.table["photo"].iloc[np.concatenate([plan.rows("test") for plan in plans])])
    assert {path.removeprefix("root/") for path in tested["path"]} == expected
    assert len(tested) == len(expected) < len(photos) and list(tested.index) == list(range(len(tested)))


def test_the_model_of_an_earlier_notebook_is_found_by_data_set_name_and_seed(study):
    for seed in (3, 4):
        model = models.Model(models.CameraConvNet(2, width=1 / 64), ["A", "B"], 48, "0..255", {"seed": seed})
        models.save_model(model, experiments.model_path(study.data, "simulated Dresden", NAME, seed))
    found = experiments.load_trained(study, "simulated Dresden", NAME, 3)
    assert found.class_names == ["A", "B"] and found.info == {"seed": 3}


def test_what_an_earlier_notebook_has_not_made_yet_names_that_notebook(study):
    with pytest.raises(
        FileNotFoundError, match=f"no model {NAME} for Dresden and seed 4 yet: run notebook 02 .* first"
    ):
        experiments.load_trained(study, "Dresden", NAME, 4)
    with pytest.raises(FileNotFoundError, match="no predictions of design-base in .*: run notebook 04 first"):
        experiments.load_predictions(study, "design-base")


# contrasts and tables


@pytest.fixture
def finished(noisy_predictions):
    """Makes an experiment of planted predictions, as `run` returns it."""

    def make(name: str, strength: float, protocol: str = "scene", seed: int = 0) -> experiments.Experiment:
        table = noisy_predictions(strength=strength, seed=seed).assign(part="test", seed=0)
        return experiments.Experiment(name, protocol, [], [], table, pd.DataFrame())

    return make


def test_a_contrast_is_paired_only_on_the_same_photos_and_protocol(finished):
    a, b, other = finished(NAME, 3), finished(OTHER, 0.5), finished(OTHER, 0.5, "photo")
    (row,) = experiments.contrast(a, b).to_dict("records")
    assert list(row) == experiments.CONTRAST_COLUMNS and row["paired"] and row["photos"] == row["photos_b"] == 40
    assert tuple(row[c] for c in ("difference", "low", "high")) == intervals.paired_difference(a.test(), b.test())
    assert 0 < row["low"] < row["difference"] < row["high"]
    (row,) = experiments.contrast(a, other).to_dict("records")
    assert not row["paired"] and row["protocol_b"] == "photo"
    assert tuple(row[c] for c in ("difference", "low", "high")) == intervals.difference(a.test(), other.test())
    (row,) = experiments.contrast(a, b, "photo").to_dict("records")
    votes = (evaluation.vote(one.test()) for one in (a, b))
    assert (row["level"], row["difference"]) == ("photo", intervals.paired_difference(*votes)[0])


def test_contrasts_follow_experiments_csv(finished):
    """Each run against its baselines that were run, at its own level unless levels are given."""
    names = [
        "equal-patch",
        "equal-scene",
        "transfer-matched-patch",
        "transfer-random-patch",
        "design-base",
        "design-photo",
    ]
    runs = [finished(name, 1, seed=i) for i, name in enumerate(names)]
    found = experiments.contrasts(runs)[["a", "b", "level"]].to_numpy().tolist()
    assert found == [
        ["equal-scene", "equal-patch", "patch"],
        ["transfer-matched-patch", "transfer-random-patch", "patch"],
        ["design-photo", "design-base", "photo"],
    ]
    both = experiments.contrasts(runs[:2], ("patch", "photo"))
    assert both["level"].tolist() == ["patch", "photo"] and set(both["a"]) == {"equal-scene"}


def test_experiments_csv_agrees_with_itself_and_with_what_was_published():
    table = experiments.listed()
    assert table.index.is_unique and (table["label"] != "").all() and set(table["level"]) == {"patch", "photo"}
    assert experiments.labels()["design-base"] == table.loc["design-base", "label"]
    for name, bases in table["baseline"].str.split().items():
        assert set(bases) <= set(table.index) - {name}, name
        assert (table.loc[bases, ["notebook", "level"]] == table.loc[name, ["notebook", "level"]]).all(axis=None), name
    rows = table.loc[table["table2"] != "", "table2"].astype(int)
    assert rows.is_unique and rows.isin(range(len(published.read("table2")))).all()
    assert set(table["claim"].str.split().sum()) <= set(published.read("claims")["id"])


def test_a_notebook_that_does_not_apply_ends_without_an_error(capsys):
    with pytest.raises(SystemExit) as end:
        experiments.end_notebook("one device per model: nothing to compare")
    assert end.value.code == 0 and capsys.readouterr().out == "one device per model: nothing to compare\n"


def test_the_tables_of_a_notebook_are_written_at_its_end(study):
    table = pd.DataFrame({"a": [1 / 3]})
    record = experiments.finish(study, "02", rates=table, voting=table)
    assert sorted(p.name for p in (study.results / "metrics").iterdir()) == ["02_rates.csv", "02_voting.csv"]
    assert (study.results / "metrics" / "02_rates.csv").read_text() == "a\n0.333333\n"
    assert {"commit", "clean", "torch", "processor"} <= set(record)


def test_what_each_data_set_holds_is_written(study):
    catalogue = experiments.photographs(study, "floreview")
    experiments.save_datasets(study, [catalogue])
    (name, held), = json.loads((study.results / "metrics" / "datasets.json").read_text()).items()  # fmt: skip
    assert name == "simulated FloreView" and (held["photos"], held["left_out"]) == (4, 0)
    assert held["devices"] == catalogue["device"].nunique()
    assert held["fingerprint"] == catalogues.fingerprint(catalogue, with_mtime=False)
