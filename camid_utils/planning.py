"""Which rows of a patch table train, validate and test, under which protocol and seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from . import splits


class Plan(NamedTuple):
    """Which row of a patch table is for what."""

    protocol: str
    target: str
    seed: int
    part: np.ndarray  # str [N]: train, val, test or unused
    labels: np.ndarray  # int [N]: class number, -1 for classes left out
    class_names: list[str]
    note: str  # for the reader: what was left out, why the protocol is not the one asked for, or that all is well

    def rows(self, part: str) -> np.ndarray:
        """Row numbers of a part."""
        return np.flatnonzero(self.part == part)


def plan(table: pd.DataFrame, protocol: str, seed: int, target: str = "camera_model") -> Plan:
    """Split a patch table by `protocol`, or by the strictest weaker one that the data allow, and say so."""
    used, reason = splits.strictest(table, protocol, seed, target)
    kept, dropped = splits.splittable(table, used, seed, target)
    part = splits.split(kept, used, seed, target).reindex(table.index, fill_value="unused").to_numpy(str)
    names = sorted(kept[target].unique())
    labels = np.where(part == "unused", -1, pd.Index(names).get_indexer(table[target]))
    left = [f"{row['class']} is left out: {row['reason']}" for row in dropped.to_dict("records")]
    note = "\n".join(filter(None, [reason, *left])) or "every class is in every part"
    return Plan(used, target, seed, part, labels, names, note)


def plans(
    table: pd.DataFrame, protocol: str, seed: int, seeds: int = 1, target: str = "camera_model", evaluate: int = 0
) -> list[Plan]:
    """A plan for each of the seeds seed, seed + 1, ...: another split each, the same classes in all.

    evaluate: the most patches of a photo that are used to validate and to test; 0 for all.
    """
    found = _with_common_classes(table, [(protocol, seed + i) for i in range(seeds)], target)
    return [_thinned(table, one, evaluate) for one in found]


def comparable(
    table: pd.DataFrame, protocols: list[str], seed: int, seeds: int = 1, evaluate: int = 0, train: int = 0
) -> dict[str, list[Plan]]:
    """For each protocol its `plans`, with the same classes and equally much to train on: see `equalised`.

    evaluate, train: the most patches of a photo for either use; 0 for all.
    """
    wanted = [(protocol, seed + i) for protocol in protocols for i in range(seeds)]
    found = _with_common_classes(table, wanted, "camera_model")
    found = [_thinned(table, _thinned(table, one, evaluate), train, ("train",)) for one in found]
    by_protocol = {name: found[i * seeds : (i + 1) * seeds] for i, name in enumerate(protocols)}
    return equalised(table, by_protocol)


def _with_common_classes(table: pd.DataFrame, wanted: list[tuple[str, int]], target: str) -> list[Plan]:
    """A plan for each (protocol, seed); classes that one of them cannot serve are left out of all."""
    found = [plan(table, protocol, seed, target) for protocol, seed in wanted]
    common = set.intersection(*(set(one.class_names) for one in found))
    if all(set(one.class_names) == common for one in found):
        return found
    if not common:
        raise ValueError(f"no {target} can be split by all of " + ", ".join(f"{p} (seed {s})" for p, s in wanted))
    rows = np.flatnonzero(table[target].isin(common))
    served = table.iloc[rows].reset_index(drop=True)
    again = [plan(served, one.protocol, one.seed, target) for one in found]
    return [_on_rows(new, rows, len(table), old.note) for new, old in zip(again, found, strict=True)]


def _on_rows(plan: Plan, rows: np.ndarray, total: int, note: str) -> Plan:
    """A plan of some rows of a table as one of the whole table."""
    part, labels = np.full(total, "unused"), np.full(total, -1)
    part[rows], labels[rows] = plan.part, plan.labels
    note = f"{note}\nonly the {len(plan.class_names)} classes that all compared splits can serve are used"
    return plan._replace(part=part, labels=labels, note=note)


def _thinned(table: pd.DataFrame, plan: Plan, most: int, parts: tuple[str, ...] = ("val", "test")) -> Plan:
    """A plan with at most `most` patches of a photo in each of `parts`, the first in the table; 0 for all."""
    rank = table.groupby([table["photo"], plan.part]).cumcount().to_numpy()
    return _without(plan, np.isin(plan.part, parts) & (rank >= most)) if most else plan


def _without(plan: Plan, rows: np.ndarray) -> Plan:
    """A plan in which the rows (a mask) are unused."""
    return plan._replace(part=np.where(rows, "unused", plan.part), labels=np.where(rows, -1, plan.labels))


def equalised(table: pd.DataFrame, plans: dict[str, list[Plan]]) -> dict[str, list[Plan]]:
    """The same plans with equally much to train on: each class has as many training patches as in the poorest plan.

    Whole photos are set aside, drawn by the plan's seed; under `patch`, which deals patches, patches are.
    """
    counts = [
        pd.Series(table[p.target].to_numpy()[p.rows("train")]).value_counts() for ps in plans.values() for p in ps
    ]
    least = pd.concat(counts, axis=1).min(axis=1)
    return {name: [_reduced(table, plan, least) for plan in own] for name, own in plans.items()}


def _reduced(table: pd.DataFrame, plan: Plan, least: pd.Series) -> Plan:
    """A plan with at most `least[class]` training rows of each class."""
    rows = table.iloc[plan.rows("train")]
    unit = rows.groupby(["photo", "y", "x"]).ngroup() if plan.protocol == "patch" else rows["photo"]
    units = np.sort(unit.unique())
    order = pd.Series(np.random.default_rng([plan.seed, 7]).permutation(len(units)), index=units)
    sizes = pd.DataFrame({"unit": unit, "name": rows[plan.target], "order": unit.map(order)})
    number = sizes.sort_values("order", kind="stable").groupby("name").cumcount().reindex(rows.index)
    last = number.groupby(unit).transform("max")  # a photo stays only if all of it fits
    surplus = np.zeros(len(table), bool)
    surplus[plan.rows("train")[(last >= sizes["name"].map(least)).to_numpy()]] = True
    return _without(plan, surplus)


def plan_table(table: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Patches, photos, scenes and devices in each part of a plan."""
    rows = table.assign(part=plan.part).groupby("part")
    counts = pd.DataFrame(
        {"patches": rows.size(), **{f"{c}s": rows[c].nunique() for c in ("photo", "scene", "device")}}
    )
    return counts.reindex([p for p in ("train", "val", "test", "unused") if p in counts.index])


def protocol_parts(catalogue: pd.DataFrame, seed: int) -> tuple[dict[str, pd.Series], pd.DataFrame]:
    """The parts of a catalogue under each photo-based protocol that serves it, and a table of what each leaves out."""
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
