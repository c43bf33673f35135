"""The runner: parameters, executed copies, run.json, comparison, publishing; grids here, in processes, on a cluster."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import nbformat
import pandas as pd
import papermill
import pytest
from helpers import noisy_predictions
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from camid_utils import execution, project, study
from camid_utils.experiments import listed, open_study
from camid_utils.intervals import METRIC_COLUMNS
from camid_utils.project import read_record
from camid_utils.report import headlines

HEADLINE = listed().query("readme == '1'").iloc[0]
METRICS = f"""
from pathlib import Path
folder = Path(results_dir, "metrics")
folder.mkdir(parents=True, exist_ok=True)
row = ["{HEADLINE.name}", "", "", "test", "{HEADLINE["level"]}", "accuracy", 1 / number + seed / 100]
row += [""] * {len(METRIC_COLUMNS) - 7}
(folder / "02_metrics.csv").write_text("{",".join(METRIC_COLUMNS)}\\n" + ",".join(map(str, row)))
print(data_dir)
"""


def outputs(path: Path) -> str:
    """All that a notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_the_command_line_overrides_a_profile_and_text_is_not_read_as_yaml(notebooks):
    assert study.read_parameters("small", []) == {"number": 3}
    asked = study.read_parameters("small", ["number=4", "rate=2", "flag=false", "text=a=b"])
    assert asked == {"number": 4, "rate": 2.0, "flag": False, "text": "a=b"}
    assert type(asked["rate"]) is float
    assert study.read_parameters("odd", []) == {"rate": 0.001}
    for text in ("1e-3", ".001"):
        assert study.read_parameters("small", [f"rate={text}"])["rate"] == 0.001
    assert study.read_parameters("small", ["number=010"])["number"] == 10  # 8 in YAML
    for text in ("", "~/photos", "2010", "2010-01-31", "no", "a: b", "[x", "007", "  "):
        assert study.read_parameters("small", [f"text={text}"])["text"] == text


WRONG = [  # what is given besides a profile and a folder, and what the error says
    ("-p numbr=3", "no notebook has a parameter 'numbr': there are data_dir, dresden_root, efficientnet_backbone,"),
    ("-p number", "-p number: write it as name=value"),
    ("-p number=three", "parameter number must be int, not 'three'"),
    ("-p number=true", "must be int"),
    ("-p flag=[1", "a -p cannot be read"),
    ("-p rate=high", "parameter rate must be float, not 'high'"),
    ("-p flag=1", "parameter flag must be bool"),
    ("-p results_dir=/x", "name a folder with --out"),
    ("-p data_dir=..", "data_dir must be a folder of its own"),
    ("-p dresden_root=~nosuch/x", "~nosuch/x: there is no such user's home folder"),
    ("-p data_dir=", "data_dir must be a folder of its own"),
    ("--profile bad", "profile bad or a -p cannot be read"),
    ("--only 09", "there are 01, 02"),
    ("--publish", "not a finished run: 01_first did not run, 02_second did not run"),
    ("--publish -p seed=1", "--publish copies a run as it is"),
    ("--grid seed", "--grid seed: write each parameter once, as name=value,value"),
    ("--grid seed=0 seed=1", "--grid seed=1: write each parameter once"),
    ("--grid seed=0,0", "two combinations would share a folder"),
    ("--grid sed=0,1", "no notebook has a parameter 'sed'"),
    ("--grid dresden_root=,/nowhere", "dresden_root: there is no folder /nowhere"),
    ("--grid seed=0,1 --jobs 0", "--jobs N (1 or more) and --cluster exclude each other"),
    ("--jobs 2", "and need --grid name=value,value"),
    ("--grid seed=0,1 --publish", "--publish goes with none"),
    ("--grid seed=0,1 --cluster nowhere://x", "unknown address scheme 'nowhere'"),
]


