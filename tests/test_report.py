"""Tables, statements, the ledger, the README's table and the agreement of two runs turn when planted figures turn."""

import json
import re
from itertools import product

import pandas as pd
import pytest

from camid_utils import published
from camid_utils.analyses.fingerprints import QUESTIONS
from camid_utils.experiments import CONTRAST_COLUMNS, labels, listed
from camid_utils.intervals import METRIC_COLUMNS, UNDECIDED, UNTRAINED, verdict
from camid_utils.project import PROJECT
from camid_utils.report import headlines, ledger, statements, tables
from camid_utils.report.ledger import CANNOT, CONTRADICTED, MISSING, SETTLED, SUPPORTED

CLAIMS = published.read("claims").fillna("").set_index("id", drop=False)
EMPIRICAL = CLAIMS.index[CLAIMS["part"] == "empirical"]
ALL = listed()
KINDS = {  # of photographs: data sets in place of Dresden and FloreView, their numbers of classes, the strictest test
    "simulated": ("simulated Dresden", "simulated FloreView", 8, 8, "scene+device"),
    "authors": ("Dresden", "FloreView", 27, 39, "scene+device"),
    "public": ("public photographs by cameras", "public photographs by phones", 21, 18, "collection"),
}
ENDS = {"scene+device": "-collection", "collection": "device"}  # what ids end with that are not tested beside it
RULES = CLAIMS["supported"] + "; " + CLAIMS["contradicted"]


def ids_of(kind: str) -> pd.DataFrame:
    """The experiments of notebooks 01 to 05, on public photographs also of 09, that such photographs can test."""
    own = ALL[ALL["notebook"].between("01", "05") | (ALL["notebook"].eq("09") & (kind == "public"))]
    return own[own.index.str.startswith("planted") | ~own.index.str.endswith(ENDS[KINDS[kind][-1]])]


def named(strict: str) -> dict[str, set[str]]:
    """The experiments that each claim's rules name."""
    rules = RULES.str.replace("{strict}", strict, regex=False)
    return {claim: set(re.findall(r"\b(?:experiment|run|a|b)=([^,: ]+)", rule)) for claim, rule in rules.items()}


IDS, NAMED = ids_of("simulated"), named("scene+device")
SHOWN = IDS[IDS["readme"] != ""].sort_values("readme", key=lambda numbers: numbers.astype(int))
READ = {claim: set(re.findall(r"\b\d\d_\w+", rules)) for claim, rules in RULES.items()}
RESULTS = PROJECT / "results" / "full" / "metrics"
needs_results = pytest.mark.skipif(not (RESULTS / "02_metrics.csv").is_file(), reason="no such results published yet")


def planted(kind: str = "simulated") -> dict[str, pd.DataFrame]:
    """Tables of results by name: all accuracies 0.5 and differences 0.0, intervals 0.1 to each side."""
    cameras, phones, many, fewer, strict = KINDS[kind]
    found = {}
    for number, ids in ids_of(kind).groupby("notebook"):
        metrics, gaps = [], []
        for name, row in ids.iterrows():
            data, classes = (phones, fewer) if number > "02" or name.startswith("phones") else (cameras, many)
            data = "simulated Dresden, own scenes" if name.startswith("planted") else data
            data = "public photographs" if number == "09" else data
            protocol = name.rpartition("-")[2].replace("strict", strict).replace("released", "photo")
            known = dict(experiment=name, dataset=data, protocol=protocol, value=0.5, low=0.4, high=0.6, n=90,
                         photos=40, devices=20, scenes=12, collections=7, classes=classes, seed=0, seeds=2,
                         spread=0.01, plateau=True, published=0.82 if row["table2"] else None)  # fmt: skip
            keys = product(("val", "test"), ("patch", "photo"), ("accuracy", "log loss"))
            metrics += [known | dict(zip(("part", "level", "metric"), key, strict=True)) for key in keys]
            levels = ("patch", "photo") if number in ("02", "03") else [row["level"]]
            for base, level in product(row["baseline"].split(), levels):
                figures = [0.0, -0.1, 0.1, 0.5, 40, 70, True, 0.5, UNDECIDED]
                gaps.append([name, protocol, base, "photo", data, level, *figures])
        found[f"{number}_metrics"] = pd.DataFrame(metrics)[METRIC_COLUMNS]
        found[f"{number}_contrasts"] = pd.DataFrame(gaps, columns=[*CONTRAST_COLUMNS, "p_holm", "verdict"])
    figures = dict(value=0.9, low=0.8, high=0.95, n=40)
    change = dict(change=-0.05, change_low=-0.1, change_high=0.0)
    epochs = pd.DataFrame(product(range(3), (1, 2, 3)), columns=["seed", "epoch"]).assign(val_accuracy=0.3)
    asked = dict(source="photos", question=QUESTIONS[1], metric="area under the ROC", dataset=phones)
    rates = {"learning_rate": [0.001, 0.001, 0.01], "epochs": 2, "left_start": False, "plateau": False}
    traces = {"experiment": "design-squashed", "group": ["intact", "traces destroyed"]}
    return found | {
        "02_rates": pd.DataFrame(rates),
        "03_epochs": epochs.assign(run="transfer-released-patch"),
        "04_epochs": epochs.assign(run="efficientnet-released"),
        "04_traces": pd.DataFrame(traces).assign(**figures, **change),
        "05_fingerprints": pd.DataFrame([asked | figures]),
    }


