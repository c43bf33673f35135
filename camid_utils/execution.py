"""Execute notebooks, each in a kernel of its own: executed copies, HTML pages, the run's record.

Once, or once per combination of parameters: one after the other, in processes, or on a Dask cluster.
"""

import itertools
import json
import os
import re
import socket
import sys
import tempfile
import threading
import time
from base64 import b64encode
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import joblib
import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from traitlets import Unicode
from traitlets.config import Config

from .files import write_text
from .project import HEADLESS, PROJECT, write_run_record
from .report import matrices

START_SECONDS = 600  # a kernel may take minutes to start: packages on a network, other work on the machine
NO_KERNEL = "the kernel did not start"
ENVIRONMENT = {
    # memory that a training step frees is kept for the next: giving it back costs a small network a tenth of its time
    "MALLOC_MMAP_THRESHOLD_": str(1 << 28), "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    # threads that wait give up their core soon: half the time beside a busy process, up to a twentieth more without one
    "GOMP_SPINCOUNT": "20000",
    "TQDM_NCOLS": "100",
}  # fmt: skip
BAR = re.compile(r"\d+%\|")  # a line of a progress bar
SCRIPT = re.compile(r"<script.*?</script>\s*", re.DOTALL)  # for formulas, diagrams and widgets, from the Internet
STYLE = re.compile(r'<style type="text/css">\n/\*-(.*?)</style>\n', re.DOTALL)  # JupyterLab's own, 250 KB a page
NARROW = """
.jp-OutputArea-child, .jp-Cell-inputWrapper { overflow-x: auto; }
.jp-InputArea, .jp-InputArea-editor { overflow: visible; }
"""  # in a narrow window wide tables and code can be scrolled; nbconvert's own style cuts them off
IMAGE = re.compile(r'alt="No description[^"]*"([^>]*src="\.\./figures/)([^"]*)\.png')  # gets its file's name
LINK = re.compile(r'href="(\d\d\w*)\.ipynb')  # from one notebook to another: their HTML copies lie side by side
UNSAFE = re.compile(r"[^\w.,=+-]+")  # what a folder's name does without
ONE_JOB = threading.Lock()  # a worker runs one notebook at a time, also where it has several threads


class OwnKernel(AsyncKernelManager):
    """A kernel of this very interpreter, whatever the machine calls python3; its own stderr goes to a file."""

    stderr_path = Unicode(config=True)
    kernel_spec = KernelSpec(**get_kernel_dict())

    async def start_kernel(self, **options) -> None:
        """Start the kernel."""
        with open(self.stderr_path, "wb") as stderr:
            await super().start_kernel(stderr=stderr, **options)


def run_notebooks(notebooks: list[Path], parameters: dict, out: Path, profile: str) -> str:
    """Execute each notebook into `out`; the first that fails ends the run. Returns what failed and why, or ""."""
    os.environ[HEADLESS] = "1"
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("TQDM_MININTERVAL", "0.5" if sys.stderr.isatty() else "20")
    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    for number, path in enumerate(notebooks, 1):
        started, place = time.monotonic(), f"[{number}/{len(notebooks)}] {path.stem}"
        print(f"{place}, {(started - begun) / 60:.1f} min so far", flush=True)
        failure = run_notebook(path, parameters, out)
        seconds = round(time.monotonic() - started, 1)
        write_run_record(out, profile, parameters, path.stem, seconds, failure)
        if failure:
            kept = "earlier copies stay" if failure.startswith(NO_KERNEL) else "kept with its error"
            print(f"{failure}\nFAILED {path.stem}, {kept}: {out / 'notebooks' / path.name}", flush=True)
            return f"{path.stem}: {failure}"
        print(f"{place} finished in {seconds} s", flush=True)
    if page := matrices.build(out):
        print(f"confusion matrices: {page}")
    print(f"results: {out}, {(time.monotonic() - begun) / 60:.1f} min", flush=True)
    return ""


def run_notebook(path: Path, parameters: dict, out: Path) -> str:
    """Execute one notebook by papermill, then write its executed and HTML copies; returns the error's text, or ""."""
    own = papermill.inspect_notebook(nbformat.read(path, as_version=4))
    given = {name: value for name, value in parameters.items() if name in own}
    notebook, failure = _execute(path, given | {"results_dir": str(out.resolve())})
    if notebook:
        write_copies(clean_notebook(notebook, (out.resolve(), PROJECT)), path.stem, out)
    return failure


