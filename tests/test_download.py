"""Fetching from a server that drops, stalls, truncates, lies and refuses: what is under its name is what was served."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from camid_utils import download, fetching, sources
from camid_utils.patches import read_photo

QUICK = {"tries": 4, "pause": 0.001}
PHOTO = "D27_DOOGEE_S96Pro/Nat/jpeg-h264/L1/S1/D27_L1S1C1.jpg"


def jpeg(seed: int = 0) -> bytes:
    """A noisy photo of 96 x 80 pixels."""
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (80, 96, 3), dtype=np.uint8)).save(data, "JPEG")
    return data.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; the next of `server.plans[path]` says how a GET request goes wrong."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        data = self.server.files.get(self.path)
        self.server.seen.append(("HEAD", self.path, {}))
        self.answer(404 if data is None else 200, {"Content-Length": str(len(data or b""))})

    def do_GET(self):
        self.server.seen.append(("GET", self.path, dict(self.headers)))
        plan = self.server.plans.get(self.path, [])
        action = plan.pop(0) if plan else ""
        if action == "change":
            self.server.files[self.path] = jpeg(len(self.server.seen))
        data = self.server.files.get(self.path)
        if action.isdecimal() or data is None:
            return self.answer(int(action or 404), {"Content-Length": "0"} | self.server.headers)
        tag = '"' + hashlib.md5(data).hexdigest() + '"'
        headers, start = {} if action == "no tag" else {"ETag": tag}, 0
        asked = self.headers.get("Range", "")
        if asked and action != "ignore range" and (self.headers.get("If-Range") == tag or action == "ignore version"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                return self.answer(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
            start = start - 3 if action == "wrong range" else start
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.body(action, 206 if start else 200, headers, data[start:])

    def body(self, action: str, status: int, headers: dict, body: bytes):
        half = body[: len(body) // 2]
        length = {"truncate": len(half), "too long": len(body) + 9, "too short": len(body) - 9}.get(action, len(body))
        if action == "chunked":
            self.answer(status, headers | {"Transfer-Encoding": "chunked"})
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            return
        self.answer(status, headers | ({} if action == "no length" else {"Content-Length": str(length)}))
        self.wfile.write(half if action in ("drop", "truncate", "stall") else body)
        self.wfile.flush()
        if action == "stall":
            self.server.release.wait(20)
        if action in ("drop", "stall", "too long", "no length", "too short"):
            self.close_connection = True

    def do_POST(self):
        """Kaggle's API: the list of files, two a page, and where each is stored."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if plan := self.server.plans.get(self.path.rsplit("/", 1)[-1], []):
            return self.answer(int(plan.pop(0)), {"Content-Length": "0"})
        if self.path.endswith("/DownloadDataset"):
            return self.answer(302, {"Location": "/" + request["fileName"], "Content-Length": "0"})
        names, start = sorted(self.server.files), int(request.get("pageToken") or 0)
        page = [{"name": n[1:], "totalBytes": len(self.server.files[n])} for n in names[start : start + 2]]
        more = str(start + 2) if start + 2 < len(names) else ""
        answer = json.dumps({"datasetFiles": page, "nextPageToken": more}).encode()
        self.answer(200, {"Content-Type": "application/json", "Content-Length": str(len(answer))})
        self.wfile.write(answer)

    def answer(self, status: int, headers: dict):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture(scope="module")