def turned(found: dict[str, pd.DataFrame], changes: dict) -> dict[str, pd.DataFrame]:
    """Tables with an experiment or a contrast (a, b) at (value, half the interval), or a table's columns replaced."""
    found = dict(found)
    for key, change in changes.items():
        if isinstance(change, dict):
            found[key] = found[key].assign(**change)
            continue
        kind, columns = ("contrasts", ["a", "b"]) if isinstance(key, tuple) else ("metrics", ["experiment"])
        name = f"{ALL['notebook'][key if kind == 'metrics' else key[0]]}_{kind}"
        table, (value, half) = found[name].copy(), change
        rows = (table[columns] == ([key] if kind == "metrics" else list(key))).all(axis=1)
        ends = [value, value - half, value + half]
        table.loc[rows, ["value" if kind == "metrics" else "difference", "low", "high"]] = ends
        if kind == "contrasts":
            table.loc[rows, "verdict"] = (said := verdict(*ends[1:]))
            table.loc[rows, "p_holm"] = 0.5 if said == UNDECIDED else 0.01
        found[name] = table
    return found


def plant(folder, changes: dict | None = None, kind: str = "simulated") -> statements.Evidence:
    """Write planted results, and read them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in turned(planted(kind), changes or {}).items():
        table.to_csv(folder / f"{name}.csv", index=False)
    known = dict(zip(KINDS[kind][:2], ({"devices": 74, "brands": 14}, {"devices": 46, "brands": 11}), strict=True))
    (folder / "datasets.json").write_text(json.dumps(known))
    found = statements.read(folder)
    size = dict(convnet_width=1.0, efficientnet_backbone="efficientnet_v2_m") if kind == "authors" else {}
    return found | {"size": found["size"].assign(**size)}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> statements.Evidence:
    """Planted results of simulated photographs, for reading only."""
    return plant(tmp_path_factory.mktemp("simulated"))


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> statements.Evidence:
    """The same of the authors' data sets."""
    return plant(tmp_path_factory.mktemp("real"), kind="authors")


@pytest.fixture(scope="module")
def public(tmp_path_factory) -> statements.Evidence:
    """The same of public photographs, with their own strictest test."""
    return plant(tmp_path_factory.mktemp("public"), kind="public")


def test_a_folder_without_metrics_names_the_notebook_to_run(tmp_path):
    plant(tmp_path)
    metrics, contrasts = tables.read_results(tmp_path)
    assert list(metrics["experiment"].unique()) == list(IDS.index)
    declared = set(IDS["baseline"].str.split().explode().dropna().items())
    assert set(contrasts[["a", "b"]].itertuples(index=False, name=None)) == declared
    (tmp_path / "03_metrics.csv").unlink()
    with pytest.raises(FileNotFoundError, match="no metrics of notebook 03 in .*: run that notebook"):
        tables.read_results(tmp_path)


def test_table_2_shows_each_figure_beside_the_papers_and_the_baselines_of_the_same_test(tmp_path):
    plant(tmp_path)
    metrics, _ = tables.read_results(tmp_path)
    metrics.loc[metrics["level"] == "photo", "value"] = 0.55
    metrics.loc[metrics["part"] == "val", "value"] = 0.99
    for name, value in {"phones-header-photo": 0.3, "phones-content-photo": 0.4}.items():
        metrics.loc[(metrics["experiment"] == name) & (metrics["part"] == "test"), "value"] = value
    table = tables.table2(metrics.sample(frac=1, random_state=0))
    assert list(table["paper"]) == [0.8189, 0.59, 0.302, 1.73, 0.82, 1.03]
    assert list(table["metric"])[::2] == ["accuracy per patch", "accuracy per patch", "accuracy per photo"]
    shown = ["50.0 % (40.0 to 60.0)", "0.500 (0.400 to 0.600)", "55.0 % (40.0 to 60.0)"]
    assert table["test"][[0, 1, 4]].tolist() == shown
    tests = ["Dresden, patch", "FloreView, patch", "FloreView, photo"]
    assert list(table["data"])[::2] == [f"simulated {test}" for test in tests]
    assert [text[:4] for text in table["header alone"]] == ["", "", "", "", "30.0", ""]
    assert [text[:4] for text in table["content alone"]] == ["55.0", "", "", "", "40.0", ""]


