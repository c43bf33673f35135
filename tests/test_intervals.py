"""Intervals treat a photo as one observation, cover as often as they say, and are formatted in one way."""

import numpy as np
import pandas as pd
import pytest

from camid_utils import evaluation, intervals
from camid_utils.evaluation import LOG_PROB

NAMES = ["Acme_A", "Acme_B", "Bolt_C", "Bolt_D"]


def score(table: pd.DataFrame, **change) -> pd.DataFrame:
    return intervals.score(table, experiment="e", protocol="photo", **change).set_index("metric")


def with_seeds(*tables: pd.DataFrame) -> pd.DataFrame:
    """Predictions of several seeds, 0, 1, ..., in one table."""
    return pd.concat([table.assign(seed=i) for i, table in enumerate(tables)], ignore_index=True)


def certain(table: pd.DataFrame, classes) -> pd.DataFrame:
    """The table with certain predictions of these classes, one for each row."""
    logs = np.where(np.array(NAMES) == np.asarray(classes)[:, None], 0.0, -9.0)
    return table.assign(**{LOG_PROB + name: logs[:, i] for i, name in enumerate(NAMES)})


def all_wrong(table: pd.DataFrame) -> pd.DataFrame:
    return certain(table, table["true"].map(dict(zip(NAMES, np.roll(NAMES, -1), strict=True))))


# one table


def test_the_interval_is_over_photos_not_patches(noisy_predictions):
    """Patches that only repeat their photo add no certainty: the interval must not shrink."""
    once = noisy_predictions(photos=60, per_photo=1)
    copies = once.loc[once.index.repeat(25)].reset_index(drop=True)
    a, b = (score(table).loc["accuracy"] for table in (once, copies))
    assert (a["low"], a["high"]) == pytest.approx((b["low"], b["high"])) and a["low"] < a["value"] < a["high"]
    assert (a["n"], b["n"], b["photos"]) == (60, 1500, 60)


def test_the_interval_covers_as_often_as_it_says(noisy_predictions):
    truth = score(noisy_predictions(photos=20_000, per_photo=1, seed=99), resamples=1)["value"]["accuracy"]
    rows = [score(noisy_predictions(photos=100, per_photo=1, seed=s)).loc["accuracy"] for s in range(100)]
    assert 88 <= sum(row["low"] <= truth <= row["high"] for row in rows) <= 100


def test_a_score_names_what_was_scored(noisy_predictions):
    rows = score(noisy_predictions(), level="photo", part="val", published={"accuracy": 0.8}).reset_index()
    assert set(rows.columns) == set(intervals.METRIC_COLUMNS) and tuple(rows["metric"]) == evaluation.METRICS
    assert rows["published"].dropna().to_dict() == {0: 0.8} and set(rows["classes"]) == {4}
    named = rows[["experiment", "dataset", "protocol", "part", "level"]].drop_duplicates().to_numpy().tolist()
    assert named == [["e", "simulated Dresden", "photo", "val", "photo"]]
    with pytest.raises(ValueError, match="no predictions to score for e, photo, test"):
        score(noisy_predictions().iloc[:0])


def test_bootstrap_counts_draw_as_many_photos_as_there_are():
    counts = intervals.bootstrap_counts(7, [0], resamples=500)
    assert counts.shape == (501, 7) and (counts.sum(1) == 7).all() and (counts[0] == 1).all()
    assert counts[1:].mean(0) == pytest.approx(np.ones(7), abs=0.2)


# several seeds


@pytest.mark.parametrize("level", ["patch", "photo"])
def test_a_seed_that_only_repeats_another_adds_no_certainty(noisy_predictions, level):
    """A photo is drawn with its predictions under all seeds: three times the same is as certain as once."""
    table = noisy_predictions(photos=60)
    plain, once, thrice = (score(t, level=level) for t in (table, with_seeds(table), with_seeds(table, table, table)))
    pd.testing.assert_frame_equal(plain, once)
    for column in ("value", "low", "high"):
        assert thrice[column].to_dict() == pytest.approx(once[column].to_dict())
    assert (once["seeds"] == 1).all() and (once["spread"] == 0).all()
    assert (thrice["seeds"] == 3).all() and thrice["spread"].abs().max() < 1e-12
    assert (thrice["n"] == 3 * once["n"]).all() and (thrice["photos"] == 60).all()