def running():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.release = True, threading.Event()
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(running, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running.files, running.plans, running.headers, running.seen = {"/photo.jpg": jpeg()}, {}, {}, []
    return running


@pytest.fixture(scope="module")
def client():
    with fetching.open_client(timeout=5) as client:
        yield client


def get(server, client, target: Path, plan: list[str], path: str = "/photo.jpg", **options):
    server.plans[path] = list(plan)
    return fetching.fetch(client, server.address + path, target, read_photo, **QUICK | options)


def ranges(server) -> list[str]:
    return [headers.get("Range", "") for method, _, headers in server.seen if method == "GET"]


@pytest.mark.parametrize(
    "plan",
    [[], ["drop"], ["truncate"], ["too long"], ["too short"], ["500"], ["503", "429", "500"], ["chunked"],
     ["drop", "ignore range"], ["drop", "wrong range"], ["drop", "drop", "drop"], ["no tag"], ["drop", "500", "drop"]],
)  # fmt: skip
def test_whatever_goes_wrong_the_file_is_what_was_served(server, client, tmp_path, plan):
    target = tmp_path / "photo.jpg"
    get(server, client, target, plan)
    assert target.read_bytes() == jpeg()
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_dropped_file_goes_on_where_it_stopped(server, client, tmp_path):
    moved = []
    get(server, client, tmp_path / "photo.jpg", ["drop", "drop"], moved=moved.append)
    size = len(jpeg())
    first = size // 2
    assert ranges(server) == ["", f"bytes={first}-", f"bytes={first + (size - first) // 2}-"]
    assert sum(moved) == size and min(moved) >= 0


def test_a_file_without_a_version_is_never_patched_together(server, client, tmp_path):
    server.files["/photo.jpg"] = jpeg(1)
    target = tmp_path / "photo.jpg"
    part = fetching.beside(target)[0]
    part.write_bytes(jpeg(2)[:50])  # left by an unknown hand
    get(server, client, target, [])
    assert ranges(server) == [""] and target.read_bytes() == jpeg(1)


@pytest.mark.parametrize("how", [["drop", "change"], ["drop", "ignore version"]])
def test_a_file_that_changed_between_tries_is_begun_anew(server, client, tmp_path, how):
    target = tmp_path / "photo.jpg"
    with pytest.raises(fetching.Unfinished):
        get(server, client, target, how[:1], tries=1)
    server.files["/photo.jpg"] = jpeg(5)
    get(server, client, target, how[1:])
    assert target.read_bytes() == server.files["/photo.jpg"]


def test_versions_of_one_length_are_told_apart(server, client, tmp_path):
    """By the version alone: nobody looks into these files."""
    server.files["/file"] = b"old " * 1000
    target = tmp_path / "file"
    server.plans["/file"] = ["drop", "ignore version"]
    with pytest.raises(fetching.Unfinished):
        fetching.fetch(client, server.address + "/file", target, lambda path: None, tries=1)
    server.files["/file"] = b"new " * 1000
    fetching.fetch(client, server.address + "/file", target, lambda path: None, **QUICK)
    assert target.read_bytes() == b"new " * 1000


def test_a_rest_cut_short_is_not_taken_for_the_whole(server, client, tmp_path):
    server.files["/file"] = bytes(range(256)) * 16
    server.plans["/file"] = ["drop", "truncate", "truncate"]
    fetching.fetch(client, server.address + "/file", tmp_path / "file", lambda path: None, **QUICK)
    assert (tmp_path / "file").read_bytes() == server.files["/file"]


@pytest.mark.parametrize(
    ("plan", "reason", "tries"),
    [(["404"] * 9, "404", 1), (["500"] * 9, "500", 4), (["drop"] * 9, "connection", 4),
     (["truncate"] * 9, "truncated", 4), (["no length"] * 9, "how long", 1), (["403"] * 9, "403", 1)],
)  # fmt: skip
def test_what_never_comes_whole_never_has_its_name(server, client, tmp_path, plan, reason, tries):
    with pytest.raises((fetching.Refused, fetching.Unfinished), match=reason):
        get(server, client, tmp_path / "photo.jpg", plan)
    assert not (tmp_path / "photo.jpg").exists() and len(ranges(server)) == tries


def test_a_server_that_stalls_is_left_and_asked_for_the_rest(server, tmp_path):
    with fetching.open_client(timeout=0.2) as hasty:
        get(server, hasty, tmp_path / "photo.jpg", ["stall", "stall"], tries=9)
    assert (tmp_path / "photo.jpg").read_bytes() == jpeg()
    assert ranges(server)[1] == f"bytes={len(jpeg()) // 2}-"


def test_a_page_in_place_of_a_photo_is_not_taken(server, client, tmp_path):
    server.files["/photo.jpg"] = b"<html>please sign in</html>" * 100
    with pytest.raises(fetching.Unfinished, match="not a JPEG"):
        get(server, client, tmp_path / "photo.jpg", [])
    assert list(tmp_path.iterdir()) == []


def test_pauses_grow_and_a_server_s_wish_is_granted(server, client, tmp_path):
    slept = []
    get(server, client, tmp_path / "a.jpg", ["500", "500", "500"], pause=1.0, sleep=slept.append)
    assert slept == [1.0, 2.0, 4.0]
    server.headers["Retry-After"] = "7"
    get(server, client, tmp_path / "b.jpg", ["429"], pause=1.0, sleep=slept.append)
    assert slept[3:] == [7.0]
    server.headers["Retry-After"] = "90000"
    with pytest.raises(fetching.Refused, match="1500 minutes"):
        get(server, client, tmp_path / "c.jpg", ["429"], sleep=slept.append)
    assert len(slept) == 4


def test_a_wish_may_be_a_date():
    assert fetching.retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert fetching.retry_after("Fri, 31 Dec 2199 23:59:59 GMT") > 1e9
    assert fetching.retry_after("soon") == fetching.retry_after(None) == 0


ACTIONS = ["", "drop", "truncate", "too long", "too short", "500", "429", "404", "ignore range", "wrong range",
           "no tag", "no length", "chunked", "change", "ignore version"]  # fmt: skip


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(ACTIONS), max_size=4), min_size=1, max_size=3))
def test_a_name_always_means_the_whole_of_one_version(server, client, tmp_path_factory, runs):
    folder = tmp_path_factory.mktemp("any")
    server.files["/photo.jpg"] = jpeg()
    for plan in runs:
        versions = [server.files["/photo.jpg"]]
        try:
            get(server, client, folder / "photo.jpg", plan)
        except (fetching.Refused, fetching.Unfinished):
            assert not (folder / "photo.jpg").exists()
            continue
        versions += [server.files["/photo.jpg"]]
        assert (folder / "photo.jpg").read_bytes() in versions
        break
    assert {path.name for path in folder.iterdir()} <= {"photo.jpg", ".photo.jpg.part", ".photo.jpg.note"}


