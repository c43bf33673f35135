"""Tests on other corpora: the same phone models, other devices, scenes and users, and copies from social networks."""

from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from .. import catalogues, datasets, evaluation, intervals, patches, published
from ..evaluation import LOG_PROB
from ..experiments import CONTRAST_COLUMNS, Experiment, labels
from ..figures.photographs import centre_crop
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
    """The rows whose true class is in `names`; choice "common": only these classes to choose from."""
    rows = predictions[predictions["true"].isin(names)].reset_index(drop=True)
    if choice == "common":
        rows = rows.drop(columns=[LOG_PROB + name for name in evaluation.class_names(rows) if name not in names])
        rows = evaluation.with_logits(rows, evaluation.log_probabilities(rows))
    return rows


def compare(
    run: Experiment, other: pd.DataFrame, names: list[str], corpus: str, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics and contrasts, <corpus>-all and <corpus>-common (see restrict_classes), of photos of the classes `names`.

    other: predictions of another corpus by the run's models. Contrasts: accuracy per photo there minus that in the
    run's test: CONTRAST_COLUMNS, models and devices of the other corpus.
    """
    own, metrics, contrasts = run.test(), [], []
    fewer = 1 < len(names) < len(evaluation.class_names(own))  # a single class would always be correct
    for choice in ("all", "common") if fewer else ("all",):
        name = f"{corpus}-{choice}"
        samples = {OTHER: restrict_classes(other, names, choice), run.protocol: restrict_classes(own, names, choice)}
        for (protocol, sample), level in product(samples.items(), ("patch", "photo")):
            options = dict(protocol=protocol, level=level, seed=seed, plateau=run.plateau)
            metrics.append(intervals.score(sample, experiment=name, **options))
        a, b = map(evaluation.vote, samples.values())
        row = [name, OTHER, name, run.protocol, a["dataset"].iloc[0], "photo", *intervals.difference(a, b, seed)]
        row += [a["photo"].nunique(), b["photo"].nunique(), run.plateau, len(names), a["device"].nunique()]
        contrasts.append(row)
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


def compare_versions(
    tables: dict[tuple[str, str], pd.DataFrame], plateau: dict[str, bool], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy per photo of each (model, version) on the photos that are in every table, and its differences.

    First table: with n photos and crops (mean number of votes). Second (intervals.judged): each minus the same model on
    the first version, and minus the first model on the same version. plateau: of each model's trainings.
    """
    named = {key: t.assign(photo=t["device"].astype(str) + " " + t["scene"].astype(str)) for key, t in tables.items()}
    common = set.intersection(*(set(table["photo"]) for table in named.values()))
    votes = {key: evaluation.vote(table[table["photo"].isin(common)]) for key, table in named.items()}
    (first_model, first_version), rows, gaps = next(iter(votes)), [], []
    for (model, version), own in votes.items():
        names = [model, version, own["dataset"].iloc[0]]
        rows.append([*names, *intervals.photo_accuracy(own).loc[0], own["patches"].mean()])
        for minus, key in ((first_version, (model, first_version)), (first_model, (first_model, version))):
            if key != (model, version):
                trained = plateau[model] and plateau[key[0]]
                gaps.append([*names, minus, *intervals.difference(own, votes[key], seed), trained])
    names = ["model", "version", "dataset"]
    columns = [*names, "minus", "difference", "low", "high", "p", "plateau"]
    contrasts = intervals.judged(pd.DataFrame(gaps, columns=columns))
    rows = pd.DataFrame(rows, columns=[*names, "value", "low", "high", "n", "crops"])
    return rows.astype({"n": int}), contrasts


def version_table(rows: pd.DataFrame, contrasts: pd.DataFrame) -> pd.DataFrame:
    """`compare_versions` for readers: accuracy, differences in points with their verdicts, by model and version."""
    index = ["model", "version"]
    cells = pd.Series(intervals.formatted(contrasts, "points", "difference")) + ": " + contrasts["verdict"]
    minus = "minus " + contrasts["minus"] + ", points"
    differences = contrasts[index].assign(minus=minus, cell=cells).pivot(index=index, columns="minus", values="cell")
    table = rows[index].assign(accuracy=intervals.formatted(rows, "%")).set_index(index)
    return table.join(differences[minus.unique()]).fillna("")


def example_versions(copies: dict[str, pd.DataFrame], size: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Of the first photo readable in all versions: for each a caption, the photo and its centre crop, or ValueError."""
    for paths in zip(*(table.sort_values(["device", "scene"])["path"] for table in copies.values()), strict=True):
        with suppress(ValueError):
            photos = dict(zip(copies, map(read_photo, paths), strict=True))
            return [(f"{name}, {p.shape[1]} x {p.shape[0]}", p, centre_crop(p, size)) for name, p in photos.items()]
    raise ValueError(f"no photo can be read in all of {', '.join(copies)}")


def common_models(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """The camera models in both catalogues, compared by `datasets.spelling`: one row per pair of names.

    camera_model, photos and devices are those of `a`, other, other_photos and other_devices of `b`. ValueError where
    `a` spells one model in two ways, as they would be two classes.
    """
    ours, theirs = (catalogues.summary(table)[["photos", "devices"]].reset_index() for table in (a, b))
    ours["spelling"], theirs["spelling"] = (table["camera_model"].map(datasets.spelling) for table in (ours, theirs))
    twice = ours[ours["spelling"].duplicated(keep=False)]
    if len(twice):
        raise ValueError(f"one camera model has several names: {', '.join(twice['camera_model'])}; rename its folder")
    theirs = theirs.rename(columns={"camera_model": "other", "photos": "other_photos", "devices": "other_devices"})
    both = ours.merge(theirs, on="spelling").drop(columns="spelling")
    return both.sort_values(["camera_model", "other"], ignore_index=True)


def photos_in_common(b: pd.DataFrame, common: pd.DataFrame) -> pd.DataFrame:
    """The photos of `b` of the models in `common_models`, under the names that these have in `a`."""
    names = common.set_index("other")["camera_model"]
    photos = b[b["camera_model"].isin(names.index)].reset_index(drop=True)
    models = photos["camera_model"].map(names).astype("string")
    return photos.assign(camera_model=models, brand=models.str.split("_").str[0].astype("string"))
