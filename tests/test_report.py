"""Tables, statements, the ledger, the README's table and the agreement of two runs turn when planted figures turn."""

import json
import re
from itertools import product

import pandas as pd
import pytest

from camid_utils import published
from camid_utils.analyses.fingerprints import QUESTIONS
from camid_utils.experiments import CONTRAST_COLUMNS, labels, listed
from camid_utils.intervals import METRIC_COLUMNS
from camid_utils.project import PROJECT
from camid_utils.report import evidence, headlines, ledger, statements, tables
from camid_utils.report.ledger import CANNOT, DIRECTION, NOT, REPRODUCED

CLAIMS = published.read("claims").fillna("").set_index("id", drop=False)
IDS = listed()[lambda table: table["notebook"].between("02", "05")]
SHOWN = IDS[IDS["readme"] != ""].sort_values("readme")
NAMED = {claim: set(re.findall(r"\b(?:experiment|a|b)=([^,: ]+)", rule)) for claim, rule in CLAIMS["rule"].items()}
READ = {claim: set(re.findall(r"\b\d\d_\w+", rule)) for claim, rule in CLAIMS["rule"].items()}
RESULTS = PROJECT / "results" / "default" / "metrics"
needs_results = pytest.mark.skipif(not (RESULTS / "02_metrics.csv").is_file(), reason="no such results published yet")


def small_tables() -> dict[str, pd.DataFrame]:
    """One planted table for each small file."""
    degraded = product(("efficientnet-best", "design-degraded"), ("intact", "jpeg", "scale"))
    traces = product(["design-squashed"], ("intact", "traces destroyed"))
    figures, changes = (
        dict(value=0.9, low=0.8, high=0.95, n=40),
        dict(n=40, change=0.0, change_low=-0.1, change_high=0.1),
    )
    asked = dict(answer="fingerprint", question=QUESTIONS[1], metric="area under the ROC")
    epochs = pd.DataFrame({"epoch": [1, 2, 3], "val_accuracy": [0.1, 0.3, 0.29]})
    rates = {"learning_rate": [0.001, 0.01], "input_range": "0..255", "epochs": 2, "val_loss": 1.5}
    return {
        "02_two_epochs": pd.DataFrame({"run": ["cameraconvnet-patch"], "accuracy_epoch": 7, "loss_epoch": 5}),
        "02_rates": pd.DataFrame(rates),
        "03_epochs": epochs.assign(run="transfer-released-patch"),
        "04_epochs": epochs.assign(run="efficientnet-released"),
        "04_robustness": pd.DataFrame(degraded, columns=["experiment", "kind"]).assign(adapted=False, **changes),
        "04_traces": pd.DataFrame(traces, columns=["experiment", "group"]).assign(**figures | changes),
        "05_fingerprints": pd.DataFrame([asked | figures]),
    }


