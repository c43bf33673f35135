"""Plans: which rows of a patch table train, validate and test, under which protocol and seed."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from . import splits
from .patches import scores

SAME, ANOTHER = "known body", "another body"  # was the physical camera of a test photo trained on?


class Plan(NamedTuple):
    """The part and the label of each row of a patch table."""

    protocol: str
    target: str
    seed: int
    part: np.ndarray  # str [N]: train, val, test or unused
    labels: np.ndarray  # int [N]: class number, -1 for unused rows
    class_names: list[str]
    note: str  # what was left out, if anything, and why the protocol is not the one asked for

    def rows(self, part: str) -> np.ndarray:
        """Row numbers of a part."""
        return np.flatnonzero(self.part == part)


def plan(
    table: pd.DataFrame, protocol: str, seed: int, target: str = "camera_model", classes: Iterable[str] | None = None
) -> Plan:
    """Split a patch table (`classes`: None for all) by `protocol` or the strictest weaker one that the data allow."""
    served = table if classes is None else table[table[target].isin(classes)]
    used, reason = splits.strictest(served, protocol, seed, target)
    parts, dropped = splits.split(served, used, seed, target)
    part = parts.reindex(table.index, fill_value="unused").to_numpy(str)
    names = sorted(table.loc[parts.index, target].unique())
    labels = np.where(part == "unused", -1, pd.Index(names).get_indexer(table[target]))
    left = [*(dropped["class"] + " is left out: " + dropped["reason"])]
    absent = {row.get(target) for row in table.attrs.get("left_out", ())} - {None, *table[target]}
    left += [f"{name} is left out: none of its photos can be used" for name in sorted(absent)]
    note = "\n".join(filter(None, [reason, *left])) or "every class is in every part"
    return Plan(used, target, seed, part, labels, names, note)


def plans(table: pd.DataFrame, protocol: str, seed: int, seeds: int = 1, evaluate: int = 0) -> list[Plan]:
    """A plan per seed from `seed` on; classes that one of them cannot serve are left out of all.

    evaluate: the maximum number of patches per val or test photo; 0 for all.
    """
    found = [plan(table, protocol, seed + i) for i in range(seeds)]
    common = set.intersection(*(set(one.class_names) for one in found))
    if not common:
        raise ValueError(f"no camera model can be split by {protocol} with all of {seeds} seeds from {seed} on")
    if any(set(one.class_names) != common for one in found):
        only = f"only the {len(common)} classes that all compared splits can serve are used"
        again = [plan(table, one.protocol, one.seed, classes=common) for one in found]
        found = [new._replace(note=f"{old.note}\n{only}") for new, old in zip(again, found, strict=True)]
    return [_limit_patches(table, one, evaluate) for one in found]


def shared_training(
    table: pd.DataFrame, protocol: str, seed: int, seeds: int = 1, evaluate: int = 0, train: int = 0
) -> dict[str, list[Plan]]:
    """Plans that train on the same rows and test in up to six ways: for each protocol a plan per seed.

    Training and validation are those of `protocol` (see `plan`), but a fifth of the training photos is set aside. The
    tests: other patches of the training photos (patch), the photos set aside (photo), training devices in new scenes
    (scene), new devices in training scenes (device), both new (scene+device), and new collections (collection: its
    scenes are those that splits.split leaves unused). Tests that the data do not allow are missing.
    evaluate, train: the maximum number of patches per photo for testing or validating, and for training; 0 for all.
    """
    found: dict[str, list[Plan]] = {}
    for strict in plans(table, protocol, seed, seeds):
        labels = pd.Index(strict.class_names).get_indexer(table[strict.target])
        in_train, in_test = strict.part == "train", strict.part == "test"
        seen, tested = (
            {name: table[name].isin(table[name][rows].unique()).to_numpy() for name in ("device", "scene")}
            for rows in (in_train, in_test)
        )
        fifth = _set_aside(table[in_train], strict.seed, strict.target)
        aside = in_train & table["photo"].isin(fifth).to_numpy()
        surplus = in_train & ~aside & (table.groupby("photo").cumcount().to_numpy() >= (train or np.inf))
        both = (labels >= 0) & (strict.protocol == "scene+device")
        unused = (labels >= 0) & (strict.protocol == "collection") & (strict.part == "unused") & table["scene"].notna()
        tests = {"patch": surplus, "photo": aside, "scene": unused | both & seen["device"] & tested["scene"],
                 "device": both & tested["device"] & seen["scene"]} | {strict.protocol: in_test}  # fmt: skip
        part = np.where(in_test | aside | surplus, "unused", strict.part)
        for name in [name for name in splits.PROTOCOLS if name in tests and tests[name].any()]:
            own = np.where(tests[name], "test", part)
            one = strict._replace(protocol=name, part=own, labels=np.where(own == "unused", -1, labels))
            found.setdefault(name, []).append(_limit_patches(table, one, evaluate))
    return found


def _set_aside(training: pd.DataFrame, seed: int, target: str) -> pd.Series:
    """At most a random fifth of each class's training photos, by name, and never all; training: rows of a patch table.

    Where a class has several photos of a scene by one device, all but one of these may be chosen, and no others.
    Otherwise training would show the scene only by other cameras, which counts against the true class.
    """
    photos = training.drop_duplicates("photo").sort_values("photo")
    photos = photos.sample(frac=1, random_state=np.random.default_rng([seed, 7]))
    again = photos.duplicated(["device", "scene"]) & photos[["device", "scene"]].notna().all(axis=1)
    spare = photos[again | ~again.groupby(photos[target]).transform("any")]
    turn, size = spare.groupby(target).cumcount(), photos.groupby(target)["photo"].transform("size")
    return spare["photo"][turn < np.minimum(-(-size // 5), size - 1)[spare.index]]


def best_patches(store, plans: list[Plan], score: Callable[[np.ndarray], np.ndarray], most: int) -> list[Plan]:
    """Plans for a patch store with at most `most` patches per photo, those whose pixels have the highest score."""
    values = pd.Series(scores(store.pixels, score))
    surplus = (-values).groupby(store.table["photo"].to_numpy()).rank(method="first").to_numpy() > most
    return [_without(one, surplus) for one in plans]


def plan_table(table: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Numbers of patches, photos, scenes and devices in each part of a plan."""
    rows = table.groupby(plan.part)
    counts = {"patches": rows.size()} | {f"{name}s": rows[name].nunique() for name in ("photo", "scene", "device")}
    counts = pd.DataFrame(counts).rename_axis("part")
    return counts.reindex([part for part in splits.PARTS if part in counts.index])


