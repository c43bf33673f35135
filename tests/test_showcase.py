"""The pictures that figures show are the ones that their captions speak of."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from camid_utils import datasets, patches, showcase
from camid_utils.evaluation import LOG_PROB

MODELS = ["Acme_A", "Acme_B", "Bolt_C"]


@pytest.fixture
def catalogue(tmp_path) -> pd.DataFrame:
    """Three models, two devices, three scenes; a photo's green is 60 + 60 x model, its blue 40 x scene.

    Scene 2 was photographed by the first model alone.
    """
    rows = []
    for m, model in enumerate(MODELS):
        for device in range(2):
            for scene in range(3 if m == 0 else 2):
                path = tmp_path / "photos" / model / f"{model}_{device}_{scene}.JPG"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (96, 64), (0, 60 + 60 * m, 40 * scene)).save(path, quality=95)
                rows.append((str(path), "Dresden", model[:4], model, f"{model}_{device}", f"{scene}-1", 96, 64))
    table = pd.DataFrame(rows, columns=datasets.COLUMNS)
    return table.sort_values("path", ignore_index=True)


def test_one_photo_of_each_model_from_the_scene_that_most_have(catalogue):
    chosen = showcase.one_scene(catalogue)
    assert list(chosen["camera_model"]) == MODELS and set(chosen["scene"]) == {"0-1"}
    assert (chosen["device"].str[-1] == "0").all()
    pd.testing.assert_frame_equal(showcase.one_scene(catalogue.sample(frac=1, random_state=0)), chosen)


def test_without_scenes_any_photo_stands_for_its_model(catalogue):
    chosen = showcase.one_scene(catalogue.assign(scene=pd.array([pd.NA] * len(catalogue), dtype="string")))
    assert list(chosen["camera_model"]) == MODELS


def test_a_photo_that_cannot_be_decoded_is_passed_over(catalogue):
    first = catalogue["path"][0]
    whole = open(first, "rb").read()
    with open(first, "wb") as file:
        file.write(whole[: len(whole) * 3 // 4])
    chosen = showcase.one_scene(catalogue)
    assert list(chosen["camera_model"]) == MODELS and first not in set(chosen["path"])
    assert chosen["device"].iloc[0] == "Acme_A_1" and chosen["scene"].iloc[0] == "0-1"


def test_centre_crop():
    photo = np.arange(9 * 12 * 3).reshape(9, 12, 3)
    np.testing.assert_array_equal(showcase.centre_crop(photo, 3), photo[3:6, 4:7])
    np.testing.assert_array_equal(showcase.centre_crop(photo, 10), photo[:, 1:11])  # no more than there is


def test_best_crop_finds_the_textured_corner():
    photo = np.full((96, 96, 3), 250, np.uint8)
    texture = np.random.default_rng(0).integers(60, 200, (32, 32, 3), dtype=np.uint8)
    photo[32:64, 64:96] = texture
    np.testing.assert_array_equal(showcase.best_crop(photo, 32), texture)


class FakeStore(NamedTuple):
    pixels: np.ndarray
    table: pd.DataFrame


def test_two_views_puts_a_photo_beside_its_own_crops():
    names = [f"{m}/{i}.jpg" for m in MODELS for i in range(2)]
    whole = pd.DataFrame({"camera_model": np.repeat(MODELS, 2), "photo": names})
    crops = whole.loc[whole.index.repeat(6)].reset_index(drop=True)
    crops = crops[crops["photo"] != "Bolt_C/0.jpg"].reset_index(drop=True)  # too small to crop

    def pixels(table):
        """Each patch is filled with the number of its photo."""
        number = table["photo"].map({name: i for i, name in enumerate(names)}).to_numpy(np.uint8)
        return np.broadcast_to(number[:, None, None, None], (len(table), 4, 4, 3))

    rows = showcase.two_views(FakeStore(pixels(whole), whole), FakeStore(pixels(crops), crops), count=3)
    assert [caption for caption, _ in rows] == ["Acme A", "Acme B", "Bolt C"]
    assert [[int(p[0, 0, 0]) for p in pictures] for _, pictures in rows] == [[0] * 4, [2] * 4, [4]]
    assert len(showcase.two_views(FakeStore(pixels(whole), whole), FakeStore(pixels(crops), crops), models=1)) == 1


def votes_of(catalogue, wrong: dict[int, tuple[str, float]]) -> pd.DataFrame:
    """Predictions a row a photo: right and sure, but for `wrong`: row -> (predicted class, probability)."""
    table = pd.DataFrame({"photo": datasets.relative_photos(catalogue), "true": catalogue["camera_model"]})
    probability = pd.DataFrame(0.01, index=table.index, columns=MODELS)
    for i, true in enumerate(table["true"]):
        name, p = wrong.get(i, (true, 0.98))
        probability.loc[i, :] = (1 - p) / 2
        probability.loc[i, name] = p
    return table.join(np.log(probability).add_prefix(LOG_PROB))


def colours(picture) -> tuple[int, int]:
    """(model, scene) that a photo's colour tells."""
    _, green, blue = picture.reshape(-1, 3).mean(0)
    return round((green - 60) / 60), round(blue / 40)


