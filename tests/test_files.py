"""A file has its name only when it is complete, and a folder has one builder at a time."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from camid_utils import files
from camid_utils.files import atomic_path, exclusive_folder


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
with exclusive_folder(target) as new:
    if target.is_dir():
        print("reused")
    else:
        new.mkdir()
        (new / "half").write_text("half")
        print("building", flush=True)
        time.sleep(seconds)
        print("built")
"""


@pytest.mark.parametrize("killed", [False, True])
def test_of_two_builders_the_second_waits_and_takes_over_if_the_first_is_killed(tmp_path, killed):
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "store")]
    first = subprocess.Popen([*command, "60" if killed else "1"], stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "building\n"
    second = subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, text=True)
    if killed:
        first.kill()
    assert first.communicate()[0] == ("" if killed else "built\n")
    assert second.communicate()[0] == ("building\nbuilt\n" if killed else "reused\n")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["half"] and not list(tmp_path.glob(".*.partial"))


def test_a_full_disk_is_named_in_the_error_and_leaves_nothing(tmp_path):
    path = tmp_path / "folder" / "note.txt"
    code = "import resource, sys; from camid_utils import files; resource.setrlimit(resource.RLIMIT_FSIZE, (999, 999))"
    code += "; files.write_text(sys.argv[1], 'x' * 5000)"  # Python ignores SIGXFSZ: the write fails
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert run.returncode == 1 and f"{path} cannot be written; make room" in run.stderr.splitlines()[-1]
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, number):
    monkeypatch.setattr(Path, "mkdir", MagicMock(side_effect=OSError(number, os.strerror(number))))
    with pytest.raises(OSError, match="store cannot be written; make room or choose another folder") as found:
        exclusive_folder(tmp_path / "store").__enter__()
    assert found.value.errno == number


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_text_can_be_printed(monkeypatch, encoding):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    files.command(lambda arguments: print("photo·ÿ 写真.jpg", flush=True))()
    assert sys.stdout.buffer.getvalue().decode(encoding).endswith(r" \u5199\u771f.jpg" + "\n")
    monkeypatch.setattr(sys, "stdout", None)  # a program without a terminal
    assert files.command(lambda arguments: 0)() == 0
