"""The README's tables say what the metrics files say, and the README shows those of the committed results."""

import pandas as pd
import pytest
from test_report import CONTRAST, EXPERIMENTS, metrics

from camid_utils import readme, report
from camid_utils.experiments import PROJECT

__all__ = ["metrics"]  # the fixture: planted figures of a profile


def better(metrics: pd.DataFrame) -> pd.DataFrame:
    """Figures of another profile: every value 0.1 higher, of 120 photos."""
    return metrics.assign(**{c: metrics[c] + 0.1 for c in ("value", "low", "high")}, photos=120)


def test_the_results_have_a_row_a_headline_and_both_profiles_beside_the_paper(metrics):
    shuffled = metrics.sample(frac=1, random_state=0)
    head, rule, *rows = readme.results_table({"default": shuffled, "full": better(metrics)}).splitlines()
    assert {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}
    shown = [name for name in readme.HEADLINES if name in EXPERIMENTS]
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows] == [report.NAMES[name] for name in shown]
    assert len(rows) == len(EXPERIMENTS) - 2  # neither design-squashed nor transfer-matched-strict is a headline
    assert "| 81.9 % | **60.0 %** (55.0 to 65.0) | **70.0 %** (65.0 to 75.0) | patches of 50 and 120," in rows[0]
    assert "simulated Dresden" in rows[0]
    assert "| `scene+device` | not tested | **40.0 %**" in rows[1]
    assert "**80.0 %** (75.0 to 85.0) | **90.0 %** (85.0 to 95.0) | photos of 50 and 120," in rows[-1]


def test_every_headline_has_a_name_and_every_row_of_table_two_is_one():
    assert set(readme.HEADLINES) <= set(report.NAMES)
    assert {experiment for experiment, _, _ in report.TABLE2.values()} <= set(readme.HEADLINES)


@pytest.mark.parametrize("low, high, decided", [(0.1, 0.3, True), (-0.3, -0.1, True), (-0.1, 0.3, False)])
def test_an_effect_is_bold_only_where_its_interval_decides(low, high, decided):
    pair = CONTRAST | {"a": "design-squashed", "b": "design-base", "low": low, "high": high}
    contrasts, other = pd.DataFrame([pair]), pd.DataFrame([CONTRAST])
    _, _, *rows = readme.effects_table({"default": contrasts, "full": other}).splitlines()
    assert len(rows) == len(readme.FINDINGS)
    (row,) = [line for line in rows if readme.FINDINGS["design-squashed", "design-base"] in line]
    figure = f"+12.3 ({100 * low:+.1f} to {100 * high:+.1f})"
    assert row.endswith(f"| {f'**{figure}**' if decided else f'{figure}, not decided'} | not run |")
    assert all(line.endswith("| not run | not run |") for line in rows if line != row)


def test_findings_are_those_contrasts_once_and_in_order():
    pairs = [("design-base", "nothing"), ("design-squashed", "design-base"), ("equal-scene+device", "equal-patch")]
    table = pd.DataFrame(
        [CONTRAST | {"a": a, "b": b, "level": level} for a, b in pairs for level in ("patch", "photo")]
    )
    found = readme.findings(table)
    assert found["a"].tolist() == ["equal-scene+device", "design-squashed"] and set(found["level"]) == {"patch"}


def test_effects_are_of_experiments_that_exist():
    single = {"devices-fingerprint"}  # no network
    assert {name for pair in readme.FINDINGS for name in pair} - single <= set(report.NAMES)


def test_the_readme_shows_what_the_committed_results_say():
    """Where this fails: python -m camid_utils.readme."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert readme.filled(text) == text
    spoilt = text.replace("<!-- /results -->", "a row that nobody measured\n<!-- /results -->")
    assert readme.filled(spoilt) == text


def test_the_committed_results_stay_small():
    sizes = [path.stat().st_size for path in (PROJECT / "results" / "default").rglob("*") if path.is_file()]
    assert sizes and sum(sizes) < 15_000_000
