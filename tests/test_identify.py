"""The answer for one photo, "none of the known cameras", parts by different cameras, the command line and its map."""

import json
import os
from functools import partial
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import torch
from helpers import halves
from PIL import Image

from camid_utils import models
from camid_utils.identify import __main__, predict
from camid_utils.photos import header_key, resize

CLASSES = ["Cold_Blue", "Warm_Red"]
RED, BLUE = (200, 40, 40), (40, 40, 200)


@pytest.fixture
def model() -> models.Model:
    """A real network with weights set by hand: red patches are by one camera, blue ones by another."""
    net = models.CameraConvNet(2, width=0.01).eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.zero_()
    net.features[0].weight[0, :, 3, 3] = torch.tensor([1.0, 0.0, -1.0])  # red minus blue, where positive
    net.features[3].weight[0, 0, 3, 3], net.features[7].weight[0] = 1.0, 1 / 36
    net.classifier[0].weight[0, 0] = 1.0
    net.classifier[-1].weight[1, 0], net.classifier[-1].bias[0] = 0.1, 5.0
    info = {"dataset": "simulated FloreView", "protocol": "scene", "kind": "grid", "target": "camera_model"}
    return models.Model(net, CLASSES, 48, "0..255", info)


@pytest.fixture
def model_file(model, tmp_path):
    return models.save_model(model, tmp_path / "model.safetensors")


def with_threshold(model: models.Model, score: str, threshold: float, **facts) -> models.Model:
    rates = dict(known_refused=0.05, photos=40, unknown_accepted=0.5, unknown_photos=19)
    return model._replace(info=model.info | {"identification": facts | rates | dict(score=score, threshold=threshold)})


@pytest.mark.parametrize("height, width", [(48, 48), (49, 70), (240, 320), (3000, 4000), (6000, 8000), (48, 9000)])
def test_patches_cover_the_photo_evenly_and_are_never_too_many(height, width):
    corners = predict.patch_positions(height, width, 48)
    assert 1 <= len(corners) <= predict.PATCHES and len(np.unique(corners, axis=0)) == len(corners)
    assert corners.min() >= 0 and (corners.max(axis=0) <= (height - 48, width - 48)).all()
    for axis, length in enumerate((height, width)):
        places = np.unique(corners[:, axis])
        if len(places) > 1:
            assert places[0] == 0 and places[-1] == length - 48 and np.ptp(np.diff(places)) <= 1
    assert len(corners) == len(np.unique(corners[:, 0])) * len(np.unique(corners[:, 1]))
    assert predict.patch_positions(72, 50, 48).tolist() == [[y, x] for y in (0, 24) for x in (0, 2)]  # small: overlaps
    inner = predict.patch_positions(height, width, 48, margin=0.1)
    first = np.minimum([height // 10, width // 10], [(height - 48) // 2, (width - 48) // 2])
    assert (inner.min(axis=0) >= first).all() and (inner.max(axis=0) + 48 <= [height, width] - first).all()
    aligned = predict.patch_positions(height, width, 48, 0.1, 8)
    assert (aligned % 8 == 0).all() and set(map(tuple, aligned)) == {tuple(corner) for corner in inner // 8 * 8}
    assert len(np.unique(aligned, axis=0)) == len(aligned)


def test_each_patch_is_predicted_where_it_lies(model):
    corners, logits, features = predict.predict_photo(halves(BLUE, RED), model)
    named = np.array(CLASSES)[logits.argmax(axis=1)]
    assert set(named[corners[:, 1] + 48 <= 160]) == {"Cold_Blue"} and set(named[corners[:, 1] >= 160]) == {"Warm_Red"}
    assert set(features[logits.argmax(axis=1) == 0, 0]) == {0.0} and len(features) == len(corners)


def test_a_model_of_whole_photos_gets_the_whole_photo(model):
    resized, photo = model._replace(info=model.info | {"kind": "resize"}), halves(BLUE, RED)
    corners, logits, _ = predict.predict_photo(photo, resized)
    with torch.inference_mode():
        expected, _ = predict.PatchNetwork(model)(torch.from_numpy(resize(photo, 48, 48)[None].copy()))
    assert corners.tolist() == [[0, 0]] and np.allclose(logits, expected)
    with pytest.raises(ValueError, match="smaller"):
        predict.predict_photo(photo[:40], resized)


LOGITS = np.log([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8]]) + [[1.0], [2.0], [6.0]]  # what is added changes the energy only
FEATURES = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 3.0]])  # of three patches: on average (2, 1)


