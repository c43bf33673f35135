"""The discriminant finds what is planted; as a network it says of a photo what it says of the photo's features."""

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.special import log_softmax, softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from camid_utils import models
from camid_utils.analyses import colour_residuals
from camid_utils.identify import page, predict
from camid_utils.photos import read_photo


@pytest.fixture
def catalogue(tmp_path) -> pd.DataFrame:
    """Eight photos of each of three models, whose noise is blurred differently; the last photo cannot be read."""
    rows = []
    for number in range(24):
        noise = np.random.default_rng(number).normal(size=(300, 340, 3))
        noise = gaussian_filter(noise, (0.3 + 0.3 * (number % 3),) * 2 + (0,))
        path = tmp_path / f"{number:02d}.jpg"
        Image.fromarray((128 + 6 * noise / noise.std()).clip(0, 255).astype(np.uint8)).save(path, quality=97)
        rows.append({"path": str(path), "photo": path.name, "camera_model": "ABC"[number % 3]})
    (tmp_path / "99.jpg").write_bytes(b"no photo")
    return pd.DataFrame([*rows, {"path": str(tmp_path / "99.jpg"), "photo": "99.jpg", "camera_model": "A"}])


def test_the_network_answers_for_a_photo_as_its_features_do(catalogue, study, tmp_path):
    known = colour_residuals.features(study, catalogue)
    assert len(known) == 24 and known.shape[1] == models.COLOUR
    np.testing.assert_allclose(known.iloc[:, : 3 * 338].sum(axis=1), 6, rtol=1e-4)  # three channels, two directions
    labels = pd.Series([*"ABC"] * 8, known.index)
    net = colour_residuals.discriminant(known, labels[:12])
    logits, features = colour_residuals.outputs(net, known)
    assert features.shape == (24, 2) and (np.array([*"ABC"])[logits.argmax(axis=1)] == labels).all()
    info = {"kind": "grid", "margin": 0.1, "align": models.DCT_BLOCK}
    model = models.Model(net.eval(), [*"ABC"], colour_residuals.SIDE, "0..255", info)
    model = models.load_model(models.save_model(model, tmp_path / "model.safetensors"))
    page.export(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for i in (0, 13, 23):
        photo = read_photo(catalogue["path"][i])
        corners, *found = predict.predict_photo(photo, model)
        assert corners.min() == 24 and corners.max(axis=0).tolist() <= [300 - 30 - 128, 340 - 34 - 128]
        assert (corners % 8 == 0).all()
        patches = np.stack([photo[y : y + 128, x : x + 128] for y, x in corners])
        for one, other in zip(found, session.run(page.OUTPUTS, {"patches": patches}), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
        for one, other in zip(found, (logits, features), strict=True):
            np.testing.assert_allclose(one.mean(axis=0), other[i], rtol=1e-3, atol=1e-3)


def test_it_is_the_linear_discriminant_of_standardised_features():
    rng, labels = np.random.default_rng(0), pd.Series([*"AABBBBCCC"] * 4)
    values = rng.normal(size=(36, models.COLOUR)) + 0.3 * rng.normal(size=(3, models.COLOUR))[labels.factorize()[0]]
    values *= rng.uniform(1e-4, 1, models.COLOUR)
    values[:, 0] = 0  # as of a co-occurrence that no photo has
    known = pd.DataFrame(values.astype(np.float32))
    scaled = ((values - values.mean(0)) / np.where(values.std(0) == 0, 1, values.std(0))).astype(float)
    expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=colour_residuals.SHRINKAGE).fit(scaled, labels)
    logits = colour_residuals.outputs(colour_residuals.discriminant(known, labels), known)[0]
    np.testing.assert_allclose(softmax(logits, axis=1), expected.predict_proba(scaled), atol=1e-3)


def test_probabilities_are_calibrated_on_validation_photos():
    """Classes that can hardly be told apart: the discriminant is sure of training photos, and too sure of new ones."""
    rng, labels = np.random.default_rng(0), pd.Series([*"AB"] * 100)
    known = pd.DataFrame(rng.normal(size=(200, models.COLOUR)) + 0.05 * (labels == "A").to_numpy()[:, None])
    known, right = known.astype(np.float32), (np.arange(120, 200), (labels[120:] == "B").astype(int))
    raw = colour_residuals.outputs(colour_residuals.discriminant(known, labels[:40]), known)[0]
    found = colour_residuals.classify(known, labels[:40], labels[40:120]).to_numpy()
    assert -found[right].mean() < -0.5 * log_softmax(raw, axis=1)[right].mean()
    assert (found.argmax(axis=1) == raw.argmax(axis=1)).all()


def test_cooccurrences_depend_on_the_colour_differences():
    grey = torch.randint(0, 255, (2, 1, 32, 32)).float().expand(2, 3, 32, 32)
    counted = models.ColourResiduals()(grey)[:, : 3 * 338]
    same = counted[:, 338:].reshape(2, 4, 169)  # no difference between channels: one kind of co-occurrence
    assert (same.max(dim=2).values == 1).all() and counted[:, :338].max() < 0.5


def test_the_block_pattern_shows_where_in_the_blocks_residuals_are_strong():
    """A dark line at the left of each block, in green alone; nothing in the second crop."""
    crops = torch.full((2, 3, 128, 64), 100.0)
    crops[0, 1, :, ::8] = 80
    pattern = models.block_pattern(crops).reshape(2, 3, 8, 8)
    columns = pattern[0, 1].mean(dim=0)
    assert columns.argmax() == 0 and columns[0] > 1.9 * columns[[1, 7]].max() > 0 and columns[2:7].max() == 0
    assert pattern[0, 1].mean() == pytest.approx(1, abs=0.01)
    assert not pattern[0, [0, 2]].any() and not pattern[1].any()
