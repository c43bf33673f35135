"""95 % intervals of metrics and of differences, the verdict on them, and their one formatter.

By percentile bootstrap over what was drawn: the devices of each camera model, the scenes, and the seeds. Photos of one
device or one scene tend to be right or wrong together, so each is drawn as a cluster. A photo's weight is the product
of its clusters' draws (the pigeonhole bootstrap, Owen 2007). Of n clusters n - 1 are drawn and count n / (n - 1) each.
Otherwise the few devices, scenes and seeds of a study would look less variable than they are (Rao and Wu 1988). A
single device, scene or seed adds no variation. Where new collections are tested, their owners are drawn with all
their collections, from those of all models: drawn within models, collections covered 84 to 95 % of simulated truths.
"""

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components
from scipy.stats import binomtest

from . import published
from .evaluation import class_names, predicted, vote, weighted_metrics

METRIC_COLUMNS = [
    "experiment", "dataset", "protocol", "part", "level", "metric", "value", "low", "high", "n", "photos", "devices",
    "scenes", "collections", "classes", "seed", "seeds", "spread", "plateau", "published",
]  # fmt: skip
FORMATS = {
    "%": "{:.1f} % ({:.1f} to {:.1f})",  # shares of 1
    "points": "{:+.1f} ({:+.1f} to {:+.1f})",  # differences of shares
    "": "{:.3f} ({:.3f} to {:.3f})",  # numbers as they are
}
LEVEL = 0.05  # significance of a verdict on one interval, or on contrasts judged together, with Holm's correction
UNDECIDED, UNTRAINED = "undecided", "not trained to the plateau"
MISSED = 0.1  # of bootstrap samples: where more of them lack what is measured, anything is possible


