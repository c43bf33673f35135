"""Verdicts follow the planted figures: each rule's is reached, and turns when the figures turn."""

import json
import re

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest

from camid_utils import claims, evidence, ledger, plots_ledger, published
from camid_utils.claims import CANNOT, DIRECTION, NOT, REPRODUCED
from camid_utils.evaluation import METRIC_COLUMNS
from camid_utils.experiments import PROJECT

CLAIMS = published.read("claims").fillna("").set_index("id")
FILES = {"cameraconvnet": "02_cameraconvnet_dresden", "equal": "02_cameraconvnet_dresden",
         "transfer": "03_transfer_to_floreview", "design": "04_efficientnet_floreview",
         "efficientnet": "04_efficientnet_floreview", "devices": "04b_individual_instances"}  # fmt: skip
EXPERIMENTS = [
    "cameraconvnet-patch", "equal-patch", "equal-scene+device", "transfer-released-patch", "transfer-released-strict",
    "transfer-scratch-strict", "design-base", "design-squashed", "efficientnet-released", "efficientnet-best",
    "devices-network",
]  # fmt: skip
CONTRASTS = {  # (a, b): level
    **{(f"equal-{one}", "equal-patch"): "patch" for one in ("photo", "scene", "device", "scene+device")},
    **{(f"transfer-{one}-strict", "transfer-released-strict"): "patch"
       for one in ("range", "still", "matched", "finetuned", "random", "scratch", "adapted")},
    **{("transfer-matched-strict", f"transfer-{one}-strict"): "patch" for one in ("random", "scratch")},
    ("transfer-finetuned-strict", "transfer-scratch-strict"): "patch",
    **{(f"design-{one}", "design-base"): "photo" for one in ("squashed", "rotated", "linear", "photo", "scratch")},
}  # fmt: skip


def small_tables() -> dict[str, pd.DataFrame]:
    """One planted table for each small file."""
    epochs = pd.DataFrame({"epoch": [1, 2, 3], "val_accuracy": [0.2, 0.3, 0.29]})
    robust = [
        (experiment, condition, condition.split()[0], False, 0.5, 0.4, 0.6, 40, 0.0, -0.1, 0.1)
        for experiment in ("efficientnet-best", "efficientnet-best-degraded")
        for condition in ("intact", "jpeg 50", "jpeg 90")
    ]
    traces = [("design-squashed", group, 0.5, 0.4, 0.6, 40, 0.0, -0.1, 0.1) for group in ("intact", "traces destroyed")]
    return {
        "02_two_epochs": pd.DataFrame(
            [("equal-patch", 7, 0.5, 1.2, 5, 0.48, 1.1)],
            columns="run accuracy_epoch its_accuracy its_loss loss_epoch accuracy_there loss_there".split(),
        ),
        "02_rates": pd.DataFrame(
            [("a", 0.001, "0..255", 2, 0.2, 1.5), ("b", 0.01, "0..255", 2, 0.2, 1.5)],
            columns="run learning_rate input_range epochs val_accuracy val_loss".split(),
        ),
        "03_epochs": epochs.assign(run="transfer-released-patch"),
        "04_epochs": epochs.assign(run="efficientnet-released"),
        "04_robustness": pd.DataFrame(
            robust, columns="experiment condition kind adapted value low high n change change_low change_high".split()
        ),
        "04_traces": pd.DataFrame(
            traces, columns="experiment group value low high n change change_low change_high".split()
        ),
        "04b_fingerprints": pd.DataFrame(
            [("network", "devices of its camera model", "area under the ROC", 0.5, 0.4, 0.6, 40),
             ("fingerprint", "devices of its camera model", "area under the ROC", 0.9, 0.8, 0.95, 40)],
            columns="answer question metric value low high n".split(),
        ),
    }  # fmt: skip


