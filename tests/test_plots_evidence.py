"""Figures of experiments set against each other: each value with its interval in its own place, and the data named."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from test_plots import LOG, NOTE, bytes_of, checked, epochs, overlapping, steps, style, texts

from camid_utils import plots_evidence

__all__ = ["style"]  # the fixture that sets the study's look


def rows(n: int, groups: int = 1) -> pd.DataFrame:
    """`n` experiments in each of some groups: values from 0 to 1, unequal intervals, every second one published."""
    value = np.linspace(0, 1, n * groups)
    return pd.DataFrame(
        {
            "label": [f"experiment {i}" for i in range(n)] * groups,
            "group": np.repeat([f"group {g}" for g in range(groups)], n),
            "value": value,
            "low": np.clip(value - 0.1, 0, 1),
            "high": np.clip(value + 0.05, 0, 1),
            "published": np.where(np.arange(n * groups) % 2, np.nan, 0.8189),
        }
    )


def votes(choices: int = 3) -> pd.DataFrame:
    table = pd.DataFrame({"patches": [1, 2, 4, 8, 16, 32, 64], "value": np.linspace(0.3, 0.9, 7), "photos": 48})
    table = table.assign(low=table["value"] - 0.1, high=table["value"] + 0.05)
    return pd.concat([table.assign(choice=f"choice {i}", value=table["value"] - 0.02 * i) for i in range(choices)])


def shift(channels: int, layers: int = 3) -> pd.DataFrame:
    """Source: mean 1, deviation 2. Target: mean 1 + 2 x channel, deviation 0.02."""
    table = pd.DataFrame({"channel": range(channels), "mean_source": 1.0, "variance_source": 4.0})
    table = table.assign(mean_target=1.0 + 2 * table["channel"], variance_target=0.0004)
    return pd.concat([table.assign(layer=f"conv{i + 1}") for i in range(layers)], ignore_index=True)


def robust(models: int) -> pd.DataFrame:
    kinds = {"intact": ["as it is"], "JPEG quality": [90, 70, 50], "scale": [0.8, 0.6, 0.4]}
    found = [
        (f"model {m}", kind, str(setting), 0.9 - 0.1 * m - 0.2 * i)
        for kind, settings in kinds.items()
        for i, setting in enumerate(settings)
        for m in range(models)
    ]
    table = pd.DataFrame(found, columns=["model", "kind", "setting", "value"])
    return table.assign(low=table["value"] - 0.1, high=table["value"] + 0.05, n=40)


def runs(n: int) -> dict:
    return {f"run {i}": (steps(i + 2), epochs(3 + i)) for i in range(n)}


def patterns(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"Acme_{i}_0": rng.normal(scale=0.01, size=(120, 160)) for i in range(n)}


def pairs() -> pd.DataFrame:
    """Photos of two devices of each of two models against all four fingerprints; one energy is unknown."""
    found = [(d == p, d // 2 == p // 2, 100.0 if d == p else -1.0 - p) for d in range(4) for p in range(4)]
    table = pd.DataFrame(found, columns=["same", "same_model", "pce"])
    table.loc[0, "pce"] = np.nan
    return table


def roc(n: int) -> pd.DataFrame:
    rate = np.linspace(0, 1, n + 1)
    return pd.DataFrame({"false_positive_rate": rate, "true_positive_rate": rate**0.5})


FIGURES = {
    "intervals": lambda n: plots_evidence.intervals(rows(n), "Accuracy, test part", NOTE),
    "intervals in groups": lambda n: plots_evidence.intervals(rows(n, 2), "Accuracy, test part", NOTE, zero=1 / n),
    "voting_curves": lambda n: plots_evidence.voting_curves(votes(min(n, 3)), "Votes", NOTE),
    "rate_curves": lambda n: plots_evidence.rate_curves(runs(min(n, 4)), NOTE),
    "two_epochs": lambda n: plots_evidence.two_epochs(LOG, {"the accuracy": 100, "the loss": 71}, NOTE),
    "statistics_shift": lambda n: plots_evidence.statistics_shift({"released": shift(n), "matched": shift(2)}, NOTE),
    "robustness": lambda n: plots_evidence.robustness(robust(min(n, 4)), "Degradations", NOTE),
    "fingerprint_crops": lambda n: plots_evidence.fingerprint_crops(patterns(min(n, 8)), NOTE),
    "energies": lambda n: plots_evidence.energies(pairs(), NOTE),
    "roc_curves": lambda n: plots_evidence.roc_curves({f"curve {i}": roc(n) for i in range(min(n, 4))}, NOTE),
}


@pytest.mark.parametrize("classes", [2, 9, 18])
@pytest.mark.parametrize("name", FIGURES)
def test_draws_without_a_warning_and_says_which_data(name, classes, tmp_path):
    checked(FIGURES[name], classes, tmp_path)


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_data_give_the_same_bytes(name, tmp_path):
    assert bytes_of(FIGURES[name], tmp_path / "a") == bytes_of(FIGURES[name], tmp_path / "b")


# intervals


def bars_of(container) -> list[tuple[float, float, float]]:
    """(value, low, high) of an errorbar's points."""
    points, _, (lines,) = container.lines
    ends = [tuple(segment[:, 0]) for segment in lines.get_segments()]
    return [(x, *end) for x, end in zip(points.get_xdata(), ends, strict=True)]


