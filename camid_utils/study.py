"""Run the notebooks unattended: `python -m camid_utils.study --profile NAME [-p name=value ...]`.

A run writes to runs/<profile>/ and ends with its headline figures beside the published ones of results/<profile>/.
With --grid, the notebooks run once per combination of the values given, each into a folder of its own, and the end is
one table of headline figures. Interrupted runs resume: start the same command again.
Exit code 0: finished, and nothing disagrees; 1: a notebook failed or a figure disagrees; 2: it could not start.
"""

import argparse
import ast
import contextlib
import shutil
import sys
from pathlib import Path

import yaml

# what notebooks and reports need is slow to import: the functions that need it do so
from .files import command, exclusive_folder, named_path, write_csv, write_text
from .project import PROJECT, code_changed_since, commit, read_record, resolve

NOTEBOOKS = PROJECT / "notebooks"
PROFILES = NOTEBOOKS / "profiles"
PUBLISHED = PROJECT / "results"
MADE, OURS = ("patches", "features", "predictions", "runs", "models"), "MADE_BY_A_RUN.txt"  # in a run's data_dir
COMPARED = ("metrics", "run.json")  # all that is published of the default run, which is a tour and no evidence
PARTS = ("notebooks", "html", "figures", "metrics", "predictions", "run.json")  # of a run, and where it has one, model


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    parameters = read_parameters(options.profile, options.p)
    out = options.out or default_out(options.profile, parameters)
    notebooks = find_notebooks(options.only)
    if options.publish and options.p:
        raise ValueError("--publish copies a run as it is, so it does not go with -p")
    if options.grid or options.cluster or options.jobs != 1:
        return run_grid(options, notebooks, out if options.out else out / "grid")
    if options.publish:
        return publish(out, options.profile)
    check(notebooks, parameters)
    prepare(out, parameters, options.fresh)
    from .execution import run_notebooks

    failed = run_notebooks(notebooks, parameters, out, options.profile)
    return 1 if failed else 0 if options.only else compare(out, options.profile)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m camid_utils.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    parser.add_argument("--profile", default="default", choices=names, help="a file in notebooks/profiles")
    parser.add_argument("-p", action="append", default=[], metavar="name=value", help="set a notebook parameter")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--only", metavar="NN", help="run one notebook, for example 03")
    part.add_argument("--fresh", action="store_true", help="start over: train and predict everything again")
    part.add_argument("--publish", action="store_true", help="copy a finished run to results/<profile> instead")
    parser.add_argument("--out", type=named_path, help="its folder (default: runs/<profile>, or runs/<profile>/grid)")
    parser.add_argument("--grid", nargs="+", metavar="name=value,value", help="run every combination of these values")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="combinations at a time (default: 1)")
    parser.add_argument("--cluster", metavar="tcp://HOST:8786", help="run them on the workers of this Dask scheduler")
    return parser


def find_notebooks(only: str | None = None) -> list[Path]:
    """The numbered notebooks in order, or the one whose number is asked for."""
    notebooks = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    chosen = [path for path in notebooks if only is None or path.name.startswith(f"{only}_")]
    if not chosen:
        numbers = ", ".join(path.name.split("_")[0] for path in notebooks) or "none"
        raise ValueError(f"no notebook {only or ''} in {NOTEBOOKS}: there are {numbers}")
    return chosen


def known_parameters(notebooks: list[Path] | None = None) -> dict[str, object]:
    """Every parameter of these notebooks (of all, if none are given) with its default value."""
    import nbformat
    import papermill

    found: dict[str, object] = {}
    for path in notebooks or find_notebooks():
        parameters = papermill.inspect_notebook(nbformat.read(path, as_version=4))
        found |= {name: ast.literal_eval(entry["default"]) for name, entry in parameters.items()}
    return found


