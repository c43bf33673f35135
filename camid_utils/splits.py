"""Catalogue or patch table -> train, val or test for each row, by one of six protocols; row order does not matter."""

import numpy as np
import pandas as pd

KEPT_APART = {  # by protocol: what parts never share beyond photos (device, collection: test with train and val)
    "patch": [],  # not even photos are kept apart: a random patch split, as the authors did, with leakage
    "photo": [],
    "scene": ["scene"],
    "device": ["device"],
    "scene+device": ["scene", "device"],  # Bondi et al. 2017
    "collection": ["collection", "scene"],  # of each class
}
PROTOCOLS = tuple(KEPT_APART)  # a draw depends on the position
TESTS = {  # what each protocol tests, in the words of experiments.csv
    "patch": "other patches of training photos", "photo": "new photos", "scene": "new scenes", "device": "new devices",
    "scene+device": "new scenes and devices", "collection": "new collections",
}  # fmt: skip
LADDER = ("scene+device", "device", "scene", "photo")  # the strictest first
PARTS = ("train", "val", "test", "unused")
TRAIN, VAL, TEST, UNUSED = range(4)
FRACTIONS = (0.5, 0.15, 0.35)  # of train, val and test; the authors test on 0.3
TEST_DEVICES = 0.5  # share of a model's devices that are tested: what a test says of new devices rests on their number
DRAWS = 500  # random partitions tried before a split counts as impossible; in the second half the sizes vary
FOLDS = 2  # of the protocol collection: fold = seed % FOLDS
LEAST = 8  # photos of a class in a collection that is tested, or validates, as a whole
KEPT_BLOCKS = (0.75, 0.125, 0.125)  # of a training collection's scenes: trained on, set aside, for validation
LEAST_SHARE = 0.5  # of the classes that `photo` can split; see `strictest`


def split(
    table: pd.DataFrame, protocol: str, seed: int, target: str = "camera_model", least: int = 2
) -> tuple[pd.Series, pd.DataFrame]:
    """The part of each row of a catalogue or patch table that can be split, "train", "val", "test" or "unused", by the
    table's index, and what is left out: columns class and reason.

    Every class of `target` that is left is in every part. FRACTIONS are those of a class's rows (patch) or photos
    (photo), of the scenes of each collection (scene). device: TEST_DEVICES of a camera model's devices are tested; val
    is other photos of the training devices. scene+device: train and val are training devices in training and validation
    scenes, test is test devices in test scenes, the rest is "unused".

    collection: seeds 0 and 1 (and so on) are two folds: of each class's collections with LEAST photos or more, every
    second one, by name, is tested, but never the only one. val is another whole collection where training has two, else
    one scene of each training collection: it can decide when training stops, but a recipe has to be chosen by its
    results on other classes. One more scene of each training collection is "unused": planning.shared_training tests
    it. Where classes share a collection, it may test one and train another, which can only mislead the network.

    Left out first are photos whose scene, device or collection is needed but unknown (their class may stay), then
    classes with too few photos, scenes or devices, then those that no draw can place. ValueError if fewer than `least`
    classes remain.
    """
    units, unit_of_row = _units(table, protocol, target)
    parts, dropped = None, []
    for column in KEPT_APART[protocol]:
        unknown = units[column].isna()
        counts = units["class"][unknown].value_counts().sort_index()
        dropped += [(name, f"{count} photos of unknown {column}") for name, count in counts.items()]
        units = units[~unknown]
    while parts is None:
        hopeless = _unsplittable(units, protocol)
        dropped += hopeless.items()
        units = units[~units["class"].isin(hopeless)]
        parts, hits = _draw(units, protocol, seed) if len(units) else (np.empty(0, int), None)
        if parts is None:
            dropped.append((hits.idxmin(), f"none of {DRAWS} draws put it and the others in every part"))
            units = units[units["class"] != hits.idxmin()]
    dropped = pd.DataFrame(dropped, columns=["class", "reason"])
    if units["class"].nunique() < least:
        advice = "Add photos or choose another protocol"
        if dropped["reason"].str.contains("unknown scene").any():
            advice = f"Dresden's scenes are in dresden.csv in its root. {advice}"
        few = f"fewer than {least} classes are left to tell apart"
        raise ValueError(f"protocol {protocol!r} cannot split this table: {few}; {_format_reasons(dropped)}. {advice}")
    part_of_unit = pd.Series(np.array(PARTS, dtype=object)[parts], units.index)
    return part_of_unit.reindex(unit_of_row).set_axis(table.index).dropna(), dropped