@pytest.mark.parametrize("arguments, message", WRONG)
def test_a_wrong_command_writes_nothing_and_is_told_in_one_line(notebooks, tmp_path, capsys, arguments, message):
    if "bad" in arguments:
        (study.PROFILES / "bad.yaml").write_text("number: [1\n")
    if "--cluster" in arguments:
        pytest.importorskip("distributed")
    assert study.main(["--profile", "small", "--out", str(tmp_path / "out"), *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


SLOW_TO_IMPORT = {
    "-m camid_utils.study --help": {"papermill", "nbformat", "nbconvert", "torch", "pandas", "tqdm"},
    "-m camid_utils.identify --help": {"torch", "matplotlib", "pandas", "numpy"},
    "-m camid_utils.analyses.transfer": {"timm", "torchvision", "lightning_fabric", "sklearn", "wandb"},
}


@pytest.mark.parametrize("module", SLOW_TO_IMPORT)
def test_slow_libraries_are_imported_only_where_they_are_needed(module):
    command = [sys.executable, "-X", "importtime", *module.split()]
    run = subprocess.run(command, cwd=project.PROJECT, capture_output=True, text=True)
    loaded = {line.split("|")[-1].strip() for line in run.stderr.splitlines()}
    assert run.returncode == 0 and "camid_utils" in loaded and not SLOW_TO_IMPORT[module] & loaded
    assert run.stdout.startswith("usage: ") == ("--help" in module)


MISSING = "dresden_root: there is no folder /nowhere: name yours with -p dresden_root=FOLDER, or download it: python -m"
WEIGHTS = "/nowhere.pth is not a readable weights file (No such file or directory): give the path of a .pth file"


@pytest.mark.parametrize(
    "assignment, tracker, message",
    [
        ("dresden_root=/nowhere", None, MISSING),
        ("efficientnet_weights=/nowhere.pth", None, WEIGHTS),
        ("efficientnet_weights=imagenet", None, ""),  # of the notebooks' own backbone: nothing is downloaded
        ("wandb_project=cameras", None, "wandb is not installed: pip install wandb"),
        ("wandb_project=cameras", ("online", False), "wandb has no key: `wandb login`, or set WANDB_API_KEY, or"),
        ("wandb_project=cameras", ("online", True), ""),
        ("wandb_project=cameras", ("offline", False), ""),
    ],
)
def test_what_would_fail_after_minutes_is_told_before_the_first_kernel(
    notebooks, tmp_path, monkeypatch, capsys, assignment, tracker, message
):
    wandb = tracker and SimpleNamespace(
        setup=lambda: SimpleNamespace(settings=SimpleNamespace(mode=tracker[0])), login=lambda **options: tracker[1]
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(execution, "run_notebooks", lambda *_: "")
    command = ["--profile", "small", "--out", str(tmp_path / "out"), "-p", assignment]
    assert study.main([*command, "--only", "01"]) == (2 if message else 0)
    assert (err := capsys.readouterr().err).startswith("error: " * bool(message)) and message in err
    assert study.main([*command, "--only", "02"]) == 0  # has no such parameter


def test_folders_may_have_numbers_for_names():
    study = open_study(2024, 2025, 7)
    assert study[:2] == (project.PROJECT / "2024", project.PROJECT / "2025") and study.wandb_project == "7"


def test_a_run_on_real_photographs_has_a_folder_of_its_own():
    runs = project.PROJECT / "runs"
    assert study.default_out("default", {"seed": 1}) == runs / "default"
    assert study.default_out("default", {"dresden_root": ""}) == runs / "default"
    assert study.default_out("default", {"floreview_root": "mine"}) == runs / "default-photographs"
    assert study.default_out("paper", {"dresden_root": "data/Dresden"}) == runs / "paper"


def test_a_run_by_this_interpreter_writes_notebooks_pages_and_a_record(notebooks, tmp_path, monkeypatch, capsys):
    (other := tmp_path / "jupyter" / "kernels" / "python3").mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["/nowhere/python"], "display_name": "other", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    this = f"import sys; print(text, results_dir, sys.executable == {sys.executable!r})"
    notebooks(**{"01_first": this, "02_second": "print(number + 1)"})
    out, sources = tmp_path / "out", set(study.NOTEBOOKS.rglob("*"))
    assert study.main(["--profile", "small", "-p", "text=my text", "--out", str(out)]) == 0
    assert set(study.NOTEBOOKS.rglob("*")) == sources  # the folder may be read-only
    *lines, finished, last = capsys.readouterr().out.splitlines()
    assert [line[:11] for line in lines] == ["[1/2] 01_fi"] * 2 + ["[2/2] 02_se"] * 2
    assert "min so far" in lines[2] and "02_second finished in" in lines[3]
    assert finished.startswith(f"results: {out}") and last.startswith("nothing is published for the profile small")
    assert outputs(out / "notebooks" / "01_first.ipynb") == f"my text {out} True\n"
    assert outputs(out / "notebooks" / "02_second.ipynb") == "4\n"
    assert sorted(p.name for p in (out / "html").iterdir()) == ["01_first.html", "02_second.html", "style.css"]
    page = (out / "html" / "01_first.html").read_text()
    assert "my text" in page and "<title>01_first</title>" in page and "<script" not in page
    found = read_record(out)
    assert found["profile"] == "small" and found["datasets"] == {}
    assert found["parameters"] == {"number": 3, "text": "my text"}
    assert list(found["notebooks"]) == ["01_first", "02_second"]
    for entry in found["notebooks"].values():
        assert {"seconds", "commit", "clean", "finished"} < entry.keys()
        assert entry["seconds"] > 0 and entry["failure"] == ""
    assert {"python", "torch", "numpy", "cores", "gpu"} <= found["environment"].keys()
    assert not list(out.rglob(".*"))  # nothing half-written


def test_a_failing_notebook_is_kept_and_ends_the_run(notebooks, tmp_path, capsys):
    out = tmp_path / "out"
    assert study.main(["--profile", "small", "--out", str(out)]) == 0
    capsys.readouterr()
    notebooks(**{"01_first": "print('seen')\nraise ValueError('no photos here.\\nExpected:\\n  some')"})
    assert study.main(["--profile", "small", "--out", str(out)]) == 1
    *_, last = lines = capsys.readouterr().out.splitlines()
    assert last.startswith("FAILED 01_first") and str(out / "notebooks" / "01_first.ipynb") in last
    assert "ValueError: no photos here." in lines
    assert "no photos here" in (out / "html" / "01_first.html").read_text()
    assert "seen" in outputs(out / "notebooks" / "01_first.ipynb")
    failures = {name: entry["failure"][:10] for name, entry in read_record(out)["notebooks"].items()}
    assert failures == {"01_first": "ValueError", "02_second": ""}
    assert study.main(["--profile", "small", "--only", "02", "--out", str(out)]) == 0  # does not hide it
    assert study.main(["--profile", "small", "--publish", "--out", str(out)]) == 2
    assert "not a finished run: 01_first failed;" in capsys.readouterr().err


def test_a_kernel_that_dies_is_a_failure_like_others(notebooks, tmp_path, capsys):
    notebooks(**{"01_first": "import os\nos._exit(1)"})
    source = study.find_notebooks("01")[0]
    notebook = nbformat.read(source, as_version=4)
    notebook.cells.append(new_code_cell("1 + 1"))
    nbformat.write(notebook, source)
    out = tmp_path / "out"
    assert study.main(["--profile", "small", "--only", "01", "--out", str(out)]) == 1
    text = capsys.readouterr().out
    assert text.splitlines()[-1].startswith("FAILED 01_first, kept with its error") and "memory" in text
    assert "memory" in read_record(out)["notebooks"]["01_first"]["failure"]
    *_, cell, never = nbformat.read(out / "notebooks" / "01_first.ipynb", as_version=4).cells
    assert not never.outputs
    assert "memory" in cell.outputs[-1].evalue and "memory" in (out / "html" / "01_first.html").read_text()


def test_without_a_kernel_or_interrupted_the_earlier_copies_stay(notebooks, tmp_path, monkeypatch, capsys):
    out, launcher = tmp_path / "out", tmp_path / "launcher" / "ipykernel_launcher.py"
    command = ["--profile", "small", "--only", "01", "--out", str(out)]
    assert study.main(command) == 0
    copies = {path: path.read_bytes() for path in out.glob("[nh]*/*")}
    launcher.parent.mkdir()
    launcher.write_text("import sys; sys.exit('a bad\\nlibrary')")
    monkeypatch.setenv("PYTHONPATH", str(launcher.parent))
    capsys.readouterr()
    assert study.main(command) == 1 and read_record(out)["notebooks"]["01_first"]["failure"]
    assert len(copies) == 3 and all(path.read_bytes() == before for path, before in copies.items())
    *_, reason, last = capsys.readouterr().out.splitlines()
    assert reason.startswith("the kernel did not start; ") and reason.endswith("; library")
    assert last.startswith("FAILED 01_first, earlier copies stay: ")
    monkeypatch.setattr(papermill, "execute_notebook", execute := MagicMock(side_effect=KeyboardInterrupt))
    assert study.main(command) == 130 and all(path.is_file() for path in copies)
    assert execute.call_args.kwargs["start_timeout"] >= 600  # a slow one is waited for


@pytest.mark.parametrize("name", ["out{y}", "{", "{0}", "a·b"])
def test_a_run_may_have_any_folder(notebooks, tmp_path, monkeypatch, name):
    """Braces, temporary folders with names too long for sockets, and a terminal that cannot print the folder's name."""
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    stdout = open(tmp_path / "printed", "w", encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    command = ["--profile", "small", "--only", "01", "--out", str(tmp_path / name)]
    with stdout:
        assert study.main(command) == 0
    assert outputs(tmp_path / name / "notebooks" / "01_first.ipynb") == "" and not list(folder.iterdir())


def test_a_kernel_listens_on_ports_where_sockets_cannot_be_files(tmp_path, monkeypatch):
    assert execution._transport(str(tmp_path)) == {"transport": "ipc", "ip": f"{tmp_path}/kernel"}
    assert execution._transport(str(tmp_path / "missing")) == {}
    monkeypatch.delattr(socket, "AF_UNIX")
    assert execution._transport(str(tmp_path)) == {}


def test_one_notebook_alone_keeps_the_record_of_the_others_and_may_end_early(notebooks, tmp_path):
    notebooks(**{"02_second": "from camid_utils.experiments import end_notebook\nend_notebook('no question here')"})
    out = tmp_path / "out"
    project.write_run_record(out, "small", study.read_parameters("small", []), "01_first", 7.5, "")
    assert study.main(["--profile", "small", "--only", "02", "--out", str(out)]) == 0
    assert "no question here" in outputs(out / "notebooks" / "02_second.ipynb")
    entries = read_record(out)["notebooks"]
    assert entries["01_first"]["seconds"] == 7.5 and entries["02_second"]["seconds"] > 0
    assert entries["02_second"]["failure"] == ""
    assert [p.name for p in (out / "notebooks").iterdir()] == ["02_second.ipynb"]
    project.write_run_record(out, "small", {"number": 999}, "02_second", 7.5, "")
    assert list(read_record(out)["notebooks"]) == ["02_second"]  # the other ran with other parameters


def test_fresh_forgets_what_was_cut_trained_and_predicted(notebooks, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "known_parameters", lambda: {"number": 1, "data_dir": str(tmp_path / "data")})
    for name in ("runs", "models", "features", "predictions", "patches", "simulated-dresden"):
        (tmp_path / "data" / name).mkdir(parents=True)
    with pytest.raises(ValueError, match=f"data has no {study.OURS}, so no run made it"):
        study.prepare(tmp_path / "out", {}, fresh=True)
    study.prepare(tmp_path / "out", {}, fresh=False)  # does not make the reader's folders ours
    assert len([*(tmp_path / "data").iterdir()]) == 6
    study.prepare(tmp_path / "out", {"data_dir": str(tmp_path / "new")}, fresh=False)
    (tmp_path / "new" / study.OURS).rename(tmp_path / "data" / study.OURS)
    study.prepare(tmp_path / "out", {}, fresh=True)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [study.OURS, "simulated-dresden"]


def test_clean_strips_bars_times_and_paths(tmp_path):
    bar = "simulating:  50%|#####     | 24/48 [00:03<00:03]\rsimulating: 100%|##########| 48/48 [00:06<00:00]\n"
    texts = {bar: "stderr", bar + "a warning worth reading\n": "stderr"}
    texts[f"100 % done, in {tmp_path / 'data'} and /elsewhere\n"] = "stdout"
    shown = [new_output("stream", name=name, text=text) for text, name in texts.items()]
    shown.append(new_output("error", ename="E", evalue="v", traceback=[f"File {tmp_path}/code.py:3"]))
    tags, times = {"tags": ["parameters"]}, {"papermill": {"input_path": str(tmp_path)}, "execution": {"busy": "08:31"}}
    cells = [new_markdown_cell("A 50 % share", metadata=times), new_code_cell("", metadata=tags | times, outputs=shown)]
    cleaned = execution.clean_notebook(new_notebook(cells=cells, metadata=times | {"k": 1}), [tmp_path])
    assert [part.metadata for part in (cleaned, *cleaned.cells)] == [{"k": 1}, {}, tags]
    assert str(tmp_path) not in nbformat.writes(cleaned)
    found = [output.get("text") for output in cleaned.cells[1].outputs]
    assert found == ["a warning worth reading", "100 % done, in data and /elsewhere\n", None]


# comparison with the published figures


def results(folder: Path, value: float, spread: float = 0.0, **environment: str) -> Path:
    """A results folder with one headline accuracy, and the record of a run."""
    row = dict(experiment=HEADLINE.name, part="test", metric="accuracy", level=HEADLINE["level"], value=value, seeds=3)
    row |= dict(dataset="simulated Dresden", protocol="patch", low=value - 0.05, high=value + 0.05, spread=spread)
    (folder / "metrics").mkdir(parents=True)
    table = pd.DataFrame([row | {"part": "val", "value": 0.9}, row], columns=METRIC_COLUMNS)
    table.to_csv(folder / "metrics" / "02_metrics.csv", index=False)
    text = {"parameters": {}, "environment": {"cores": "2"} | environment, "notebooks": {}}
    (folder / "run.json").write_text(json.dumps(text))
    return folder


@pytest.mark.parametrize(
    "profile, value, cores, word, code",
    [
        ("default", 0.5, "2", headlines.BITWISE, 0),
        ("default", 0.5001, "2", headlines.NO, 1),  # the same machine has to give the same
        ("default", 0.5001, "4", headlines.WITHIN, 0),
        ("default", 0.58, "4", headlines.WITHIN, 0),  # three standard deviations over the seeds of `full`
        ("default", 0.6, "4", headlines.NO, 1),
        (headlines.REAL, 0.58, "4", headlines.WITHIN, 0),  # and for real photographs over its own folds
    ],
)
def test_a_run_is_compared_with_the_published_one(tmp_path, monkeypatch, capsys, profile, value, cores, word, code):
    monkeypatch.setattr(study, "PUBLISHED", tmp_path / "published")
    results(tmp_path / "published" / profile, 0.5, spread=0.03 * (profile == headlines.REAL))
    results(tmp_path / "published" / "full", 0.5, spread=0.03 * (profile == "default"))
    run = results(tmp_path / "run", value, cores=cores)
    assert study.compare(run, profile) == code
    table, last = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert word in table and last == f"agreement: 1 {word}" and "50.0 %" in table
    (run / "run.json").write_text(json.dumps(read_record(run) | {"parameters": {"seed": 1}}))
    assert study.compare(run, profile) == 0 and "made with other parameters" in capsys.readouterr().out


def test_publishing_takes_a_finished_run_of_the_present_clean_commit(notebooks, tmp_path, monkeypatch, capsys):
    now, changed, out = {"commit": "abc", "clean": True}, {"abc": []}, tmp_path / "out"
    for module in (study, project):
        monkeypatch.setattr(module, "commit", lambda: dict(now))
    monkeypatch.setattr(headlines, "update", lambda: None)
    monkeypatch.setattr(study, "code_changed_since", changed.get)
    command = ["--profile", "small", "--out", str(out)]

    def refused(*more: str) -> str:
        assert study.main([*command, "--publish", *more]) == 2
        return capsys.readouterr().err

    assert study.main(command) == 0
    for part in ("figures", "metrics", "predictions"):
        (out / part).mkdir()
    patches = noisy_predictions(3, 2).assign(part=["test"] * 4 + ["val"] * 2, seed=0)
    patches.to_parquet(out / "predictions" / "name.parquet")
    changed["abc"] = ["camid_utils/training.py", "notebooks/01_first.ipynb"]
    assert "not a run of the current code (camid_utils/training.py changed)" in refused()
    changed["abc"].pop(0)
    published = study.PUBLISHED / "small"
    (published / "stale").mkdir(parents=True)
    (out / "figures").mkdir(exist_ok=True)
    (out / "figures" / ".123.a.png").touch()  # a killed run leaves it
    assert study.main([*command, "--publish"]) == 0
    assert sorted(path.name for path in published.iterdir()) == sorted(study.PARTS)
    assert not list(published.rglob(".*"))
    assert read_record(published) == read_record(out)
    votes = pd.read_parquet(published / "predictions" / "name.parquet")  # the run itself keeps its patches
    assert votes[["photo", "patches"]].to_numpy().tolist() == [["p00000.jpg", 2], ["p00001.jpg", 2]]
    assert len(pd.read_parquet(out / "predictions" / "name.parquet")) == 6
    (out / "model").mkdir()  # some runs leave a model to publish
    (out / "model" / "README.md").write_text("its card")
    source = study.NOTEBOOKS / "01_first.ipynb"
    notebook = nbformat.read(source, 4)
    notebook.cells.insert(0, new_markdown_cell("What was found."))
    nbformat.write(notebook, source)
    assert study.main([*command, "--publish"]) == 0 and (published / "model" / "README.md").read_text() == "its card"
    first, *others = nbformat.read(published / "notebooks" / source.name, 4).cells
    assert first.source == "What was found."
    assert others == nbformat.read(out / "notebooks" / source.name, 4).cells[1:]
    assert "What was found." in (published / "html" / "01_first.html").read_text()
    notebook.cells[-1].source = "1 + 1"
    nbformat.write(notebook, source)
    assert "its code has changed since it ran" in refused()
    (study.PROFILES / "small.yaml").write_text("number: 4\n")
    assert "other parameters than the profile small: number" in refused()
    assert "a run of the profile small" in refused("--profile", "odd")
    (study.PROFILES / "small.yaml").write_text("number: 3\n")
    now["clean"] = False
    assert "not a run of clean commits" in refused()
    entries = read_record(out)
    entries["notebooks"]["03_renamed"] = entries["notebooks"]["01_first"]
    (out / "run.json").write_text(json.dumps(entries))
    assert "03_renamed is gone, so delete" in refused()
    for damage in ("{", "[1]", '{"notebooks": [1]}'):
        (out / "run.json").write_text(damage)
        assert "run.json is damaged" in refused()


# grids


@pytest.fixture
def cluster():
    """The address of a scheduler with two workers on this machine, of one thread each."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as made:
        yield made.scheduler_address


def test_a_grid_has_every_combination_once():
    found = execution.combinations(["seed=0,1", "text=a/b,"])
    assert list(found) == ["seed=0,text=a_b", "seed=0,text=", "seed=1,text=a_b", "seed=1,text="]
    assert found["seed=1,text=a_b"] == ("seed=1", "text=a/b")


def test_the_table_has_means_and_spreads_over_seeds(tmp_path):
    runs = {}
    for epochs, seed, value in [(5, 0, 0.5), (5, 1, 0.6), (10, 0, 0.7), (10, 1, 0.7)]:
        runs[results(tmp_path / f"{epochs}-{seed}", value)] = {"epochs": epochs, "seed": seed}
    table = headlines.by_combination(runs)
    assert table["epochs"].tolist() == [5] * 4 + [10] * 4 and table["seed"].tolist() == [0, 1, "mean", "std"] * 2
    assert table[HEADLINE.name].tolist() == pytest.approx([0.5, 0.6, 0.55, 0.005**0.5, 0.7, 0.7, 0.7, 0], abs=1e-12)
    assert len(headlines.by_combination({folder: {"epochs": 1} for folder in runs})) == 4  # without seeds, as they are
    assert headlines.by_combination({tmp_path: {"seed": 0}}).to_dict("list")["seed"] == [0, "mean", "std"]


def test_a_grid_gives_the_same_here_in_processes_and_on_a_cluster(notebooks, tmp_path, cluster, capsys):
    notebooks(**{"02_second": METRICS})
    command = ["--profile", "small", "--only", "02", "-p", f"data_dir={tmp_path}", "--grid", "seed=0,1"]
    for name, where in {"here": [], "jobs": ["--jobs", "2"], "cluster": ["--cluster", cluster]}.items():
        out = tmp_path / name
        assert study.main([*command, *where, "--out", str(out)]) == 0
        text = capsys.readouterr().out
        assert "(2/2) seed=" in text and "mean" in text and text.endswith(f"table: {out / 'headlines.csv'}\n")
        for seed in ("seed=0", "seed=1"):
            cell = nbformat.read(out / seed / "notebooks" / "02_second.ipynb", as_version=4).cells[-1]
            assert cell.outputs[0].text == f"{tmp_path}/grid/{seed}\n"
            assert read_record(out / seed)["parameters"]["seed"] == int(seed[-1])
            assert name == "here" or "results: " in (out / seed / "log.txt").read_text()
        for path in [path for path in out.rglob("*.csv") if name != "here"]:
            assert path.read_bytes() == (tmp_path / "here" / path.relative_to(out)).read_bytes()
    assert len(list(out.rglob("*.csv"))) == 3


def test_a_combination_that_fails_does_not_end_the_others(notebooks, tmp_path, capsys):
    notebooks(**{"02_second": METRICS})
    command = ["--profile", "small", "--only", "02", "--out", str(tmp_path / "out"), "--grid", "number=0,1"]
    command += ["-p", f"data_dir={tmp_path}/data"]
    assert study.main(command) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAILED number=0: 02_second: ZeroDivisionError")
    assert pd.read_csv(tmp_path / "out" / "headlines.csv")["number"].tolist() == [1]


@pytest.mark.slow
def test_a_job_whose_worker_is_killed_goes_on_elsewhere(notebooks, tmp_path, cluster):
    """The notebook's kernel is a child of its worker, which is killed while the notebook's first start sleeps."""
    seen = tmp_path / "seen"
    start = f"import os, time\nfrom pathlib import Path\nseen = Path({str(seen)!r})\nresumed = seen.is_file()\n"
    start += "seen.open('a').write(f'{os.getppid()}\\n')\ntime.sleep(0 if resumed else 300)\n"
    notebooks(**{"02_second": start + METRICS})

    def kill():
        while not (seen.is_file() and seen.read_text().endswith("\n")):
            time.sleep(0.1)
        os.kill(int(seen.read_text()), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    command = ["--profile", "small", "--only", "02", "--out", str(tmp_path / "out"), "--grid", "seed=0"]
    command += ["-p", f"data_dir={tmp_path}/data"]
    assert study.main([*command, "--cluster", cluster]) == 0
    assert len(set(seen.read_text().splitlines())) == 2
    assert (tmp_path / "out" / "seed=0" / "metrics" / "02_metrics.csv").is_file()


# the record


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_record_says_whether_the_tree_was_clean(tmp_path, monkeypatch):
    def git(*words):
        options = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", tmp_path, *options, *words], check=True, capture_output=True)

    monkeypatch.setattr(project, "PROJECT", tmp_path)
    assert project.commit() == {"commit": None, "clean": None}  # outside a clone
    git("init")
    (tmp_path / "code.py").write_text("x = 1\n")
    git("add", "."), git("commit", "-m", "first")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "new.csv").write_text("1")
    before = project.commit()
    assert len(before["commit"]) == 40 and before["clean"] is True  # results are what publishing itself writes
    (tmp_path / "code.py").write_text("x = 2\n")
    assert project.commit() == {"commit": before["commit"], "clean": False}
