"""One experiment from plan to metrics, and what the notebooks share: folders, photographs, tables of results."""

import json
import warnings
from collections.abc import Callable, Iterable
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from . import catalogues, datasets, evaluation, intervals, models, published, splits, training
from .figures import style
from .files import write_csv, write_text
from .patches import Store
from .planning import Plan
from .project import commit, environment, resolve
from .simulate import build

PUBLIC_ROLES = {"dresden": "camera", "floreview": "phone", "public": None}  # public photographs instead; None: all
CONTRAST_COLUMNS = ["a", "protocol_a", "b", "protocol_b", "dataset", "level", "difference", "low", "high", "p",
                    "photos", "photos_b", "plateau"]  # fmt: skip


class Study(NamedTuple):
    """Where a notebook reads and writes, and how its simulated photographs are made."""

    data: Path  # heavy files: simulated photographs, patch stores, checkpoints, models
    results: Path  # light files: figures, metrics, predictions
    simulation: dict  # seed, models, devices, scenes, shots and width (pixels) of simulated data sets
    wandb_project: str = ""
    public: Path | None = None  # the public photographs, which stand in for Dresden and FloreView

    def save(self, figure: Figure, name: str, exact: bool = False) -> None:
        """Write a figure to figures/<name>.png and show it; exact: in all its colours (figures.style.save)."""
        style.save(figure, self.results / "figures", name, exact)


class Experiment(NamedTuple):
    """What an experiment leaves, a model and a history for each seed."""

    name: str
    protocol: str
    models: list[models.Model]
    histories: list[training.History]
    predictions: pd.DataFrame  # of val and test, distinguished by the column `part`, for all seeds (column `seed`)
    metrics: pd.DataFrame

    @property
    def plateau(self) -> bool:
        """Whether every training reached its plateau."""
        return bool(self.metrics["plateau"].all())

    def test(self) -> pd.DataFrame:
        """Predictions of the test part."""
        return self.predictions[self.predictions["part"] == "test"]


def open_study(
    data_dir: str, results_dir: str, wandb_project: str = "", photographs_root: str = "", **simulation
) -> Study:
    """The opening of a notebook: its folders, its simulation's settings, and the look of its figures."""
    style.use_style()
    pd.set_option("display.max_colwidth", 100)  # tables show the labels of experiments whole
    public = resolve(photographs_root) if photographs_root else None
    return Study(resolve(data_dir), resolve(results_dir), simulation, str(wandb_project), public)


def listed() -> pd.DataFrame:
    """experiments.csv: every experiment by its id, as the index.

    Columns: notebook (number), label, level ("patch" or "photo": what its network sees), table2 (row of the paper's
    Table 2), baseline and claim (ids, separated by spaces), panel (of the summary figure, and its role there), readme
    (row of the README's table of results; "methods": in its first table).
    """
    return pd.read_csv(files(__package__) / "experiments.csv", dtype=str, keep_default_na=False, index_col="id")


def labels() -> dict[str, str]:
    """The label of each experiment by its id."""
    return listed()["label"].to_dict()


def photographs(study: Study, kind: str, root: str = "") -> pd.DataFrame:
    """Catalogue of a data set's photos (see `photo_folder`), by datasets.load_<kind>.

    In a study of the public photographs, those by cameras stand in for Dresden and those by phones for FloreView,
    unless these have a `root` of their own ("public": both), without models of fewer than splits.LEAST photos.
    """
    if study.public and not root and kind in PUBLIC_ROLES:
        return datasets.load_photographs(study.public, role=PUBLIC_ROLES[kind], least=splits.LEAST)
    return getattr(datasets, f"load_{kind}")(photo_folder(study, kind, root))


