"""The notebooks' form, and what they write when the smoke profile runs them all."""

import ast
import base64
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
from helpers import encoded, scene
from PIL import Image

from camid_utils import evaluation, models, published, study
from camid_utils.experiments import listed
from camid_utils.figures import style
from camid_utils.intervals import METRIC_COLUMNS, UNTRAINED
from camid_utils.project import PROJECT
from camid_utils.report import statements

SOURCES = study.find_notebooks()
NAMES = [path.stem for path in SOURCES]
ENDED = ("09",)  # without public photographs it ends at once
LISTED = {number: rows.index.tolist() for number, rows in listed().groupby("notebook") if number < "05"}


def number_of(path: Path | str) -> str:
    """The number of a notebook or of one of its files."""
    return Path(path).name[:2]


def cells(path: Path, kind: str = "code") -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def is_parameters(cell) -> bool:
    return "parameters" in cell.metadata.get("tags", [])


def saved_figures(path: Path) -> set[str]:
    """The figures that a notebook saves, without what an f-string puts in: 02_confusion_{by} is 02_confusion_*."""
    names = re.findall(r'f?"(\d\d_[a-z_]+(?:\{[^}]*\}(?:[^"{}]*))?)"', "\n".join(cell.source for cell in cells(path)))
    return {re.sub(r"\{.*", "*", name) for name in names}


