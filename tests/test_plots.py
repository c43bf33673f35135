"""Figures draw without a warning at 2 to 40 classes, say what they show, and are files of always the same bytes."""

import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

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


def bars(n: int) -> pd.DataFrame:
    value = np.linspace(0, 1, n)
    low, high = np.clip(value - 0.1, 0, 1), np.clip(value + 0.1, 0, 1)
    label = [f"experiment {i}\nscene+device, photos" for i in range(n)]
    paper = np.where(np.arange(n) % 2, np.nan, 0.8189)
    return pd.DataFrame({"label": label, "value": value, "low": low, "high": high, "published": paper})


def steps(n: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"step": np.arange(1, 9 * n), "loss": 2.0 / n, "gradient_norm": np.linspace(0.01, 30, 9 * n - 1)}
    )


def parts(n: int) -> dict[str, pd.Series]:
    photos = len(catalogue(n))
    cycle = pd.Series(np.resize(["train", "train", "val", "test", "unused"], photos))
    return {"photo": cycle, "scene": cycle, "scene+device": cycle[: photos - 2]}


def jpeg(n: int) -> dict:
    return {name: (np.arange(1, 65).reshape(8, 8) + i, None, "4:2:0") for i, name in enumerate(names(n))}


def spectra(n: int) -> dict:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(16, 16)) for name in names(n)}


LOG = published.read("dresden_log")
FIGURES = {
    "class_counts": lambda n: plots.class_counts(catalogue(n)),
    "class_counts beside published": lambda n: plots.class_counts(
        catalogue(n), published.read("floreview_models").set_index("camera_model")
    ),
    "coverage": lambda n: plots.coverage(catalogue(n)),
    "picture_grid": lambda n: plots.picture_grid(pictures(n), plots.readable(names(n)), 4, "One scene", NOTE),
    "spectra": lambda n: plots.spectra(spectra(n), NOTE),
    "jpeg_tables": lambda n: plots.jpeg_tables(jpeg(n), NOTE),
    "learning_curves": lambda n: plots.learning_curves({f"run {i}": epochs() for i in range(min(n, 3))}, NOTE),
    "learning_curves beside the authors'": lambda n: plots.learning_curves({"ours": epochs(n)}, NOTE, LOG),
    "step_curves": lambda n: plots.step_curves(steps(n), NOTE),
    "confusion_matrix": lambda n: plots.confusion_matrix(counts(n), "CameraConvNet, scene+device, photos (%)", NOTE),
    "gallery": lambda n: plots.gallery([(f"caption {i}", pictures(6)) for i in range(min(n, 3))], "Confusions", NOTE),
    "bars_beside_paper": lambda n: plots.bars_beside_paper(bars(min(n, 8)), "Accuracy, test part", NOTE),
    "patch_positions": lambda n: plots.patch_positions(
        pictures(1)[0], {"random": np.array([[0, 0], [5, 9]]), "chosen": np.array([[3, 3]])}, 8, NOTE
    ),
    "split_map": lambda n: plots.split_map(catalogue(n), parts(n)),
}  # fmt: skip
MANY_AXES = ("picture_grid", "spectra", "jpeg_tables")  # slow to lay out: not at every size


def texts(fig) -> list[str]:
    found = [text.get_text() for text in fig.findobj(matplotlib.text.Text)]
    return [text for text in found if text]