def read_parameters(profile: str, assignments: list[str]) -> dict[str, object]:
    """A profile's parameters, overridden by name=value assignments; unknown names and wrong types are errors."""
    known = known_parameters()
    try:
        parameters = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text(encoding="utf-8")) or {}
        for text in assignments:
            name, equals, value = text.partition("=")
            if not equals:
                raise ValueError(f"-p {text}: write it as name=value")
            # only true and false are read as YAML: in it a folder's name may mean something, and 010 is 8
            parameters[name] = yaml.safe_load(value) if isinstance(known.get(name), bool) else value
    except yaml.YAMLError as error:
        raise ValueError(f"profile {profile} or a -p cannot be read: {' '.join(str(error).split())}") from error
    for name, value in parameters.items():
        if name not in known:
            raise ValueError(f"no notebook has a parameter {name!r}: there are {', '.join(sorted(known))}")
        expected = type(known[name])
        if type(value) in {int: (str,), float: (int, str), str: (int, float)}.get(expected, ()):
            with contextlib.suppress(ValueError):
                parameters[name] = expected(value)
        if type(parameters[name]) is not expected:
            raise ValueError(f"parameter {name} must be {expected.__name__}, not {value!r}")
    if "results_dir" in parameters:
        raise ValueError("results_dir is where a notebook writes when it is run by hand: name a folder with --out")
    return parameters


def default_out(profile: str, parameters: dict) -> Path:
    """runs/<profile>; a run on a reader's own photographs never lands among those of a profile that names none."""
    both = (parameters, read_parameters(profile, []))
    given, own = (any(value for name, value in one.items() if name.endswith("_root")) for one in both)
    return PROJECT / "runs" / (f"{profile}-photographs" if given and not own else profile)


def check(notebooks: list[Path], parameters: dict) -> None:
    """Raise an error for what would fail after minutes of work: a missing folder, weights, a tracker's key."""
    if parameters.get("seed", 0) < 0 or parameters.get("seeds", 1) < 1:
        raise ValueError("seed must be 0 or more, and seeds, their number, 1 or more")
    if PROJECT.is_relative_to(resolve(parameters.get("data_dir", "data")).resolve()):
        raise ValueError("data_dir must be a folder of its own, not one that contains the project")
    known = known_parameters(notebooks)
    for name in known.keys() & {name for name, value in parameters.items() if value}:
        if name.endswith("_root") and not (folder := resolve(parameters[name])).is_dir():
            advice = f"name yours with -p {name}=FOLDER"
            if (data := name.removesuffix("_root")) in ("dresden", "floreview", "photographs"):
                advice += f", or download it: python -m camid_utils.download {data} --to {folder}"
            raise ValueError(f"{name}: there is no folder {folder}: {advice}")
        if name == "wandb_project":
            try:
                import wandb
            except ImportError as error:
                raise ValueError("wandb is not installed: pip install wandb, or leave wandb_project empty") from error
            online = wandb.setup().settings.mode in ("online", "shared")
            if online and not wandb.login(prompt=False, verify=False):
                raise ValueError("wandb has no key: `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline")
    names = ("efficientnet_backbone", "efficientnet_weights")
    if known.keys() & {*names} & parameters.keys():  # other weights than usual are read, or downloaded, once now
        from .models import EfficientNetClassifier

        given = known_parameters() | parameters  # of all notebooks: 06 has the weights, but not the backbone
        EfficientNetClassifier(2, *(given[name] for name in names))


def run_grid(options: argparse.Namespace, notebooks: list[Path], out: Path) -> int:
    """Run the notebooks once per combination of --grid, each with folders of its own, and print their figures."""
    if not options.grid or options.publish or (options.cluster and options.jobs != 1) or options.jobs < 1:
        rule = "--jobs N (1 or more) and --cluster exclude each other and need --grid name=value,value"
        raise ValueError(f"{rule}; --publish goes with none of them")
    from .execution import combinations, run_combinations

    runs, known = {}, known_parameters()
    for name, assignments in combinations(options.grid).items():
        runs[out / name] = parameters = read_parameters(options.profile, [*options.p, *assignments])
        # models are named by experiment and seed, so combinations would overwrite each other's
        parameters["data_dir"] = f"{parameters.get('data_dir') or known['data_dir']}/grid/{name}"
        check(notebooks, parameters)
    for folder, parameters in runs.items():
        prepare(folder, parameters, options.fresh)
    failures = run_combinations(notebooks, runs, options.profile, options.jobs, options.cluster)
    from .report import headlines

    varied, finished = [text.partition("=")[0] for text in options.grid], [one for one in runs if one not in failures]
    table = headlines.by_combination({folder: {key: runs[folder][key] for key in varied} for folder in finished})
    if len(table):
        print(table.to_string(index=False, na_rep="", float_format="{:.4g}".format))
        print(f"table: {write_csv(out / 'headlines.csv', table)}")
    for folder, failure in failures.items():
        print(f"FAILED {folder.name}: {failure}")
    return int(bool(failures))