@pytest.mark.parametrize("level", ["patch", None])
def test_accuracy_rows_are_test_accuracies_with_label_protocol_and_the_papers_figure(tmp_path, level):
    plant(tmp_path)
    rows = tables.accuracy_rows(tables.read_results(tmp_path)[0], level).set_index("experiment")
    assert list(rows.index) == list(IDS.index) and set(rows["part"]) == {"test"}
    assert (rows["level"] == (level or IDS["level"])).all() and (rows["label"] == IDS["label"]).all()
    assert (rows["published"].notna() == (IDS["table2"] != "")).all() and rows["group"].equals(rows["protocol"])


def test_a_contrast_table_says_what_is_compared_and_its_verdict(tmp_path):
    plant(tmp_path, {("design-rotated", "design-base"): (0.123, 0.05)})
    contrasts = tables.read_results(tmp_path)[1]
    table = tables.contrast_table(contrasts).set_index("A")
    assert table["A is"]["rotated (rotated)"] == "higher" and table["A is"]["head without ReLUs (linear)"] == UNDECIDED
    assert table.loc["rotated (rotated)", ["B", "photos", "A - B, points (95 %)"]].tolist() == [
        "base: native crops, pretrained (photo)", "40 and 70", "+12.3 (+7.3 to +17.3)"]  # fmt: skip
    rows = (table.index == "rotated (rotated)") | (table.index == "head without ReLUs (linear)")
    assert not rows[0]  # some rows of a larger table: each keeps its own numbers
    pd.testing.assert_frame_equal(tables.contrast_table(contrasts[rows]).set_index("A"), table[rows])


def test_the_summary_figure_gets_each_change_with_the_accuracy_it_starts_from(tmp_path):
    plant(tmp_path, {"cameraconvnet-patch": (0.6, 0.1), ("cameraconvnet-scene", "cameraconvnet-patch"): (-0.2, 0.05)})
    rows = ledger.summary_rows(*tables.read_results(tmp_path))
    places = (rows["panel"] + 1).astype(str) + " " + rows["role"]
    assert list(places) == [place for place in IDS["panel"] if place.endswith(("change", "control"))]
    scene = rows.set_index("label").loc[labels()["cameraconvnet-scene"]]
    figures = ["difference", "low", "high", "baseline_accuracy"]
    assert scene[figures].tolist() == pytest.approx([-0.2, -0.25, -0.15, 0.6])
    baseline = f"{labels()['cameraconvnet-patch']} (photo), per patch"
    assert scene[["photos", "photos_b", "baseline_label", "verdict"]].tolist() == [40, 70, baseline, "lower"]


ROW = "02_metrics experiment=cameraconvnet-patch,part=test,level=patch,metric=accuracy"
STATEMENTS = [
    ("05_fingerprints: low > 0.5 and high < 1", True),
    ("04_contrasts a=design-scratch,b=design-base: undecided", True),
    ("04_contrasts a=design-scratch,b=design-base: higher", False),
    (f"{ROW}: value > 0.5", False),
    (f"{ROW}: 1 row", True),
    (f"{ROW} vs level=photo: value == other_value", True),
    (f"{ROW} vs 03_metrics experiment=transfer-released-patch: low > other_high", False),
    (f"{ROW} vs table2 model=CameraConvNet, from scratch: high < other_val_accuracy", True),
    ("04_traces group!=intact: change_high < 0 in no rows", True),
    ("04_traces: group == 'intact' in some rows", True),
    ("04_traces: group == 'intact' in most rows", False),
]
UNREADABLE = [
    ("10_metrics: 1 row", "10"),  # the notebook to run
    ("04_contrasts colour=red: lower", "has no column 'colour'"),
    ("04_contrasts is lower", "does not have the form"),
    ("04_contrasts: colour > 1", "'colour' is not defined"),
    ("04_contrasts: 2 * low", "is not a comparison"),
    ("03_epochs: lower", "low"),
    ("04_contrasts a=design-linear vs 04_metrics experiment=design-base: low > other_low", "rows of 04_metrics"),
]


@pytest.mark.parametrize("statement, true", STATEMENTS)
def test_a_statement_is_true_or_not(statement, true, simulated):
    assert statements.evaluate(simulated, statement)[1] == true


@pytest.mark.parametrize("statement, reason", UNREADABLE)
def test_a_statement_that_cannot_be_read_says_why(statement, reason, simulated):
    with pytest.raises((LookupError, NameError, ValueError), match=reason):
        statements.evaluate(simulated, statement)


def claim_of(found: statements.Evidence, claim: str) -> dict[str, str]:
    return ledger.claims(found).set_index("id", drop=False).loc[claim].to_dict()


def judged(found: statements.Evidence, claim: str) -> str:
    return ledger.judge(found, claim_of(found, claim))[1]


