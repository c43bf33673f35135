"""Colour residuals of whole photos: counted in many crops, classified by a linear discriminant.

A photo's features are the means over its crops, and all that follows is linear. So the mean of its crops' logits is the
photo's own, and what is trained here is a network like the others, which the tool and the page can use.
"""

import joblib
import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp

from ..catalogues import fingerprint
from ..evaluation import LOG_PROB
from ..experiments import Study
from ..files import atomic_path
from ..identify.predict import patch_positions, seen_headers, seen_sizes
from ..models import DCT_BLOCK, ColourResiduals, Model, ResidualNet
from ..patches import Store, cut_patches
from ..photos import read_photo
from ..planning import Plan
from ..project import progress
from .calibration import fit_temperature

SIDE = 128  # pixels of a crop; of a photo as many are seen as the tool looks at (predict.PATCHES)
MARGIN = 0.1  # of each side is not seen: there a lens shows its own traces, and it may be another lens
SHRINKAGE = 0.1  # of the covariance within classes
FORMAT = 2  # part of the name of kept features: raise it when the same photos would give others


def features(study: Study, catalogue: pd.DataFrame) -> pd.DataFrame:
    """models.ColourResiduals, float32, index photo: means over crops of the usable photos; kept in a file."""
    path = study.data / "features" / f"colour-{FORMAT}-{fingerprint(catalogue)[:16]}.parquet"
    if not path.is_file():
        jobs = map(joblib.delayed(_photo_features), catalogue["path"])
        found = joblib.Parallel(-1, prefer="threads", return_as="generator")(jobs)
        bar = progress(found, "colour residuals", total=len(catalogue), unit="photo", disable=len(catalogue) < 20)
        rows = {name: row for name, row in zip(catalogue["photo"], bar, strict=True) if row is not None}
        with atomic_path(path) as partial_file:
            pd.DataFrame.from_dict(rows, "index").rename(columns=str).to_parquet(partial_file)
    return pd.read_parquet(path).rename_axis("photo").sort_index()


@torch.inference_mode()
def _photo_features(path: str) -> np.ndarray | None:
    try:
        photo = read_photo(path)
        crops = cut_patches(photo, patch_positions(*photo.shape[:2], SIDE, MARGIN, DCT_BLOCK), SIDE)
    except ValueError:
        return None
    return ColourResiduals()(torch.from_numpy(crops).permute(0, 3, 1, 2).float()).mean(0).numpy()


def trained(known: pd.DataFrame, catalogue: pd.DataFrame, table: pd.DataFrame, plan: Plan) -> Model:
    """The model of a plan's training photos, with the headers and sizes of these.

    known: `features`; catalogue: of these photos; table: the patch table that the plan is for.
    """
    own = table.iloc[plan.rows("train")].drop_duplicates("photo").set_index("photo")[plan.target]
    net = discriminant(known, own[own.index.isin(known.index)])
    info = dict(target=plan.target, dataset=table["dataset"].iloc[0], protocol=plan.protocol, seed=plan.seed,
                kind="grid", margin=MARGIN, align=DCT_BLOCK)  # fmt: skip
    files = catalogue[catalogue["photo"].isin(own.index)]
    info |= seen_headers(files) | seen_sizes(files)
    return Model(net.eval(), plan.class_names, SIDE, "0..255", info)


def discriminant(known: pd.DataFrame, train: pd.Series) -> ResidualNet:
    """The linear discriminant of training photos (Fisher 1936; Rao 1948); logits in the classes' alphabetical order.

    known: `features`; train: the photos' classes, by name. Features are standardised, and the covariance within classes
    is shrunk towards a multiple of the identity, since there are more features than photos.
    """
    from sklearn.covariance import shrunk_covariance  # a second to import

    values, shares = known.loc[train.index].to_numpy(float), train.value_counts(normalize=True).sort_index()
    centre, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale == 0] = 1
    values = (values - centre) / scale
    means = pd.DataFrame(values).groupby(train.to_numpy()).mean()
    inside = values - means.loc[train].to_numpy()
    within = shrunk_covariance(inside.T @ inside / len(inside), SHRINKAGE)
    white = np.linalg.inv(np.linalg.cholesky(within)).T
    whitened = means.to_numpy() @ white
    space = np.linalg.qr((whitened - whitened.mean(axis=0))[1:].T)[0]  # that of the classes' means
    turn, net = white @ space / scale[:, None], ResidualNet(len(means))
    bias = np.log(shares.to_numpy()) - ((whitened @ space) ** 2).sum(axis=1) / 2
    for layer, *arrays in ((net.features[1], turn.T, -centre @ turn), (net.classifier, whitened @ space, bias)):
        layer.weight.data, layer.bias.data = (torch.from_numpy(array).float() for array in arrays)
    return net


@torch.inference_mode()
def outputs(net: ResidualNet, known: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Logits float64 [photos, classes] and the network's features [photos, d] of photos with these `features`."""
    features = net.features[1](torch.from_numpy(known.to_numpy(copy=True)))
    return net.classifier(features).double().numpy(), features.double().numpy()


def classify(known: pd.DataFrame, train: pd.Series, val: pd.Series) -> pd.DataFrame:
    """Log-probabilities of all photos by the `discriminant` of `train`, calibrated on `val`: classes by photo."""
    logits, names = outputs(discriminant(known, train), known)[0], sorted(train.unique())
    temperature = fit_temperature(_log_probabilities(logits, known.index, names).loc[val.index].assign(true=val))
    return _log_probabilities(logits / temperature, known.index, names)


def _log_probabilities(logits: np.ndarray, index: pd.Index, class_names: list[str]) -> pd.DataFrame:
    logs = logits - logsumexp(logits, axis=1, keepdims=True)
    return pd.DataFrame(logs, index, class_names).add_prefix(LOG_PROB)


def photo_outputs(known: pd.DataFrame, model: Model, store: Store, rows: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """As open_set.photo_outputs, but from the `features` of the photos that the patches `rows` are of."""
    photos = store.table.iloc[rows].drop(columns=["y", "x"]).groupby("photo").first()
    photos = photos[photos.index.isin(known.index)]
    logits, features = outputs(model.net, known.loc[photos.index])
    found = photos.assign(true=photos["camera_model"], energy=logsumexp(logits, axis=1))
    return found.join(_log_probabilities(logits, photos.index, model.class_names)).reset_index(), features
