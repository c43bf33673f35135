"""The exported network and the folder of the page; the page itself is tested in test_page.py."""

import json
import re
import socket
import threading
import urllib.error
import urllib.request

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from camid_utils import demo, identify, models

INFO = {"dataset": "simulated FloreView", "protocol": "scene", "kind": "quality", "experiment": "a test"}
NAMES = ["Zeta_9", "Alpha_1", "Mid_5"]


def small(kind: str = "quality", input_range: str = "-1..1") -> models.Model:
    torch.manual_seed(0)
    patches = models.to_input(torch.randint(0, 256, (16, 3, 48, 48)), input_range)
    net = models.initialise(models.CameraConvNet(3, width=0.01), patches).eval()
    return models.Model(net, NAMES, 48, input_range, INFO | {"kind": kind})


@pytest.fixture
def packages(monkeypatch):
    """Stands in for npm: its packages as empty files, and a count of how often they were fetched."""
    fetched = []

    def install(folder):
        for source in demo.VENDOR:
            (folder / "node_modules" / source).parent.mkdir(parents=True, exist_ok=True)
            (folder / "node_modules" / source).write_text("")
        fetched.append(folder)

    monkeypatch.setattr(demo, "install", install)
    return fetched


@pytest.mark.parametrize("make", [small, lambda: small(input_range="0..255")], ids=["-1..1", "0..255"])
def test_the_exported_network_gives_the_same_log_probabilities(make, tmp_path):
    model = make()
    session = onnxruntime.InferenceSession(demo.export(model, tmp_path / "model.onnx"))
    size = model.input_size
    for count in (1, 5):
        patches = np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        with torch.no_grad():
            pixels = models.to_input(torch.from_numpy(patches).permute(0, 3, 1, 2), model.input_range)
            expected, inside = model.net(pixels).log_softmax(1).numpy(), model.net.features(pixels).numpy()
        found, features = session.run(demo.OUTPUTS, {"patches": patches})
        assert found.dtype == features.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_allclose(features, inside, atol=1e-4 * np.abs(inside).max())
        assert np.ptp(expected) > 0.1  # a network that says the same of everything would agree with anything


def test_all_that_a_page_needs_stands_in_the_file(tmp_path):
    facts = {"temperature": 1.3, "score": "agreement", "threshold": 0.5, "known_refused": 0.1, "unknown_accepted": 0.2}
    model = small()._replace(info=INFO | {"identification": facts})
    graph = onnx.load(demo.export(model, tmp_path / "model.onnx"))
    (entry,) = graph.metadata_props
    assert entry.key == demo.METADATA
    assert json.loads(entry.value) == {
        "class_names": NAMES,
        "input_size": 48,
        "input_range": "-1..1",
        "squashed": False,
        "patches": identify.PATCHES,
        "dataset": "simulated FloreView",
        "protocol": "scene",
        "experiment": "a test",
        "identification": facts,
    }
    assert [value.name for value in (*graph.graph.input, *graph.graph.output)] == ["patches", *demo.OUTPUTS]


def test_the_file_says_whether_its_network_sees_whole_photos(tmp_path):
    for kind in ("grid", "resize"):
        graph = onnx.load(demo.export(small(kind), tmp_path / "model.onnx"))
        assert json.loads(graph.metadata_props[0].value)["squashed"] == (kind == "resize")


def test_the_folder_is_whole_and_stands_alone(tmp_path, packages):
    folder = demo.build(small(), tmp_path / "page")
    assert {path.name for path in folder.iterdir()} == {*demo.FILES, "model.onnx", "vendor"}
    assert {path.name for path in (folder / "vendor").iterdir()} == {*demo.VENDOR.values(), demo.LOCK}
    assert (folder / "vendor" / "jpeg.js").read_text().endswith("export default libjpegturbowasm_decode;\n")
    assert not [path.name for path in tmp_path.iterdir() if "partial" in path.name]
    for name in demo.FILES:
        text = (folder / name).read_text(encoding="utf-8")
        assert not re.search(r"(?:https?:)?//[\w-]+\.\w", text), f"{name} names another host"
        for used in re.findall(r'(?:from |src=|href=|URL\()"(?!data:)([^"]+)"', text):
            assert (folder / used).is_file(), f"{name} uses {used}"


