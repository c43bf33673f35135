"""Figures draw without a warning at 2 to 40 classes, say what they show, and are files of always the same bytes."""

import warnings
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from camid_utils import datasets, plots, published

NOTE = "simulated Dresden, 96 photos"
PHONES = list(published.read("floreview_models")["camera_model"])  # 40 real names, the longest there are


@pytest.fixture(autouse=True)
def style():
    matplotlib.use("Agg")
    plots.use_style()
    yield
    plt.close("all")


def names(n: int) -> list[str]:
    return sorted(PHONES)[:n]


def catalogue(n: int) -> pd.DataFrame:
    """`n` camera models, one device for even and two for odd ones, five scenes each."""
    rows = [
        (f"{name}/{d}_{s}.jpg", "simulated Dresden", name.split("_")[0], name, f"{name}_{d}", f"{s}-1", 64, 48)
        for i, name in enumerate(names(n))
        for d in range(1 + i % 2)
        for s in range(5)
    ]
    return pd.DataFrame(rows, columns=datasets.COLUMNS)


def pictures(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(n)
    return [rng.integers(0, 255, (24, 32, 3), dtype=np.uint8) for _ in range(n)]


def epochs(count: int = 6) -> pd.DataFrame:
    numbers = np.arange(1, count + 1)
    columns = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_precision")
    return pd.DataFrame({"epoch": numbers} | {name: 1 / (1 + numbers + i) for i, name in enumerate(columns)})


def counts(n: int) -> pd.DataFrame:
    """A confusion matrix: 30 right, 10 taken for the next class; the last class has no photo."""
    matrix = 30 * np.eye(n, dtype=int) + 10 * np.roll(np.eye(n, dtype=int), 1, axis=1)
    matrix[-1] = 0
    index = pd.Index(names(n), name="true")
    return pd.DataFrame(matrix, index=index, columns=pd.Index(names(n), name="predicted"))


def steps(n: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"step": np.arange(1, 9 * n), "loss": 2.0 / n, "gradient_norm": np.linspace(0.01, 30, 9 * n - 1)}
    )


LOG = published.read("dresden_log")
FIGURES = {
    "learning_curves": lambda n: plots.learning_curves({f"run {i}": epochs() for i in range(min(n, 5))}, NOTE),
    "learning_curves beside the authors'": lambda n: plots.learning_curves({"ours": epochs(n)}, NOTE, LOG),
    "step_curves": lambda n: plots.step_curves(steps(n), NOTE),
    "confusion_matrix": lambda n: plots.confusion_matrix(counts(n), "CameraConvNet, scene+device, photos (%)", NOTE),
}


def texts(fig) -> list[str]:
    found = [text.get_text() for text in fig.findobj(matplotlib.text.Text)]
    return [text for text in found if text]


def saved(fig, folder, name="figure", **options) -> bytes:
    """The file's bytes; any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.save(fig, folder, name, **options)
    return (folder / f"{name}.png").read_bytes()


def checked(make, classes: int, folder) -> None:
    """Draws without a warning, at a size for a page, and says which data it shows."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fig = make(classes)
    assert saved(fig, folder).startswith(b"\x89PNG")
    assert any("simulated Dresden" in text for text in texts(fig))
    assert max(fig.get_size_inches()) < 25


def bytes_of(make, folder) -> bytes:
    return saved(make(3), folder)


def overlapping(fig, artists) -> list[tuple[str, str]]:
    """Pairs of texts that are drawn over one another, by more than a pixel."""
    fig.draw_without_rendering()
    shown = [(text.get_text(), text.get_window_extent()) for text in artists if text.get_text()]
    return [
        (a, b)
        for i, (a, one) in enumerate(shown)
        for b, two in shown[i + 1 :]
        if min(one.x1, two.x1) - max(one.x0, two.x0) > 1 and min(one.y1, two.y1) - max(one.y0, two.y0) > 1
    ]


@pytest.mark.parametrize("classes", [2, 8, 27, 40])
@pytest.mark.parametrize("name", FIGURES)
def test_draws_without_a_warning_and_says_which_data(name, classes, tmp_path):
    checked(FIGURES[name], classes, tmp_path)


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_data_give_the_same_bytes(name, tmp_path):
    assert bytes_of(FIGURES[name], tmp_path / "a") == bytes_of(FIGURES[name], tmp_path / "b")