def saved(fig, folder, name="figure") -> bytes:
    """The file's bytes; any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.save(fig, folder, name)
    return (folder / f"{name}.png").read_bytes()


@pytest.mark.parametrize(
    "name, classes",
    [(name, n) for name in FIGURES for n in (2, 8, 27, 40) if n in (2, 40) or name not in MANY_AXES],
)
def test_draws_without_a_warning_and_says_which_data(name, classes, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fig = FIGURES[name](classes)
    assert saved(fig, tmp_path).startswith(b"\x89PNG")
    assert any("simulated Dresden" in text for text in texts(fig))
    assert max(fig.get_size_inches()) < 25


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_data_give_the_same_bytes(name, tmp_path):
    first, second = (saved(FIGURES[name](3), tmp_path / folder) for folder in "ab")
    assert first == second


def test_a_figure_is_whole_or_not_there(tmp_path, monkeypatch):
    fig = plots.network_diagram(plots.CAMERACONVNET, "CameraConvNet")
    saved(fig, tmp_path / "new", "a")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    before = (tmp_path / "new" / "a.png").read_bytes()

    def cut_short(self, path, **options):
        path.write_bytes(b"\x89PNG half")
        raise OSError("disk full")

    monkeypatch.setattr(type(fig), "savefig", cut_short)
    with pytest.raises(OSError, match="disk full"):
        plots.save(fig, tmp_path / "new", "a")
    assert [path.read_bytes() for path in (tmp_path / "new").iterdir()] == [before]


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


def test_a_confusion_matrix_by_device_need_not_be_square(tmp_path):
    matrix = counts(3)
    tall = pd.concat([matrix.rename("{}_0".format), matrix.rename("{}_1".format)])
    fig = plots.confusion_matrix(tall, "By device", NOTE)
    saved(fig, tmp_path)
    assert len(fig.axes[0].get_yticks()) == 6 and len(fig.axes[0].get_xticks()) == 3


def test_bars_count_the_devices_and_published_marks_stand_in_their_row():
    table = published.read("floreview_models").set_index("camera_model").loc[names(3)]
    table.loc["Zenit_Gone"] = 7  # published, not there
    (ax,) = plots.class_counts(catalogue(3), table).axes
    assert [t.get_text() for t in ax.get_yticklabels()] == plots.readable([*names(3), "Zenit_Gone"])
    ends = [
        max(p.get_x() + p.get_width() for p in ax.patches if round(p.get_y() + p.get_height() / 2) == y)
        for y in range(4)
    ]
    assert ends == [5, 10, 5, 0]
    marks = np.asarray(ax.collections[0].get_offsets())
    assert [tuple(map(float, m)) for m in marks] == [(float(v), float(i)) for i, v in enumerate(table["photos"])]


def test_bars_show_value_and_paper():
    (ax,) = plots.bars_beside_paper(bars(4), "Accuracy", NOTE).axes
    labels = [t.get_text() for t in ax.texts if t.get_text().endswith(" %")]
    assert labels == ["0.0 %", "33.3 %", "66.7 %", "100.0 %"]
    offsets = [np.asarray(c.get_offsets()) for c in ax.collections if hasattr(c, "get_sizes")]
    marks = np.ma.filled(np.ma.masked_invalid(offsets[-1]), np.nan)
    assert [y for x, y in marks if not np.isnan(x)] == [0, 2]
    assert not any(
        "paper" in text for text in texts(plots.bars_beside_paper(bars(4).assign(published=np.nan), "A", NOTE))
    )


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


def test_split_map_colours_each_photo_by_its_part():
    table = catalogue(2)
    part = pd.Series(["train", "train", "val", "test", "unused"] * 3)
    ax = plots.split_map(table, {"photo": part}).axes[0]
    np.testing.assert_array_equal(ax.images[0].get_array(), [[1, 1, 2, 3, 0]] * 3)
    title = ax.get_title(loc="left")
    assert title.startswith("photo: ") and "train 6" in title and "test 3" in title


def test_photos_of_unknown_scenes_can_be_drawn(tmp_path):
    """Dresden photos without the public listing, and anyone's own."""
    table = catalogue(3).assign(scene=pd.array([pd.NA] * 20, dtype="string"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved(plots.coverage(table), tmp_path)
        saved(plots.class_counts(table.assign(device=table["scene"])), tmp_path)
        saved(plots.split_map(table, {"photo": pd.Series(["train", "val", "test", "train"] * 5)}), tmp_path)


def test_a_catalogue_that_no_protocol_serves_can_be_drawn(tmp_path):
    saved(plots.split_map(catalogue(2), {}), tmp_path)


def test_a_gallery_without_a_confusion_says_so(tmp_path):
    fig = plots.gallery([], "Biggest confusions", NOTE)
    saved(fig, tmp_path)
    assert any("Biggest confusions" in text for text in texts(fig))


def test_spectra_share_one_scale_and_pictures_are_not_resampled():
    limits = {image.get_clim() for ax in plots.spectra(spectra(5), NOTE).axes for image in ax.images}
    assert len(limits) == 1
    shown = pictures(3)
    fig = plots.picture_grid(shown, ["a", "b", "c"], 2, "Title", NOTE)
    drawn = [image for ax in fig.axes for image in ax.images]
    assert all(np.array_equal(image.get_array(), picture) for image, picture in zip(drawn, shown, strict=True))
    assert {image.get_interpolation() for image in drawn} == {"nearest"}
