"""Plans keep labels and classes together; several tests of one network share its training rows."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import MODELS, patch_table

from camid_utils import catalogues, planning, splits

PROTOCOLS = splits.PROTOCOLS[:-1]  # new collections: tests/test_content.py


@pytest.fixture
def with_single() -> pd.DataFrame:
    """Three models with two devices, and first in the alphabet and in the table one with a single device."""
    return pd.concat([patch_table(devices=1, names=["Aa_X"]), patch_table()], ignore_index=True)


def shuffled(table: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The table with its rows in another order, and the former position of each."""
    order = np.random.default_rng(1).permutation(len(table))
    return table.iloc[order].reset_index(drop=True), order


def labels_are_right(table: pd.DataFrame, plan: planning.Plan) -> bool:
    used = plan.part != "unused"
    named = np.array(plan.class_names)[plan.labels[used]] == table[plan.target][used]
    return bool(named.all() and (plan.labels[~used] == -1).all())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_plan_gives_each_row_its_own_class_and_part_whatever_the_order(protocol):
    table = patch_table()
    plan = planning.plan(table, protocol, seed=3)
    assert (plan.protocol, plan.target, plan.seed) == (protocol, "camera_model", 3)
    assert plan.note == "every class is in every part" and plan.class_names == MODELS and labels_are_right(table, plan)
    for part in ("train", "val", "test"):
        assert set(plan.labels[plan.rows(part)]) == {0, 1, 2} and (plan.part[plan.rows(part)] == part).all()
    other, order = shuffled(table)
    moved = planning.plan(other, protocol, seed=3)
    assert (plan.part[order] == moved.part).all() and (plan.labels[order] == moved.labels).all()
    devices = planning.plan(table, "photo", 0, target="device")
    assert len(devices.class_names) == 6 and labels_are_right(table, devices)


OVERLAP = {  # what each test shares with the training part: patches, photos, scenes, devices
    "patch": (False, True, True, True), "photo": (False, False, True, True), "scene": (False, False, False, True),
    "device": (False, False, True, False), "scene+device": (False, False, False, False),
}  # fmt: skip


def test_one_training_part_is_tested_in_five_ways():
    table = patch_table(scenes=12, per_photo=6)
    table["patch"] = np.arange(len(table))
    found = planning.shared_training(table, "scene+device", seed=0, seeds=2, evaluate=2, train=3)
    assert list(found) == list(PROTOCOLS) and all([plan.seed for plan in own] == [0, 1] for own in found.values())
    for protocol, own in found.items():
        for plan, first, whole in zip(own, found["patch"], planning.plans(table, "scene+device", 0, 2), strict=True):
            assert labels_are_right(table, plan) and plan.protocol == protocol and set(plan.labels) == {-1, 0, 1, 2}
            for part in ("train", "val"):
                assert (plan.rows(part) == first.rows(part)).all() and len(plan.rows(part))
                assert np.isin(plan.rows(part), whole.rows(part)).all()
            most = {p: table["photo"].iloc[plan.rows(p)].value_counts().max() for p in ("train", "val", "test")}
            assert most == {"train": 3, "val": 2, "test": 2}
            train, test = (table.iloc[plan.rows(part)] for part in ("train", "test"))
            shared = [bool({*train[c]} & {*test[c]}) for c in ("patch", "photo", "scene", "device")]
            assert tuple(shared) == OVERLAP[protocol] and set(test["camera_model"]) == set(MODELS)
            assert not {*table["photo"].iloc[plan.rows("val")]} & {*train["photo"], *test["photo"]}
    (strict,) = planning.plans(table, "scene+device", 0, evaluate=2)
    assert (found["scene+device"][0].rows("test") == strict.rows("test")).all()


def test_a_photo_set_aside_has_another_of_its_device_and_scene_in_training_where_a_class_has_such():
    """Acme_A and Acme_B took two photos of each scene, Bolt_C one."""
    first = patch_table(scenes=20)
    second = first[first["camera_model"] != "Bolt_C"]
    table = pd.concat([first, second.assign(photo=second["photo"] + " again")], ignore_index=True)
    for seed in range(10):
        (plan,) = planning.shared_training(table, "scene+device", seed)["photo"]
        train, test = (table.iloc[plan.rows(part)].drop_duplicates("photo") for part in ("train", "test"))
        alone = test.merge(train[["device", "scene"]].drop_duplicates(), how="left", indicator=True)["_merge"] != "both"
        assert set(test.loc[alone.to_numpy(), "camera_model"]) == {"Bolt_C"} and not alone.all()
        sizes = pd.concat([train, test])["camera_model"].value_counts()
        assert (test["camera_model"].value_counts() / sizes).between(0.15, 0.25).all()


