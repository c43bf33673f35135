"""Run the notebooks unattended: `python -m camid_utils.study --profile NAME [-p name=value ...]`.

A run writes to runs/<profile>/ and ends with its headline figures beside the published ones of results/<profile>/.
Exit code 0: finished, and nothing disagrees; 1: a notebook failed or a figure disagrees; 2: it could not start.
"""

import argparse
import ast
import base64
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import nbformat
import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from traitlets.config import Config

from .files import exclusive_folder, write_text
from .project import HEADLESS, PROJECT, commit, read_record, resolve, write_run_record

NOTEBOOKS = PROJECT / "notebooks"
PROFILES = NOTEBOOKS / "profiles"
PUBLISHED = PROJECT / "results"
PARTS = ("notebooks", "html", "figures", "metrics", "predictions", "run.json")  # of a run
BAR = re.compile(r"\d+%\|")  # a line of a progress bar
PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
LINK = re.compile(r'href="(\d\d\w*)\.ipynb')  # from one notebook to another: their HTML copies lie side by side


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        parameters = read_parameters(options.profile, options.p)
        out = Path(options.out) if options.out else default_out(options.profile, parameters)
        if options.publish:
            return publish(out, options.profile)
        notebooks = find_notebooks(options.only)
        if options.fresh:
            start_over(out, parameters)
        failed = run_notebooks(notebooks, parameters, out, options.profile)
        return failed or (0 if options.only else compare(out, options.profile))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m camid_utils.study", description=__doc__, formatter_class=raw)
    profiles = ", ".join(sorted(path.stem for path in PROFILES.glob("*.yaml")))
    parser.add_argument("--profile", default="default", help=f"one of {profiles} (default: default)")
    parser.add_argument("-p", action="append", default=[], metavar="name=value", help="set a notebook parameter")
    parser.add_argument("--only", metavar="NN", help="run one notebook, for example 03")
    parser.add_argument("--fresh", action="store_true", help="train and predict everything again")
    parser.add_argument("--out", help="folder of the run (default: runs/<profile>)")
    parser.add_argument("--publish", action="store_true", help="copy a finished run to results/<profile> instead")
    return parser


def find_notebooks(only: str | None = None) -> list[Path]:
    """The numbered notebooks in order, or the one whose number is asked for."""
    notebooks = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
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
            # a string is used as it is: a folder's name may mean something in YAML
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
    if isinstance(default, float) and type(value) in (int, str):  # YAML reads 1e-3 as a string
        with contextlib.suppress(ValueError):
            return float(value)
    if isinstance(default, str) and type(value) in (int, float):
        return str(value)
    if type(value) is not type(default):
        raise ValueError(f"parameter {name} must be {type(default).__name__}, not {value!r}")
    return value


def default_out(profile: str, parameters: dict) -> Path:
    """runs/<profile>; a run on a reader's own photographs never lands among those of a profile that names none."""
    given, own = (
        any(value for name, value in one.items() if name.endswith("_root"))
        for one in (parameters, read_parameters(profile, []))
    )
    return PROJECT / "runs" / (f"{profile}-photographs" if given and not own else profile)


def run_notebooks(notebooks: list[Path], parameters: dict, out: Path, profile: str) -> int:
    """Execute each notebook into `out`; the first that fails is kept with its error and ends the run."""
    os.environ[HEADLESS] = "1"
    # Memory that a training step frees is kept for the next one: returning it to Linux and asking again costs a tenth
    # of a small network's time.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 28))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    os.environ.setdefault("TQDM_MININTERVAL", "0.5" if sys.stderr.isatty() else "20")
    os.environ.setdefault("TQDM_NCOLS", "100")
    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    for number, path in enumerate(notebooks, 1):
        elapsed = (time.monotonic() - begun) / 60
        print(f"[{number}/{len(notebooks)}] {path.stem}, {elapsed:.1f} min so far", flush=True)
        started = time.monotonic()
        failure = run_notebook(path, parameters, out)
        write_run_record(out, profile, parameters, path.stem, round(time.monotonic() - started, 1), failure)
        if failure:
            print(f"{failure}\nFAILED {path.stem}, kept with its error: {out / 'notebooks' / path.name}", flush=True)
            return 1
    print(f"results: {out}, {(time.monotonic() - begun) / 60:.1f} min", flush=True)
    return 0