KILLED = """
import sys
from pathlib import Path
from camid_utils import fetching
with fetching.open_client(timeout=60) as client:
    fetching.fetch(client, sys.argv[1], Path(sys.argv[2]), lambda path: None, lambda size: print(size, flush=True))
"""


def test_a_killed_run_is_gone_on_with_in_the_middle_of_the_file(server, client, tmp_path):
    target, half = tmp_path / "photo.jpg", len(jpeg()) // 2
    server.plans["/photo.jpg"] = ["stall"]
    command = [sys.executable, "-c", KILLED, server.address + "/photo.jpg", str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        came = 0
        while came < half:
            came += int(run.stdout.readline())
        run.kill()
    assert not target.exists()
    get(server, client, target, [])
    assert ranges(server) == ["", f"bytes={half}-"] and target.read_bytes() == jpeg()


def test_a_run_killed_between_the_last_byte_and_the_name_asks_for_nothing(server, client, tmp_path):
    target = tmp_path / "photo.jpg"
    part, note = fetching.beside(target)
    part.write_bytes(jpeg())
    note.write_text(json.dumps({"version": '"x"', "length": len(jpeg())}))
    get(server, client, target, [])
    assert ranges(server) == [] and target.read_bytes() == jpeg() and not note.exists()


@pytest.mark.parametrize("note", ["", "{}", "[1]", '{"version": "x", "length": "no"}', "null"])
def test_a_damaged_note_means_a_new_beginning(server, client, tmp_path, note):
    target = tmp_path / "photo.jpg"
    fetching.beside(target)[0].write_bytes(jpeg(3)[:99])
    fetching.beside(target)[1].write_text(note)
    get(server, client, target, [])
    assert target.read_bytes() == jpeg()


HOSTILE = [
    "../../evil.jpg", "D27_X/../../evil.jpg", "/etc/evil.jpg", "D27_X/..\\..\\evil.jpg", "D27_X\\evil.jpg",
    "C:/D27_X/evil.jpg", "C:\\evil.jpg", "D27_X/%2e%2e/%2e%2e/evil.jpg", "D27_X/%2e%2e%2fevil.jpg",
    "file:///D27_X/evil.jpg", "D27_X//evil.jpg", "D27_X/.hidden.jpg", "D27_X/a%00b.jpg", "D27_X/nul.jpg",
    "D27_X/" + "a" * 300 + ".jpg", "D27_X/con/a.jpg", "D27_X/a:b.jpg", "ftp://host/D27_X/evil.jpg",
    "D27_X/evil.jpg%5C..%5Cevil.jpg", "D27_X./a.jpg",
]  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE)
def test_no_line_of_a_list_leads_out_of_the_folder(line):
    listing = sources.parsed_list(f"Dataset/{PHOTO}\n{line}\n")
    assert list(listing["path"]) == [PHOTO]
    assert len(listing.attrs["refused"]) + sum(listing.attrs["skipped"].values()) == 1


