"""A model trained on one corpus, tested on another: the same phone models, other devices, scenes and people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from . import corpora, datasets, evaluation, patches, published, report, stand_ins
from .evaluation import LOG_PROB
from .experiments import resolve
from .models import Model
from .showcase import centre_crop

SIMULATORS = {"forchheim": stand_ins.simulate_forchheim, "vision": stand_ins.simulate_vision}
LOADERS = {"forchheim": corpora.load_forchheim, "vision": corpora.load_vision}
VERSIONS = {"forchheim": corpora.FORCHHEIM_VERSIONS, "vision": corpora.VISION_VERSIONS}
OTHER = "other corpus"  # stands where a metrics row names its protocol
CHOICES = {"all": "all the model's classes to choose from", "common": "only the classes in common to choose from"}


def folder(kind: str, root: str, data_dir: str | Path, *, seed: int, models: int, scenes: int, width: int) -> Path:
    """Where the photos of "forchheim" or "vision" lie: in `root`, or where it is empty in a stand-in under `data_dir`.

    The stand-in is made if it is not there yet; the other arguments are the simulation's, width in pixels, at 4:3.
    """
    if root:
        return resolve(root)
    made = resolve(data_dir) / f"simulated-{kind}"
    return SIMULATORS[kind](made, seed=seed, models=models, scenes=scenes, size=(width, width * 3 // 4))


def versions(kind: str, catalogue: pd.DataFrame) -> list[str]:
    """The versions of a corpus's photos that its folder holds; the catalogue is of the first, the camera's own."""
    first, *others = VERSIONS[kind]
    return [first, *(version for version in others if version in catalogue.attrs["skipped"])]


def overview(catalogues: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What each corpus has beside what was published of it: a row a corpus, pairs of columns for each count."""
    theirs = published.read("corpora")
    theirs.index = theirs["corpus"].str.casefold()
    rows = {}
    for kind, catalogue in catalogues.items():
        found = {
            "phones": catalogue["device"].nunique(),
            "models": catalogue["camera_model"].nunique(),
            "scenes": catalogue["scene"].nunique() or pd.NA,
            "versions": len(versions(kind, catalogue)),
        }
        row = {(name, part): n for name, ours in found.items()
               for part, n in (("here", ours), ("published", theirs.loc[kind, name]))}  # fmt: skip
        photos = {("photos", "used"): len(catalogue), ("photos", "left out"): len(datasets.left_out(catalogue))}
        rows[catalogue["dataset"].iloc[0]] = photos | row
    return pd.DataFrame(rows).T.astype("Int64")


def tested_on(models: list[Model], catalogue: pd.DataFrame, folder: str | Path, crops: int, seed: int) -> pd.DataFrame:
    """Predictions of a catalogue's photos by each model, in the view of a photo that the models were trained on.

    crops: of a photo, where that view is crops on a grid. Columns as in evaluation.predict, part and seed.
    """
    kind = models[0].info["kind"]
    per_photo = 1 if kind == "resize" else crops
    view = dict(kind=kind, size=models[0].input_size, per_photo=per_photo, seed=seed)
    store = patches.extract(catalogue, folder, **view)
    rows = np.arange(len(store.table))
    found = [evaluation.predict(m, store, rows).assign(part="test", seed=m.info["seed"]) for m in models]
    return pd.concat(found, ignore_index=True)


def among(predictions: pd.DataFrame, names: list[str], choice: str = "all") -> pd.DataFrame:
    """The rows whose true class is one of `names`; choice "common": as if the model knew no other class either."""
    rows = predictions[predictions["true"].isin(names)].reset_index(drop=True)
    if choice == "all":
        return rows
    own = [LOG_PROB + name for name in evaluation.class_names(rows) if name in names]
    rest = rows[[c for c in rows if not c.startswith(LOG_PROB)]]
    return rest.join(pd.DataFrame(log_softmax(rows[own].to_numpy(float), axis=1), columns=own))


def choices(predictions: pd.DataFrame, names: list[str]) -> list[str]:
    """The CHOICES that mean something for these classes: naming one of one is no test, and all of all are not fewer."""
    return ["all", "common"] if 1 < len(names) < len(evaluation.class_names(predictions)) else ["all"]


