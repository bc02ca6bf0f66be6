"""The folder that a training writes to: writable before the first step, and one training's own."""

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..attention import check_folder

LOCK = ".training.lock"


@contextmanager
def held_folder(folder: Path | None) -> Iterator[None]:
    """The folder, made if it has to be, for this training alone until the block ends.

    The system lets go of the lock of a process that was killed. A folder that was made here and
    stays empty is removed. None holds nothing.

    Raises:
        OSError: it cannot be made, or not be written to.
        RuntimeError: another training, which is named, holds it.
    """
    if folder is None:
        yield
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path = folder / LOCK
    lock = FileLock(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # of a lock it is not sure why it failed
        lock.acquire(blocking=False)
    except Timeout as error:
        raise RuntimeError(
            f"another training writes to {folder} ({_holder(path)}): wait for its end, or choose "
            "another output_dir"
        ) from error
    except OSError as error:
        problem = f"output_dir cannot be written to ({error.strerror or error})"
        raise OSError(error.errno, problem, str(folder)) from error
    try:
        me = f"process {os.getpid()} on {socket.gethostname()}, since {time.ctime()}"
        path.write_text(me)
        yield
    finally:
        with suppress(OSError):  # a system on which an open file cannot be removed
            path.unlink()
        lock.release()
        with suppress(OSError):  # the first that is not empty: it, and what it lies in, stay
            for path in made:
                path.rmdir()


def check_own(folder: Path) -> None:
    """FileExistsError if a training's files would take the place of something else's."""
    table = folder / "history.csv"
    if table.exists():
        with open(table, encoding="utf-8", errors="replace") as handle:
            names = handle.readline().strip().split(",")
        if not {"epoch", "images", "seconds"} <= {*names}:
            raise FileExistsError(
                f"{table} is no history of a training here, and would be overwritten: choose "
                "another output_dir"
            )
    check_folder(folder / "attention")


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "another process"
    except OSError:
        return "another process"
