"""Every figure can be read, at 2 and at 40 classes, and shows what it is given in its place."""

import warnings
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from camid_utils import catalogues, published
from camid_utils.figures import curves, photographs, results, scores, style, summary

NOTE = "simulated Dresden, 96 photos"
PUBLISHED = published.read("floreview_models").set_index("camera_model")
PHONES = sorted(PUBLISHED.index)  # 40 real names, the longest there are
LOG = published.read("dresden_log")
NOISE = np.random.default_rng(0).normal(scale=0.01, size=(120, 160))
PHOTO = np.random.default_rng(1).integers(0, 255, (24, 32, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def study_look():
    matplotlib.use("Agg")
    style.use_style()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(low=table["value"] - 0.1, high=table["value"] + 0.05)


def catalogue(n: int, devices=(1, 2)) -> pd.DataFrame:
    """`n` camera models with one or two devices in turn; every device photographed the same five scenes."""
    rows = [
        (f"{name}/{d}_{s}.jpg", "simulated Dresden", name.split("_")[0], name, f"{name}_{d}", f"{s}-1", 64, 48)
        for i, name in enumerate(PHONES[:n])
        for d in range(devices[i % 2])
        for s in range(5)
    ]
    return pd.DataFrame(rows, columns=catalogues.COLUMNS)


def epochs(count: int = 6) -> pd.DataFrame:
    columns = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_precision")
    numbers = np.arange(1, count + 1)
    return pd.DataFrame({"epoch": numbers} | {name: 1 / (1 + numbers + i) for i, name in enumerate(columns)})


def steps(losses) -> pd.DataFrame:
    norms = np.geomspace(0.01, 30, len(losses))
    return pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses, "gradient_norm": norms})


def counts(n: int, correct: int = 30) -> pd.DataFrame:
    """A confusion matrix: a quarter is taken for the next class; the last class has no photo."""
    matrix = correct * np.eye(n, dtype=int) + correct // 3 * np.roll(np.eye(n, dtype=int), 1, axis=1)
    matrix[-1] = 0
    return pd.DataFrame(matrix, index=PHONES[:n], columns=PHONES[:n])


def experiments(n: int, groups: int = 1) -> pd.DataFrame:
    """`n` experiments in each of some groups, every second one published."""
    value = np.linspace(0.1, 0.9, n * groups)
    table = pd.DataFrame({"label": [f"experiment {i}" for i in range(n)] * groups, "value": value, "n": 40})
    table["published"] = np.where(np.arange(n * groups) % 2, np.nan, 0.8189)
    return with_intervals(table.assign(group=np.repeat([f"group {g}" for g in range(groups)], n)))


def votes() -> pd.DataFrame:
    rows = [(f"choice {i}", 2**k, 0.3 + 0.1 * k - 0.02 * i, 48) for i in range(3) for k in range(7)]
    return with_intervals(pd.DataFrame(rows, columns=["choice", "patches", "value", "photos"]))


def shift(channels: int) -> pd.DataFrame:
    """Source: mean 1, deviation 2. Target: mean 1 + 2 x channel, deviation 2."""
    rows = [(f"conv{i}", c, 1.0, 1.0 + 2 * c, 4.0, 4.0) for i in (1, 2, 3) for c in range(channels)]
    columns = ["layer", "channel", "mean_source", "mean_target", "variance_source", "variance_target"]
    return pd.DataFrame(rows, columns=columns)


def robust(models: int) -> pd.DataFrame:
    settings = [("intact", "original", 0.9), *(("JPEG quality", q, q / 120) for q in "90 70 50".split())]
    settings = [
        ("intact", "original", 0.9),
        ("JPEG quality", "90", 0.7),
        ("JPEG quality", "70", 0.5),
        ("scale", "0.5", 0.4),
    ]
    rows = [
        (f"model {m}", kind, setting, value - 0.1 * m, 40) for kind, setting, value in settings for m in range(models)
    ]
    return with_intervals(pd.DataFrame(rows, columns=["model", "kind", "setting", "value", "n"]))