def strictest(table: pd.DataFrame, protocol: str, seed: int, target: str = "camera_model") -> tuple[str, str]:
    """The protocol asked for, or the strictest weaker one that serves, and why ("" if as asked).

    A protocol serves if it can split at least two classes, and at least LEAST_SHARE of those that photo can: all phones
    in new scenes say more than the few with two devices. patch is never chosen unless asked for.
    """
    if protocol not in LADDER:
        return protocol, ""
    most, reason = None, ""
    for candidate in ("photo", *LADDER[LADDER.index(protocol) :]):
        parts, dropped = split(table, candidate, seed, target, least=0)
        count, lost = table.loc[parts.index, target].nunique(), _format_reasons(dropped, most=3)
        if most is None:
            most = count
        elif count >= max(2, LEAST_SHARE * most):
            return candidate, reason and f"{reason}; used instead: {candidate}"
        else:
            reason = reason or f"{candidate} can split {count} of {table[target].nunique()} classes ({lost})"
    names = ", ".join(map(str, sorted(table[target].dropna().unique())))
    raise ValueError(f"no protocol can split these photos: two classes are needed, here are {names or 'none'}. {lost}")


def _units(table: pd.DataFrame, protocol: str, target: str) -> tuple[pd.DataFrame, np.ndarray]:
    """What is drawn (photos, or rows under patch), whatever the order of the rows, and the unit of each row."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    code = pd.factorize(table["photo"].to_numpy(dtype=object), sort=True)[0]
    first, unit_of_row = np.unique(code, return_index=True)[1], code
    if protocol == "patch":
        first = np.lexsort([*(table[name].to_numpy() for name in ("x", "y") if name in table), code])
        unit_of_row = np.argsort(first)
    units = table[["camera_model", "device", "scene", "collection"]].assign(**{"class": table[target]})
    units = units.iloc[first].astype(object).reset_index(drop=True)
    shared = units.groupby("scene")["collection"].nunique() > 1
    if protocol == "collection" and shared.any():
        advice = "give the scenes of each collection names of their own, such as COLLECTION/SCENE"
        raise ValueError(f"scene {shared.idxmax()!r} is in several collections, which are to share none: {advice}")
    return units, unit_of_row


def _unsplittable(units: pd.DataFrame, protocol: str) -> dict[str, str]:
    """The classes that no draw can put in every part, each with the reason."""
    classes, lacking = units.groupby("class"), {}
    if protocol == "collection":
        sizes = units.groupby(["class", "collection"]).size()
        most, enough = sizes.groupby("class").max(), (sizes >= LEAST).groupby("class").sum()
        lacking[f"{LEAST} photos in a collection"] = most < LEAST
        lacking["2 scenes"] = classes["scene"].nunique() < 2
        lacking[f"2 collections of {LEAST} photos, in every class"] = enough.map(lambda _: (enough < 2).all())
    if "device" in protocol:
        devices = units.groupby(["class", "camera_model"])["device"].nunique()
        lacking["2 devices of one camera model"] = devices.groupby("class").max() < 2
    if "scene" in protocol:
        lacking["3 scenes"] = classes["scene"].nunique() < 3
    lacking["3 rows" if protocol == "patch" else "3 photos"] = classes.size() < 3
    reasons = {name: f"fewer than {what}" for what, poor in lacking.items() for name in poor.index[poor]}
    return dict(sorted(reasons.items()))


def _format_reasons(dropped: pd.DataFrame, most: int | None = None) -> str:
    """Classes grouped by reason, at most `most` of them named: "fewer than 3 photos: A, B and 2 more"."""
    texts = []
    for reason, names in dropped.groupby("reason", sort=False)["class"]:
        rest = len(names) - len(names[:most])
        texts.append(f"{reason}: {', '.join(map(str, names[:most]))}" + f" and {rest} more" * (rest > 0))
    return "; ".join(texts)


def _draw(units: pd.DataFrame, protocol: str, seed: int) -> tuple[np.ndarray | None, pd.Series]:
    """The first random partition with every class in every part, or None, and how many times each class was."""
    rng = np.random.default_rng([seed, PROTOCOLS.index(protocol)])
    names = np.unique(units["class"].to_numpy())
    codes = {column: pd.factorize(units[column], sort=True)[0] for column in units}  # in the order of sorted values
    hits = pd.Series(0, index=names)
    for draw in range(DRAWS):
        if protocol == "collection":
            parts = _by_collection(codes, seed % FOLDS, rng)
        else:
            parts = _partition(codes, protocol, rng, exact=draw < DRAWS // 2)
        counts = np.bincount(codes["class"] * 4 + parts, minlength=4 * len(names)).reshape(-1, 4)
        covered = (counts[:, [TRAIN, VAL] + [TEST] * (protocol != "collection")] > 0).all(axis=1)
        if covered.all():
            return parts, hits
        hits += covered
    return None, hits


def _partition(codes: dict[str, np.ndarray], protocol: str, rng: np.random.Generator, exact: bool) -> np.ndarray:
    """One random part for each unit; unless `exact`, each scene's part is drawn independently."""
    train, val, _ = FRACTIONS
    if protocol in ("patch", "photo"):
        return _assign(codes["class"], FRACTIONS, rng)
    if "device" in protocol:
        model_of_device = codes["camera_model"][np.unique(codes["device"], return_index=True)[1]]
        roles = _assign(model_of_device, (1 - TEST_DEVICES, 0, TEST_DEVICES), rng)
        tested = roles[codes["device"]] == TEST
    if protocol == "device":
        parts = _assign(codes["class"] * 2 + tested, (train / (train + val), val / (train + val), 0), rng)
        return np.where(tested, TEST, parts)
    strata = _collection_of_scene(codes)
    part_of_scene = _assign(strata, FRACTIONS, rng) if exact else rng.choice(3, len(strata), p=FRACTIONS)
    parts = part_of_scene[codes["scene"]]
    return parts if protocol == "scene" else np.where(tested == (parts == TEST), parts, UNUSED)