@pytest.mark.parametrize("groups", [1, 3])
def test_every_interval_stands_in_the_row_of_its_label(groups):
    table = rows(5, groups)
    (ax,) = plots_evidence.intervals(table.sample(frac=1, random_state=0), "Title", NOTE).axes
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert sorted(labels) == [f"experiment {i}" for i in range(5)] and len(ax.containers) == groups
    places = []
    for container in ax.containers:
        own = table[table["group"] == container.get_label()].set_index("label")
        heights = container.lines[0].get_ydata()
        for (value, low, high), y in zip(bars_of(container), heights, strict=True):
            row = own.loc[labels[round(y)]]
            assert (value, low, high) == pytest.approx((row["value"], row["low"], row["high"]))
        places += heights.tolist()
    assert len(set(places)) == 5 * groups  # no group lies on another
    bottom, top = ax.get_ylim()
    assert top < min(places) and bottom > max(places)  # the first row is the highest


def test_values_are_written_as_per_cent_or_as_points():
    def written(zero):
        (ax,) = plots_evidence.intervals(rows(3), "Title", NOTE, zero=zero).axes
        ax.figure.draw_without_rendering()
        return [t.get_text() for t in ax.texts if t.get_text() != NOTE], ax.get_xticklabels()[-1].get_text()

    assert written(None)[0] == written(0.125)[0] == ["0.0", "50.0", "100.0"]
    assert written(0)[0] == ["+0.0", "+50.0", "+100.0"]
    assert written(0.125)[1].endswith(" %") and written(0)[1][-1].isdigit()


def test_the_papers_values_are_marked_in_their_rows_and_chance_by_a_line():
    (ax,) = plots_evidence.intervals(rows(4), "Title", NOTE, zero=0.125).axes
    (marks,) = [c for c in ax.collections if isinstance(c, matplotlib.collections.PathCollection)]
    offsets = np.ma.filled(np.ma.masked_invalid(marks.get_offsets()), np.nan)
    assert [(round(y + 0.32), x) for x, y in offsets.tolist() if not np.isnan(x)] == [(0, 0.8189), (2, 0.8189)]
    assert any(list(line.get_xdata()) == [0.125, 0.125] for line in ax.lines)
    for table in (rows(4), rows(4, 2), rows(4).drop(columns="group")):
        assert any(text.startswith("paper") for text in texts(plots_evidence.intervals(table, "Title", NOTE)))
    for table in (rows(4).drop(columns="published"), rows(4).assign(published=np.nan)):
        assert not any("paper" in text for text in texts(plots_evidence.intervals(table, "Title", NOTE)))


