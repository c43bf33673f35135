"""Stand-ins for Forchheim and VISION: the corpora's layouts, FloreView's phone models, nobody else's devices."""

import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from camid_utils import cameras, corpora, datasets, patches, simulate, stand_ins
from camid_utils.degradation import degrade

TINY = dict(models=3, scenes=2, size=(192, 144), workers=1)
OWN = ["device", "blur", "vignette", "wb_red", "wb_blue", "off_x", "off_y", "seed"]  # what devices of a model differ in


def contents(root) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def forchheim(tmp_path_factory):
    return stand_ins.simulate_forchheim(tmp_path_factory.mktemp("data") / "forchheim", **TINY)


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    return stand_ins.simulate_vision(tmp_path_factory.mktemp("data") / "vision", **TINY)


def test_forchheim_layout_in_six_versions(forchheim):
    phones = ["D01_Pelquon_a4_1", "D02_Vintoro_m5_1", "D03_Lumaro_q2_1", "D04_Tessvik_n5_1"]
    expected = {
        f"{phone}/{version}/{phone[:3]}_img_{version}_{scene:04d}.jpg"
        for phone in phones
        for version in corpora.FORCHHEIM_VERSIONS
        for scene in (1, 2)
    }
    assert set(contents(forchheim)) == expected | {datasets.SIMULATED}


def test_vision_layout(vision):
    phones = ["D01_Pelquon_A4", "D02_Drumsel_X1", "D03_Lumaro_Q4", "D04_Orvane_T1"]
    expected = {f"{p}/images/nat/{p[:3]}_I_nat_{scene:04d}.jpg" for p in phones for scene in (1, 2)}
    assert set(contents(vision)) == expected | {datasets.SIMULATED}


def test_the_loaders_read_every_version_and_say_that_it_is_simulated(forchheim, vision):
    for version in corpora.FORCHHEIM_VERSIONS:
        table = corpora.load_forchheim(forchheim, version)
        assert len(table) == 8 and datasets.left_out(table).empty and set(table["dataset"]) == {"simulated Forchheim"}
        assert table["scene"].nunique() == 2 and table["device"].nunique() == 4
    table = corpora.load_vision(vision)
    assert len(table) == 8 and set(table["dataset"]) == {"simulated VISION"} and table["scene"].isna().all()


@pytest.mark.parametrize("corpus", stand_ins.COMMON)
def test_some_models_are_floreviews_and_two_are_not(corpus):
    phones = cameras.MODELS["FloreView"]
    known = {corpora.spelling(f"{row.brand}_{row.model}") for row in phones.itertuples()}
    devices = stand_ins.make_devices(corpus, len(phones), (640, 480), seed=0)
    names = [corpora.spelling(f"{row.brand}_{row.model}") for row in devices.itertuples()]
    assert [name in known for name in names] == [True] * 4 + [False] * 2
    pipeline = [c for c in phones if c not in OWN and c not in ("brand", "model")]
    theirs = set(map(tuple, phones[pipeline].astype(str).to_numpy()))
    ours = list(map(tuple, devices[pipeline].astype(str).to_numpy()))
    assert [one in theirs for one in ours] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("corpus", stand_ins.COMMON)
def test_devices_are_others_than_floreviews_and_the_other_corpus(corpus):
    size = (192, 144)
    fleets = [simulate.make_devices("FloreView", 8, 2, size, 0)]
    fleets += [stand_ins.make_devices(name, 8, size, 0) for name in stand_ins.COMMON]
    own = next(stand_ins.make_devices(corpus, 8, size, 0).itertuples())
    same_model = [d for fleet in fleets for d in fleet.itertuples() if d.model == own.model]
    patterns = [cameras.sensor_pattern(device).ravel() for device in same_model]
    correlated = np.corrcoef([cameras.sensor_pattern(own).ravel(), *patterns])[0, 1:]
    assert (correlated > 0.99).sum() == 1 and (np.abs(correlated) < 0.05).sum() == len(same_model) - 1
    assert len({device.wb_blue for device in same_model}) == len(same_model)


def test_a_copy_is_what_the_messenger_degradation_makes_of_the_original(forchheim):
    originals = corpora.load_forchheim(forchheim)
    for network, (part, quality) in stand_ins.NETWORKS.items():
        copies = corpora.load_forchheim(forchheim, network)
        for path, copy in zip(originals["path"][:3], copies["path"][:3], strict=True):
            photo = patches.read_photo(path)
            side = round(part * max(photo.shape))
            assert np.array_equal(patches.read_photo(copy), degrade(photo, f"messenger {side} {quality}")), network


def test_only_originals_carry_exif(forchheim):
    original, copy = (
        Image.open(forchheim / f"D01_Pelquon_a4_1/{version}/D01_img_{version}_0001.jpg")
        for version in ("orig", "twitter")
    )
    assert original.getexif()[0x0110] == "A4" and 0x0112 in original.getexif()
    assert len(copy.getexif()) == 0


def test_same_bytes_for_any_number_of_workers_and_other_scenes_in_the_other_corpus(forchheim, vision, tmp_path):
    again = stand_ins.simulate_forchheim(tmp_path / "again", **TINY | {"workers": 2})
    assert contents(again) == contents(forchheim)
    one = patches.read_photo(forchheim / "D01_Pelquon_a4_1/orig/D01_img_orig_0001.jpg")
    two = patches.read_photo(vision / "D01_Pelquon_A4/images/nat/D01_I_nat_0001.jpg")
    assert one.shape == two.shape and np.abs(one.astype(float) - two).mean() > 10


def test_photos_that_are_there_stay_and_other_files_are_never_replaced(forchheim, tmp_path):
    before = {path: os.stat(path).st_mtime_ns for path in forchheim.rglob("*.jpg")}
    stand_ins.simulate_forchheim(forchheim, **TINY)
    assert {path: os.stat(path).st_mtime_ns for path in forchheim.rglob("*.jpg")} == before
    (tmp_path / "mine.jpg").write_bytes(b"")
    with pytest.raises(FileExistsError, match="not ours to replace"):
        stand_ins.simulate_vision(tmp_path, **TINY)


def test_the_marker_says_what_the_networks_do(forchheim, vision):
    text = (forchheim / datasets.SIMULATED).read_text()
    assert "none is real" in text and "whatsapp: sides x 0.4, JPEG quality 75" in text and "seed=0 models=3" in text
    assert "whatsapp" not in (vision / datasets.SIMULATED).read_text()


@pytest.mark.parametrize("wrong", [{"models": 0}, {"models": 9}, {"scenes": 0}, {"size": (32, 24)}])
def test_impossible_settings(tmp_path, wrong):
    with pytest.raises(ValueError, match="give"):
        stand_ins.simulate_vision(tmp_path / "new", **TINY | wrong)
    assert not (tmp_path / "new").exists()