def gap(a: str, b: str, difference: float) -> dict:
    """Planted difference of two experiments, with a narrow interval; of the transfer where only its recipe is given."""
    return {tuple(name if "-" in name else f"transfer-{name}-strict" for name in (a, b)): (difference, 0.02)}


LEAK = ("cameraconvnet-scene+device", "cameraconvnet-patch")
PUBLIC_LEAK = ("cameraconvnet-collection", "cameraconvnet-photo")
PLANTED = gap("planted-scene+device", "planted-patch", -0.5)
CONTENT = gap("content-scene+device", "cameraconvnet-scene+device", -0.2)
RECIPES = gap("matched", "random", 0) | gap("range", "released", 0) | gap("matched", "released", 0)
BASE, SCRATCH, ONE_FALLS = "design-base", "transfer-scratch-strict", [0.1] * 3 + [0.0] * 6
CASES = [  # claim, changes that support it, that contradict it, that leave it undecided
    ("settings", {"02_rates": dict(left_start=[True, False, False])}, {"02_rates": dict(plateau=True)}, {}),
    ("holds-on-new", gap(*LEAK, 0.0) | PLANTED, gap(*LEAK, -0.2), gap(*LEAK, 0.0)),
    ("holds-on-new", gap(*LEAK, 0.0) | PLANTED, gap(*LEAK, -0.08), gap(*LEAK, -0.05) | PLANTED),
    ("learns-models", CONTENT, {LEAK[0]: (0.05, 0.02)}, {}),
    ("transfer-drops", {"transfer-released-patch": (0.2, 0.1)}, {"transfer-released-patch": (0.7, 0.1)}, {}),
    ("filters-do-not-transfer", gap("matched", "random", 0), gap("matched", "random", 0.2), gap("native", "random", 0)),
    ("filters-to-blame", RECIPES | gap("thawed", "released", 0.2), gap("range", "released", 0.2), RECIPES),
    ("fine-tuned", gap("thawed", "released", 0), gap("thawed", "released", 0.2), gap("thawed", "released", 0.05)),
    ("dresden-start-helps", gap("finetuned", "scratch", 0.1), gap("finetuned", "scratch", -0.1), {}),
    ("wide-margin", {"efficientnet-released": (0.8, 0.1)}, {"efficientnet-released": (0.3, 0.1)}, {}),
    ("superior-network", gap("design-alike", SCRATCH, 0.1), gap("design-alike", SCRATCH, -0.1), {}),
    ("beats-scratch", gap("design-squashed", SCRATCH, 0.1), gap("design-squashed", SCRATCH, -0.1), {}),
    ("pretraining-wins", gap("design-scratch", BASE, -0.2), gap("design-scratch", BASE, 0.2), {}),
    ("generalises", gap("design-photo", BASE, 0.0), gap("design-photo", BASE, 0.2), {}),
    ("generalises", gap("design-photo", BASE, -0.2), {"design-squashed": (0.05, 0.02)}, {}),
    ("sees-traces", {"04_traces": dict(change_high=-0.06)}, {"04_traces": dict(change_low=-0.04)}, {}),
]


@pytest.mark.parametrize("claim, supports, contradicts, open_", CASES, ids=[case[0] for case in CASES])
def test_a_verdict_turns_with_the_figures(claim, supports, contradicts, open_, simulated, real, public):
    for changes, kind in ((supports, SUPPORTED), (contradicts, CONTRADICTED), (open_, UNDECIDED)):
        words, said = ledger.judge(turned(simulated, changes), claim_of(simulated, claim))
        assert said == kind and words.endswith("on simulated photographs")
        for photographs, own in ((real, changes), (public, {in_new_collections(key): changes[key] for key in changes})):
            words, said = ledger.judge(turned(photographs, own), claim_of(photographs, claim))
            assert said == kind and ("simulated" in words) == (claim == "holds-on-new")
            assert words.endswith("the planted leak is simulated") == (claim == "holds-on-new")


def in_new_collections(key: str | tuple[str, str]) -> str | tuple[str, str]:
    """An experiment or a contrast in the strictest test of public photographs; the planted leak stays as it is."""
    if isinstance(key, tuple):
        return PUBLIC_LEAK if key == LEAK else tuple(map(in_new_collections, key))
    return key if key.startswith("planted") else key.replace("scene+device", "collection")


def test_the_strictest_test_is_that_of_the_photographs(simulated, public):
    for found, strict in ((simulated, "scene+device"), (public, "collection")):
        words, _ = ledger.judge(found, claim_of(found, "learns-models"))
        assert words.startswith(ALL["label"][f"cameraconvnet-{strict}"]) and f"(({strict})"[1:] in words
    weaker = simulated["02_metrics"].query("experiment != 'cameraconvnet-scene+device'")
    assert "cameraconvnet-device," in claim_of({"02_metrics": weaker}, "learns-models")["supported"]
    assert not RULES.drop(["holds-on-new", "learns-models"]).str.contains("scene|{strict}").any()


