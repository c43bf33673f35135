"""Votes: the highest scores first, random orders in the mean, intervals over photos."""

import numpy as np
import pandas as pd
import pytest

from camid_utils import evaluation, voting
from camid_utils.evaluation import LOG_PROB


def predictions(photos: dict[str, list[float]], seed: int = 0) -> pd.DataFrame:
    """For each photo the patches' leads of the true class A over the class B, in log-probability."""
    rows = [(photo, lead) for photo, leads in photos.items() for lead in leads]
    table = pd.DataFrame(rows, columns=["photo", "lead"]).assign(true="A", dataset="Dresden", seed=seed)
    table[f"{LOG_PROB}A"] = -np.log1p(np.exp(-table["lead"]))
    table[f"{LOG_PROB}B"] = -np.log1p(np.exp(table.pop("lead")))
    return table


PLANTED = predictions(
    {
        "first": [-2, 1, -2, -2],  # the patch of the highest score is right, the others are wrong and surer
        "first too": [-2, 1, -2, -2],
        "others": [2, -1, 2, 2],  # the other way round
        "single": [1],
    }
)
SCORES = {"quality": np.array([0.1, 0.9, 0.3, 0.2] * 3 + [0.0])}


def values(curve: pd.DataFrame, choice: str) -> dict[int, float]:
    return curve[curve["choice"] == choice].set_index("patches")["value"].to_dict()


def test_patches_vote_by_the_highest_scores():
    curve = voting.curve(PLANTED, SCORES, counts=(1, 2, 4))
    assert list(curve.columns) == ["choice", "patches", "value", "low", "high", "photos"]
    assert values(curve, "quality") == {1: 0.75, 2: 0.5, 4: 0.5}
    worst = voting.curve(PLANTED, {"quality": -SCORES["quality"]}, counts=(1, 2, 4))
    assert values(worst, "quality") == {1: 0.5, 2: 0.5, 4: 0.5}
    assert (curve["photos"] == 4).all()


def test_random_patches_are_the_mean_over_orders():
    """One patch of `first` is right in a quarter of the orders, of `others` in three; all together are one vote."""
    curve = voting.curve(PLANTED, {}, counts=(1, 4), draws=400)
    assert list(curve["choice"].unique()) == ["random"]
    assert values(curve, "random")[1] == pytest.approx((0.25 + 0.25 + 0.75 + 1) / 4, abs=0.03)
    assert values(curve, "random")[4] == 0.5
    once = voting.curve(PLANTED, {}, counts=(1,), draws=1)
    assert once["value"][0] in (0.25, 0.5, 0.75, 1)
    assert voting.curve(PLANTED, {}, draws=3, seed=1).equals(voting.curve(PLANTED, {}, draws=3, seed=1))


def test_photos_with_fewer_patches_vote_with_all():
    curve = voting.curve(PLANTED, SCORES)
    assert list(values(curve, "quality")) == list(voting.COUNTS)
    assert {values(curve, choice)[count] for choice in ("quality", "random") for count in (4, 16, 64)} == {0.5}


def test_all_patches_vote_as_evaluation_does():
    rng = np.random.default_rng(0)
    table = predictions({f"{i}.jpg": rng.normal(0.2, 2, 6).tolist() for i in range(40)})
    expected = evaluation.score(table, experiment="", protocol="", level="photo").set_index("metric")["value"]
    curve = voting.curve(table, {"any": rng.random(len(table))}, counts=(6,))
    assert curve["value"].tolist() == [pytest.approx(expected["accuracy"])] * 2


def test_the_order_of_the_rows_changes_no_choice():
    order = np.random.default_rng(0).permutation(len(PLANTED))
    moved = voting.curve(PLANTED.iloc[order], {"quality": SCORES["quality"][order]}, counts=(1, 2, 4))
    assert values(moved, "quality") == {1: 0.75, 2: 0.5, 4: 0.5}


def test_intervals_are_over_photos_not_patches():
    """100 photos, half of them right: about +- 1.96 x 0.5 / 10; copies of their patches add no certainty."""
    table = predictions({f"{i:03}.jpg": [1 if i % 2 else -1] for i in range(100)})
    (row,) = voting.curve(table, {}, counts=(1,)).to_dict("records")
    assert (row["value"], row["photos"]) == (0.5, 100)
    assert row["low"] == pytest.approx(0.402, abs=0.03) and row["high"] == pytest.approx(0.598, abs=0.03)
    copies = table.loc[table.index.repeat(9)].reset_index(drop=True)
    (same,) = voting.curve(copies, {}, counts=(4,)).to_dict("records")
    assert (same["low"], same["high"]) == pytest.approx((row["low"], row["high"]), abs=0.03)
    sure = voting.curve(predictions({"a": [1], "b": [2]}), {}, counts=(1,))
    assert sure[["value", "low", "high"]].to_numpy().tolist() == [[1, 1, 1]]


def test_seeds_vote_apart_and_a_photo_counts_once():
    """Every photo is right under one seed and wrong under the other: a half each, whichever photos are drawn."""
    photos = {f"{i}.jpg": [3.0, 3.0] for i in range(10)}
    wrong = {name: [-4.0, -4.0] for name in photos}
    table = pd.concat([predictions(photos, seed=0), predictions(wrong, seed=1)], ignore_index=True)
    curve = voting.curve(table, {"any": np.arange(len(table))}, counts=(1, 2))
    assert (curve[["value", "low", "high"]] == 0.5).all(axis=None) and (curve["photos"] == 10).all()
    alone = voting.curve(predictions(photos).drop(columns="seed"), {}, counts=(1,))
    assert alone["value"].tolist() == [1]
