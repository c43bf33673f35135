"""One experiment from plan to metrics: classes are never mixed, files are written, contrasts follow experiments.csv."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import colour_net, noisy_predictions

from camid_utils import catalogues, evaluation, experiments, intervals, planning, published, splits
from camid_utils.evaluation import log_probabilities
from camid_utils.report import tables

SETTINGS = dict(input_range="-1..1", epochs=4, batch_size=16, learning_rate=0.5)
NAME = "cameraconvnet-patch"  # the one that Table 2 has on Dresden
pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture
def run(study, store):
    """Runs an experiment on the store of colours, under scene+device unless plans are given."""

    def start(plans=None, store=store, **change):
        plans = plans or planning.plans(store.table, "scene+device", 0)
        return experiments.run(study, NAME, lambda n, _: colour_net(n), store, plans, SETTINGS | change)

    return start


def test_an_experiment_learns_and_writes_its_files(run, study, tmp_path):
    result = run()
    files = {p.relative_to(tmp_path).as_posix() for p in (*study.data.rglob("*.*"), *study.results.rglob("*.*"))}
    written = {f"data/runs/dresden/{NAME}-0/{name}" for name in ("checkpoint.safetensors", "epochs.csv", "steps.csv")}
    written |= {f"data/models/dresden/{NAME}-0.safetensors", f"results/predictions/{NAME}.parquet"}
    assert {name for name in files if not name.endswith(".lock")} == written
    stated = {"experiment": NAME, "protocol": "scene+device", "dataset": "Dresden", "kind": "random", "seed": 0}
    assert result.models[0].info.items() >= (stated | {"val_accuracy": 1.0}).items()
    assert len(result.predictions) > len(result.test()) > 0
    rows, paper = result.metrics.set_index(["part", "level", "metric"]), published.read("table2").iloc[0]
    losses = [-row[f"log_prob:{row['true']}"] for row in result.test().to_dict("records")]
    assert rows.loc[("test", "patch", "log loss"), "value"] == pytest.approx(np.mean(losses))
    stated = {("test", "patch", "accuracy"): paper["val_accuracy"], ("test", "patch", "log loss"): paper["val_loss"]}
    assert rows["published"].dropna().to_dict() == stated and len(rows) == 2 * 2 * len(evaluation.METRICS)
    with pytest.raises(FileNotFoundError, match=f"{NAME}-3.safetensors: run notebook 02 first"):
        experiments.load_trained(study, "Dresden", NAME, 3)


@pytest.mark.parametrize("left_out", [None, "Acme_A_1"])
def test_classes_are_never_mixed_even_where_one_is_left_out(run, store, make_store, left_out):
    """Colours were planted by class. Without its second device the first class goes: the others must not shift."""
    kept = (store.table["device"] != left_out).to_numpy()
    smaller = make_store(store.pixels[kept], store.table[kept].reset_index(drop=True))
    plans = planning.plans(smaller.table, "device", 0)
    predictions = run(plans=plans, store=smaller).predictions
    assert (evaluation.predicted(predictions) == predictions["true"]).all()
    assert (predictions["true"] == predictions["photo"].str.split("/").str[0]).all()
    assert sorted(set(predictions["true"])) == plans[0].class_names == ["Acme_A", "Acme_B", "Bolt_C"][bool(left_out) :]


def test_each_seed_has_its_own_split_model_and_predictions(run, store, monkeypatch):
    plans = planning.plans(store.table, "photo", seed=4, seeds=2)
    result = run(plans=plans, epochs=1, learning_rate=0.0)
    assert not torch.equal(*(model.net.classifier.weight for model in result.models))  # as initialised, by the seed
    monkeypatch.setattr(evaluation, "BATCH", 7)  # predictions do not come from the same file
    for model, plan in zip(result.models, plans, strict=True):
        own = result.test()[result.test()["seed"] == plan.seed]
        alone = evaluation.predict(model, store, plan.rows("test"))
        assert model.info["seed"] == plan.seed and own["photo"].tolist() == alone["photo"].tolist()
        np.testing.assert_allclose(log_probabilities(own), log_probabilities(alone), atol=1e-5)
    assert (result.metrics["seeds"] == 2).all() and result.metrics["spread"].max() > 0
    table, ends = experiments.epochs_of([result]), tables.training_table([result])
    assert table["seed"].tolist() == [4, 5] and table["best"].all() and set(table["run"]) == {NAME}
    assert ends[["seed", "epochs", "kept", "plateau"]].to_numpy().tolist() == [[4, 1, 1, False], [5, 1, 1, False]]
    np.testing.assert_allclose(ends[["val_accuracy", "val_loss"]], table[["val_accuracy", "val_loss"]], atol=1e-4)
    assert not result.plateau
    with pytest.raises(ValueError, match=r"follow different protocols \(photo, scene\)"):
        run(plans=[plans[0], plans[1]._replace(protocol="scene")])


def test_experiments_that_share_a_network_train_it_once(study, store, monkeypatch):
    """The second finds the finished training: it fails if one more epoch is trained."""
    found = planning.shared_training(store.table, "scene+device", 0, train=2)
    make, names = (lambda n, _: colour_net(n)), dict(zip(found, ("patch", "photo", "scene"), strict=False))
    runs = []
    for protocol in names:
        runs.append(
            experiments.run(study, f"cameraconvnet-{protocol}", make, store, found[protocol], SETTINGS, network="one")
        )
        monkeypatch.setattr(experiments.training, "_train_epoch", None)
    assert [p.name for p in (study.data / "runs" / "dresden").iterdir()] == ["one-0"] and len(runs) == 3
    weights = [run.models[0].net.classifier.weight for run in runs]
    assert torch.equal(*weights[:2]) and torch.equal(*weights[1:])
    tested = [{*run.test()["photo"]} for run in runs]
    assert tested[0].isdisjoint(tested[1]) and tested[1].isdisjoint(tested[2]) and all(tested)


def test_a_run_is_tested_on_its_own_photos_in_another_store(run, store, make_store):
    result = run(plans=planning.plans(store.table, "scene+device", 0, seeds=2))
    order = np.random.default_rng(5).permutation(len(store.table))
    table = store.table.iloc[order].reset_index(drop=True)
    again = experiments.predict_test(result, make_store(store.pixels[order], table, "random-8-other-order"))
    assert len(again) == len(result.test()) and intervals.difference(again, result.test()) == (0, 0, 0, 1)
    turned = make_store(np.roll(store.pixels[order], 1, axis=3), table, "random-8-other-colours")
    wrong = experiments.predict_test(result, turned)
    assert (evaluation.predicted(wrong) != wrong["true"]).all()
    photos = table.drop_duplicates("photo").assign(collection="Dresden", width=64, height=64)
    photos["path"] = "root/" + photos["photo"]
    tested = experiments.photos_tested([result], photos[catalogues.COLUMNS])
    assert {path.removeprefix("root/") for path in tested["path"]} == set(result.test()["photo"]) < set(photos["photo"])


def finished(name: str, strength: float = 1, plateau: bool = True) -> experiments.Experiment:
    """An experiment of planted predictions, as `run` returns it."""
    table = noisy_predictions(strength=strength).assign(part="test", seed=0)
    return experiments.Experiment(name, "scene", [], [], table, pd.DataFrame({"plateau": [True, plateau]}))


def test_contrasts_follow_experiments_csv_and_their_verdicts_the_planted_differences():
    """Each run against those of its baselines that were run, at its own level unless levels are given."""
    planted = {"cameraconvnet-patch": 3, "cameraconvnet-scene": 0, "cameraconvnet-photo": 3, "planted-scene": 1,
               "transfer-matched-strict": 3, "transfer-random-strict": 0, "content-scene+device": 1}  # fmt: skip
    runs = [finished(name, strength) for name, strength in planted.items()]
    runs += [finished("cameraconvnet-device", 0, plateau=False), finished("cameraconvnet-scene+device", 1)]
    found = experiments.contrasts(runs)
    assert list(found) == [*experiments.CONTRAST_COLUMNS, "p_holm", "verdict"] and (found["photos_b"] == 40).all()
    assert found[["a", "b", "level", "verdict"]].agg(" ".join, axis=1).tolist() == [
        "cameraconvnet-scene cameraconvnet-patch patch lower",
        "cameraconvnet-photo cameraconvnet-patch patch undecided",
        "transfer-matched-strict transfer-random-strict patch higher",
        "content-scene+device cameraconvnet-scene+device photo undecided",
        "cameraconvnet-device cameraconvnet-patch patch not trained to the plateau",
        "cameraconvnet-scene+device cameraconvnet-patch patch lower",
    ]
    assert experiments.contrasts(runs[:1]).columns.tolist() == list(found)  # none, without its baseline
    again = experiments.contrasts(runs[:2], ("patch", "photo"))
    for row, how in zip(again.to_dict("records"), (lambda table: table, evaluation.vote), strict=True):
        expected = intervals.difference(how(runs[1].test()), how(runs[0].test()))
        assert (row["difference"], row["low"], row["high"], row["p"]) == expected
    assert again["level"].tolist() == ["patch", "photo"]


def test_experiments_csv_agrees_with_itself_and_with_what_was_published():
    table = experiments.listed()
    assert table.index.is_unique and (table["label"] != "").all() and set(table["level"]) == {"patch", "photo"}
    for name, bases in table["baseline"].str.split().items():
        assert set(bases) <= set(table.index) - {name}, name
        assert (table.loc[bases, "notebook"] <= table.loc[name, "notebook"]).all(), name  # they have run by then
    assert sorted(table["table2"][table["table2"] != ""].astype(int)) == list(range(len(published.read("table2"))))
    assert set(table["claim"].str.split().sum()) <= set(published.read("claims")["id"])
    assert tables.family("planted-content-scene") == "planted leak, content alone"  # its label without the test


def test_experiments_csv_lists_each_test_that_other_data_may_allow():
    """A profile's strictest test depends on its photos: a name that is missing would end the run after its training."""
    names = "header phones-header cameraconvnet bondi content residual phones-content phones-residual".split()
    tested = {f"{name}-{test}" for name in names for test in (*splits.LADDER, "collection")}
    assert tested <= set(experiments.listed().index)