def test_seeds_are_pooled_and_their_spread_is_reported(noisy_predictions):
    """The seeds' accuracies are 1, 0 and 1, of 20, 40 and 20 photos."""
    right = noisy_predictions(photos=40, per_photo=1, strength=50)
    row = score(with_seeds(right[:20], all_wrong(right), right[20:])).loc["accuracy"]
    assert row[["value", "n", "photos", "seeds"]].tolist() == [0.5, 80, 40, 3]
    assert row["spread"] == pytest.approx(np.std([1, 0, 1], ddof=1))
    assert row["low"] == row["high"] == 0.5  # every photo is right once and wrong once, whichever are drawn


# differences


def test_a_difference_finds_a_planted_gap_and_no_gap(noisy_predictions):
    strong, weak = noisy_predictions(400, strength=3), noisy_predictions(400, strength=0, seed=1)
    gap, low, high = intervals.difference(strong, weak)
    assert 0.5 < low < gap < high
    _, low, high = intervals.difference(weak, noisy_predictions(400, strength=0, seed=2))
    assert low < 0 < high


def test_a_paired_difference_finds_a_planted_gap_whatever_the_order(noisy_predictions):
    """Weak predictions, and the same with 100 of 500 wrong rows corrected."""
    weak = noisy_predictions(photos=100, strength=0)
    guess = np.array(NAMES)[evaluation.log_probabilities(weak).argmax(1)]
    corrected = guess.copy()
    wrong = np.flatnonzero(guess != weak["true"])[:100]
    corrected[wrong] = weak["true"].to_numpy()[wrong]
    better = certain(weak, corrected)
    gap, low, high = intervals.paired_difference(better.sample(frac=1, random_state=0), weak)
    assert gap == pytest.approx(0.2) and 0 < low < gap < high < 0.4
    assert intervals.paired_difference(weak, better)[0] == pytest.approx(-0.2)
    assert intervals.paired_difference(weak, weak) == (0, 0, 0)


def test_pairing_narrows_the_interval_where_both_err_on_the_same_photos(noisy_predictions):
    weak = noisy_predictions(photos=200, per_photo=1)
    better = pd.concat([certain(weak[:10], weak["true"][:10]), weak[10:]])
    paired, separate = (f(better, weak) for f in (intervals.paired_difference, intervals.difference))
    assert paired[0] == pytest.approx(separate[0])
    assert paired[2] - paired[1] < 0.5 * (separate[2] - separate[1])


@pytest.mark.parametrize("repeat", ["patches", "seeds"])
def test_a_paired_difference_draws_whole_photos_with_all_their_patches_and_seeds(noisy_predictions, repeat):
    tables = [noisy_predictions(60, 1, seed=seed) for seed in (1, 2)]
    if repeat == "patches":
        copies = [t.loc[t.index.repeat(25)].reset_index(drop=True).assign(x=list(range(25)) * 60) for t in tables]
    else:
        copies = [with_seeds(t, t, t) for t in tables]
    assert intervals.paired_difference(*copies) == pytest.approx(intervals.paired_difference(*tables))


def test_a_paired_difference_compares_only_rows_that_both_have(noisy_predictions):
    strong, weak = (noisy_predictions(photos=40, per_photo=1, strength=s) for s in (20, 0))
    half = intervals.paired_difference(strong[:20], weak)
    assert half == pytest.approx(intervals.paired_difference(strong[:20], weak[:20]))
    votes = evaluation.vote(strong), evaluation.vote(weak)  # photos without positions
    assert intervals.paired_difference(*votes)[0] == pytest.approx(intervals.paired_difference(strong, weak)[0])
    with pytest.raises(ValueError, match="no row in common"):
        intervals.paired_difference(strong[:20], weak[20:])


