"""Colour residuals of whole photos: counted in many crops, classified by a linear discriminant.

As the features of a photo are means over its crops and the classifier is linear, the mean of its crops' logits is the
photo's own. So what is trained here is a network like the others, which the tool and the page can use.
"""

from functools import partial

import joblib
import numpy as np
import pandas as pd
import torch

from ..batches import best_device
from ..catalogues import fingerprint, relative_photos
from ..evaluation import LOG_PROB
from ..experiments import Study
from ..files import atomic_path
from ..identify.predict import predict_photo
from ..models import Model, ResidualNet
from ..photos import read_photo
from ..project import progress

SIDE = 128  # pixels of a crop; of a photo as many are seen as the tool looks at (predict.PATCHES)
MARGIN = 0.1  # of each side is not seen: there a lens shows its own traces, and it may be another lens
SHRINKAGE = 0.1  # of the covariance within classes
FORMAT = 1  # part of the name of kept features: raise it when the same photos would give others


def features(study: Study, catalogue: pd.DataFrame) -> pd.DataFrame:
    """Features of a ResidualNet, float32, one row per photo, index photo: means over its crops.

    Photos that cannot be read or are smaller than a crop are missing. A second call reads the table from its file.
    """
    path = study.data / "features" / f"colour-{best_device()}-{FORMAT}-{fingerprint(catalogue)[:16]}.parquet"
    if not path.is_file():
        one = joblib.delayed(partial(_photo_features, net=model(ResidualNet(1), [""])))
        found = joblib.Parallel(-1, prefer="threads", return_as="generator")(map(one, catalogue["path"]))
        bar = progress(found, "colour residuals", total=len(catalogue), unit="photo", disable=len(catalogue) < 20)
        rows = {name: row for name, row in zip(relative_photos(catalogue), bar, strict=True) if row is not None}
        with atomic_path(path) as partial_file:
            pd.DataFrame.from_dict(rows, "index").rename(columns=str).astype(np.float32).to_parquet(partial_file)
    return pd.read_parquet(path).rename_axis("photo").sort_index()


def _photo_features(path: str, net: Model) -> np.ndarray | None:
    try:
        return predict_photo(read_photo(path), net).features.mean(axis=0)
    except ValueError:
        return None


def model(net: ResidualNet, class_names: list[str], **info) -> Model:
    """A network of this kind with all that the tool needs to know."""
    return Model(net.eval(), class_names, SIDE, "0..255", info | {"kind": "grid", "margin": MARGIN})


def discriminant(known: pd.DataFrame, train: pd.Series) -> ResidualNet:
    """A ResidualNet whose classifier is the linear discriminant of training photos.

    known: `features`; train: the classes of the training photos, by name; the logits are in the classes' alphabetical
    order. Features are standardised, and the covariance within classes is shrunk towards a multiple of the identity,
    since there are more features than photos.
    """
    from sklearn.covariance import shrunk_covariance  # a second to import

    values, shares = known.loc[train.index].to_numpy(float), train.value_counts(normalize=True).sort_index()
    centre, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale == 0] = 1
    values = (values - centre) / scale
    means = pd.DataFrame(values).groupby(train.to_numpy()).mean()
    inside = values - means.loc[train].to_numpy()
    within = shrunk_covariance(inside.T @ inside / len(inside), SHRINKAGE)
    weights = np.linalg.solve(within, means.T).T
    bias = np.log(shares.to_numpy()) - (weights * means.to_numpy()).sum(axis=1) / 2
    net, weights = ResidualNet(len(means)), weights / scale
    for parameter, array in ((net.classifier.weight, weights), (net.classifier.bias, bias - weights @ centre)):
        parameter.data = torch.from_numpy(array).float()
    return net


def classify(known: pd.DataFrame, train: pd.Series, _: pd.Series | None = None) -> pd.DataFrame:
    """Log-probability of each class (columns log_prob:<class>) for all photos `known`, by `discriminant`."""
    with torch.inference_mode():
        logits = discriminant(known, train).classifier(torch.from_numpy(known.to_numpy(copy=True)))
    logs = logits.double().log_softmax(1).numpy()
    return pd.DataFrame(logs, known.index, sorted(train.unique())).add_prefix(LOG_PROB)
