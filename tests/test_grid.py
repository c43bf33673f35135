"""Grids: one run per combination, here, in processes and on a Dask cluster, and the table at the end."""

import json
import os
import signal
import threading
import time

import nbformat
import pandas as pd
import pytest

from camid_utils import execution, study
from camid_utils.experiments import listed
from camid_utils.intervals import METRIC_COLUMNS
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


@pytest.fixture
def cluster():
    """The address of a scheduler with two workers on this machine, of one thread each."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as made:
        yield made.scheduler_address


def test_a_grid_has_every_combination_once():
    found = execution.combinations(["seed=0,1", "text=a/b,"])
    assert list(found) == ["seed=0,text=a_b", "seed=0,text=", "seed=1,text=a_b", "seed=1,text="]
    assert found["seed=1,text=a_b"] == {"seed": "1", "text": "a/b"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--grid", "seed"], "--grid seed: write each parameter once, as name=value,value"),
        (["--grid", "seed=0", "seed=1"], "--grid seed=1: write each parameter once"),
        (["--grid", "seed=0,0"], "two combinations would share a folder"),
        (["--grid", "sed=0,1"], "no notebook has a parameter 'sed'"),
        (["--grid", "seed=0,x"], "parameter seed must be int, not 'x'"),
        (["--grid", "dresden_root=,/nowhere"], "dresden_root: there is no folder /nowhere"),
        (["--grid", "seed=0,1", "--jobs", "0"], "--jobs N (1 or more) and --cluster exclude each other"),
        (["--jobs", "2"], "and need --grid name=value,value"),
        (["--grid", "seed=0,1", "--publish"], "--publish goes with none"),
        (["--grid", "seed=0,1", "--cluster", "nowhere://x"], "unknown address scheme 'nowhere'"),
    ],
)
def test_a_wrong_grid_writes_nothing(notebooks, tmp_path, capsys, arguments, message):
    if "--cluster" in arguments:
        pytest.importorskip("distributed")
    assert study.main(["--profile", "small", "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_table_has_means_and_spreads_over_seeds(tmp_path):
    runs = {}
    for epochs, seed, value in [(5, 0, 0.5), (5, 1, 0.6), (10, 0, 0.7), (10, 1, 0.7)]:
        folder = tmp_path / f"{epochs}-{seed}" / "metrics"
        folder.mkdir(parents=True)
        row = dict.fromkeys(METRIC_COLUMNS) | {"experiment": HEADLINE.name, "metric": "accuracy", "value": value}
        rows = [row | {"part": part, "level": HEADLINE["level"]} for part in ("val", "test")]
        pd.DataFrame(rows).to_csv(folder / "02_metrics.csv", index=False)
        runs[folder.parent] = {"epochs": epochs, "seed": seed}
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
            assert json.loads((out / seed / "run.json").read_text())["parameters"]["seed"] == int(seed[-1])
            assert name == "here" or "results: " in (out / seed / "log.txt").read_text()
        for path in [path for path in out.rglob("*.csv") if name != "here"]:
            assert path.read_bytes() == (tmp_path / "here" / path.relative_to(out)).read_bytes()
    assert len(list(out.rglob("*.csv"))) == 3


def test_a_combination_that_fails_does_not_end_the_others(notebooks, tmp_path, capsys):
    notebooks(**{"02_second": METRICS})
    command = ["--profile", "small", "--only", "02", "--out", str(tmp_path / "out"), "--grid", "number=0,1"]
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
    assert study.main([*command, "--cluster", cluster]) == 0
    assert len(set(seen.read_text().splitlines())) == 2
    assert (tmp_path / "out" / "seed=0" / "metrics" / "02_metrics.csv").is_file()
