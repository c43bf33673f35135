"""Run the notebooks once per combination of parameters: one after the other, in processes, or on a Dask cluster."""

import itertools
import os
import re
import sys
import threading
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path

import joblib

from .execution import run_notebooks

UNSAFE = re.compile(r"[^\w.,=+-]+")  # what a folder's name does without
ONE_JOB = threading.Lock()  # a worker runs one notebook at a time, also where it has several threads


def combinations(texts: list[str]) -> dict[str, dict[str, str]]:
    """Every combination of `name=value,value,...`: the name of its folder, and the text of each parameter's value."""
    lists: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or name in lists:
            raise ValueError(f"--grid {text}: write each parameter once, as name=value,value")
        lists[name] = values.split(",")
    chosen = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
    named = {UNSAFE.sub("_", ",".join(f"{name}={value}" for name, value in one.items())): one for one in chosen}
    if len(named) < len(chosen):
        raise ValueError(f"--grid {' '.join(texts)}: two combinations would share a folder")
    return named


def run(notebooks: list[Path], runs: dict[Path, dict], profile: str, jobs: int, cluster: str | None) -> dict[Path, str]:
    """Execute the notebooks once for each of `runs` (folder -> parameters); returns what failed (folder -> reason).

    jobs: processes, each with its share of the cores; cluster: instead, the address of a Dask scheduler, whose workers
    see the same files; a job that dies with its worker is retried on another. Either way, a run's output is in log.txt.
    """
    config, failures = {"backend": "loky", "n_jobs": jobs}, dict.fromkeys(runs, "it did not finish")
    if cluster:  # its queue may be long: a day
        config = {"backend": "dask", "scheduler_host": cluster, "wait_for_workers_timeout": 24 * 3600, "n_jobs": -1}
    with joblib.parallel_config(**config):
        apart = jobs > 1 or cluster is not None
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
        with ONE_JOB, ExitStack() as stack:
            if apart:
                os.environ.setdefault("LOKY_MAX_CPU_COUNT", os.environ.get("OMP_NUM_THREADS", str(joblib.cpu_count())))
                folder.mkdir(parents=True, exist_ok=True)
                log = stack.enter_context(open(folder / "log.txt", "w", encoding="utf-8"))
                stack.enter_context(redirect_stdout(log))
                stack.enter_context(redirect_stderr(log))
            return folder, run_notebooks(notebooks, parameters, folder, profile)
    except Exception as error:
        return folder, f"{type(error).__name__}: {error}"