def test_what_is_set_aside_depends_on_the_seed_and_not_on_the_order_of_the_rows():
    table = patch_table(scenes=12)
    other, order = shuffled(table)
    found, moved = (planning.shared_training(t, "scene+device", seed=0, seeds=2) for t in (table, other))
    assert list(found) == list(moved) == [name for name in PROTOCOLS if name != "patch"]  # all patches are trained on
    for name in found:
        assert all((a.part[order] == b.part).all() for a, b in zip(found[name], moved[name], strict=True))
    assert {*found["photo"][0].rows("test")} != {*found["photo"][1].rows("test")}


def test_only_the_tests_that_the_data_allow_are_there(with_single):
    single = planning.shared_training(patch_table(scenes=12, devices=1), "scene+device", 0, train=2)
    assert list(single) == ["patch", "photo", "scene"] and single["scene"][0].class_names == MODELS
    assert single["scene"][0].note.startswith("scene+device can split 0 of 3 classes")
    assert "used instead: scene" in single["scene"][0].note
    found = planning.shared_training(with_single, "scene+device", 0, train=2)
    for (plan,) in found.values():
        assert plan.class_names == MODELS and labels_are_right(with_single, plan)  # no class moved up by one
        assert (plan.part[with_single["camera_model"] == "Aa_X"] == "unused").all()
        assert "Aa_X is left out: fewer than 2 devices" in plan.note


def test_a_class_whose_photos_could_not_be_cut_is_named():
    table = patch_table()
    table.attrs["left_out"] = [
        {"photo": "a.jpg", "camera_model": name, "reason": "damaged"} for name in ("Zorn_Z", "Acme_A")
    ]
    assert planning.plan(table, "scene", 0).note == "Zorn_Z is left out: none of its photos can be used"


def test_a_plan_is_counted_by_part():
    table = patch_table()
    counts = planning.plan_table(table, planning.plan(table, "patch", 0))
    assert list(counts.index) == ["train", "val", "test"] and counts["patches"].sum() == len(table)
    assert (counts["photos"] <= 48).all() and counts["photos"].sum() > 48  # leakage: photos in several parts
    strict = planning.plan_table(table, planning.plan(table, "scene+device", 0))
    assert list(strict.index) == ["train", "val", "test", "unused"]
    assert strict.loc["test"].to_dict() == {"patches": 36, "photos": 9, "scenes": 3, "devices": 3}


def test_every_protocol_of_a_catalogue_is_reported():
    table = patch_table(per_photo=1).assign(path=lambda t: "root/" + t["photo"], collection="", width=64, height=64)
    parts, notes = planning.protocol_parts(table[catalogues.COLUMNS], 0)
    assert list(parts) == ["photo", "scene", "device", "scene+device"] and (notes["classes left out"] == 0).all()
    several = table.assign(collection=table["device"], scene=table["device"] + "/" + table["scene"])
    parts, _ = planning.protocol_parts(several[catalogues.COLUMNS], 0)
    assert list(parts) == list(splits.PROTOCOLS[1:])
    parts, notes = planning.protocol_parts(table.loc[table["device"].str.endswith("_0"), catalogues.COLUMNS], 0)
    assert list(parts) == ["photo", "scene"] and notes["classes left out"].tolist() == [0, 0, 3, 3]
    assert "fewer than 2 devices" in notes["why"][2]


def test_only_the_best_patches_of_a_photo_are_used():
    table = patch_table(per_photo=4)
    pixels = np.random.default_rng(0).integers(0, 256, (len(table), 2, 2, 3), np.uint8)
    store = SimpleNamespace(pixels=pixels, table=table)
    plan = planning.plan(table, "scene", 0)
    (best,) = planning.best_patches(store, [plan], lambda patches: patches.mean(axis=(1, 2, 3)), 2)
    used = best.part != "unused"
    assert (best.part[used] == plan.part[used]).all() and (best.labels[~used] == -1).all()
    means = pd.Series(pixels.mean(axis=(1, 2, 3)))
    for photo, own in means.groupby(table["photo"].to_numpy()):
        assert set(own.index[used[own.index]]) == set(own.nlargest(2).index), photo