def test_probabilities_follow_from_the_mean_over_patches_and_the_temperature(model):
    found = predict.combine(LOGITS, FEATURES, model)
    odds = (0.8 * 0.8 * 0.2 / (0.2 * 0.2 * 0.8)) ** (1 / 3)
    expected = [["Cold_Blue", pytest.approx(odds / (1 + odds))], ["Warm_Red", pytest.approx(1 / (1 + odds))]]
    assert found["cameras"] == expected
    assert (found["patches"], found["votes"], found["unknown"]) == (3, 2, False)
    assert found["confidence"] == pytest.approx(odds / (1 + odds)) and found["energy"] == pytest.approx(3)
    cooler = predict.combine(LOGITS, FEATURES, with_threshold(model, "confidence", 0.0, temperature=0.5))
    assert cooler["confidence"] == pytest.approx(odds**2 / (1 + odds**2))


SHOWN = {"confidence": 1 / (1 + 0.25 ** (1 / 3)), "energy": 3.0, "feature_similarity": -(2**0.5)}


@pytest.mark.parametrize("score, value", SHOWN.items())
def test_below_the_threshold_of_its_score_the_camera_is_unknown(model, score, value):
    for threshold in (value - 0.01, value + 0.01):
        known = with_threshold(model, score, threshold, means=[[-4.0, 0.0], [1.0, 2.0]])
        found = predict.combine(LOGITS, FEATURES, known)
        assert found["score"] == pytest.approx(value) and found["unknown"] is (value < threshold)
    with pytest.raises(ValueError, match="'vote_share' is not one of confidence.*run notebook 06 again"):
        predict.combine(LOGITS, FEATURES, with_threshold(model, "vote_share", 0.5))  # a model file of an older version


