"""Shared stand-ins: patch tables, a small patch store and its network, predictions, an interrupted training."""

import shutil
import signal
from collections import OrderedDict
from contextlib import ExitStack
from itertools import product
from unittest.mock import MagicMock

import nbformat
import numpy as np
import pandas as pd
import pytest
from lightning_fabric import Fabric
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect, sync_playwright
from scipy.special import log_softmax
from torch import nn

from camid_utils import evaluation, experiments, patches, project, training
from camid_utils import study as runner
from camid_utils.analyses import transfer

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore Ctrl-C
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync""".split()
MODELS = ["Acme_A", "Acme_B", "Bolt_C"]
PARAMETERS = {  # of two tiny notebooks
    "01_first": 'text: str = "as is"  # a comment\nresults_dir: str = ""\ndresden_root: str = ""\n'
    'wandb_project: str = ""\n',
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
    for module in (training, evaluation, experiments, transfer):
        monkeypatch.setattr(module, "make_fabric", lambda *_: fabric)
    return fabric


@pytest.fixture
def patch_table():
    """Makes a patch table: every device of every camera model photographs every scene, `per_photo` patches each."""

    def make(devices: int = 2, scenes: int = 8, per_photo: int = 4, names: list[str] = MODELS) -> pd.DataFrame:
        rows = [
            ("Dresden", name.split("_")[0], name, f"{name}_{d}", f"{s}-1", "Dresden", f"{name}/{name}_{d}_{s}.JPG", 0,
             48 * p)
            for name, d, s, p in product(names, range(devices), range(scenes), range(per_photo))
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=patches.PATCH_COLUMNS)

    return make


@pytest.fixture
def make_store(tmp_path):
    """Makes a patch store of pixels and a table; its folder is new, and so holds no predictions yet."""

    def make(pixels: np.ndarray, table: pd.DataFrame, name: str = "random-8-0123") -> patches.Store:
        return patches.Store(pixels, table, pd.DataFrame(columns=["photo", "reason"]), tmp_path / name, "random")

    return make


@pytest.fixture
def store(patch_table, make_store) -> patches.Store:
    """A store of 96 patches of 8 x 8 pixels: each camera model has its own colour; the rows are in random order."""
    table = patch_table(per_photo=2).sample(frac=1, random_state=0).reset_index(drop=True)
    pixels = np.random.default_rng(0).integers(0, 40, (len(table), 8, 8, 3), dtype=np.uint8)
    pixels[np.arange(len(table)), :, :, pd.Index(MODELS).get_indexer(table["camera_model"])] += 60
    return make_store(pixels, table)


@pytest.fixture
def colour_net():
    """Makes a network for `store`: colour_net(classes, norm=False) learns which colour belongs to which class."""

    def make(num_classes: int, norm: bool = False) -> nn.Module:
        first = nn.BatchNorm2d(3, momentum=0.5, affine=False) if norm else nn.Identity()
        features = nn.Sequential(first, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        net = nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(3, num_classes)))
        net.settings = {"network": "ColourNet", "num_classes": num_classes}
        return net

    return make


@pytest.fixture
def study(tmp_path) -> experiments.Study:
    """A study that keeps all its files in a folder of the test."""
    return experiments.Study(tmp_path / "data", tmp_path / "results", {})


@pytest.fixture
def noisy_predictions():
    """Makes a table of predictions of four classes in turn; `strength`: how far the true class stands out."""

    def make(photos: int = 40, per_photo: int = 5, strength: float = 1.0, seed: int = 0) -> pd.DataFrame:
        photo, names = np.repeat(np.arange(photos), per_photo), np.array([*MODELS, "Bolt_D"])
        true = names[photo % 4]
        noise = np.random.default_rng(seed).normal(size=(len(photo), 4))
        logs = log_softmax(noise + strength * np.eye(4)[photo % 4], axis=1)
        table = pd.DataFrame({
            "photo": [f"p{i:05d}.jpg" for i in photo], "y": 0, "x": np.arange(len(photo)) % per_photo,
            "dataset": "simulated Dresden", "brand": [name.split("_")[0] for name in true],
            "device": [f"{name}_{i // 4 % 2}" for name, i in zip(true, photo, strict=True)], "true": true,
            "camera_model": true,
        })  # fmt: skip
        return table.join(pd.DataFrame(logs, columns=[evaluation.LOG_PROB + name for name in names]))

    return make


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