def test_the_photos_behind_the_biggest_confusions(catalogue):
    acme = catalogue.index[catalogue["camera_model"] == "Acme_A"]
    bolt = catalogue.index[catalogue["camera_model"] == "Bolt_C"]
    wrong = {acme[0]: ("Bolt_C", 0.5), acme[1]: ("Bolt_C", 0.9), acme[2]: ("Bolt_C", 0.7), bolt[0]: ("Acme_B", 0.9)}
    votes = votes_of(catalogue, wrong).sample(frac=1, random_state=0).reset_index(drop=True)
    rows = showcase.confused(votes, catalogue, 48, count=2)
    assert [caption for caption, _ in rows] == [
        "Acme A taken for Bolt C: 3 photos",
        "Bolt C taken for Acme B: 1 photo",
    ]
    first, second = (pictures for _, pictures in rows)
    assert [p.shape for p in first] == [(64, 96, 3), (48, 48, 3)] * 2 and len(second) == 2
    assert [colours(p) for p in first] == [(0, 1), (0, 1), (0, 2), (0, 2)]  # the surest first, each with its crop
    assert {colours(p) for p in second} == {(2, 0)}


def test_one_cell_of_the_matrix(catalogue):
    votes = votes_of(catalogue, {0: ("Bolt_C", 0.9)})
    ((caption, pictures),) = showcase.confused(votes, catalogue, 48, ("Acme_A", "Bolt_C"))
    assert caption.startswith("Acme A taken for Bolt C: 1") and len(pictures) == 2
    ((caption, pictures),) = showcase.confused(votes, catalogue, 48, ("Bolt_C", "Bolt_C"), count=5)
    assert caption.startswith("Bolt C taken for Bolt C: 4") and len(pictures) == 8
    assert {colours(p)[0] for p in pictures} == {2}
    assert showcase.confused(votes, catalogue, 48, ("Acme_B", "Bolt_C")) == []


def test_no_confusion_no_row(catalogue):
    assert showcase.confused(votes_of(catalogue, {}), catalogue, 48) == []


def test_pictures_are_read_by_the_studys_one_decoder(catalogue, monkeypatch):
    asked = []
    monkeypatch.setattr(showcase, "read_photo", lambda path: asked.append(path) or patches.read_photo(path))
    showcase.confused(votes_of(catalogue, {0: ("Bolt_C", 0.9)}), catalogue, 48)
    assert asked == [catalogue["path"][0]]


@pytest.mark.parametrize("headless", [True, False])
def test_picking_a_cell_shows_its_photos_only_where_a_person_can_pick(monkeypatch, headless, capsys):
    """Nothing is returned either way: under its picker a notebook would print it."""
    monkeypatch.setenv("CAMID_HEADLESS", "1" if headless else "")
    monkeypatch.setattr(plt, "show", lambda *args: None)
    pickers = []
    votes = pd.DataFrame({"true": ["A", "B"], f"{LOG_PROB}A": [0.0, -1.0], f"{LOG_PROB}B": [-1.0, 0.0]})
    asked = []

    def rows(true, predicted):
        asked.append((true, predicted))
        return [("caption", [np.zeros((8, 8, 3), np.uint8)])] if true == predicted else []

    def interact(show, **choices):
        pickers.append((show, choices))
        return show

    monkeypatch.setattr(showcase.ipywidgets, "interact", interact)
    assert showcase.pick_cell(votes, rows, "simulated Dresden") is None
    if headless:
        assert pickers == [] and asked == []
    else:
        ((show, choices),) = pickers
        assert choices == {"true": ["A", "B"], "predicted": ["A", "B"]}
        show("B", "B"), show("B", "A")
        assert asked == [("B", "B"), ("B", "A")]
        assert "no B was taken for A" in capsys.readouterr().out
