"""The exported network, the folder of the page and its server, without a browser and without npm."""

import json
import mimetypes
import re
import socket
import threading
import urllib.request
from unittest.mock import Mock

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import simplejpeg
import torch

from camid_utils import models, published
from camid_utils.identify import page, predict, release
from camid_utils.project import PROJECT

LIMIT = dict(temperature=1.5, score="confidence", threshold=0.4, known_refused=0.05, unknown_accepted=0.5,
             photos=40, unknown_photos=19,
             elsewhere=dict(photos=373, named=0.56, misnamed=0.19, refused=0.25))  # fmt: skip
INFO = {"dataset": "simulated FloreView", "protocol": "scene", "kind": "grid", "identification": LIMIT}
LICENCE = published.read("collections").set_index("collection").loc["BritishMuseumDH/livia", "licence"]
NAMES = ["Zeta_9", "Alpha_1", "Mid_5"]
VENDOR = json.loads((page.WEB / "package.json").read_text())["vendor"]


def small() -> models.Model:
    torch.manual_seed(0)
    patches = models.to_input(torch.randint(0, 256, (16, 3, 48, 48)), "-1..1")
    net = models.initialise(models.CameraConvNet(3, width=0.01), patches).eval()
    return models.Model(net, NAMES, 48, "-1..1", INFO)


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A stand-in for npm, which makes the packages as empty files; returns how often it was asked."""
    files, log = [f"node_modules/{source}" for source in VENDOR.values()], tmp_path / "log"
    commands = [f"echo fetched >> {log}", *(f"mkdir -p {file.rsplit('/', 1)[0]}; touch {file}" for file in files)]
    (program := tmp_path / "bin" / "npm").parent.mkdir()
    program.write_text("\n".join(["#!/bin/sh", *commands]))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return lambda: len(log.read_text().splitlines())


@pytest.fixture
def quick(monkeypatch):
    """Folders are built without the seconds that an export takes."""
    monkeypatch.setattr(page, "export", lambda model, path: path.write_text(model.input_range))


def lite() -> models.Model:
    """The network of the study's best recipe, random, with running statistics unlike those of a new one."""
    torch.manual_seed(0)
    net = models.EfficientNetClassifier(3, "efficientnet_lite0", weights=None)
    with torch.no_grad():
        net(torch.randn(8, 3, 64, 64))
        net.classifier[-1].weight *= 20
    return models.Model(net.eval(), NAMES, 64, "imagenet", INFO)


