"""Progress bars with time left: widgets in JupyterLab, text in a terminal and in a headless run."""

import os
import sys
from collections.abc import Callable

import tqdm
import tqdm.auto

HEADLESS = "CAMID_HEADLESS"  # environment variable that the runner sets for the notebooks' kernels


SAID = "note: "  # begins what a headless run says in the terminal and in the notebook


def headless() -> bool:
    """Whether notebooks run without a person (the runner says so)."""
    return bool(os.environ.get(HEADLESS))


def progress(*args, **options) -> tqdm.tqdm:
    """tqdm in the form that fits the place."""
    make: Callable = tqdm.tqdm if headless() else tqdm.auto.tqdm
    return make(*args, **options)


def say(text: str) -> None:
    """Print; in a headless run in the terminal too, which shows a notebook's stderr alone."""
    print(text)
    if headless():
        print(SAID + text, file=sys.stderr)
