"""The notebooks' form, and what they write when the smoke profile runs them all."""

import ast
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest

from camid_utils import evaluation, models, published, splits, study
from camid_utils.experiments import PROJECT

SOURCES = study.find_notebooks()
NAMES = [path.stem for path in SOURCES]
PROFILES = sorted(path.stem for path in study.PROFILES.glob("*.yaml"))
CELLS = ["released", "range", "still", "matched", "finetuned", "scratch", "random", "adapted", "degraded"]
EXPERIMENTS = {
    "02_cameraconvnet_dresden": ["cameraconvnet-patch", *(f"equal-{protocol}" for protocol in splits.PROTOCOLS)],
    "03_transfer_to_floreview": [f"transfer-{cell}-{name}" for name in ("patch", "strict") for cell in CELLS],
    "04_efficientnet_floreview": [
        "efficientnet-released",
        *(f"design-{change}" for change in ("base", "scratch", "squashed", "rotated", "photo", "linear", "degraded")),
        "efficientnet-best",
        "efficientnet-best-degraded",
    ],
    "04b_individual_instances": ["devices-network"],
}
TABLES = {
    "02": "contrasts voting two_epochs rates epochs",
    "03": "contrasts epochs",
    "04": "contrasts traces robustness epochs",
    "04b": "contrasts fingerprints epochs",
    "05": "table2 ledger",
    "06": "scores rates splices",
    "07": "contrasts versions",
}
FIGURES = {
    "01": "counts coverage scene pixels spectra jpeg patches protocols",  # each of both data sets
    "02": "network steps learning_curves confusion_patch learning_curves_equal protocols leak voting two_epochs rates "
    "confusion_model confusion_brand confusion_device gallery",
    "03": "statistics cells effects confusion_released confusion_best gallery",
    "04": "network views learning_curves accuracy effects traces robustness confusion_best confusion_released "
    "confusion_brand confusion_device gallery",
    "04b": "confusion_network fingerprints energies roc confusion_fingerprint",
    "05": "summary",
    "06": "reliability roc unknown rates splice",
    "07": "accuracy confusion_forchheim confusion_vision versions networks",
}


def number_of(name: str) -> str:
    """The number of a notebook or of one of its files."""
    return name.split("_")[0]


def cells(path: Path, kind: str = "code") -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def is_parameters(cell) -> bool:
    return "parameters" in cell.metadata.get("tags", [])


def parameters(path: Path) -> dict[str, object]:
    (cell,) = filter(is_parameters, cells(path))
    return {line.target.id: ast.literal_eval(line.value) for line in ast.parse(cell.source).body}