@pytest.mark.parametrize("make", [small, pytest.param(lite, marks=pytest.mark.slow)])
def test_the_exported_network_gives_the_same_logits(make, tmp_path):
    model = make()
    page.export(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for count in (1, 5):
        patches = np.random.default_rng(count).integers(0, 256, (count, *2 * [model.input_size], 3), dtype=np.uint8)
        with torch.no_grad():
            expected, inside = (values.numpy() for values in predict.PatchNetwork(model)(torch.from_numpy(patches)))
        found, features = session.run(page.OUTPUTS, {"patches": patches})
        assert found.dtype == features.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_allclose(features, inside, atol=1e-4 * np.abs(inside).max())
        assert np.ptp(expected) > 0.1  # a constant network would agree with anything
    (entry,) = onnx.load(tmp_path / "model.onnx").metadata_props
    facts = {"class_names": NAMES, "input_size": model.input_size, "input_range": model.input_range, "info": INFO}
    assert entry.key == page.METADATA and json.loads(entry.value) == facts | {"patches": predict.PATCHES}
    with pytest.raises(ValueError, match="the page takes crops only"):
        page.export(model._replace(info=INFO | {"kind": "resize"}), tmp_path / "model.onnx")


def test_a_model_to_publish_leaves_two_files_that_agree_and_a_card_that_says_what_they_are(tmp_path, monkeypatch):
    """Three cameras of two collections: BritishMuseumDH/livia states a licence, my/photos is on no list."""
    facts = {"seed": 7, "plateau": False, "identification": LIMIT | {"means": [[0.0]]}}
    rows, model = [], small()._replace(info=INFO | facts)
    for i, name in enumerate(NAMES * 2):
        path = tmp_path / f"{i}.jpg"
        pixels = np.random.default_rng(i).integers(0, 256, (100, 120 + 8 * (i % 3), 3), dtype=np.uint8)
        path.write_bytes(simplejpeg.encode_jpeg(pixels, 90))
        collection = ["my/photos", "BritishMuseumDH/livia"][i // 3]
        rows.append([str(path), name, f"{name}_0", collection, pixels.shape[1], 100])
    train = pd.DataFrame(rows, columns=["path", "camera_model", "device", "collection", "width", "height"])
    given = dict(part="test", level="photo", metric="accuracy", low=0.5, high=1.0, photos=6, collections=2)
    tests = [given | dict(experiment="design-photo", protocol="photo", value=0.75),
             given | dict(experiment="mine", protocol="collection", value=0.625),
             given | dict(experiment="mine", protocol="collection", value=0.375, group="another body"),
             given | dict(experiment="mine", protocol="collection", value=0.7, group=f"another body, {release.SIZED}"),
             given | dict(experiment="mine", protocol="photo", value=0.999, part="val")]  # fmt: skip
    folder = tmp_path / "model"
    facts = release.leave(folder, model, train, pd.DataFrame(tests), [row[0] for row in rows[:2]])
    kept, card = models.load_model(folder / release.FILE), (folder / "README.md").read_text()
    assert kept.info == model.info | {"identification": LIMIT}
    assert release.disagreement(kept, folder / page.NETWORK, train["path"]) <= release.CLOSE
    for text in ("names 3 camera models", "refused 5 % of their answers about 40", "not evidence in court",
                 "Of 373 photos by other bodies of known cameras, in places that training never saw, models like it "
                 "named the right camera for 56 %, a wrong one for 19 %, and refused 25 %.",
                 "refused to answer\nin 5 % of cases; for 50 % of 19 by cameras",
                 "| base, new photos | photo | 75.0 % (50.0 to 100.0) | 6 | 2 |",
                 "| mine | collection | 62.5 % (50.0 to 100.0) | 6 | 2 |",
                 "| mine, another body | collection | 37.5 % (50.0 to 100.0) | 6 | 2 |",
                 "| my/photos | not listed | 3 |",
                 f"| BritishMuseumDH/livia | {LICENCE} | 3 |", "| Zeta_9 | 1 | 2 | 2 |", "seed 7.",
                 f"`model.onnx` ({facts['network']})"):  # fmt: skip
        assert text in card, text
    assert "99.9" not in card
    export, other = page.export, models.CameraConvNet(3, width=0.01).eval()  # whose probabilities are nearly equal
    monkeypatch.setattr(page, "export", lambda model, path: export(model._replace(net=other), path))
    with pytest.raises(ValueError, match="probabilities that differ by"):
        release.leave(folder, model, train, pd.DataFrame(tests), [row[0] for row in rows[:2]])


@pytest.mark.parametrize("relu, layers", [(False, 3), (True, 5)])
def test_a_saved_network_has_the_head_that_it_was_made_with(tmp_path, relu, layers):
    net, images = models.EfficientNetClassifier(3, "efficientnet_lite0", None, relu).eval(), torch.randn(4, 3, 64, 64)
    whole = models.Model(net, NAMES, 64, "imagenet", INFO)
    back = models.load_model(models.save_model(whole, tmp_path / "model.safetensors")).net
    assert len(back.classifier) == layers and back.settings["relu"] is relu
    with torch.no_grad():
        assert torch.equal(back(images), net(images))


@pytest.mark.parametrize("folder", sorted(PROJECT.glob("results/*/model")), ids=lambda path: path.parent.name)
def test_published_models_are_whole_and_small(folder):
    model, graph = models.load_model(folder / release.FILE), onnx.load(folder / page.NETWORK)
    assert (folder / release.FILE).stat().st_size <= 15e6 and (folder / page.NETWORK).stat().st_size <= 8e6
    facts = json.loads(graph.metadata_props[0].value)
    assert facts["class_names"] == model.class_names and facts["info"] == model.info
    assert f"names {len(model.class_names)} camera models" in (folder / "README.md").read_text()


def test_the_folder_is_complete_and_names_no_other_host(tmp_path, npm, quick):
    folder = page.build(small(), tmp_path / "page")
    assert {path.name for path in (folder / "vendor").iterdir()} == set(VENDOR)
    assert (folder / "vendor" / "jpeg.js").read_text().endswith("export default libjpegturbowasm_decode;\n")
    assert not (folder / "node_modules").exists() and not list(tmp_path.glob("*partial*"))
    for path in page.WEB.iterdir():
        text = (folder / path.name).read_text(encoding="utf-8")
        assert path.suffix == ".json" or not re.search(r"(?:https?:)?//[\w-]+\.\w", text), f"{path} names another host"
        for used in re.findall(r'(?:from |src=|href=|URL\()"(?!data:)([^"]+)"', text):
            assert (folder / used).is_file(), f"{path} uses {used}"


def test_npm_is_needed_once_and_where_it_fails_the_page_before_stays(tmp_path, npm, quick, capsys, monkeypatch):
    file = models.save_model(small(), tmp_path / "model.safetensors")
    arguments = ["--model", str(file), "--port", "0"]
    monkeypatch.setattr(page, "resolve", lambda _: tmp_path / "page")
    monkeypatch.setattr(page.ThreadingHTTPServer, "serve_forever", Mock(side_effect=KeyboardInterrupt))
    (tmp_path / "model.onnx").write_text("published")
    assert page.main(arguments) == page.main(arguments) == 0 and npm() == 1  # the same lock needs no second download
    assert str(file) in capsys.readouterr().out
    assert (tmp_path / "page" / page.NETWORK).read_text() == "published"  # the file beside it
    (tmp_path / "page" / page.LOCK).write_text("{}")
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\necho npm error network request failed >&2\nexit 1\n")
    assert page.main(arguments) == 2
    assert "needs its registry once:\nnpm error network request failed" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert page.main(arguments) == 2 and "install Node.js" in capsys.readouterr().err
    assert (tmp_path / "page" / page.LOCK).read_text() == "{}" and (tmp_path / "page" / "index.html").is_file()
    assert page.main(["--model", str(tmp_path / "größe")]) == 2 and "no model file" in capsys.readouterr().err


def test_the_locked_packages_are_those_asked_for():
    asked = json.loads((page.WEB / "package.json").read_text())["dependencies"]
    lock = json.loads((page.WEB / page.LOCK).read_text())["packages"]
    assert lock[""]["dependencies"] == asked
    for name, version in asked.items():
        assert re.fullmatch(r"[\d.]+", version) and lock[f"node_modules/{name}"]["version"] == version
    for name, entry in lock.items():
        assert "resolved" not in entry and (not name or entry["integrity"].startswith("sha512-"))


def test_the_server_sends_its_headers_and_types_whatever_the_system_says(tmp_path, monkeypatch):
    policy = re.search(r'Content-Security-Policy"\s+content="([^"]+)"', (page.WEB / "index.html").read_text())[1]
    assert policy.startswith(page.HEADERS["Content-Security-Policy"])
    mimetypes.init()
    for ending in page.TYPES:
        (tmp_path / f"file{ending}").write_text("")
        monkeypatch.setitem(mimetypes.types_map, ending, "text/plain")
    with page.server(tmp_path) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for ending, expected in page.TYPES.items():
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/file{ending}") as answer:
                assert answer.headers["Content-Type"] == expected
                assert page.HEADERS.items() <= dict(answer.headers).items()
        server.shutdown()


def test_a_port_in_use_is_named_before_the_work_begins(tmp_path, capsys, monkeypatch):
    file = models.save_model(small(), tmp_path / "model.safetensors")
    monkeypatch.setattr(page, "resolve", lambda _: tmp_path / "page")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for number, reason in ((port, "in use"), (70_000, "")):
            with pytest.raises(OSError, match=f"port {number} cannot be used .*{reason}.*give another --port"):
                page.server(tmp_path, number)
        assert page.main(["--model", str(file), "--port", str(port)]) == 2
    assert f"port {port} cannot be used" in capsys.readouterr().err and not (tmp_path / "page").exists()