@pytest.mark.parametrize("n, groups", [(2, 1), (9, 2), (18, 2), (6, 3)])
def test_labels_values_and_note_do_not_run_into_each_other(n, groups):
    fig = plots_evidence.intervals(rows(n, groups), "Accuracy, test part", NOTE)
    (ax,) = fig.axes
    assert overlapping(fig, ax.get_yticklabels()) == []
    assert overlapping(fig, [t for t in ax.texts if t.get_text() != NOTE]) == []
    assert overlapping(fig, [ax._left_title, *(t for t in ax.texts if t.get_text() == NOTE)]) == []
    legend = {t.get_text() for one in fig.legends for t in one.get_texts()}
    assert {f"group {i}" for i in range(groups)} <= legend
    colours = {tuple(container.lines[0].get_color()) for container in ax.containers}
    assert len(colours) == len({container.lines[0].get_marker() for container in ax.containers}) == groups


def test_values_stay_inside_the_frame():
    fig = plots_evidence.intervals(rows(5), "Title", NOTE)
    (ax,) = fig.axes
    fig.draw_without_rendering()
    page = fig.bbox
    for text in ax.texts:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 and box.x1 <= page.x1


def test_one_row_and_an_interval_that_does_not_hold_its_value_can_be_drawn(tmp_path):
    one = pd.DataFrame({"label": ["a"], "value": [0.5], "low": [0.51], "high": [0.6]})
    checked(lambda n: plots_evidence.intervals(one, "Title", NOTE), 1, tmp_path)


# curves


def test_votes_are_drawn_as_given_each_choice_in_its_own_style():
    (ax,) = plots_evidence.voting_curves(votes(), "Votes", NOTE).axes
    for i, line in enumerate(ax.lines):
        own = votes()[votes()["choice"] == f"choice {i}"]
        assert line.get_label() == f"choice {i}"
        assert list(line.get_xdata()) == list(own["patches"]) and list(line.get_ydata()) == list(own["value"])
        band = ax.collections[i].get_paths()[0].vertices
        assert band[:, 1].min() == pytest.approx(own["low"].min())
        assert band[:, 1].max() == pytest.approx(own["high"].max())
    styles = [{f(line) for line in ax.lines} for f in (lambda x: x.get_marker(), lambda x: x.get_linestyle())]
    assert [len(found) for found in styles] == [3, 3]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "4", "8", "16", "32", "64"]
    assert any("over 48 photos" in text for text in texts(ax.figure))


def test_rates_show_the_validation_accuracy_of_every_run():
    fig = plots_evidence.rate_curves(runs(4), NOTE)
    losses, accuracies = fig.axes
    for line, (_, table) in zip(accuracies.lines, runs(4).values(), strict=True):
        assert list(line.get_ydata()) == list(table["val_accuracy"])
    for line, (table, _) in zip(losses.lines, runs(4).values(), strict=True):
        assert list(line.get_xdata()) == list(table["step"]) and set(line.get_ydata()) == {table["loss"][0]}
    (legend,) = fig.legends
    assert [t.get_text() for t in legend.get_texts()] == [f"run {i}" for i in range(4)]


def test_two_epochs_are_marked_on_both_curves_with_what_they_report():
    fig = plots_evidence.two_epochs(LOG, {"printed accuracy": 100, "printed loss": 71}, NOTE)
    log = LOG.set_index("epoch")
    for ax, column in zip(fig.axes, ("val_accuracy", "val_loss"), strict=True):
        curve, *marks = ax.lines
        assert list(curve.get_ydata()) == list(LOG[column])
        expected = [(epoch, log.loc[epoch, column]) for epoch in (100, 71)]
        assert [(mark.get_xdata()[0], mark.get_ydata()[0]) for mark in marks] == expected
        assert [t.get_text() for t in ax.texts] == [f"{value:.4f}" for _, value in expected]
    assert {"printed accuracy: epoch 100", "printed loss: epoch 71"} <= set(texts(fig))