def test_claims_about_the_authors_data_sets_are_not_tested_on_other_photographs(public):
    """Not even on as many of them: they are real, but neither Dresden nor FloreView."""
    many = {f"0{n}_metrics": dict(classes=50) for n in (2, 3, 4)}
    for claim in EMPIRICAL[CLAIMS.loc[EMPIRICAL, "testable"] != ""].drop("sensor-noise"):
        assert judged(public, claim) == judged(turned(public, many), claim) == CANNOT, claim
    assert ledger.judge(public, claim_of(public, "floreview-phones"))[0].endswith("; public photographs by phones")
    assert judged(public, "sensor-noise") == SUPPORTED
    assert not ledger.ledger(public)["verdict"].str.startswith(MISSING).any()


def test_every_claim_is_tested_and_none_rests_on_a_run_without_a_plateau(simulated):
    assert {case[0] for case in CASES} == {*EMPIRICAL[CLAIMS.loc[EMPIRICAL, "testable"] == ""]}
    for claim, supports, *_ in CASES:
        found = turned(simulated, supports)
        for name in NAMED[claim] & {*IDS.index}:
            read = READ[claim] & {*found}
            short = {key: dict(plateau=found[key]["plateau"] & ~found[key].isin([name]).any(axis=1)) for key in read}
            words, said = ledger.judge(turned(found, short), claim_of(found, claim))
            assert said == UNDECIDED and words.endswith(UNTRAINED), (claim, name)


def test_tables_of_epochs_get_the_plateau_of_their_run_and_the_largest_fall_of_each_seed(tmp_path):
    short = planted()["04_metrics"].eval("plateau = experiment != 'efficientnet-released'")
    jumps = dict(val_accuracy=[0.3, 0.35, 0.25, *[0.3] * 5, 0.4])
    found = plant(tmp_path, {"04_metrics": {"plateau": short["plateau"]}, "04_epochs": jumps})
    assert found["04_epochs"]["fall"].tolist() == pytest.approx([0.1] * 3 + [0.0] * 6)
    assert not found["04_epochs"]["plateau"].any() and found["03_epochs"]["plateau"].all()
    assert judged(found, "wide-margin") == UNDECIDED


PRINTED = [  # claim, experiment, a figure that agrees with the paper's, one that does not, one that leaves it open
    ("dresden-accuracy", "cameraconvnet-patch", 0.82, 0.7, 0.86),
    ("transfer-loss", "transfer-released-patch", 1.72, 1.5, 1.56),
    ("efficientnet-accuracy", "efficientnet-released", 0.81, 0.9, 0.87),
]


@pytest.mark.parametrize("claim, experiment, near, far, between", PRINTED)
def test_a_printed_figure_is_tested_only_on_nearly_all_the_real_photographs(
    claim, experiment, near, far, between, simulated, real
):
    for value, kind in ((near, SUPPORTED), (far, CONTRADICTED), (between, UNDECIDED)):
        changes = {experiment: (value, 0.02)}
        assert judged(turned(real, changes), claim) == kind and judged(turned(simulated, changes), claim) == CANNOT
    assert judged(turned(real, {f"{IDS['notebook'][experiment]}_metrics": dict(classes=23)}), claim) == CANNOT
    smaller = dict(convnet_width=0.125, efficientnet_backbone="efficientnet_lite0")
    assert judged(turned(real, {"size": smaller}), claim) == CANNOT


CURVES = [  # claim, its table, the largest falls that support it, that contradict it, that leave it open
    ("transfer-unstable", "03_epochs", dict(fall=0.1), {}, dict(fall=ONE_FALLS)),
    ("stable", "04_epochs", {}, dict(fall=0.1), dict(seed=0)),
]


@pytest.mark.parametrize("claim, table, supports, contradicts, open_", CURVES)
def test_the_authors_curves_are_tested_only_on_their_data(claim, table, supports, contradicts, open_, simulated, real):
    for change, kind in ((supports, SUPPORTED), (contradicts, CONTRADICTED), (open_, UNDECIDED)):
        assert judged(turned(real, {table: change}), claim) == kind
        assert judged(turned(simulated, {table: change}), claim) == CANNOT


def test_counts_and_sensor_noise_are_judged_on_real_photographs_only(simulated, real):
    assert judged(simulated, "floreview-phones") == judged(simulated, "sensor-noise") == CANNOT
    nan = float("nan")
    for claim, table, kind, columns in (
        ("floreview-phones", "01_datasets", SUPPORTED, {}),
        ("floreview-phones", "01_datasets", CONTRADICTED, dict(brands=10)),
        ("floreview-phones", "01_datasets", CANNOT, dict(devices=40)),  # too few of them to tell
        ("sensor-noise", "05_fingerprints", SUPPORTED, {}),
        ("sensor-noise", "05_fingerprints", CONTRADICTED, dict(low=0.4, high=0.54)),
        ("sensor-noise", "05_fingerprints", UNDECIDED, dict(low=0.4, high=0.6)),
        ("sensor-noise", "05_fingerprints", CANNOT, dict(low=nan, high=nan)),
    ):
        assert judged(turned(real, {table: columns}), claim) == kind, (claim, columns)


