"""Each baseline finds what is planted where it looks, in new scenes by new devices, and nothing where it is not."""

import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from helpers import MODELS, patch_table
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from camid_utils import catalogues, evaluation, planning
from camid_utils.analyses import baselines

COLOURS = np.array([[150, 110, 110], [110, 150, 110], [110, 110, 150]])
pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture
def photographs(tmp_path):
    """Makes photos in which the header, the content or the residual tells the camera model; catalogue, patch table."""

    def make(planted: str, side: int = 200) -> tuple[pd.DataFrame, pd.DataFrame]:
        table = patch_table(scenes=9, per_photo=4)
        photos = table.drop_duplicates("photo").reset_index(drop=True)
        for i, photo in enumerate(photos.itertuples()):
            rng, model = np.random.default_rng(i), MODELS.index(photo.camera_model)
            blur, quality = (0.4 + 0.3 * model) * (planted == "residual"), 95 - model * (planted == "header")
            noise = gaussian_filter(rng.normal(size=(side, side)), blur)[..., None].repeat(3, 2)
            if planted == "colour":  # in red and blue alone, well compressed
                noise[..., ::2] = gaussian_filter(rng.normal(size=(side, side, 2)), (0.4 + 0.3 * model,) * 2 + (0,))
                noise /= noise.std((0, 1))
            light = np.random.default_rng(int(photo.scene[0])).integers(90, 140, 3)
            colour = COLOURS[model] if planted == "content" else light
            pixels = (colour + 6 * noise / noise.std()).clip(0, 255).astype(np.uint8)
            path = tmp_path / "photos" / photo.photo
            path.parent.mkdir(parents=True, exist_ok=True)
            form = dict(quality=100, subsampling="4:4:4") if planted == "colour" else dict(quality=quality)
            Image.fromarray(pixels).save(path, **form)
        paths = [str(tmp_path / "photos" / name) for name in photos["photo"]]
        return photos.assign(path=paths, width=side, height=side)[catalogues.COLUMNS], table

    return make


@pytest.mark.parametrize("planted", baselines.KINDS)
def test_each_baseline_finds_what_is_planted_for_it_and_the_others_do_not(photographs, study, planted):
    catalogue, table = photographs(planted)
    seeds = 1 + (planted == "residual")
    finders = {planted} | ({"colour"} if planted == "residual" else set())  # which looks at green too
    plans = planning.shared_training(table, "scene+device", 0, seeds, evaluate=2, train=2)
    found = {}
    for kind in baselines.KINDS:
        with warnings.catch_warnings(action="error", category=ConvergenceWarning):
            runs = baselines.run(study, kind, catalogue, table, plans, "pilot-")
        assert list(runs) == list(plans) == ["patch", "photo", "scene", "device", "scene+device"]
        for test, run in runs.items():
            assert (run.name, run.protocol, run.models, run.histories) == (f"pilot-{kind}-{test}", test, [], [])
            saved = pd.read_parquet(study.results / "predictions" / f"{run.name}.parquet")
            assert len(saved) == len(run.predictions) and np.isfinite(evaluation.log_probabilities(saved)).all()
            assert evaluation.class_names(saved) == MODELS and (saved["true"] == saved["camera_model"]).all()
            np.testing.assert_allclose(np.exp(evaluation.log_probabilities(run.predictions)).sum(1), 1, rtol=1e-5)
            for plan, part in ((plan, part) for plan in plans[test] for part in ("val", "test")):
                own = run.predictions[(run.predictions["part"] == part) & (run.predictions["seed"] == plan.seed)]
                assert sorted(own["photo"]) == sorted(set(table["photo"].iloc[plan.rows(part)]))
        rows = runs["scene+device"].metrics.set_index(["part", "metric"])
        found[kind] = rows.loc[("test", "accuracy"), "value"]
        assert set(rows["level"]) == {"photo"} and np.isfinite(rows["value"]).all()
    assert {kind for kind, accuracy in found.items() if accuracy == 1} == finders, found
    assert max(accuracy for kind, accuracy in found.items() if kind not in finders) < 0.7, found


def test_a_header_that_training_never_saw_falls_back_on_what_it_shares(tmp_path):
    """Keys by luma table, chroma table and size; B has two sizes, and photos of both orientations."""

    def photo(name: str, quality: int, size: tuple[int, int], subsampling: str = "4:2:0") -> list:
        Image.new("RGB", size, "grey").save(tmp_path / name, "JPEG", quality=quality, subsampling=subsampling)
        return [str(tmp_path / name), *size]

    train = {"A": [(80, (64, 48))] * 3, "B": [(90, (64, 48))] * 3 + [(90, (96, 64))], "C": [(90, (96, 80), "4:4:4")]}
    files = [(photo(f"{k}{i}", *own), k) for k, rows in train.items() for i, own in enumerate(rows)]
    new = {"known": (90, (96, 64)), "portrait": (90, (48, 64)), "new size": (80, (72, 48)), "new tables": (50, (8, 8)),
           "new subsampling": (90, (64, 64), "4:2:2"), "C again": (90, (80, 96), "4:4:4")}  # fmt: skip
    rows = [row for row, _ in files] + [photo(name, *own) for name, own in new.items()]
    (tmp_path / "broken").write_bytes(b"not a JPEG")
    catalogue = pd.DataFrame([*rows, [str(tmp_path / "broken"), 64, 48]], columns=["path", "width", "height"])
    catalogue["photo"] = catalogue["path"].str.rsplit("/").str[-1]
    keys = baselines.header_keys(catalogue)
    labels = pd.Series([label for _, label in files], keys.index[: len(files)])
    found = np.exp(baselines.look_up(keys, labels))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert list(found) == [f"log_prob:{name}" for name in "ABC"]
    named = found.idxmax(axis=1).str[-1]
    assert named[list(new)].to_dict() == {"known": "B", "portrait": "B", "new size": "A", "new tables": "B",
                                          "new subsampling": "B", "C again": "C"}  # fmt: skip
    priors = np.array([4, 5, 2]) / 11
    np.testing.assert_allclose(found.loc["new tables"], priors)
    np.testing.assert_allclose(found.loc["broken"], priors)
    np.testing.assert_allclose(found.loc["new size"], (np.array([3, 0, 0]) + (np.array([3, 0, 0]) + priors) / 4) / 4)