def prepare(out: Path, parameters: dict, fresh: bool) -> None:
    """Mark a new folder of heavy files as made by runs; fresh: delete what an earlier run recorded, cut, trained and
    predicted, but no simulated photographs. ValueError where such folders are there and the mark is not.
    """
    data = resolve(parameters.get("data_dir", known_parameters()["data_dir"]))
    made = [path for name in MADE if (path := data / name).exists()]
    if fresh:
        if made and not (data / OURS).exists():
            raise ValueError(f"{data} has no {OURS}, so no run made it: delete {made[0]} and the like yourself")
        (out / "run.json").unlink(missing_ok=True)
        for path in made:
            shutil.rmtree(path)
    if fresh or not made:  # what was there before any run is the reader's
        write_text(data / OURS, f"Runs of this study write here. With --fresh, they delete {', '.join(MADE)}.\n")


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
        seeds = published if profile == headlines.REAL else PUBLISHED / "full"
        table = headlines.compare(published, out, seeds)
        if table.empty:
            raise ValueError(f"{published} has no headline figures: publish a run of this profile again")
        print(headlines.in_words(table))
        return int((table["agreement"] == headlines.NO).any())
    return 0


def publish(out: Path, profile: str) -> int:
    """Copy a finished, error-free run of the current, clean commit to results/<profile>, its headlines to README.md.

    Only the notebooks' prose may have changed since they ran: what was found is written afterwards. Of the predictions,
    one row per test photo is published: those of patches fill many times as much.
    """
    from .evaluation import photo_predictions
    from .execution import renew_prose
    from .report import headlines

    record = read_record(out)
    entries = record.get("notebooks", {})
    if entries and record["profile"] != profile:
        raise ValueError(f"{out} is a run of the profile {record['profile']}, not of {profile}")
    given, own = record.get("parameters", {}), read_parameters(profile, [])
    other = sorted(name for name in given.keys() | own.keys() if given.get(name) != own.get(name))
    if entries and other:
        raise ValueError(f"{out} is a run with other parameters than the profile {profile}: {', '.join(other)}")
    names = [path.stem for path in find_notebooks()]
    wrong = [f"{name} did not run" for name in names if name not in entries]
    wrong += [f"{name} failed" for name, entry in entries.items() if entry["failure"]]
    wrong += [f"{name} is gone, so delete {out}" for name in entries if name not in names]
    if wrong:
        raise ValueError(f"{out} is not a finished run: {', '.join(wrong)}; run `make study PROFILE={profile}` first")
    present = commit()
    ran = {entry["commit"] if entry["clean"] else None for entry in entries.values()}
    if None in ran or not present["clean"]:
        raise ValueError(f"{out} is not a run of clean commits: commit, then run it again with --fresh")
    since = {name for earlier in ran for name in code_changed_since(earlier)}
    if code := {name for name in since if not Path(name).match("notebooks/*.ipynb")}:
        raise ValueError(f"{out} is not a run of the current code ({', '.join(sorted(code))} changed): run it again")
    for path in find_notebooks():
        renew_prose(path, out)
    with exclusive_folder(PUBLISHED / profile) as new:
        new.mkdir()
        for part in COMPARED if profile == "default" else (*PARTS, "model"):
            if (out / part).is_dir():
                shutil.copytree(out / part, new / part, ignore=shutil.ignore_patterns(".*"))  # what a kill left
            elif part != "model":  # few profiles leave one
                shutil.copy(out / part, new / part)
        for path in new.glob("predictions/[!.]*.parquet"):
            photo_predictions(path)
    headlines.update()
    print(f"published: {PUBLISHED / profile}, and README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