AGREE = {"dresden-cameras", "network", "matches-dresden", "web-page"}
TURNED = [  # claim, its table, a change of the table that turns the finding
    ("dresden-photos", "dresden_models", lambda t: t.assign(photos=[*t["photos"][1:], 190])),
    ("dresden-cameras", "dresden_models", lambda t: t[1:]),
    ("class-is-brand", "phones", lambda t: t[:39].assign(brand=range(39))),
    ("instances", "phones", lambda t: t.reindex(range(46))),
    ("floreview-classes", "floreview_models", lambda t: t[1:]),
    ("one-epoch", "dresden_log", lambda t: t.assign(val_loss=0.59)),
    ("best-model", "dresden_log", lambda t: t[t["epoch"] <= 100]),
    ("close-to-original", "others", lambda t: t.assign(figure=0.85)),
    ("matches-dresden", "table2", lambda t: t.assign(val_accuracy=[0.7, 0.3, 0.82])),
    ("web-page", "page", lambda t: t.assign(brand_on_page=t["brand"][::-1].to_numpy())),
    ("network", "network", lambda t: t.assign(parameters=1)),
    *((claim, "disagreements", lambda t: t.assign(released=t["paper"]))
      for claim in ("printed-settings", "relu-head", "optimiser", "logged")),
]  # fmt: skip


@pytest.mark.parametrize("name, profile", [("real photographs", "photographs"), ("simulated cameras", "full")])
def test_the_readme_s_table_of_verdicts_counts_those_of_the_published_ledger(name, profile):
    folder = PROJECT / "results" / profile / "metrics"
    if not folder.is_dir():
        pytest.skip("no run of this profile is published")
    verdicts = pd.read_csv(folder / "10_ledger.csv")["verdict"].value_counts()
    counts = [verdicts.get(kind, 0) for kind in (SUPPORTED, CONTRADICTED, UNDECIDED, CANNOT)]
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert f"| {name} | {' | '.join(map(str, counts))} |" in readme


def test_documents_settle_their_claims_without_any_results(tmp_path):
    (tmp_path / ".4711.02_metrics.csv").touch()  # as a killed run leaves it
    found = statements.read(tmp_path)
    assert {claim for claim, *_ in TURNED} == set(CLAIMS.index) - set(EMPIRICAL)
    for claim, name, change in TURNED:
        before, after = (
            ledger.judge(tables, CLAIMS.loc[claim].to_dict()) for tables in (found, found | {name: change(found[name])})
        )
        words = ("borne out", CONTRADICTED) if claim in AGREE else (CONTRADICTED, "borne out")
        assert before[1] == after[1] == SETTLED
        assert [before[0].split(":")[0], after[0].split(":")[0]] == list(words), claim
    judgements = ledger.ledger(found)
    assert judgements["verdict"].str.startswith(MISSING).equals(judgements["part"] == "empirical")
    assert ledger.counts(judgements) == (
        "Of 39 claims: 15 settled by documents, 24 evidence missing. "
        "The documents contradict 11 of those that they settle."
    )


def test_the_documents_are_one_table_that_begins_with_what_they_settle(tmp_path):
    judgements = ledger.ledger(statements.read(tmp_path))
    page, log = ledger.documents(judgements), published.read("dresden_log").set_index("epoch")
    finding = page["finding on the paper's claim"]
    settled = judgements.loc[judgements["part"] == "documents", "ours"]
    assert all(finding.str.contains(text, regex=False).any() for text in settled)
    assert finding.eq("").is_monotonic_increasing and set(published.read("disagreements")["what"]) < set(page["what"])
    for epoch in (100, 71):  # the row that joins two epochs has the log's figures of both
        accuracy, loss = log.loc[epoch, ["val_accuracy", "val_loss"]]
        assert f"epoch {epoch}: accuracy {accuracy:.2%}, loss {loss}".replace("%", " %") in page["code, log or page"][0]


@pytest.mark.parametrize("claim", EMPIRICAL)
def test_a_claim_without_one_piece_of_its_evidence_names_the_notebook_to_run(claim, simulated):
    rules = claim_of(simulated, claim)
    read = READ[claim] - {"09_contrasts"}  # only of public photographs
    for name in NAMED[claim] & {*IDS.index}:
        less = {key: simulated[key][~simulated[key].isin([name]).any(axis=1)] for key in read}
        assert ledger.judge(simulated | less, rules)[1] in {f"{MISSING} {key[:2]}" for key in read}
    for key in read:
        assert judged(simulated | {key: pd.DataFrame()}, claim) == f"{MISSING} {key[:2]}"