def protocol_parts(catalogue: pd.DataFrame, seed: int) -> tuple[dict[str, pd.Series], pd.DataFrame]:
    """The parts of a catalogue under each protocol that splits photos, and a table of what each leaves out."""
    parts, notes = {}, []
    several = catalogue["collection"].nunique() > 1
    for protocol in splits.PROTOCOLS[1 : None if several else -1]:
        try:
            parts[protocol], dropped = splits.split(catalogue, protocol, seed)
            left = dropped.groupby("reason", sort=False)["class"].nunique()
            why = "; ".join(f"{count} with {reason}" for reason, count in left.items())
            notes.append([protocol, dropped["class"].nunique(), why])
        except ValueError as error:
            notes.append([protocol, catalogue["camera_model"].nunique(), str(error)])
    return parts, pd.DataFrame(notes, columns=["protocol", "classes left out", "why"])


def _limit_patches(table: pd.DataFrame, plan: Plan, most: int) -> Plan:
    """A plan with at most `most` patches per val or test photo, the first in the table; 0 for all."""
    rank = table.groupby([table["photo"], plan.part]).cumcount().to_numpy()
    return _without(plan, np.isin(plan.part, ["val", "test"]) & (rank >= (most or np.inf)))


def _without(plan: Plan, surplus: np.ndarray) -> Plan:
    """A plan that does not use some rows."""
    return plan._replace(part=np.where(surplus, "unused", plan.part), labels=np.where(surplus, -1, plan.labels))
