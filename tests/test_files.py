"""A file has its name only when it is complete, and a folder has one builder at a time."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from camid_utils.files import atomic_path, exclusive_folder, write_text


def test_a_file_is_written_and_replaced_and_nothing_is_left_beside_it(tmp_path):
    for text in ("first", "Größe 3 × 4\n"):
        path = write_text(tmp_path / "new" / "folder" / "note.txt", text)
        assert path.read_text(encoding="utf-8") == text
    assert [p.name for p in path.parent.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("before", [None, "old"])
def test_an_interrupted_write_leaves_what_was_there(tmp_path, before):
    path = tmp_path / "note.txt"
    if before:
        path.write_text(before)
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as partial:
        partial.write_text("half of the n")
        assert partial.parent == path.parent  # otherwise the last step would be a copy, which can be interrupted
        assert not path.exists() or path.read_text() == "old"
        raise KeyboardInterrupt
    assert [p.read_text() for p in tmp_path.iterdir()] == ([before] if before else [])


BUILDER = """
import sys, time
from pathlib import Path
from camid_utils.files import exclusive_folder
target, seconds = Path(sys.argv[1]), float(sys.argv[2])
with exclusive_folder(target) as aside:
    if target.is_dir():
        print("reused")
    else:
        (aside / "made").mkdir()
        (aside / "made" / "half").write_text("half")
        print("building", flush=True)
        time.sleep(seconds)
        (aside / "made").rename(target)
        print("built")
"""


def start(target, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILDER, str(target), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_two_builders_one_builds_and_the_other_waits(tmp_path):
    first = start(tmp_path / "store", 1)
    assert first.stdout.readline() == "building\n"
    second = start(tmp_path / "store", 0)
    assert second.communicate()[0] == "reused\n"
    assert first.communicate()[0] == "built\n"


def test_if_the_builder_is_killed_the_other_takes_over(tmp_path):
    first = start(tmp_path / "store", 60)
    assert first.stdout.readline() == "building\n"
    second = start(tmp_path / "store", 0)
    first.kill()
    first.wait()
    assert second.communicate()[0] == "building\nbuilt\n"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["half"]
    assert not list(tmp_path.glob(".*.partial"))


CRAMPED = """
import resource, signal, sys
from camid_utils import files
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
files.write_text(sys.argv[1], "x" * 5000)
"""


def test_a_full_disk_is_named_in_the_error_and_leaves_nothing(tmp_path):
    path = tmp_path / "folder" / "note.txt"
    run = subprocess.run([sys.executable, "-c", CRAMPED, str(path)], capture_output=True, text=True)
    assert run.returncode == 1 and f"{path} cannot be written; make room" in run.stderr.splitlines()[-1]
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, number):
    def refuse(*args, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match="store cannot be written; make room or choose another folder") as found:
        with exclusive_folder(tmp_path / "store"):
            pass
    assert found.value.errno == number
