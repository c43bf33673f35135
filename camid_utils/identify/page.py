"""The web page that names a photo's camera in the browser: `python -m camid_utils.identify.page`."""

import argparse
import json
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import onnx
import torch

from ..files import atomic_path, command, exclusive_folder, named_path
from ..models import Model, load_model
from ..project import resolve
from .predict import PATCHES, PatchNetwork, default_model, describe_model

WEB, NETWORK, LOCK = Path(__file__).parent / "web", "model.onnx", "package-lock.json"
METADATA = "camera_model_identification"  # key of the exported file's metadata
OUTPUTS = ["logits", "features"]  # one row per patch
HEADERS = {  # the policy is also in index.html, here for its worker
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:",
    "Cache-Control": "no-cache",
}
TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".css": "text/css", ".html": "text/html"}


def export(model: Model, path: Path) -> None:
    """Write a model as ONNX: input `patches` uint8 [n, size, size, 3], OUTPUTS float32 [n, classes] and [n, d].

    The metadata says what the model is: its class names and all else. ValueError for models of whole photos.
    """
    if model.info.get("kind") == "resize":
        raise ValueError("this model takes whole resized photos, the page takes crops only: give another --model")
    network, example = PatchNetwork(model).eval(), torch.zeros((2, *2 * [model.input_size], 3), dtype=torch.uint8)
    options = dict(input_names=["patches"], output_names=OUTPUTS, dynamic_shapes=({0: torch.export.Dim("n")},))
    graph = torch.onnx.export(network, (example,), dynamo=True, verbose=False, **options).model_proto
    onnx.helper.set_model_props(graph, {METADATA: json.dumps(_facts(model))})
    for node in graph.graph.node:
        node.ClearField("metadata_props")  # the exporter's own notes, a quarter of a megabyte
    with atomic_path(path) as partial_file:
        partial_file.write_bytes(graph.SerializeToString())


def _facts(model: Model) -> dict:
    """All of a model but its network, and how many patches of a photo it sees."""
    return dict(zip(Model._fields[1:], model[1:], strict=True)) | {"patches": PATCHES}


def build(model: Model, to: Path, network: Path | None = None) -> Path:
    """The page as a folder for any static web server, in place of one built there before.

    network: a file that `export` has made of this model, if there is one.
    """
    with exclusive_folder(to) as site:
        shutil.copytree(WEB, site)
        shutil.copy(network, site / NETWORK) if network else export(model, site / NETWORK)
        (site / "model.json").write_text(json.dumps(_facts(model) | {"description": describe_model(model)}))
        if (to / LOCK).is_file() and (to / LOCK).read_bytes() == (WEB / LOCK).read_bytes():
            shutil.copytree(to / "vendor", site / "vendor")
        else:
            _install(site)
    return to


def _install(site: Path) -> None:
    """Fetch the locked npm packages, without running their scripts, and keep what the page uses in vendor/."""
    if (npm := shutil.which("npm")) is None:
        raise OSError("npm, which fetches the page's libraries, is missing: install Node.js from nodejs.org")
    install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(install, cwd=site, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise OSError(f"npm could not fetch the page's libraries; it needs its registry once:\n{last}")
    (site / "vendor").mkdir()
    for name, source in json.loads((site / "package.json").read_text())["vendor"].items():
        (site / "node_modules" / source).rename(site / "vendor" / name)
    with open(site / "vendor" / "jpeg.js", "a") as script:
        script.write("\nexport default libjpegturbowasm_decode;\n")  # a classic script, made a module
    shutil.rmtree(site / "node_modules")


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES  # whatever the system says

    def end_headers(self) -> None:
        for header in HEADERS.items():
            self.send_header(*header)
        super().end_headers()


def server(folder: str | Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of the folder for this machine only; port 0 takes any free one. OSError if the port cannot be used."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise OSError(f"port {port} cannot be used ({error}): give another --port, 0 for any free one") from error


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m camid_utils.identify.page", description=__doc__)
    parser.add_argument("--model", type=named_path, metavar="FILE", help="a model file (default: as `identify`)")
    parser.add_argument("--port", type=int, default=8000, help="0 for any free one (default: 8000)")
    options = parser.parse_args(arguments)
    path, folder = options.model or default_model(), resolve("data/page")
    print(f"model: {path}", flush=True)
    with server(folder, options.port) as page:
        network = beside if (beside := path.with_suffix(".onnx")).is_file() else None
        print(f"page:  {build(load_model(path), folder, network)}", flush=True)
        print(f"open   http://127.0.0.1:{page.server_port}/   (Ctrl-C ends it)", flush=True)
        with suppress(KeyboardInterrupt):
            page.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
