"""Plans: which rows of a patch table train, validate and test, under which protocol and seed."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from . import splits


class Plan(NamedTuple):
    """The part and the label of each row of a patch table."""

    protocol: str
    target: str
    seed: int
    part: np.ndarray  # str [N]: train, val, test or unused
    labels: np.ndarray  # int [N]: class number, -1 for unused rows
    class_names: list[str]
    note: str  # what was left out, why the protocol is not the one asked for; or that nothing was left out

    def rows(self, part: str) -> np.ndarray:
        """Row numbers of a part."""
        return np.flatnonzero(self.part == part)


def plan(
    table: pd.DataFrame, protocol: str, seed: int, target: str = "camera_model", classes: Iterable[str] | None = None
) -> Plan:
    """Split a patch table (`classes`: None for all) by `protocol` or the strictest weaker one that the data allow."""
    served = table if classes is None else table[table[target].isin(classes)]
    used, reason = splits.strictest(served, protocol, seed, target)
    kept, dropped = splits.splittable(served, used, seed, target)
    part = splits.split(kept, used, seed, target).reindex(table.index, fill_value="unused").to_numpy(str)
    names = sorted(kept[target].unique())
    labels = np.where(part == "unused", -1, pd.Index(names).get_indexer(table[target]))
    left = [f"{row['class']} is left out: {row['reason']}" for row in dropped.to_dict("records")]
    note = "\n".join(filter(None, [reason, *left])) or "every class is in every part"
    return Plan(used, target, seed, part, labels, names, note)


def plans(
    table: pd.DataFrame, protocol: str, seed: int, seeds: int = 1, target: str = "camera_model", evaluate: int = 0
) -> list[Plan]:
    """A plan per seed from `seed` on, all with the same classes; `evaluate`: patches per val or test photo (0: all)."""
    found = _with_common_classes(table, [(protocol, seed + i) for i in range(seeds)], target)
    return [_limit_patches(table, one, evaluate, ["val", "test"]) for one in found]


def matched_plans(
    table: pd.DataFrame, protocols: list[str], seed: int, seeds: int = 1, evaluate: int = 0, train: int = 0
) -> dict[str, list[Plan]]:
    """For each protocol its `plans`, with the same classes and the same number of training patches of each class.

    That number is the lowest of all plans: whole photos, under `patch` single patches, are set aside by random draws.
    evaluate, train: the maximum number of patches per photo for either use; 0 for all.
    """
    wanted = [(protocol, seed + i) for protocol in protocols for i in range(seeds)]
    found = _with_common_classes(table, wanted, "camera_model")
    for most, parts in ((evaluate, ["val", "test"]), (train, ["train"])):
        found = [_limit_patches(table, one, most, parts) for one in found]
    counts = [table[one.target].iloc[one.rows("train")].value_counts() for one in found]
    least = pd.concat(counts, axis=1).min(axis=1)
    found = [_reduce_training(table, one, least) for one in found]
    return {name: found[i * seeds : (i + 1) * seeds] for i, name in enumerate(protocols)}


def plan_table(table: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Numbers of patches, photos, scenes and devices in each part of a plan."""
    rows = table.groupby(plan.part)
    counts = {"patches": rows.size()} | {f"{name}s": rows[name].nunique() for name in ("photo", "scene", "device")}
    counts = pd.DataFrame(counts).rename_axis("part")
    return counts.reindex([part for part in splits.PARTS if part in counts.index])


def protocol_parts(catalogue: pd.DataFrame, seed: int) -> tuple[dict[str, pd.Series], pd.DataFrame]:
    """The parts of a catalogue under each protocol that splits photos, and a table of what each leaves out."""
    parts, notes = {}, []
    for protocol in splits.PROTOCOLS[1:]:
        try:
            kept, dropped = splits.splittable(catalogue, protocol, seed)
        except ValueError as error:
            notes.append([protocol, catalogue["camera_model"].nunique(), str(error)])
            continue
        parts[protocol] = splits.split(kept, protocol, seed)
        left = "; ".join(f"{row['class']}: {row['reason']}" for row in dropped.to_dict("records"))
        notes.append([protocol, dropped["class"].nunique(), left])
    return parts, pd.DataFrame(notes, columns=["protocol", "classes left out", "why"])


def _with_common_classes(table: pd.DataFrame, wanted: list[tuple[str, int]], target: str) -> list[Plan]:
    """A plan for each (protocol, seed); classes that one of them cannot serve are left out of all."""
    found = [plan(table, protocol, seed, target) for protocol, seed in wanted]
    common = set.intersection(*(set(one.class_names) for one in found))
    if all(set(one.class_names) == common for one in found):
        return found
    if not common:
        raise ValueError(f"no {target} can be split by all of " + ", ".join(f"{p} (seed {s})" for p, s in wanted))
    only = f"only the {len(common)} classes that all compared splits can serve are used"
    again = [plan(table, one.protocol, one.seed, target, common) for one in found]
    return [new._replace(note=f"{old.note}\n{only}") for new, old in zip(again, found, strict=True)]


def _limit_patches(table: pd.DataFrame, plan: Plan, most: int, parts: list[str]) -> Plan:
    """A plan with at most `most` patches per photo in each of `parts`, the first in the table; 0 for all."""
    rank = table.groupby([table["photo"], plan.part]).cumcount().to_numpy()
    return _drop_rows(plan, np.isin(plan.part, parts) & (rank >= most)) if most else plan


def _reduce_training(table: pd.DataFrame, plan: Plan, least: pd.Series) -> Plan:
    """A plan with at most `least[class]` training rows of each class."""
    rows = table.iloc[plan.rows("train")]
    unit = rows.groupby(["photo", "y", "x"]).ngroup() if plan.protocol == "patch" else rows["photo"]
    units = np.sort(unit.unique())
    order = pd.Series(np.random.default_rng([plan.seed, 7]).permutation(len(units)), index=units)
    sizes = pd.DataFrame({"unit": unit, "name": rows[plan.target], "order": unit.map(order)})
    number = sizes.sort_values("order", kind="stable").groupby("name").cumcount().reindex(rows.index)
    last = number.groupby(unit).transform("max")  # a photo stays only if all its patches fit
    surplus = np.zeros(len(table), bool)
    surplus[plan.rows("train")[(last >= sizes["name"].map(least)).to_numpy()]] = True
    return _drop_rows(plan, surplus)


def _drop_rows(plan: Plan, rows: np.ndarray) -> Plan:
    return plan._replace(part=np.where(rows, "unused", plan.part), labels=np.where(rows, -1, plan.labels))