def test_another_notebooks_experiment_is_read_as_it_was_left(run, study):
    left = run(plans=None, epochs=1)
    with pytest.raises(FileNotFoundError, match="02_metrics.csv: run notebook 02 first"):
        experiments.load_experiment(study, NAME)
    other = left.metrics.assign(experiment="cameraconvnet-photo", plateau=True)
    experiments.finish(study, "02", metrics=pd.concat([other, left.metrics]))
    found = experiments.load_experiment(study, NAME)
    assert (found.name, found.protocol, found.plateau) == (NAME, left.protocol, False)
    assert len(found.predictions) == len(left.predictions)
    assert len(found.metrics) == len(left.metrics) == len(tables.metrics_of(study, "02")) / 2
    assert intervals.difference(found.test(), left.test()) == (0, 0, 0, 1)
    with pytest.raises(FileNotFoundError, match="03_metrics.csv: run notebook 03 first"):
        tables.metrics_of(study, "03")
    (study.results / "predictions" / f"{NAME}.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=f"{NAME}.parquet: run notebook 02 first"):
        experiments.load_experiment(study, NAME)


def test_photographs_are_simulated_where_no_folder_is_given(study, monkeypatch):
    made, common = {}, dict(seed=3, models=2, devices=2, shots=2)
    study = study._replace(simulation=common | dict(scenes=4, width=64))
    monkeypatch.setattr(experiments.build, "simulate", lambda kind, root, **how: made.update({kind: how}) or root)
    assert experiments.photo_folder(study, "dresden", "/some/where") == Path("/some/where") and made == {}
    for kind, how in {"dresden": dict(scenes=4), "vision": dict(scenes=1, shots=1)}.items():
        assert experiments.photo_folder(study, kind) == study.data / f"simulated-{kind}"
        assert made[kind] == common | how | dict(size=(64, 48))
    monkeypatch.setattr(experiments.datasets, "load_dresden", lambda root: pd.DataFrame({"dataset": [root.name]}))
    assert experiments.photographs(study, "dresden")["dataset"].tolist() == ["simulated-dresden"]
    folder = catalogues.folder_name("simulated Dresden, own scenes")  # where the page of matrices looks for photos
    assert folder == "simulated-dresden-own-scenes"
    assert experiments.planted(study, 7)["dataset"].tolist() == [f"{folder}, own scenes"]
    assert made["dresden"] == common | dict(scenes=7, own_scenes=True, size=(64, 48))


def test_public_photographs_stand_in_for_both_data_sets_unless_these_have_a_folder(tmp_path, monkeypatch):
    asked = {}
    for kind in ("photographs", "dresden"):
        monkeypatch.setattr(experiments.datasets, f"load_{kind}", lambda root, **how: asked.update(root=root, **how))
    study = experiments.open_study("data", "results", photographs_root=str(tmp_path / "public"), seed=3)
    assert study.public == tmp_path / "public" and study.simulation == {"seed": 3}
    for kind, role in {"dresden": "camera", "floreview": "phone", "public": None}.items():
        experiments.photographs(study, kind)
        assert asked == dict(root=tmp_path / "public", role=role, least=8)
    asked.clear()
    experiments.photographs(study, "dresden", str(tmp_path))
    assert asked == {"root": tmp_path}


def test_a_notebook_ends_with_its_tables_or_early_without_an_error(study, capsys):
    experiments.finish(study, "02", rates=pd.DataFrame({"a": [1 / 3]}))
    assert (study.results / "metrics" / "02_rates.csv").read_text() == "a\n0.333333\n"
    with pytest.raises(SystemExit) as end:
        experiments.end_notebook("one device per model: nothing to compare")
    assert end.value.code == 0 and "nothing to compare" in capsys.readouterr().out
