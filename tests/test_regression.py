"""A rerun is held against the committed results: every metric, notebook and figure."""

import json

import pandas as pd
import pytest

from camid_utils import evaluation, regression

KEY = ("exp", "simulated Dresden", "patch", "test", "patch", "accuracy")


@pytest.fixture
def results(tmp_path):
    """A function that writes a results folder with one metric, one notebook and one figure."""

    def write(name: str, value: float, python: str = "3.11", without: str = "") -> str:
        folder = tmp_path / name
        row = dict.fromkeys(evaluation.METRIC_COLUMNS, 0) | dict(zip(regression.KEYS, KEY, strict=True))
        files = {
            "metrics/02_some.csv": pd.DataFrame([row | {"value": value}]).to_csv(index=False),
            "notebooks/02_some.ipynb": "{}",
            "figures/02_some.png": "",
            "run.json": json.dumps({"environment": {"python": python}}),
        }
        for path, text in files.items():
            if path != without:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text)
        return folder

    return write


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return table.set_index("what")["verdict"].to_dict()


def test_the_same_machine_must_give_the_same_number(results):
    assert set(verdicts(regression.compare(results("a", 0.5), results("b", 0.5))).values()) == {"holds"}
    other = verdicts(regression.compare(results("a", 0.5), results("c", 0.5000001)))
    assert other[", ".join(KEY)] == other["metrics/02_some.csv"] == "differs"
    assert other["figures/02_some.png"] == "holds"


@pytest.mark.parametrize("value, verdict", [(0.56, "holds"), (0.561, "differs"), (0.44, "holds")])
def test_elsewhere_it_may_differ_as_seeds_do(results, value, verdict):
    spread = pd.Series({KEY: 0.02})
    table = regression.compare(results("a", 0.5), results("b", value, python="3.12"), spread)
    assert verdicts(table)[", ".join(KEY)] == verdict
    assert table["tolerance"].max() == pytest.approx(0.06)


def test_on_the_same_machine_tables_and_figures_are_the_same_files(results):
    rerun = results("b", 0.5)
    (rerun / "figures" / "02_some.png").write_text("another picture")
    (rerun / "notebooks" / "02_some.ipynb").write_text("another time of day")
    found = verdicts(regression.compare(results("a", 0.5), rerun))
    assert found["figures/02_some.png"] == "differs" and found["notebooks/02_some.ipynb"] == "holds"
    elsewhere = results("c", 0.5, python="3.12")
    (elsewhere / "figures" / "02_some.png").write_text("another picture")
    assert verdicts(regression.compare(results("a", 0.5), elsewhere))["figures/02_some.png"] == "holds"


@pytest.mark.parametrize("without", ["metrics/02_some.csv", "notebooks/02_some.ipynb", "figures/02_some.png"])
def test_what_is_missing_is_noticed(results, without):
    extra = results("b", 0.5, without=without)
    if without.startswith("metrics"):  # another table is there, with another metric
        row = dict.fromkeys(evaluation.METRIC_COLUMNS, 0) | {"experiment": "else"}
        (extra / "metrics").mkdir(exist_ok=True)
        pd.DataFrame([row]).to_csv(extra / "metrics" / "03_other.csv", index=False)
    found = verdicts(regression.compare(results("a", 0.5), extra))
    assert found[without] == "missing"
    assert (found[", ".join(KEY)] == "missing") == without.startswith("metrics")


def test_without_results_there_is_nothing_to_compare(tmp_path, capsys):
    assert regression.main(["--against", str(tmp_path)]) == 2
    assert "make study" in capsys.readouterr().err