def test_experiments_csv_says_which_claims_an_experiment_is_evidence_for():
    evidence_for = {name: set(text.split()) for name, text in ALL["claim"].items()}
    known = {claim: names | named("collection")[claim] for claim, names in NAMED.items()}
    for claim, names in known.items():
        assert names <= {name for name, claims in evidence_for.items() if claim in claims}, claim
    for name, claim in ((name, claim) for name, claims in evidence_for.items() for claim in claims):
        assert name in known[claim] or f"{ALL['notebook'][name]}_fingerprints" in READ[claim], (name, claim)


def test_the_page_escapes_text_and_links_and_colours_verdicts(simulated):
    assert CLAIMS["heading"].str.fullmatch(r"[\w '?-]+").all()  # a link takes these as they are
    judgements = ledger.ledger(simulated)
    page = ledger.styled(judgements.head(2).assign(claim="a < b")).to_html()
    assert "a &lt; b" in page and f'<a href="{judgements["link"][0]}">settled by documents</a>' in page
    assert judgements["link"][0] == "10_claims.ipynb#Settled-by-documents"
    assert ledger.COLOURS[SETTLED] in page and ledger.COLOURS[UNDECIDED] not in page
    others = published.read("others").fillna("")
    assert others["link"].str.startswith("https://").all() and (others[["split", "classes"]] != "").all(axis=None)
    assert f'<a href="{others["link"][0]}">Baroffio' in ledger.styled(others, "source").to_html()


def test_the_readme_leads_with_real_photographs_and_never_puts_a_simulated_figure_under_them(tmp_path):
    page, text = tmp_path / "README.md", "# Title\n<!-- results -->\nold\n<!-- /results -->\nend\n"
    page.write_text(text)
    names = {kind: ids_of(kind).index for kind in ("public", "simulated")}
    real = {name: (0.7, 0.1) for name in names["public"]} | {"content-patch": (0.3, 0.1), "content-photo": (0.2, 0.1)}

    def table() -> tuple[list[str], dict[str, list[str]]]:
        headlines.update(page, tmp_path)
        title, _, head, _, *rows, _, end = page.read_text().splitlines()
        assert (title, end) == ("# Title", "end")
        head, *rows = (line.strip("| ").split(" | ") for line in (head, *rows))
        return head, {row[0]: row[1:] for row in rows}

    headlines.update(page, tmp_path)
    assert page.read_text() == text  # no results, no change
    plant(tmp_path / "full" / "metrics", {name: (0.6, 0.1) for name in names["simulated"]})
    ours, simulated, content = "**70.0 %** (60.0 to 80.0)", "**60.0 %** (50.0 to 70.0)", "30.0 % (20.0 to 40.0)"
    head, rows = table()
    assert list(rows) == list(SHOWN["label"]) and {(row[2], row[3]) for row in rows.values()} == {("-", "-")}
    first, *_, last = rows.values()
    both = f"{simulated}; per photo 60.0 % (50.0 to 70.0)"  # of networks that see patches
    assert first == ["`patch`", "82.0 %", "-", "-", both, "patches of 40 photos, simulated Dresden"]
    assert last[-1] == "40 photos, simulated FloreView"
    plant(tmp_path / "photographs" / "metrics", real, "public")
    (head_before, table_before), (head, rows) = (head, rows), table()
    assert head == head_before and len(rows) == len(table_before)  # those of all models are in the first table
    assert head[2:6] == ["paper (validation)", "ours, real photographs (`photographs`)", headlines.CONTENT,
                         "ours, simulated (`full`)"]  # fmt: skip
    tested = "patches of 40 photos, public photographs by cameras; patches of 40 photos, simulated Dresden"
    real_both = f"{ours}; per photo 70.0 % (60.0 to 80.0)"
    assert rows.pop(ALL["label"]["cameraconvnet-patch"]) == ["`patch`", "82.0 %", real_both, content, both, tested]
    row = rows.pop("CameraConvNet, new collections (simulated: new scenes and devices)")
    assert row[:2] == ["`collection` (simulated: `scene+device`)", "not tested"]
    assert row[2:5] == [real_both, "70.0 % (60.0 to 80.0)", both]
    assert row[5].startswith("patches of 40 photos from 7 collections, public photographs by cameras; patches of 40 ")
    assert [row[2:5:2] for row in rows.values()] == [[real_both, both]] * 2 + [[ours, simulated]] * 2
    assert rows[ALL["label"]["transfer-released-patch"]][3] == "-"  # content alone has no such test
    fewer = planted("public")["02_metrics"].assign(photos=range(1000, 1000 + len(planted("public")["02_metrics"])))
    fewer.to_csv(tmp_path / "photographs" / "metrics" / "02_metrics.csv", index=False)
    (tmp_path / "photographs" / "metrics" / "04_metrics.csv").unlink()
    rows = list(table()[1].values())
    assert {row[3] for row in rows[:2]} == {"-"}  # content alone of other photos is not shown beside them
    assert [row[2:5] for row in rows[4:6]] == [["-", "-", simulated]] * 2  # what is not tested stays empty
    with pytest.raises(ValueError, match="<!-- results -->"):
        headlines.filled("# Title\n", tmp_path)