def run_notebook(path: Path, parameters: dict, out: Path) -> str:
    """Execute one notebook by papermill and write its HTML copy; returns the error's text, or ""."""
    executed, html = out / "notebooks" / path.name, out / "html" / f"{path.stem}.html"
    own = papermill.inspect_notebook(path)
    given = {name: value for name, value in parameters.items() if name in own}
    inside = out.resolve().is_relative_to(PROJECT)
    given["results_dir"] = str(os.path.relpath(out, PROJECT) if inside else out.resolve())
    for target in (executed, html):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
    failure = ""
    with tempfile.TemporaryDirectory(prefix="camid-") as sockets:
        # the kernel listens on files in its own folder, not on ports: nobody else can reach it, and runs do not collide
        kernel = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        try:
            papermill.execute_notebook(path, executed, given, cwd=NOTEBOOKS, kernel_name="python3",
                                       progress_bar=False, stderr_file=sys.stderr, config=kernel)  # fmt: skip
        except papermill.PapermillExecutionError as error:
            failure = f"{error.ename}: {error.evalue}"
        except DeadKernelError as error:
            failure = f"{error}: perhaps memory ran out"
    notebook = clean_notebook(nbformat.read(executed, as_version=4), (out.resolve(), PROJECT))
    write_text(executed, nbformat.writes(notebook))
    page = HTMLExporter(embed_images=True).from_notebook_node(notebook)[0]
    write_text(html, link_figures(page, out / "figures"))
    return failure


def link_figures(page: str, figures: Path) -> str:
    """A notebook's HTML with links to the other pages, and to the figures in the folder beside instead of copies."""
    names = {base64.b64encode(path.read_bytes()).decode(): path.name for path in figures.glob("*.png")}

    def source(match: re.Match) -> str:
        name = names.get("".join(match[1].split()))
        return f"../figures/{name}" if name else match[0]

    return PICTURE.sub(source, LINK.sub(r'href="\1.html', page))


def clean_notebook(notebook: nbformat.NotebookNode, folders: Iterable[Path] = ()) -> nbformat.NotebookNode:
    """Without progress bars and times, paths below `folders` relative to them."""
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
    lines = [line for line in re.split(r"[\r\n]+", output["text"]) if line.strip() and not BAR.search(line)]
    output["text"] = "\n".join(lines)
    return output if lines else None


def start_over(out: Path, parameters: dict) -> None:
    """Delete a run's record and what it cut, trained and predicted; simulated photographs stay."""
    (out / "run.json").unlink(missing_ok=True)
    data = parameters.get("data_dir") or known_parameters().get("data_dir")
    for name in ("patches", "features", "predictions", "runs", "models") if data else ():
        shutil.rmtree(resolve(data) / name, ignore_errors=True)


def compare(out: Path, profile: str) -> int:
    """Print the run's headline figures beside the published ones; 1 if one disagrees, else 0."""
    from .report import headlines  # slow to import, and not needed before the end

    published = PUBLISHED / profile
    record, theirs = read_record(out), read_record(published)
    if not theirs:
        print(f"nothing is published for the profile {profile}: there is nothing to compare with")
    elif record["parameters"] != theirs["parameters"]:
        print("not compared with the published figures: they were made with other parameters")
    else:
        table = headlines.compare(published, out, PUBLISHED / "full")
        if table.empty:
            raise ValueError(f"{published} has no headline figures: publish a run of this profile again")
        print(headlines.in_words(table))
        return int((table["agreement"] == headlines.NO).any())
    return 0


def publish(out: Path, profile: str) -> int:
    """Copy a finished, error-free run of the current, clean commit to results/<profile>, its headlines to README.md."""
    from .report import headlines

    record = read_record(out)
    missing = [path.stem for path in find_notebooks() if path.stem not in record.get("notebooks", {})]
    commits = {entry["commit"] for entry in record.get("notebooks", {}).values()}
    clean = all(entry["clean"] for entry in record.get("notebooks", {}).values())
    if missing or record.get("failed"):
        reason = f"it failed in {record['failed']}" if record.get("failed") else f"{', '.join(missing)} did not run"
        raise ValueError(f"{out} is not a finished run: {reason}; run `make study PROFILE={profile}` first")
    if not clean or commits != {commit()["commit"]}:
        raise ValueError(f"{out} is not a run of the current, clean commit: commit, then run it again with --fresh")
    with exclusive_folder(PUBLISHED / profile) as aside:
        (aside / "new").mkdir()
        for part in PARTS:
            copy = shutil.copytree if (out / part).is_dir() else shutil.copy
            copy(out / part, aside / "new" / part)
        if (PUBLISHED / profile).exists():
            (PUBLISHED / profile).rename(aside / "old")
        (aside / "new").rename(PUBLISHED / profile)
    headlines.update()
    print(f"published: {PUBLISHED / profile}, and README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
