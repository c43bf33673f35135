"""Splits share nothing that their protocol keeps apart, whatever the table, its order and the seed."""

import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camid_utils import catalogues, splits
from camid_utils.splits import PROTOCOLS, strictest

few = settings(max_examples=25, deadline=None)


def catalogue(models=4, devices=2, scenes=10, shots=1) -> pd.DataFrame:
    """One row for each camera model, device, scene and shot, as the loaders give them; two collections of scenes."""
    rows = []
    for model, device, scene, shot in np.ndindex(models, devices, scenes, shots):
        name = f"Acme{model // 2}_M{model}"
        photo = f"{name}/{name}_{device}_{scene * shots + shot}.JPG"
        rows.append((f"root/{photo}", photo, "Dresden", name.split("_")[0], name, f"{name}_{device}", f"{scene}-1"))
    table = pd.DataFrame(rows, columns=catalogues.COLUMNS[:7]).sort_values("path", ignore_index=True)
    collection = "place " + (table["scene"].str[:-2].astype(int) % 2).astype(str)
    return table.assign(collection=collection, width=640, height=480)[catalogues.COLUMNS]


def patch_table(photos: pd.DataFrame, count=3) -> pd.DataFrame:
    """`count` patches per photo."""
    table = photos.drop(columns=["path", "width", "height"])
    table = table.loc[table.index.repeat(count)].reset_index(drop=True)
    return table.assign(y=np.arange(len(table)) % count * 48, x=0)


def split(table: pd.DataFrame, *arguments) -> pd.Series:
    """The part of each row of a table that can be split as a whole."""
    parts, dropped = splits.split(table, *arguments)
    assert parts.index.equals(table.index) and dropped.empty
    return parts


def sides(table: pd.DataFrame, parts: pd.Series, column: str) -> dict[str, set]:
    return {part: set(table[column][parts == part]) for part in ("train", "val", "test")}


def disjoint(groups: dict[str, set]) -> bool:
    return sum(map(len, groups.values())) == len(set().union(*groups.values()))


tables = st.builds(catalogue, st.integers(3, 5), st.integers(2, 4), st.integers(8, 15), st.integers(1, 3))
seeds = st.integers(0, 2**32)
protocols = st.sampled_from(PROTOCOLS)


@settings(max_examples=40, deadline=None)
@given(tables, protocols, seeds, st.sampled_from(["camera_model", "brand"]), st.booleans())
def test_parts_have_every_class_and_share_nothing_that_the_protocol_keeps_apart(table, protocol, seed, target, patches):
    table = patch_table(table) if patches else table
    parts = split(table, protocol, seed, target)
    assert ("unused" in set(parts)) <= (protocol in ("scene+device", "collection"))
    assert (pd.crosstab(table[target], parts)[["train", "val", "test"]] > 0).all(axis=None)
    if protocol != "patch":
        assert disjoint(sides(table, parts, "photo"))
    if "scene" in protocol or protocol == "collection":
        assert disjoint(sides(table, parts, "scene"))
    if protocol == "collection":
        collections = sides(table, parts, "collection")
        assert not collections["test"] & (collections["train"] | collections["val"])
    if "device" in protocol:
        devices = sides(table, parts, "device")
        assert not devices["test"] & (devices["train"] | devices["val"])


@few
@given(tables, protocols, seeds, st.booleans(), st.randoms(use_true_random=False))
def test_patches_follow_their_photo_and_order_and_index_do_not_matter(table, protocol, seed, patches, random):
    photos, table = table, patch_table(table) if patches else table
    if patches and protocol != "patch":
        assert split(table, protocol, seed).tolist() == split(photos, protocol, seed).repeat(3).tolist()
    order = list(range(len(table)))
    random.shuffle(order)
    shuffled = table.iloc[order].set_axis([f"row {i}" for i in order])
    parts = split(shuffled, protocol, seed)
    assert parts.index.equals(shuffled.index) and parts.tolist() == split(table, protocol, seed).iloc[order].tolist()


@few
@given(st.integers(3, 60), st.integers(3, 60), seeds)
def test_the_fractions_hold(first, second, seed):
    table = pd.concat([catalogue(1, 1, first), catalogue(2, 1, second)[second:]], ignore_index=True)
    counts = pd.crosstab(table["camera_model"], split(table, "photo", seed))
    wanted = np.outer([first, second], splits.FRACTIONS)
    assert (counts[["train", "val", "test"]].sub(wanted).abs() <= 1.5).all(axis=None)
    table = catalogue(models=2, devices=5, scenes=10)
    assert [len(names) for names in sides(table, split(table, "scene", seed), "scene").values()] == [4, 2, 4]
    parts = split(table, "device", seed)
    assert table[parts == "test"].groupby("camera_model")["device"].nunique().tolist() == [2, 2]
    assert parts.value_counts().to_dict() == {"train": 46, "val": 14, "test": 40}


