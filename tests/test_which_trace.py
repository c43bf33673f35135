"""Which trace: pairs of cameras that differ in one step, how well they are told apart, and how strong a step is."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from camid_utils import datasets, planning
from camid_utils.analyses import baselines, which_trace
from camid_utils.evaluation import LOG_PROB
from camid_utils.simulate import build, cameras

NAMES = [f"Base_{name}" for name in cameras.STEPS.index]


def predictions(strength: float, devices: int = 5, scenes: int = 12, seed: int = 0, bias: float = 0) -> pd.DataFrame:
    """Predictions, 3 patches a photo, in which only the demosaicing camera differs, by `strength`."""
    rng, shape = np.random.default_rng(seed), (len(NAMES), devices, scenes, 3)
    true, device, scene, patch = (index.ravel() for index in np.indices(shape))
    logs = rng.normal(size=(len(true), len(NAMES)))
    logs[:, 2] += strength * (true == 2) + bias  # column 2: demosaicing
    table = pd.DataFrame({
        "photo": [f"{t}-{d}-{s}" for t, d, s in zip(true, device, scene, strict=True)], "y": 0, "x": patch,
        "true": np.array(NAMES)[true], "camera_model": np.array(NAMES)[true], "scene": scene.astype(str),
        "device": [f"{t} {d}" for t, d in zip(true, device, strict=True)],
    })  # fmt: skip
    return table.join(pd.DataFrame(log_softmax(logs, axis=1), columns=[LOG_PROB + name for name in NAMES]))


def test_a_planted_step_is_told_apart_and_no_other():
    rows = which_trace.told_apart(predictions(2.0), network="n", degradation="d", plateau=True)
    assert list(rows["step"]) == list(cameras.STEPS["step"][1:]) and set(rows.columns) == {*which_trace.TRACE_COLUMNS}
    rows = rows.set_index("step")
    planted, others = rows.loc["demosaicing"], rows.drop("demosaicing")
    assert planted["low"] > 0.85 and planted["low"] <= planted["value"] <= planted["high"] <= 1
    assert (others["low"] < 0.5).all() and (others["high"] > 0.5).all()
    assert (rows[["n", "devices", "scenes"]] == [120, 10, 12]).all(axis=None)
    weaker = which_trace.told_apart(predictions(0.4)).set_index("step").loc["demosaicing", "value"]
    assert 0.5 < weaker < planted["value"]


def test_one_cell_of_many_must_be_clearer_than_one_alone():
    rows = which_trace.told_apart(predictions(2.0), network="n", degradation="d", plateau=True)
    assert which_trace.judge(rows).set_index("step")["verdict"].eq("higher").sum() == 1  # the planted step
    rows["p"] = np.linspace(0.01, 0.04, len(rows))
    assert (which_trace.judge(rows)["verdict"] == "undecided").all()
    alone = rows.assign(network=rows["step"])  # each a family of its own
    assert (which_trace.judge(alone)["verdict"] != "undecided").all()


def test_a_shift_of_all_answers_of_a_seed_changes_nothing():
    """As degradation may do; a threshold at zero would then fail. Only photos of the same seed are compared."""
    first = predictions(1.0).assign(seed=0)
    before, after = (
        which_trace.told_apart(pd.concat([first, predictions(1.0, seed=1, bias=bias).assign(seed=1)]))
        for bias in (0, 5)
    )
    assert np.allclose(before[["value", "low", "high"]], after[["value", "low", "high"]])


def test_another_seed_of_the_same_photos_is_no_further_trial():
    few = predictions(5.0, devices=1, scenes=3)
    p = [which_trace.told_apart(pd.concat([few.assign(seed=i) for i in range(n)]))["p"].min() for n in (1, 3)]
    assert p == [2 * 0.5**3] * 2


def test_the_interval_is_wider_with_fewer_devices_that_differ():
    widths = []
    for devices in (3, 12):
        table = predictions(0.0, devices, 6)
        shift = np.random.default_rng(1).normal(size=table["device"].nunique())[pd.factorize(table["device"])[0]]
        table[LOG_PROB + NAMES[1]] += shift  # each device has its own bias towards the twin
        twin = which_trace.told_apart(table).set_index("step").loc["nothing"]
        widths.append(twin["high"] - twin["low"])
    assert widths[0] > 1.3 * widths[1]


def test_a_perfect_ranking_still_has_an_interval():
    row = which_trace.told_apart(predictions(50.0, 2, 3)).set_index("step").loc["demosaicing"]
    assert row["value"] == row["high"] == 1 and 0.5 < row["low"] < 0.7  # Wilson's, of 6 of 6
    assert row["p"] == 2 / 2**6


def test_strengths_compare_the_same_scene_view_noise_and_device():
    taken = [which_trace.same_photo(number, 0, (192, 144)) for number in (0, 1)]
    table = which_trace.strengths(taken).set_index("step")
    assert list(table.index) == list(cameras.STEPS["step"][1:]) and (table["photos"] == 2).all()
    assert table.loc["quantisation tables", "before_jpeg"] == 0 and table.loc["quantisation tables", "rms"] > 0.5
    others = table.drop("quantisation tables")
    assert ((others["before_jpeg"] > 0.2) & (table["rms"].drop("quantisation tables") < 20)).all()
    assert table.loc["demosaicing", "changed"] == "demosaic malvar → bilinear"
    assert table.loc["nothing", "changed"] == "only the device"
    gap = np.mean([(own["plain"][1].astype(float) - own["lens"][1]) ** 2 for own in taken])
    assert table.loc["lens", "rms"] == pytest.approx(gap**0.5)
    assert table.loc["lens", "psnr"] == pytest.approx(10 * np.log10(255**2 / gap))


def test_crops_show_the_base_without_difference():
    taken = which_trace.same_photo(0, 0, (192, 144))
    pictures, titles = which_trace.crops(taken, 48, 8)
    assert len(pictures) == len(titles) == 2 * len(NAMES) and {p.shape for p in pictures} == {(48, 48, 3)}
    assert (pictures[len(NAMES)] == 128).all() and np.ptp(pictures[len(NAMES) + 2]) > 50


def test_the_retrained_baseline_sees_photos_degraded_alike(tmp_path, monkeypatch):
    """With features that hold a photo's mean brightness: cameras differ in it, so it is told apart where it is kept."""
    seen = []

    def brightness(store, kind):
        means = pd.DataFrame(store.pixels.reshape(len(store.table), -1).mean(axis=1), columns=["mean"])
        means = means.groupby(store.table["photo"]).mean()
        seen.append(store.folder.name)
        return [means, means]

    monkeypatch.setattr(baselines, "features", brightness)
    monkeypatch.setattr(baselines, "SIDE", 48)
    root = build.simulate("steps", tmp_path / "steps", devices=2, scenes=4, size=(96, 96), workers=1)
    catalogue = datasets.load_steps(root)
    table = catalogue.assign(y=0, x=0)
    plans = planning.plans(table, "scene+device", 0)
    conditions = {"intact": "", "halved": "scale 0.5"}
    rows = which_trace.retrained(catalogue, table, plans, tmp_path / "stores", conditions, 0, network="residual")
    assert list(rows.columns) == which_trace.TRACE_COLUMNS and len(rows) == 2 * (len(NAMES) - 1)
    assert len(set(seen)) == 2 and set(rows["degradation"]) == {"intact", "halved"}
    test = table[plans[0].part == "test"]
    assert (rows["n"] == 2 * (test["camera_model"] == NAMES[0]).sum()).all() and rows["value"].between(0, 1).all()