def units(table: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """The unit of each row of a table of predictions, and the units: one row per seed and photo.

    Columns: seed, photo, camera_model, device, scene, collection, owner (of the collection: published.owner), new
    (whether the collection is new to the network: in a test under that protocol). A photo of unknown scene is a scene
    of its own; photos of unknown devices count as one device of their model, those of unknown collections as one.
    """
    columns = ["seed", "photo", "camera_model", "device", "scene", "collection"]
    known = table.reindex(columns=columns).astype({name: object for name in columns[1:]})
    known["seed"], parts = table.get("seed", 0), table.reindex(columns=["protocol", "part"])
    known["new"] = (parts["protocol"] == "collection") & (parts["part"] != "val")
    code, _ = pd.factorize(pd.MultiIndex.from_frame(known[["seed", "photo"]]), sort=True)
    found = known.iloc[np.unique(code, return_index=True)[1]].reset_index(drop=True)
    known = {name: found[name].fillna("") for name in ("camera_model", "device", "collection")}
    known["owner"] = published.owner(known["collection"])
    return code, found.assign(**known, scene=found["scene"].fillna(found["photo"]))


def bootstrap_weights(found: pd.DataFrame, key: list[int], resamples: int = 1000) -> np.ndarray:
    """How often each of the `units` counts, [1 + resamples, units]: in the sample itself, then in bootstrap samples.

    key: the seed of the draws. Devices are drawn within their model, as the models are not a sample, and seeds among
    those whose tests share photos, directly or through others: folds are not repeats of each other. Where collections
    are new, owners are drawn in place of devices and scenes: an owner's share the photographer, often the camera.
    """
    shared = found if not found["new"].any() else found[found["new"]]  # photos set aside may be in several folds
    if found["new"].any():
        owned = found["collection"].str.contains("/")  # other corpora beside them have no owners
        found = found.assign(device=found["device"].mask(owned, ""), scene=found["scene"].mask(owned, found["owner"]))
    seeds = pd.Index(sorted(found["seed"].unique()))
    shared = pd.crosstab(shared["seed"], shared["photo"]).reindex(seeds, fill_value=0).to_numpy()
    folds = connected_components(shared @ shared.T)[1][seeds.get_indexer(found["seed"])]
    rng, weights = np.random.default_rng(key), np.ones((1 + resamples, len(found)))
    devices = found["camera_model"].astype(str) + "\n" + found["device"].astype(str)
    strata = {"device": found["camera_model"], "scene": np.zeros(len(found)), "seed": folds}
    for name, stratum in strata.items():
        code, names = pd.factorize(devices if name == "device" else found[name], sort=True)
        group = np.zeros(len(names), int)
        group[code] = pd.factorize(stratum, sort=True)[0]
        drawn = np.ones((1 + resamples, len(names)))
        for members in (np.flatnonzero(group == each) for each in np.unique(group)):
            if (count := len(members)) > 1:
                times = rng.multinomial(count - 1, np.full(count, 1 / count), resamples)
                drawn[1:, members] = times * count / (count - 1)
        weights *= drawn[:, code]
    return weights


def clusters(found: pd.DataFrame) -> int:
    """How many of `units` were drawn independently: owners where collections are new, else devices, else scenes."""
    if found["new"].any():
        return found.loc[found["new"], "owner"].nunique()
    devices = len(found[["camera_model", "device"]].drop_duplicates())
    return devices if devices > 1 else found["scene"].nunique()


def drawn(found: pd.DataFrame) -> int:
    """How many owners of new collections, or else devices that are not their model's only one, or scenes, are drawn."""
    if found["new"].any():
        return clusters(found)
    devices = found.groupby("camera_model")["device"].nunique()
    return max(devices[devices > 1].sum(), found["scene"].nunique())


def score(
    predictions: pd.DataFrame, *, experiment: str, protocol: str, level: str = "patch", part: str = "test",
    seed: int = 0, published: dict[str, float] | None = None, plateau: bool = True, resamples: int = 1000,
) -> pd.DataFrame:  # fmt: skip
    """One row per metric, with its 95 % interval: METRIC_COLUMNS. Seeds (column `seed`) are pooled.

    level: "patch", or "photo" (predictions are voted first). spread: standard deviation of the seeds' own values.
    `published` maps metrics to the paper's values; plateau: whether every training reached its plateau.
    """
    if predictions.empty:
        raise ValueError(f"no predictions to score for {experiment}, {protocol}, {part}")
    table = vote(predictions) if level == "photo" else predictions
    code, found = units(table.assign(protocol=protocol, part=part))
    weights = bootstrap_weights(found, [seed, 95], resamples)
    values = weighted_metrics(table, weights, code)
    seeds = found["seed"].unique()
    single = weighted_metrics(table, np.array([found["seed"] == one for one in seeds], float), code)
    rows = []
    for metric, draws in values.items():
        independent = 0 if metric == "log loss" else clusters(found)
        spread = np.std(single[metric], ddof=min(1, len(seeds) - 1))
        ends = interval(draws, independent, (0, np.inf) if metric == "log loss" else (0, 1))
        rows.append([metric, *ends, spread, (published or {}).get(metric, np.nan)])
    counts = {f"{name}s": found[name].nunique() for name in ("photo", "device", "scene", "collection")}
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high", "spread", "published"]).assign(
        experiment=experiment, dataset=", ".join(sorted(table["dataset"].unique())), protocol=protocol, part=part,
        level=level, n=len(table), **counts, classes=len(class_names(table)), seed=seed, seeds=len(seeds),
        plateau=plateau,
    )[METRIC_COLUMNS]  # fmt: skip


def interval(draws: np.ndarray, n: int = 0, span: tuple[float, float] = (0, 1)) -> tuple[float, float, float]:
    """The first of the draws, and the ends of the 95 % interval of the others; all NaN where the first is.

    n: given for shares: of how many `clusters`. At 0 or 1 all bootstrap samples are alike; the interval is Wilson's.
    span: the values that are possible, and the interval where more than MISSED of the samples are NaN; the others all
    drew the same few clusters, and are too much alike.
    """
    if np.isnan(draws[0]):
        return (np.nan,) * 3
    if n and draws[0] in (0, 1):
        return wilson(round(draws[0] * n), n)
    if np.isnan(draws[1:]).mean() > MISSED:
        return float(draws[0]), *map(float, span)
    return float(draws[0]), *np.nanpercentile(draws[1:], [2.5, 97.5]).tolist()


