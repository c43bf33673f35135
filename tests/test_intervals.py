"""Intervals treat a photo as one observation, cover as often as they say, and are formatted in one way."""

import numpy as np
import pandas as pd
import pytest

from camid_utils import evaluation, intervals

NAMES = ["Acme_A", "Acme_B", "Bolt_C", "Bolt_D"]
WRONG = dict(zip(NAMES, np.roll(NAMES, -1), strict=True))


def accuracy(table: pd.DataFrame, **change) -> pd.Series:
    """The row of `intervals.score` for the accuracy."""
    return intervals.score(table, experiment="e", protocol="photo", **change).set_index("metric").loc["accuracy"]


def with_seeds(*tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table.assign(seed=i) for i, table in enumerate(tables)], ignore_index=True)


def certain(table: pd.DataFrame, classes) -> pd.DataFrame:
    """The table with certain predictions of these classes, one for each row."""
    logs = np.where(np.array(NAMES) == np.asarray(classes)[:, None], 0.0, -9.0)
    return table.assign(**{evaluation.LOG_PROB + name: logs[:, i] for i, name in enumerate(NAMES)})


@pytest.mark.parametrize("how", ["patches", "seeds"])
def test_patches_and_seeds_that_only_repeat_a_photo_add_no_certainty(noisy_predictions, how):
    """Photos are drawn whole, with all their patches and seeds."""
    tables = [noisy_predictions(60, 1, seed=seed) for seed in (1, 2)]
    copies = [with_seeds(*[table.assign(x=i * (how == "patches")) for i in range(9)]) for table in tables]
    copies = [table.assign(seed=table["seed"] * (how == "seeds")) for table in copies]
    once, often = (accuracy(found[0]) for found in (tables, copies))
    assert often[["value", "low", "high"]].tolist() == pytest.approx(once[["value", "low", "high"]].tolist())
    assert once["low"] < once["value"] < once["high"] and once["photos"] == often["photos"] == 60
    assert intervals.paired_difference(*copies) == pytest.approx(intervals.paired_difference(*tables))


def test_intervals_cover_as_often_as_they_say(noisy_predictions):
    """Of an accuracy, and of two differences that are zero: other photos (unpaired), or two networks (paired)."""
    truth = accuracy(noisy_predictions(photos=20_000, per_photo=1, seed=99), resamples=1)["value"]
    covered = np.zeros(3)
    for s in range(100):
        a, b = (noisy_predictions(photos=80, per_photo=1, seed=[s, i]) for i in range(2))
        row = accuracy(a)
        ends = [f(a, b, seed=s)[1:] for f in (intervals.difference, intervals.paired_difference)]
        covered += [row["low"] <= truth <= row["high"], *(low <= 0 <= high for low, high in ends)]
    assert (covered >= 88).all() and (covered < 100).all()


def test_seeds_are_pooled_and_their_spread_is_reported(noisy_predictions):
    """The seeds' accuracies are 1, 0 and 1, of 20, 40 and 20 photos."""
    right = noisy_predictions(photos=40, per_photo=1, strength=50)
    row = accuracy(with_seeds(right[:20], certain(right, right["true"].map(WRONG)), right[20:]))
    assert row[["value", "n", "photos", "seeds"]].tolist() == [0.5, 80, 40, 3]
    assert row["spread"] == pytest.approx(np.std([1, 0, 1], ddof=1))
    assert row["low"] == row["high"] == 0.5  # every photo is right once and wrong once, whichever are drawn
    with pytest.raises(ValueError, match="no predictions to score for e, photo, test"):
        accuracy(right[:0])


def test_differences_find_a_planted_gap_whatever_the_order(noisy_predictions):
    """Weak predictions, and the same with 100 of 500 wrong rows corrected; pairing narrows the interval."""
    weak = noisy_predictions(photos=100, strength=0)
    corrected = np.array(NAMES)[evaluation.log_probabilities(weak).argmax(1)]
    wrong = np.flatnonzero(corrected != weak["true"])[::3][:100]
    corrected[wrong] = weak["true"].to_numpy()[wrong]
    better = certain(weak, corrected).sample(frac=1, random_state=0)
    for compare, widest in ((intervals.paired_difference, 0.08), (intervals.difference, 0.12)):
        gap, low, high = compare(better, weak)
        assert gap == pytest.approx(0.2) and 0 < low < gap < high and widest - 0.03 < high - low < widest
        assert compare(weak, better)[0] == pytest.approx(-0.2)
    assert intervals.paired_difference(weak, weak) == (0, 0, 0)


def test_a_paired_difference_compares_only_rows_that_both_have_matched_by_seed(noisy_predictions):
    strong, weak = (noisy_predictions(photos=40, per_photo=1, strength=s) for s in (20, 0))
    half = intervals.paired_difference(strong[:20], weak)
    assert half == pytest.approx(intervals.paired_difference(strong[:20], weak[:20]))
    votes = evaluation.vote(strong), evaluation.vote(weak)  # photos without positions
    assert intervals.paired_difference(*votes)[0] == pytest.approx(intervals.paired_difference(strong, weak)[0])
    seeds = with_seeds(strong, certain(strong, strong["true"].map(WRONG)))  # all right, all wrong
    assert intervals.paired_difference(seeds.sample(frac=1, random_state=0), seeds) == (0, 0, 0)
    assert intervals.paired_difference(with_seeds(strong, strong), seeds[40:]) == (1, 1, 1)
    for a, b in ((strong[:20], weak[20:]), (seeds[:40], seeds[40:])):
        with pytest.raises(ValueError, match="no row in common"):
            intervals.paired_difference(a, b)


def test_wilson_agrees_with_the_published_formula():
    """Wilson 1927, at 8 of 10: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)."""
    z, p, n = 1.959964, 0.8, 10
    centre, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    expected = np.array([centre - half, centre + half]) / (1 + z**2 / n)
    assert intervals.wilson(8, 10) == pytest.approx((0.8, *expected), abs=1e-6)
    assert np.isnan(intervals.wilson(0, 0)).all()


def test_numbers_and_their_intervals_are_formatted_in_one_way():
    forms = {"%": "12.3 % (10.0 to 15.1)", "points": "+12.3 (+10.0 to +15.1)", "": "0.123 (0.100 to 0.151)"}
    assert {unit: intervals.format_interval(0.1234, 0.1, 0.151, unit) for unit in forms} == forms
    rows = pd.DataFrame({"metric": ["accuracy", "log loss"], "value": [0.5, 1.5], "low": [0.4, 1.0], "high": [0.6, 2.0],
                         "change": [-0.1, 0.0], "change_low": [-0.2, -0.1], "change_high": [0.0, 0.1]})  # fmt: skip
    assert intervals.formatted(rows) == ["50.0 % (40.0 to 60.0)", "1.500 (1.000 to 2.000)"]
    changes = ["-10.0 (-20.0 to +0.0)", "+0.0 (-10.0 to +10.0)"]
    assert intervals.formatted(rows, "points", "change", "change_") == changes


def test_the_verdict_is_undecided_where_the_interval_includes_zero():
    cases = {(0.1, 0.2): "higher", (-0.2, -0.1): "lower", (-0.1, 0.1): "undecided", (0.0, 0.1): "undecided"}
    assert {ends: intervals.verdict(*ends) for ends in cases} == cases
    assert intervals.verdict(0.1, 0.2, zero=0.15) == "undecided" and intervals.verdict(0.1, 0.2, zero=0.3) == "lower"
