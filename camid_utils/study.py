"""Run the notebooks without a person: `python -m camid_utils.study --profile NAME [-p name=value ...]`."""

from __future__ import annotations

import argparse
import ast
import base64
import contextlib
import hashlib
import json
import os
import re
import resource
import secrets
import shutil
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from traitlets.config import Config

from .experiments import PROJECT, commit, environment, resolve
from .files import write_text
from .progress import HEADLESS, SAID

NOTEBOOKS = PROJECT / "notebooks"
PROFILES = NOTEBOOKS / "profiles"
PRIVATE = Config({"KernelManager": {"transport": "ipc"}})  # kernels listen on a file of this user, not on a port
BAR = re.compile(r"\d+%\|")  # a line of a progress bar
PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
LINK = re.compile(r'href="(\d\d\w*)\.ipynb')  # from one notebook to another: their HTML copies lie side by side


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        notebooks = find_notebooks(options.only)
        parameters = read_parameters(options.profile, options.p)
        out = Path(options.out) if options.out else default_out(options.profile, parameters)
        if options.fresh:
            start_over(out, parameters)
        return run_notebooks(notebooks, parameters, out, options.profile)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m camid_utils.study", description=__doc__)
    parser.add_argument("--profile", default="default", help="a file of notebooks/profiles, without .yaml")
    parser.add_argument("-p", action="append", default=[], metavar="name=value", help="set a notebook parameter")
    parser.add_argument("--only", metavar="NN", help="run one notebook, for example 03")
    parser.add_argument(
        "--fresh", action="store_true", help="start over; without it, what the same run finished earlier is kept"
    )
    parser.add_argument("--out", help="results folder (default: results/<profile>)")
    return parser


def find_notebooks(only: str | None = None) -> list[Path]:
    """The numbered notebooks in order, or the one whose number is asked for."""
    notebooks = sorted(NOTEBOOKS.glob("[0-9][0-9]*_*.ipynb"))
    chosen = [path for path in notebooks if only is None or path.name.startswith(f"{only}_")]
    if not chosen:
        numbers = ", ".join(path.name.split("_")[0] for path in notebooks) or "none"
        raise ValueError(f"no notebook {only or ''} in {NOTEBOOKS}: there are {numbers}")
    return chosen


def known_parameters() -> dict[str, object]:
    """Every parameter of every notebook with its default value."""
    found: dict[str, object] = {}
    for path in find_notebooks():
        for name, entry in papermill.inspect_notebook(path).items():
            found[name] = ast.literal_eval(entry["default"])
    return found


def read_parameters(profile: str, assignments: list[str]) -> dict[str, object]:
    """A profile's parameters, overridden by name=value assignments; unknown names and wrong types are errors."""
    path = PROFILES / f"{profile}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
        raise ValueError(f"no profile {profile!r}: choose one of {names}")
    known = known_parameters()
    try:
        parameters = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for text in assignments:
            name, equals, value = text.partition("=")
            if not equals:
                raise ValueError(f"-p {text}: write it as name=value")
            # a string is taken as it stands: a folder's name may mean something in YAML
            parameters[name] = value if isinstance(known.get(name), str) else yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"profile {profile} or a -p cannot be read: {' '.join(str(error).split())}") from error
    for name, value in parameters.items():
        if name not in known:
            raise ValueError(f"no notebook has a parameter {name!r}: there are {', '.join(sorted(known))}")
        parameters[name] = _as_type(name, value, known[name])
    return parameters


def _as_type(name: str, value: object, default: object) -> object:
    """`value` in the type of the notebook's default; an error where it is of another."""
    if isinstance(default, float) and type(value) in (int, str):  # YAML takes 1e-3 for a string
        with contextlib.suppress(ValueError):
            return float(value)
    if isinstance(default, str) and type(value) in (int, float):
        return str(value)
    if type(value) is not type(default):
        raise ValueError(f"parameter {name} must be {type(default).__name__}, not {value!r}")
    return value


def default_out(profile: str, parameters: dict) -> Path:
    """results/<profile>; figures of a reader's own photographs never land among those of a profile that names none."""
    given, own = (
        any(value for name, value in one.items() if name.endswith("_root"))
        for one in (parameters, read_parameters(profile, []))
    )
    return PROJECT / "results" / (f"{profile}-photographs" if given and not own else profile)


def run_notebooks(notebooks: list[Path], parameters: dict, out: Path, profile: str) -> int:
    """Execute each notebook into `out`; the first that fails is kept with its error and ends the run."""
    os.environ[HEADLESS] = "1"
    # Memory that a training step frees is kept for the next one: given back to Linux and taken again it costs a tenth
    # of a small network's time.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 28))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    os.environ.setdefault("TQDM_MININTERVAL", "0.5" if sys.stderr.isatty() else "20")
    os.environ.setdefault("TQDM_NCOLS", "100")
    out.mkdir(parents=True, exist_ok=True)
    keys = notebook_keys(parameters)
    for number, path in enumerate(notebooks, 1):
        print(f"[{number}/{len(notebooks)}] {path.stem}", flush=True)
        if len(notebooks) > 1 and finished(out, path, keys[path.stem]):  # a notebook asked for by number always runs
            print("      kept: the same code and parameters finished it before (--fresh starts over)", flush=True)
            continue
        started = time.monotonic()
        failure = run_notebook(path, parameters, out)
        seconds = round(time.monotonic() - started, 1)
        write_run_record(out, profile, parameters, path.stem, seconds, keys[path.stem], failure)
        if failure:
            print(f"{failure}\nFAILED {path.stem}, kept with its error: {out / 'notebooks' / path.name}", flush=True)
            return 1
        print(f"      done in {seconds:.0f} s", flush=True)
    print(f"results: {out}", flush=True)
    return 0


