"""Downloads from servers that drop, stall, truncate, lie and refuse; and the check, which finds planted faults."""

import gc
import hashlib
import json
import os
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import filelock
import httpx
import numpy as np
import pandas as pd
import pytest
from helpers import encoded
from PIL import Image

from camid_utils import published
from camid_utils.download import __main__, check, fetch, sources

PHONES = [f"D0{d}_LG_G{d}/Nat/jpeg-h264/L1/S{s}/D0{d}_L1S{s}C1.jpg" for d in (1, 2) for s in (1, 2)]
HOSTILE = [
    "../../evil.jpg", "D27_X/../../evil.jpg", "D27_X/%1b[2J.jpg", "D27_X/..\\..\\evil.jpg", "D27_X\\evil.jpg",
    "C:/D27_X/C:evil.jpg", "D27_X/%2e%2e/%2e%2e/evil.jpg", "D27_X/%2e%2e%2fevil.jpg", "file:///D27_X/evil.jpg",
    "D27_X//evil.jpg", "D27_X/.hidden.jpg", "D27_X/a%00b.jpg", "D27_X/" + "a" * 300 + ".jpg", "D27_X/a:b.jpg",
    "ftp://host/D27_X/evil.jpg", "D27_X/evil.jpg%5C..%5Cevil.jpg", "http://[/D1_X/a.jpg", "D27_X%1b[2J/evil.jpg",
    "D27_X/a%E2%80%A8b.jpg", "D27_X/a%C2%85b.jpg",
]  # fmt: skip
DRESDEN = [f"Dresden_Exp/{name}.JPG" for name in ("Nikon_D70_0_1", "Nikon_D70_1_2", "Sony_DSC-H50_0_3")]


def jpeg(seed: int = 0, make: str = "", model: str = "", **options) -> bytes:
    """A noisy photo of 96 x 80 pixels with a make, a model, a place and a serial number in its EXIF data."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x8825], exif[0xA431] = make, model, {1: "N", 2: (7.0, 7.0, 7.0)}, "SERIAL-12345"
    pixels = np.random.default_rng(seed).integers(0, 255, (80, 96, 3), dtype=np.uint8)
    return encoded(pixels, exif=exif, **options)


def raises(error: Exception):
    raise error


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; the next of `server.plans[path]` says how a request goes wrong."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args): ...

    def do_GET(self):
        plan, data = self.server.plans.get(self.path), self.server.files.get(self.path)
        action = plan.pop(0) if plan else ""
        self.server.asked.append(self.path)
        if action.isdecimal() or data is None:
            return self.answer(int(action or 404), self.server.headers)
        sent = data[: len(data) // 2] if action else data
        length = {"truncate": {"Content-Length": str(len(sent))}, "no length": {}}
        self.answer(200, length.get(action, {"Content-Length": str(len(data))}), sent)
        if action == "stall":
            self.server.release.wait(20)
        self.close_connection = bool(action)

    def do_POST(self):
        """Kaggle's API: the list of files, two per page, the current version, and where a file is."""
        request, method = json.loads(self.rfile.read(int(self.headers["Content-Length"]))), self.path.rsplit("/", 1)[-1]
        if plan := self.server.plans.get(method):
            return self.answer(int(plan.pop(0)), {})
        if method == "DownloadDataset":
            return self.answer(302, {"Location": "/" + request["fileName"]})
        names, start = sorted(self.server.files), int(request.get("pageToken") or 0)
        page = [{"name": name[1:], "totalBytes": len(self.server.files[name])} for name in names[start : start + 2]]
        more = str(start + 2) if start + 2 < len(names) else ""
        answer = json.dumps({"datasetFiles": page, "nextPageToken": more, "currentVersionNumber": 3}).encode()
        self.answer(200, {"Content-Type": "application/json", "Content-Length": str(len(answer))}, answer)

    def answer(self, status: int, headers: dict, body: bytes = b""):
        self.send_response(status)
        for name, value in (headers if body else {"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSE", 0.001)
    monkeypatch.setattr(fetch, "TRIES", 4)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, fetch.open_client() as server.client:
        server.daemon_threads, server.release = True, threading.Event()
        server.address, server.folder = f"http://127.0.0.1:{server.server_port}", tmp_path / "photos"
        server.files, server.plans, server.headers, server.asked = {"/photo.jpg": jpeg()}, {}, {}, []
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.release.set()
        server.shutdown()


def get(server, *plan) -> bytes:
    server.plans["/photo.jpg"] = list(plan)
    return fetch.fetch(server.client, server.address + "/photo.jpg")


def test_what_fails_for_a_time_is_asked_for_again(server):
    server.client.timeout = 2
    assert get(server, "drop", "stall", "500") == jpeg() and len(server.asked) == 4
    with pytest.raises(fetch.Failed, match="connection"):
        get(server, *["drop"] * 4)
    with pytest.raises(fetch.Failed, match="404"):
        get(server, "404")
    assert len(server.asked) == 9


def test_pauses_grow_and_a_server_can_ask_for_longer_ones(server, monkeypatch):
    slept = []
    monkeypatch.setattr(fetch.fetch.retry, "sleep", slept.append)
    monkeypatch.setattr(fetch, "PAUSE", 1.0)
    get(server, "500", "500", "500")
    server.headers["Retry-After"] = "7"
    get(server, "429")
    server.headers["Retry-After"] = "90000"
    with pytest.raises(fetch.Failed, match="429"):
        get(server, "429")
    assert slept == [1.0, 2.0, 4.0, 7.0]


def test_a_redirect_from_https_to_http_is_refused():
    def answer(request: httpx.Request) -> httpx.Response:
        redirect = httpx.Response(301, headers={"Location": "http://host/a.jpg"})
        return redirect if request.url.scheme == "https" else httpx.Response(200, content=jpeg())

    with httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=True) as client:
        with pytest.raises(fetch.Failed, match="redirects to http"):
            fetch.fetch(client, "https://host/a.jpg")


