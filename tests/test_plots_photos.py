"""Figures of photographs: each photo, count and part in its own place, no pixel resampled."""

import warnings

import numpy as np
import pandas as pd
import pytest
from test_plots import NOTE, bytes_of, catalogue, checked, names, overlapping, pictures, saved, style, texts

from camid_utils import plots_photos, published
from camid_utils.plots import readable

__all__ = ["style"]  # the fixture that sets the study's look


def parts(n: int) -> dict[str, pd.Series]:
    photos = len(catalogue(n))
    cycle = pd.Series(np.resize(["train", "train", "val", "test", "unused"], photos))
    return {"photo": cycle, "scene": cycle, "scene+device": cycle[: photos - 2]}


def jpeg(n: int) -> dict:
    return {name: (np.arange(1, 65).reshape(8, 8) + i, None, "4:2:0") for i, name in enumerate(names(n))}


def spectra(n: int) -> dict:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(16, 16)) for name in names(n)}


FIGURES = {
    "class_counts": lambda n: plots_photos.class_counts(catalogue(n)),
    "class_counts beside published": lambda n: plots_photos.class_counts(
        catalogue(n), published.read("floreview_models").set_index("camera_model")
    ),
    "coverage": lambda n: plots_photos.coverage(catalogue(n)),
    "picture_grid": lambda n: plots_photos.picture_grid(pictures(n), readable(names(n)), 4, "One scene", NOTE),
    "spectra": lambda n: plots_photos.spectra(spectra(n), NOTE),
    "jpeg_tables": lambda n: plots_photos.jpeg_tables(jpeg(n), NOTE),
    "gallery": lambda n: plots_photos.gallery(
        [(f"caption {i}", pictures(6)) for i in range(min(n, 3))], "Confusions", NOTE
    ),
    "patch_positions": lambda n: plots_photos.patch_positions(
        pictures(1)[0], {"random": np.array([[0, 0], [5, 9]]), "chosen": np.array([[3, 3]])}, 8, NOTE
    ),
    "split_map": lambda n: plots_photos.split_map(catalogue(n), parts(n)),
}
MANY_AXES = ("picture_grid", "spectra", "jpeg_tables")  # slow to lay out: not at every size


@pytest.mark.parametrize(
    "name, classes",
    [(name, n) for name in FIGURES for n in (2, 8, 27, 40) if n in (2, 40) or name not in MANY_AXES],
)
def test_draws_without_a_warning_and_says_which_data(name, classes, tmp_path):
    checked(FIGURES[name], classes, tmp_path)


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_data_give_the_same_bytes(name, tmp_path):
    assert bytes_of(FIGURES[name], tmp_path / "a") == bytes_of(FIGURES[name], tmp_path / "b")


def test_bars_count_the_devices_and_published_marks_stand_in_their_row():
    table = published.read("floreview_models").set_index("camera_model").loc[names(3)]
    table.loc["Zenit_Gone"] = 7  # published, not there
    (ax,) = plots_photos.class_counts(catalogue(3), table).axes
    assert [t.get_text() for t in ax.get_yticklabels()] == readable([*names(3), "Zenit_Gone"])
    ends = [
        max(p.get_x() + p.get_width() for p in ax.patches if round(p.get_y() + p.get_height() / 2) == y)
        for y in range(4)
    ]
    assert ends == [5, 10, 5, 0]
    marks = np.asarray(ax.collections[0].get_offsets())
    assert [tuple(map(float, m)) for m in marks] == [(float(v), float(i)) for i, v in enumerate(table["photos"])]


@pytest.mark.parametrize("classes", [8, 40])
def test_class_names_do_not_run_into_each_other(classes):
    fig = plots_photos.class_counts(catalogue(classes))
    (ax,) = fig.axes
    assert overlapping(fig, ax.get_yticklabels()) == []
    note = next(t for t in ax.texts if "simulated Dresden" in t.get_text())
    assert overlapping(fig, [note, ax.title, ax._left_title]) == []


def test_coverage_counts_the_photos_of_each_device_and_scene():
    (ax, _) = plots_photos.coverage(catalogue(3)[1:]).axes  # without the first photo of the first device
    expected = np.ones((4, 5))
    expected[0, 0] = 0
    np.testing.assert_array_equal(ax.images[0].get_array(), expected)
    assert [t.get_text() for t in ax.get_xticklabels()] == [f"{s}-1" for s in range(5)]


def test_patches_are_outlined_where_they_lie():
    corners = {"random": np.array([[0, 0], [5, 9]]), "chosen": np.array([[3, 4]])}
    fig = plots_photos.patch_positions(pictures(1)[0], corners, 8, NOTE)
    for ax, places in zip(fig.axes, corners.values(), strict=True):
        drawn = {(p.get_y(), p.get_x(), p.get_width(), p.get_height()) for p in ax.patches}
        assert drawn == {(y, x, 8, 8) for y, x in places.tolist()}
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["2 patches, random", "1 patches, chosen"]


def test_jpeg_tables_are_written_cell_by_cell():
    ax = plots_photos.jpeg_tables(jpeg(2), NOTE).axes[1]
    written = {(int(y), int(x)): int(t.get_text()) for t in ax.texts for x, y in [t.get_position()]}
    assert written == {(y, x): 8 * y + x + 2 for y in range(8) for x in range(8)}
    assert ax.get_title().endswith(", 4:2:0") and ax.get_title().startswith(readable(names(2))[1])


def test_split_map_colours_each_photo_by_its_part():
    table = catalogue(2)
    part = pd.Series(["train", "train", "val", "test", "unused"] * 3)
    ax = plots_photos.split_map(table, {"photo": part}).axes[0]
    np.testing.assert_array_equal(ax.images[0].get_array(), [[1, 1, 2, 3, 0]] * 3)
    title = ax.get_title(loc="left")
    assert title.startswith("photo: ") and "train 6" in title and "test 3" in title


def test_photos_of_unknown_scenes_can_be_drawn(tmp_path):
    """Dresden photos without the public listing, and anyone's own."""
    table = catalogue(3).assign(scene=pd.array([pd.NA] * 20, dtype="string"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved(plots_photos.coverage(table), tmp_path)
        saved(plots_photos.class_counts(table.assign(device=table["scene"])), tmp_path)
        saved(plots_photos.split_map(table, {"photo": pd.Series(["train", "val", "test", "train"] * 5)}), tmp_path)


def test_a_catalogue_that_no_protocol_serves_can_be_drawn(tmp_path):
    saved(plots_photos.split_map(catalogue(2), {}), tmp_path)


def test_a_gallery_without_a_confusion_says_so(tmp_path):
    fig = plots_photos.gallery([], "Biggest confusions", NOTE)
    saved(fig, tmp_path)
    assert any("Biggest confusions" in text for text in texts(fig))


def test_spectra_share_one_scale_and_pictures_are_not_resampled():
    limits = {image.get_clim() for ax in plots_photos.spectra(spectra(5), NOTE).axes for image in ax.images}
    assert len(limits) == 1
    shown = pictures(3)
    fig = plots_photos.picture_grid(shown, ["a", "b", "c"], 2, "Title", NOTE)
    drawn = [image for ax in fig.axes for image in ax.images]
    assert all(np.array_equal(image.get_array(), picture) for image, picture in zip(drawn, shown, strict=True))
    assert {image.get_interpolation() for image in drawn} == {"nearest"}