def test_shifts_stand_over_their_layers_in_source_deviations():
    """Means 0, 1, 2, ... source deviations apart, deviations a hundredth, whatever the layer."""
    fig = plots_evidence.statistics_shift({"released": shift(4), "matched": shift(1)}, NOTE)
    grid = np.array(fig.axes).reshape(2, 2)
    above, below = (
        np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections if len(c.get_offsets())])
        for ax in grid[:, 0]
    )
    assert sorted(above[:, 1].tolist()) == pytest.approx(sorted([0, 1, 2, 3] * 3))
    assert below[:, 1].tolist() == pytest.approx([0.01] * 12)
    assert sorted(np.rint(above[:, 0]).tolist()) == sorted([0, 1, 2] * 4)
    assert [ax.get_title(loc="left") for ax in grid[0]] == ["released", "matched"]


# robustness


def test_each_kind_of_degradation_has_its_panel_and_each_model_its_mark():
    table = robust(3)
    fig = plots_evidence.robustness(table, "Degradations", NOTE)
    assert [ax.get_xlabel() for ax in fig.axes] == ["intact", "JPEG quality", "scale"]
    for ax in fig.axes:
        settings = [t.get_text() for t in ax.get_xticklabels()]
        for i, container in enumerate(ax.containers):
            own = table[(table["kind"] == ax.get_xlabel()) & (table["model"] == f"model {i}")].set_index("setting")
            points, _, (bars,) = container.lines
            for x, y, segment in zip(points.get_xdata(), points.get_ydata(), bars.get_segments(), strict=True):
                row = own.loc[settings[round(x)]]
                assert (y, *segment[:, 1]) == pytest.approx((row["value"], row["low"], row["high"]))
        places = np.concatenate([container.lines[0].get_xdata() for container in ax.containers])
        assert len(set(places.round(6))) == 3 * len(settings)
        assert overlapping(fig, ax.get_xticklabels()) == []
    (legend,) = fig.legends
    assert [t.get_text() for t in legend.get_texts()] == ["model 0", "model 1", "model 2"]


# fingerprints


def test_crops_are_the_middle_of_each_fingerprint_on_one_scale():
    fig = plots_evidence.fingerprint_crops(patterns(3), NOTE, size=96)
    images = [image for ax in fig.axes[:3] for image in ax.images]
    for image, pattern in zip(images, patterns(3).values(), strict=True):
        np.testing.assert_allclose(image.get_array(), 100 * pattern[12:108, 32:128])
    ((low, high),) = {image.get_clim() for image in images}
    assert low == -high and {image.get_interpolation() for image in images} == {"nearest"}


def test_energies_stand_in_the_row_of_their_kind():
    (ax,) = plots_evidence.energies(pairs(), NOTE).axes
    rows = [np.asarray(c.get_offsets()) for c in ax.collections if len(c.get_offsets())]
    assert [sorted(row[:, 0].tolist()) for row in rows] == [
        [100.0] * 3,  # the unknown one is not drawn
        [-4.0, -3.0, -2.0, -1.0],
        sorted([-3.0, -4.0] * 2 + [-1.0, -2.0] * 2),
    ]
    assert all((np.abs(row[:, 1] - y) <= 0.25).all() for y, row in enumerate(rows))
    assert [t.get_text() for t in ax.texts if t.get_text().startswith("n = ")] == ["n = 3", "n = 4", "n = 8"]


def test_roc_curves_are_drawn_as_given_on_both_axes():
    names = ["fingerprints", "network", "third", "fourth"]
    fig = plots_evidence.roc_curves(dict(zip(names, map(roc, (4, 2, 3, 5)), strict=True)), NOTE)
    for ax in fig.axes:
        drawn = {line.get_label(): line for line in ax.lines if line.get_label() in names}
        assert list(drawn) == names and len({line.get_color() for line in drawn.values()}) == 4
        assert list(drawn["fingerprints"].get_ydata()) == list(roc(4)["true_positive_rate"])
        assert list(drawn["network"].get_xdata()) == list(roc(2)["false_positive_rate"])
    assert [ax.get_xscale() for ax in fig.axes] == ["linear", "log"]
