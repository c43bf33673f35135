"""Plans keep labels and classes together; compared plans have the same classes and as many training patches."""

import numpy as np
import pandas as pd
import pytest

from camid_utils import catalogues, planning
from camid_utils.splits import PROTOCOLS

MODELS = ["Acme_A", "Acme_B", "Bolt_C"]


@pytest.fixture
def with_single(patch_table) -> pd.DataFrame:
    """Three models with two devices, and first in the alphabet and in the table one with a single device."""
    return pd.concat([patch_table(devices=1, names=["Aa_X"]), patch_table()], ignore_index=True)


def shuffled(table: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The table with its rows in another order, and the former position of each."""
    order = np.random.default_rng(1).permutation(len(table))
    return table.iloc[order].reset_index(drop=True), order


def count_classes(table: pd.DataFrame, plan: planning.Plan) -> dict[str, int]:
    """Training rows of each class."""
    return table["camera_model"].iloc[plan.rows("train")].value_counts().sort_index().to_dict()


def labels_are_right(table: pd.DataFrame, plan: planning.Plan) -> bool:
    used = plan.part != "unused"
    named = np.array(plan.class_names)[plan.labels[used]] == table[plan.target][used]
    return bool(named.all() and (plan.labels[~used] == -1).all())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_plan_gives_each_row_its_own_class_and_part_whatever_the_order(patch_table, protocol):
    table = patch_table()
    plan = planning.plan(table, protocol, seed=3)
    assert (plan.protocol, plan.target, plan.seed) == (protocol, "camera_model", 3)
    assert plan.note == "every class is in every part" and plan.class_names == MODELS and labels_are_right(table, plan)
    for part in ("train", "val", "test"):
        assert set(plan.labels[plan.rows(part)]) == {0, 1, 2} and (plan.part[plan.rows(part)] == part).all()
    other, order = shuffled(table)
    moved = planning.plan(other, protocol, seed=3)
    assert (plan.part[order] == moved.part).all() and (plan.labels[order] == moved.labels).all()


def test_a_protocol_that_the_data_do_not_allow_is_replaced_and_the_note_says_so(patch_table):
    plan = planning.plan(patch_table(devices=1), "scene+device", 0)
    assert plan.protocol == "scene" and plan.class_names == MODELS
    assert "scene+device can split 0 of 3 classes" in plan.note and "used instead: scene" in plan.note


def test_each_seed_has_another_split_and_the_same_classes(patch_table):
    table = patch_table()
    found = planning.plans(table, "photo", seed=5, seeds=3)
    assert [plan.seed for plan in found] == [5, 6, 7] and all(plan.class_names == MODELS for plan in found)
    assert len({tuple(plan.part) for plan in found}) == 3
    alone = planning.plan(table, "photo", 6)
    assert (found[1].part == alone.part).all() and (found[1].labels == alone.labels).all()
    (devices,) = planning.plans(table, "scene", 0, target="device")
    assert len(devices.class_names) == 6 and labels_are_right(table, devices)


@pytest.mark.parametrize("protocol", ["patch", "photo", "scene+device"])
def test_at_most_some_patches_per_photo_are_evaluated_and_all_are_trained_on(patch_table, protocol):
    table = patch_table(per_photo=5)
    (whole,) = planning.plans(table, protocol, 0)
    (thin,) = planning.plans(table, protocol, 0, evaluate=2)
    assert (thin.rows("train") == whole.rows("train")).all()
    for part in ("val", "test"):
        rows = pd.Series(whole.rows(part))
        first = rows.groupby(table["photo"].to_numpy()[rows]).head(2)
        assert len(first) < len(rows) and thin.rows(part).tolist() == first.tolist()
    assert labels_are_right(table, thin)
    assert (planning.plans(table, protocol, 0, evaluate=5)[0].part == whole.part).all()


def test_compared_plans_train_on_the_same_number_of_patches_of_each_class(patch_table):
    table = patch_table(scenes=10)
    found = planning.matched_plans(table, list(PROTOCOLS), seed=0, seeds=2)
    asked = {name: [(plan.protocol, plan.seed) for plan in own] for name, own in found.items()}
    assert asked == {name: [(name, 0), (name, 1)] for name in PROTOCOLS}
    alone = {(name, seed): planning.plan(table, name, seed) for name in PROTOCOLS for seed in (0, 1)}
    least = {name: min(count_classes(table, plan)[name] for plan in alone.values()) for name in MODELS}
    for plan in (plan for own in found.values() for plan in own):
        whole = alone[plan.protocol, plan.seed]
        assert count_classes(table, plan) == least and labels_are_right(table, plan)
        assert all((plan.rows(part) == whole.rows(part)).all() for part in ("val", "test"))
        assert np.isin(plan.rows("train"), whole.rows("train")).all()
        left = table["photo"].iloc[plan.rows("train")].value_counts()
        single = left.min() < 4 and len(left) > len(plan.rows("train")) / 4  # patches are set aside, not whole photos
        assert single if plan.protocol == "patch" else (left == 4).all()


def test_training_patches_per_photo_are_limited_before_plans_are_matched(patch_table):
    table = patch_table(scenes=10, per_photo=6)
    found = planning.matched_plans(table, list(PROTOCOLS), seed=0, evaluate=2, train=3)
    for name, (plan,) in found.items():
        most = {part: table["photo"].iloc[plan.rows(part)].value_counts().max() for part in ("train", "val", "test")}
        assert most == {"train": 3, "val": 2, "test": 2}, name
        assert count_classes(table, plan) == count_classes(table, found["photo"][0])
        assert name == "patch" or (table["x"].iloc[plan.rows("train")] < 3 * 48).all()  # the first three of each


def test_photos_with_many_and_with_few_patches_stay_whole_and_no_class_has_more_than_the_poorest(patch_table):
    """Every second photo gave one patch only: a class may have fewer than the poorest, by less than one photo."""
    table = patch_table(scenes=20, per_photo=6)
    small = table["scene"].isin([f"{s}-1" for s in range(0, 20, 2)]) & (table["x"] > 0)
    table = table[~small].reset_index(drop=True)
    photo, strict = (own[0] for own in planning.matched_plans(table, ["photo", "scene+device"], seed=0).values())
    sizes = table["photo"].value_counts()
    kept = table["photo"].iloc[photo.rows("train")].value_counts()
    assert (kept == sizes[kept.index]).all() and set(kept) == {1, 6}
    poorest, reduced = count_classes(table, strict), count_classes(table, photo)
    assert all(0 <= poorest[name] - reduced[name] < 6 for name in MODELS)


def test_photos_set_aside_depend_on_the_seed_and_not_on_the_order_of_the_rows(patch_table):
    table = patch_table(scenes=10)
    other, order = shuffled(table)
    protocols = ["photo", "scene", "device", "scene+device"]
    found, moved = (planning.matched_plans(t, protocols, seed=0, seeds=2) for t in (table, other))
    for name in protocols:
        assert all((a.part[order] == b.part).all() for a, b in zip(found[name], moved[name], strict=True))
    plan, least = planning.plan(table, "photo", 0), pd.Series(20, index=MODELS)
    kept = [planning._reduce_training(table, plan._replace(seed=seed), least).rows("train") for seed in (0, 1)]
    assert len(kept[0]) == len(kept[1]) and set(kept[0]) != set(kept[1])


def test_a_class_that_one_protocol_cannot_serve_is_left_out_of_all_by_name(with_single):
    found = planning.matched_plans(with_single, ["patch", "scene", "scene+device"], seed=0, seeds=2, evaluate=2)
    alone = planning.plan(with_single, "scene+device", 0)
    for plan in (alone, *(plan for own in found.values() for plan in own)):
        assert plan.class_names == MODELS and labels_are_right(with_single, plan)  # no class moved up by one
        assert (plan.part[with_single["camera_model"] == "Aa_X"] == "unused").all()
        assert plan is alone or "only the 3 classes that all compared splits can serve are used" in plan.note
    assert "Aa_X is left out: fewer than 2 devices" in alone.note and alone.note in found["scene+device"][0].note
    assert planning.plan(with_single, "scene", 0).class_names == ["Aa_X", *MODELS]  # alone, scene serves it


def test_a_plan_is_counted_by_part(patch_table):
    table = patch_table()
    counts = planning.plan_table(table, planning.plan(table, "patch", 0))
    assert list(counts.index) == ["train", "val", "test"] and counts["patches"].sum() == len(table)
    assert (counts["photos"] <= 48).all() and counts["photos"].sum() > 48  # leakage: photos in several parts
    strict = planning.plan_table(table, planning.plan(table, "scene+device", 0))
    assert list(strict.index) == ["train", "val", "test", "unused"]
    assert strict.loc["test"].to_dict() == {"patches": 24, "photos": 6, "scenes": 2, "devices": 3}


def test_every_protocol_of_a_catalogue_is_reported(patch_table):
    table = patch_table(per_photo=1).assign(path=lambda t: "root/" + t["photo"], width=64, height=64)
    parts, notes = planning.protocol_parts(table[catalogues.COLUMNS], 0)
    assert list(parts) == ["photo", "scene", "device", "scene+device"] and (notes["classes left out"] == 0).all()
    parts, notes = planning.protocol_parts(table.loc[table["device"].str.endswith("_0"), catalogues.COLUMNS], 0)
    assert list(parts) == ["photo", "scene"] and notes["classes left out"].tolist() == [0, 0, 3, 3]
    assert "fewer than 2 devices" in notes["why"][2]