def write_copies(notebook: nbformat.NotebookNode, name: str, out: Path) -> None:
    """Write an executed notebook, and its page, to the folder of a run; all pages share one style sheet."""
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    title = re.match("# (.+)", prose[0]) if prose else None
    resources = {"metadata": {"name": title[1] if title else name}}
    page = HTMLExporter(embed_images=True).from_notebook_node(notebook, resources)[0]
    head, end, body = page.partition("</head>")
    page = SCRIPT.sub("", head) + end + body
    write_text(out / "html" / "style.css", "\n".join(f"/*-{style}" for style in STYLE.findall(page)) + NARROW)
    page = STYLE.sub("", STYLE.sub('<link rel="stylesheet" href="style.css">\n', page, count=1))
    write_text(out / "notebooks" / f"{name}.ipynb", nbformat.writes(notebook))
    write_text(out / "html" / f"{name}.html", link_figures(page, out / "figures"))


def renew_prose(path: Path, out: Path) -> None:
    """Give a run's executed copy the prose of the notebook `path`; ValueError if its code is no longer the same.

    What a run found can only be written into a notebook afterwards, and changes none of the run's figures.
    """
    source, executed = nbformat.read(path, as_version=4), nbformat.read(out / "notebooks" / path.name, as_version=4)
    of_run = [cell for cell in executed.cells if cell.cell_type == "code"]
    given = [cell for cell in of_run if "injected-parameters" in cell.metadata.get("tags", [])]  # papermill's
    ran = {cell.id: cell for cell in of_run if cell not in given}
    if [cell.source for cell in ran.values()] != [cell.source for cell in source.cells if cell.cell_type == "code"]:
        raise ValueError(f"{path.name}: its code has changed since it ran: run it again")
    cells = []
    for cell in source.cells:
        cells.append(ran.get(cell.id, cell))
        cells += given if "parameters" in cell.metadata.get("tags", []) else []
    if [cell.source for cell in cells] != [cell.source for cell in executed.cells]:
        write_copies(nbformat.from_dict(executed | {"cells": cells}), path.stem, out)


def _execute(path: Path, parameters: dict) -> tuple[nbformat.NotebookNode | None, str]:
    """The executed notebook, None where no kernel started, and the error's text, "" without an error."""
    started = []  # gets the notebook, whose cells are then filled
    with tempfile.TemporaryDirectory(prefix="camid-", ignore_cleanup_errors=True) as folder:
        stderr = Path(folder, "stderr")
        kernel = Config({"OwnKernel": {"stderr_path": str(stderr)} | _transport(folder)})
        try:
            papermill.execute_notebook(  # not by its path, in which braces would be a template
                nbformat.read(path, as_version=4), None, parameters, cwd=path.parent, kernel_name="python3",
                progress_bar=False, stderr_file=sys.stderr, start_timeout=START_SECONDS,
                kernel_manager_class=OwnKernel, config=kernel,
                on_notebook_start=lambda notebook: started.append(notebook),
            )  # fmt: skip
            return started[0], ""
        except papermill.PapermillExecutionError as error:
            return started[0], f"{error.ename}: {error.evalue}"
        except Exception as error:  # whatever a kernel dies of is a failed notebook, not the end of the runner
            last = stderr.read_text(errors="replace").strip().splitlines()[-1:] if stderr.is_file() else []
            kind = "perhaps memory ran out" if isinstance(error, DeadKernelError) else type(error).__name__
            failure = "; ".join([kind if started else NO_KERNEL, " ".join(str(error).split()), *last])
    for notebook in started:  # no cell could report this: it is put below the one that was being executed
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        begun = [cell for cell in code if cell.metadata.papermill.get("start_time")] or code
        begun[-1].outputs.append(nbformat.v4.new_output("error", ename="Kernel", evalue=failure, traceback=[failure]))
    return (started[0] if started else None), failure


def _transport(folder: str) -> dict[str, str]:
    """The kernel listens on files in its own folder: nobody else can reach it, and runs do not collide.

    On ports, where that cannot be: on Windows, in folders with a long name or without sockets.
    """
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(f"{folder}/kernel-00")
    except (AttributeError, OSError):
        return {}
    return {"transport": "ipc", "ip": f"{folder}/kernel"}


