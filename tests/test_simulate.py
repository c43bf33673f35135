"""Simulated data sets: the loaders read them, settings fix their bytes, writes are atomic."""

import os
import signal

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from camid_utils import catalogues, datasets
from camid_utils.photos import degrade, read_photo
from camid_utils.simulate import build, cameras

TINY = dict(models=3, devices=2, scenes=3, size=(192, 144), workers=1)
PHOTO = "Zembrel_C10_0/Zembrel_C10_0_1.JPG"


def contents(root) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("data")
    return {kind: build.simulate(kind, folder / kind, **TINY) for kind in build.LAYOUTS}


@pytest.mark.parametrize(
    "kind, load, models, photo",
    [("dresden", datasets.load_dresden, 3, PHOTO),
     ("steps", datasets.load_steps, 9, "Base_twin_1/Base_twin_1_10.JPG"),
     ("floreview", datasets.load_floreview, 3, "D04_Drumsel_X1/Nat/jpeg-h264/L1/S2/D04_L1S2C1.jpg"),
     ("forchheim", datasets.load_forchheim, 4, "D02_Vintoro_m5_1/orig/D02_img_orig_0003.jpg"),
     ("vision", datasets.load_vision, 4, "D04_Orvane_T1/images/nat/D04_I_nat_0003.jpg")],
)  # fmt: skip
def test_the_loader_of_the_real_data_set_reads_every_photo(roots, kind, load, models, photo):
    found, root = load(roots[kind]), roots[kind]
    devices, versions = 1 if kind in build.COMMON else 2, 6 if kind == "forchheim" else 1
    assert found["camera_model"].nunique() == models and found["device"].nunique() == models * devices
    assert len(found) == models * devices * 3 and str(root / photo) in set(found["path"])
    assert len([*root.rglob("*.[jJ]*")]) == len(found) * versions and catalogues.left_out(found).empty
    assert set(found["dataset"]) == {f"simulated {build.LAYOUTS[kind].dataset}"}
    assert kind == "vision" or (found.groupby("device")["scene"].nunique() == 3).all()
    if kind in build.LISTED:
        names = pd.read_csv(root / catalogues.LISTING, keep_default_na=False)["filename"]
        assert sorted(names) == sorted(path.rsplit("/", 1)[1] for path in found["path"])
    what, settings = (root / catalogues.SIMULATED).read_text().splitlines()
    assert "none is real" in what and "seed=0 models=3" in settings and "192x144" in settings


def test_cameras_differ_from_the_base_in_the_columns_of_one_step_only():
    table = cameras.one_step_cameras().set_index("model")
    processing = table.loc[:, "cfa":]
    for name, columns in cameras.STEPS["columns"].items():
        changed = processing.columns[(processing.loc[name] != processing.loc["plain"]).to_numpy()]
        assert set(changed) <= set(columns.split()) and bool(len(changed)) == bool(columns), name
    assert (table["brand"] == "Base").all() and (processing.dtypes == cameras.COMPACTS.loc[:, "cfa":].dtypes).all()
    columns = cameras.STEPS["columns"].str.split().explode().dropna()
    assert columns.is_unique and {*processing} - {*columns} == {*"cfa crosstalk wb wb_red local subsampling".split()}
    assert {*columns} <= {*processing}


def test_the_steps_are_as_large_as_compacts_of_two_brands_usually_differ():
    columns = cameras.STEPS["columns"].str.split().explode().dropna().drop(["demosaic", "tables"])
    table = cameras.COMPACTS.assign(full_well=np.log(cameras.COMPACTS["full_well"]))
    a, b = (table["model"].eq(name).argmax() for name in (cameras.BASE, cameras.OTHER))
    one, two = np.nonzero(table["brand"].to_numpy()[:, None] != table["brand"].to_numpy())
    values = table[columns].to_numpy()
    gaps, chosen = np.abs(values[one] - values[two]).round(6), np.abs(values[a] - values[b]).round(6)
    ranks = ((gaps < chosen).mean(axis=0) + (gaps <= chosen).mean(axis=0)) / 2
    assert abs(ranks.mean() - 0.5) < 0.05


def test_the_twins_devices_differ_from_the_bases_as_any_two_devices():
    fleet = build.make_devices(cameras.one_step_cameras().iloc[:2], 2, (192, 144), seed=0)
    patterns = np.corrcoef([cameras.sensor_pattern(device).ravel() for device in fleet.itertuples()])
    assert np.abs(patterns - np.eye(4)).max() < 0.05 and fleet["wb_red"].nunique() == fleet["blur"].nunique() == 4


