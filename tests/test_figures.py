"""Every figure can be read, at 2 and at 40 classes, and shows what it is given in its place."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from camid_utils import catalogues, published, training
from camid_utils.figures import curves, photographs, results, scores, style

NOTE = "simulated Dresden, 96 photos"
PUBLISHED = published.read("floreview_models").set_index("camera_model")
PHONES = sorted(PUBLISHED.index)  # 40 real names, the longest there are
LOG = published.read("dresden_log")
NOISE = np.random.default_rng(0).normal(scale=0.01, size=(120, 160))
PHOTO = np.random.default_rng(1).integers(0, 255, (24, 32, 3), dtype=np.uint8)
TABLES = np.arange(1, 65).reshape(8, 8), None, "4:2:0"  # luma, chroma, subsampling
KNOWN = pd.DataFrame({"true": "A", "predicted": ["A", "A", "B"], "margin": [-0.1, 0.2, 0.5]})
ROC = pd.DataFrame({"false_positive_rate": np.linspace(0, 1, 9), "true_positive_rate": np.linspace(0, 1, 9) ** 0.5})


pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def study_look():
    style.use_style()
    yield
    plt.close("all")


def catalogue(n: int, devices=(1, 2)) -> pd.DataFrame:
    """`n` camera models with one or two devices in turn; every device photographed the same five scenes."""
    named = [(name, f"{name}_{d}") for i, name in enumerate(PHONES[:n]) for d in range(devices[i % 2])]
    rows = [(f"{d}_{s}.jpg", "simulated Dresden", "brand", m, d, f"{s}-1") for m, d in named for s in range(5)]
    table = pd.DataFrame(rows, columns=catalogues.COLUMNS[1:7]).assign(path=lambda table: "r/" + table["photo"])
    return table.assign(collection="simulated Dresden", width=64, height=48)[catalogues.COLUMNS]


def parts(n: int) -> dict[str, pd.Series]:
    cycle = pd.Series(np.resize(["train", "train", "val", "test", "unused"], len(catalogue(n))))
    return {"photo": cycle, "scene": cycle, "scene+device": cycle[:-2]}


def epochs(count: int = 6) -> pd.DataFrame:
    columns = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_precision")
    numbers = np.arange(1, count + 1)
    return pd.DataFrame({"epoch": numbers} | {name: 1 / (1 + numbers + i) for i, name in enumerate(columns)})


def steps(losses) -> pd.DataFrame:
    return pd.DataFrame({"step": range(len(losses)), "loss": losses, "gradient_norm": 3.0})


def history(count: int, plateau: bool) -> training.History:
    """Five steps an epoch."""
    log = steps(np.ones(5 * count)).assign(step=range(1, 5 * count + 1), epoch=np.repeat(range(1, count + 1), 5))
    return training.History(log, epochs(count), count, plateau)


def counts(n: int, correct: int = 30) -> pd.DataFrame:
    """A confusion matrix: a quarter is taken for the next class; the last class has no photo."""
    matrix = correct * np.eye(n, dtype=int) + correct // 3 * np.roll(np.eye(n, dtype=int), 1, axis=1)
    matrix[-1] = 0
    return pd.DataFrame(matrix, index=PHONES[:n], columns=PHONES[:n])


def experiments(n: int, groups: int = 1) -> pd.DataFrame:
    """`n` experiments in each of some groups, every second one published; columns for all figures with intervals."""
    table = pd.DataFrame([(f"group {g}", i) for g in range(groups) for i in range(n)], columns=["group", "setting"])
    value = np.linspace(0.1, 0.9, len(table))
    table = table.assign(value=value, low=value - 0.1, high=value + 0.05, confidence=value, photos=40, level="photo")
    table = table.assign(label="experiment " + table["setting"].astype(str), patches=2 ** (table["setting"] % 7))
    table["kind"] = np.where(table["setting"] > 0, "JPEG quality", "intact")
    table["published"] = np.where(table.index % 2, np.nan, 0.8189)
    return table.assign(model=table["group"], choice=table["group"], name=table["group"])


def shift(channels: int) -> pd.DataFrame:
    rows = [(f"conv{i}", c, 1.0, 1.0 + 2 * c, 4.0, 4.0) for i in (1, 2, 3) for c in range(channels)]
    names = "layer channel mean_source mean_target variance_source variance_target"
    return pd.DataFrame(rows, columns=names.split())


def pairs() -> pd.DataFrame:
    """Photos of two devices of each of two models against all four fingerprints; one energy is unknown."""
    found = [(d == p, d // 2 == p // 2, 100.0 if d == p else -1.0 - p) for d in range(4) for p in range(4)]
    table = pd.DataFrame(found, columns=["same", "same_model", "pce"])
    return table.assign(pce=table["pce"].where(table.index > 0))


def changes(panels=(0, 1, 2)) -> pd.DataFrame:
    """In each panel a gain, a loss, no clear change and a control."""
    kinds = [("gain", "change", 0.2, "higher"), ("loss", "change", -0.2, "lower"),
             ("unclear", "change", 0.01, "undecided"), ("random", "control", -0.3, "lower")]  # fmt: skip
    rows = [(*kind, panel, f"baseline {panel}") for panel in panels for kind in kinds]
    table = pd.DataFrame(rows, columns=["label", "role", "difference", "verdict", "panel", "baseline_label"])
    table = table.assign(low=table["difference"] - 0.1, high=table["difference"] + 0.1)
    return table.assign(photos=40, photos_b=80, dataset="simulated Dresden", baseline_accuracy=0.25)


def camera_map(n: int, leader: int = 0):
    """Three rows of four patches: the first row looks like the leader, the others like class 1."""
    corners = np.array([(y, x) for y in (0, 100, 200) for x in (0, 100, 200, 300)])
    probabilities = np.full((12, n), 0.2 / n)
    probabilities[:4, leader] = probabilities[4:, 1] = 0.8
    return photographs.camera_map(np.zeros((300, 400, 3), np.uint8), corners, np.log(probabilities), PHONES[:n], NOTE)


def areas(n: int) -> pd.DataFrame:
    """Areas under the ROC of n steps under four conditions."""
    table = pd.DataFrame([(step, f"JPEG quality {q}") for step in PHONES[:n] for q in (95, 90, 70, 50)])
    table = table.set_axis(["step", "condition"], axis=1)
    return table.assign(value=0.75, low=0.625, high=0.875, verdict="higher")


FIGURES = {
    "summary": lambda n: results.summary(changes()),
    "learning_curves": lambda n: curves.learning_curves({f"run {i}": epochs() for i in range(min(n, 5))}, NOTE),
    "learning_curves and the authors' log": lambda n: curves.learning_curves({"ours": epochs(n)}, NOTE, LOG),
    "step_curves": lambda n: curves.step_curves(steps(np.geomspace(2, 1 / n, 9 * n)), NOTE),
    "rate_curves": lambda n: curves.rate_curves(dict.fromkeys("abcd"[:n], (steps([2.0] * n), epochs(n))), NOTE),
    "accuracy_by_step": lambda n: curves.accuracy_by_step(dict.fromkeys(PHONES[: min(n, 15)], history(n, n > 2)), NOTE),
    "two_epochs": lambda n: curves.two_epochs(LOG, {"printed accuracy": 100, "printed loss": 71}, NOTE),
    "voting_curves": lambda n: curves.voting_curves(experiments(7, 3), "Votes", NOTE),
    "statistics_shift": lambda n: curves.statistics_shift({"released": shift(n), "matched": shift(2)}, NOTE),
    "confusion_matrix": lambda n: results.confusion_matrix(counts(n), "CameraConvNet, scene+device, test photos", NOTE),
    "intervals": lambda n: results.intervals(experiments(n).drop(columns="group"), "Test accuracy", NOTE),
    "intervals in groups": lambda n: results.intervals(
        experiments(n, 2).assign(plateau=lambda rows: rows.index % 3 > 0), "Test accuracy", NOTE, zero=1 / n
    ),
    "interval_matrix": lambda n: results.interval_matrix(areas(n), "step", "condition", "Traces", NOTE, "AUROC"),
    "robustness": lambda n: results.robustness(experiments(4, min(n, 4)), "Degradations", NOTE),
    "fingerprint_crops": lambda n: scores.fingerprint_crops(dict.fromkeys(PHONES[: min(n, 8)], NOISE), NOTE),
    "energies": lambda n: scores.energies(pairs(), NOTE, 60),
    "known_and_unknown": lambda n: scores.known_and_unknown(KNOWN, KNOWN[:1], NOTE),
    "reliability": lambda n: scores.reliability(experiments(min(n, 5), 2).assign(n=72), NOTE),
    "tippett": lambda n: scores.tippett({name: np.linspace(-9, 9, n) for name in PHONES[:2]}, NOTE),
    "roc_curves": lambda n: scores.roc_curves({f"curve {i}": ROC for i in range(min(n, 4))}, NOTE),
    "class_counts": lambda n: photographs.class_counts(catalogue(n)),
    "class_counts and published ones": lambda n: photographs.class_counts(catalogue(n).assign(dataset="FloreView")),
    "picture_grid": lambda n: photographs.picture_grid([PHOTO] * n, PHONES[:n], 4, "One scene", NOTE),
    "spectra": lambda n: photographs.spectra(dict.fromkeys(PHONES[:n], NOISE), NOTE),
    "jpeg_tables": lambda n: photographs.jpeg_tables(dict.fromkeys(PHONES[: min(n, 20)], TABLES), NOTE),
    "gallery": lambda n: photographs.gallery([("caption", [PHOTO] * 6)] * min(n, 3), "Confusions", NOTE),
    "patch_positions": lambda n: photographs.patch_positions(PHOTO, {"random": np.array([[0, 0], [5, 9]])}, 8, NOTE),
    "camera_map": lambda n: camera_map(n),
    "split_map": lambda n: photographs.split_map(catalogue(n), parts(n)),
    "split_map without scenes": lambda n: photographs.split_map(catalogue(n).assign(scene=None), parts(n)),
    "split_map without protocols": lambda n: photographs.split_map(catalogue(n), {}),
    "class_counts without devices": lambda n: photographs.class_counts(catalogue(n).assign(device=None)),
    "gallery without photos": lambda n: photographs.gallery([], "Confusions", NOTE),
}


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
    start, end = np.split(np.array([text.get_window_extent().extents for text in shown]), 2, axis=1)
    outside = (start < -2).any(axis=1) | (end > fig.bbox.size + 2).any(axis=1)
    common = np.minimum(end[:, None], end) - np.maximum(start[:, None], start)
    over = np.triu((common > 2).all(axis=2), 1).any(axis=1)
    return [shown[i].get_text() for i in np.flatnonzero(outside | over)]


@pytest.mark.parametrize("classes", [2, 40])
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_can_be_read_and_says_which_data_it_shows(name, classes):
    fig = FIGURES[name](classes)
    assert unreadable(fig) == []
    assert any("simulated Dresden" in text or "FloreView" in text for text in texts(fig))
    assert max(fig.get_size_inches()) < 25


def test_a_figure_is_saved_as_the_same_bytes_in_256_colours_or_on_request_all_and_closed(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("one", "two", "exact"):
        with plt.rc_context({"figure.dpi": 100, "savefig.dpi": 100, "savefig.bbox": None}):
            fig = plt.figure(figsize=(0.64, 0.64), layout="none")
            fig.figimage(noise, origin="upper")
            style.save(fig, tmp_path, name, exact=name == "exact")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes() and plt.get_fignums() == []
    few, exact = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("two", "exact"))
    np.testing.assert_array_equal(exact, noise)
    assert len(np.unique(few.reshape(-1, 3), axis=0)) <= 256


@pytest.mark.parametrize(
    "correct, cells, unit",
    [(30, ("75", "25"), "% of the true class"), (6, ("6", "2"), "counts, coloured by share of the true class")],
)
def test_a_confusion_matrix_gives_percentages_or_of_few_photos_counts(correct, cells, unit):
    table = pd.concat([counts(8, correct), counts(8, correct)])  # by device: it need not be square
    (ax,) = results.confusion_matrix(table, "Title", NOTE).axes
    written = {tuple(map(int, t.get_position())): t.get_text() for t in ax.texts}
    assert written == {(i % 7 + k, i): cells[k] for i in range(14) for k in (0, 1)}  # the last class has no photo
    assert ax.get_xlabel() == f"predicted; cells: {unit}; red frame: correct"
    assert [patch.get_xy() for patch in ax.patches] == [(i % 7 - 0.5, i - 0.5) for i in range(14)]
    numbers = [t.get_text().split()[-1] for t in ax.get_yticklabels()]
    assert numbers == [*[f"({correct + correct // 3})"] * 7] * 2


@pytest.mark.parametrize("losses", [[2.08], [2.08, 2.07, 2.09], [2.0, 1e6, np.nan], [2.0, 1.0, 0.1]])
def test_a_loss_axis_has_numbers_whatever_the_loss_does(losses):
    fig = curves.rate_curves({"a": (steps(losses), epochs(1))}, NOTE)
    assert unreadable(fig) == []
    low, high = fig.axes[0].get_ylim()
    assert sum(low <= tick <= high for tick in fig.axes[0].get_yticks()) >= 2


def test_accuracies_stand_at_their_steps_and_a_training_that_met_its_limit_ends_hollow():
    (ax,) = curves.accuracy_by_step({"a": history(3, True), "b": history(2, False)}, NOTE).axes
    lines, ends = ax.lines[::2], ax.lines[1::2]
    assert [line.get_xdata().tolist() for line in lines] == [[5, 10, 15], [5, 10]]
    assert [line.get_ydata()[-1] for line in lines] == [end.get_ydata()[0] for end in ends]
    assert [(end.get_xdata()[0], end.get_markerfacecolor() == "white") for end in ends] == [(15, False), (10, True)]


def test_class_counts_are_in_their_rows_and_equal_classes_share_one():
    (ax,) = photographs.class_counts(catalogue(3).assign(dataset="FloreView")).axes
    assert [bar.get_width() for bar in ax.patches] == [5, 10, 5] + [0] * (len(PHONES) - 3)  # published, not there
    assert ax.collections[0].get_offsets().tolist() == [[PUBLISHED["photos"][name], i] for i, name in enumerate(PHONES)]
    (ax,) = photographs.class_counts(catalogue(8, (2, 2))).axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["each of 8 camera models  (2)"]
    assert [bar.get_width() for bar in ax.patches] == [10]


def test_maps_colour_each_patch_by_its_camera_and_each_photo_by_its_part():
    cells = camera_map(5, leader=3).axes[1].collections[0].get_array().reshape(12, 4)[:, :3]
    most, fewer = (matplotlib.colors.to_rgb(colour) for colour in photographs.MAP_COLOURS[:2])
    assert [tuple(cell) for cell in cells] == [fewer] * 4 + [most] * 8
    ax = photographs.split_map(catalogue(2), parts(2)).axes[0]
    np.testing.assert_array_equal(ax.images[0].get_array(), [[1, 1, 2, 3, 0]] * 3)
    assert ax.get_title(loc="left") == "photo: train 6, val 3, test 3"


def test_every_interval_is_in_the_row_of_its_label():
    table = experiments(5, groups=3)
    (ax,) = results.intervals(table.sample(frac=1, random_state=0), "Title", NOTE, zero=0.125).axes
    labels = [t.get_text() for t in ax.get_yticklabels()]
    bars = [bar for c in ax.collections for bar in c.get_segments()]
    lines = [line for line in ax.lines if not line.get_label().startswith("_")][:3]  # one per group
    points = [point for line in lines for point in zip(*line.get_data(), strict=True)]
    found = {(labels[round(y)], x, low, high) for (x, y), ((low, _), (high, _)) in zip(points, bars, strict=True)}
    assert found == set(table[["label", "value", "low", "high"]].itertuples(index=False, name=None))
    assert len({y for _, y in points}) == 15  # no group lies on another


def test_accuracies_are_in_per_cent_and_differences_in_points():
    (ax,) = results.intervals(experiments(3), "Title", NOTE).axes
    assert [t.get_text() for t in ax.texts] == ["10.0", "50.0", "90.0"]
    assert "paper: validation accuracy per photo, real photographs" in texts(ax.figure)
    (ax,) = results.intervals(experiments(3), "Title", NOTE, "difference", zero=0).axes
    assert [t.get_text() for t in ax.texts] == ["+10.0", "+50.0", "+90.0"]
    assert ax.get_xlabel().startswith("difference, percentage points;")


def test_the_summary_fills_what_is_decided_and_names_controls_and_their_baselines():
    rows = changes()
    rows.loc[3, ["baseline_label", "verdict"]] = "own", "not trained to the plateau"
    fig = results.summary(rows)
    assert unreadable(fig) == [] and "control (simulated Dresden) with own, 25.0 %" in "\n".join(texts(fig))
    first = fig.axes[0]
    dots = [line for line in first.lines if line.get_marker() in "os"]
    assert [dot.get_xdata()[0] for dot in dots] == [20, -20, 1, -30]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, False, True, True]
    assert [dot.get_marker() for dot in dots] == list("ooos")
    assert first.get_yticklabels()[-1].get_text() == "control: random"
    assert first.texts[2].get_text() == "+20.0 (+10.0 to +30.0)"
    assert "compared with baseline 1, accuracy 25.0 %, 40 to 80 photos" in texts(fig)
    assert len({ax.get_xlim() for ax in fig.axes}) == 1 and fig.legends == []


@pytest.mark.parametrize("panels", [(0, 2), (0,), ()])
def test_the_summary_names_what_has_no_results_yet(panels):
    fig = results.summary(changes(panels))
    assert unreadable(fig) == []
    assert texts(fig).count("no results yet") == 3 - len(panels)
    assert texts(fig).count("change in test accuracy, percentage points") == 1