def photo_folder(study: Study, kind: str, root: str = "") -> Path:
    """The folder of a data set's photos: `root`, or a simulated one, which is made if it is not there yet."""
    if root:
        return resolve(root)
    change = {}
    if kind in ("forchheim", "vision"):  # they test other users' phones
        change = dict(scenes=max(1, study.simulation["scenes"] // 3), shots=1)
    return simulated(study, kind, f"simulated-{kind}", **change)


def simulated(study: Study, kind: str, name: str, **change) -> Path:
    """The folder `name` of simulated photos; kind and changes of the study's settings: see simulate.build.simulate."""
    settings = study.simulation | change
    width = settings.pop("width")
    return build.simulate(kind, study.data / name, size=(width, width * 3 // 4), **settings)


def planted(study: Study, scenes: int) -> pd.DataFrame:
    """Catalogue of photos by the simulated Dresden cameras, each model of `scenes` of its own: a planted leak."""
    folder = simulated(study, "dresden", "simulated-dresden-own-scenes", scenes=scenes, own_scenes=True)
    catalogue = datasets.load_dresden(folder)
    return catalogue.assign(dataset=catalogue["dataset"] + ", own scenes")


def run(
    study: Study, name: str, make_net: Callable, store: Store, plans: list[Plan], settings: dict,
    *, augment: dict | None = None, features: list[np.ndarray] | None = None, network: str = "", plateau: bool = True,
) -> Experiment:  # fmt: skip
    """Train for each plan, keep the models, predict `val` and `test` once, score both per patch and per photo.

    name: an id of experiments.csv. make_net(classes, plan) returns the network; settings, augment: see training.fit.
    features: for each plan those of its network's frozen part (transfer.features); then only the classifier is trained.
    network: the name under which training is kept; experiments that share it, and train alike, train once.
    plateau: whether the networks that it starts from had reached their plateau; if not, it has not reached its own.
    """
    if name not in listed().index:
        raise ValueError(f"experiments.csv has no row {name}: every experiment is listed there")
    if len(used := {plan.protocol for plan in plans}) > 1:
        raise ValueError(f"{name}: the seeds' plans follow different protocols ({', '.join(sorted(used))})")
    found, histories, tables = [], [], []
    for plan, known in zip(plans, features or [None] * len(plans), strict=True):
        model, history = _train(study, name, network or name, make_net, store, plan, settings, augment, known)
        for part in ("val", "test"):
            rows = evaluation.predict(model, store, plan.rows(part), features=known)
            tables.append(rows.assign(part=part, seed=plan.seed, protocol=plan.protocol))
        found.append(model)
        histories.append(history)
    predictions = pd.concat(tables, ignore_index=True)
    evaluation.save_predictions(predictions, study.results / "predictions" / f"{name}.parquet")
    metrics = [
        intervals.score(predictions[predictions["part"] == part], experiment=name, protocol=plans[0].protocol,
                        level=level, part=part, seed=plans[0].seed, published=_published(name, part, level),
                        plateau=plateau and all(history.plateau for history in histories))
        for part, level in product(("val", "test"), ("patch", "photo"))
    ]  # fmt: skip
    return Experiment(name, plans[0].protocol, found, histories, predictions, pd.concat(metrics, ignore_index=True))


def _published(name: str, part: str, level: str) -> dict[str, float]:
    """The paper's figures of an experiment's test, by metric: its own validation; none where Table 2 has no row."""
    row = listed().loc[name]
    if not row["table2"] or (part, level) != ("test", row["level"]):
        return {}
    paper = published.read("table2").iloc[int(row["table2"])]
    return {"accuracy": paper["val_accuracy"], "log loss": paper["val_loss"]}


def _train(study, name, network, make_net, store, plan, settings, augment, features) -> tuple:
    """One seed's model, written to its file, and the history of its training."""
    torch.manual_seed(plan.seed)
    net = make_net(len(plan.class_names), plan)
    dataset = store.table["dataset"].iloc[0]
    path = model_path(study.data, dataset, name, plan.seed)
    folder = study.data / "runs" / path.parent.name / f"{network}-{plan.seed}"
    part, trained, inputs = ("", net, store.pixels) if features is None else ("classifier", net.classifier, features)
    data = inputs, plan.labels, plan.rows("train"), plan.rows("val"), settings, folder
    options = dict(augment=augment, seed=plan.seed, title=network)
    training.write_job(net, part, *data, **options)
    history = training.fit(trained, *data, **options, wandb_project=study.wandb_project)
    best = history.epochs.iloc[history.best_epoch - 1].drop("epoch")
    info = dict(experiment=name, target=plan.target, dataset=dataset, protocol=plan.protocol, seed=plan.seed,
                kind=store.kind, augment=augment, plateau=history.plateau, epoch=history.best_epoch,
                **best.astype(float).round(6))  # fmt: skip
    model = models.Model(net.eval(), plan.class_names, store.pixels.shape[1], settings["input_range"], info)
    models.save_model(model, path)
    return model, history


def predict_test(run: Experiment, store: Store, adapt: Callable | None = None) -> pd.DataFrame:
    """Predictions of a run's test photos in another store, for example degraded ones; adapt: see evaluation.predict."""
    tables, tests = [], run.test()
    for model in run.models:
        seed = model.info["seed"]
        rows = np.flatnonzero(store.table["photo"].isin(tests.loc[tests["seed"] == seed, "photo"]))
        found = evaluation.predict(model, store, rows, adapt=adapt)
        tables.append(found.assign(part="test", seed=seed, protocol=run.protocol))
    return pd.concat(tables, ignore_index=True)


def photos_tested(runs: list[Experiment], catalogue: pd.DataFrame) -> pd.DataFrame:
    """The photos of a catalogue that one of the runs was tested on."""
    tested = set().union(*(run.test()["photo"] for run in runs))
    return catalogue[catalogue["photo"].isin(tested)].reset_index(drop=True)


def contrasts(runs: list[Experiment], levels: tuple[str, ...] = ()) -> pd.DataFrame:
    """Test accuracy of each run minus that of each baseline that experiments.csv names, at its level or those given.

    CONTRAST_COLUMNS, p_holm and verdict (intervals.judged): the contrasts of one call are judged together.
    """
    table, by_name, rows = listed(), {run.name: run for run in runs}, []
    for a in runs:
        own = table.loc[a.name]
        bases = [by_name[base] for base in own["baseline"].split() if base in by_name]
        for b, level in product(bases, levels or (own["level"],)):
            tests = [evaluation.vote(run.test()) if level == "photo" else run.test() for run in (a, b)]
            found = intervals.difference(*tests, seed=int(tests[0]["seed"].min()))
            names = [a.name, a.protocol, b.name, b.protocol, tests[0]["dataset"].iloc[0], level]
            rows.append([*names, *found, *(test["photo"].nunique() for test in tests), a.plateau and b.plateau])
    return intervals.judged(pd.DataFrame(rows, columns=CONTRAST_COLUMNS))


def model_path(data_dir: str | Path, dataset: str, name: str, seed: int) -> Path:
    """Where the model of an experiment is kept."""
    return Path(data_dir) / "models" / catalogues.folder_name(dataset) / f"{name}-{seed}.safetensors"


def load_trained(study: Study, dataset: str, name: str, seed: int) -> models.Model:
    """A model that another notebook trains."""
    return models.load_model(_made(model_path(study.data, dataset, name, seed), name))


def load_experiment(study: Study, name: str) -> Experiment:
    """An experiment of another notebook, without its models and histories."""
    metrics = pd.read_csv(_made(study.results / "metrics" / f"{listed().loc[name, 'notebook']}_metrics.csv", name))
    own = metrics[metrics["experiment"] == name].reset_index(drop=True)
    predictions = pd.read_parquet(_made(study.results / "predictions" / f"{name}.parquet", name))
    return Experiment(name, own["protocol"].iloc[0], [], [], predictions, own)


def _made(path: Path, name: str) -> Path:
    """The path of a file that an experiment leaves; where it is missing, the error says which notebook to run first."""
    if not path.is_file():
        notebook = listed().loc[name, "notebook"]
        raise FileNotFoundError(f"no {path}: run notebook {notebook} first, with the same data and seeds")
    return path


def save_datasets(study: Study, found: Iterable[pd.DataFrame]) -> None:
    """Write metrics/datasets.json: what each catalogue holds, and its fingerprint; run.json repeats it."""
    record = {}
    for catalogue in found:
        counts = {f"{column}s": catalogue[column].nunique() for column in ("device", "brand")}
        counts = {"photos": len(catalogue), **counts, "left_out": len(catalogues.left_out(catalogue))}
        fingerprint = catalogues.fingerprint(catalogue, with_mtime=False)
        record[catalogue["dataset"].iloc[0]] = counts | {"fingerprint": fingerprint}
    write_text(study.results / "metrics" / "datasets.json", json.dumps(record, indent=2) + "\n")


def end_notebook(reason: str) -> None:
    """End a notebook here, without an error, because its further questions do not apply to these data."""
    print(reason)
    warnings.filterwarnings("ignore", "To exit")  # IPython's advice on how to leave a shell
    raise SystemExit(0)  # papermill treats this as a normal end


def finish(study: Study, notebook: str, **tables: pd.DataFrame) -> dict:
    """Write a notebook's tables to metrics/<notebook>_<name>.csv; returns commit, versions and hardware."""
    for name, table in tables.items():
        write_csv(study.results / "metrics" / f"{notebook}_{name}.csv", table)
    return commit() | environment()


def epochs_of(runs: list[Experiment]) -> pd.DataFrame:
    """All epochs of the runs, with columns run, seed and best (whether this epoch's weights were kept)."""
    return pd.concat(
        h.epochs.assign(run=run.name, seed=model.info["seed"], best=h.epochs["epoch"] == h.best_epoch)
        for run in runs
        for model, h in zip(run.models, run.histories, strict=True)
    )