def test_cooccurrences_are_those_of_a_slow_count_and_know_no_direction_or_sign():
    crops = np.random.default_rng(0).integers(100, 112, (3, 12, 12, 3), dtype=np.uint8)
    found = baselines.cooccurrences(crops)
    assert found.shape == (3, 338)
    np.testing.assert_allclose(found.reshape(3, 2, -1).sum(axis=2), 1, rtol=1e-6)
    for same in (crops.swapaxes(1, 2), crops[:, ::-1], crops[:, :, ::-1], 255 - crops):
        np.testing.assert_allclose(baselines.cooccurrences(same), found, rtol=1e-6)
    assert np.abs(found - baselines.cooccurrences(crops[..., [1, 0, 2]])).max() > 0.01  # green alone
    green = crops[0, ..., 1].astype(int)
    for way in (0, 1):
        counts = Counter()
        for plane in (green, green.T):
            levels = np.clip(np.round(np.diff(plane, 3) / 3), -2, 2)
            for row in levels if way == 0 else levels.T:
                for four in np.lib.stride_tricks.sliding_window_view(row, 4):
                    counts[min(map(tuple, (four, four[::-1], -four, -four[::-1])))] += 1
        shares = np.array(sorted(counts.values())) / sum(counts.values())
        own = np.sort(found[0, 169 * way :][:169])
        np.testing.assert_allclose(own[own > 0], shares, rtol=1e-6)


def test_without_traces_colour_remains_and_texture_does_not():
    rng, colours = np.random.default_rng(0), np.array([[120, 130, 110]])
    noise = gaussian_filter(rng.normal(size=(96, 96, 3)), (0.7, 0.7, 0))
    checked = np.where(np.indices((96, 96)).sum(0)[..., None] % 2, 30, -30)
    blocks = np.broadcast_to((np.arange(96) % 8 - 3.5)[:, None, None], (96, 96, 1))  # edges every 8 pixels, as JPEG's
    plain, *others = (
        baselines.without_traces((colours + change).astype(np.uint8)).astype(int)
        for change in (np.zeros((96, 96, 3)), 8 * noise / noise.std(), checked, blocks)
    )
    assert plain.shape == (64, 64, 3) and (plain == colours).all()
    for other, most in zip(others, (6, 1, 1), strict=True):
        assert np.abs(other - plain).max() <= most and abs((other - plain).mean()) < 0.6
        assert np.abs(np.diff(other, 2, axis=1)).max() <= 2  # smooth


def test_a_linear_classifier_is_at_its_optimum():
    """Of features that depend on each other scikit-learn's own tolerance leaves it short of that."""
    rng = np.random.default_rng(0)
    photos = pd.Index([f"photo{i}" for i in range(300)], name="photo")
    classes = pd.Series(np.array(MODELS)[np.arange(300) % 3], photos)
    values = rng.gamma(2, size=(300, 20)) @ rng.random((20, 200)) ** 4 + 0.02 * rng.random((300, 200))
    features = pd.DataFrame(values + 0.3 * np.arange(300)[:, None] % 3 * rng.random(200), photos)
    train, val = classes[:240], classes[240:]
    scaled = StandardScaler().fit(features.loc[train.index] ** 0.5).transform(features**0.5)
    exact = {}
    for strength in baselines.STRENGTHS:
        fit = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-12).fit(scaled[:240], train)
        exact[log_loss(val, fit.predict_proba(scaled[240:]))] = fit.predict_proba(scaled)
    found = baselines.linear(features, features, train, val)
    np.testing.assert_allclose(np.exp(found), exact[min(exact)], atol=1e-5)


def test_features_to_train_with_and_to_test_with_are_from_different_crops(make_store, monkeypatch):
    """Even crops are flat, odd ones noisy; a photo with one crop trains and is tested by it."""
    photo = ["b"] * 4 + ["a"] * 3 + ["c"]
    turn = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    noise = np.random.default_rng(0).integers(-20, 20, (8, 24, 24, 3)) * turn[:, None, None, None]
    store = make_store((128 + noise).astype(np.uint8), pd.DataFrame({"photo": photo}))
    store.folder.mkdir()
    known, tested = baselines.features(store, "residual")
    assert list(known.index) == list(tested.index) == ["a", "b", "c"]
    shares = baselines.cooccurrences(store.pixels)
    np.testing.assert_allclose(tested.loc["b"], shares[[1, 3]].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(known.loc["a"], shares[[4, 6]].mean(axis=0), rtol=1e-5)
    assert (known.loc[["a", "b"]].max(axis=1) == 1).all() and (tested.max(axis=1) < 0.5).all()
    assert (known.loc["c"] == tested.loc["c"]).all()
    monkeypatch.setattr(baselines, "cooccurrences", None)  # a second call reads the file
    pd.testing.assert_frame_equal(baselines.features(store, "residual")[1], tested)


def test_an_unknown_baseline_is_named(study):
    with pytest.raises(ValueError, match="'pixels'; choose one of header, content, residual, colour"):
        baselines.run(study, "pixels", pd.DataFrame(), pd.DataFrame(), {})
