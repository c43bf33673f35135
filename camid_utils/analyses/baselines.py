"""Methods that stand beside every network: the file header alone, content alone, two kinds of noise residuals.

Each is trained once per seed, on the photos that the network is trained on, and gives one row per photo.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from .. import intervals, models
from ..batches import as_input, batch_rows, best_device, layout, make_fabric
from ..catalogues import LABELS
from ..evaluation import LOG_PROB, save_predictions
from ..experiments import Experiment, Study
from ..files import atomic_path
from ..patches import Store, extract
from ..photos import quantisation_tables, resize
from ..planning import Plan
from ..project import progress
from . import colour_residuals

KINDS = ("header", "content", "residual", "colour")
LEVELS = ("luma", "tables", "size")  # columns of `header_keys`, from coarse to fine
SIDE, CROPS = 96, 8  # half of a photo's crops are tested: as many pixels as in 16 patches of 48
VIEW = 64  # pixels to which crops without traces are enlarged; with 96 a network takes 2.4 times as long
FORMAT = 1  # part of the name of kept features: raise it when the same crops would give others
STRENGTHS = 10.0 ** np.arange(-4, 1)  # inverse strengths of a linear classifier's regularisation
STEPS, TOLERANCE = 10_000, 1e-8  # of its optimizer: with scikit-learn's tolerance, probabilities are up to 0.2 off


def run(
    study: Study, kind: str, catalogue: pd.DataFrame, table: pd.DataFrame, plans: dict[str, list[Plan]], prefix=""
) -> dict[str, Experiment]:
    """One of KINDS, trained once per seed: an Experiment, named <prefix><kind>-<test>, for each test of `plans`.

    table: the one that the plans split (planning.shared_training), of patches of the catalogue's photos or of photos.
    Under "patch" header and colour see the training photos themselves; content and residual see other crops of them.
    """
    match kind:
        case "header":
            known, classify = [header_keys(catalogue)], lambda keys, train, _: look_up(keys, train)
        case "colour":
            known, classify = [colour_residuals.features(study, catalogue)], colour_residuals.classify
        case "content" | "residual":
            known, classify = features(crop_store(catalogue, study.data / "patches"), kind), linear
        case _:
            raise ValueError(f"there is no baseline {kind!r}; choose one of {', '.join(KINDS)}")
    photos = table.drop_duplicates("photo").set_index("photo")
    photos, logs, runs = photos[photos.index.isin(known[-1].index)], {}, {}  # not those without a crop
    for plan in next(iter(plans.values())):  # a seed's plans all train on the same photos
        train, val = (_photos(photos, table, plan, part)["true"] for part in ("train", "val"))
        logs[plan.seed] = classify(*known, train, val)
    for test, own in plans.items():
        parts = [
            _photos(photos, table, plan, part).join(logs[plan.seed]).assign(part=part, seed=plan.seed)
            for plan, part in product(own, ("val", "test"))
        ]
        name, protocol, seed = f"{prefix}{kind}-{test}", own[0].protocol, own[0].seed
        predictions = pd.concat(parts).reset_index().assign(protocol=protocol)
        save_predictions(predictions, study.results / "predictions" / f"{name}.parquet")
        options = dict(experiment=name, protocol=protocol, level="photo", seed=seed)
        metrics = [intervals.score(rows, part=part, **options) for part, rows in predictions.groupby("part")]
        runs[test] = Experiment(name, protocol, [], [], predictions, pd.concat(metrics, ignore_index=True))
    return runs


def _photos(photos: pd.DataFrame, table: pd.DataFrame, plan: Plan, part: str) -> pd.DataFrame:
    """The rows of `photos`, by name, that are in a part of a plan for `table`, with the column true."""
    own = photos[photos.index.isin(table["photo"].iloc[plan.rows(part)])]
    return own[LABELS].assign(true=own[plan.target])


def header_keys(catalogue: pd.DataFrame) -> pd.DataFrame:
    """What each photo's JPEG header says, as text, index photo; unreadable tables are one more kind of table.

    luma: the luma table; tables: also chroma table and subsampling; size: also both sides, upright or not.
    """
    rows = []
    for path, *sides in catalogue[["path", "width", "height"]].itertuples(index=False):
        try:
            header = quantisation_tables(path)
        except ValueError:
            header = (None,) * 3
        words = list(map(str, [*header, sorted(sides)]))  # luma table, chroma table, subsampling, sides
        rows.append([" ".join(words[:count]) for count in (1, 3, 4)])
    return pd.DataFrame(rows, pd.Index(catalogue["photo"]), list(LEVELS))


def look_up(keys: pd.DataFrame, train: pd.Series) -> pd.DataFrame:
    """Log-probability of each class (columns log_prob:<class>) for all photos of `header_keys`.

    A class's probability is its share of the training photos (`train`: their classes) with the same key plus one extra
    photo, which is divided as at the next coarser level. So new keys fall back on that level; the coarsest on class
    frequencies, by Laplace's rule of succession.
    """
    counts = train.value_counts().sort_index() + 1
    shares = np.tile(counts / counts.sum(), (len(keys), 1))
    for level in LEVELS:
        seen = pd.crosstab(keys.loc[train.index, level].to_numpy(), train.to_numpy())
        seen = seen.reindex(keys[level], fill_value=0).to_numpy()
        shares = (seen + shares) / (seen.sum(axis=1, keepdims=True) + 1)
    return pd.DataFrame(np.log(shares), keys.index, counts.index).add_prefix(LOG_PROB)


def crop_store(catalogue: pd.DataFrame, folder: Path, degrade: str = "") -> Store:
    """The crops that content and residual are computed from; notebooks with the same catalogue share them."""
    return extract(catalogue, folder, kind="grid", size=SIDE, per_photo=CROPS, degrade=degrade)


def features(store: Store, kind: str) -> list[pd.DataFrame]:
    """Features float32 to train with and to test with, index photo: means over every other crop; kept in a file."""
    path = store.folder / f"{kind}-{best_device()}-{FORMAT}.npy"
    photo = store.table["photo"]
    if not path.is_file():
        function = cooccurrences if kind == "residual" else content_function()
        chunks = progress(batch_rows(np.arange(len(photo)), 256), f"{kind} features", disable=len(photo) < 2560)
        values = pd.DataFrame(np.concatenate([function(store.pixels[rows]) for rows in chunks]))
        turn, alone = store.table.groupby("photo").cumcount() % 2, ~photo.duplicated(keep=False)
        halves = [values[used].groupby(photo[used]).mean() for used in ((turn == 0) | alone, (turn == 1) | alone)]
        with atomic_path(path) as partial, open(partial, "wb") as file:
            np.save(file, np.stack(halves).astype(np.float32))
    return [pd.DataFrame(half, pd.Index(sorted(photo.unique()), name="photo")) for half in np.load(path)]


def without_traces(crop: np.ndarray) -> np.ndarray:
    """A crop uint8 [n, n, 3] reduced to an eighth and enlarged again, uint8 [VIEW, VIEW, 3]: no texture remains.

    Unlike whole photos, crops are changed alike whatever the size of the photo, which could name the camera.
    """
    side = max(1, len(crop) // 8)
    return resize(resize(crop, side, side), VIEW, VIEW)


def content_function() -> Callable[[np.ndarray], np.ndarray]:
    """Features float32 [n, 1280] of crops uint8 [n, h, h, 3] `without_traces`, by EfficientNet-Lite0 from ImageNet."""
    fabric = make_fabric("32-true")
    net = models.EfficientNetClassifier(2, "efficientnet_lite0").features.eval()
    net = fabric.to_device(net.to(memory_format=layout(fabric.device)))

    @torch.inference_mode()
    def function(crops: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(np.stack([without_traces(crop) for crop in crops])).to(fabric.device)
        return net(as_input(batch.permute(0, 3, 1, 2), "imagenet")).cpu().numpy()

    return function


def cooccurrences(crops: np.ndarray) -> np.ndarray:
    """`models.Cooccurrences` of the green channel of crops uint8 [n, h, w, 3]: float [n, 338]."""
    return models.Cooccurrences()(torch.from_numpy(crops[..., 1].astype(np.float32))).numpy()


def linear(known: pd.DataFrame, tested: pd.DataFrame, train: pd.Series, val: pd.Series) -> pd.DataFrame:
    """Log-probability of each class (columns log_prob:<class>) for all photos `tested`; train, val: classes by photo.

    By logistic regression on the standardised square roots of `features`; of STRENGTHS with the lowest log loss on val.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    fits = []
    with threadpool_limits(1, "blas"):  # for matrices this small two threads take ten times as long
        for strength in STRENGTHS:
            last = LogisticRegression(C=strength, max_iter=STEPS, tol=TOLERANCE)
            fit = make_pipeline(FunctionTransformer(np.sqrt), StandardScaler(), last)
            fits.append(fit.fit(known.loc[train.index], train.to_numpy()))
    best = min(fits, key=lambda fit: log_loss(val, fit.predict_proba(tested.loc[val.index]), labels=fit.classes_))
    logs = np.log(best.predict_proba(tested).clip(1e-12))
    return pd.DataFrame(logs, tested.index, best.classes_).add_prefix(LOG_PROB)