def difference(a: pd.DataFrame, b: pd.DataFrame, seed: int = 0, resamples: int = 2000) -> tuple[float, ...]:
    """(accuracy of a - accuracy of b, low, high, p) of two tables of predictions.

    Devices, scenes and seeds (or owners of new collections) in both tables get the same draws, so the comparison is
    paired where photos are the same. p: see two_sided; at least that of a sign test where all that are `drawn` agree.
    """
    both = pd.concat([a.assign(side=0), b.assign(side=1)], ignore_index=True)
    code, found = units(both)
    weights, side = bootstrap_weights(found, [seed, 96], resamples), both["side"].to_numpy()
    right, shares = (predicted(both) == both["true"].to_numpy()).astype(float), []
    for one in (0, 1):
        rows = code[side == one]
        hits, counts = (np.bincount(rows, values, len(found)) for values in (right[side == one], np.ones(len(rows))))
        with np.errstate(invalid="ignore"):  # a sample may miss all photos of one side
            shares.append((weights @ hits) / (weights @ counts))
    draws = (shares[0] - shares[1]).round(12)  # so that equal shares stay equal, whatever the rounding
    if np.isnan(draws[1:]).mean() > MISSED:
        return float(draws[0]), -1.0, 1.0, 1.0
    return *interval(draws), max(two_sided(draws[1:]), min(1.0, 2 * 0.5 ** drawn(found)))


def two_sided(draws: np.ndarray) -> float:
    """p: the share of bootstrap samples on the other side of zero, doubled, at least 1 / samples; without NaN."""
    known = draws[np.isfinite(draws)]
    return float(np.clip(2 * min(np.mean(known <= 0), np.mean(known >= 0)), 1 / len(draws), 1))


def holm(p: np.ndarray) -> np.ndarray:
    """p values adjusted for multiple tests, each 0 to 1 (Holm 1979); NaN stays NaN."""
    p = np.asarray(p, float)
    order = np.argsort(p)[: np.isfinite(p).sum()]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def judged(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Contrasts with new columns p_holm (over all of them) and verdict, which replace any old ones.

    verdict: "higher" or "lower" where p_holm is below LEVEL, UNDECIDED, or UNTRAINED (column `plateau`).
    """
    adjusted = holm(contrasts["p"].where(contrasts["plateau"].astype(bool)))
    sign = np.where(contrasts["difference"] > 0, "higher", "lower")
    words = np.where(adjusted < LEVEL, sign, np.where(np.isnan(adjusted), UNTRAINED, UNDECIDED))
    return contrasts.assign(p_holm=adjusted, verdict=words)


def photo_accuracy(predictions: pd.DataFrame, reference: pd.DataFrame | None = None, **labels: str) -> pd.DataFrame:
    """One row: accuracy per photo with its 95 % interval; columns value, low, high, n (photos), those of `labels`.

    reference: other predictions of the same photos; change, change_low, change_high, p: accuracy minus theirs.
    """
    seed = int(predictions["seed"].min())
    protocol = predictions.get("protocol", pd.Series([""])).iloc[0]
    rows = score(predictions, experiment="", protocol=protocol, level="photo", seed=seed).set_index("metric")
    row = rows.loc[["accuracy"], ["value", "low", "high", "photos"]].reset_index(drop=True)
    row = row.rename(columns={"photos": "n"}).assign(**labels)
    if reference is not None:
        row[["change", "change_low", "change_high", "p"]] = [difference(vote(predictions), vote(reference), seed)]
    return row


def wilson(count: int, n: int) -> tuple[float, float, float]:
    """A share with its 95 % interval by Wilson's method (1927); NaN if n is 0."""
    return (count / n, *binomtest(count, n).proportion_ci(method="wilson")) if n else (np.nan,) * 3


def verdict(low: float, high: float) -> str:
    """What a 95 % interval says about a difference: "higher", "lower", or "undecided" if it includes zero."""
    return "higher" if low > 0 else "lower" if high < 0 else UNDECIDED


def formatted(rows: pd.DataFrame, unit: str | None = None, value: str = "value", ends: str = "") -> list[str]:
    """The number of each row with its 95 % interval, as text: columns `value`, `<ends>low` and `<ends>high`.

    unit: one of FORMATS; None takes "" for rows whose `metric` is the log loss and "%" for others. A share whose ends
    are equal has no interval: all bootstrap samples are alike, as of too few devices. "-": nothing was measured.
    """
    units = [unit] * len(rows)
    if unit is None:
        units = ["" if metric == "log loss" else "%" for metric in rows.get("metric", units)]
    numbers = rows[[value, f"{ends}low", f"{ends}high"]].to_numpy(float)
    texts = []
    for own, row in zip(units, numbers, strict=True):
        text = FORMATS[own].format(*(100 * row if own else row))
        if (own == "%" and row[1] == row[2]) or np.isnan(row[1:]).any():
            text = text.split(" (")[0] + " (no interval)"
        texts.append("-" if np.isnan(row[0]) else text)
    return texts
