"""Shared stand-ins: patch tables, a small patch store and its network, predictions, an interrupted training."""

import signal
from contextlib import ExitStack
from unittest.mock import MagicMock

import nbformat
import numpy as np
import pandas as pd
import pytest
from helpers import CHROMIUM, MODELS, patch_table
from lightning_fabric import Fabric
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect, sync_playwright

from camid_utils import evaluation, experiments, patches, project, training
from camid_utils import study as runner
from camid_utils.analyses import baselines, transfer

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore Ctrl-C
FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync""".split()
PARAMETERS = {  # of two tiny notebooks
    "01_first": 'text: str = "as is"  # a comment\nresults_dir: str = ""\ndresden_root: str = ""\n'
    'wandb_project: str = ""\n'
    'efficientnet_weights: str = "imagenet"\nefficientnet_backbone: str = "efficientnet_lite0"\n',
    "02_second": 'number: int = 1\nrate: float = 0.5\nflag: bool = True\ndata_dir: str = "data"\nseed: int = 0\n'
    'results_dir: str = ""\n',
}


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, one for all tests of a process, as Playwright allows no second."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Opens a page and waits until it is ready; fails if it reports an error or asks for anything beside itself."""
    faults = []
    with ExitStack() as contexts:

        def open_page(address: str, **options):
            own = address.partition("#")[0], "data:", "blob:"
            context = contexts.enter_context(browser.new_context(**options))
            context.on("request", lambda request: request.url.startswith(own) or faults.append(request.url))
            tab = context.new_page()
            tab.on("pageerror", lambda error: faults.append(str(error)))
            tab.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
            tab.goto(address)
            expect(tab.locator("#status:text-is('Ready.'), body[data-ready=true]")).to_have_count(1)
            return tab

        yield open_page
    assert not faults


@pytest.fixture
def on_cpu(monkeypatch) -> Fabric:
    """Everything runs on the CPU in float32, also where there is a GPU or bfloat16: results can be compared closely."""
    fabric = Fabric(accelerator="cpu", precision="32-true", devices=1)
    for module in (training, evaluation, transfer, baselines):
        monkeypatch.setattr(module, "make_fabric", lambda *_: fabric)
    monkeypatch.setattr(baselines, "best_device", lambda: "cpu")
    return fabric


@pytest.fixture
def make_store(tmp_path):
    """Makes a patch store of pixels and a table; its folder is new, and so holds no predictions yet."""

    def make(pixels: np.ndarray, table: pd.DataFrame, name: str = "random-8-0123") -> patches.Store:
        return patches.Store(pixels, table, tmp_path / name, "random")

    return make


@pytest.fixture
def store(make_store) -> patches.Store:
    """A store of 96 patches of 8 x 8 pixels: each camera model has its own colour; the rows are in random order."""
    table = patch_table(per_photo=2).sample(frac=1, random_state=0).reset_index(drop=True)
    pixels = np.random.default_rng(0).integers(0, 40, (len(table), 8, 8, 3), dtype=np.uint8)
    pixels[np.arange(len(table)), :, :, pd.Index(MODELS).get_indexer(table["camera_model"])] += 60
    return make_store(pixels, table)


@pytest.fixture
def study(tmp_path) -> experiments.Study:
    """A study that keeps all its files in a folder of the test."""
    return experiments.Study(tmp_path / "data", tmp_path / "results", {})


@pytest.fixture
def interrupt_after(monkeypatch):
    """interrupt_after(epoch): the next trainings are interrupted when that epoch's checkpoint is written; 0: never."""

    def arrange(epoch: int) -> None:
        def show(values: dict) -> None:
            if values["epoch"] == epoch:
                raise KeyboardInterrupt

        bar = MagicMock()
        bar.__enter__.return_value.set_postfix = show
        monkeypatch.setattr(training, "progress", lambda **_: bar)

    return arrange


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """A function that writes tiny notebooks (name -> code) where the runner looks for them, and two profiles."""
    folder = tmp_path / "notebooks"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "small.yaml").write_text("number: 3  # fewer\n")
    (folder / "profiles" / "odd.yaml").write_text("rate: 1e-3\n")
    monkeypatch.setattr(runner, "NOTEBOOKS", folder)
    monkeypatch.setattr(runner, "PROFILES", folder / "profiles")
    monkeypatch.setattr(runner, "PUBLISHED", tmp_path / "published")
    monkeypatch.setenv(project.HEADLESS, "")  # restored afterwards, as the runner sets it

    def write(**code: str) -> None:
        for name, parameters in PARAMETERS.items():
            cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), new_code_cell(code.get(name, ""))]
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
            nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")

    write()
    return write