PARTS = ["..", ".", "", "D1_a", "a.jpg", "C:", "\\", "%2e%2e", "\n"]


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["..", ".", "", "D1_a", "a.jpg", "C:", "\\", "%2e%2e"])).map("/".join)
)
def test_any_text_gives_only_paths_that_stay_inside(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp()
    for path in sources.parsed_list(text)["path"]:
        assert fetching.inside(folder, path).resolve().is_relative_to(folder.resolve())


def test_links_in_the_folder_lead_nowhere(tmp_path):
    (tmp_path / "outside").mkdir()
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "D27_X").symlink_to(tmp_path / "outside", target_is_directory=True)
    (folder / "a.jpg").symlink_to(tmp_path / "outside" / "a.jpg")
    (folder / ".b.jpg.part").symlink_to(tmp_path / "outside" / "b.jpg")
    for path in ("D27_X/a.jpg", "D27_X/Nat/a.jpg", "a.jpg", "b.jpg"):
        with pytest.raises(ValueError, match="link"):
            fetching.inside(folder, path)


def test_a_list_is_read_in_whatever_form_it_comes():
    lines = ["\ufeff# all files", "", f"  https://host/FloreView/Dataset/{PHOTO}\r", "'Dataset/D01_LG_G4c/Nat/a b.jpg'",
             "Dataset/D01_LG_G4c/Nat/v.mp4", "readme.txt", "Dataset/D02_Samsung_GalaxyS10+/Nat/c%20d.HEIC",
             f"Dataset/{PHOTO}"]  # fmt: skip
    listing = sources.parsed_list(fetching.decoded("\n".join(lines).encode()))
    assert listing["path"].tolist() == ["D01_LG_G4c/Nat/a b.jpg", "D01_LG_G4c/Nat/v.mp4",
                                        "D02_Samsung_GalaxyS10+/Nat/c d.HEIC", PHOTO]  # fmt: skip
    assert listing["kind"].tolist() == ["photo", "video", "HEIC", "photo"]
    assert listing["device"].tolist() == ["D01", "D01", "D02", "D27"]
    assert listing["camera_model"].tolist() == ["LG_G4c", "LG_G4c", "Samsung_GalaxyS10+", "DOOGEE_S96Pro"]
    assert listing["address"][0] == "https://lesc.dinfo.unifi.it/FloreView/Dataset/D01_LG_G4c/Nat/a b.jpg"
    assert listing["address"][3] == f"https://host/FloreView/Dataset/{PHOTO}"
    assert listing.attrs["skipped"] == {"in no phone's folder": 1} and len(listing.attrs["refused"]) == 1
    assert len(sources.parsed_list(fetching.decoded(f"Dataset/{PHOTO}".encode("utf-16")))) == 1