def test_a_figure_is_whole_or_not_there(tmp_path, monkeypatch):
    saved(plots.network_diagram(plots.CAMERACONVNET, "CameraConvNet"), tmp_path / "new", "a")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    before = (tmp_path / "new" / "a.png").read_bytes()

    ordinary = Image.Image.save

    def cut_short(self, target, *args, **options):
        if not isinstance(target, Path):  # in memory
            return ordinary(self, target, *args, **options)
        target.write_bytes(b"\x89PNG half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", cut_short)
    with pytest.raises(OSError, match="disk full"):
        plots.save(plots.network_diagram(plots.EFFICIENTNET, "EfficientNet"), tmp_path / "new", "a")
    assert [path.read_bytes() for path in (tmp_path / "new").iterdir()] == [before]


def test_a_saved_figure_has_256_colours_or_on_request_all_and_is_closed(tmp_path):
    """Thousands of colours: each becomes one of the 256 that is near, and with `exact` stays what it was."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)

    def figure():
        fig = plt.figure(figsize=(0.64, 0.64), layout="none")
        fig.figimage(noise, origin="upper")
        return fig

    with plt.rc_context({"figure.dpi": 100, "savefig.dpi": 100, "savefig.bbox": None}):
        few, all_of_them = (saved(figure(), tmp_path, str(exact), exact=exact) for exact in (False, True))
    assert len(few) < len(all_of_them) and plt.get_fignums() == []
    drawn = {name: np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("False", "True")}
    np.testing.assert_array_equal(drawn["True"], noise)
    assert len(np.unique(drawn["False"].reshape(-1, 3), axis=0)) <= 256
    assert np.abs(drawn["False"].astype(int) - noise).mean() < 16


@pytest.mark.parametrize("layers", [plots.CAMERACONVNET, plots.EFFICIENTNET])
def test_the_diagrams_name_every_layer_and_size(layers, tmp_path):
    fig = plots.network_diagram(layers, "A network")
    saved(fig, tmp_path)
    for name, size in layers:
        assert name in texts(fig) and size in texts(fig)


@pytest.mark.parametrize("classes", [8, 27, 40])
def test_a_confusion_matrix_says_each_share_in_its_own_cell(classes):
    (ax, *_) = plots.confusion_matrix(counts(classes), "Title", NOTE).axes
    labels = names(classes)
    cells = {tuple(map(int, t.get_position())): t.get_text() for t in ax.texts if t.get_text().isdigit()}
    expected = {(i, i): "75" for i in range(classes - 1)} | {(i + 1, i): "25" for i in range(classes - 1)}  # x, y
    assert cells == expected
    assert [t.get_text() for t in ax.get_xticklabels()] == plots.readable(labels)
    rows = [t.get_text() for t in ax.get_yticklabels()]
    assert rows[0].startswith(plots.readable(labels)[0]) and "(40)" in rows[0] and "(0)" in rows[-1]
    assert ax.get_xlabel() == "predicted" and ax.get_ylabel().startswith("true")
    shares = ax.images[0].get_array()
    assert shares.max() == 0.75 and (shares[-1] == 0).all()


@pytest.mark.parametrize("classes", [2, 27, 40])
def test_a_confusion_matrix_can_be_read(classes):
    fig = plots.confusion_matrix(counts(classes), "CameraConvNet, scene+device, photos (%)", NOTE)
    (ax,) = fig.axes
    note = next(t for t in ax.texts if t.get_text() == NOTE)
    for group in (ax.get_xticklabels(), ax.get_yticklabels(), [ax._left_title, note]):
        assert len(group) >= 2 and overlapping(fig, group) == []


def test_a_confusion_matrix_by_device_need_not_be_square(tmp_path):
    matrix = counts(3)
    tall = pd.concat([matrix.rename("{}_0".format), matrix.rename("{}_1".format)])
    fig = plots.confusion_matrix(tall, "By device", NOTE)
    saved(fig, tmp_path)
    assert len(fig.axes[0].get_yticks()) == 6 and len(fig.axes[0].get_xticks()) == 3


def test_the_authors_curve_is_drawn_as_published():
    fig = plots.learning_curves({"ours": epochs()}, NOTE, LOG)
    theirs = [line for line in fig.axes[1].lines if len(line.get_xdata()) == len(LOG)]
    assert [list(line.get_ydata()) for line in theirs] == [list(LOG["train_accuracy"]), list(LOG["val_accuracy"])]
    ours = [line for line in fig.axes[0].lines if len(line.get_xdata()) == 6]
    assert [list(line.get_ydata()) for line in ours] == [list(epochs()["train_loss"]), list(epochs()["val_loss"])]
    assert any("real Dresden" in text for text in texts(fig))


def test_one_epoch_and_one_step_can_be_drawn(tmp_path):
    saved(plots.learning_curves({"ours": epochs(1)}, NOTE), tmp_path)
    saved(plots.step_curves(steps(2)[:1], NOTE), tmp_path)