def link_figures(page: str, figures: Path) -> str:
    """A notebook's HTML with links to the other pages, and to the figures in the folder beside instead of copies."""
    for path in figures.glob("[!.]*.png"):
        page = page.replace(f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}", f"../figures/{path.name}")
    page = IMAGE.sub(r'alt="Figure \2"\1\2.png', page)
    return LINK.sub(r'href="\1.html', page)


def clean_notebook(notebook: nbformat.NotebookNode, folders: tuple[Path, ...]) -> nbformat.NotebookNode:
    """Without progress bars and times, paths below `folders` relative to them."""
    for part, entry in itertools.product((notebook, *notebook.cells), ("papermill", "execution")):
        part.metadata.pop(entry, None)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        for output in (output for output in cell.outputs if output.get("name") == "stderr"):
            lines = [line for line in re.split(r"[\r\n]+", output.text) if line.strip() and not BAR.search(line)]
            output.text = "\n".join(lines)
        ended = any(output.get("ename") == "SystemExit" for output in cell.outputs)  # experiments.end_notebook
        kept = (output for output in cell.outputs if not ended or output.get("name") == "stdout")
        cell.outputs = [output for output in kept if output.get("text") != ""]
    text = json.dumps(notebook)
    for folder in folders:
        text = text.replace(json.dumps(f"{folder}{os.sep}")[1:-1], "")
    return nbformat.from_dict(json.loads(text))


def combinations(texts: list[str]) -> dict[str, tuple[str, ...]]:
    """Every combination of `name=value,value,...`: the name of its folder, and `name=value` for each parameter."""
    lists: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or name in lists:
            raise ValueError(f"--grid {text}: write each parameter once, as name=value,value")
        lists[name] = [f"{name}={value}" for value in values.split(",")]
    chosen = list(itertools.product(*lists.values()))
    named = {UNSAFE.sub("_", ",".join(one)): one for one in chosen}
    if len(named) < len(chosen):
        raise ValueError(f"--grid {' '.join(texts)}: two combinations would share a folder")
    return named


def run_combinations(
    notebooks: list[Path], runs: dict[Path, dict], profile: str, jobs: int, cluster: str | None
) -> dict[Path, str]:
    """Execute the notebooks once for each of `runs` (folder -> parameters); returns what failed (folder -> reason).

    jobs: processes, each with its share of the cores; cluster: instead, the address of a Dask scheduler, whose workers
    see the same files; a job that dies with its worker is retried on another. Either way, a run's output is in log.txt.
    """
    config, apart = {"backend": "loky", "n_jobs": jobs}, jobs > 1 or cluster is not None
    if cluster:  # its queue may be long: a day
        config = {"backend": "dask", "scheduler_host": cluster, "wait_for_workers_timeout": 24 * 3600, "n_jobs": -1}
    failures = dict.fromkeys(runs, "it did not finish")
    with joblib.parallel_config(**config):
        tasks = [joblib.delayed(_run_one)(notebooks, given, folder, profile, apart) for folder, given in runs.items()]
        try:
            done = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")(tasks)
            for number, (folder, failure) in enumerate(done, 1):
                failures[folder] = failure
                print(f"({number}/{len(runs)}) {folder.name}: {'failed' if failure else 'finished'}", flush=True)
        except Exception as error:  # workers that die again and again, a scheduler that is gone
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return {folder: failure for folder, failure in failures.items() if failure}


def _run_one(notebooks: list[Path], parameters: dict, folder: Path, profile: str, apart: bool) -> tuple[Path, str]:
    """One combination: its folder, and what went wrong, never as an error: the others go on.

    apart: beside others, so it has the cores that joblib or Dask gave the process, and prints to a file.
    """
    try:
        if not apart:
            return folder, run_notebooks(notebooks, parameters, folder, profile)
        os.environ.setdefault("LOKY_MAX_CPU_COUNT", os.environ.get("OMP_NUM_THREADS", str(joblib.cpu_count())))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "log.txt"
        with ONE_JOB, path.open("w", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            return folder, run_notebooks(notebooks, parameters, folder, profile)
    except Exception as error:
        return folder, f"{type(error).__name__}: {error}"