def pairs() -> pd.DataFrame:
    """Photos of two devices of each of two models against all four fingerprints; one energy is unknown."""
    found = [(d == p, d // 2 == p // 2, 100.0 if d == p else -1.0 - p) for d in range(4) for p in range(4)]
    table = pd.DataFrame(found, columns=["same", "same_model", "pce"])
    return table.assign(pce=table["pce"].where(table.index > 0))


def open_set(n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    known = pd.DataFrame({"true": "A", "predicted": ["A", "A", "B"] * n, "agreement": np.linspace(0.4, 1, 3 * n)})
    return known, pd.DataFrame({"agreement": np.linspace(0, 0.6, n)})


def roc(n: int) -> pd.DataFrame:
    rate = np.linspace(0, 1, n + 1)
    return pd.DataFrame({"false_positive_rate": rate, "true_positive_rate": rate**0.5})


def parts(n: int) -> dict[str, pd.Series]:
    cycle = pd.Series(np.resize(["train", "train", "val", "test", "unused"], len(catalogue(n))))
    return {"photo": cycle, "scene": cycle, "scene+device": cycle[:-2]}


def changes(panels=(0, 1, 2)) -> pd.DataFrame:
    """In each panel a gain, a loss, no clear change and a control."""
    kinds = {
        "gain": (0.2, "change"),
        "loss": (-0.2, "change"),
        "unclear": (0.01, "change"),
        "random filters": (-0.3, "control"),
    }
    rows = [
        (p, role, label, d, d - 0.1, d + 0.1, f"baseline {p}") for p in panels for label, (d, role) in kinds.items()
    ]
    table = pd.DataFrame(rows, columns=["panel", "role", "label", "difference", "low", "high", "baseline_label"])
    return table.assign(photos=40, photos_b=80, dataset="simulated Dresden", baseline_accuracy=0.25)


def camera_map(n: int, leader: int = 0):
    """A grid of three rows and four columns of patches: the first row looks like the leader, the others like class 1."""
    corners = np.array([(y, x) for y in (0, 100, 200) for x in (0, 100, 200, 300)])
    probabilities = np.full((12, n), 0.2 / n)
    probabilities[:4, leader] = probabilities[4:, 1] = 0.8
    return photographs.camera_map(np.zeros((300, 400, 3), np.uint8), corners, np.log(probabilities), PHONES[:n], NOTE)


def each(n: int, value) -> dict:
    return {name: value for name in PHONES[:n]}


FIGURES = {
    "summary": lambda n: summary.summary(changes()),
    "learning_curves": lambda n: curves.learning_curves({f"run {i}": epochs() for i in range(min(n, 5))}, NOTE),
    "learning_curves and the authors' log": lambda n: curves.learning_curves({"ours": epochs(n)}, NOTE, LOG),
    "step_curves": lambda n: curves.step_curves(steps(np.geomspace(2, 1 / n, 9 * n)), NOTE),
    "rate_curves": lambda n: curves.rate_curves(
        {f"{i}": (steps([2.0] * n), epochs(n)) for i in range(min(n, 4))}, NOTE
    ),
    "two_epochs": lambda n: curves.two_epochs(LOG, {"printed accuracy": 100, "printed loss": 71}, NOTE),
    "voting_curves": lambda n: curves.voting_curves(votes(), "Votes", NOTE),
    "statistics_shift": lambda n: curves.statistics_shift({"released": shift(n), "matched": shift(2)}, NOTE),
    "confusion_matrix": lambda n: results.confusion_matrix(counts(n), "CameraConvNet, scene+device, test photos", NOTE),
    "intervals": lambda n: results.intervals(experiments(n), "Test accuracy", NOTE),
    "intervals in groups": lambda n: results.intervals(experiments(n, 2), "Test accuracy", NOTE, zero=1 / n),
    "robustness": lambda n: results.robustness(robust(min(n, 4)), "Degradations", NOTE),
    "fingerprint_crops": lambda n: scores.fingerprint_crops(each(min(n, 8), NOISE), NOTE),
    "energies": lambda n: scores.energies(pairs(), NOTE),
    "known_and_unknown": lambda n: scores.known_and_unknown(*open_set(n), "agreement", 0.5, NOTE),
    "reliability": lambda n: scores.reliability(experiments(n, 2).eval("confidence = value").assign(name="ours"), NOTE),
    "roc_curves": lambda n: scores.roc_curves({f"curve {i}": roc(n) for i in range(min(n, 4))}, NOTE),
    "class_counts": lambda n: photographs.class_counts(catalogue(n)),
    "class_counts and published ones": lambda n: photographs.class_counts(catalogue(n), PUBLISHED),
    "picture_grid": lambda n: photographs.picture_grid([PHOTO] * n, PHONES[:n], 4, "One scene", NOTE),
    "spectra": lambda n: photographs.spectra(each(n, NOISE[:16, :16]), NOTE),
    "jpeg_tables": lambda n: photographs.jpeg_tables(each(n, (np.arange(1, 65).reshape(8, 8), None, "4:2:0")), NOTE),
    "gallery": lambda n: photographs.gallery([("caption", [PHOTO] * 6)] * min(n, 3), "Confusions", NOTE),
    "patch_positions": lambda n: photographs.patch_positions(PHOTO, {"random": np.array([[0, 0], [5, 9]])}, 8, NOTE),
    "camera_map": lambda n: camera_map(n),
    "split_map": lambda n: photographs.split_map(catalogue(n), parts(n)),
}
SLOW = ("picture_grid", "spectra", "jpeg_tables")  # 40 pairs of axes take long to lay out


def texts(fig) -> list[str]:
    return [text.get_text() for text in fig.findobj(matplotlib.text.Text) if text.get_text()]


def unreadable(fig) -> list[str]:
    """Texts that leave the figure, or lie over another one, by more than two pixels."""
    fig.draw_without_rendering()
    shown = [*fig.artists, *(text for legend in fig.legends for text in legend.get_texts())]
    for ax in fig.axes:
        shown += [*ax.texts, ax.title, ax._left_title]
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            low, high = sorted(axis.get_view_interval())
            shown += [axis.label, *(tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)]
    shown = [text for text in shown if text.get_text() and text.get_visible()]
    x0, y0, x1, y1 = np.array([text.get_window_extent().extents for text in shown]).T
    outside = (x0 < -2) | (y0 < -2) | (x1 > fig.bbox.x1 + 2) | (y1 > fig.bbox.y1 + 2)
    wide = np.minimum(x1[:, None], x1) - np.maximum(x0[:, None], x0)
    high = np.minimum(y1[:, None], y1) - np.maximum(y0[:, None], y0)
    over = np.triu((wide > 2) & (high > 2), 1)
    return [shown[i].get_text() for i in np.flatnonzero(outside | over.any(axis=1))]


@pytest.mark.parametrize(
    "name, classes",
    [pytest.param(f, n, marks=[pytest.mark.slow] * (n == 40 and f in SLOW)) for f in FIGURES for n in (2, 40)],
)
def test_a_figure_can_be_read_and_says_which_data_it_shows(name, classes):
    fig = FIGURES[name](classes)
    assert unreadable(fig) == []
    assert any("simulated Dresden" in text for text in texts(fig))
    assert max(fig.get_size_inches()) < 25


def test_saving_is_atomic_and_gives_the_same_bytes_again(tmp_path, monkeypatch):
    for name in ("one", "two"):
        style.save(FIGURES["statistics_shift"](2), tmp_path / name, "a")
    (before,) = {(tmp_path / name / "a.png").read_bytes() for name in ("one", "two")}

    def cut_short(self, target, *args, **options):
        Path(target).write_bytes(b"\x89PNG half")
        raise OSError("disk full")

    fig = FIGURES["energies"](2)
    fig.savefig = lambda drawn, **options: drawn.write((tmp_path / "one" / "a.png").read_bytes())
    monkeypatch.setattr(Image.Image, "save", cut_short)
    with pytest.raises(OSError, match="disk full"):
        style.save(fig, tmp_path / "one", "a")
    assert [path.read_bytes() for path in (tmp_path / "one").iterdir()] == [before]


def test_a_saved_figure_has_256_colours_or_on_request_all(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    drawn = {}
    for exact in (False, True):
        with plt.rc_context({"figure.dpi": 100, "savefig.dpi": 100, "savefig.bbox": None}):
            fig = plt.figure(figsize=(0.64, 0.64), layout="none")
            fig.figimage(noise, origin="upper")
            style.save(fig, tmp_path, "noise", exact=exact)
        drawn[exact] = np.asarray(Image.open(tmp_path / "noise.png").convert("RGB"))
    np.testing.assert_array_equal(drawn[True], noise)
    assert len(np.unique(drawn[False].reshape(-1, 3), axis=0)) <= 256
    assert np.abs(drawn[False].astype(int) - noise).mean() < 16


@pytest.mark.parametrize("correct, cells, unit", [(30, ("75", "25"), "% of the true class"), (6, ("6", "2"), "counts")])
def test_a_confusion_matrix_gives_percentages_or_of_few_photos_counts(correct, cells, unit):
    table = pd.concat([counts(8, correct), counts(8, correct).add_suffix(" 2nd", axis=0)])  # need not be square
    (ax,) = results.confusion_matrix(table, "Title", NOTE).axes
    written = {tuple(map(int, t.get_position())): t.get_text() for t in ax.texts}
    assert written == {(i % 8 + k, i): cells[k] for i in range(16) for k in (0, 1) if i % 8 < 7}
    assert ax.get_xlabel() == f"predicted; cells: {unit}"
    assert [t.get_text() for t in ax.get_xticklabels()] == style.readable(PHONES[:8])
    assert [f"({correct + correct // 3})" in t.get_text() for t in ax.get_yticklabels()] == [True] * 7 + [False] + [
        True
    ] * 7 + [False]


def test_the_authors_log_is_drawn_as_published():
    fig = curves.learning_curves({"ours": epochs()}, NOTE, LOG)
    theirs = [list(line.get_ydata()) for line in fig.axes[1].lines if len(line.get_xdata()) == len(LOG)]
    assert theirs == [list(LOG["train_accuracy"]), list(LOG["val_accuracy"])]
    assert any("real Dresden" in text for text in texts(fig))


@pytest.mark.parametrize("losses", [[2.08], [2.08, 2.07, 2.09], [2.0, 1e6, np.nan], [2.0, 1.0, 0.1]])
def test_a_loss_axis_has_numbers_whatever_the_loss_does(losses):
    for fig in (curves.step_curves(steps(losses), NOTE), curves.rate_curves({"a": (steps(losses), epochs(1))}, NOTE)):
        assert unreadable(fig) == []
        low, high = fig.axes[0].get_ylim()
        assert sum(low <= tick <= high for tick in fig.axes[0].get_yticks()) >= 2


def test_class_counts_are_in_their_rows_and_equal_classes_share_one():
    table = PUBLISHED.loc[PHONES[:3]]
    table.loc["Zenit_Gone"] = 7  # published, not there
    (ax,) = photographs.class_counts(catalogue(3), table).axes
    assert [bar.get_width() for bar in ax.patches] == [5, 10, 5, 0]
    assert ax.collections[0].get_offsets().tolist() == [[n, i] for i, n in enumerate(table["photos"])]
    assert [t.get_text()[-3:] for t in ax.get_yticklabels()] == ["(1)", "(2)", "(1)", "(0)"]
    (ax,) = photographs.class_counts(catalogue(8, (2, 2))).axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["each of 8 camera models  (2)"]
    assert [bar.get_width() for bar in ax.patches] == [10]


def test_a_map_colours_each_patch_by_its_camera():
    mesh = camera_map(5, leader=3).axes[1].collections[0]
    colours = [tuple(cell[:3]) for row in mesh.get_array() for cell in row]
    first, second = (matplotlib.colors.to_rgb(colour) for colour in photographs.MAP_COLOURS[:2])
    assert colours == [second] * 4 + [first] * 8


def test_split_map_colours_each_photo_by_its_part():
    ax = photographs.split_map(catalogue(2), parts(2)).axes[0]
    np.testing.assert_array_equal(ax.images[0].get_array(), [[1, 1, 2, 3, 0]] * 3)
    assert ax.get_title(loc="left") == "photo: train 6, val 3, test 3"


def test_photos_without_scenes_protocols_or_confusions_can_be_drawn():
    table = catalogue(2).assign(scene=pd.array([pd.NA] * 15, dtype="string"))
    for fig in (
        photographs.split_map(table, {"photo": parts(2)["photo"]}),
        photographs.class_counts(table.assign(device=table["scene"])),
        photographs.split_map(table, {}),
        photographs.gallery([], "Confusions", NOTE),
    ):
        assert unreadable(fig) == []


def test_pictures_are_not_resampled_and_spectra_share_one_scale():
    fig = photographs.picture_grid([PHOTO, PHOTO[:9]], ["a", "b"], 2, "Title", NOTE)
    images = [image for ax in fig.axes for image in ax.images]
    assert [image.get_array().shape for image in images] == [PHOTO.shape, PHOTO[:9].shape]
    assert {image.get_interpolation() for image in images} == {"nearest"}
    fig = photographs.spectra({"a": NOISE, "b": 3 * NOISE}, NOTE)
    assert len({image.get_clim() for ax in fig.axes[:2] for image in ax.images}) == 1


@pytest.mark.parametrize("groups", [1, 3])
def test_every_interval_is_in_the_row_of_its_label(groups):
    table = experiments(5, groups)
    (ax,) = results.intervals(table.sample(frac=1, random_state=0), "Title", NOTE, zero=0.125).axes
    labels = [t.get_text() for t in ax.get_yticklabels()]
    bars = [bar for c in ax.collections for bar in c.get_segments()]
    points = [point for line in ax.lines[:groups] for point in zip(*line.get_data(), strict=True)]
    found = {(labels[round(y)], x, low, high) for (x, y), ((low, _), (high, _)) in zip(points, bars, strict=True)}
    assert found == set(table[["label", "value", "low", "high"]].itertuples(index=False, name=None))
    assert len({y for _, y in points}) == 5 * groups  # no group lies on another
    assert any(list(line.get_xdata()) == [0.125, 0.125] for line in ax.lines)


def test_differences_are_in_points_and_the_papers_values_are_marked():
    def shown(**options):
        fig = results.intervals(experiments(3), "Title", NOTE, **options)
        return [t.get_text() for t in fig.axes[0].texts], fig.axes[0].get_xlabel(), texts(fig)

    values, label, found = shown()
    assert values == ["10.0", "50.0", "90.0"] and label == "accuracy; bars: 95 % intervals, 40 photos"
    assert "paper: validation accuracy, real photographs" in found
    values, label, _ = shown(xlabel="difference", zero=0)
    assert values == ["+10.0", "+50.0", "+90.0"] and label.startswith("difference, percentage points;")


def test_each_kind_of_degradation_has_its_panel():
    fig = results.robustness(robust(3), "Degradations", NOTE)
    for ax in fig.axes:
        own = robust(3)[robust(3)["kind"] == ax.get_xlabel()]
        assert [t.get_text() for t in ax.get_xticklabels()] == list(own["setting"].unique())
        assert [list(line.get_ydata()) for line in ax.lines] == [list(t["value"]) for _, t in own.groupby("model")]


def test_scores_are_in_the_row_of_their_kind():
    for fig, expected in (
        (scores.energies(pairs(), NOTE), [[100.0] * 3, [-4, -3, -2, -1], [-4, -4, -3, -3, -2, -2, -1, -1]]),
        (scores.known_and_unknown(*open_set(1), "agreement", 0.5, NOTE), [[0.4, 0.7], [1.0], [0.0]]),
    ):
        rows = [np.asarray(c.get_offsets()) for c in fig.axes[0].collections]
        assert [row[:, 0].round(6).tolist() for row in rows] == expected
        assert all((np.abs(row[:, 1] - y) <= 0.25).all() for y, row in enumerate(rows))
        names = [t.get_text() for t in fig.axes[0].get_yticklabels()]
        assert [f"n = {len(row)}" in name for row, name in zip(rows, names, strict=True)] == [True] * 3


def test_the_summary_fills_what_excludes_zero_and_names_controls():
    fig = summary.summary(changes())
    first = fig.axes[0]
    dots = [line for line in first.lines if line.get_marker() in "os"]
    assert [dot.get_xdata()[0] for dot in dots] == [20, -20, 1, -30]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, False, True, False]
    assert [dot.get_marker() for dot in dots] == list("ooos")
    assert [t.get_text() for t in first.get_yticklabels()][-1] == "control: random filters"
    assert first.texts[2].get_text() == "+20.0 (+10.0 to +30.0)"
    assert "baseline: baseline 0, accuracy 25.0 %, 40 to 80 photos" in texts(fig)
    assert len({ax.get_xlim() for ax in fig.axes}) == 1 and fig.legends == []


@pytest.mark.parametrize("panels", [(0, 2), (0,), ()])
def test_the_summary_names_what_has_no_results_yet(panels):
    rows = changes(panels)
    rows.loc[rows["label"] == "loss", ["difference", "low", "high"]] = np.nan
    fig = summary.summary(rows)
    assert unreadable(fig) == []
    assert texts(fig).count("no results yet") == 3 - len(panels)
    assert texts(fig).count("not available") == len(panels)
    assert texts(fig).count("change in test accuracy, percentage points") == 1
