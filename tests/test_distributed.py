"""Two processes that train together end as one does, with one checkpoint, and go on after one of them was killed.

The processes are really started, on this machine's processors; `partner` is what runs in them.
"""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from partner import fit, network
from safetensors.torch import load_file

from camid_utils import checkpoints, distributed, models, progress, study, together, training


@pytest.fixture(scope="module")
def start():
    """Starts two processes of `partner`; gives the exit code."""

    def start(*words: str) -> int:
        options = SimpleNamespace(accelerator="cpu", devices=2, nodes=1, node_rank=0, main_address="127.0.0.1",
                                  main_port=None)  # fmt: skip
        before = dict(os.environ)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        os.environ |= {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
        try:
            return distributed.launch(options, list(words), module="partner")
        finally:  # as it was: launch sets both for the processes that it starts
            os.environ.clear()
            os.environ |= before
            for number, handler in handlers.items():
                signal.signal(number, handler)

    return start


@pytest.fixture(scope="module")
def trained(start, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert start(str(folder), "both") == 0
    return folder


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[name]) for name, t in a.items())


def weights(folder: Path, rank: int, name: str = "plain") -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}-{rank}.safetensors")


@pytest.mark.parametrize("name", ["plain", "norm"])
def test_both_processes_end_with_the_same_network_and_history(trained, name):
    assert same(weights(trained, 0, name), weights(trained, 1, name))
    tables = [pd.read_csv(trained / f"{name}-{rank}.csv") for rank in (0, 1)]
    pd.testing.assert_frame_equal(*tables)
    assert list(tables[0]["trained"]) == [4] * 4


def test_two_processes_learn_what_one_learns_step_by_step(trained, tmp_path):
    """Every batch is shared out whatever its size, so that only the rounding differs."""
    net = network(norm=False)
    alone = fit(net, tmp_path / "alone")
    columns = ["epoch", "step", "loss", "accuracy", "gradient_norm"]
    steps = pd.read_csv(trained / "plain" / "steps.csv")
    pd.testing.assert_frame_equal(steps[columns], alone.steps[columns], rtol=1e-3, atol=1e-5)
    epochs = pd.read_csv(trained / "plain" / "epochs.csv")
    pd.testing.assert_frame_equal(epochs, alone.epochs, rtol=1e-3, atol=1e-5)
    assert alone.steps["loss"].iloc[-5:].mean() < alone.steps["loss"].iloc[:5].mean() / 2
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(weights(trained, 0)[name], tensor, atol=1e-4, rtol=1e-3)


def test_one_process_finds_the_run_finished(trained, monkeypatch):
    """The key is the same: nothing is trained again, and the network is the one that the two trained."""
    monkeypatch.setattr(training, "_train_epoch", lambda *args: pytest.fail("trained again"))
    before = (trained / "plain" / checkpoints.NAME).read_bytes()
    net = network(norm=False)
    history = fit(net, trained / "plain")
    assert same(net.state_dict(), weights(trained, 0)) and len(history.epochs) == 4
    assert (trained / "plain" / checkpoints.NAME).read_bytes() == before


def test_batch_normalisation_has_the_statistics_of_the_whole_batch(trained, tmp_path):
    fit(network(norm=True), tmp_path)
    ours, alone = (load_file(run / checkpoints.NAME)["net.0.running_mean"] for run in (trained / "norm", tmp_path))
    torch.testing.assert_close(ours, alone, atol=2e-3, rtol=0)
    assert ours.abs().min() > 0.01


def test_a_killed_process_ends_the_other_and_the_next_run_goes_on(start, trained, tmp_path, capfd):
    assert start(str(tmp_path), "dies") == 1
    said = capfd.readouterr().err
    assert "process 1 ended by SIGKILL" in said and "goes on from the last finished epoch" in said
    assert not list(tmp_path.glob("*.safetensors")) and len(pd.read_csv(tmp_path / "plain" / "epochs.csv")) == 2
    assert start(str(tmp_path), "alone") == 0
    assert pd.read_csv(tmp_path / "plain-1.csv")["trained"][0] == 2
    assert same(weights(tmp_path, 0), weights(trained, 0))  # as the one that nobody killed


# a process's share


@pytest.mark.parametrize("size, world", [(1, 2), (2, 3), (3, 3), (7, 3), (25, 2), (24, 5)])
def test_weighted_shares_average_to_the_batch(size, world):
    values = np.random.default_rng(0).random(size)
    means = []
    for rank in range(world):
        (own,), (weight,) = together.shares([np.arange(size)], rank, world)
        means.append(values[own].mean() * weight)
    assert np.mean(means) == pytest.approx(values.mean())


