"""Which camera took a photo: patches, votes, the answer "none of them", the command line, and the map of a splice."""

import json
import subprocess
import sys
import zlib

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image

from camid_utils import degradation, identify, models, patches
from camid_utils.experiments import PROJECT

CLASSES = ["Cold_Blue", "Warm_Red"]


class Colours(models.CameraConvNet):
    """A real network whose weights are set by hand: red patches are of one camera, blue ones of another."""

    def __init__(self):
        super().__init__(2, width=0.01)
        for parameter in self.parameters():
            torch.nn.init.zeros_(parameter)
        with torch.no_grad():
            first, last = self.features[0], self.classifier[-1]
            first.weight[0, 0, 3, 3], first.weight[0, 2, 3, 3] = 1.0, -1.0  # red less blue, where that is positive
            self.features[3].weight[0, 0, 3, 3] = 1.0
            self.features[7].weight[0] = 1 / 36
            self.classifier[0].weight[0, 0] = 1.0
            last.weight[1, 0], last.bias[0] = 0.1, 5.0


@pytest.fixture
def model() -> models.Model:
    info = {"dataset": "simulated FloreView", "protocol": "scene", "kind": "grid", "target": "camera_model"}
    return models.Model(Colours().eval(), CLASSES, 48, "0..255", info)


@pytest.fixture
def model_file(model, tmp_path):
    return models.save_model(model, tmp_path / "model.safetensors")