def test_npm_is_asked_again_only_when_the_lock_changes(tmp_path, packages):
    folder = demo.build(small(), tmp_path / "page")
    first = (folder / "model.onnx").read_bytes()
    demo.build(small(input_range="0..1"), folder)
    assert len(packages) == 1 and (folder / "model.onnx").read_bytes() != first
    (folder / "vendor" / demo.LOCK).write_text("{}")
    demo.build(small(), folder)
    assert len(packages) == 2


def test_a_page_with_a_file_of_the_readers_own_is_left_alone(tmp_path, packages):
    folder = demo.build(small(), tmp_path / "page")
    (folder / "holiday.jpg").write_text("precious")
    with pytest.raises(ValueError, match="holds other files"):
        demo.build(small(), folder)
    assert (folder / "holiday.jpg").read_text() == "precious"


def test_a_folder_of_other_files_is_left_alone(tmp_path, packages):
    (tmp_path / "holiday.jpg").write_text("precious")
    with pytest.raises(ValueError, match="holds other files"):
        demo.build(small(), tmp_path)
    assert (tmp_path / "holiday.jpg").read_text() == "precious" and not packages
    (tmp_path / "empty").mkdir()
    assert (demo.build(small(), tmp_path / "empty") / "index.html").is_file()


def test_a_build_that_fails_keeps_the_page_before(tmp_path, packages, monkeypatch):
    folder = demo.build(small(), tmp_path / "page")
    before = (folder / "model.onnx").read_bytes()
    (folder / "vendor" / demo.LOCK).write_text("{}")
    monkeypatch.setattr(demo, "install", lambda folder: (_ for _ in ()).throw(RuntimeError("no network")))
    with pytest.raises(RuntimeError, match="no network"):
        demo.build(small(), folder)
    assert (folder / "model.onnx").read_bytes() == before and (folder / "index.html").is_file()


def test_without_npm_or_its_registry_the_error_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="npm is missing.*install Node.js"):
        demo.install(tmp_path / "packages")
    (tmp_path / "npm").write_text("#!/bin/sh\necho npm error network request failed >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(RuntimeError, match="needs its registry once:\nnpm error network request failed"):
        demo.install(tmp_path / "packages")
    file = models.save_model(small(), tmp_path / "model.safetensors")
    assert demo.main(["--model", str(file), "--to", str(tmp_path / "page"), "--no-serve"]) == 2
    assert "error: npm could not fetch" in capsys.readouterr().err and not (tmp_path / "page").exists()


def test_the_locked_packages_are_those_asked_for():
    asked = json.loads((demo.WEB / "package.json").read_text())["dependencies"]
    lock = json.loads((demo.WEB / demo.LOCK).read_text())["packages"]
    assert lock[""]["dependencies"] == asked
    for name, version in asked.items():
        assert re.fullmatch(r"[\d.]+", version) and lock[f"node_modules/{name}"]["version"] == version
    for name, entry in lock.items():
        assert "resolved" not in entry and (not name or entry["integrity"].startswith("sha512-"))


def test_the_server_keeps_the_page_to_itself(tmp_path, packages):
    folder = demo.build(small(), tmp_path / "page")
    with demo.server(folder) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{page.server_port}/"
        with urllib.request.urlopen(address + "worker.js") as answer:
            assert answer.headers["Content-Type"].startswith(("text/javascript", "application/javascript"))
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'; script-src 'self'")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + "../model.safetensors")
        page.shutdown()


def test_a_port_in_use_is_said_clearly(tmp_path, packages):
    folder = demo.build(small(), tmp_path / "page")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="give another --port"):
        demo.server(folder, taken.getsockname()[1])


def test_the_command_builds_the_page(tmp_path, packages, capsys):
    file = models.save_model(small(), tmp_path / "model.safetensors")
    assert demo.main(["--model", str(file), "--to", str(tmp_path / "page"), "--no-serve"]) == 0
    said = capsys.readouterr().out
    assert str(file) in said and str(tmp_path / "page") in said
    assert (tmp_path / "page" / "model.onnx").is_file()
    assert demo.main(["--model", str(tmp_path / "none"), "--no-serve"]) == 2
    assert "no model file" in capsys.readouterr().err