PHONES = [
    f"D{device:02}_LG_G{device}/Nat/jpeg-h264/L1/S{s}/D{device:02}_L1S{s}C1.jpg" for device in (1, 2) for s in (1, 2)
]


@pytest.fixture
def floreview(server, tmp_path):
    """A server with a FloreView of two phones, and the command that fetches it."""
    server.files = {f"/FloreView/Dataset/{path}": jpeg(i) for i, path in enumerate(PHONES)}
    server.files["/FloreView/Dataset/D01_LG_G1/Nat/v.mp4"] = b"video" * 100
    lines = [f"Dataset/{path}" for path in [*PHONES, "D01_LG_G1/Nat/v.mp4"]]
    server.files["/FloreView/list.txt"] = "\r\n".join(lines).encode()
    server.folder = tmp_path / "photos"
    command = ["floreview", "--list", f"{server.address}/FloreView/list.txt", "--pause", "0.001", "--timeout", "5"]
    return partial(_run, [*command, "--to", str(server.folder), "--tries", "2"])


def _run(command: list[str], *more: str) -> int:
    return download.main([*command, *more])


def fetched(server) -> list[str]:
    return sorted(p.relative_to(server.folder).as_posix() for p in server.folder.rglob("*") if p.is_file()
                  and not p.name.startswith("."))  # fmt: skip


def test_stills_are_fetched_and_a_second_run_fetches_nothing(server, floreview, capsys):
    assert floreview() == 0
    assert fetched(server) == PHONES
    for i, path in enumerate(PHONES):
        assert (server.folder / path).read_bytes() == jpeg(i)
    server.seen.clear()
    assert floreview() == 0
    assert [path for _, path, _ in server.seen] == ["/FloreView/list.txt"]
    assert "4 of 4 files are in" in capsys.readouterr().out
    assert floreview("--videos") == 0
    assert "D01_LG_G1/Nat/v.mp4" in fetched(server)


def test_failures_are_listed_and_tried_again(server, floreview, capsys):
    lost = f"/FloreView/Dataset/{PHONES[2]}"
    data = server.files.pop(lost)
    server.plans[f"/FloreView/Dataset/{PHONES[0]}"] = ["drop", "drop"]
    assert floreview() == 1
    assert fetched(server) == sorted([PHONES[1], PHONES[3], "failed.txt"])
    said = (server.folder / "failed.txt").read_text()
    assert f"{PHONES[2]}\tthe server answers 404" in said and PHONES[0] in said
    assert f"failed: {PHONES[2]}" in capsys.readouterr().out
    server.files[lost] = data
    assert floreview() == 0
    assert fetched(server) == PHONES
    assert "bytes=" in ranges(server)[-1] + ranges(server)[-2]


def test_devices_and_limit_choose(server, floreview, capsys):
    assert floreview("--devices", "d02") == 0
    assert fetched(server) == PHONES[2:]
    assert floreview("--devices", "LG_G1", "D02_LG_G2", "--limit", "2") == 0
    assert fetched(server) == [PHONES[0], *PHONES[2:]]
    assert floreview("--devices", "Nokia") == 2
    assert "nokia; there are D01 (LG_G1), D02 (LG_G2)" in capsys.readouterr().err
    assert floreview("--limit", "0") == 2


def test_a_dry_run_shows_sizes_and_writes_nothing(server, floreview, capsys):
    assert floreview("--dry-run") == 0
    size = sum(len(jpeg(i)) for i in range(4)) / 1e6
    assert f"4 to fetch, {size:.1f} MB" in capsys.readouterr().out
    assert not server.folder.exists() and {method for method, *_ in server.seen} == {"HEAD", "GET"}