def test_new_scenes_are_tested_with_new_devices_only():
    table = catalogue(models=2, devices=2, scenes=10)
    parts = split(table, "scene+device", 3)
    tested = set(table["device"][parts == "test"])
    scenes = sides(table, parts, "scene")
    for device, scene, part in zip(table["device"], table["scene"], parts, strict=True):
        home = next(name for name, members in scenes.items() if scene in members)
        assert part == (home if (device in tested) == (home == "test") else "unused")


BEFORE = {  # the parts as they were before the protocol collection was there
    "patch": 3912003639, "photo": 4190651878, "scene": 33319308, "device": 1482591963, "scene+device": 755051260
}  # fmt: skip


def test_a_new_protocol_leaves_the_draws_of_the_others_as_they_were():
    table = catalogue(models=3)
    for protocol, parts in BEFORE.items():
        one = table.assign(collection="Dresden")
        assert zlib.crc32("".join(part[1] for part in split(one, protocol, 7)).encode()) == parts


def test_scenes_are_drawn_within_their_collection():
    """Each of 30 classes has eight scenes of its own: drawn from all 240, some class would lack a part."""
    table = collections({f"M{i}": [16] for i in range(30)})
    parts = split(table, "scene", 0)
    counts = table[~table["scene"].duplicated()].groupby("camera_model")["scene"].size()
    assert (counts == 8).all()
    found = pd.crosstab(table["camera_model"], parts)
    assert (found == [6, 8, 2]).all(axis=None) and list(found) == ["test", "train", "val"]
    _, dropped = splits.split(table.assign(collection="one"), "scene", 0)
    assert dropped["reason"].str.contains("none of 500 draws").any()
    split(table.assign(collection=table["collection"].where(table["camera_model"] != "M0")), "scene", 0)


def collections(sizes: dict[str, list[int]]) -> pd.DataFrame:
    """Class -> photos in each of its collections, eight scenes each if there are so many; all are by one device."""
    rows = [
        (f"{name}/{c}_{i:02d}.jpg", name, f"{name}_0", f"{name} {c}/{i * 8 // size if size > 8 else i}", f"{name} {c}")
        for name, each in sizes.items()
        for c, size in enumerate(each)
        for i in range(size)
    ]
    return pd.DataFrame(rows, columns=["photo", "camera_model", "device", "scene", "collection"])


def test_two_folds_test_each_collection_once_where_a_class_has_two_and_others_stay_in_training():
    table = collections({"Four": [16] * 4, "Two": [30, 9], "Three": [8, 24, 12], "One": [30], "Small": [20, 7]})
    folds = [split(table, "collection", seed) for seed in (0, 1)]
    tested = [sides(table, parts, "collection")["test"] for parts in folds]
    assert tested == [{"Four 0", "Four 2", "Two 0", "Three 0", "Three 2"}, {"Four 1", "Four 3", "Two 1", "Three 1"}]
    for seed, parts in enumerate(folds):
        counts = pd.crosstab(table["collection"], parts).reindex(columns=["train", "val", "unused", "test"]).T
        assert (counts.sum()[[*tested[seed]]] == counts.loc["test", [*tested[seed]]]).all()  # as a whole
        for name in ("Two", "One", "Small"):  # no other collection to choose by: a scene of each
            own = counts[[c for c in counts if c.startswith(name) and c not in tested[seed]]]
            assert own.loc["val"].between(1, 4).all() and own.loc["unused"].between(0, 4).all()
            assert (own.loc["train"] >= 0.6 * own.sum()).all()
        whole = [c for c in counts if counts[c]["val"] == counts[c].sum()]
        assert len(whole) == 1 + (seed == 1) and set(whole) & {"Four 0", "Four 1", "Four 2", "Four 3"}
        assert counts.loc["val", [c for c in counts if c.startswith("Four")]].gt(0).sum() == 1  # no scene besides
        again = split(table, "collection", seed + 2)
        assert (again == "test").equals(parts == "test") and not again.equals(parts)


def test_a_collection_that_classes_share_may_test_one_and_train_another():
    table = collections({"A": [16, 16], "B": [16, 16], "C": [16]})
    shared = ["collection", "scene"]
    table.loc[table["camera_model"] == "C", shared] = table.loc[:15, shared].to_numpy()
    parts = split(table, "collection", 0)
    assert (parts[:16] == "test").all() and set(parts[64:]) == {"train", "val", "unused"}
    table.loc[0, "scene"] = table.loc[16, "scene"]
    with pytest.raises(ValueError, match="scene 'A 1/0' is in several collections.*names of their own"):
        split(table, "collection", 0)


def test_new_collections_need_a_class_that_has_two_and_photos_enough():
    with pytest.raises(ValueError, match="fewer than 2 collections of 8 photos, in every class: A, B, C"):
        split(collections({"A": [9, 7], "B": [9, 7], "C": [30]}), "collection", 0)
    table = collections({"A": [9, 9], "B": [9, 9], "C": [7, 7], "D": [8]})
    table.loc[table["camera_model"] == "D", "scene"] = "one"
    parts, dropped = splits.split(table, "collection", 0)
    assert set(table["camera_model"][parts.index]) == {"A", "B"} and dropped["class"].tolist() == ["C", "D"]
    assert "8 photos in a collection" in dropped["reason"][0] and "2 scenes" in dropped["reason"][1]