METHODS = {"EfficientNet on native crops": "crops", "EfficientNet on squashed photos": "squashed",
           "CameraConvNet": "cameraconvnet", "colour residuals": "colour", "residual features": "residual",
           "header alone": "header",
           "content alone": "content"}  # fmt: skip


@needs_results
@pytest.mark.parametrize("method", [*METHODS, "size alone", "colour residuals, with size"])
def test_the_readme_s_table_of_methods_says_what_notebook_09_found(method):
    folder = PROJECT / "results" / "photographs" / "metrics"
    tables = {name: pd.read_csv(folder / f"09_{name}.csv") for name in ("metrics", "rooms", "bodies", "lists")}
    tables["metrics"] = tables["metrics"].query("part == 'test' and level == 'photo' and metric == 'accuracy'")
    tables |= {group: own for group, own in tables.pop("bodies").groupby("group")}
    tables["rooms"] = tables["rooms"].query("group == 'all new rooms'")
    columns = [("metrics", "photo"), *product(["metrics", "rooms", "known body", "another body"], ["collection"])]
    sized, expected = tables.pop("lists").query("metric == 'accuracy'"), []
    for name, test in columns:
        if method in METHODS:
            own = tables[name].set_index("experiment").loc[f"public-{METHODS[method]}-{test}"]
        elif name == "rooms":
            expected.append("-")
            continue
        else:
            own = sized.set_index(["experiment", "group"]).loc[method, test if name == "metrics" else name]
        expected.append("{:.0f} % ({:.0f} to {:.0f})".format(*(100 * own[["value", "low", "high"]].astype(float))))
    lines = headlines.README.read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"| {method} |"))
    assert [cell.strip() for cell in line.split("|")[3:-1]] == expected


@needs_results
@pytest.mark.parametrize("words, body", [("another body", "another body"), ("a body that training saw", "known body")])
def test_the_readme_s_table_of_the_tool_says_what_notebook_09_found(words, body):
    rates = pd.read_csv(PROJECT / "results" / "photographs" / "metrics" / "09_unknown.csv")
    rates = rates[(rates["rests_on"] == "pixels and size") & (rates["photos"] == f"new collections, {body}")]
    asked = [f"known cameras {what}" for what in ("named correctly", "named wrongly", "refused")]
    own = rates.set_index("question").loc[asked]
    cells = ["{:.0f} % ({:.0f} to {:.0f})".format(*row) for row in 100 * own[["value", "low", "high"]].to_numpy()]
    assert f"| by {words} ({own['n'].iloc[0]}) | {' | '.join(cells)} |" in headlines.README.read_text(encoding="utf-8")


@needs_results
def test_the_readme_says_what_the_published_results_say():
    """Where this fails: python -m camid_utils.report.headlines."""
    text = headlines.README.read_text(encoding="utf-8")
    assert headlines.filled(text) == text
    assert headlines.filled(text.replace("<!-- /results -->", "a row that nobody measured\n<!-- /results -->")) == text


@pytest.mark.parametrize("photographs", ["simulated", "public"])
def test_every_headline_is_compared_and_a_missing_one_does_not_agree(photographs, tmp_path):
    """On another platform than that of the published ones; on the same one: tests/test_study.py."""
    theirs, ours, ids = tmp_path / "published", tmp_path / "run", ids_of(photographs)
    shown = ids[ids["readme"] != ""]
    for path, value in ((theirs, 0.5), (ours, 0.525)):
        plant(path / "metrics", {name: (value, 0.1) for name in ids.index}, photographs)
        (path / "run.json").write_text(json.dumps({"environment": {"platform": path.name}}))
    table = headlines.compare(theirs, ours, theirs)
    assert set(table["experiment"]) == set(shown["label"]) and (table["agreement"] == headlines.WITHIN).all()
    assert headlines.in_words(table).endswith(f"agreement: {len(shown)} {headlines.WITHIN}")
    (ours / "metrics" / "02_metrics.csv").unlink()
    found = headlines.compare(theirs, ours, tmp_path / "no seeds").set_index("experiment")["agreement"]
    for lost, kind in ((True, headlines.NO), (False, headlines.UNKNOWN)):
        assert (found[shown.loc[(shown["notebook"] == "02") == lost, "label"]] == kind).all()