def test_a_list_with_hostile_lines_fetches_the_others_and_says_so(server, floreview, tmp_path, capsys):
    lines = [*HOSTILE, f"Dataset/{PHONES[0]}"]
    server.files["/FloreView/list.txt"] = "\n".join(lines).encode()
    assert floreview() == 1
    assert fetched(server) == [PHONES[0], "failed.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    assert "evil.jpg" in capsys.readouterr().out


def test_a_list_that_is_gone_is_an_error(server, floreview, capsys):
    del server.files["/FloreView/list.txt"]
    assert floreview() == 2 and "cannot be listed: the server answers 404" in capsys.readouterr().err
    assert download.main(["floreview", "--list", "nowhere.txt", "--to", str(server.folder)]) == 2


@pytest.mark.parametrize("text", ["", "<html>moved</html>", "../a.jpg"])
def test_a_list_without_photos_is_an_error(server, floreview, text, capsys):
    server.files["/FloreView/list.txt"] = text.encode()
    assert floreview() == 2 and "FloreView's layout" in capsys.readouterr().err
    assert not server.folder.exists()


def test_too_small_a_disk_is_said_before_anything_is_fetched(server, floreview, monkeypatch, capsys):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    assert floreview() == 2
    assert "has 0.0 MB free" in capsys.readouterr().err and not server.folder.exists()


def test_a_disk_that_fills_ends_the_run(server, floreview, monkeypatch, capsys):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "fetch", full)
    assert floreview() == 2 and "make room" in capsys.readouterr().err


def test_a_server_that_is_away_ends_the_run(server, floreview, monkeypatch, capsys):
    monkeypatch.setattr(download, "GIVE_UP_AFTER", 2)
    server.plans = {f"/FloreView/Dataset/{path}": ["500"] * 99 for path in PHONES}
    assert floreview("--connections", "1") == 1
    assert "2 files in a row failed" in capsys.readouterr().out


def test_an_interrupted_run_says_how_to_go_on(server, floreview, monkeypatch, capsys):
    def interrupted(futures):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "as_completed", interrupted)
        assert floreview() == 1
    assert "the same command goes on" in capsys.readouterr().out
    assert floreview() == 0 and fetched(server) == PHONES


def test_two_downloads_into_one_folder_do_not_meet(server, floreview, capsys):
    server.folder.mkdir()
    with download.filelock.FileLock(server.folder / ".download.lock"):
        assert floreview() == 2
    assert "another download" in capsys.readouterr().err


def test_the_command_line_refuses_what_it_does_not_know():
    for command in ([], ["moon", "--to", "x"], ["floreview"]):
        with pytest.raises(SystemExit) as stop:
            download.main(command)
        assert stop.value.code == 2


def test_sizes_are_estimated_by_kind(server, client):
    listing = sources.parsed_list("\n".join(f"{server.address}/D01_LG_G1/{i:03}.jpg" for i in range(200)))
    server.files = {f"/D01_LG_G1/{i:03}.jpg": b"x" * (1000 + i) for i in range(200)}
    expected = download.with_sizes(client, listing)["expected"]
    assert expected[0] == 1000 and expected[199] == 1199 and abs(expected.sum() - 219_900) < 200
    assert len(server.seen) == download.ASKED
    server.files = {}
    assert set(download.with_sizes(client, listing)["expected"]) == {download.USUAL["photo"]}


DRESDEN = ["Dresden_Exp/Nikon_D70/Nikon_D70_0_1.JPG", "Dresden_Exp/Nikon_D70/Nikon_D70_1_2.JPG",
           "Dresden_Exp/Sony_DSC-H50/Sony_DSC-H50_0_3.JPG"]  # fmt: skip


