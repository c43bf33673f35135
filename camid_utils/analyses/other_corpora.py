"""Tests on other corpora: the same phone models, other devices, scenes and users, and copies from social networks."""

from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from .. import catalogues, datasets, evaluation, intervals, patches, published
from ..evaluation import LOG_PROB
from ..experiments import CONTRAST_COLUMNS, labels
from ..figures.examples import centre_crop
from ..photos import read_photo

VERSIONS = {"forchheim": datasets.FORCHHEIM_VERSIONS, "vision": datasets.VISION_VERSIONS}
OTHER = "other corpus"  # in place of a protocol in rows of metrics


def versions(kind: str, catalogue: pd.DataFrame) -> list[str]:
    """The versions of a corpus's photos in its folder; the catalogue is of the first, as the camera wrote them."""
    return [name for name in VERSIONS[kind] if name == VERSIONS[kind][0] or name in catalogue.attrs["skipped"]]


def overview(corpora: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Counts of each corpus here and as published: one row per corpus, pairs of columns."""
    theirs = published.read("corpora").set_index("corpus").rename(index=str.casefold)
    columns, rows = {"phones": "device", "models": "camera_model", "scenes": "scene"}, {}
    for kind, table in corpora.items():
        ours = {name: table[column].nunique() or pd.NA for name, column in columns.items()}
        row = {("photos", "used"): len(table), ("photos", "left out"): len(catalogues.left_out(table))}
        for name, count in (ours | {"versions": len(versions(kind, table))}).items():
            row |= {(name, "here"): count, (name, "published"): theirs.loc[kind, name]}
        rows[table["dataset"].iloc[0]] = row
    return pd.DataFrame(rows).T.astype("Int64")


def predict_catalogue(models: list, catalogue: pd.DataFrame, folder: Path, crops: int, seed: int) -> pd.DataFrame:
    """Predictions of a catalogue's photos by each Model, on the view that it was trained on; crops: per photo."""
    kind, size = models[0].info["kind"], models[0].input_size
    store = patches.extract(catalogue, folder, kind=kind, size=size, per_photo=crops, seed=seed)
    rows = np.arange(len(store.table))
    found = [evaluation.predict(m, store, rows).assign(part="test", seed=m.info["seed"]) for m in models]
    return pd.concat(found, ignore_index=True)


def restrict_classes(predictions: pd.DataFrame, names: list[str], choice: str = "all") -> pd.DataFrame:
    """The rows whose true class is in `names`; choice "common": as if the model knew no other class."""
    rows = predictions[predictions["true"].isin(names)].reset_index(drop=True)
    if choice == "all":
        return rows
    own = [LOG_PROB + name for name in evaluation.class_names(rows) if name in names]
    rest = rows[[c for c in rows if not c.startswith(LOG_PROB)]]
    return rest.join(pd.DataFrame(log_softmax(rows[own].to_numpy(float), axis=1), columns=own))


def compare(
    own: pd.DataFrame, other: pd.DataFrame, names: list[str], corpus: str, protocol: str, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics and contrasts, <corpus>-all and <corpus>-common (see restrict_classes), of photos of the classes `names`.

    own: predictions of the models' own test photos; other: those of another corpus. Contrasts: accuracy per photo there
    minus here, independent samples: CONTRAST_COLUMNS, and models and devices of the other corpus.
    """
    metrics, contrasts = [], []
    fewer = 1 < len(names) < len(evaluation.class_names(own))  # a single class would always be correct
    for choice in ("all", "common") if fewer else ("all",):
        name = f"{corpus}-{choice}"
        samples = {OTHER: restrict_classes(other, names, choice), protocol: restrict_classes(own, names, choice)}
        for (used, sample), level in product(samples.items(), ("patch", "photo")):
            metrics.append(intervals.score(sample, experiment=name, protocol=used, level=level, seed=seed))
        a, b = map(evaluation.vote, samples.values())
        row = [name, OTHER, name, protocol, a["dataset"].iloc[0], "photo", *intervals.difference(a, b, seed)]
        photos = a["photo"].nunique(), b["photo"].nunique()
        contrasts.append([*row, *photos, False, len(names), a["device"].nunique()])
    columns = [*CONTRAST_COLUMNS, "models", "devices"]
    return pd.concat(metrics, ignore_index=True), pd.DataFrame(contrasts, columns=columns)


def accuracy_rows(metrics: pd.DataFrame) -> pd.DataFrame:
    """Accuracies per photo for a figure: also label (the experiment, numbers of photos) and group (which photos)."""
    rows = metrics[(metrics["metric"] == "accuracy") & (metrics["level"] == "photo")]
    counts = rows.groupby("experiment")["photos"].agg(lambda photos: " and ".join(photos.astype(str)) + " photos")
    simulated = rows["dataset"].str.startswith("simulated").groupby(rows["experiment"]).transform("first")
    label = rows["experiment"].map(labels()) + simulated.map({True: " (simulated)\n", False: "\n"})
    group = np.where(rows["protocol"] == OTHER, OTHER, "own test photos")
    return rows.assign(label=label + rows["experiment"].map(counts), group=group)


def shared_versions(root: str | Path, common: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Forchheim photos of common models that are in every version: a catalogue per version; empty if there is none."""
    names = versions("forchheim", datasets.load_forchheim(root))
    found = {name: photos_in_common(datasets.load_forchheim(root, name), common) for name in names}
    indexed = {name: table.set_index(["device", "scene"]) for name, table in found.items()}
    complete = sorted(set.intersection(*(set(table.index) for table in indexed.values())))
    if len(found) < 2 or not complete:
        return {}
    return {name: table.loc[complete].reset_index()[catalogues.COLUMNS] for name, table in indexed.items()}


def version_rows(tables: dict[tuple[str, str], pd.DataFrame], seed: int) -> pd.DataFrame:
    """Accuracy per photo of each (model, version) on the photos that are in every table, and its paired differences.

    Columns: model, version, dataset, value, low, high, n (photos), crops (mean number of votes), loss (minus the same
    model on the first version), gain (minus the first model on the same version), and <name>_low and <name>_high.
    """
    named = {key: t.assign(photo=t["device"].astype(str) + " " + t["scene"].astype(str)) for key, t in tables.items()}
    common = set.intersection(*(set(table["photo"]) for table in named.values()))
    tables = {key: table[table["photo"].isin(common)].reset_index(drop=True) for key, table in named.items()}
    votes = {key: evaluation.vote(table) for key, table in tables.items()}
    (first_model, first_version), rows = next(iter(tables)), []
    for (model, version), own in votes.items():
        value, low, high, n = intervals.photo_accuracy(tables[model, version]).loc[0]
        row = [model, version, own["dataset"].iloc[0], value, low, high, int(n), own["patches"].mean()]
        for base in (votes[model, first_version], votes[first_model, version]):
            row += intervals.paired_difference(own, base, seed)
        rows.append(row)
    columns = ["model", "version", "dataset", "value", "low", "high", "n", "crops"]
    columns += [name + end for name in ("loss", "gain") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=columns)


def version_table(rows: pd.DataFrame) -> pd.DataFrame:
    """`version_rows` for readers: accuracy, both differences in points and their verdicts, by model and version."""
    table = rows[["model", "version"]].assign(accuracy=intervals.formatted(rows, "%"))
    for name, column in (("loss", "version"), ("gain", "model")):
        points = intervals.formatted(rows, "points", name, f"{name}_")
        verdicts = map(intervals.verdict, rows[f"{name}_low"], rows[f"{name}_high"])
        first = rows[column].iloc[0]
        cells = pd.Series([": ".join(pair) for pair in zip(points, verdicts, strict=True)])
        table[f"minus {first}, points"] = cells.mask(rows[column] == first, "")
    return table.set_index(["model", "version"])


def example_versions(copies: dict[str, pd.DataFrame], size: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Of the first photo readable in all versions: for each a caption, the photo and its centre crop, or ValueError."""
    for paths in zip(*(table.sort_values(["device", "scene"])["path"] for table in copies.values()), strict=True):
        with suppress(ValueError):
            photos = dict(zip(copies, map(read_photo, paths), strict=True))
            return [(f"{name}, {p.shape[1]} x {p.shape[0]}", p, centre_crop(p, size)) for name, p in photos.items()]
    raise ValueError(f"no photo can be read in all of {', '.join(copies)}")


def common_models(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """The camera models in both catalogues, compared by `datasets.spelling`: one row per pair of names.

    Columns: camera_model, photos, devices (of `a`), other, other_photos, other_devices (of `b`). ValueError where `a`
    spells one model in two ways, as they would be two classes.
    """
    ours, theirs = (catalogues.summary(table)[["photos", "devices"]].reset_index() for table in (a, b))
    ours["spelling"], theirs["spelling"] = (table["camera_model"].map(datasets.spelling) for table in (ours, theirs))
    twice = ours[ours["spelling"].duplicated(keep=False)]
    if len(twice):
        raise ValueError(f"one camera model has several names: {', '.join(twice['camera_model'])}; rename its folder")
    theirs = theirs.rename(columns={"camera_model": "other", "photos": "other_photos", "devices": "other_devices"})
    table = ours.merge(theirs, on="spelling").drop(columns="spelling")
    return table.sort_values(["camera_model", "other"], ignore_index=True)


def photos_in_common(b: pd.DataFrame, common: pd.DataFrame) -> pd.DataFrame:
    """The photos of `b` of the models in `common_models`, under the names that these have in `a`."""
    names = common.set_index("other")["camera_model"]
    photos = b[b["camera_model"].isin(names.index)].reset_index(drop=True)
    models = photos["camera_model"].map(names).astype("string")
    return photos.assign(camera_model=models, brand=models.str.split("_").str[0].astype("string"))
