"""Atomic writes and locks: no half-written file passes for a complete one, no two processes build the same folder."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from filelock import FileLock

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it is renamed to `path` only if the block ends without an error."""
    path = Path(path)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    with _clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def exclusive_folder(target: str | Path) -> Iterator[Path]:
    """A hidden, empty folder beside `target` to build it in; other processes wait, and take over if this one dies."""
    target = Path(target)
    aside = target.with_name(f".{target.name}.partial")
    with _clear_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            try:
                yield aside
            finally:
                shutil.rmtree(aside, ignore_errors=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(path)


def write_csv(path: str | Path, table: pd.DataFrame) -> Path:
    """Write a table atomically, without its index, numbers to six digits."""
    return write_text(path, table.to_csv(index=False, float_format="%.6g"))


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    """Adds the path and what to do to the error of a full disk or of a folder without permission to write."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE or "cannot be written" in str(error):  # unknown, or explained already
            raise
        advice = "make room or choose another folder, then start the same command again: it resumes"
        raise OSError(error.errno, f"{error.strerror}: {path} cannot be written; {advice}") from error