# the form of the sources


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_sources_are_valid_and_carry_no_output(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert all(not cell.outputs and cell.execution_count is None for cell in cells(path))
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_one_cell_of_typed_literal_parameters(path):
    tagged = [cell for cell in cells(path) if is_parameters(cell)]
    assert len(tagged) == 1
    lines = tagged[0].source.splitlines()
    body = ast.parse(tagged[0].source).body
    assert len(body) == len(lines) and all(isinstance(line, ast.AnnAssign) for line in body)
    for line in body:
        assert type(ast.literal_eval(line.value)).__name__ == line.annotation.id, line.target.id
    assert sum("  # " in line for line in lines) >= 0.6 * len(lines)


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_cells_are_small_and_prose_keeps_pace(path):
    code, prose = cells(path), cells(path, "markdown")
    assert max(len(cell.source.splitlines()) for cell in code) <= 30
    assert np.median([len(cell.source.splitlines()) for cell in code]) <= 12
    assert 0.4 <= len(prose) / (len(code) + len(prose)) <= 0.65
    assert prose[0].source.startswith(f"# {number_of(path.name).lstrip('0')}. ") and "| **Writes** |" in prose[0].source
    source = "\n".join(cell.source for cell in code)
    assert not any(word in source for word in ("sys.path", "chdir", "class ", "!pip", "%pip"))
    assert source.count("\ndef ") + source.startswith("def ") <= 2


def test_links_between_notebooks_lead_somewhere():
    for path in SOURCES:
        for cell in cells(path, "markdown"):
            for target in cell.source.split("](")[1:]:
                target = target.split(")")[0]
                assert target.startswith("https://") or (path.parent / target).is_file(), target


def test_a_parameter_has_the_same_default_everywhere():
    defaults: dict[str, object] = {}
    for path in SOURCES:
        for name, value in parameters(path).items():
            assert defaults.setdefault(name, value) == value, f"{name} in {path.name}"


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_name_only_known_parameters(profile):
    given = study.read_parameters(profile, [])
    assert given.keys() <= study.known_parameters().keys() and "results_dir" not in given


def test_the_profiles_keep_their_heavy_files_apart():
    assert PROFILES == ["default", "full", "paper", "rehearsal", "smoke"]
    folders = [study.read_parameters(profile, [])["data_dir"] for profile in PROFILES]
    assert folders == ["data/default", "data/full", "data/paper", "data/rehearsal", "data/smoke"]


# what a run of all notebooks writes

smoke_run = pytest.mark.notebooks


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Path:
    """The results folder of the smoke profile, run once, from a folder that has nothing to do with the project."""
    place = tmp_path_factory.mktemp("smoke")
    command = ["-m", "camid_utils.study", "--profile", "smoke", "--out", "out", "-p", f"data_dir={place / 'data'}"]
    run = subprocess.run([sys.executable, *command], cwd=place, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert run.stdout.splitlines()[-1] == "results: out"
    return place / "out"


@smoke_run
@pytest.mark.parametrize("name", NAMES)
def test_executed_copies_are_in_order_and_free_of_errors(smoke, name):
    code = cells(smoke / "notebooks" / f"{name}.ipynb")
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1))
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert "error" not in kinds
    warnings = [o.text for cell in code for o in cell.outputs if o.get("name") == "stderr"]
    assert warnings == []
    page = (smoke / "html" / f"{name}.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and f"{number_of(name).lstrip('0')}. " in page
    assert (smoke / "notebooks" / f"{name}.ipynb").stat().st_size < 8_000_000


@smoke_run
@pytest.mark.parametrize("name", NAMES)
def test_executed_copies_name_no_folder_of_this_machine(smoke, name):
    """The parameters that were given are the only place where the reader's own folders may stand."""
    for cell in cells(smoke / "notebooks" / f"{name}.ipynb"):
        if "injected-parameters" not in cell.metadata.get("tags", []):
            text = json.dumps({"source": cell.source, "outputs": cell.outputs})
            for folder in (smoke, smoke.parent, PROJECT):
                assert f"{folder}/" not in text, text[: text.find(str(folder)) + 200][-400:]
            assert "PosixPath" not in text
        assert not {"papermill", "execution"} & set(cell.metadata)


@smoke_run
def test_every_figure_is_a_file_and_stands_in_its_notebook(smoke):
    expected = []
    for number, names in FIGURES.items():
        ends = ("_dresden", "_floreview") if number == "01" else ("",)
        expected += [f"{number}_{name}{end}.png" for name in names.split() for end in ends]
    assert sorted(path.name for path in (smoke / "figures").iterdir()) == sorted(expected)
    for path in (smoke / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 3000, path.name
    for name in NAMES:
        code = cells(smoke / "notebooks" / f"{name}.ipynb")
        shown = sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
        assert shown == sum(number_of(figure) == number_of(name) for figure in expected), name


@smoke_run
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_metrics_are_complete_and_possible(smoke, name):
    metrics = pd.read_csv(smoke / "metrics" / f"{name}.csv")
    assert list(metrics.columns) == evaluation.METRIC_COLUMNS
    assert list(metrics["experiment"].unique()) == EXPERIMENTS[name]
    assert len(metrics) == len(EXPERIMENTS[name]) * 2 * 2 * len(evaluation.METRICS)  # val and test, patch and photo
    assert metrics.drop(columns="published").notna().all(axis=None)
    assert (metrics["dataset"] == f"simulated {'Dresden' if name.startswith('02') else 'FloreView'}").all()
    assert (metrics["seeds"] == 1).all() and (metrics["spread"] == 0).all()
    accuracies = metrics[metrics["metric"].isin(["accuracy", "top-3 accuracy"])]
    bounds = accuracies[["low", "value", "high"]].to_numpy()
    assert (np.diff(bounds, axis=1) >= 0).all() and bounds.min() >= 0 and bounds.max() <= 1
    assert metrics[["low", "value", "high"]].min(axis=None) >= 0
    classes = 6 if name.startswith("04b") else 3  # devices, or camera models
    assert (metrics["classes"] == classes).all() and (metrics["photos"] <= metrics["n"]).all()
    paper = metrics.dropna(subset=["published"])
    if not name.startswith("04b"):
        assert set(paper["experiment"]) == {EXPERIMENTS[name][0]}
        assert set(paper["metric"]) == {"accuracy", "log loss"} and set(paper["part"]) == {"val"}


@smoke_run
@pytest.mark.parametrize("experiment", sum(EXPERIMENTS.values(), []))
def test_predictions_are_probabilities_and_give_the_metrics(smoke, experiment):
    predictions = pd.read_parquet(smoke / "predictions" / f"{experiment}.parquet")
    logs = evaluation.log_probabilities(predictions)
    target = "device" if experiment.startswith("devices") else "camera_model"
    assert logs.shape[1] == (6 if target == "device" else 3) and np.allclose(np.exp(logs).sum(axis=1), 1, atol=1e-4)
    assert (predictions["true"] == predictions[target]).all() and (predictions["seed"] == 0).all()
    assert not predictions.duplicated(["photo", "y", "x"]).any()
    source = next(name for name, names in EXPERIMENTS.items() if experiment in names)
    metrics = pd.read_csv(smoke / "metrics" / f"{source}.csv").query("experiment == @experiment and level == 'patch'")
    for part in ("val", "test"):
        rows = predictions[predictions["part"] == part]
        guess = np.array(evaluation.class_names(rows))[evaluation.log_probabilities(rows).argmax(1)]
        (written,) = metrics.query("part == @part and metric == 'accuracy'").to_dict("records")
        assert written["value"] == pytest.approx((guess == rows["true"]).mean(), abs=1e-5)
        assert (written["n"], written["photos"]) == (len(rows), rows["photo"].nunique())


@smoke_run
@pytest.mark.parametrize("experiment", sum(EXPERIMENTS.values(), []))
def test_no_part_shares_what_its_protocol_keeps_apart(smoke, experiment):
    source = next(name for name, names in EXPERIMENTS.items() if experiment in names)
    metrics = pd.read_csv(smoke / "metrics" / f"{source}.csv").query("experiment == @experiment")
    (protocol,) = metrics["protocol"].unique()
    wanted = {"strict": "scene+device", "photo": "photo", "released": "photo", "network": "scene"}
    last = experiment.split("-")[-1]
    if experiment.startswith("equal") or last == "patch":
        assert protocol == last
    else:
        assert protocol == wanted.get(last, "scene+device")
    predictions = pd.read_parquet(smoke / "predictions" / f"{experiment}.parquet")
    val, test = (predictions[predictions["part"] == part] for part in ("val", "test"))
    for column in {"patch": ""}.get(protocol, f"photo {protocol.replace('+', ' ')}").split():
        assert not set(val[column]) & set(test[column]), column


@smoke_run
@pytest.mark.parametrize("name", ["06_which_camera", "07_other_corpora"])
def test_figures_of_trained_models_on_other_photos_are_complete(smoke, name):
    metrics = pd.read_csv(smoke / "metrics" / f"{name}.csv")
    assert list(metrics.columns) == evaluation.METRIC_COLUMNS and set(metrics["part"]) == {"test"}
    assert metrics.drop(columns="published").notna().all(axis=None)
    assert metrics["dataset"].str.startswith("simulated ").all()


@smoke_run
def test_the_model_file_of_the_identifier_carries_what_was_measured(smoke):
    (path,) = (smoke.parent / "data").glob("models/*/identifier-0.safetensors")
    facts = models.load_model(path).info["identification"]
    rates = pd.read_csv(smoke / "metrics" / "06_rates.csv").set_index("question")["value"]
    assert facts["known_refused"] == pytest.approx(rates["known cameras refused"], abs=1e-4)
    assert facts["unknown_accepted"] == pytest.approx(rates["unknown cameras accepted"], abs=1e-4)
    chosen = pd.read_csv(smoke / "metrics" / "06_scores.csv").query("part == 'choosing'")
    assert facts["score"] == chosen.loc[chosen["value"].idxmax(), "score"]


@smoke_run
def test_training_is_recorded_by_epoch(smoke):
    for name, runs in EXPERIMENTS.items():
        epochs = pd.read_csv(smoke / "metrics" / f"{number_of(name)}_epochs.csv")
        assert {"epoch", "train_loss", "val_loss", "val_accuracy", "val_precision", "run", "seed", "best"} <= set(
            epochs
        )
        assert epochs.groupby("run")["best"].sum().to_dict() == dict.fromkeys(runs, 1)


@smoke_run
def test_every_small_table_is_there_and_names_its_data(smoke):
    for notebook, names in TABLES.items():
        for name in names.split():
            table = pd.read_csv(smoke / "metrics" / f"{notebook}_{name}.csv")
            assert len(table), name
            if "value" in table and "low" in table:
                assert (table["low"] <= table["value"] + 1e-9).all() and (table["value"] <= table["high"] + 1e-9).all()


@smoke_run
def test_the_ledger_judges_every_claim_and_lacks_no_evidence(smoke):
    table = pd.read_csv(smoke / "metrics" / "05_ledger.csv").fillna("")
    assert list(table["id"]) == list(published.read("claims")["id"])
    assert not table["verdict"].str.contains("missing").any(), table[table["verdict"].str.contains("missing")]
    assert not (table["verdict"] == "reproduced")[table["ours"].str.contains("simulated")].any()
    page = (smoke / "html" / "05_claims_and_evidence.html").read_text(encoding="utf-8")
    assert 'href="02_cameraconvnet_dresden.html#' in page and ".ipynb#" not in page


@smoke_run
def test_table_two_stands_beside_the_papers(smoke):
    table = pd.read_csv(smoke / "metrics" / "05_table2.csv")
    assert table["paper"].to_list() == [0.8189, 0.59, 0.302, 1.73, 0.82, 1.03]
    assert table["data"].str.startswith("simulated ").all() and table["paper_data"].str.startswith("real ").all()
    accuracy = pd.read_csv(smoke / "metrics" / "02_cameraconvnet_dresden.csv").query(
        "experiment == 'cameraconvnet-patch' and part == 'test' and level == 'patch' and metric == 'accuracy'"
    )
    assert table["test"][0].startswith(f"{accuracy['value'].iloc[0]:.3f} (")


@smoke_run
def test_the_record_of_the_run(smoke):
    record = json.loads((smoke / "run.json").read_text())
    assert record["profile"] == "smoke" and record["failed"] is None
    assert list(record["notebooks"]) == NAMES
    assert record["parameters"]["sim_models"] == 3
    assert record["datasets"] == json.loads((smoke / "metrics" / "datasets.json").read_text())
    for dataset in record["datasets"].values():
        assert dataset["photos"] == 48 and dataset["left_out"] == 0 and len(dataset["fingerprint"]) == 64
    assert not [path for path in smoke.rglob(".*") if ".ipynb_checkpoints" not in path.parts]


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to the runner and to its kernels."""
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


@smoke_run
def test_a_run_killed_ten_times_ends_with_the_same_bits(smoke, tmp_path):
    """Another folder, one thread to cut patches, killed at random moments: metrics, predictions and figures agree."""
    command = ["-m", "camid_utils.study", "--profile", "smoke", "--out", "out", "-p", f"data_dir={tmp_path / 'data'}"]
    settings = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"LOKY_MAX_CPU_COUNT": "1"}
    killed = 0
    for seconds in np.random.default_rng().uniform(5, 25, 10):
        process = subprocess.Popen([sys.executable, *command], env=environment, **settings)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(process)
            killed += 1
    last = subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert last.returncode == 0, last.stdout[-2000:] + last.stderr[-4000:]
    assert killed >= 5
    for folder in ("metrics", "predictions", "figures"):
        names = sorted(path.name for path in (smoke / folder).iterdir())
        assert names == sorted(path.name for path in (tmp_path / "out" / folder).iterdir() if path.name[0] != ".")
        for name in names:
            same = (smoke / folder / name).read_bytes() == (tmp_path / "out" / folder / name).read_bytes()
            assert same, f"{folder}/{name}"


@smoke_run
def test_plain_papermill_repeats_a_notebook_to_the_bit(smoke, tmp_path):
    written = [smoke / "figures" / "05_summary.png", smoke / "metrics" / "05_table2.csv"]
    before = [path.read_bytes() for path in written]
    for path in written:
        path.unlink()
    source = next(path for path in SOURCES if path.name.startswith("05"))
    command = ["-m", "papermill", source, "copy.ipynb", "-p", "results_dir", smoke, "--no-progress-bar"]
    run = subprocess.run([sys.executable, *map(str, command)], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "copy.ipynb").is_file()
    assert [path.read_bytes() for path in written] == before


@smoke_run
def test_a_notebook_run_too_early_names_the_one_to_run_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(study.HEADLESS, "1")
    arguments = ["--profile", "smoke", "--only", "03", "--out", str(tmp_path / "out")]
    assert study.main([*arguments, "-p", f"data_dir={tmp_path / 'empty'}"]) == 1
    *_, error, last = capsys.readouterr().out.splitlines()
    assert "run notebook 02_cameraconvnet_dresden" in error and "first" in error
    assert last.startswith("FAILED 03_transfer_to_floreview")