def test_the_only_partition_is_found():
    """Class A is in scenes 1, 2, 3 and class B in 3, 4, 5: one part has only scene 3."""
    rows = [("A_1", "1"), ("A_1", "2"), ("A_1", "3"), ("B_1", "3"), ("B_1", "4"), ("B_1", "5")]
    table = pd.DataFrame(rows, columns=["camera_model", "scene"])
    table = table.assign(photo=[f"{i}.jpg" for i in range(6)], device=pd.NA, collection="one")
    parts = split(table, "scene", 0)
    assert parts[2] == parts[3] and (parts == parts[2]).sum() == 2
    assert sorted(parts[:3]) == sorted(parts[3:]) == ["test", "train", "val"]


@pytest.mark.parametrize(
    ("protocol", "words", "poor"),
    [("photo", "3 photos", catalogue(scenes=1)), ("scene", "3 scenes", catalogue(scenes=2, shots=4)),
     ("device", "2 devices", catalogue(devices=1))],
)  # fmt: skip
def test_classes_that_cannot_be_split_are_named_and_left_out(protocol, words, poor):
    good = catalogue(scenes=6)
    table = pd.concat([good[good["brand"] != "Acme0"], poor[poor["camera_model"] == "Acme0_M0"]], ignore_index=True)
    parts, dropped = splits.split(table, protocol, 0)
    assert dropped["class"].tolist() == ["Acme0_M0"] and words in dropped["reason"][0]
    kept = table.loc[parts.index]
    assert set(kept["camera_model"]) == {"Acme1_M2", "Acme1_M3"} and split(kept, protocol, 0).equals(parts)
    assert {"train", "val", "test"} <= set(parts)


def test_classes_that_no_draw_can_place_together_are_dropped_until_the_rest_can():
    """Six phones with three scenes each, which overlap so that no partition of the scenes serves all."""
    seen = {"A_1": "123", "B_1": "124", "C_1": "135", "D_1": "145", "E_1": "234", "F_1": "235"}
    rows = [(name, scene) for name, scenes in seen.items() for scene in scenes]
    table = pd.DataFrame(rows, columns=["camera_model", "scene"])
    table = table.assign(photo=[f"{i}.jpg" for i in range(len(rows))], device="D", collection="one")
    parts, dropped = splits.split(table, "scene", 0)
    kept = set(table["camera_model"][parts.index])
    assert 2 <= len(kept) < 6 and set(dropped["class"]) == set(seen) - kept
    assert dropped["reason"].str.contains("none of 500 draws").all() and set(parts) == {"train", "val", "test"}


def test_photos_of_unknown_scenes_are_left_out():
    table = catalogue()
    table.loc[[0, 1, 79], "scene"] = pd.NA
    parts, dropped = splits.split(table, "scene", 0)
    assert parts.index.tolist() == list(range(2, 79))
    assert [*dropped["class"]] == ["Acme0_M0", "Acme1_M3"] and [*dropped["reason"].str[:8]] == ["2 photos", "1 photos"]
    assert split(table, "device", 0).notna().all()
    with pytest.raises(ValueError, match="20 photos of unknown scene: Acme0_M0, Acme0_M1.*dresden.csv"):
        split(table.assign(scene=pd.NA), "scene", 0)


def test_what_cannot_be_split_at_all_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="choose one of patch, photo"):
        split(catalogue(), "place", 0)
    with pytest.raises(ValueError, match="fewer than 2 devices of one camera model"):
        split(catalogue(), "device", 0, "device")
    with pytest.raises(ValueError, match="fewer than 2 classes.*2 devices.*Acme0_M0, Acme0_M1"):
        split(catalogue(devices=1), "scene+device", 0)


def test_strictest_keeps_a_protocol_that_serves_or_steps_down_and_says_why():
    assert all(strictest(catalogue(), protocol, 0) == (protocol, "") for protocol in PROTOCOLS)
    phones = catalogue(models=6, devices=1)
    protocol, reason = strictest(phones, "scene+device", 0)
    assert protocol == "scene" and "0 of 6 classes (fewer than 2 devices of one camera model: " in reason
    assert reason.endswith("and 3 more); used instead: scene")
    assert strictest(phones.assign(scene=pd.NA), "scene+device", 0)[0] == "photo"
    assert strictest(catalogue().assign(scene=pd.NA), "scene+device", 0)[0] == "device"
    assert strictest(catalogue(), "scene+device", 0, target="device")[0] == "scene"
    with pytest.raises(ValueError, match="fewer than 3 photos: Acme0_M0"):
        strictest(catalogue(scenes=1), "scene+device", 0)
    phones = pd.concat([phones, catalogue(models=2)]).drop_duplicates("path", ignore_index=True)
    protocol, reason = strictest(phones, "scene+device", 0)  # many classes rather than a stricter protocol
    assert protocol == "scene" and "2 of 6 classes" in reason
    assert strictest(phones[phones["device"].str.contains("M[0-2]_")], "scene+device", 0) == ("scene+device", "")
