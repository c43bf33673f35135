"""The pictures that figures show are the ones that their captions speak of."""

import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import MODELS
from PIL import Image

from camid_utils import catalogues
from camid_utils.evaluation import LOG_PROB
from camid_utils.figures import photographs


@pytest.fixture
def catalogue(tmp_path) -> pd.DataFrame:
    """Three models, two devices, two scenes (the first model: three); green is 60 + 60 x model, blue 40 x scene."""
    rows = []
    for m, device, scene in [(0, 0, 2), (0, 1, 2), *np.ndindex(3, 2, 2)]:
        path = tmp_path / f"{MODELS[m]}_{device}_{scene}.JPG"
        Image.new("RGB", (96, 64), (0, 60 + 60 * m, 40 * scene)).save(path, quality=95)
        labels = "Dresden", "Acme", MODELS[m], f"{MODELS[m]}_{device}", f"{scene}-1", "Dresden"
        rows.append((str(path), path.name, *labels, 96, 64))
    return pd.DataFrame(rows, columns=catalogues.COLUMNS)


def test_one_photo_of_each_model_from_the_scene_that_most_have(catalogue):
    chosen = photographs.one_scene(catalogue)
    assert chosen["device"].tolist() == [f"{model}_0" for model in MODELS] and set(chosen["scene"]) == {"0-1"}
    pd.testing.assert_frame_equal(photographs.one_scene(catalogue.sample(frac=1, random_state=0)), chosen)
    without = catalogue.assign(scene=pd.array([pd.NA] * len(catalogue), dtype="string"))
    assert photographs.one_scene(without)["camera_model"].tolist() == MODELS


def test_a_photo_that_cannot_be_decoded_is_passed_over(catalogue):
    with open(catalogue["path"][2], "r+b") as file:
        file.truncate(len(file.read()) * 3 // 4)
    chosen = photographs.one_scene(catalogue)
    assert chosen["device"].tolist() == ["Acme_A_1", "Acme_B_0", "Bolt_C_0"] and set(chosen["scene"]) == {"0-1"}


def test_a_photo_of_200_megapixels_is_drawn_reduced_in_place():
    photo = np.broadcast_to(np.uint8(90), (12240, 16320, 3))
    places = {"random": np.array([[12000, 16000]])}
    for figure in (
        photographs.picture_grid([photo], ["A"], 1, "title", "note"),
        photographs.gallery([("caption", [photo])], "title", "note"),
        photographs.patch_positions(photo, places, 48, "note"),
    ):
        assert max(figure.axes[0].images[0].get_array().shape) <= 1600
    assert figure.axes[0].get_xlim() == (-0.5, 16319.5) and figure.axes[0].get_ylim() == (12239.5, -0.5)


def test_a_centre_crop_is_the_middle():
    photo = np.arange(9 * 12 * 3).reshape(9, 12, 3)
    np.testing.assert_array_equal(photographs.centre_crop(photo, 3), photo[3:6, 4:7])


def store(table: pd.DataFrame) -> SimpleNamespace:
    """A store whose patches are each filled with the number of their photo."""
    return SimpleNamespace(table=table, pixels=table["photo"].to_numpy()[:, None, None, None])


def test_two_views_are_of_the_same_photo():
    whole = pd.DataFrame({"camera_model": np.repeat(MODELS, 2), "photo": range(6)})
    crops = whole[whole["photo"] != 4].loc[lambda table: table.index.repeat(6)]  # photo 4 is too small to crop
    rows = photographs.two_views(store(whole), store(crops))
    assert [caption for caption, _ in rows] == ["Acme A", "Acme B", "Bolt C"]
    assert [[int(p[0, 0, 0]) for p in pictures] for _, pictures in rows] == [[0] * 5, [2] * 5, [4]]


def votes_of(catalogue, wrong: dict[int, tuple[str, float]]) -> pd.DataFrame:
    """Predictions, one row per photo: correct and confident, but for `wrong`: row -> (predicted class, probability)."""
    table = pd.DataFrame({"photo": catalogue["photo"], "true": catalogue["camera_model"]})
    for i, true in enumerate(table["true"]):
        predicted, p = wrong.get(i, (true, 0.98))
        probabilities = [p if name == predicted else (1 - p) / 2 for name in MODELS]
        table.loc[i, [LOG_PROB + name for name in MODELS]] = np.log(probabilities)
    return table


def colours(pictures) -> list[tuple[int, int]]:
    """(model, scene) that each photo's colour tells."""
    means = [picture.reshape(-1, 3).mean(0) for picture in pictures]
    return [(round((green - 60) / 60), round(blue / 40)) for _, green, blue in means]


def test_the_photos_behind_the_largest_confusions_are_shown_most_confident_first(catalogue):
    wrong = {0: ("Bolt_C", 0.5), 1: ("Bolt_C", 0.9), 2: ("Bolt_C", 0.7), 10: ("Acme_B", 0.9)}
    votes = votes_of(catalogue, wrong).sample(frac=1, random_state=0).reset_index(drop=True)
    (a, first), (b, second) = photographs.confused_photos(votes, catalogue, 48, count=2)
    assert [a, b] == ["Acme A classified as Bolt C: 3 photos", "Bolt C classified as Acme B: 1 photo"]
    assert [p.shape for p in first] == [(64, 96, 3), (48, 48, 3)] * 2
    assert colours(first) == [(0, 2), (0, 2), (0, 0), (0, 0)] and colours(second) == [(2, 0)] * 2
    os.remove(catalogue["path"][1])
    assert colours(photographs.confused_photos(votes, catalogue, 48, count=1)[0][1]) == [(0, 0)] * 2
    assert photographs.confused_photos(votes_of(catalogue, {}), catalogue, 48) == []