def grid(classes, height: int = 4, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Corners of evenly spaced patches, and log-probabilities: 0.9 for the class that `classes(y, x)` gives."""
    places = [(y, x) for y in range(height) for x in range(width)]
    chances = np.full((len(places), 3), 0.05)
    chances[range(len(places)), [int(classes(*place)) for place in places]] = 0.9
    return np.multiply(places, 50), np.log(chances)


GAIN = np.log(0.9 / 0.05)  # per patch that another camera explains better


@pytest.mark.parametrize(
    "classes, size, share, sides",
    [
        (lambda y, x: 2 * (x >= 2), (4, 6), 1 / 3, [("left", 0), ("right", 2)]),
        (lambda y, x: y < 2, (4, 6), 1 / 2, [("top", 1), ("bottom", 0)]),
        (lambda y, x: x == 5, (4, 6), 0, []),  # a single column of patches
        (lambda y, x: 1, (4, 6), 0, []),
        (lambda y, x: (x + y) % 2, (4, 6), 0, []),  # two cameras, but no seam
        (lambda y, x: x, (1, 1), 0, []),  # too few patches
        (lambda y, x: x, (3, 3), 0, []),
    ],
)
def test_parts_by_two_cameras_gain_by_a_camera_each(classes, size, share, sides):
    corners, logs = grid(classes, *size)
    shuffled = np.random.default_rng(0).permutation(len(logs))
    for order in (slice(None), shuffled):
        statistic, found = predict.parts_statistic(corners[order], logs[order])
        assert (statistic, found) == (pytest.approx(share * GAIN, abs=1e-9), sides)


@pytest.mark.parametrize("given, cores, threads", [("", 2, 1), ("", 6, 3), ("", 64, 4), ("", 1, 1), ("3", 3, 3)])
def test_a_photo_takes_few_threads_unless_told_how_many(photos, model_file, monkeypatch, given, cores, threads):
    before, seen, real = torch.get_num_threads(), [], predict.predict_photo
    monkeypatch.setattr(predict, "predict_photo", lambda *args: seen.append(torch.get_num_threads()) or real(*args))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    try:
        torch.set_num_threads(cores)
        assert __main__.main([str(photos / "red.jpg"), "--model", str(model_file)]) == 0
        with pytest.raises(KeyboardInterrupt), predict.few_threads():
            raise KeyboardInterrupt
        assert (seen, torch.get_num_threads()) == ([threads], cores)
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colours in {"red": (RED, RED), "blue": (BLUE, BLUE), "both": (BLUE, RED)}.items():
        (folder / f"{name}.jpg").write_bytes(simplejpeg.encode_jpeg(halves(*colours), 95))
    return folder


def test_unreadable_photos_are_left_out_with_their_reasons(photos, model_file, capsys):
    (photos / "bad.jpg").write_text("no photo")
    Image.new("RGB", (20, 20)).save(photos / "tiny.png")
    arguments = [str(photos), str(photos / "none.jpg"), "--json", "--model", str(model_file)]
    assert __main__.main(arguments) == 1
    out, err = capsys.readouterr()
    rows = {row["photo"].split("/")[-1]: row for row in map(json.loads, out.splitlines())}
    assert sorted(rows) == ["blue.jpg", "both.jpg", "red.jpg"] and not rows["both.jpg"]["parts_differ"]  # no limit
    assert rows["blue.jpg"]["cameras"][0][0] == "Cold_Blue" and rows["red.jpg"]["cameras"][0][0] == "Warm_Red"
    for reason in ("bad.jpg: not a JPEG", "none.jpg: cannot be read", "tiny.png: smaller (20 x 20 pixels)", "3 of 6"):
        assert reason in err
    assert err.count("bad.jpg") == 1


NONE = "none of the known cameras; by the pixels, the most similar of the known cameras are Warm Red, Cold Blue"
PARTS = "its parts look like different cameras: the left looks most like Cold Blue, the right looks most like Warm Red"


@pytest.mark.parametrize("threshold, limit", [(0.999, 9.0), (0.999, 0.1), (0.0, 0.1), (0.0, 9.0)])
def test_the_head_line_says_unknown_and_parts_differ(model, photos, tmp_path, capsys, threshold, limit):
    facts = dict(splice_threshold=limit, splice_detected=0.75, splice_false_alarms=0.02)
    path = models.save_model(with_threshold(model, "confidence", threshold, **facts), tmp_path / "m.safetensors")
    arguments = [str(photos / "both.jpg"), str(photos / "red.jpg"), "--model", str(path)]
    assert __main__.main(arguments) == __main__.main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    both, red = out.split("{")[0].split(str(photos / "red.jpg"))
    assert (NONE in both, PARTS in both) == (threshold == 0.999, limit == 0.1)
    assert ("%" in both, "patches vote" in both) == (threshold == 0.0,) * 2  # no camera of an unknown one has a share
    assert ("if one camera took all of it:\n" in both) == ((threshold, limit) == (0.0, 0.1))
    assert red.split()[:2] == ["Warm", "Red"] and "%" in red
    both, red = (json.loads(line) for line in out.splitlines()[-2:])
    assert (both["unknown"], both["parts_differ"], len(both["cameras"])) == (threshold == 0.999, limit == 0.1, 2)
    assert both["parts_statistic"] > 0.1 > red["parts_statistic"] and red["parts"] == []
    assert both["parts"] == [["left", "Cold_Blue"], ["right", "Warm_Red"]] * (limit == 0.1)
    assert "refused 5 % of their answers about 40" in err and "of 19 by others they named 50 %" in err
    assert "; 75 % of splices were detected, 2 %" in err


def test_litter_is_passed_over_and_what_is_skipped_is_counted(photos, model_file, capsys):
    good = (photos / "red.jpg").read_bytes()
    for name in ("blue", "both"):
        (photos / f"{name}.jpg").unlink()
    (photos / "@eaDir" / "red.jpg").mkdir(parents=True)
    for name in ("@eaDir/red.jpg/thumb.jpg", "._red.jpg", ".Trashes/old.jpg", "a.HEIC", "b.heic", "c.mp4"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(good[:9])
    for name in ("d.jfif", "e.JPE", "f.JPG"):
        (photos / name).write_bytes(good)
    (photos / "link.jpg").symlink_to("red.jpg")
    given = [str(photos), str(photos / "red.jpg"), "--json", "--model", str(model_file)]
    assert __main__.main(given) == 0
    out, err = capsys.readouterr()
    names = [json.loads(line)["photo"].rsplit("/")[-1] for line in out.splitlines()]
    assert names == ["d.jfif", "e.JPE", "f.JPG", "link.jpg"]  # which is also red.jpg: each photo once
    assert "skipped: 2 HEIC, 1 video" in err and "could not be read" not in err


def test_the_answer_has_the_camera_its_votes_and_a_note_and_heic_is_named(photos, model_file, capsys):
    odd, heic = photos / "odd.jpg", photos / "heic.jpg"
    odd.write_bytes((photos / "red.jpg").read_bytes()[:-2])  # no end marker
    heic.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    given = [str(odd), str(heic), "--model", str(model_file)]
    assert __main__.main(given) == __main__.main([*given, "--json"]) == 1
    out, err = capsys.readouterr()
    note = json.loads(out.splitlines()[-1])["note"]
    assert "no end marker" in note and f"odd.jpg\n  note: {note}\n  Warm Red" in out
    votes = len(predict.patch_positions(240, 320, 48))
    assert f" %\n  {votes} of {votes} patches vote for Warm Red\n" in out and "heic.jpg: a HEIC photo" in err
    assert "trained on simulated FloreView photos" in err and "always names one of them" in err


def test_errors_say_what_to_do(photos, model, model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predict, "resolve", lambda path: tmp_path / path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    drawn = [photos, "--model", model_file, "--map"]
    old = model._replace(info=model.info | {"identification": {"threshold": 0.5}})
    old = models.save_model(old, tmp_path / "old.safetensors")
    wrong = {"none was trained": [photos], "another version": [photos, "--model", old],
             "no model file": [photos, "--model", "no.safetensors"],
             "JPEG and PNG files are read": [tmp_path / "empty"], "ends in .png": [*drawn, tmp_path / "map.jpg"],
             "File exists": [*drawn, tmp_path / "file" / "map.png"],
             "would replace one": [tmp_path / "own.png", *drawn[1:], tmp_path / "own.png"],
             "replace one of the photos": [tmp_path / "own.png", tmp_path / "own-1-own.png", *drawn[1:],
                                           tmp_path / "own.png"]}  # fmt: skip
    for name in ("own", "own-1-own"):
        Image.new("RGB", (80, 80)).save(tmp_path / f"{name}.png")
    for message, arguments in wrong.items():
        assert __main__.main(list(map(str, arguments))) == 2 and message in capsys.readouterr().err
    for arguments in ([""], [str(photos), "--model", ""]):
        with pytest.raises(SystemExit):
            __main__.main(arguments)
        assert "an empty path" in capsys.readouterr().err
    walk = partial(os.walk, topdown=True)
    closed = PermissionError(13, "Permission denied", str(tmp_path / "empty" / "inside"))
    monkeypatch.setattr(os, "walk", lambda root, onerror, **options: onerror(closed) or walk(root, **options))
    assert __main__.main([str(tmp_path / "empty")]) == 2
    assert "inside: this folder cannot be opened" in capsys.readouterr().err
    os.mkfifo(tmp_path / "empty" / "a.jpg")  # a folder's are skipped, as reading one would wait forever
    assert __main__.main([str(tmp_path / "empty")]) == 2 and "1 no regular file" in capsys.readouterr().err
    assert __main__.main([str(tmp_path / "empty" / "a.jpg"), *map(str, drawn[1:3])]) == 1
    assert "a.jpg: it is no regular file" in capsys.readouterr().err
    monkeypatch.setattr(predict, "default_model", Mock(side_effect=KeyboardInterrupt))
    assert __main__.main([str(photos)]) == 130


def test_the_answer_says_whether_header_and_pixels_agree(model, photos, tmp_path, capsys):
    """Qualities and sizes stand for cameras: one header is of both, one of the wrong one, some are of none."""
    colours, rows = {"blue": BLUE, "red": RED}, []
    given = {"agrees": ("red", 95, 240), "both": ("blue", 80, 240), "wrong": ("blue", 60, 240),
             "new size": ("red", 95, 200), "new quality": ("red", 96, 240), "upright": ("red", 95, 240)}  # fmt: skip
    for name, (colour, quality, height) in given.items():
        pixels = halves(colours[colour], colours[colour], height)
        pixels = pixels.swapaxes(0, 1).copy() if name == "upright" else pixels
        (photos / f"{name}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels, quality))
    Image.fromarray(halves(RED, RED)).save(photos / "plain.png")
    for name, own in {"agrees": ["Warm_Red"], "both": ["Cold_Blue", *["Warm_Red"] * 2], "wrong": ["Warm_Red"]}.items():
        rows += [(photos / f"{name}.jpg", 240, 320, camera) for camera in own]
    rows.append((photos / "plain.png", 240, 320, "Warm_Red"))  # has no header
    table = pd.DataFrame(rows, columns=["path", "height", "width", "camera_model"])
    info = predict.seen_headers(table) | predict.seen_sizes(table)
    seen = info["headers"]
    assert list(seen.values()).count([["Warm_Red", 1]]) == 2 and [["Warm_Red", 2], ["Cold_Blue", 1]] in seen.values()
    assert len(seen) == 3 and header_key(photos / "agrees.jpg", 240, 320) in seen
    assert info["sizes"] == {"240 x 320": ["Cold_Blue", "Warm_Red"]}
    file = models.save_model(model._replace(info=model.info | info), tmp_path / "m.safetensors")
    fits = "Training photos of this size are by Cold Blue or Warm Red."
    expected = {"agrees": f"The header says Warm Red; the pixels agree. {fits}",
                "upright": f"says Warm Red; the pixels agree. {fits}",
                "both": f"The header says Warm Red or Cold Blue; the pixels agree. {fits}",
                "wrong": f"Warm Red, the pixels say Cold Blue: they disagree. {fits}",
                "new size": "another camera, was taken at another setting, or was cropped or scaled.",
                "new quality": f"never saw. {fits}", "plain": f"It has no JPEG header. {fits}"}  # fmt: skip
    for name, text in expected.items():
        path = photos / f"{name}{'.png' if name == 'plain' else '.jpg'}"
        assert __main__.main([str(path), "--model", str(file)]) == 0
        assert capsys.readouterr().out.splitlines()[-1].endswith(text)
    assert __main__.main([str(photos / "both.jpg"), "--model", str(file), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["header"] == [["Warm_Red", 2], ["Cold_Blue", 1]] and answer["model"] == str(file)
    assert answer["size"] == ["Cold_Blue", "Warm_Red"]
    assert answer["pixels"] == answer["cameras"]  # both cameras took photos of this size
    said = {"pixels": [["Warm_Red", 0.9]], "unknown": True, "parts_differ": False}
    known, key = model._replace(info={"headers": seen}), next(iter(seen))
    told = predict.compare_header(key, "", said, known)["rests_on"]
    assert told.endswith("none of the known cameras: they disagree.")
    assert predict.compare_header("new", "9 x 9", said, known)["rests_on"].endswith("never saw.")  # it knows no sizes
    said |= {"parts_differ": True}
    assert "different cameras in its parts" in predict.compare_header(key, "", said, known)["rests_on"]


def test_only_cameras_that_took_photos_of_this_size_are_possible():
    names, sizes = [*"ABCDE"], {"3 x 4": ["B", "C"], "6 x 8": [*"ABCDE"], "1 x 2": ["E"]}
    facts = {"score": "feature_similarity", "threshold": -3.0, "means": [[i, 0.0] for i in range(5)]}
    info = {"headers": {"key": [["C", 3]]}, "sizes": sizes, "identification": facts}
    model, shares = models.Model(None, names, 48, "0..255", info), [0.5, 0.3, 0.1, 0.1, 1e-99]
    logits, features = np.log([shares, shares]), np.array([[0.5, 0.0], [-0.5, 0.0]])
    found = predict.combine(logits, features, model, predict.size_key(4, 3))
    assert found["cameras"][:2] == [["B", pytest.approx(0.75)], ["C", pytest.approx(0.25)]] and found["votes"] == 2
    assert [p for _, p in found["cameras"][2:]] == [0.0] * 3
    assert [p for _, p in found["pixels"]] == pytest.approx(shares) and [n for n, _ in found["pixels"]] == names
    assert found["feature_similarity"] == -1.0 and not found["unknown"]  # to B, the nearest that is possible
    said = found | {"parts_differ": False}
    told = predict.compare_header("key", "3 x 4", said, model)
    assert told["rests_on"].endswith("the pixels say A: they disagree. Training photos of this size are by B or C.")
    assert told["size"] == ["B", "C"] and told["header"] == [["C", 3]]
    assert predict.compare_header("", "3 x 4", said, model)["rests_on"].endswith("B or C; the pixels alone favour A.")
    assert predict.compare_header("", "6 x 8", said, model)["rests_on"].endswith(" by A or B or C or 2 others.")
    found = predict.combine(logits, features, model, "1 x 2")  # only E, which the pixels exclude
    assert found["cameras"][0] == ["E", 1.0] and found["feature_similarity"] == -4.0 and found["unknown"]
    told = predict.compare_header("new", "1 x 2", found | {"parts_differ": False}, model)
    assert told["rests_on"].endswith("Training photos of this size are by E only.")
    told = predict.compare_header("key", "1 x 2", found | {"parts_differ": False}, model)["rests_on"]
    assert "the pixels say none of the known cameras of its size: they disagree." in told
    answer = found | {"photo": "x.jpg", "note": "", "parts_differ": False, "size": ["E"], "rests_on": told}
    head = __main__.format_answer(answer).splitlines()[1]
    assert head.endswith("none of the known cameras of its size; by the pixels, the most similar of the known cameras "
                         "are A, B, C")  # fmt: skip


def test_a_photo_of_a_size_that_training_never_saw_is_by_an_unknown_camera():
    facts = {"threshold": 0.0, "score": "confidence"}
    info = {"sizes": {"3 x 4": ["B"]}, "identification": facts}
    model, logits = models.Model(None, ["A", "B"], 48, "0..255", info), np.log([[0.9, 0.1]])
    for size, unknown in (("3 x 4", False), ("5 x 6", True), ("", False)):  # "": its size is not asked about
        found = predict.combine(logits, np.zeros((1, 1)), model, size)
        assert found["unknown"] is unknown and found["cameras"][0][0] == ("B" if size == "3 x 4" else "A")
        assert found["size_unseen"] is unknown
        answer = found | {"photo": "x.jpg", "note": "", "parts_differ": False, "size": [], "rests_on": ""}
        text = __main__.format_answer(answer)
        assert ("no answer, as no training photo has its size; by the pixels, the most similar" in text) == unknown
    for other in ({"identification": facts}, {"sizes": info["sizes"]}):  # knows no sizes; has no threshold
        assert not predict.combine(logits, np.zeros((1, 1)), model._replace(info=other), "5 x 6")["unknown"]


def test_the_answer_names_possible_cameras_only(model, photos, tmp_path, capsys):
    """Of photos of 240 x 320 pixels the red camera alone took some in training, and a blue one is given."""
    rows = pd.DataFrame({"path": [photos / "red.jpg"], "height": 240, "width": 320, "camera_model": "Warm_Red"})
    info = model.info | predict.seen_headers(rows) | predict.seen_sizes(rows)
    file = models.save_model(model._replace(info=info), tmp_path / "m.safetensors")
    assert __main__.main([str(photos / "blue.jpg"), "--model", str(file)]) == 0
    first, camera, basis = capsys.readouterr().out.splitlines()
    assert camera == "  Warm Red, the only known camera of its size"
    assert basis.endswith("the pixels say Cold Blue: they disagree. Training photos of this size are by Warm Red only.")


def test_models_of_ones_own_photographs_answer_first_then_the_published_one(model, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "resolve", lambda path: tmp_path / path)
    folder = tmp_path / "data" / "default" / "models"

    def saved(name: str) -> bool:
        return models.save_model(model, folder / f"{name}.safetensors") == predict.default_model()

    assert saved("simulated-floreview/efficientnet-best-0") and saved("simulated-floreview/identifier-0")
    published = models.save_model(model, tmp_path / predict.PUBLISHED)
    assert predict.default_model() == published and not saved("public-photographs-by-phones/identifier-0")
    assert not saved("floreview/efficientnet-best-degraded-0")
    assert saved("floreview/efficientnet-best-0") and saved("floreview/identifier-0")
    assert not saved("floreview/efficientnet-best-1")


def test_the_map_shows_a_splice(photos, model_file, tmp_path):
    names, out = [str(photos / name) for name in ("blue.jpg", "both.jpg")], tmp_path / "m" / "map.png"
    assert __main__.main([*names, "--model", str(model_file), "--map", str(out)]) == 0
    assert sorted(p.name for p in out.parent.iterdir()) == ["map-1-blue.png", "map-2-both.png"]
    pixels = np.asarray(Image.open(out.parent / "map-2-both.png").convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    right = pixels[height // 4 : height * 3 // 4, width // 2 :]  # the panel with the map over the photo
    halves_of_map = np.array_split(right[:, (right.min(axis=(0, 2)) < 250)], 2, axis=1)
    assert abs(np.subtract(*(half.mean(axis=(0, 1)) for half in halves_of_map))).max() > 40
