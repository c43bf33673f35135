"""Train a notebook's networks on several GPUs or machines: `python -m camid_utils.distributed --only NN --devices N`.

The same code cells run in every process, up to the last that trains, and torchrun starts and watches the processes.
They share each batch (data-parallel Fabric). What they leave in the data folder is what the notebook would
have left, so that it finds its runs finished and only evaluates them. On each of several machines, which must see
one project folder and one data folder, the same command runs with its own --node-rank, 0, 1, ...
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import papermill
import torch
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from torch.distributed import is_torchelastic_launched
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from .progress import HEADLESS
from .study import NOTEBOOKS, find_notebooks, read_parameters

TRAINS = re.compile(r"\b(experiments\.run|training\.fit)\(")


def main(arguments: list[str] | None = None) -> int:
    """The command line, in the process that starts the others as in each of them; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    try:
        (notebook,) = find_notebooks(options.only)
        parameters = read_parameters(options.profile, options.p)
        if not is_torchelastic_launched():
            training_cells(notebook, parameters)  # an error now rather than in every process
            return launch(options, arguments)
        work(notebook, parameters)
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m camid_utils.distributed", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", metavar="NN", required=True, help="the notebook, for example 04")
    parser.add_argument("--profile", default="default", help="a file of notebooks/profiles, without .yaml")
    parser.add_argument("-p", action="append", default=[], metavar="name=value", help="set a notebook parameter")
    parser.add_argument("--devices", type=int, help="processes on this machine, a GPU each (default: all its GPUs)")
    parser.add_argument("--accelerator", choices=("auto", "cpu"), default="auto", help="cpu: leave GPUs alone")
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument("--node-rank", type=int, default=0, metavar="R", help="which of them this is, from 0")
    parser.add_argument("--main-address", default="127.0.0.1", metavar="HOST", help="where machine 0 is reached")
    parser.add_argument("--main-port", type=int, metavar="P", help="its port (default: 29500; any on one machine)")
    return parser


def train(number: str, variables: dict, devices: int) -> None:
    """Train a notebook's networks in `devices` processes, from within the notebook; what follows finds them trained.

    number: of the notebook, such as "04"; variables: its globals(), whose parameters are handed on. Nothing happens
    for one device, nor in one of those very processes. RuntimeError if one of them failed.
    """
    if devices == 1 or is_torchelastic_launched():
        return
    names = papermill.inspect_notebook(find_notebooks(number)[0])
    given = [word for name in names for word in ("-p", f"{name}={variables[name]}")]
    command = [sys.executable, "-m", __name__, "--only", number, "--devices", str(devices), *given]
    if code := subprocess.run(command, stdout=subprocess.DEVNULL).returncode:  # the notebook will print it all itself
        raise RuntimeError(f"training in {devices} processes ended with exit code {code}; what they said stands above")


def launch(options: argparse.Namespace, arguments: list[str], module: str = __spec__.name) -> int:
    """Run `module` with the arguments in each of this machine's processes, and wait; one that fails ends the others.

    Returns the exit code. Only this module's own options are read here, such as how many processes.
    """
    gpus = torch.cuda.device_count() if options.accelerator == "auto" else 0
    devices = options.devices or gpus or 1
    if devices < 1 or (gpus and devices > gpus):
        raise ValueError(f"--devices {devices}: this machine has {gpus} GPUs (--accelerator cpu leaves them alone)")
    if options.accelerator == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if options.nodes == 1 and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # what one machine says to itself stays on it
    # as many threads as one process has: with others, sums are rounded otherwise, and a network drawn on data differs
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # or they would keep the processors busy with waiting
    port = options.main_port or (_free_port() if options.nodes == 1 else 29500)
    where = {"nproc-per-node": devices, "nnodes": options.nodes, "node-rank": options.node_rank,
             "master-addr": options.main_address, "master-port": port}  # fmt: skip
    try:
        torchrun.main([*(f"--{name}={value}" for name, value in where.items()), "-m", module, *arguments])
    except ChildFailedError as error:
        print(f"error: {_in_words(error)}", file=sys.stderr)
        return 1
    return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _in_words(error: ChildFailedError) -> str:
    """Which process failed, and what to do. One that was killed explains the others, which lost it or were stopped."""
    stopped = -signal.SIGTERM
    rank, failure = min(error.failures.items(), key=lambda item: (item[1].exitcode == stopped, item[1].exitcode))
    how = f"with exit code {failure.exitcode}: its words stand above"
    if failure.exitcode < 0:
        how = f"by {signal.Signals(-failure.exitcode).name}" + ": perhaps memory ran out" * (failure.exitcode == -9)
    return (
        f"process {rank} ended {how}. The others were stopped; once the cause is gone, the same command goes on "
        "from the last finished epoch"
    )


def work(notebook: Path, parameters: dict) -> None:
    """Run the notebook's cells in this process, up to the last that trains; only the data folder keeps anything."""
    os.environ |= {HEADLESS: "1", "MPLBACKEND": "agg"}
    os.chdir(NOTEBOOKS)
    warnings.filterwarnings("ignore", ".*broadcast_buffers")  # new versions of torch have another name for it, too
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as quiet:
        if int(os.environ["RANK"]):  # the first process speaks for all
            quiet.enter_context(contextlib.redirect_stdout(quiet.enter_context(open(os.devnull, "w"))))
        variables: dict[str, object] = {"__name__": "__main__"}
        for number, source in enumerate(training_cells(notebook, parameters | {"results_dir": scratch}), 1):
            exec(compile(source, f"{notebook.name}, code cell {number}", "exec", dont_inherit=True), variables)


def training_cells(notebook: Path, parameters: dict) -> list[str]:
    """A notebook's code, a string a cell, with its own parameters set, up to the last cell that trains a network."""
    known = papermill.inspect_notebook(notebook)
    given = {name: value for name, value in parameters.items() if name in known}
    cells = parameterize_notebook(load_notebook_node(str(notebook)), given).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    trains = [i for i, source in enumerate(sources) if TRAINS.search(source)]
    if not trains:
        raise ValueError(f"{notebook.name} trains nothing: run it with python -m camid_utils.study")
    return sources[: trains[-1] + 1]


if __name__ == "__main__":
    sys.exit(main())
