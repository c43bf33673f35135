"""Plans keep labels and classes together, and those that are compared have the same classes and as much to train on."""

import numpy as np
import pandas as pd
import pytest

from camid_utils import datasets, patches, planning
from camid_utils.splits import PROTOCOLS

MODELS = ["Acme_A", "Acme_B", "Bolt_C"]


def patch_table(devices=2, scenes=8, per_photo=4, names=MODELS) -> pd.DataFrame:
    """A patch table: every device of every model photographs every scene, `per_photo` patches each."""
    rows = [
        ("Dresden", name.split("_")[0], name, f"{name}_{d}", f"{s}-1", f"{name}/{name}_{d}_{s}.JPG", 0, 48 * p)
        for name in names
        for d in range(devices)
        for s in range(scenes)
        for p in range(per_photo)
    ]
    return pd.DataFrame(rows, columns=patches.PATCH_COLUMNS)


def with_single() -> pd.DataFrame:
    """Three models of two devices, and first in the alphabet and in the table one of a single device."""
    return pd.concat([patch_table(devices=1, names=["Aa_X"]), patch_table()], ignore_index=True)


def shuffled(table: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The table with its rows in another order, and where each of them stood before."""
    order = np.random.default_rng(1).permutation(len(table))
    return table.iloc[order].reset_index(drop=True), order


def of_class(table: pd.DataFrame, plan: planning.Plan, part: str = "train") -> dict[str, int]:
    """Rows of each class in a part."""
    return table["camera_model"].iloc[plan.rows(part)].value_counts().sort_index().to_dict()


def labels_are_right(table: pd.DataFrame, plan: planning.Plan) -> bool:
    used = plan.part != "unused"
    named = np.array(plan.class_names)[plan.labels[used]] == table[plan.target][used]
    return bool(named.all() and (plan.labels[~used] == -1).all())


# one plan


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_plan_gives_each_row_its_own_class_and_part(protocol):
    table = patch_table()
    plan = planning.plan(table, protocol, seed=3)
    assert (plan.protocol, plan.target, plan.seed) == (protocol, "camera_model", 3)
    assert plan.note == "every class is in every part" and plan.class_names == MODELS
    assert labels_are_right(table, plan)
    for part in ("train", "val", "test"):
        assert set(plan.labels[plan.rows(part)]) == {0, 1, 2}
        assert (plan.part[plan.rows(part)] == part).all()


def test_the_order_of_the_rows_changes_nothing():
    table = patch_table()
    other, order = shuffled(table)
    a, b = (planning.plan(t, "scene+device", 0) for t in (table, other))
    assert (a.part[order] == b.part).all() and (a.labels[order] == b.labels).all()


def test_devices_and_brands_can_be_the_class():
    table = patch_table()
    assert planning.plan(table, "photo", 0, "brand").class_names == ["Acme", "Bolt"]
    assert len(planning.plan(table, "scene", 0, "device").class_names) == 6
    (plan,) = planning.plans(table, "scene", 0, target="device")
    assert len(plan.class_names) == 6 and labels_are_right(table, plan)


def test_a_protocol_that_the_data_do_not_allow_gives_way_and_says_so():
    plan = planning.plan(patch_table(devices=1), "scene+device", 0)
    assert plan.protocol == "scene" and plan.class_names == MODELS
    assert "scene+device can split 0 of 3 classes" in plan.note and "used instead: scene" in plan.note


def test_a_class_that_the_protocol_cannot_serve_is_left_out_by_name():
    table = with_single()
    plan = planning.plan(table, "scene+device", 0)
    assert plan.protocol == "scene+device" and plan.class_names == MODELS
    assert "Aa_X is left out: fewer than 2 devices" in plan.note
    assert (plan.part[table["camera_model"] == "Aa_X"] == "unused").all()
    assert labels_are_right(table, plan)  # no class moved up by one


# plans for several seeds


def test_each_seed_has_another_split_and_the_same_classes():
    table = patch_table()
    found = planning.plans(table, "photo", seed=5, seeds=3)
    assert [plan.seed for plan in found] == [5, 6, 7] and all(plan.class_names == MODELS for plan in found)
    assert len({tuple(plan.part) for plan in found}) == 3
    alone = planning.plan(table, "photo", 6)
    assert (found[1].part == alone.part).all() and (found[1].labels == alone.labels).all()


@pytest.mark.parametrize("protocol", ["patch", "photo", "scene+device"])
def test_thinning_keeps_the_first_patches_of_each_photo_in_val_and_test_only(protocol):
    table = patch_table(per_photo=5)
    (whole,) = planning.plans(table, protocol, 0)
    (thin,) = planning.plans(table, protocol, 0, evaluate=2)
    assert (thin.rows("train") == whole.rows("train")).all()
    for part in ("val", "test"):
        rows = pd.Series(whole.rows(part))
        first = rows.groupby(table["photo"].to_numpy()[rows]).head(2)
        assert len(first) < len(rows) and thin.rows(part).tolist() == first.tolist()
    assert labels_are_right(table, thin)


def test_thinning_by_more_than_a_photo_has_changes_nothing():
    table = patch_table()
    assert (planning.plans(table, "photo", 0, evaluate=4)[0].part == planning.plans(table, "photo", 0)[0].part).all()


# plans to compare


def test_compared_plans_train_on_equally_many_patches_of_each_class():
    table = patch_table(scenes=10)
    found = planning.comparable(table, list(PROTOCOLS), seed=0, seeds=2)
    assert list(found) == list(PROTOCOLS)
    assert [[plan.protocol for plan in own] for own in found.values()] == [[name] * 2 for name in PROTOCOLS]
    least = {name: min(of_class(table, planning.plan(table, p, s))[name] for p in PROTOCOLS for s in (0, 1))
             for name in MODELS}  # fmt: skip
    for own in found.values():
        for plan in own:
            assert of_class(table, plan) == least
            assert labels_are_right(table, plan)
            whole = planning.plan(table, plan.protocol, plan.seed)
            assert all((plan.rows(part) == whole.rows(part)).all() for part in ("val", "test"))
            assert np.isin(plan.rows("train"), whole.rows("train")).all()


def test_training_photos_are_thinned_on_request_before_they_are_equalised():
    table = patch_table(scenes=10, per_photo=6)
    for name, (plan,) in planning.comparable(table, list(PROTOCOLS), seed=0, evaluate=2, train=3).items():
        most = {part: table["photo"].iloc[plan.rows(part)].value_counts().max() for part in ("train", "val", "test")}
        assert most == {"train": 3, "val": 2, "test": 2}, name
        if name != "patch":
            assert (table["x"].iloc[plan.rows("train")] < 3 * 48).all()  # the first three of each
    counts = [of_class(table, own[0]) for own in planning.comparable(table, list(PROTOCOLS), 0, train=3).values()]
    assert all(found == counts[0] for found in counts)


def test_whole_photos_are_set_aside_but_patches_under_patch():
    table = patch_table(scenes=10)
    for name, (plan,) in planning.comparable(table, list(PROTOCOLS), seed=0).items():
        left = table["photo"].iloc[plan.rows("train")].value_counts()
        if name == "patch":
            assert left.min() < 4 and len(left) > len(plan.rows("train")) / 4  # more photos, fewer patches of each
        else:
            assert (left == 4).all()


def test_photos_of_many_and_few_patches_stay_whole_and_no_class_has_more_than_the_poorest():
    """Every second photo gave one patch only: what is left may be short of the poorest by less than one photo."""
    table = patch_table(scenes=20, per_photo=6)
    small = table["scene"].isin([f"{s}-1" for s in range(0, 20, 2)]) & (table["x"] > 0)
    table = table[~small].reset_index(drop=True)
    photo, strict = (own[0] for own in planning.comparable(table, ["photo", "scene+device"], seed=0).values())
    sizes = table["photo"].value_counts()
    kept = table["photo"].iloc[photo.rows("train")].value_counts()
    assert (kept == sizes[kept.index]).all() and set(kept) == {1, 6}
    poorest, reduced = of_class(table, strict), of_class(table, photo)
    assert all(0 <= poorest[name] - reduced[name] < 6 for name in MODELS)


def test_what_is_set_aside_depends_on_the_seed_and_not_on_the_order_of_the_rows():
    table = patch_table(scenes=10)
    other, order = shuffled(table)
    protocols = ["photo", "scene", "device", "scene+device"]
    found, again, moved = (planning.comparable(t, protocols, seed=0, seeds=2) for t in (table, table, other))
    for name in protocols:
        for a, b, c in zip(found[name], again[name], moved[name], strict=True):
            assert (a.part == b.part).all() and (a.part[order] == c.part).all()
    first = planning.plan(table, "photo", 0)
    kept = [set(planning.equalised(table, {"photo": [first._replace(seed=seed)], "strict": found["scene+device"]})
                ["photo"][0].rows("train")) for seed in (0, 1)]  # fmt: skip
    assert len(kept[0]) == len(kept[1]) and kept[0] != kept[1]


def test_a_class_that_one_protocol_cannot_serve_is_left_out_of_all():
    table = with_single()
    found = planning.comparable(table, ["patch", "scene", "scene+device"], seed=0, seeds=2, evaluate=2)
    for own in found.values():
        for plan in own:
            assert plan.class_names == MODELS and labels_are_right(table, plan)
            assert (plan.part[table["camera_model"] == "Aa_X"] == "unused").all()
            assert "only the 3 classes that all compared splits can serve are used" in plan.note
    assert "Aa_X is left out: fewer than 2 devices" in found["scene+device"][0].note
    assert planning.plan(table, "scene", 0).class_names == ["Aa_X", *MODELS]  # alone, scene serves it


# plans as tables


def test_a_plan_is_counted_by_part():
    table = patch_table()
    counts = planning.plan_table(table, planning.plan(table, "patch", 0))
    assert list(counts.index) == ["train", "val", "test"] and counts["patches"].sum() == len(table)
    assert (counts["photos"] <= 48).all() and counts["photos"].sum() > 48  # the leak: photos on several sides
    strict = planning.plan_table(table, planning.plan(table, "scene+device", 0))
    assert list(strict.index) == ["train", "val", "test", "unused"]
    assert strict.loc["test"].to_dict() == {"patches": 24, "photos": 6, "scenes": 2, "devices": 3}


def test_every_protocol_of_a_catalogue_is_reported():
    table = patch_table(per_photo=1).assign(path=lambda t: "root/" + t["photo"], width=64, height=64)
    parts, notes = planning.protocol_parts(table[datasets.COLUMNS], 0)
    assert list(parts) == ["photo", "scene", "device", "scene+device"] and (notes["classes left out"] == 0).all()
    single = table[table["device"].str.endswith("_0")]
    parts, notes = planning.protocol_parts(single[datasets.COLUMNS], 0)
    assert list(parts) == ["photo", "scene"]
    why = notes.set_index("protocol")
    assert why["classes left out"].to_dict() == {"photo": 0, "scene": 0, "device": 3, "scene+device": 3}
    assert "fewer than 2 devices" in why["why"]["device"]
