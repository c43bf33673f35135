"""Votes: the highest scores first, the mean over random orders, intervals over what was drawn."""

import numpy as np
import pandas as pd
import pytest

from camid_utils import intervals, patches
from camid_utils.analyses import learning
from camid_utils.evaluation import LOG_PROB


def predictions(photos: dict[str, list[float]], seed: int = 0) -> pd.DataFrame:
    """For each photo how far each patch prefers the true class A to class B, in log-probability."""
    rows = [(photo, lead) for photo, leads in photos.items() for lead in leads]
    table = pd.DataFrame(rows, columns=["photo", "lead"]).assign(true="A", dataset="Dresden", seed=seed)
    table[f"{LOG_PROB}A"] = -np.log1p(np.exp(-table["lead"]))
    table[f"{LOG_PROB}B"] = -np.log1p(np.exp(table.pop("lead")))
    return table


# in the first two photos only the patch of the highest score is correct, the others are wrong and more confident
FIRST = [-2, 1, -2, -2]
PLANTED = predictions({"first": FIRST, "first too": FIRST, "others": [2, -1, 2, 2], "single": [1]})
SCORES = {"quality": np.array([0.1, 0.9, 0.3, 0.2] * 3 + [0.0])}


def values(curve: pd.DataFrame, choice: str) -> dict[int, float]:
    return curve[curve["choice"] == choice].set_index("patches")["value"].to_dict()


def test_patches_vote_by_the_highest_scores_whatever_the_order_of_rows():
    curve = learning.accuracy_by_votes(PLANTED, SCORES | {"worst": -SCORES["quality"]}, counts=(1, 2, 4))
    assert list(curve.columns) == ["choice", "patches", "value", "low", "high", "photos"]
    assert values(curve, "quality") == {1: 0.75, 2: 0.5, 4: 0.5} and (curve["photos"] == 4).all()
    assert values(curve, "worst") == {1: 0.5, 2: 0.5, 4: 0.5}
    more = learning.accuracy_by_votes(PLANTED, SCORES, draws=3)  # than a photo has: all of them vote, as in evaluation
    assert list(values(more, "quality")) == list(learning.COUNTS)
    assert {values(more, choice)[count] for choice in ("quality", "random") for count in (4, 16, 64)} == {0.5}
    votes = intervals.score(PLANTED, experiment="", protocol="", level="photo").set_index("metric")["value"]
    assert votes["accuracy"] == 0.5
    order = np.random.default_rng(0).permutation(len(PLANTED))
    moved = learning.accuracy_by_votes(PLANTED.iloc[order], {"quality": SCORES["quality"][order]}, counts=(1, 2, 4))
    assert values(moved, "quality") == values(curve, "quality")


def test_random_patches_are_the_mean_over_orders():
    """One patch of `first` is correct in a quarter of the orders, one of `others` in three quarters."""
    curve = learning.accuracy_by_votes(PLANTED, {}, counts=(1, 4), draws=200)
    assert list(curve["choice"].unique()) == ["random"]
    assert values(curve, "random")[1] == pytest.approx((0.25 + 0.25 + 0.75 + 1) / 4, abs=0.04)
    assert values(curve, "random")[4] == 0.5
    again = [learning.accuracy_by_votes(PLANTED, {}, draws=3, seed=1) for _ in range(2)]
    assert again[0].equals(again[1])


@pytest.mark.filterwarnings("error")
def test_bootstrap_samples_without_any_photo_are_left_out():
    """Two devices with a photo each, of different scenes: one may be drawn where the other's scene is."""
    table = predictions({"1.jpg": [1], "2.jpg": [-1]}).assign(device=["A_1", "A_2"], scene=["1", "2"])
    (row,) = learning.accuracy_by_votes(table, {}, counts=(1,), draws=2).to_dict("records")
    assert (row["value"], row["low"], row["high"]) == (0.5, 0, 1)


def test_seeds_vote_separately_and_are_drawn_as_a_whole():
    """Every photo is correct under one seed and wrong under the other: half, or all or none where one is drawn."""
    tables = [predictions({f"{i}.jpg": [lead] * 2 for i in range(10)}, seed) for seed, lead in enumerate((3.0, -4.0))]
    table = pd.concat(tables, ignore_index=True)
    curve = learning.accuracy_by_votes(table, {"any": np.arange(len(table))}, counts=(1, 2), draws=2)
    assert (curve[["value", "low", "high"]] == [0.5, 0, 1]).all(axis=None) and (curve["photos"] == 10).all()


def test_each_prediction_gets_the_scores_of_its_patch(make_store):
    pixels = np.full((3, 8, 8, 3), 128, np.uint8)
    pixels[1] = np.random.default_rng(0).integers(64, 192, (8, 8, 3))
    pixels[2] = 255
    table = pd.DataFrame({"photo": ["a.jpg", "a.jpg", "b.jpg"], "y": [0, 8, 0], "x": 0})
    rows = table.iloc[[2, 1, 0, 1]].reset_index(drop=True)
    found = learning.vote_scores(rows, make_store(pixels, table))
    for name, score in {"quality": patches.patch_quality, "entropy": patches.patch_entropy}.items():
        np.testing.assert_array_equal(found[name], score(pixels)[[2, 1, 0, 1]])
    assert found["entropy"].argmax() == 1 and found["quality"].argmin() == 0
    with pytest.raises(ValueError, match="give the store that was predicted"):
        learning.vote_scores(rows.assign(y=4), make_store(pixels, table))