def plant(folder, changes: dict | None = None, real: bool = False) -> evidence.Evidence:
    """Planted results: all accuracies 0.5 and differences 0.0, intervals 0.1 to each side, unless `changes` differ.

    changes: an experiment or a contrast (a, b) -> (value, half the interval); a small table -> function of that table.
    """
    changes, word = changes or {}, "" if real else "simulated "
    folder.mkdir(parents=True, exist_ok=True)
    for number, ids in IDS.groupby("notebook"):
        data, classes = ("Dresden", 27) if number == "02" else ("FloreView", 39)
        classes, metrics, gaps = classes if real else 16 if number == "05" else 8, [], []
        for name, row in ids.iterrows():
            value, half = changes.get(name, (0.5, 0.1))
            paper = 0.82 if row["table2"] else None
            figures = [value, value - half, value + half, 90, 40, classes, 0, 2, 0.01, paper]
            keys = product(("val", "test"), ("patch", "photo"), ("accuracy", "log loss"))
            metrics += [[name, word + data, "scene", *key, *figures] for key in keys]
            for base in row["baseline"].split():
                gap, half = changes.get((name, base), (0.0, 0.1))
                ends = [gap, gap - half, gap + half, 40, 70, False]
                gaps.append([name, "scene", base, "scene", word + data, row["level"], *ends])
        pd.DataFrame(metrics, columns=METRIC_COLUMNS).to_csv(folder / f"{number}_metrics.csv", index=False)
        pd.DataFrame(gaps, columns=CONTRAST_COLUMNS).to_csv(folder / f"{number}_contrasts.csv", index=False)
    for name, table in small_tables().items():
        changes.get(name, lambda same: same)(table).to_csv(folder / f"{name}.csv", index=False)
    record = {f"{word}{name}": {"devices": 46, "brands": 11} for name in ("Dresden", "FloreView")}
    (folder / "datasets.json").write_text(json.dumps(record))
    return evidence.read(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The metrics of planted results, for reading only."""
    plant(path := tmp_path_factory.mktemp("planted"))
    return path


@pytest.fixture(scope="module")
def simulated(folder) -> evidence.Evidence:
    """The evidence of the planted results, for reading only."""
    return evidence.read(folder)


def test_a_folder_without_metrics_names_the_notebook_to_run(folder, tmp_path):
    assert list(tables.read_metrics(folder)["experiment"].unique()) == list(IDS.index)
    assert len(tables.read_contrasts(folder)) == IDS["baseline"].str.split().str.len().sum()
    (tmp_path / "02_metrics.csv").touch()
    with pytest.raises(FileNotFoundError, match="no metrics of notebook 03 in .*: run that notebook"):
        tables.read_metrics(tmp_path)


def test_table_2_shows_each_figure_beside_the_papers_whatever_the_order_of_rows(folder):
    metrics = tables.read_metrics(folder)
    metrics.loc[metrics["level"] == "photo", "value"] = 0.55
    metrics.loc[metrics["part"] == "val", "value"] = 0.99
    table = tables.table2(metrics.sample(frac=1, random_state=0))
    assert list(table["paper"]) == [0.8189, 0.59, 0.302, 1.73, 0.82, 1.03]
    assert list(table["metric"])[::2] == ["accuracy per patch", "accuracy per patch", "accuracy per photo"]
    shown = ["50.0 % (40.0 to 60.0)", "0.500 (0.400 to 0.600)", "55.0 % (40.0 to 60.0)"]
    assert table["test"][[0, 1, 4]].tolist() == shown
    assert list(table["data"])[::2] == [f"simulated {name}, scene" for name in ("Dresden", "FloreView", "FloreView")]


@pytest.mark.parametrize("level", ["patch", None])
def test_accuracy_rows_are_test_accuracies_with_label_protocol_and_the_papers_figure(folder, level):
    rows = tables.accuracy_rows(tables.read_metrics(folder), level).set_index("experiment")
    assert list(rows.index) == list(IDS.index) and set(rows["part"]) == {"test"} and set(rows["group"]) == {"scene"}
    assert (rows["level"] == (level or IDS["level"])).all() and (rows["label"] == IDS["label"]).all()
    assert (rows["published"].notna() == (IDS["table2"] != "")).all()


def test_a_contrast_table_says_what_is_compared_and_its_verdict(tmp_path):
    plant(tmp_path, {("design-rotated", "design-base"): (0.123, 0.05), ("design-linear", "design-base"): (-0.2, 0.1)})
    table = tables.contrast_table(tables.read_contrasts(tmp_path)).set_index("A")
    assert table["A is"]["rotated (scene)"] == "higher" and table["A is"]["head without ReLUs (scene)"] == "lower"
    assert table.loc["rotated (scene)", ["B", "photos", "A - B, points (95 %)"]].tolist() == [
        "base: native crops, pretrained (scene)", "40 and 70", "+12.3 (+7.3 to +17.3)"]  # fmt: skip


def test_the_summary_figure_gets_each_change_with_the_accuracy_it_starts_from(tmp_path):
    plant(tmp_path, {"cameraconvnet-patch": (0.6, 0.1), ("cameraconvnet-scene", "cameraconvnet-patch"): (-0.2, 0.05)})
    rows = ledger.summary_rows(tables.read_metrics(tmp_path), tables.read_contrasts(tmp_path))
    places = (rows["panel"] + 1).astype(str) + " " + rows["role"]
    assert list(places) == [place for place in IDS["panel"] if place.endswith(("change", "control"))]
    scene = rows.set_index("label").loc[labels()["cameraconvnet-scene"]]
    figures = ["difference", "low", "high", "baseline_accuracy"]
    assert scene[figures].tolist() == pytest.approx([-0.2, -0.25, -0.15, 0.6])
    baseline = f"{labels()['cameraconvnet-patch']} (scene), per patch"
    assert scene[["photos", "photos_b", "baseline_label"]].tolist() == [40, 70, baseline]


ROW = "02_metrics experiment=cameraconvnet-patch,part=test,level=patch,metric=accuracy"
STATEMENTS = [
    ("05_fingerprints: low > 0.5 and high < 1", True),
    ("04_contrasts a=design-scratch,b=design-base: undecided", True),
    ("04_contrasts a=design-scratch,b=design-base: not undecided", False),
    ("04_contrasts b=design-base: 9 rows", True),
    (f"{ROW}: value > 0.5", False),
    (f"{ROW} vs level=photo: value == other_value", True),
    (f"{ROW} vs 03_metrics experiment=transfer-released-patch: low > other_high", False),
    (f"{ROW} vs table2 model=CameraConvNet, from scratch: high < other_val_accuracy", True),
    ("04_robustness kind!=intact: change lower in no rows", True),
    ("04_robustness: experiment == 'efficientnet-best' in some rows", True),
    ("04_robustness: kind == 'intact' in most rows", False),
]
UNREADABLE = [
    ("09_metrics: 1 row", "a row that is not in"),
    ("04_contrasts colour=red: lower", "has no column 'colour'"),
    ("04_contrasts is lower", "does not have the form"),
    ("04_contrasts: colour > 1", "'colour' is not defined"),
    ("04_contrasts: 2 * low", "is not a comparison"),
    ("04_contrasts: change lower", "change_low"),
]


def test_a_sentence_that_its_tables_do_not_support_is_a_problem(folder, tmp_path):
    tags = [statement for statement, _ in STATEMENTS + UNREADABLE]
    cells = [{"metadata": {}}, *({"metadata": {"rests_on": [tag]}} for tag in tags)]
    (tmp_path / "04_x.ipynb").write_text(json.dumps({"cells": cells}))
    problems = statements.check(tmp_path / "04_x.ipynb", folder)
    wrong = [(n, tag, "does not hold") for n, (tag, true) in enumerate(STATEMENTS, 2) if not true]
    wrong += [(n, tag, said) for n, (tag, said) in enumerate(UNREADABLE, 2 + len(STATEMENTS))]
    for problem, (n, tag, said) in zip(problems, wrong, strict=True):
        assert problem.startswith(f"04_x.ipynb, cell {n}: {tag!r}") and said in problem


def verdict(found: evidence.Evidence, claim: str) -> str:
    return ledger.judge(found, CLAIMS.loc[claim].to_dict())[1]


def gap(a: str, b: str, difference: float) -> dict:
    """Planted difference of two experiments, with a narrow interval; of the transfer where only its recipe is given."""
    return {tuple(name if "-" in name else f"transfer-{name}-strict" for name in (a, b)): (difference, 0.02)}


def robust(kind: str, change: float) -> dict:
    """The network trained on degraded photos is better by `change` under one degradation, give or take 0.02."""

    def set_change(table: pd.DataFrame) -> pd.DataFrame:
        row = (table["kind"] == kind) & (table["experiment"] == "design-degraded")
        table.loc[row, ["change", "change_low", "change_high"]] = [change, change - 0.02, change + 0.02]
        return table

    return {"04_robustness": set_change}


NEW = "cameraconvnet-scene+device"
CASES = [  # claim, changes that support it, changes that do not
    ("settings", {}, {"02_rates": lambda t: t.assign(val_loss=[2.07, 1.0])}),
    ("holds-on-new", gap(NEW, "cameraconvnet-patch", -0.01), gap(NEW, "cameraconvnet-patch", -0.2)),
    ("one-epoch", {"02_two_epochs": lambda t: t.assign(loss_epoch=7)}, {}),
    ("learns-models", {NEW: (0.3, 0.1)}, {NEW: (0.14, 0.1)}),
    ("transfer-drops", {"transfer-released-patch": (0.2, 0.1)}, {}),
    ("transfer-unstable", {"03_epochs": lambda t: t.assign(val_accuracy=[0.3, 0.2, 0.3])}, {}),
    ("filters-do-not-transfer", gap("matched", "random", 0.0), gap("matched", "random", 0.2)),
    ("filters-do-not-transfer", gap("matched", "random", 0.2) | gap("matched", "scratch", -0.2), {}),
    ("filters-to-blame", gap("matched", "released", 0.0), gap("matched", "released", 0.2)),
    ("fine-tuned", gap("finetuned", "released", 0.0), gap("finetuned", "released", 0.2)),
    ("dresden-start-helps", gap("finetuned", "scratch", 0.1), gap("finetuned", "scratch", -0.1)),
    ("wide-margin", {"efficientnet-released": (0.8, 0.1)}, {}),
    ("matches-dresden", {"efficientnet-released": (0.5, 0.01), "cameraconvnet-patch": (0.51, 0.01)}, {}),
    ("beats-scratch", {"design-squashed": (0.8, 0.1)}, {}),
    ("pretraining-wins", gap("design-scratch", "design-base", -0.2), gap("design-scratch", "design-base", 0.2)),
    ("generalises", {}, gap("design-photo", "design-base", 0.2)),
    ("generalises", {}, {"design-squashed": (0.1, 0.05)}),
    ("stable", {}, {"04_epochs": lambda t: t.assign(val_accuracy=[0.3, 0.2, 0.3])}),
    ("sees-traces", {"04_traces": lambda t: t.assign(change_high=[0.0, -0.1])}, {}),
    ("instances", {"devices-network": (0.7, 0.1)}, {"devices-network": (0.5, 0.1)}),
    ("sensor-noise", {}, {"05_fingerprints": lambda t: t.assign(low=0.45)}),
    ("augmentation-helps", robust("jpeg", 0.4), {}),
    ("augmentation-helps", robust("jpeg", 0.4), robust("intact", 0.4)),
    ("augmentation-helps", robust("jpeg", 0.4), robust("jpeg", -0.4)),
    ("adaptation-helps", gap("adapted", "released", 0.1), gap("adapted", "released", -0.1)),
]


@pytest.mark.parametrize("claim, supports, does_not", CASES, ids=[case[0] for case in CASES])
def test_a_verdict_turns_with_the_figures_and_is_full_only_on_real_photographs(
    claim, supports, does_not, simulated, tmp_path
):
    found = plant(tmp_path, supports) if supports else simulated
    assert verdict(found, claim) == DIRECTION
    assert "simulated" in ledger.judge(found, CLAIMS.loc[claim].to_dict())[0]
    assert verdict(plant(tmp_path, does_not) if does_not else simulated, claim) == NOT
    real = {name: found[name].replace("simulated ", "", regex=True) for name in READ[claim]}
    assert verdict(found | real, claim) == REPRODUCED


PRINTED = [  # claim, experiment, a figure that agrees with the paper's, one that does not
    ("dresden-accuracy", "cameraconvnet-patch", 0.82, 0.7),
    ("close-to-original", "cameraconvnet-patch", 0.94, 0.82),
    ("transfer-loss", "transfer-released-patch", 1.72, 1.5),
    ("efficientnet-accuracy", "efficientnet-released", 0.81, 0.9),
]


@pytest.mark.parametrize("claim, experiment, near, far", PRINTED)
def test_a_printed_figure_is_tested_only_on_nearly_all_the_real_photographs(claim, experiment, near, far, tmp_path):
    assert verdict(plant(tmp_path, {experiment: (near, 0.02)}), claim) == CANNOT
    assert verdict(plant(tmp_path, {experiment: (far, 0.02)}, real=True), claim) == NOT
    found = plant(tmp_path, {experiment: (near, 0.02)}, real=True)
    assert verdict(found, claim) == REPRODUCED
    metrics = f"{IDS['notebook'][experiment]}_metrics"
    assert verdict(found | {metrics: found[metrics].assign(classes=5)}, claim) == CANNOT


DOCUMENTS = [  # claim, its table, verdict on real photographs, a change of the table, verdict then
    ("dresden-photos", "dresden_models", NOT, lambda t: t.assign(photos=[*t["photos"][1:], 190]), REPRODUCED),
    ("dresden-cameras", "dresden_models", REPRODUCED, lambda t: t[1:], NOT),
    ("class-is-brand", "phones", NOT, lambda t: t[:39].assign(brand=range(39)), REPRODUCED),
    ("best-model", "dresden_log", NOT, lambda t: t[t["epoch"] <= 100], REPRODUCED),
    ("web-page", "phones", NOT, lambda t: t.assign(on_page=t["camera_model"]), REPRODUCED),
    ("network", "network", REPRODUCED, lambda t: t.assign(parameters=1), NOT),
    ("floreview-phones", "01_datasets", REPRODUCED, lambda t: t.assign(brands=10), NOT),
    ("floreview-phones", "01_datasets", REPRODUCED, lambda t: t.assign(devices=40), CANNOT),
    ("floreview-classes", "04_metrics", REPRODUCED, lambda t: t.assign(classes=40), NOT),
    ("sensor-noise", "05_fingerprints", REPRODUCED, lambda t: t.assign(low=float("nan")), CANNOT),
]


def test_documents_and_counts_are_judged_by_their_own_tables(simulated, tmp_path):
    real = plant(tmp_path, real=True)
    for claim, table, now, change, then in DOCUMENTS:
        assert verdict(real, claim) == now and verdict(real | {table: change(real[table])}, claim) == then, claim
    for claim, kind in (("floreview-phones", CANNOT), ("floreview-classes", CANNOT), ("dresden-cameras", REPRODUCED)):
        assert verdict(simulated, claim) == kind


@pytest.mark.parametrize("claim", [claim for claim, names in READ.items() if names])
def test_a_claim_without_one_piece_of_its_evidence_names_the_notebook_to_run(claim, simulated):
    for name in NAMED[claim]:
        less = {key: simulated[key][~simulated[key].isin([name]).any(axis=1)] for key in READ[claim]}
        assert verdict(simulated | less, claim) == f"evidence missing: run notebook {IDS.loc[name, 'notebook']}"
    for table in READ[claim]:
        assert verdict(simulated | {table: pd.DataFrame()}, claim) == f"evidence missing: run notebook {table[:2]}"


def test_an_empty_folder_leaves_only_what_documents_say(tmp_path):
    table = ledger.ledger(evidence.read(tmp_path)).set_index("id")
    missing = table["verdict"].str.startswith("evidence missing")
    assert missing.to_dict() == {claim: bool(names) for claim, names in READ.items()}
    assert ((table["ours"] == "") == missing).all() and ledger.counts(table).endswith("evidence missing.")


def test_experiments_csv_says_which_claims_an_experiment_is_evidence_for():
    evidence_for = {name: set(text.split()) for name, text in IDS["claim"].items()}
    for claim, names in NAMED.items():
        assert names <= {name for name, claims in evidence_for.items() if claim in claims}, claim
    for name, claim in ((name, claim) for name, claims in evidence_for.items() for claim in claims - {""}):
        assert any(table.startswith(IDS["notebook"][name]) for table in READ[claim]), (name, claim)


def test_links_to_headings_have_only_characters_that_a_link_takes_as_they_are():
    assert CLAIMS["heading"].str.fullmatch(r"[\w '?-]+").all()


def test_the_page_escapes_text_links_verdicts_and_counts_them(simulated):
    table = ledger.ledger(simulated)
    assert sum(map(int, re.findall(r"(\d+) (?!claims)", ledger.counts(table)))) == len(table) == 36
    page = ledger.styled(table.head(2).assign(claim="a < b")).to_html()
    assert "a &lt; b" in page and f'<a href="{table["link"][0]}">' in page
    assert table["link"][0] == "01_photographs.ipynb#Photos-per-camera-model"
    assert ledger.COLOURS[NOT] in page and ledger.COLOURS[DIRECTION] not in page


def test_the_readme_shows_both_profiles_beside_the_paper(tmp_path):
    page, text = tmp_path / "README.md", "# Title\n<!-- results -->\nold\n<!-- /results -->\nend\n"
    page.write_text(text)
    headlines.update(page, tmp_path)
    assert page.read_text() == text  # no results, no change
    plant(tmp_path / "default" / "metrics")
    headlines.update(page, tmp_path)
    assert "`full`" not in page.read_text() and "| **50.0 %** (40.0 to 60.0) | 40 photos, " in page.read_text()
    plant(tmp_path / "full" / "metrics", {name: (0.6, 0.1) for name in IDS.index})
    _, _, head, _, *rows, last, end = headlines.filled(page.read_text(), tmp_path).splitlines()
    assert (last, end) == ("<!-- /results -->", "end")
    assert [row.split(" | ")[0] for row in rows] == [f"| {label}" for label in SHOWN["label"]] and len(rows) <= 6
    assert {row.count("|") for row in (head, *rows)} == {7} and "| ours, `default` | ours, `full` |" in head
    ours = "**50.0 %** (40.0 to 60.0) | **60.0 %** (50.0 to 70.0)"
    assert f"| `scene` | 82.0 % | {ours} | patches of 40 and 40 photos, simulated Dresden |" in rows[0]
    assert f"| `scene` | not tested | {ours} | 40 and 40 photos, simulated FloreView |" in rows[-1]
    with pytest.raises(ValueError, match="<!-- results -->"):
        headlines.filled("# Title\n", tmp_path)


@needs_results
def test_the_readme_says_what_the_published_results_say():
    """Where this fails: python -m camid_utils.report.headlines."""
    text = headlines.README.read_text(encoding="utf-8")
    assert headlines.filled(text) == text
    assert headlines.filled(text.replace("<!-- /results -->", "a row that nobody measured\n<!-- /results -->")) == text


RUNS = [(0.0, "here", headlines.BITWISE), (0.01, "here", headlines.NO), (0.025, "elsewhere", headlines.WITHIN)]


@pytest.mark.parametrize("change, machine, kind", RUNS)
def test_a_run_agrees_to_the_bit_on_one_machine_and_within_the_seeds_spread_elsewhere(change, machine, kind, tmp_path):
    theirs, ours = tmp_path / "published", tmp_path / "run"
    for path, value, where in ((theirs, 0.5, "here"), (ours, 0.5 + change, machine)):
        plant(path / "metrics", {name: (value, 0.1) for name in IDS.index})
        (path / "run.json").write_text(json.dumps({"environment": {"platform": where}}))
    table = headlines.compare(theirs, ours, theirs)
    assert set(table["experiment"]) == set(SHOWN["label"]) and (table["agreement"] == kind).all()
    assert headlines.in_words(table).endswith(f"agreement: {len(SHOWN)} {kind}")
    (ours / "metrics" / "02_metrics.csv").unlink()  # a figure that is missing does not agree
    table = headlines.compare(theirs, ours, tmp_path / "no seeds").set_index("experiment")
    assert (table["agreement"][SHOWN.loc[SHOWN["notebook"] == "02", "label"]] == headlines.NO).all()
    others = table["agreement"][SHOWN.loc[SHOWN["notebook"] != "02", "label"]]
    assert (others == (kind if machine == "here" else headlines.UNKNOWN)).all()
