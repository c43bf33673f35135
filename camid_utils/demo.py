"""The page that names a photo's camera in the browser: `python -m camid_utils.demo [--model FILE] [--to DIR]`."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from .experiments import resolve
from .files import alone, complete
from .identify import PATCHES, latest_model, network
from .models import Model, load_model

WEB = Path(__file__).parent / "web"
OUTPUTS = ["log_probabilities", "features"]  # of each patch
METADATA = "camera_model_identification"  # the key of an exported file's own metadata
FILES = ("index.html", "style.css", "page.js", "worker.js", "answer.js", "formats.js", "pixels.js")
NETWORK = "model.onnx"
LOCK = "package-lock.json"
VENDOR = {  # file of an npm package: its name beside the page
    "onnxruntime-web/dist/ort.wasm.min.mjs": "ort.js",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs": "ort-wasm.js",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "ort-wasm.wasm",
    "@cornerstonejs/codec-libjpeg-turbo-8bit/dist/libjpegturbowasm_decode.js": "jpeg.js",
    "@cornerstonejs/codec-libjpeg-turbo-8bit/dist/libjpegturbowasm_decode.wasm": "jpeg.wasm",
    "@jsquash/png/codec/pkg/squoosh_png.js": "png.js",
    "@jsquash/png/codec/pkg/squoosh_png_bg.wasm": "png.wasm",
}
JPEG_EXPORT = "\nexport default libjpegturbowasm_decode;\n"  # its package has a classic script, the page has modules
POLICY = re.compile(r'Content-Security-Policy"\s+content="([^"]+)"')


class _Exported(nn.Module):
    """What the file computes: what `identify.network` computes, of uint8 patches [n, size, size, 3]."""

    def __init__(self, model: Model):
        super().__init__()
        self.net, self.input_range = model.net, model.input_range

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        return network(self.net, patches, self.input_range)


def metadata(model: Model) -> dict:
    """What a page must know to use an exported network rightly; it travels inside the file."""
    return {
        "class_names": model.class_names,
        "input_size": model.input_size,
        "input_range": model.input_range,
        "patches": PATCHES,
        "squashed": model.info.get("kind") == "resize",
        "dataset": model.info.get("dataset", "unknown data"),
        "protocol": model.info.get("protocol"),
        "experiment": model.info.get("experiment"),
        "identification": model.info.get("identification"),
    }


def export(model: Model, path: str | Path) -> Path:
    """Write a model as ONNX: input `patches` uint8 [n, size, size, 3], OUTPUTS float32 [n, classes] and [n, d].

    The input range is part of the graph; class names and all else a page needs stand in the file's metadata. The
    network of whole photos, squashed, gets one "patch".
    """
    size = model.input_size
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    program = torch.onnx.export(
        _Exported(model).eval(),
        (example,),
        input_names=["patches"],
        output_names=OUTPUTS,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        dynamo=True,
        verbose=False,
    )
    graph = program.model_proto
    onnx.helper.set_model_props(graph, {METADATA: json.dumps(metadata(model))})
    with complete(path) as partial_file:
        partial_file.write_bytes(graph.SerializeToString())
    return Path(path)


def build(model: Model, to: str | Path) -> Path:
    """The page with this model as a folder for any static web server; it has its name only when complete.

    What comes from npm is fetched once, and again when the locked versions change. ValueError if `to` holds
    anything but a page built before.
    """
    to = Path(to)
    with alone(to) as aside:
        others = {path.name for path in to.iterdir()} - {*FILES, NETWORK, "vendor"} if to.exists() else set()
        if others or (to.exists() and any(to.iterdir()) and not (to / "vendor" / LOCK).is_file()):
            raise ValueError(f"{to} holds other files: give a folder that is new, empty, or a page built before")
        site = aside / "site"
        site.mkdir()
        for name in FILES:
            shutil.copy(WEB / name, site)
        _add_vendor(site / "vendor", to / "vendor", aside / "npm")
        export(model, site / NETWORK)
        if to.exists():
            to.rename(aside / "before")
        site.rename(to)
    return to


def _add_vendor(vendor: Path, before: Path, packages: Path) -> None:
    """Copy what the page runs on out of npm's packages, or out of the page built before."""
    lock = WEB / LOCK
    if (before / LOCK).is_file() and (before / LOCK).read_bytes() == lock.read_bytes():
        shutil.copytree(before, vendor)
        return
    install(packages)
    vendor.mkdir()
    for source, name in VENDOR.items():
        shutil.copy(packages / "node_modules" / source, vendor / name)
    with open(vendor / "jpeg.js", "a", encoding="utf-8") as script:
        script.write(JPEG_EXPORT)
    shutil.copy(lock, vendor)


def install(folder: Path) -> None:
    """Run `npm ci` in a folder: exactly the locked packages, no scripts of theirs; RuntimeError says what failed."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is missing, which fetches what the page runs on: install Node.js from nodejs.org")
    folder.mkdir()
    for name in ("package.json", LOCK):
        shutil.copy(WEB / name, folder)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise RuntimeError(f"npm could not fetch what the page runs on; it needs its registry once:\n{last}")


class _Handler(SimpleHTTPRequestHandler):
    """Static files, with what lets the page use several cores and keeps it from any other host."""

    def __init__(self, *args, policy: str, **options):
        self.policy = policy
        super().__init__(*args, **options)

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Content-Security-Policy", self.policy)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_) -> None:
        """Nothing: a person reads this terminal."""


def server(folder: str | Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of the folder for this machine alone; port 0 takes any that is free."""
    policy = POLICY.search((Path(folder) / "index.html").read_text(encoding="utf-8"))[1]
    handler = partial(_Handler, directory=str(folder), policy=policy)
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise OSError(f"port {port} cannot be used ({error.strerror}): give another --port, 0 for any") from error


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        path = Path(options.model or latest_model())
        print(f"model: {path}", flush=True)
        folder = build(load_model(path), options.to)
        print(f"page:  {folder}", flush=True)
        if options.no_serve:
            return 0
        with server(folder, options.port) as page:
            print(f"open   http://127.0.0.1:{page.server_port}/   (Ctrl-C ends it)", flush=True)
            page.serve_forever()
    except KeyboardInterrupt:
        return 0
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text}: a port is a number from 0 to 65535")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m camid_utils.demo", description=__doc__)
    parser.add_argument("--model", metavar="FILE", help="a model file (default: the newest best one under data/)")
    usual = resolve("data/page")
    parser.add_argument("--to", default=usual, metavar="DIR", help="folder of the page (default: data/page)")
    parser.add_argument("--port", type=_port, default=8000, help="0 for any that is free (default: 8000)")
    parser.add_argument("--no-serve", action="store_true", help="build the folder and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