def test_one_process_takes_everything_unweighted():
    chunks = [np.arange(5), np.arange(5, 7)]
    own, weights = together.shares(chunks, 0, 1)
    assert weights == [1.0, 1.0] and all((a == b).all() for a, b in zip(own, chunks, strict=True))


def test_on_gpus_a_copy_normalises_over_all_of_them_and_predicts_the_same():
    """Seen without a GPU: the copy's layers are the synchronised ones, timm's joined activations included."""
    torch.manual_seed(0)
    net = models.EfficientNetClassifier(3, "efficientnet_lite0", weights=None).eval()
    copy = together.synchronised(net, SimpleNamespace(world_size=2, device=torch.device("cuda")))
    layers = [type(layer).__name__ for layer in copy.modules() if "BatchNorm" in type(layer).__name__]
    assert len(layers) > 40 and all(name.startswith("SyncBatchNorm") for name in layers)
    assert not any("Sync" in type(layer).__name__ for layer in net.modules())
    assert copy.state_dict().keys() == net.state_dict().keys()
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(copy(pixels), net(pixels))
    assert together.synchronised(net, SimpleNamespace(world_size=1, device=torch.device("cuda"))) is net


class Partner:
    """A fabric whose other process has the other run: sums come out as if it had added its part."""

    world_size, global_rank, device = 2, 0, torch.device("cpu")

    def __init__(self, theirs: list[int]):
        self.theirs = theirs

    def all_reduce(self, whole, reduce_op):
        whole[1] += torch.tensor(self.theirs)
        return whole


def test_processes_that_would_train_different_runs_are_stopped():
    together.check_alike(Partner([0xABC, 3]), "000000000abcffff", 3)
    for theirs in ([0xABD, 3], [0xABC, 2]):
        with pytest.raises(ValueError, match="one data_dir that all of them see"):
            together.check_alike(Partner(theirs), "000000000abcffff", 3)


# the notebook's cells


def notebook(folder: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    path = folder / "09_test.ipynb"
    nbformat.write(book, path)
    return path


def test_cells_run_up_to_the_last_that_trains_with_the_parameters_set(tmp_path, monkeypatch):
    first = "out: str = ''\nresults_dir: str = ''\nepochs: int = 1"
    trains = "from pathlib import Path\nPath(out).write_text(f'{epochs} {results_dir}')  # training.fit("
    path = notebook(tmp_path, first, trains, "raise SystemExit('beyond')")
    sources = distributed.training_cells(path, {"epochs": 5, "other": 1})
    assert len(sources) == 3 and sources[2] == trains and "epochs = 5" in sources[1] and "other" not in sources[1]
    monkeypatch.setattr(distributed, "NOTEBOOKS", tmp_path)
    for name, value in {"RANK": "0", progress.HEADLESS: "1", "MPLBACKEND": "agg"}.items():
        monkeypatch.setenv(name, value)  # all that is set is forgotten again
    monkeypatch.chdir(tmp_path)
    distributed.work(path, {"epochs": 5, "out": str(tmp_path / "out.txt"), "results_dir": "kept"})
    epochs, scratch = (tmp_path / "out.txt").read_text().split()
    assert epochs == "5" and scratch != "kept" and not Path(scratch).exists()


def test_a_notebook_that_trains_nothing_is_said(capsys):
    assert distributed.main(["--only", "01"]) == 2
    assert "trains nothing" in capsys.readouterr().err
    assert distributed.main(["--only", "77"]) == 2
    assert distributed.main(["--only", "04", "--devices", "-1"]) == 2


@pytest.mark.parametrize("number", ["02", "03", "04", "04b"])
def test_every_notebook_that_trains_has_its_cells(number):
    (path,) = study.find_notebooks(number)
    sources = distributed.training_cells(path, {})
    assert sum("experiments.run(" in source for source in sources) >= 1 and "For the record" not in sources[-1]


def test_from_the_notebook_the_parameters_are_handed_on(monkeypatch):
    heard = []
    answers = [SimpleNamespace(returncode=0), SimpleNamespace(returncode=1)]
    monkeypatch.setattr(distributed.subprocess, "run", lambda command, **how: heard.append(command) or answers.pop(0))
    names = distributed.papermill.inspect_notebook(study.find_notebooks("04b")[0])
    variables = dict.fromkeys(names, 7) | {"view_size": 64, "unrelated": 1}
    distributed.train("04b", variables, devices=1)
    assert not heard
    distributed.train("04b", variables, devices=2)
    (command,) = heard
    assert command[1:7] == ["-m", "camid_utils.distributed", "--only", "04b", "--devices", "2"]
    assert command[command.index("view_size=64") - 1] == "-p" and not any("unrelated" in word for word in command)
    with pytest.raises(RuntimeError, match="exit code 1"):
        distributed.train("04b", variables, devices=2)