def photo(left: tuple, right: tuple, height: int = 240, width: int = 320) -> np.ndarray:
    """A photo of two colours, side by side."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    return pixels


RED, BLUE = (200, 40, 40), (40, 40, 200)


def with_threshold(model: models.Model, score: str, threshold: float, temperature: float = 1.0) -> models.Model:
    facts = dict(temperature=temperature, score=score, threshold=threshold, known_refused=0.05, unknown_accepted=0.5)
    return model._replace(info=model.info | {"identification": facts})


# where patches lie


@pytest.mark.parametrize("height, width", [(48, 48), (49, 70), (240, 320), (3000, 4000), (6000, 8000), (48, 9000)])
def test_patches_cover_the_photo_evenly_and_are_never_too_many(height, width):
    corners = identify.positions(height, width, 48)
    assert 1 <= len(corners) <= identify.PATCHES
    assert len(np.unique(corners, axis=0)) == len(corners)
    assert corners.min() >= 0 and (corners.max(axis=0) <= (height - 48, width - 48)).all()
    for axis, length in enumerate((height, width)):
        places = np.unique(corners[:, axis])
        if len(places) > 1:
            assert places[0] == 0 and places[-1] == length - 48 and np.ptp(np.diff(places)) <= 1
    assert len(corners) == len(np.unique(corners[:, 0])) * len(np.unique(corners[:, 1]))


def test_a_small_photo_is_covered_with_overlap_and_a_smaller_one_is_an_error():
    assert identify.positions(96, 96, 48).tolist() == [[y, x] for y in (0, 24, 48) for x in (0, 24, 48)]
    assert identify.positions(48, 50, 48).tolist() == [[0, 0], [0, 2]]
    with pytest.raises(ValueError, match="smaller .40 x 60 pixels"):
        identify.positions(60, 40, 48)


# the answer

FEATURES = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 3.0]])  # of three patches: on average (2, 1)


def test_probabilities_are_those_of_the_mean_over_the_patches_and_the_temperature(model):
    log_probs = np.log([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8]])
    found = identify.answer(log_probs, FEATURES, model)
    odds = (0.8 * 0.8 * 0.2 / (0.2 * 0.2 * 0.8)) ** (1 / 3)
    assert found["cameras"] == [
        ["Cold_Blue", pytest.approx(odds / (1 + odds))],
        ["Warm_Red", pytest.approx(1 / (1 + odds))],
    ]
    assert (found["patches"], found["agreed"], found["unknown"]) == (3, 2, False)
    assert found["agreement"] == pytest.approx(2 / 3) and found["clarity"] == pytest.approx(0.8)
    cooler = identify.answer(log_probs, FEATURES, with_threshold(model, "confidence", 0.0, temperature=0.5))
    assert cooler["confidence"] == pytest.approx(odds**2 / (1 + odds**2))


@pytest.mark.parametrize("score, value", [("agreement", 2 / 3), ("clarity", 0.8), ("likeness", -(2**0.5))])
def test_below_the_threshold_of_its_score_the_camera_is_unknown(model, score, value):
    log_probs = np.log([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8]])
    for threshold, unknown in ((value - 0.01, False), (value + 0.01, True)):
        known = with_threshold(model, score, threshold)
        known.info["identification"]["means"] = [[-4.0, 0.0], [1.0, 2.0]]
        found = identify.answer(log_probs, FEATURES, known)
        assert found["score"] == pytest.approx(value) and found["unknown"] is unknown


def test_each_patch_is_looked_at_where_it_lies(model):
    corners, log_probs, features = identify.look(photo(BLUE, RED), model)
    named = np.array(CLASSES)[log_probs.argmax(axis=1)]
    assert set(named[corners[:, 1] + 48 <= 160]) == {"Cold_Blue"} and set(named[corners[:, 1] >= 160]) == {"Warm_Red"}
    assert np.allclose(np.exp(log_probs).sum(axis=1), 1)
    assert set(features[log_probs.argmax(axis=1) == 0, 0]) == {0.0} and len(features) == len(corners)


def test_a_network_of_whole_photos_gets_the_whole_photo(model):
    squashed, half_red = model._replace(info=model.info | {"kind": "resize"}), photo(BLUE, RED)
    corners, log_probs, _ = identify.look(half_red, squashed)
    whole = torch.from_numpy(degradation.resized(half_red, model.input_size, model.input_size)[None].copy())
    with torch.inference_mode():
        expected, _ = identify.network(model.net, whole, model.input_range)
    assert corners.tolist() == [[0, 0]] and np.allclose(log_probs, expected)
    with pytest.raises(ValueError, match="smaller"):
        identify.look(half_red[:40], squashed)


# reading


def test_pixels_are_read_as_they_are_stored(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a viewer, never here
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(identify.read(tmp_path / "a.png"), pixels)
    Image.fromarray(np.dstack([pixels, pixels[..., 0]])).save(tmp_path / "alpha.png")
    assert np.array_equal(identify.read(tmp_path / "alpha.png"), pixels)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    assert np.array_equal(identify.read(tmp_path / "a.jpg"), patches.read_photo(tmp_path / "a.jpg"))
    (tmp_path / "named.jpg").write_bytes((tmp_path / "a.png").read_bytes())  # what it is counts, not its name
    assert np.array_equal(identify.read(tmp_path / "named.jpg"), pixels)


def test_what_cannot_be_read_is_named_with_its_reason(tmp_path):
    png, deep = tmp_path / "a.png", tmp_path / "deep.png"
    Image.fromarray(photo(RED, BLUE)).save(png)
    Image.fromarray(np.zeros((60, 60), np.uint16)).save(deep)
    (tmp_path / "cut.png").write_bytes(png.read_bytes()[:100])
    (tmp_path / "text.jpg").write_text("no photo")
    for name, reason in (
        ("cut.png", ""),
        ("text.jpg", "not a JPEG"),
        ("none.jpg", "No such file"),
        ("deep.png", "16 bits"),
    ):
        with pytest.raises(ValueError, match=f"{name}.*{reason}"):
            identify.read(tmp_path / name)


# the command line


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, pixels in {
        "red.jpg": photo(RED, RED),
        "blue.jpg": photo(BLUE, BLUE),
        "both.jpg": photo(BLUE, RED),
    }.items():
        (folder / name).write_bytes(simplejpeg.encode_jpeg(pixels, 95))
    return folder


def test_a_person_gets_cameras_probabilities_and_patches(photos, model_file, capsys):
    assert identify.main([str(photos / "red.jpg"), "--model", str(model_file)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].endswith("red.jpg") and lines[1].split()[:2] == ["Warm", "Red"] and "%" in lines[1]
    total = len(identify.positions(240, 320, 48))
    assert lines[-1].strip() == f"{total} of {total} patches name Warm Red"
    assert "simulated FloreView photographs" in err and "no threshold" in err


def test_json_has_a_line_a_photo_and_the_exit_code_tells_of_bad_ones(photos, model_file, capsys):
    (photos / "bad.jpg").write_text("no photo")
    (photos / "tiny.png").write_bytes(b"")
    Image.new("RGB", (20, 20)).save(photos / "tiny.png")
    assert identify.main([str(photos), "--json", "--model", str(model_file)]) == 1
    out, err = capsys.readouterr()
    rows = {row["photo"].split("/")[-1]: row for row in map(json.loads, out.splitlines())}
    assert sorted(rows) == ["blue.jpg", "both.jpg", "red.jpg"]
    assert rows["blue.jpg"]["cameras"][0][0] == "Cold_Blue" and rows["red.jpg"]["cameras"][0][0] == "Warm_Red"
    assert "bad.jpg: not a JPEG" in err and "tiny.png: smaller (20 x 20 pixels)" in err and "2 of 5 photos" in err


def test_an_unknown_camera_is_an_answer(model, photos, tmp_path, capsys):
    path = models.save_model(with_threshold(model, "agreement", 0.9), tmp_path / "m.safetensors")
    assert identify.main([str(photos / "both.jpg"), str(photos / "red.jpg"), "--model", str(path)]) == 0
    out, err = capsys.readouterr()
    both, red = out.split("red.jpg")
    assert "none of the known cameras" in both and "none of the known cameras" not in red
    assert "5% of known cameras for unknown" in err


@pytest.mark.parametrize("extra, message", [([], "no trained model"), (["--model", "no.safetensors"], "no model file")])
def test_without_a_model_the_command_says_what_to_do(photos, tmp_path, monkeypatch, capsys, extra, message):
    monkeypatch.setattr(identify, "resolve", lambda path: tmp_path / path)
    assert identify.main([str(photos), *extra]) == 2
    assert message in capsys.readouterr().err


def test_without_a_photo_there_is_nothing_to_answer(model_file, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert identify.main([str(tmp_path / "empty"), "--model", str(model_file)]) == 2
    assert "JPEG and PNG" in capsys.readouterr().err


def test_the_last_runs_best_model_answers(model, tmp_path, monkeypatch):
    monkeypatch.setattr(identify, "resolve", lambda path: tmp_path / path)
    folder = tmp_path / "data" / "default" / "models" / "simulated-floreview"
    best = models.save_model(model, folder / "efficientnet-best-0.safetensors")
    models.save_model(model, folder / "design-base-0.safetensors")
    models.save_model(model, folder / "efficientnet-best-degraded-0.safetensors")
    assert identify.latest_model() == best
    calibrated = models.save_model(model, folder / "identifier-0.safetensors")
    assert identify.latest_model() == calibrated


def test_a_map_that_cannot_be_written_ends_the_run_with_a_word(photos, model_file, tmp_path, capsys):
    arguments = [str(photos / "both.jpg"), "--model", str(model_file), "--map"]
    assert identify.main([*arguments, str(tmp_path / "map.jpg")]) == 2 and ".png" in capsys.readouterr().err
    (tmp_path / "file").write_text("no folder")
    assert identify.main([*arguments, str(tmp_path / "file" / "map.png")]) == 2
    assert "error:" in capsys.readouterr().err


def test_a_png_that_claims_to_be_huge_is_left_out(tmp_path):
    path = tmp_path / "huge.png"
    Image.new("RGB", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = 2 * (20_000).to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(ValueError, match="huge.png.*header claims"):
        identify.read(path)


def test_the_map_shows_a_splice(photos, model_file, tmp_path):
    out = tmp_path / "map.png"
    assert identify.main([str(photos / "both.jpg"), "--model", str(model_file), "--map", str(out)]) == 0
    width, height = Image.open(out).size
    pixels = np.asarray(Image.open(out).convert("RGB")).astype(int)
    right = pixels[height // 4 : height * 3 // 4, width // 2 :]  # the panel with the map over the photo
    filled = right[:, (right.min(axis=(0, 2)) < 250)]
    left_half, right_half = np.array_split(filled, 2, axis=1)
    assert abs(left_half.mean(axis=(0, 1)) - right_half.mean(axis=(0, 1))).max() > 40


def test_several_maps_go_beside_each_other(photos, model_file, tmp_path):
    assert identify.main([str(photos), "--model", str(model_file), "--map", str(tmp_path / "m" / "map.png")]) == 0
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["map-1-blue.png", "map-2-both.png", "map-3-red.png"]


def test_it_runs_as_a_command(photos, model_file):
    command = [
        sys.executable,
        "-m",
        "camid_utils.identify",
        str(photos / "red.jpg"),
        "--json",
        "--model",
        str(model_file),
    ]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["cameras"][0][0] == "Warm_Red"
