"""Files that are there whole or not at all, whatever stops the writing."""

import errno
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\.learnable-cam-[0-9a-f]{16}(\..*)?")
_STALE = 60.0  # seconds after which a temporary file that nobody holds was left by a dead process
_quiet = (Path(), 0.0)  # the folder that was swept last, and until when it need not be again


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there only if the block ends well.

    An error or an interruption leaves the old file as it was and no partial file; what a killed
    process left is removed by a later write to the folder. A link is followed: what it points to is
    written. The file has the permissions of the old one, or those that the umask gives.

    Raises:
        OSError: the file cannot be written, naming it: no space, no permission, a folder, a device.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # os.replace would put a file in place of a device
        code = errno.EISDIR if target.is_dir() else errno.EINVAL
        raise OSError(code, "a folder or a device, not a file to write to", str(path))
    temporary = target.parent / f".learnable-cam-{secrets.token_hex(8)}{target.suffix}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        # the kernel applies the umask, which can be read only by setting it, for all threads
        with open(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)) as held:
            if not _lock(held.fileno()):
                held.close()
            yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        if target.exists():
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except OSError as error:
        own = (None, str(temporary), *map(str, target.parents))
        if error.errno is None or error.filename not in own:
            raise  # of something else that the block does
        kept = "; the file there is as it was" if target.exists() else ""
        raise OSError(error.errno, f"cannot write ({error.strerror}){kept}", str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _lock(descriptor: int) -> bool:
    """Whether this process now holds the file; the kernel lets go of it when the process ends."""
    if sys.platform == "win32":  # there an open file cannot be written by its name
        return False
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody holds it; or a file system without locks
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove what killed processes left: temporary files of ours that are old and not held. A
    folder of thousands is looked through now and then, for a twentieth of the time at most."""
    global _quiet
    began = time.monotonic()
    if _quiet[0] == folder and began < _quiet[1]:
        return
    for left in folder.glob(".learnable-cam-*"):
        with suppress(OSError):
            status = left.lstat()
            old = time.time() - status.st_mtime > _STALE
            if old and _TEMPORARY.fullmatch(left.name) and stat.S_ISREG(status.st_mode):
                with open(left, "rb+") as handle:
                    if _lock(handle.fileno()):
                        left.unlink()
    ended = time.monotonic()
    _quiet = folder, ended + 20 * (ended - began)