def test_a_list_may_have_addresses_paths_quotes_and_comments():
    text = f"# all\n\n https://host/{PHONES[2]}\r\n'Dataset/D01_LG_G4c/Nat/a b.jpg'\nDataset/D01_A/v.mp4\nx.jpg"
    own, other = sources.parse_list(text).drop(columns="size").to_numpy().tolist()
    path = "D01_LG_G4c/Nat/a b.jpg"
    assert own == [path, f"https://lesc.dinfo.unifi.it/FloreView/Dataset/{path}", "D01", "LG_G4c"]
    assert other == [PHONES[2], f"https://host/{PHONES[2]}", "D02", "LG_G2"]


@pytest.fixture
def floreview(server):
    """A server with a FloreView of two phones, and the command that downloads it."""
    server.files = {f"/FloreView/Dataset/{path}": jpeg(i) for i, path in enumerate(PHONES)}
    server.files["/FloreView/list.txt"] = "\r\n".join(f"Dataset/{path}" for path in PHONES).encode()
    server.words = ["floreview", "--list", f"{server.address}/FloreView/list.txt", "--to", str(server.folder)]
    return lambda *more: __main__.main([*server.words, *more])


def downloaded(server) -> list[str]:
    files = (path.relative_to(server.folder).as_posix() for path in server.folder.rglob("*") if path.is_file())
    return sorted(file for file in files if "/." not in f"/{file}")