def compare(
    own: pd.DataFrame, other: pd.DataFrame, names: list[str], corpus: str, protocol: str, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics and contrasts of a model's own test photos of the classes `names` and of another corpus's photos of them.

    The metrics rows are called <corpus>-<choice>, once for each data set; the contrasts are accuracies per photo in the
    other corpus less those in its own, the two samples drawn independently. Beyond report.CONTRAST_COLUMNS they have
    `models` and `devices`, of the other corpus.
    """
    metrics, contrasts = [], []
    for choice in choices(own, names):
        name = f"{corpus}-{choice}"
        samples = {OTHER: among(other, names, choice), protocol: among(own, names, choice)}
        for used, sample in samples.items():
            scored = [evaluation.score(sample, experiment=name, protocol=used, level=level, seed=seed)
                      for level in ("patch", "photo")]  # fmt: skip
            metrics += scored
        votes = [evaluation.vote(sample) for sample in samples.values()]
        photos = [table["photo"].nunique() for table in votes]
        row = [name, OTHER, name, protocol, votes[0]["dataset"].iloc[0], "photo"]
        row += [*evaluation.difference(*votes, seed=seed), *photos, False, len(names), votes[0]["device"].nunique()]
        contrasts.append(row)
    columns = [*report.CONTRAST_COLUMNS, "models", "devices"]
    return pd.concat(metrics, ignore_index=True), pd.DataFrame(contrasts, columns=columns)


def accuracy_rows(metrics: pd.DataFrame) -> pd.DataFrame:
    """Rows for plots_evidence.intervals: accuracy per photo, a label a question, the other corpus beside its own."""
    rows = metrics[(metrics["metric"] == "accuracy") & (metrics["level"] == "photo")]
    elsewhere = rows["protocol"] == OTHER
    corpus = rows["experiment"].map(rows[elsewhere].set_index("experiment")["dataset"])
    counts = {
        name: rows[part].set_index("experiment")["photos"] for name, part in (("here", elsewhere), ("own", ~elsewhere))
    }
    here, own = (rows["experiment"].map(counts[name]).astype(str) for name in ("here", "own"))
    labels = (
        corpus
        + ", "
        + rows["classes"].astype(str)
        + " classes to choose from\n"
        + here
        + " photos, "
        + own
        + " of its own"
    )
    return rows.assign(label=labels, group=elsewhere.map({True: OTHER, False: "test photos of its own corpus"}))


def conclusions(metrics: pd.DataFrame, contrasts: pd.DataFrame) -> list[str]:
    """A sentence a contrast, then what the intervals do not cover and what simulated photographs do not show."""
    photo = metrics[(metrics["metric"] == "accuracy") & (metrics["level"] == "photo")]
    sentences = []
    for row in contrasts.to_dict("records"):
        both = photo[photo["experiment"] == row["a"]].set_index("protocol")
        other, own = (_percent(both.loc[row[key]]) for key in ("protocol_a", "protocol_b"))
        verdict = "better there" if row["low"] > 0 else "worse there" if row["high"] < 0 else "not decided"
        sentences.append(
            f"{row['dataset']}, phone models in common ({row['models']}), {_choice(row['a'])}: {other}; "
            f"{both.loc[row['protocol_b'], 'dataset']}, its own test photos of the same models: {own}. "
            f"Difference {report.points(row)}: {verdict}."
        )
    corpora = contrasts.drop_duplicates("dataset").to_dict("records")
    phones = ", ".join(f"{row['dataset']} {row['devices']} (of {row['models']} models)" for row in corpora)
    limits = [f"The intervals cover the choice of photos, not that of phones. Phones tested: {phones}."]
    if any(row["dataset"].startswith("simulated") for row in corpora):
        limits.append("Simulated corpora show that the comparison works, not how it ends on real phones.")
    return [*sentences, *limits]


def _choice(experiment: str) -> str:
    return CHOICES[experiment.rsplit("-", 1)[1]]


def _percent(row: pd.Series) -> str:
    value, low, high = (100 * row[key] for key in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f} to {high:.1f}) of {row['photos']} photos"


def copies(root: str | Path, common: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Catalogues of the Forchheim photos of the models in common, a version each, of photos that are there in all.

    Empty where no model is in common, where there are no copies beside the originals, or none in all versions.
    """
    originals = corpora.load_forchheim(root)
    found = {
        version: corpora.in_common(corpora.load_forchheim(root, version), common)
        for version in versions("forchheim", originals)
    }
    photos = [set(zip(table["device"], table["scene"], strict=True)) for table in found.values()]
    complete = pd.MultiIndex.from_tuples(sorted(set.intersection(*photos)), names=["device", "scene"])
    if len(found) < 2 or complete.empty:
        return {}
    return {
        version: table.set_index(["device", "scene"]).loc[complete].reset_index()[datasets.COLUMNS]
        for version, table in found.items()
    }


def same_photos(tables: dict[tuple[str, str], pd.DataFrame]) -> dict[tuple[str, str], pd.DataFrame]:
    """Predictions of several versions of the same photos, under one name a photo: its device and scene.

    Only photos that are in all the tables stay. ValueError where none is.
    """
    named = {key: t.assign(photo=t["device"].astype(str) + " " + t["scene"].astype(str)) for key, t in tables.items()}
    common = set.intersection(*(set(table["photo"]) for table in named.values()))
    if not common:
        raise ValueError(f"no photo is in all of {', '.join(' '.join(key) for key in tables)}")
    return {key: table[table["photo"].isin(common)].reset_index(drop=True) for key, table in named.items()}


def version_rows(tables: dict[tuple[str, str], pd.DataFrame], seed: int) -> pd.DataFrame:
    """Accuracy per photo of each (model, version) on the same photos, with the differences that matter.

    Columns: model, version, dataset, value, low, high, n (photos), crops (that vote, on average), loss, loss_low,
    loss_high (less the same model on the first version), gain, gain_low, gain_high (less the first model on the same
    version): paired, over photos.
    """
    tables = same_photos(tables)
    votes = {key: evaluation.vote(table) for key, table in tables.items()}
    first_model, first_version = next(iter(tables))
    rows = []
    for (model, version), table in tables.items():
        row = report.photo_accuracy(table, model=model, version=version, dataset=table["dataset"].iloc[0])
        row["crops"] = votes[model, version]["patches"].mean()
        for name, base in (("loss", (model, first_version)), ("gain", (first_model, version))):
            gap = evaluation.paired_difference(votes[model, version], votes[base], seed)
            row[[name, f"{name}_low", f"{name}_high"]] = [gap]
        rows.append(row)
    columns = ["model", "version", "dataset", "value", "low", "high", "n", "crops"]
    gaps = [name + end for name in ("loss", "gain") for end in ("", "_low", "_high")]
    return pd.concat(rows, ignore_index=True)[columns + gaps]


def version_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `version_rows` as a person reads them: a row a version, accuracy and loss of each model."""
    cells = rows.assign(
        accuracy=[report.with_interval(row) for row in rows.to_dict("records")],
        change=[
            f"{100 * r.loss:+.1f} ({100 * r.loss_low:+.1f} to {100 * r.loss_high:+.1f})" for r in rows.itertuples()
        ],
    )
    cells = cells.rename(columns={"change": "less the original, points"})
    columns = ["accuracy", "less the original, points"]
    table = cells.pivot(index="version", columns="model", values=columns).swaplevel(axis=1)
    return table.reindex(
        index=rows["version"].unique(), columns=pd.MultiIndex.from_product([rows["model"].unique(), columns])
    )


def version_conclusions(rows: pd.DataFrame) -> list[str]:
    """What the intervals say: on which versions a model loses, and on which one does better than the first model."""
    first_model, first_version = rows.loc[0, ["model", "version"]]
    about = f"{rows['dataset'].iloc[0]}, the same {rows['n'].iloc[0]} photos"
    sentences = []
    for model, own in rows.groupby("model", sort=False):
        copies = own[own["version"] != first_version]
        if len(copies):
            sentences.append(f"{about}, {model}, less the originals: {_verdicts(copies, 'loss')}.")
        if model != first_model:
            sentences.append(f"{about}, {model} less {first_model}: {_verdicts(own, 'gain')}.")
    return sentences


def _verdicts(rows: pd.DataFrame, name: str) -> str:
    """Which versions are better, worse or undecided, with the differences in points."""
    found = {"worse": [], "better": [], "not decided": []}
    for row in rows.to_dict("records"):
        verdict = "better" if row[f"{name}_low"] > 0 else "worse" if row[f"{name}_high"] < 0 else "not decided"
        found[verdict].append(f"{row['version']} {100 * row[name]:+.1f}")
    return "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in found.items() if names)


def one_photo(copies: dict[str, pd.DataFrame], size: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """The first photo of `copies` that can be read in all versions; ValueError if there is none.

    For each version a caption, the whole photo and its middle `size` pixels.
    """
    paths = [catalogue.sort_values(["device", "scene"])["path"] for catalogue in copies.values()]
    problem: ValueError | str = "they are empty"
    for several in zip(*paths, strict=True):
        try:
            photos = [patches.read_photo(path) for path in several]
        except ValueError as error:
            problem = error
            continue
        captions = [f"{version}, {p.shape[1]} x {p.shape[0]}" for version, p in zip(copies, photos, strict=True)]
        return [(caption, p, centre_crop(p, size)) for caption, p in zip(captions, photos, strict=True)]
    raise ValueError(f"no photo can be read in all of {', '.join(copies)}: {problem}")