def plant(folder, changes: dict | None = None, real: bool = False, without: str = "") -> evidence.Evidence:
    """Planted results: all accuracies 0.5 and differences 0.0, intervals 0.1 to each side, unless `changes` says else.

    changes: an experiment, a contrast (a, b) -> (value, half the interval); a small table -> function of that table.
    without: what is left out: an experiment, "a less b" or a small table.
    """
    changes, word = changes or {}, "" if real else "simulated "
    rows: dict[str, list] = {}
    for name in [e for e in EXPERIMENTS if e != without]:
        value, half = changes.get(name, (0.5, 0.1))
        dresden = name.split("-")[0] in ("cameraconvnet", "equal")
        classes = (27 if dresden else 39) if real else 16 if name == "devices-network" else 8
        for part, level, metric in [(p, v, m) for p in ("val", "test") for v in ("patch", "photo") for m in METRICS]:
            values = [name, f"{word}{'Dresden' if dresden else 'FloreView'}", "p", part, level, metric, value,
                      value - half, value + half, 90, 40, classes]  # fmt: skip
            rows.setdefault(FILES[name.split("-")[0]], []).append(dict(zip(METRIC_COLUMNS, values, strict=False)))
    for file, lines in rows.items():
        pd.DataFrame(lines).to_csv(folder / f"{file}.csv", index=False)
    gaps = []
    for (a, b), level in CONTRASTS.items():
        gap, half = changes.get((a, b), (0.0, 0.1))
        data = f"{word}{'Dresden' if a.startswith('equal') else 'FloreView'}"
        row = (a, "p", b, "p", data, level, gap, gap - half, gap + half, 40, 40, True)
        gaps += [row] if f"{a} less {b}" != without and f"{b} less {a}" != without else []
    columns = "a protocol_a b protocol_b dataset level difference low high photos photos_b paired".split()
    pd.DataFrame(gaps, columns=columns).to_csv(folder / "02_contrasts.csv", index=False)
    for name, table in small_tables().items():
        if name != without:
            changes.get(name, lambda same: same)(table).to_csv(folder / f"{name}.csv", index=False)
    counts = {"devices": 46, "brands": 11}
    data = {f"{word}Dresden": counts, f"{word}FloreView": counts}
    if without != "datasets":
        (folder / "datasets.json").write_text(json.dumps(data))
    return evidence.read(folder)


METRICS = ("accuracy", "log loss")


def verdict(found: evidence.Evidence, claim: str) -> str:
    return ledger.judge(found, claim)[1]


