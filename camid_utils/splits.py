"""Catalogue or patch table -> train, val or test for each row, by one of five protocols.

| protocol     | what the parts never share                                                   |
|--------------|------------------------------------------------------------------------------|
| patch        | nothing: rows at random, the authors' own protocol, which leaks              |
| photo        | photos                                                                       |
| scene        | photos, scenes                                                               |
| device       | photos; test shares no device with train and val                             |
| scene+device | photos, scenes; test shares no device with train and val (Bondi et al. 2017) |

Pure functions of table and seed: the order of the rows plays no part.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from camid_utils.datasets import relative_photos

PROTOCOLS = ("patch", "photo", "scene", "device", "scene+device")
LADDER = ("scene+device", "device", "scene", "photo")  # the strictest first
PARTS = ("train", "val", "test", "unused")
TRAIN, VAL, TEST, UNUSED = range(4)
FRACTIONS = (0.6, 0.2, 0.2)
DRAWS = 500  # random partitions tried before a split counts as impossible; the later half varies in size


def split(
    table: pd.DataFrame,
    protocol: str,
    seed: int,
    target: str = "camera_model",
    fractions: tuple[float, float, float] = FRACTIONS,
) -> pd.Series:
    """Part of each row of a catalogue or patch table: "train", "val", "test" or "unused".

    Every class of `target` is in every part whose fraction is not 0. Fractions count a class's rows (patch)
    or photos (photo), all scenes (scene), a camera model's devices (device). Under device, one device or more
    of each camera model that has two is tested; val is other photos of the training devices. Under
    scene+device, train and val are the training devices in training and validation scenes, test is the test
    devices in test scenes, the rest is "unused". The index is the table's. An error names the classes that
    the protocol cannot serve: see `splittable`.
    """
    _check(table, protocol, target, fractions)
    units, unit_of_row = _units(table, protocol, target)
    for column in _needs(protocol):
        if units[column].isna().any():
            unknown = f"{units[column].isna().sum()} of {len(units)} photos have no known {column}"
            _refuse(protocol, unknown + " (Dresden's are in dresden.csv in its root)" * (column == "scene"))
    hopeless = _hopeless(units, protocol, fractions)
    if hopeless:
        _refuse(protocol, _in_words(hopeless.items()))
    parts, hits = _draw(units, protocol, seed, fractions)
    if parts is None:
        names = ", ".join(hits.index[hits == hits.min()])
        _refuse(protocol, f"none of {DRAWS} draws put every class in every part; hardest to place: {names}")
    result = pd.Series(np.array(PARTS, dtype=object)[parts[unit_of_row]], index=table.index, name="split")
    _assert_disjoint(table, result, protocol)
    return result


def splittable(
    table: pd.DataFrame,
    protocol: str,
    seed: int,
    target: str = "camera_model",
    fractions: tuple[float, float, float] = FRACTIONS,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that `split` can serve with these arguments, and what was dropped: columns class and reason.

    The rows keep their index and the table's attrs. First go photos whose scene or device is needed and
    unknown (their class may stay), then classes with too few photos, scenes or devices, then those that no
    draw can place.
    """
    _check(table, protocol, target, fractions)
    units, unit_of_row = _units(table, protocol, target)
    kept, dropped = _serve(units, protocol, seed, fractions)
    if kept["class"].nunique() < 2:
        _refuse(protocol, f"fewer than two classes are left to tell apart; {_in_words(dropped)}")
    rows = units.index.isin(kept.index)[unit_of_row]
    return table[rows], pd.DataFrame(dropped, columns=["class", "reason"])


def strictest(
    table: pd.DataFrame,
    protocol: str,
    seed: int,
    target: str = "camera_model",
    fractions: tuple[float, float, float] = FRACTIONS,
    least: float = 0.5,
) -> tuple[str, str]:
    """The asked protocol, or the strictest weaker one that serves, and why ("" if as asked).

    A protocol serves if it can split at least two classes, and at least the share `least` of those that photo
    can: phones with one device each are better told apart in new scenes than nearly all dropped. The authors'
    own protocol, patch, is never chosen unasked.
    """
    _check_protocol(protocol)
    if protocol == "patch":
        splittable(table, protocol, seed, target, fractions)
        return protocol, ""
    most, _ = _count_served(table, "photo", seed, target, fractions)
    reason = ""
    for candidate in LADDER[LADDER.index(protocol) :]:
        count, lost = _count_served(table, candidate, seed, target, fractions)
        if count >= max(2, least * most):
            return candidate, reason and f"{reason}; used instead: {candidate}"
        reason = reason or f"{candidate} can split {count} of {table[target].nunique()} classes ({lost})"
    raise ValueError(f"no protocol can split this table: two classes are needed. {lost}")