def _by_collection(codes: dict[str, np.ndarray], fold: int, rng: np.random.Generator) -> np.ndarray:
    """The part of each unit under the protocol collection, in one fold; see `split`."""
    width = codes["collection"].max() + 1
    keys, pair = np.unique(codes["class"] * width + codes["collection"], return_inverse=True)
    owner, drawn = keys // width, pd.Series(rng.random(len(keys)))
    large = pd.Series(np.bincount(pair) >= LEAST)
    several = large & (large.groupby(owner).transform("sum") > 1)  # only classes with at least two are tested
    test = several & (several.groupby(owner).cumsum() % FOLDS == (fold + 1) % FOLDS)  # each in one fold
    spare = several & ~test
    spare &= spare.groupby(owner).transform("sum") > 1  # at least one must remain for training
    whole = spare & (drawn.where(spare).groupby(owner).transform("max") == drawn)  # one of them, at random: validation
    parts = np.array([TRAIN, UNUSED, VAL])[_assign(_collection_of_scene(codes), KEPT_BLOCKS, rng)][codes["scene"]]
    validated = whole.groupby(owner).transform("any").to_numpy()[pair]
    parts = np.where(validated & (parts == VAL), TRAIN, parts)
    return np.select([test.to_numpy()[pair], whole.to_numpy()[pair]], [TEST, VAL], parts)


def _collection_of_scene(codes: dict[str, np.ndarray]) -> np.ndarray:
    """A number of each scene's collection, 0 if it is unknown; of the first, where several share its name."""
    return codes["collection"][np.unique(codes["scene"], return_index=True)[1]] + 1


def _assign(strata: np.ndarray, fractions: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """A random part for each member of each stratum: its fraction, rounded, and at least one member where possible."""
    sizes = np.bincount(strata)
    rank = pd.Series(rng.random(len(strata))).groupby(strata).rank(method="first").to_numpy() - 1
    wanted = [np.maximum(np.rint(sizes * f), 1) if f > 0 else np.zeros(len(sizes)) for f in fractions]
    test = np.minimum(wanted[TEST], np.minimum(np.maximum(sizes - 1 - (fractions[VAL] > 0), 1), sizes - 1))
    val = np.minimum(wanted[VAL], sizes - 1 - test)
    parts = np.where(rank < (test + val)[strata], VAL, TRAIN)
    return np.where(rank < test[strata], TEST, parts)