@pytest.fixture
def kaggle(server, tmp_path, monkeypatch):
    """Kaggle's own client against the loopback server; the reader's home is an empty folder."""
    pytest.importorskip("kagglehub")
    monkeypatch.setattr("kagglesdk.kaggle_http_client.get_endpoint", lambda env: server.address)
    for name in [name for name in os.environ if name.startswith("KAGGLE")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sources, "SCENES", f"{server.address}/dresden.csv")
    server.home, server.folder = tmp_path / "home", tmp_path / "photos"
    server.home.mkdir()
    monkeypatch.setenv("HOME", str(server.home))
    server.files = {f"/{path}": jpeg(i) for i, path in enumerate(DRESDEN)} | {"/dresden.csv": b"filename,scene"}
    options = ["--to", str(server.folder), "--pause", "0.001", "--timeout", "5", "--tries", "3"]
    return partial(_run, ["dresden", *options])


def test_dresden_comes_by_kaggle_and_nothing_goes_elsewhere(server, kaggle, capsys):
    server.plans = {f"/{path}": ["", "drop"] for path in DRESDEN}  # the first request only finds out where the file is
    assert kaggle() == 0
    assert fetched(server) == [*DRESDEN, "dresden.csv"]
    for i, path in enumerate(DRESDEN):
        assert (server.folder / path).read_bytes() == jpeg(i)
    assert sum(asked != "" for asked in ranges(server)) == 3
    assert f"{sum(map(len, server.files.values())) / 1e6:.1f} MB, as the source says" in capsys.readouterr().out
    assert list(server.home.iterdir()) == []


def test_dresden_devices_limit_and_dry_run(server, kaggle, capsys):
    assert kaggle("--dry-run", "--devices", "nikon_d70_1") == 0
    assert "Nikon_D70_1" in capsys.readouterr().out and not server.folder.exists()
    assert kaggle("--devices", "Nikon_D70", "--limit", "1") == 0
    assert fetched(server) == [DRESDEN[0], "dresden.csv"]


def test_kaggle_is_asked_again_and_a_reader_without_rights_is_told_what_to_do(server, kaggle, capsys):
    server.plans = {"ListDatasetFiles": ["500", "429"], "DownloadDataset": ["503"]}
    assert kaggle("--devices", "Nikon_D70_0") == 0
    server.plans = {"ListDatasetFiles": ["403"]}
    assert kaggle() == 2 and "KAGGLE_API_TOKEN" in capsys.readouterr().err
    server.plans = {"DownloadDataset": ["404"]}
    assert kaggle("--devices", "Nikon_D70_1") == 1
    assert f"{DRESDEN[1]}: the server answers 404" in capsys.readouterr().out


def test_dresdens_scenes_come_with_its_photos(server, kaggle, capsys):
    server.files["/dresden.csv"] = b"<html>moved</html>"
    assert kaggle("--limit", "1") == 1 and "dresden.csv: it is not the table" in capsys.readouterr().out
    assert not (server.folder / "dresden.csv").exists()
    server.files["/dresden.csv"] = b"filename,scene"
    assert kaggle("--limit", "1") == 0 and (server.folder / "dresden.csv").read_bytes() == b"filename,scene"
    server.files["/dresden.csv"] = b"filename,other"
    assert kaggle("--limit", "1") == 0 and (server.folder / "dresden.csv").read_bytes() == b"filename,scene"


def test_dresden_needs_kagglehub(server, kaggle, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kagglehub.clients", None)
    assert kaggle() == 2 and "pip install kagglehub" in capsys.readouterr().err


def test_unsafe_names_on_kaggle_are_refused():
    listing = sources.dresden_listing([("../Nikon_D70_0_1.JPG", 5), ("a/Nikon_D70_0_1.JPG", 5), ("a/b.txt", 1)])
    assert listing["path"].tolist() == ["a/Nikon_D70_0_1.JPG"] and listing["device"].tolist() == ["Nikon_D70_0"]
    assert len(listing.attrs["refused"]) == 1 and sum(listing.attrs["skipped"].values()) == 1