def _count_served(table: pd.DataFrame, protocol: str, seed: int, target: str, fractions: tuple) -> tuple[int, str]:
    """How many classes a protocol can split, and why not more."""
    try:
        _check(table, protocol, target, fractions)
    except ValueError as error:
        return 0, str(error)
    kept, dropped = _serve(_units(table, protocol, target)[0], protocol, seed, fractions)
    return kept["class"].nunique(), _in_words(dropped, most=3)


def _serve(
    units: pd.DataFrame, protocol: str, seed: int, fractions: tuple[float, float, float]
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """The units that can be split, perhaps of one class or none, and (class, reason) for what was dropped."""
    dropped = []
    for column in _needs(protocol):
        unknown = units[column].isna()
        counts = units["class"][unknown].value_counts().sort_index()
        dropped += [(name, f"{count} photos of unknown {column}") for name, count in counts.items()]
        units = units[~unknown]
    while True:
        hopeless = _hopeless(units, protocol, fractions)
        dropped += hopeless.items()
        units = units[~units["class"].isin(hopeless)]
        if units["class"].nunique() < 2:
            return units, dropped
        parts, hits = _draw(units, protocol, seed, fractions)
        if parts is not None:
            return units, dropped
        dropped.append((hits.idxmin(), f"none of {DRAWS} draws put it and the others in every part"))
        units = units[units["class"] != hits.idxmin()]


def _in_words(reasons: Iterable[tuple[str, str]], most: int | None = None) -> str:
    """Classes grouped by reason, at most `most` of them named: "fewer than 3 photos: A, B and 2 more"."""
    classes = {}
    for name, reason in reasons:
        classes.setdefault(reason, []).append(str(name))
    texts = []
    for reason, names in classes.items():
        rest = len(names) - len(names[:most])
        texts.append(f"{reason}: {', '.join(names[:most])}" + f" and {rest} more" * (rest > 0))
    return "; ".join(texts)


def _check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise ValueError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")


def _check(table: pd.DataFrame, protocol: str, target: str, fractions: tuple[float, float, float]) -> None:
    """Errors for arguments that no table, or not this table, can serve."""
    _check_protocol(protocol)
    lacking = sorted({target, "camera_model", *_needs(protocol)} - set(table.columns))
    if lacking or not {"path", "photo"} & set(table.columns):
        raise ValueError(f"the table lacks the columns {', '.join(lacking or ['path or photo'])}")
    if table.empty:
        raise ValueError("the table to split has no rows")
    if table[target].isna().any():
        raise ValueError(f"{table[target].isna().sum()} rows have no {target} to predict: take them out first")
    if target == "device" and "device" in _needs(protocol):
        raise ValueError(f"protocol {protocol!r} tests on devices never trained on, so it cannot predict the device")
    if len(fractions) != 3 or min(fractions) < 0 or not np.isclose(sum(fractions), 1) or fractions[TRAIN] == 0:
        raise ValueError(f"fractions are those of train (not 0), val and test, and sum to 1, not {fractions}")
    if "device" in _needs(protocol) and fractions[TEST] == 0:
        raise ValueError(f"protocol {protocol!r} tests on new devices: the fraction of test cannot be 0")


def _needs(protocol: str) -> list[str]:
    """The columns, beyond photo and class, that a protocol keeps apart."""
    return [column for column in ("scene", "device") if column in protocol.split("+")]


def _refuse(protocol: str, why: str) -> None:
    raise ValueError(
        f"protocol {protocol!r} cannot split this table: {why}. "
        "Add photos, drop what it cannot serve (splits.splittable) or change the protocol (splits.strictest)"
    )


def _units(table: pd.DataFrame, protocol: str, target: str) -> tuple[pd.DataFrame, np.ndarray]:
    """What is dealt out, in an order that the rows' does not change, and for each row its unit's position.

    Units are photos, or rows for the protocol patch. Columns: class, camera_model, what the protocol needs.
    """
    photo = relative_photos(table) if "path" in table else table["photo"]
    code = pd.factorize(photo.to_numpy(dtype=object), sort=True)[0]
    if protocol == "patch":
        places = [table[name].to_numpy() for name in ("x", "y") if name in table]
        first = np.lexsort([*places, code])
        unit_of_row = np.empty(len(table), dtype=np.int64)
        unit_of_row[first] = np.arange(len(table))
    else:
        first = np.unique(code, return_index=True)[1]
        unit_of_row = code
    units = pd.DataFrame({"class": table[target].to_numpy(dtype=object)[first]})
    for column in ("camera_model", *_needs(protocol)):
        units[column] = table[column].to_numpy(dtype=object)[first]
    return units, unit_of_row


def _hopeless(units: pd.DataFrame, protocol: str, fractions: tuple[float, float, float]) -> dict[str, str]:
    """The classes that no draw can put in every part, each with the reason."""
    parts = np.count_nonzero(fractions)
    reasons = {}
    if "device" in _needs(protocol):
        devices = units.groupby(["class", "camera_model"])["device"].nunique().groupby("class").max()
        reasons |= dict.fromkeys(devices.index[devices < 2], "fewer than 2 devices of one camera model")
    if "scene" in _needs(protocol):
        scenes = units.groupby("class")["scene"].nunique()
        reasons |= dict.fromkeys(scenes.index[scenes < parts], f"fewer than {parts} scenes")
    sizes = units.groupby("class").size()
    noun = "rows" if protocol == "patch" else "photos"
    reasons |= dict.fromkeys(sizes.index[sizes < parts], f"fewer than {parts} {noun}")
    return dict(sorted(reasons.items()))


def _draw(
    units: pd.DataFrame, protocol: str, seed: int, fractions: tuple[float, float, float]
) -> tuple[np.ndarray | None, pd.Series]:
    """The first random partition with every class in every part, or None, and how often each class was."""
    rng = np.random.default_rng([seed, PROTOCOLS.index(protocol)])
    codes, names = _codes(units)
    needed = np.flatnonzero(fractions)
    hits = pd.Series(0, index=names)
    for draw in range(DRAWS):
        parts = _partition(codes, protocol, fractions, rng, exact=draw < DRAWS // 2)
        counts = np.bincount(codes["class"] * 4 + parts, minlength=4 * len(names)).reshape(-1, 4)
        covered = (counts[:, needed] > 0).all(axis=1)
        if covered.all():
            return parts, hits
        hits += covered
    return None, hits


def _codes(units: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Each column of the units as integers in the order of its sorted values, and the sorted classes."""
    coded = {column: pd.factorize(units[column], sort=True) for column in units}
    codes = {column: code for column, (code, _) in coded.items()}
    if "device" in codes:
        first = np.unique(codes["device"], return_index=True)[1]
        codes["model_of_device"] = codes["camera_model"][first]
    return codes, np.asarray(coded["class"][1])


def _partition(
    codes: dict[str, np.ndarray],
    protocol: str,
    fractions: tuple[float, float, float],
    rng: np.random.Generator,
    exact: bool,
) -> np.ndarray:
    """One random part for each unit; unless `exact`, each scene's part is drawn by itself."""
    if protocol in ("patch", "photo"):
        return _deal(codes["class"], fractions, rng)
    if "device" in codes:
        roles = _deal(codes["model_of_device"], (1 - fractions[TEST], 0, fractions[TEST]), rng)
        tested = roles[codes["device"]] == TEST
    if protocol == "device":
        seen = fractions[TRAIN] + fractions[VAL]
        parts = _deal(codes["class"] * 2 + tested, (fractions[TRAIN] / seen, fractions[VAL] / seen, 0), rng)
        return np.where(tested, TEST, parts)
    one_stratum = np.zeros(codes["scene"].max() + 1, dtype=np.int64)
    if exact:
        scenes = _deal(one_stratum, fractions, rng)[codes["scene"]]
    else:
        chances = np.divide(fractions, sum(fractions))
        scenes = rng.choice(3, len(one_stratum), p=chances)[codes["scene"]]
    if protocol == "scene":
        return scenes
    return np.where(tested == (scenes == TEST), scenes, UNUSED)


def _deal(strata: np.ndarray, fractions: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """Deals the members of each stratum at random into train, val and test.

    Each part gets its fraction, rounded, and at least one member if its fraction is not 0 and there are
    enough (else train goes first, then test).
    """
    sizes = np.bincount(strata)
    order = np.lexsort([rng.random(len(strata)), strata])
    rank = np.empty(len(strata), dtype=np.int64)
    rank[order] = np.arange(len(strata)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    wanted = [np.maximum(np.rint(sizes * f), 1) if f > 0 else np.zeros(len(sizes)) for f in fractions]
    test = np.minimum(wanted[TEST], np.maximum(sizes - 1 - (fractions[VAL] > 0), 1))
    test = np.minimum(test, sizes - 1)
    val = np.minimum(wanted[VAL], sizes - 1 - test)
    parts = np.where(rank < (test + val)[strata], VAL, TRAIN)
    return np.where(rank < test[strata], TEST, parts)


def _assert_disjoint(table: pd.DataFrame, parts: pd.Series, protocol: str) -> None:
    """Raises AssertionError if two parts share what the protocol keeps apart."""
    used = (parts != "unused").to_numpy()
    sides = {"photo": parts[used], "scene": parts[used], "device": parts[used] == "test"}
    apart = [] if protocol == "patch" else ["photo", *_needs(protocol)]
    for name in apart:
        values = table["path" if name == "photo" and "path" in table else name][used]
        seen_on = sides[name].groupby(values.to_numpy(dtype=object)).nunique()
        if (seen_on > 1).any():
            raise AssertionError(f"{name} {seen_on.idxmax()} lies on both sides of a split by {protocol}")
