"""The runner takes only parameters that exist, keeps what fails, and leaves no trace of the machine."""

import base64
import json
import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from camid_utils import experiments, study

PARAMETERS = {
    "01_first": 'text: str = "as is"  # a comment\nresults_dir: str = ""\n',
    "02_second": "number: int = 1\nrate: float = 0.5\nflag: bool = True\n",
}


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """A function that writes tiny notebooks (name -> code) where the runner looks for them, and a profile."""
    folder = tmp_path / "notebooks"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "small.yaml").write_text("number: 3  # fewer\n")
    (folder / "profiles" / "odd.yaml").write_text("rate: 1e-3\n")
    monkeypatch.setattr(study, "NOTEBOOKS", folder)
    monkeypatch.setattr(study, "PROFILES", folder / "profiles")
    monkeypatch.setenv(study.HEADLESS, "")  # put back afterwards, as the runner sets it

    def write(**code: str) -> None:
        for name, parameters in PARAMETERS.items():
            cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), new_code_cell(code.get(name, ""))]
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
            nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")

    write()
    return write


def outputs(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_a_profile_is_overridden_by_the_command_line(notebooks):
    assert study.read_parameters("small", []) == {"number": 3}
    asked = study.read_parameters("small", ["number=4", "rate=2", "flag=false", "text=a=b"])
    assert asked == {"number": 4, "rate": 2.0, "flag": False, "text": "a=b"}
    assert type(asked["rate"]) is float


@pytest.mark.parametrize("text", ["", "~/photos", "2010", "2010-01-31", "no", "a: b", "[x", "007", "  "])
def test_text_is_taken_as_it_stands(notebooks, text):
    assert study.read_parameters("small", [f"text={text}"])["text"] == text


@pytest.mark.parametrize("rate", ["1e-3", ".001", "0.001"])
def test_a_small_number_may_be_written_in_any_way(notebooks, rate):
    assert study.read_parameters("small", [f"rate={rate}"])["rate"] == 0.001
    assert study.read_parameters("odd", [])["rate"] == 0.001


@pytest.mark.parametrize(
    "assignment, message",
    [
        ("numbr=3", "no notebook has a parameter 'numbr': there are flag, number, rate, results_dir, text"),
        ("number", "-p number: write it as name=value"),
        ("number=three", "parameter number must be int, not 'three'"),
        ("number=1.5", "must be int"),
        ("number=true", "must be int"),
        ("number=", "must be int"),
        ("number=[1", "a -p cannot be read"),
        ("rate=high", "parameter rate must be float, not 'high'"),
        ("flag=1", "parameter flag must be bool"),
    ],
)
def test_wrong_parameters_are_named(notebooks, assignment, message):
    with pytest.raises(ValueError) as error:
        study.read_parameters("small", [assignment])
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--profile", "smal"], "error: no profile 'smal': choose one of odd, small"),
        (["--profile", "small", "--only", "09"], "there are 01, 02"),
        (["--profile", "small", "-p", "nothing=1"], "no notebook has a parameter 'nothing'"),
    ],
)
def test_a_wrong_command_writes_nothing(notebooks, tmp_path, capsys, arguments, message):
    assert study.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_profile_that_is_no_yaml_is_named(notebooks, capsys):
    (study.PROFILES / "bad.yaml").write_text("number: [1\n")
    assert study.main(["--profile", "bad"]) == 2
    assert "profile bad" in capsys.readouterr().err


def test_real_photographs_never_land_among_simulated_ones():
    results = experiments.PROJECT / "results"
    assert study.default_out("default", {"seed": 1}) == results / "default"
    assert study.default_out("default", {"dresden_root": ""}) == results / "default"
    assert study.default_out("default", {"floreview_root": "mine"}) == results / "default-photographs"
    assert study.default_out("default", {"vision_root": "mine"}) == results / "default-photographs"
    assert study.default_out("paper", {"dresden_root": "data/Dresden"}) == results / "paper"
    assert study.default_out("rehearsal", study.read_parameters("rehearsal", [])) == results / "rehearsal"


def test_the_projects_notebooks_are_found_in_order():
    names = [path.name.split("_")[0] for path in study.find_notebooks()]
    assert names == ["01", "02", "03", "04", "04b", "05", "06", "07"]
    assert [path.name for path in study.find_notebooks("03")] == ["03_transfer_to_floreview.ipynb"]
    assert study.known_parameters()["transfer_learning_rate"] == 0.001


def test_a_page_links_to_the_figures_beside_it_and_keeps_pictures_that_are_nowhere_else(tmp_path):
    (tmp_path / "01_a.png").write_bytes(b"picture")
    known, other = (base64.encodebytes(data).decode() for data in (b"picture", b"another"))
    page = (
        f'<img src="data:image/png;base64,{known}"/><img src="data:image/png;base64,{other}"/><a href="02_b.ipynb#x">'
    )
    found = study.linked(page, tmp_path)
    assert '<img src="../figures/01_a.png"/>' in found and other in found and known not in found
    assert 'href="02_b.html#x"' in found