@pytest.mark.parametrize("kind", build.COMMON)
def test_some_phones_of_a_corpus_are_floreviews_models_but_never_its_devices(kind):
    pipeline = ["brand", "model", "cfa", *cameras.PROCESSING]
    known = set(cameras.PHONES[pipeline].itertuples(index=False, name=None))
    fleet = build.corpus_devices(kind, 8, (192, 144), seed=0)
    assert [one in known for one in fleet[pipeline].itertuples(index=False, name=None)] == [True] * 4 + [False] * 2
    theirs = build.make_devices(cameras.PHONES, 2, (192, 144), seed=0)
    others = pd.concat([theirs, *(build.corpus_devices(k, 8, (192, 144), 0) for k in build.COMMON if k != kind)])
    own = next(fleet.itertuples())
    same_model = [cameras.sensor_pattern(device).ravel() for device in others.itertuples() if device.model == own.model]
    alike = np.corrcoef([cameras.sensor_pattern(own).ravel(), *same_model])[0, 1:]
    assert len(alike) == 3 and np.abs(alike).max() < 0.05


def test_a_networks_copy_is_what_the_messenger_degradation_makes_of_the_original(roots):
    originals = datasets.load_forchheim(roots["forchheim"])
    for network, (factor, quality) in build.NETWORKS.items():
        copies = datasets.load_forchheim(roots["forchheim"], network)
        photo, copy = read_photo(originals["path"][4]), copies["path"][4]
        expected = degrade(photo, f"messenger {round(factor * max(photo.shape))} {quality}")
        assert np.array_equal(read_photo(copy), expected) and len(Image.open(copy).getexif()) == 0, network


def test_phones_record_an_orientation_and_photos_are_well_exposed(roots):
    cameras_photos = [Image.open(path) for path in roots["dresden"].rglob("*.JPG")]
    phones = [Image.open(path) for path in roots["floreview"].rglob("*.jpg")]
    assert {photo.getexif().get(0x0112) for photo in cameras_photos} == {None}
    assert {photo.getexif()[0x0112] for photo in phones} == {1, 6} and all(p.width > p.height for p in phones)
    means = np.array([np.asarray(photo).mean(axis=(0, 1)) for photo in cameras_photos + phones])
    assert ((means.mean(axis=1) > 50) & (means.mean(axis=1) < 200)).all() and np.ptp(means.mean(axis=0)) < 40


def test_all_cameras_photograph_the_same_scene(roots):
    paths = [roots["dresden"] / name for name in (PHOTO, "Quillor_P300_1/Quillor_P300_1_10.JPG")]
    small = [np.asarray(Image.open(path).convert("L").resize((12, 8)), float).ravel() for path in paths]
    assert np.corrcoef(*small)[0, 1] > 0.6


def test_photos_depend_on_the_seed_but_not_on_the_number_of_workers(roots, tmp_path):
    own = contents(roots["vision"])
    assert contents(build.simulate("vision", tmp_path / "parallel", **TINY | {"workers": 2})) == own
    other = contents(build.simulate("vision", tmp_path / "other", **TINY | {"seed": 1, "scenes": 1}))
    assert len(other) == 5 and all(other[name] != own[name] for name in other)


def test_complete_photos_are_kept_and_those_of_other_settings_replaced(roots, tmp_path):
    for kind, root in roots.items():
        before = os.stat(root).st_ino  # new photos come in a new folder
        assert build.simulate(kind, root, **TINY) == root and os.stat(root).st_ino == before
    root = tmp_path / "root"
    for models, photos in ((2, 4), (1, 2)):
        build.simulate("dresden", root, **TINY | {"models": models, "scenes": 1})
        assert len(list(root.rglob("*.JPG"))) == photos
    assert sorted(os.listdir(tmp_path)) == [".root.lock", "root"]


def test_an_interrupted_run_leaves_nothing_and_the_next_one_completes(tmp_path, monkeypatch):
    real, root = cameras.encode, tmp_path / "dresden"

    def interrupted(pixels, camera, when, iso, orientation):
        return real(pixels, camera, when, iso, orientation) if camera.shot < 3 else signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cameras, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build.simulate("dresden", root, **TINY)
    assert os.listdir(tmp_path) == [".dresden.lock"]
    monkeypatch.setattr(cameras, "encode", real)
    assert len(list(build.simulate("dresden", root, **TINY).rglob("*.JPG"))) == 18


def test_other_files_are_never_replaced(tmp_path):
    (tmp_path / "Dresden").mkdir()
    (tmp_path / "Dresden" / "Nikon_D70_0_1.JPG").write_bytes(b"precious")
    (tmp_path / "file").write_text("")
    for name in ("Dresden", "file"):
        with pytest.raises(FileExistsError, match="not ours to replace"):
            build.simulate("vision", tmp_path / name, **TINY)
    assert (tmp_path / "Dresden" / "Nikon_D70_0_1.JPG").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "wrong",
    [dict(models=9), dict(models=0), dict(devices=0), dict(scenes=0), dict(size=(32, 32)),
     dict(kind="Raise")],
)  # fmt: skip
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(ValueError, match="give"):
        build.simulate(**dict(kind="floreview", root=tmp_path / "root") | TINY | wrong)
    assert os.listdir(tmp_path) == []