def test_a_paired_difference_matches_seeds(noisy_predictions):
    """All is right under seed 0 and wrong under seed 1: matched by seed, a table does not differ from itself."""
    right = noisy_predictions(photos=20, per_photo=2, strength=50)
    table = with_seeds(right, all_wrong(right))
    assert intervals.paired_difference(table.sample(frac=1, random_state=0), table) == (0, 0, 0)
    assert intervals.paired_difference(with_seeds(right, right), table[table["seed"] == 1]) == (1, 1, 1)
    with pytest.raises(ValueError, match="no row in common"):
        intervals.paired_difference(table[table["seed"] == 0], table[table["seed"] == 1])


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_of_differences_cover_as_often_as_they_say(noisy_predictions, paired):
    """The same photos under two networks (paired), or other photos under the same (unpaired): no true difference."""
    covered = 0
    for s in range(100):
        a, b = (noisy_predictions(photos=80, per_photo=1, seed=[s, i]) for i in range(2))
        _, low, high = (intervals.paired_difference if paired else intervals.difference)(a, b, seed=s)
        covered += low <= 0 <= high
    assert 88 <= covered <= 100


def test_accuracy_per_photo_with_its_change(noisy_predictions):
    right = noisy_predictions(photos=40).assign(seed=0)
    wrong = pd.concat([all_wrong(right[:50]), certain(right[50:], right["true"][50:])])  # 10 of 40 photos
    (row,) = intervals.photo_accuracy(wrong, certain(right, right["true"]), model="m").to_dict("records")
    assert (row["model"], row["n"], row["value"], row["change"]) == ("m", 40, 0.75, -0.25)
    assert row["low"] < 0.75 < row["high"] and row["change_low"] < -0.25 < row["change_high"] < 0
    assert "change" not in intervals.photo_accuracy(right)


def test_wilson_agrees_with_the_published_formula():
    """Wilson 1927, at 8 of 10: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)."""
    z, p, n = 1.959964, 0.8, 10
    centre, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    ends = [(centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)]
    assert intervals.wilson(8, 10) == pytest.approx((0.8, *ends), abs=1e-6)
    assert intervals.wilson(10, 10)[1] < 0.75 and np.isnan(intervals.wilson(0, 0)).all()


# text


@pytest.mark.parametrize(
    "unit, text", [("%", "12.3 % (10.0 to 15.1)"), ("points", "+12.3 (+10.0 to +15.1)"), ("", "0.123 (0.100 to 0.151)")]
)
def test_a_number_and_its_interval_are_formatted_in_one_way(unit, text):
    assert intervals.format_interval(0.1234, 0.1, 0.151, unit) == text


def test_a_table_is_formatted_row_by_row():
    rows = pd.DataFrame({"metric": ["accuracy", "log loss"], "value": [0.5, 1.5], "low": [0.4, 1.0], "high": [0.6, 2.0],
                         "change": [-0.1, 0.0], "change_low": [-0.2, -0.1], "change_high": [0.0, 0.1]})  # fmt: skip
    assert intervals.formatted(rows) == ["50.0 % (40.0 to 60.0)", "1.500 (1.000 to 2.000)"]
    changes = ["-10.0 (-20.0 to +0.0)", "+0.0 (-10.0 to +10.0)"]
    assert intervals.formatted(rows, "points", "change", "change_") == changes


@pytest.mark.parametrize(
    "low, high, zero, word",
    [(0.1, 0.2, 0, "higher"), (-0.2, -0.1, 0, "lower"), (-0.1, 0.1, 0, "undecided"), (0.0, 0.1, 0, "undecided"),
     (0.1, 0.2, 0.15, "undecided"), (0.1, 0.2, 0.3, "lower")],
)  # fmt: skip
def test_the_verdict_is_undecided_where_the_interval_includes_zero(low, high, zero, word):
    assert intervals.verdict(low, high, zero) == word
