"""Atomic writes: no half-written file passes for a complete one, no two processes build the same folder."""

import argparse
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path

from filelock import FileLock

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it is renamed to `path` only if the block ends without an error."""
    path = Path(path)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def exclusive_folder(target: str | Path) -> Iterator[Path]:
    """A hidden path to build a folder at, if need be; if the block ends without an error, it takes the target's place.

    Other processes wait, and take over if this one dies.
    """
    target = Path(target)
    aside = target.with_name(f".{target.name}.partial")
    with clear_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            try:
                yield aside / "new"
                if (aside / "new").exists():
                    if target.exists():
                        target.rename(aside / "old")
                    (aside / "new").rename(target)
            finally:
                shutil.rmtree(aside, ignore_errors=True)


def command(main: Callable[..., int]) -> Callable[..., int]:
    """Decorator of a command line: it prints any character; an error that a user can fix is one line, exit code 2."""

    @wraps(main)
    def run(arguments: list[str] | None = None) -> int:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError):  # no stream, or one of a notebook or a test
                stream.reconfigure(errors="backslashreplace")  # what its encoding lacks is printed as \xb7
        try:
            return main(arguments)
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return run


def expanded(path: str | Path) -> Path:
    """A path with ~ as the user's home; ValueError where ~name names nobody."""
    try:
        return Path(str(path)).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: there is no such user's home folder") from error


def named_path(text: str) -> Path:
    """A path on a command line; an empty one, as an unset variable gives, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path")
    return Path(text)


def write_text(path: str | Path, text: str) -> Path:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(path)


def write_csv(path: str | Path, table) -> Path:
    """Write a table of pandas, which is slow to import, atomically, without its index, numbers to six digits."""
    return write_text(path, table.to_csv(index=False, float_format="%.6g"))


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Adds the path and what to do to the error of a full disk or of a folder without permission to write."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE or "cannot be written" in str(error):  # unknown, or explained already
            raise
        advice = "make room or choose another folder, then start the same command again: it resumes"
        raise OSError(error.errno, f"{error.strerror}: {path} cannot be written; {advice}") from error