def run_notebook(path: Path, parameters: dict, out: Path) -> str:
    """Execute one notebook by papermill and write its HTML copy; returns the error's text, or ""."""
    executed, html = out / "notebooks" / path.name, out / "html" / f"{path.stem}.html"
    own = papermill.inspect_notebook(path)
    given = {name: value for name, value in parameters.items() if name in own}
    given["results_dir"] = str(
        os.path.relpath(out, PROJECT) if out.resolve().is_relative_to(PROJECT) else out.resolve()
    )
    for target in (executed, html):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
    failure = ""
    try:
        papermill.execute_notebook(path, executed, given, cwd=NOTEBOOKS, kernel_name="python3", progress_bar=False,
                                   stderr_file=sys.stderr, config=PRIVATE)  # fmt: skip
    except papermill.PapermillExecutionError as error:
        failure = f"{error.ename}: {error.evalue}"
    except DeadKernelError as error:
        failure = f"{error}: perhaps memory ran out"
    notebook = clean(nbformat.read(executed, as_version=4), (out.resolve(), PROJECT))
    write_text(executed, nbformat.writes(notebook))
    page = HTMLExporter(embed_images=True).from_notebook_node(notebook)[0]
    write_text(html, linked(page, out / "figures"))
    return failure


def linked(page: str, figures: Path) -> str:
    """A notebook's HTML with links to the other pages, and to the figures in the folder beside instead of copies."""
    names = {base64.b64encode(path.read_bytes()).decode(): path.name for path in figures.glob("*.png")}

    def source(match: re.Match) -> str:
        name = names.get("".join(match[1].split()))
        return f"../figures/{name}" if name else match[0]

    return PICTURE.sub(source, LINK.sub(r'href="\1.html', page))


def clean(notebook: nbformat.NotebookNode, folders: Iterable[Path] = ()) -> nbformat.NotebookNode:
    """Without progress bars and the clock, what is said twice said once, paths below `folders` relative to them."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for entry in ("papermill", "execution"):
            cell.metadata.pop(entry, None)
        if cell.cell_type == "code":
            outputs = [output for output in map(_without_bars, cell.outputs) if output]
            cell.outputs = [_without_paths(output, folders) for output in outputs]
    return notebook


def _without_paths(output: nbformat.NotebookNode, folders: Iterable[Path]) -> nbformat.NotebookNode:
    text = json.dumps(output)
    for folder in folders:
        text = text.replace(json.dumps(f"{folder}{os.sep}")[1:-1], "")
    return nbformat.from_dict(json.loads(text))


def _without_bars(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    if output.get("name") != "stderr":
        return output
    lines = [line for line in re.split(r"[\r\n]+", output["text"]) if line.strip()]
    lines = [line for line in lines if not (BAR.search(line) or line.startswith(SAID))]
    output["text"] = "\n".join(lines)
    return output if lines else None


def write_run_record(
    out: Path, profile: str, parameters: dict, name: str, seconds: float, key: str, failure: str
) -> None:
    """run.json: what ran, with what, on what, for how long; entries of notebooks not run this time are kept."""
    before = read_record(out)
    scale = 1024**3 if sys.platform == "darwin" else 1024**2  # ru_maxrss is in bytes there, in KiB elsewhere
    datasets = out / "metrics" / "datasets.json"
    notebook = {
        "seconds": seconds,
        **commit(),
        "key": None if failure else key,
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / scale, 2),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    record = {
        "profile": profile,
        **commit(),
        "failed": name if failure else None,
        "parameters": parameters,
        "datasets": json.loads(datasets.read_text()) if datasets.is_file() else {},
        "notebooks": before.get("notebooks", {}) | {name: notebook},
        "environment": environment(),
    }
    write_text(out / "run.json", json.dumps(record, indent=2) + "\n")


def read_record(out: Path) -> dict:
    """run.json of a results folder, empty where there is none."""
    path = out / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def notebook_keys(parameters: dict) -> dict[str, str]:
    """For each notebook a digest of what decides its results: code, parameters, data folder, notebooks before it."""
    settings = [parameters, environment(), data_mark(parameters)]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in sorted((PROJECT / "camid_utils").rglob("*")):
        if path.suffix in (".py", ".csv"):
            digest.update(path.read_bytes())
    keys = {}
    for path in find_notebooks():
        sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        digest.update(json.dumps(sources).encode())
        keys[path.stem] = digest.hexdigest()[:16]
    return keys


def finished(out: Path, notebook: Path, key: str) -> bool:
    """Whether an earlier run with this key finished the notebook and its executed copies are still there."""
    done = read_record(out).get("notebooks", {}).get(notebook.stem, {})
    copies = out / "notebooks" / notebook.name, out / "html" / f"{notebook.stem}.html"
    return done.get("key") == key and all(path.is_file() for path in copies)


def data_folder(parameters: dict) -> Path | None:
    """Where a run keeps its heavy files; None if no notebook asks for such a folder."""
    folder = parameters.get("data_dir") or known_parameters().get("data_dir")
    return resolve(folder) if folder else None


def data_mark(parameters: dict) -> str:
    """What tells this data folder from another: if it was lost and made anew, nothing made from the old one is kept."""
    folder = data_folder(parameters)
    if folder is None:
        return ""
    if not (folder / ".mark").is_file():
        write_text(folder / ".mark", secrets.token_hex(8))
    return (folder / ".mark").read_text(encoding="utf-8")


def start_over(out: Path, parameters: dict) -> None:
    """Forget what was trained and executed: the results' record and the data folder's runs, models and features."""
    (out / "run.json").unlink(missing_ok=True)
    if data := data_folder(parameters):
        for name in ("runs", "models", "features"):
            shutil.rmtree(data / name, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