def test_a_run_writes_notebooks_pages_and_a_record(notebooks, tmp_path, capsys):
    notebooks(**{"01_first": "print(text, results_dir)", "02_second": "print(number + 1)"})
    out = tmp_path / "out"
    assert study.main(["--profile", "small", "-p", "text=my text", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"results: {out}"
    assert outputs(out / "notebooks" / "01_first.ipynb") == f"my text {out}\n"
    assert outputs(out / "notebooks" / "02_second.ipynb") == "4\n"
    assert sorted(p.name for p in (out / "html").iterdir()) == ["01_first.html", "02_second.html"]
    assert "my text" in (out / "html" / "01_first.html").read_text()
    record = json.loads((out / "run.json").read_text())
    assert record["profile"] == "small" and record["failed"] is None and record["datasets"] == {}
    assert record["parameters"] == {"number": 3, "text": "my text"}
    assert list(record["notebooks"]) == ["01_first", "02_second"]
    for entry in record["notebooks"].values():
        assert {"seconds", "commit", "clean", "key", "finished", "peak_memory_gib"} <= entry.keys()
        assert entry["seconds"] > 0 and entry["peak_memory_gib"] > 0
    assert {"python", "torch", "numpy", "cores", "gpu"} <= record["environment"].keys()
    assert {"commit", "clean"} <= record.keys()
    assert not list(out.rglob(".*"))  # nothing half-written


def test_a_failing_notebook_is_kept_named_and_ends_the_run(notebooks, tmp_path, capsys):
    out = tmp_path / "out"
    notebooks(**{"01_first": "print('before')"})
    assert study.main(["--profile", "small", "--out", str(out)]) == 0
    capsys.readouterr()
    notebooks(**{"01_first": "print('seen')\nraise ValueError('no photos here.\\nExpected:\\n  some')"})
    assert study.main(["--profile", "small", "--out", str(out)]) == 1
    *_, last = lines = capsys.readouterr().out.splitlines()
    assert last.startswith("FAILED 01_first") and str(out / "notebooks" / "01_first.ipynb") in last
    assert "ValueError: no photos here." in lines
    kept = (out / "notebooks" / "01_first.ipynb").read_text()
    assert "no photos here" in kept and "seen" in kept and "before" not in kept
    assert "no photos here" in (out / "html" / "01_first.html").read_text()
    record = json.loads((out / "run.json").read_text())
    assert record["failed"] == "01_first" and "02_second" in record["notebooks"]


def test_earlier_notebooks_stay_when_a_later_one_fails(notebooks, tmp_path, capsys):
    notebooks(**{"01_first": "print('fine')", "02_second": "1 / 0"})
    out = tmp_path / "out"
    assert study.main(["--profile", "small", "--out", str(out)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAILED 02_second")
    assert outputs(out / "notebooks" / "01_first.ipynb") == "fine\n"
    assert json.loads((out / "run.json").read_text())["failed"] == "02_second"


def test_a_kernel_that_dies_is_a_failure_like_others(notebooks, tmp_path, capsys):
    notebooks(**{"01_first": "import os\nos._exit(1)"})
    out = tmp_path / "out"
    assert study.main(["--profile", "small", "--only", "01", "--out", str(out)]) == 1
    text = capsys.readouterr().out
    assert text.splitlines()[-1].startswith("FAILED 01_first") and "memory" in text
    assert (out / "notebooks" / "01_first.ipynb").is_file()


def test_one_notebook_alone_keeps_the_others_record(notebooks, tmp_path):
    out = tmp_path / "out"
    study.write_run_record(out, "small", {}, "01_first", 7.5, "key", "")
    assert study.main(["--profile", "small", "--only", "02", "--out", str(out)]) == 0
    entries = json.loads((out / "run.json").read_text())["notebooks"]
    assert entries["01_first"]["seconds"] == 7.5 and entries["02_second"]["seconds"] > 0
    assert [p.name for p in (out / "notebooks").iterdir()] == ["02_second.ipynb"]


def ran(capsys) -> list[str]:
    """The notebooks that the last run did not keep from an earlier one."""
    lines = capsys.readouterr().out.splitlines()
    pairs = zip(lines, lines[1:], strict=False)
    return [a.split()[1] for a, b in pairs if a.startswith("[") and not b.strip().startswith("kept")]


def test_what_a_run_finished_is_kept_until_code_or_parameters_change(notebooks, tmp_path, capsys):
    asked = ["--profile", "small", "--out", str(tmp_path / "out")]
    notebooks(**{"01_first": "print('one')", "02_second": "1 / 0"})
    assert study.main(asked) == 1
    assert ran(capsys) == ["01_first", "02_second"]
    notebooks(**{"01_first": "print('one')", "02_second": "print('two')"})
    assert study.main(asked) == 0
    assert ran(capsys) == ["02_second"]
    assert study.main(asked) == 0
    assert ran(capsys) == []
    assert study.main([*asked, "-p", "number=9"]) == 0
    assert ran(capsys) == ["01_first", "02_second"]
    (tmp_path / "out" / "html" / "02_second.html").unlink()
    assert study.main([*asked, "-p", "number=9"]) == 0
    assert ran(capsys) == ["02_second"]
    notebooks(**{"01_first": "print('other')", "02_second": "print('two')"})
    assert study.main([*asked, "-p", "number=9"]) == 0
    assert ran(capsys) == ["01_first", "02_second"]  # the second may depend on the first


def test_fresh_starts_over(notebooks, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "known_parameters", lambda: {"number": 1, "data_dir": str(tmp_path / "data")})
    for name in ("runs", "models", "features", "patches"):
        (tmp_path / "data" / name).mkdir(parents=True)
    asked = ["--profile", "small", "--out", str(tmp_path / "out")]
    assert study.main(asked) == 0 and ran(capsys) == ["01_first", "02_second"]
    assert study.main([*asked, "--fresh"]) == 0 and ran(capsys) == ["01_first", "02_second"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".mark", "patches"]


def test_a_lost_data_folder_makes_everything_anew(notebooks, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "known_parameters", lambda: {"number": 1, "data_dir": str(tmp_path / "data")})
    asked = ["--profile", "small", "--out", str(tmp_path / "out")]
    assert study.main(asked) == 0 and ran(capsys) == ["01_first", "02_second"]
    shutil.rmtree(tmp_path / "data")
    assert study.main(asked) == 0 and ran(capsys) == ["01_first", "02_second"]
    assert study.main([*asked, "--only", "02"]) == 0 and ran(capsys) == ["02_second"]  # asked for, so run


def test_the_record_repeats_the_fingerprints_of_the_photographs(tmp_path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "datasets.json").write_text('{"simulated Dresden": {"photos": 48}}')
    study.write_run_record(tmp_path, "small", {}, "01_first", 1.0, "key", "")
    assert json.loads((tmp_path / "run.json").read_text())["datasets"] == {"simulated Dresden": {"photos": 48}}


def test_outside_a_clone_the_record_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "PROJECT", tmp_path)
    assert experiments.commit() == {"commit": None, "clean": None}


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_record_says_whether_the_tree_was_clean(tmp_path, monkeypatch):
    def git(*words):
        options = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        experiments.subprocess.run(["git", "-C", tmp_path, *options, *words], check=True, capture_output=True)

    monkeypatch.setattr(experiments, "PROJECT", tmp_path)
    git("init")
    (tmp_path / "code.py").write_text("x = 1\n")
    git("add", "."), git("commit", "-m", "first")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "new.csv").write_text("1")
    before = experiments.commit()
    assert len(before["commit"]) == 40 and before["clean"] is True  # results are what the run itself writes
    (tmp_path / "code.py").write_text("x = 2\n")
    assert experiments.commit() == {"commit": before["commit"], "clean": False}


def test_clean_strips_bars_clock_and_paths(tmp_path):
    bar = "simulating:  50%|#####     | 24/48 [00:03<00:03]\rsimulating: 100%|##########| 48/48 [00:06<00:00]\n"
    path = repr(tmp_path / "figures" / "a.png")
    cell = new_code_cell(
        "save()",
        metadata={"tags": ["parameters"], "papermill": {"duration": 3}, "execution": {"iopub.status.busy": "08:31"}},
        outputs=[
            new_output("stream", name="stderr", text=bar),
            new_output("stream", name="stderr", text=bar + "a warning worth reading\n"),
            new_output("stream", name="stdout", text=f"100 % done, in {tmp_path / 'data'} and /elsewhere\n"),
            new_output("execute_result", data={"text/plain": path, "image/png": "iVBORw0KGgo="}),
            new_output("error", ename="E", evalue="v", traceback=[f"File {tmp_path}/code.py:3"]),
        ],
    )
    text = new_markdown_cell("A 50 % share", metadata={"papermill": {"duration": 0}})
    notebook = new_notebook(cells=[text, cell], metadata={"papermill": {"input_path": str(tmp_path)}, "k": 1})
    cleaned = study.clean(notebook, [tmp_path])
    assert cleaned.metadata == {"k": 1} and text.metadata == {} and cell.metadata == {"tags": ["parameters"]}
    assert str(tmp_path) not in nbformat.writes(cleaned)
    assert [output.get("text") for output in cell.outputs[:2]] == [
        "a warning worth reading",
        "100 % done, in data and /elsewhere\n",
    ]
    assert cell.outputs[2].data == {"text/plain": "PosixPath('figures/a.png')", "image/png": "iVBORw0KGgo="}
    assert cell.outputs[3].traceback == ["File code.py:3"]
    nbformat.validate(cleaned)