# the form of the sources


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_sources_are_valid_and_carry_no_output(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert all(not cell.outputs and cell.execution_count is None for cell in cells(path))
    assert all(set(cell.metadata) <= {"tags", "rests_on"} for cell in notebook.cells)


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
    others = [cell.source for cell in code if not is_parameters(cell)]
    assert max(len(source.splitlines()) for source in others) <= 20
    assert 0.4 <= len(prose) / (len(code) + len(prose)) <= 0.65
    assert prose[0].source.startswith(f"# {int(number_of(path))}. ") and "| **Writes** |" in prose[0].source
    imports = [node for node in ast.walk(ast.parse("\n".join(others))) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(imports) <= 8
    source = "\n".join(others)
    assert not any(word in source for word in ("sys.path", "chdir", "\nclass ", "!pip", "%pip", "globals(", "exec("))
    assert source.count("\ndef ") + source.startswith("def ") <= 2


def test_links_between_notebooks_lead_somewhere():
    for path in SOURCES:
        for cell in cells(path, "markdown"):
            for target in cell.source.split("](")[1:]:
                target = target.split(")")[0]
                made = target.startswith(("https://", "../html/"))  # the latter by a run
                assert made or (path.parent / target).is_file(), target


def test_claims_link_to_headings_that_exist():
    for claim in published.read("claims").to_dict("records"):
        (path,) = (path for path in SOURCES if path.stem == claim["notebook"])
        headings = re.findall(r"^## (.*)$", "\n".join(cell.source for cell in cells(path, "markdown")), re.MULTILINE)
        assert claim["heading"] in headings, claim["id"]


def test_a_parameter_has_the_same_default_everywhere():
    defaults: dict[str, object] = {}
    for path in SOURCES:
        for name, value in study.known_parameters([path]).items():
            assert defaults.setdefault(name, value) == value, f"{name} in {path.name}"


@pytest.mark.parametrize("profile", [path.stem for path in study.PROFILES.glob("*.yaml")])
def test_profiles_name_known_parameters_and_keep_their_heavy_files_apart(profile):
    given = study.read_parameters(profile, [])
    assert given.keys() <= study.known_parameters().keys() and "results_dir" not in given
    assert given["data_dir"] == f"data/{profile}" + "-study" * (profile == "photographs")  # beside the photographs


@cache
def published_tables(profile: str) -> statements.Evidence:
    return statements.read(PROJECT / "results" / profile / "metrics")


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_written_sentences_agree_with_the_published_tables(path):
    """A sentence's cell names the rows it rests on; where they say something else, the sentence is wrong."""
    for tag in (tag for cell in cells(path, "markdown") for tag in cell.metadata.get("rests_on", [])):
        profile, statement = re.fullmatch(r"(?:(\w+)/)?(.*)", tag).groups("full")
        rows, true = statements.evaluate(published_tables(profile), statement)
        assert true, f"{tag}: true in {rows['held'].sum()} of {len(rows)} rows"


def test_most_sections_with_tables_of_results_end_in_written_sentences():
    tagged = {number_of(path): sum("rests_on" in cell.metadata for cell in cells(path, "markdown")) for path in SOURCES}
    assert all(tagged[number] >= 1 for number in ("02", "03", "04", "05", "06", "07", "08", "10")), tagged


# what a run of all notebooks writes


def start(place: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """Start a smoke run in a folder that has nothing to do with the project; what it prints goes to a file there."""
    command = [sys.executable, "-m", "camid_utils.study", "--profile", "smoke", "--out", "out"]
    command += ["-p", f"data_dir={place / 'data'}", *arguments]
    with open(place / "printed", "w") as printed:
        return subprocess.Popen(command, cwd=place, env=os.environ | environment, stdout=printed, stderr=printed)


def finish(place: Path, *arguments: str, **environment: str) -> str:
    """A smoke run to its end; returns what it printed."""
    code, text = start(place, *arguments, **environment).wait(), (place / "printed").read_text()
    assert code == 0, text[-6000:]
    return text


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    """The folder of a smoke run of all notebooks."""
    place = tmp_path_factory.mktemp("smoke")
    assert "results: out" in finish(place)
    return place / "out"


@pytest.mark.parametrize("name", NAMES)
def test_executed_copies_are_in_order_without_errors_and_folders_of_this_machine(smoke, name):
    """The given parameters are the only place where the reader's own folders may appear."""
    code = cells(smoke / "notebooks" / f"{name}.ipynb")
    done = len(code) if number_of(name) not in ENDED else 4  # imports, parameters, given ones, the end
    counts = [cell.execution_count for cell in code]
    assert counts == [*range(1, done + 1), *[None] * (len(code) - done)]
    outputs = [output for cell in code for output in cell.outputs]
    assert "error" not in {output.output_type for output in outputs}
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    page = (smoke / "html" / f"{name}.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and f"<title>{int(number_of(name))}. " in page and "<script" not in page
    assert (smoke / "notebooks" / f"{name}.ipynb").stat().st_size < 8_000_000
    for cell in code:
        if "injected-parameters" not in cell.metadata.get("tags", []):
            text = json.dumps({"source": cell.source, "outputs": cell.outputs})
            for folder in (smoke, smoke.parent, PROJECT):
                assert f"{folder}/" not in text, text[: text.find(str(folder)) + 200][-400:]
            assert "PosixPath" not in text
        assert not {"papermill", "execution"} & set(cell.metadata)


def test_every_figure_is_a_file_and_is_shown_in_its_notebook(smoke):
    files = sorted(path.name for path in (smoke / "figures").iterdir())
    for path in SOURCES:
        own = [name for name in files if number_of(name) == number_of(path)]
        if number_of(path) in ENDED:
            assert not own
            continue
        wanted = [re.compile(name.replace("*", r"\w+") + r"\.png") for name in saved_figures(path)]
        assert wanted and all(any(form.fullmatch(name) for name in own) for form in wanted), path.stem
        code = cells(smoke / "notebooks" / path.name)
        shown = sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
        page = (smoke / "html" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert shown == len(own) == sum(f'src="../figures/{name}"' in page for name in own), path.stem
        assert "data:image/png" not in page
    for name in files:
        data = (smoke / "figures" / name).read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) > 3000, name


@pytest.mark.parametrize("number", LISTED)
def test_metrics_are_complete_and_possible(smoke, number):
    metrics = pd.read_csv(smoke / "metrics" / f"{number}_metrics.csv")
    assert list(metrics.columns) == METRIC_COLUMNS
    other = re.compile(r".*-collection|phones-(content|residual)-(scene|device)")  # tests that these data do not get
    wanted = {name for name in LISTED[number] if not other.fullmatch(name)}
    assert set(metrics["experiment"]) == wanted - {"design-alike"}  # fewer crops of the base: contrasts only
    for name, own in metrics.groupby("experiment"):
        levels = ["photo"] if re.search("header|content|residual", name) else ["patch", "photo"]
        assert not own.duplicated(["part", "level", "metric"]).any() and sorted(own["level"].unique()) == levels
        assert len(own) == 2 * len(levels) * len(evaluation.METRICS), name  # val and test
    assert metrics.drop(columns="published").notna().all(axis=None)
    assert metrics["dataset"].str.startswith("simulated ").all() and (metrics["classes"] == 3).all()
    accuracies = metrics[metrics["metric"].isin(["accuracy", "top-3 accuracy"])]
    bounds = accuracies[["low", "value", "high"]].to_numpy()
    assert (np.diff(bounds, axis=1) >= 0).all() and bounds.min() >= 0 and bounds.max() <= 1
    paper = metrics.dropna(subset=["published"])
    assert set(paper["experiment"]) == {name for name in LISTED[number] if listed().loc[name, "table2"]}
    assert set(paper["part"]) <= {"test"}


@pytest.mark.parametrize("number", LISTED)
def test_predictions_give_the_metrics_and_keep_the_protocol(smoke, number):
    accuracies = pd.read_csv(smoke / "metrics" / f"{number}_metrics.csv").query("metric == 'accuracy'")
    for (name, protocol), rows in accuracies.groupby(["experiment", "protocol"]):
        predictions, level = pd.read_parquet(smoke / "predictions" / f"{name}.parquet"), rows["level"].min()
        logs = evaluation.log_probabilities(predictions)
        assert np.allclose(np.exp(logs).sum(axis=1), 1, atol=1e-4)
        assert (predictions["true"] == predictions["camera_model"]).all() and (predictions["seed"] == 0).all()
        assert not predictions.duplicated(["photo", "y", "x"] if level == "patch" else ["photo"]).any()
        right = np.array(evaluation.class_names(predictions))[logs.argmax(1)] == predictions["true"]
        own = predictions.assign(right=right).groupby("part")
        written = rows[rows["level"] == level].set_index("part")
        assert written["value"].to_dict() == pytest.approx(own["right"].mean().to_dict(), abs=1e-5)
        assert written["n"].to_dict() == own.size().to_dict()
        for column in {"photo": "photos", "device": "devices", "scene": "scenes"}.items():
            assert written[column[1]].to_dict() == own[column[0]].nunique().to_dict()
        for column in {"patch": []}.get(protocol, ["photo", *protocol.split("+")]):
            parts = [set(table[column]) for _, table in own]
            assert not parts[0] & parts[1], (name, column)


@pytest.mark.parametrize("number", ["06", "07", "08"])
def test_figures_of_other_photos_and_cameras_are_complete(smoke, number):
    metrics = pd.read_csv(smoke / "metrics" / f"{number}_metrics.csv")
    assert list(metrics.columns) == METRIC_COLUMNS and (number == "07" or set(metrics["part"]) == {"test"})
    assert metrics.drop(columns="published").notna().all(axis=None)
    assert metrics["dataset"].str.startswith("simulated ").all()
    assert set(metrics["experiment"]) <= set(listed().index[listed()["notebook"] == number])


def test_the_identifiers_model_file_carries_what_was_measured(smoke):
    (path,) = (smoke.parent / "data").glob("models/*/identifier-0.safetensors")
    facts = models.load_model(path).info["identification"]
    rates = pd.read_csv(smoke / "metrics" / "06_rates.csv").set_index("question")["value"]
    assert facts["known_refused"] == pytest.approx(rates["known cameras refused"], abs=1e-4)
    assert facts["unknown_accepted"] == pytest.approx(rates["unknown cameras accepted"], abs=1e-4)
    chosen = pd.read_csv(smoke / "metrics" / "06_scores.csv").query("part == 'choosing'")
    assert facts["score"] == chosen.loc[chosen["value"].idxmax(), "score"]


def test_every_epoch_is_recorded(smoke):
    for number in ("02", "03", "04", "07"):
        kept = pd.read_csv(smoke / "metrics" / f"{number}_epochs.csv").groupby(["run", "seed"])["best"].sum()
        assert len(kept) and (kept == 1).all() and {*kept.index.get_level_values("run")} <= {*listed().index}


def test_the_contrasts_are_those_that_were_declared_and_rest_on_trainings_to_the_plateau(smoke):
    for number in ("02", "03", "04", "08"):
        rows = pd.read_csv(smoke / "metrics" / f"{number}_contrasts.csv")
        declared = listed()["baseline"][rows["a"]].str.split().tolist()
        assert number == "08" or all(b in bases for b, bases in zip(rows["b"], declared, strict=True))
        assert (rows["low"] <= rows["high"]).all() and (rows["p_holm"].fillna(1) >= rows["p"]).all()
        assert ((rows["verdict"] == UNTRAINED) == ~rows["plateau"]).all() and (~rows["plateau"]).any()


def test_the_ledger_judges_every_claim_and_lacks_no_evidence(smoke):
    table = pd.read_csv(smoke / "metrics" / "10_ledger.csv").fillna("")
    assert list(table["id"]) == list(published.read("claims")["id"])
    assert not table["verdict"].str.contains("missing").any(), table[table["verdict"].str.contains("missing")]
    page = (smoke / "html" / "10_claims.html").read_text(encoding="utf-8")
    assert 'href="02_cameraconvnet.html#' in page and ".ipynb#" not in page


def test_the_record_of_the_run(smoke):
    record = json.loads((smoke / "run.json").read_text())
    assert record["profile"] == "smoke" and not any(entry["failure"] for entry in record["notebooks"].values())
    assert list(record["notebooks"]) == NAMES and record["parameters"]["sim_models"] == 3
    assert record["datasets"] == json.loads((smoke / "metrics" / "datasets.json").read_text())
    for dataset in record["datasets"].values():
        assert dataset["photos"] == 3 * 4 * 8 * 2 and dataset["left_out"] == 0 and len(dataset["fingerprint"]) == 64
    assert not [path for path in smoke.rglob(".*") if ".ipynb_checkpoints" not in path.parts]


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to the runner and to its kernels."""
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


def assert_same_files(whole: Path, rerun: Path) -> int:
    """Metrics, predictions and figures of a rerun agree to the bit with an uninterrupted run; returns their number."""
    files = [path for name in ("metrics", "predictions", "figures") for path in (rerun / name).glob("[!.]*")]
    for path in files:
        assert path.read_bytes() == (whole / path.relative_to(rerun)).read_bytes(), path.name
    return len(files)


def test_a_notebook_killed_in_training_resumes_and_ends_with_the_same_bits(smoke, tmp_path):
    """Killed as soon as the first convolutional network has finished an epoch, in another folder."""
    (tmp_path / "out" / "metrics").mkdir(parents=True)
    shutil.copy(smoke / "metrics" / "01_metrics.csv", tmp_path / "out" / "metrics")  # it shows notebook 01's baseline
    process = start(tmp_path, "--only", "02")
    checkpoint = tmp_path / "data/runs/simulated-dresden/cameraconvnet-0/checkpoint.safetensors"
    while process.poll() is None and not checkpoint.is_file():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    assert process.poll() is None
    kill(process)
    finish(tmp_path, "--only", "02", LOKY_MAX_CPU_COUNT="1")
    assert assert_same_files(smoke, tmp_path / "out") > 20


@pytest.mark.slow
def test_a_run_killed_ten_times_ends_with_the_same_bits(smoke, tmp_path):
    """Another folder, one thread to cut patches, killed at random moments."""
    killed, one = 0, {"LOKY_MAX_CPU_COUNT": "1"}
    for seconds in np.random.default_rng().uniform(5, 25, 10):
        process = start(tmp_path, **one)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        if process.poll() is None:
            kill(process)
            killed += 1
    finish(tmp_path, **one)
    assert killed >= 5
    count = assert_same_files(smoke, tmp_path / "out")
    assert count == sum(len(list((smoke / name).glob("[!.]*"))) for name in ("metrics", "predictions", "figures"))


@pytest.mark.slow
def test_all_notebooks_run_where_only_scenes_are_new_and_a_crop_is_larger_than_all_patches(tmp_path):
    """As in the profile paper: most FloreView phones are one device a model."""
    finish(tmp_path, "-p", "strict_protocol=scene", "-p", "evaluate_patches=1")
    found = pd.read_csv(tmp_path / "out" / "metrics" / "04_contrasts.csv")
    assert set(found["protocol_a"]) == {"photo", "scene"} and "design-alike" not in set(found["a"])


def test_plain_papermill_repeats_a_notebook_to_the_bit(smoke, tmp_path):
    written = [smoke / "figures" / "10_summary.png", smoke / "metrics" / "10_table2.csv"]
    before = [path.read_bytes() for path in written]
    for path in written:
        path.unlink()
    command = ["-m", "papermill", SOURCES[-1], "copy.ipynb", "-p", "results_dir", smoke, "--no-progress-bar"]
    run = subprocess.run([sys.executable, *map(str, command)], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "copy.ipynb").is_file()
    assert [path.read_bytes() for path in written] == before


# no photograph of other people is published


def shades(picture: np.ndarray, side: int = 64) -> float:
    """The largest effective number of colours, in steps of 16 grey levels, in a window of an RGB picture.

    The exponential of their entropy: 29 and more in photographs, up to 15 in charts, text, matrices and fingerprints.
    """
    code = (picture.astype(int) >> 4) @ [256, 16, 1]
    most = 0.0
    for y, x in np.ndindex(*(max(1, length * 2 // side - 1) for length in code.shape)):
        counts = np.bincount(code[y * side // 2 :, x * side // 2 :][:side, :side].ravel())
        shares = counts[counts > 0] / counts.sum()
        most = max(most, float(np.exp(-(shares * np.log(shares)).sum())))
    return most


def photographs_in(run: Path) -> list[str]:
    """What could be a photograph in a run's folder: pictures like one, JPEGs, and pictures that are not its figures.

    Spectra have as many colours as a photograph, and notebook 07 has simulated cameras alone.
    """
    found, figures = [], {path.read_bytes(): path for path in (run / "figures").glob("*.png")}
    for data, path in figures.items():
        if not path.name.startswith(("01_spectra_", "07_")):
            picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            found += [f"{path.name} looks like a photograph"] * (shades(picture) > 20)
    for path in run.rglob("*.*"):
        found += [f"{path.name} is a JPEG"] * (path.is_file() and path.read_bytes()[:3] == b"\xff\xd8\xff")
    for path in run.glob("notebooks/*.ipynb"):
        shown = [out.get("data", {}) for cell in cells(path) for out in cell.outputs]
        for kind, content in (pair for data in shown for pair in data.items()):
            own = kind == "image/png" and base64.b64decode(content) in figures
            found += [f"{path.name} has an {kind} that is no figure"] * (kind.startswith("image/") and not own)
    for path in run.glob("html/*.html"):
        text = path.read_text(encoding="utf-8")
        found += [f"{path.name} has a JPEG or WebP"] * bool(re.search("image/(jpeg|webp)", text))
        inside = re.findall(r"[\",]((?:iVBOR|/9j/|UklGR)[\w+/]{1000})", text)
        found += [f"{path.name} has a picture inside: {one[:20]}" for one in inside]
    return found


def test_published_copies_name_no_folder_of_the_machine_that_ran_them():
    for path in PROJECT.glob("results/*/notebooks/*.ipynb"):
        assert not re.search(r"[\"' ]/(home|root|tmp|work|mnt|Users|private)/", path.read_text(encoding="utf-8")), path


def test_no_photograph_of_others_is_published():
    run = PROJECT / "results" / "photographs"
    if not run.is_dir():
        pytest.skip("no run on the public photographs is published")
    assert photographs_in(run) == []


def test_a_planted_photograph_would_be_found(tmp_path):
    for name in ("figures", "notebooks", "html"):
        (tmp_path / name).mkdir()
    fig, axes = plt.subplots(1, 2)
    axes[0].scatter(*np.random.default_rng(0).normal(size=(2, 500)), alpha=0.5)
    axes[1].imshow(np.eye(12))
    style.save(fig, tmp_path / "figures", "02_chart")
    assert photographs_in(tmp_path) == []
    light = scene(96, 96)
    fig, ax = plt.subplots()
    ax.imshow(light)
    style.save(fig, tmp_path / "figures", "02_gallery")
    text = base64.b64encode(jpeg := encoded(light)).decode()
    (tmp_path / "html" / "02_page.html").write_text(f'<img src="data:image/jpeg;base64,{text}">')
    (tmp_path / "html" / "matrices.html").write_text(json.dumps({"7": text}))
    (tmp_path / "figures" / "hidden.png").write_bytes(jpeg)
    shown = nbformat.v4.new_output("display_data", {"image/jpeg": text})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[shown])])
    nbformat.write(notebook, tmp_path / "notebooks" / "02_page.ipynb")
    found = " ".join(photographs_in(tmp_path))
    for place in ("02_gallery.png", "hidden.png is a JPEG", "02_page.html", "matrices.html", "02_page.ipynb has"):
        assert place in found, place
    assert "chart" not in found