def test_a_second_run_downloads_only_what_failed(server, floreview, capsys):
    data = server.files.pop(lost := f"/FloreView/Dataset/{PHONES[2]}")
    broken = f"/FloreView/Dataset/{PHONES[0]}", f"/FloreView/Dataset/{PHONES[3]}"
    server.plans = {path: [plan] for path, plan in zip(broken, ("truncate", "no length"), strict=True)}
    assert floreview() == 1 and downloaded(server) == [PHONES[1], "failed.txt"]
    failed = (server.folder / "failed.txt").read_text()
    assert f"{PHONES[2]}: the server answered 404" in failed and failed in capsys.readouterr().out.replace("\n  ", "\n")
    assert all(f"{PHONES[i]}: truncated JPEG (premature end of file)\n" in failed for i in (0, 3))
    server.files[lost], server.asked = data, []
    assert floreview() == 0 and "4 of 4 photos are in" in capsys.readouterr().out
    assert downloaded(server) == PHONES and (server.folder / PHONES[2]).read_bytes() == data
    assert set(server.asked[1:]) == {lost, *broken}


def test_devices_and_limit_select_and_a_dry_run_writes_nothing(server, floreview, capsys):
    assert floreview("--dry-run") == 0 and not server.folder.exists() and len(server.asked) == 1
    assert "4 of 4 photos to download, about 0.02 GB\n" in capsys.readouterr().out
    assert floreview("--devices", "d02") == 0 and downloaded(server) == PHONES[2:]
    assert floreview("--devices", "LG_G1", "D02_LG_G2", "--limit", "2") == 0
    assert downloaded(server) == [PHONES[0], *PHONES[2:]]
    assert floreview("--limit", "0") == 2 and "--limit 0: give 1 or more" in capsys.readouterr().err
    assert floreview("--devices", "Nokia") == 2 and "nokia; there are D01 (LG_G1), D02" in capsys.readouterr().err