def robust(condition: str, change_of: float) -> dict:
    """The network trained on degraded photos is better by this much under one condition, give or take 0.02."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        row = (table["condition"] == condition) & (table["experiment"] == "efficientnet-best-degraded")
        table.loc[row, ["change", "change_low", "change_high"]] = [change_of, change_of - 0.02, change_of + 0.02]
        return table

    return {"04_robustness": change}


def gap(a: str, b: str, difference: float, half: float = 0.02) -> dict:
    return {(a, b): (difference, half)}


def strict(a: str, b: str, difference: float, half: float = 0.02) -> dict:
    return gap(f"transfer-{a}-strict", f"transfer-{b}-strict", difference, half)


def epochs_of(*accuracies: float):
    return lambda table: table.assign(val_accuracy=accuracies)


CASES = [  # claim, changes that bear it out, changes that do not
    ("settings", {}, {"02_rates": lambda t: t.assign(val_loss=[2.07, 1.0])}),
    ("holds-on-new", gap("equal-scene+device", "equal-patch", -0.01), gap("equal-scene+device", "equal-patch", -0.2)),
    ("one-epoch", {"02_two_epochs": lambda t: t.assign(loss_epoch=7)}, {}),
    ("learns-models", {"equal-scene+device": (0.3, 0.1)}, {"equal-scene+device": (0.14, 0.1)}),
    ("transfer-drops", {"transfer-released-patch": (0.2, 0.1)}, {}),
    ("transfer-unstable", {"03_epochs": epochs_of(0.3, 0.2, 0.3)}, {}),
    ("filters-do-not-transfer", strict("matched", "random", 0.0), strict("matched", "random", 0.2)),
    ("filters-do-not-transfer", strict("matched", "random", 0.2) | strict("matched", "scratch", -0.2), {}),
    ("filters-to-blame", strict("matched", "released", 0.0), strict("matched", "released", 0.2)),
    ("fine-tuned", strict("finetuned", "released", 0.0), strict("finetuned", "released", 0.2)),
    ("dresden-start-helps", strict("finetuned", "scratch", 0.1), strict("finetuned", "scratch", -0.1)),
    ("wide-margin", {"efficientnet-released": (0.8, 0.1)}, {}),
    ("matches-dresden", {"efficientnet-released": (0.5, 0.01), "cameraconvnet-patch": (0.51, 0.01)}, {}),
    ("beats-scratch", {"design-squashed": (0.8, 0.1)}, {}),
    ("pretraining-wins", gap("design-scratch", "design-base", -0.2), gap("design-scratch", "design-base", 0.2)),
    ("generalises", {}, gap("design-photo", "design-base", 0.2)),
    ("generalises", {}, {"design-squashed": (0.1, 0.05)}),
    ("stable", {}, {"04_epochs": epochs_of(0.3, 0.2, 0.3)}),
    ("sees-traces", {"04_traces": lambda t: t.assign(change_high=[0.0, -0.1])}, {}),
    ("instances", {"devices-network": (0.7, 0.1)}, {"devices-network": (0.5, 0.1)}),
    ("sensor-noise", {}, {"04b_fingerprints": lambda t: t.assign(low=0.45)}),
    ("augmentation-helps", robust("jpeg 50", 0.4), {}),
    ("augmentation-helps", robust("jpeg 50", 0.4),
     robust("jpeg 50", -0.4)),
    ("adaptation-helps", strict("adapted", "released", 0.1), strict("adapted", "released", -0.1)),
]  # fmt: skip


@pytest.mark.parametrize("claim, bears_out, does_not", CASES, ids=[case[0] for case in CASES])
def test_a_direction_turns_with_the_figures_and_is_full_on_real_photographs(claim, bears_out, does_not, tmp_path):
    assert verdict(plant(tmp_path, bears_out), claim) == DIRECTION
    assert verdict(plant(tmp_path, does_not), claim) == NOT
    if claim != "instances":  # on real data there are more models, so another figure would be needed
        assert verdict(plant(tmp_path, bears_out, real=True), claim) == REPRODUCED
    assert "simulated" in ledger.judge(plant(tmp_path), claim)[0]


@pytest.mark.parametrize(
    "claim, experiment, near, far",
    [
        ("dresden-accuracy", "cameraconvnet-patch", 0.82, 0.7),
        ("dresden-loss", "cameraconvnet-patch", 0.58, 0.7),
        ("close-to-original", "cameraconvnet-patch", 0.94, 0.82),
        ("transfer-accuracy", "transfer-released-patch", 0.31, 0.5),
        ("transfer-loss", "transfer-released-patch", 1.72, 1.5),
        ("efficientnet-accuracy", "efficientnet-released", 0.81, 0.9),
        ("efficientnet-loss", "efficientnet-released", 1.03, 0.9),
    ],
)
def test_a_figure_of_real_photographs_is_tested_on_real_ones_alone(claim, experiment, near, far, tmp_path):
    for value, on_real in ((near, REPRODUCED), (far, NOT)):
        assert verdict(plant(tmp_path, {experiment: (value, 0.02)}, real=True), claim) == on_real
        assert verdict(plant(tmp_path, {experiment: (value, 0.02)}), claim) == CANNOT
    found = plant(tmp_path, {experiment: (near, 0.02)}, real=True)
    found["metrics"]["classes"] = 5
    assert verdict(found, claim) == CANNOT


@pytest.mark.parametrize(
    "claim, table, change",
    [
        ("dresden-photos", "dresden_models", lambda t: t.assign(photos=[*t["photos"][:-1], t["photos"].iloc[-1] + 21])),
        ("class-is-brand", "floreview_models", lambda t: t[:39].assign(camera_model=[f"b{i}_x" for i in range(39)])),
        ("best-model", "dresden_log", lambda t: t[t["epoch"] <= 100]),
        ("web-page", "floreview_models", lambda t: t[t["camera_model"].str.startswith("OnePlus")]),
    ],
)
def test_what_was_published_is_judged_by_its_own_tables(claim, table, change, tmp_path):
    found = plant(tmp_path)
    assert verdict(found, claim) == NOT
    assert verdict(found | {table: change(found[table])}, claim) == REPRODUCED


def test_the_counts_of_the_data_sets(tmp_path):
    found = plant(tmp_path)
    assert [verdict(found, c) for c in ("dresden-cameras", "floreview-phones", "floreview-classes", "network")] == [
        REPRODUCED, CANNOT, CANNOT, REPRODUCED]  # fmt: skip
    assert verdict(found | {"dresden_models": found["dresden_models"][1:]}, "dresden-cameras") == NOT
    assert verdict(found | {"network": found["network"].assign(parameters=1)}, "network") == NOT
    real = plant(tmp_path, real=True)
    assert verdict(real, "floreview-phones") == verdict(real, "floreview-classes") == REPRODUCED
    assert verdict(real | {"datasets": real["datasets"].assign(brands=10)}, "floreview-phones") == NOT
    real["metrics"]["classes"] = 40
    assert verdict(real, "floreview-classes") == NOT


NEEDS = [(claim, need) for claim, needs in CLAIMS["needs"].items() for need in filter(None, needs.split("; "))]


@pytest.mark.parametrize("claim, need", NEEDS, ids=[" without ".join(pair) for pair in NEEDS])
def test_a_claim_without_one_piece_of_its_evidence_names_the_notebook_to_run(claim, need, tmp_path):
    said = verdict(plant(tmp_path, without=need), claim)
    expected = max(evidence.NOTEBOOKS.get(part.split("-")[0], part.split("_")[0]) for part in need.split(" less "))
    assert said == f"evidence missing: run notebook {expected}"


def test_an_empty_folder_has_published_facts_only(tmp_path):
    table = ledger.ledger(evidence.read(tmp_path))
    missing = table["verdict"].str.startswith("evidence missing")
    assert missing.sum() == (CLAIMS["needs"] != "").sum()
    assert (table.loc[missing, "ours"] == "").all() and (table.loc[~missing, "ours"] != "").all()


def test_every_claim_has_a_rule_and_every_rule_a_claim():
    assert CLAIMS.index.is_unique and set(CLAIMS.index) == set(claims.RULES)


def test_every_link_leads_to_a_heading_of_a_notebook():
    for notebook, heading in CLAIMS[["notebook", "heading"]].drop_duplicates().itertuples(index=False):
        path = PROJECT / "notebooks" / f"{notebook}.ipynb"
        assert path.is_file(), path.name
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert re.search(rf"^#+ {re.escape(heading)}$", text, re.M), f"{path.name} has no heading {heading!r}"
        assert re.fullmatch(r"[\w '?]+", heading), "letters that a link takes as they are"


def test_counts_sum_to_the_claims(tmp_path):
    table = ledger.ledger(plant(tmp_path))
    sentence = ledger.counts(table)
    assert sentence.startswith("Of 36 claims: ") and "evidence missing" not in sentence
    assert sum(map(int, re.findall(r"(\d+) (?!claims)", sentence))) == 36
    assert ledger.counts(ledger.ledger(evidence.read(tmp_path / "none"))).endswith("evidence missing.")


def test_the_page_escapes_text_and_links_verdicts(tmp_path):
    table = ledger.ledger(plant(tmp_path)).head(2)
    page = ledger.styled(table.assign(claim="a < b")).to_html()
    assert "a &lt; b" in page and f'<a href="{table["link"][0]}">' in page
    assert table["link"][0] == "01_dataset_exploration.ipynb#Who-took-how-many"
    assert ledger.COLOURS[NOT] in page and ledger.COLOURS[DIRECTION] not in page


def test_a_change_starts_at_its_anchor(tmp_path):
    found = plant(tmp_path, {"equal-patch": (0.6, 0.1), ("equal-scene", "equal-patch"): (-0.2, 0.05)})
    rows = ledger.summary(found["metrics"], found["contrasts"]).query("panel == 0").set_index("label")
    scene = rows.loc["new scenes"]
    assert scene[["start", "value", "low", "high", "difference"]].tolist() == pytest.approx(
        [0.6, 0.4, 0.35, 0.45, -0.2]
    )
    assert rows["value"]["paper, real Dresden"] == 0.8189 and rows["dataset"]["new scenes"] == "simulated Dresden"
    assert rows["value"].notna().all() and list(rows["kind"][:3]) == ["paper", "ours", "anchor"]


@pytest.mark.parametrize("without", ["equal-patch", "equal-scene less equal-patch"])
def test_the_summary_draws_what_is_there_and_names_what_is_not(without, tmp_path):
    found = plant(tmp_path, without=without)
    rows = ledger.summary(found["metrics"], found["contrasts"])
    missing = rows.loc[rows["value"].isna(), "label"]
    assert "new scenes" in set(missing) and len(missing) == (5 if without == "equal-patch" else 1)
    figure = plots_ledger.summary(rows)
    assert all(label in figure.axes[0].get_xlabel().replace("\n", " ") for label in missing)
    assert [len(ax.get_yticks()) for ax in figure.axes] == rows.dropna(subset=["value"]).groupby(
        "panel"
    ).size().tolist()
    plt.close(figure)