def test_hostile_lines_of_a_list_are_reported_and_the_others_downloaded(server, floreview, tmp_path, capsys):
    server.files["/FloreView/list.txt"] = "\n".join([*HOSTILE, f"Dataset/{PHONES[0]}"]).encode()
    assert floreview() == 1 and "\x1b" not in (shown := capsys.readouterr().out)
    assert "evil.jpg: its path leaves the folder" in shown and downloaded(server) == [PHONES[0], "failed.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    assert floreview("--dry-run") == 0 and floreview("--devices", "none") == 2
    assert "\x1b" not in "".join(capsys.readouterr())
    for path in {*sources.parse_list("\n".join(HOSTILE))["path"]} - {"D27_X/evil.jpg"}:  # that is safe, but not http
        with pytest.raises(ValueError, match="safe file name"):
            fetch.inside(tmp_path, path)


def test_litter_in_a_list_is_not_taken_for_photos():
    names = ("@eaDir/a.jpg/Nikon_D70_0_1.jpg", "._Nikon_D70_0_1.JPG", "__MACOSX/Nikon_D70_0_1.JPG")
    assert sources.parse_list("\n".join(f"D01_A/{name}" for name in names)).empty
    assert sources.dresden_listing((name, 5) for name in names).empty


@pytest.mark.parametrize("data", [b"<html>not found</html>", b"", bytes(5000)])
def test_what_is_no_image_is_not_kept_and_does_not_end_a_run(server, floreview, monkeypatch, data):
    monkeypatch.setattr(__main__, "GIVE_UP_AFTER", 2)
    monkeypatch.setattr(fetch, "CONNECTIONS", 1)
    server.files |= {f"/FloreView/Dataset/{path}": data for path in PHONES[:3]}
    assert floreview() == 1 and downloaded(server) == [PHONES[3], "failed.txt"]
    assert len(server.asked) == 5 and (server.folder / "failed.txt").read_text().count("not a JPEG") == 3


def test_a_list_without_photos_is_an_error(server, floreview, capsys):
    for text in (None, b"", b"<html>moved</html>", b"../a.jpg"):
        server.files |= {"/FloreView/list.txt": text}
        assert floreview() == 2 and not server.folder.exists()
        assert ("404" if text is None else "names no photo") in capsys.readouterr().err


def test_what_ends_a_run_early_is_said(server, floreview, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(__main__.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
        assert floreview() == 2 and "has only 0.00 GB free" in capsys.readouterr().err
    with filelock.FileLock(server.folder / ".download.lock"):
        assert floreview() == 2 and "another download" in capsys.readouterr().err
    server.plans = {f"/FloreView/Dataset/{path}": ["500"] * 4 for path in PHONES}
    monkeypatch.setattr(__main__, "GIVE_UP_AFTER", 2)
    monkeypatch.setattr(fetch, "CONNECTIONS", 1)
    assert floreview() == 1 and "2 in a row failed" in capsys.readouterr().out
    monkeypatch.setattr(__main__, "STALLED", 0.3)
    server.plans = {f"/FloreView/Dataset/{path}": ["stall"] for path in PHONES}
    assert floreview() == 1 and "stopped (TimeoutError)" in capsys.readouterr().out
    monkeypatch.setattr(__main__, "atomic_path", lambda path: raises(OSError(28, "No space left")))
    assert floreview() == 2 and "No space left" in capsys.readouterr().err


@pytest.mark.parametrize("signal", [2, 9])  # Ctrl-C and a kill
def test_an_interrupted_run_keeps_what_is_complete_and_resumes(server, floreview, signal):
    server.plans[f"/FloreView/Dataset/{PHONES[0]}"] = ["stall"]
    with subprocess.Popen([sys.executable, "-m", "camid_utils.download", *server.words]) as process:
        while not all((server.folder / path).is_file() for path in PHONES[1:]):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal)
        assert process.wait(15) == (1 if signal == 2 else -9)
    assert not (server.folder / PHONES[0]).exists() and len(server.asked) == 5
    assert floreview() == 0 and downloaded(server) == PHONES and len(server.asked) == 7


@pytest.fixture
def dresden(server, tmp_path, monkeypatch):
    """kagglehub against the loopback server; the user's home is an empty folder."""
    pytest.importorskip("kagglehub")
    monkeypatch.setattr("kagglesdk.kaggle_http_client.get_endpoint", lambda env: server.address)
    monkeypatch.setattr("kagglehub.clients.get_user_agent", lambda: "test")  # reads the sources of the whole call stack
    for name in [name for name in os.environ if name.startswith("KAGGLE")]:
        monkeypatch.delenv(name)
    monkeypatch.setitem(sources.SCENES, "address", f"{server.address}/dresden.csv")
    monkeypatch.setitem(sources.SCENES, "blob", "3caca554bf3051d7378de28de6cb32362628961d")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    server.files = {f"/{path}": jpeg(i) for i, path in enumerate(DRESDEN)} | {"/dresden.csv": b"filename,scene"}
    yield lambda *more: __main__.main(["dresden", "--to", str(server.folder), *more])
    gc.collect()  # kagglehub leaves connections open: their warning must not become another test's error


def test_dresden_comes_from_kaggle_with_its_scenes_and_nothing_is_written_elsewhere(server, dresden, tmp_path, capsys):
    server.plans = {f"/{DRESDEN[0]}": ["drop"], "ListDatasetFiles": ["500", "429"], "DownloadDataset": ["503"]}
    assert dresden("--devices", "nikon_d70_0") == 0 and downloaded(server) == [DRESDEN[0], "dresden.csv"]
    assert dresden("--dry-run", "--limit", "2") == 0 and "1 of 2 photos to download" in capsys.readouterr().out
    assert dresden() == 0 and downloaded(server) == [*DRESDEN, "dresden.csv"]
    assert [(server.folder / path).read_bytes() for path in DRESDEN] == [jpeg(i) for i in range(3)]
    assert os.listdir(tmp_path) == ["photos"]
    assert "B/s" not in capsys.readouterr().err  # kagglehub's own progress bars


def test_a_broken_photo_or_table_of_dresden_is_reported(server, dresden):
    server.files |= {"/dresden.csv": b"<html>moved</html>", f"/{DRESDEN[0]}": jpeg()[:-900]}
    server.plans = {f"/{DRESDEN[1]}": ["404"] * 4}
    assert dresden() == 1 and downloaded(server) == [DRESDEN[2], "failed.txt"]
    failed = (server.folder / "failed.txt").read_text()
    assert "dresden.csv: its content is not the listed one" in failed and f"{DRESDEN[1]}: 404" in failed
    assert f"{DRESDEN[0]}: truncated" in failed
    assert len(server.plans[f"/{DRESDEN[1]}"]) == 3  # asked once


def test_dresden_without_permission_or_kagglehub_says_what_to_do(server, dresden, monkeypatch, capsys):
    server.plans = {"ListDatasetFiles": ["403"] * 4}
    assert dresden() == 2 and "--help" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        __main__.main(["--help"])
    assert "KAGGLE_API_TOKEN" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "kagglehub.clients", None)
    assert dresden() == 2 and "pip install kagglehub" in capsys.readouterr().err


@pytest.fixture
def photographs(server, monkeypatch):
    """Two public repositories, whose photos have odd names, and the command that downloads them."""
    names, rows, server.at = ["in/the zoo/a+b.JPG", "IMG (1)#2%.jpg", "ä?.jpg", "c.jpg"], [], []
    for number, name in enumerate(names):
        one = dict(role="camera", kind="natural", block=1.0, camera_model="Nikon_D90", collection="ann/zoo",
                   commit="c0" * 20, licence="CC0", path=name)  # fmt: skip
        if number > 1:
            one |= dict(camera_model="Apple_iPhone6", collection="bob/sea.io", commit="d1" * 20, licence="none")
        data, device = jpeg(number, "SECRET", "SERIAL-9"), f"{one['camera_model']}_0"
        one |= dict(device=device, file=f"{one['camera_model']}/{device}_00{number}.jpg", bytes=len(data))
        rows.append(one | dict(blob=hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()))
        server.at.append(f"/{one['collection']}/{one['commit']}/{quote(name)}")
        server.files[server.at[-1]] = data
    server.listed = pd.DataFrame(rows)
    monkeypatch.setattr(published, "photographs", lambda: server.listed.copy())
    monkeypatch.setattr(sources, "RAW", server.address)
    return lambda *more: __main__.main(["photographs", "--to", str(server.folder), *more])


def test_public_photographs_come_from_their_commits_after_their_licences_are_shown(server, photographs, capsys):
    server.plans = {server.at[0]: ["drop", "429"], server.at[3]: ["503"]}
    assert photographs("--dry-run") == 0 and not server.folder.exists() and not server.asked
    shown = capsys.readouterr().out
    assert "ann/zoo          2     CC0" in shown and "bob/sea.io       2    none" in shown
    assert photographs("--licensed") == 0 and "bob/sea.io" not in capsys.readouterr().out
    assert downloaded(server) == sorted(server.listed["file"][:2])
    assert photographs("--devices", "apple_iphone6", "--limit", "1") == 0 and len(downloaded(server)) == 3
    assert photographs() == 0 and downloaded(server) == sorted(server.listed["file"])
    for file, at in zip(server.listed["file"], server.at, strict=True):
        assert (server.folder / file).read_bytes() == server.files[at]
    shown = capsys.readouterr().out
    assert "4 of 4 photos are in" in shown and "SECRET" not in shown and "SERIAL" not in shown


def test_a_public_photo_counts_only_with_the_listed_content_and_the_others_go_on(server, photographs, monkeypatch):
    files = dict(server.files)
    server.files[server.at[1]] = jpeg(77)  # decodes, but is another photo
    del server.files[server.at[2]]
    assert photographs() == 1 and downloaded(server) == [*server.listed["file"][[3, 0]], "failed.txt"]
    failed = dict(line.split(": ", 1) for line in (server.folder / "failed.txt").read_text().splitlines())
    reasons = "its content is not the listed one", "the server answered 404"
    assert failed == dict(zip(server.listed["file"][1:3], reasons, strict=True))
    assert len(server.asked) == 4 and not list(server.folder.rglob(".*.jpg"))  # each was asked for once
    server.files = files
    (server.folder / server.listed["file"][3]).write_bytes(b"cut")  # of another size: downloaded again
    assert photographs() == 0 and check.findings(check.load(server.folder), server.folder) == {}


def test_the_check_finds_missing_and_changed_public_photographs(server, photographs):
    assert photographs() == 0
    first, second, third, _ = server.listed["file"]
    (server.folder / first).unlink()
    data = bytearray((server.folder / second).read_bytes())
    data[-30] ^= 1  # the same size
    (server.folder / second).write_bytes(data)
    tables = check.findings(check.load(server.folder), server.folder)
    assert tables.pop("left out by the study")["photo"].tolist() == [first]
    assert tables.pop("not the listed content: remove the photo and download it again")["path"].tolist() == [second]
    assert not tables.keys() - {"cannot be decoded"}


def test_the_package_names_each_public_photo_by_a_safe_path_and_address():
    table = sources.list_photographs()
    assert len(table) == 1648 > len(sources.list_photographs(licensed=True)) and table["address"].is_unique
    assert table["address"].str.fullmatch(r"https://raw\.githubusercontent\.com/[\w.%/~-]+").all()
    assert all(fetch.inside(Path("x"), path) for path in table["path"]) and table["path"].is_unique


def photo(folder, name: str, *exif, **options):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(jpeg(*exif, **options))


@pytest.fixture
def cameras(tmp_path):
    """A folder of three camera models with four photos each, nothing wrong with them."""
    for seed in range(12):
        model = ("D70", "D70s", "D200")[seed // 4]
        photo(tmp_path, f"{model}/Nikon_{model}_0_{seed % 4}.JPG", seed, "NIKON", f"NIKON {model}")
    return tmp_path


def found(folder) -> dict[str, pd.DataFrame]:
    """The findings without those on numbers: the folder has a tiny part of the data set."""
    tables = check.findings(check.load(folder), folder)
    return {title: table for title, table in tables.items() if "published" not in title}


def test_nothing_is_found_where_nothing_is_wrong(cameras, tmp_path_factory, capsys):
    phones = tmp_path_factory.mktemp("phones")
    photo(phones, "D27_DOOGEE_S96Pro/Nat/D27_L1S1C1.jpg", 0, "DOOGEE", "S96Pro")
    assert set(check.load(phones)["dataset"]) == {"FloreView"} and found(phones) == found(cameras) == {}
    (cameras / "SIMULATED.txt").write_text("simulated")  # so that the published numbers do not matter
    assert __main__.main(["check", str(cameras)]) == 0 and "nothing is wrong" in capsys.readouterr().out


def test_each_planted_fault_is_found_and_no_other(cameras):
    for name, quality in (("1_900", 75), ("1_901", 75), ("1_902", 74)):  # the last has other pixels
        photo(cameras, f"D200/Nikon_D200_{name}.JPG", 50, "NIKON", "NIKON D200", quality=quality)
    for shot, make, model in ((7, "NIKON", "D70s"), (8, "Canon", "Canon PowerShot A640"), (9, "Canon", "Canon EOS 5D")):
        photo(cameras, f"D70/Nikon_D70_0_{shot}.JPG", 50 + shot, make, model)
    broken = ["D70/Nikon_D70_0_1.JPG", "D70/Nikon_D70_0_2.JPG"]
    for name in broken:
        (cameras / name).write_bytes((cameras / name).read_bytes()[:-900])
    undecoded, double, others = found(cameras).values()
    assert undecoded["path"].tolist() == broken and undecoded["reason"].str.startswith("truncated").all()
    assert double.to_numpy().tolist() == [["D200/Nikon_D200_1_901.JPG", "D200/Nikon_D200_1_900.JPG"]]
    assert others["path"].tolist() == [f"D70/Nikon_D70_0_{shot}.JPG" for shot in (7, 8, 9)]
    assert others["says"].tolist() == ["Nikon_D70s", "Canon_PowerShotA640", "Canon"]


def test_the_ways_in_which_cameras_write_their_names_raise_no_alarm():
    tables = map(published.read, published.COUNTS.values())
    models = [model for table in tables for model in table["camera_model"]]
    rows = [(model, text) for model in models for text in (model.replace("_", ", "), model.upper())] + [
        ("Kodak_M1063", "EASTMAN KODAK COMPANY, KODAK EASYSHARE M1063 DIGITAL CAMERA"), ("Agfa_DC-504", "Camera"),
        ("Nikon_D200", ""), ("Nikon_D70", "NIKON CORPORATION, NIKON D700"), ("Praktica_DCZ5.9", "JENOPTIK, DCZ 5.9"),
        ("Olympus_mju-1050SW", "OLYMPUS IMAGING CORP., u1050SW,S1050SW"), ("Samsung_GalaxyS10", "samsung, SM-G973F"),
        ("LG_G4c", "LGE, LG-H525n"), ("Motorola_MotoG5SPlus", "motorola, Moto G (5S) Plus"),
    ]  # fmt: skip
    assert check.other_cameras(pd.DataFrame(rows, columns=["camera_model", "exif"]).assign(path="a.jpg")).empty


def test_the_report_compares_numbers_and_photos_and_shows_no_private_data(cameras, capsys):
    lines = "Nikon_D70_0_0.JPG,1,1\nNikon_D70_0_77.JPG,1,2\nSony_X_0_1.JPG,1,2\n"
    (cameras / "dresden.csv").write_text(f"filename,position_num,motive_num\n{lines}")
    numbers, listed = check.findings(check.load(cameras), cameras).values()
    numbers, listed = numbers.set_index("camera_model")["status"], listed.set_index("photo")["status"]
    assert numbers["Nikon_D70"] == "differs" and numbers["Sony_DSC-H50"] == "missing"
    assert listed["Nikon_D70_0_77.JPG"] == "missing" and listed["Nikon_D70s_0_1.JPG"] == "not listed"
    assert "Sony_X_0_1.JPG" not in listed.index  # its camera model has no photo at all
    assert __main__.main(["check", str(cameras)]) == 1
    shown = capsys.readouterr().out
    assert "Nikon_D70_0_77.JPG" in shown and "SERIAL" not in shown and "7.0" not in shown


def test_a_folder_without_photos_is_an_error_that_shows_the_layouts(tmp_path, capsys):
    assert __main__.main(["check", str(tmp_path)]) == __main__.main(["check", str(tmp_path / "none")]) == 2
    told = capsys.readouterr().err
    assert told.count("Nikon_D70_0_19445.JPG") == 1 and f"there is no folder {tmp_path / 'none'}" in told


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_names_no_camera_and_a_make_cannot_control_the_terminal(tmp_path):
    beyond_the_end = b"\xff\xd8\xff\xe1\x00\x10Exif\x00\x00II*\x00\xff\xff\xff\xff"
    evil = jpeg(0, "EVIL\x1b[2J", "x" * 500)
    huge = jpeg(0, "NIKON", "D70").replace(b"\x00\x50\x00\x60", struct.pack(">HH", 12240, 16320))  # 200 megapixels
    tried = (b"\xff\xd8", ""), (beyond_the_end, ""), (evil, "EVIL [2J, " + "x" * 60), (huge, "NIKON, D70")
    for data, text in tried:
        (tmp_path / "a.jpg").write_bytes(data)
        assert check.camera_text(str(tmp_path / "a.jpg")) == text
