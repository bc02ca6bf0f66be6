"""Safetensors files with a JSON record: written atomically, verified when read, never unpickled."""

import errno
import hashlib
import json
import os
import re
import reprlib
import secrets
import stat
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

import safetensors.torch
import torch

FORMAT = 1
_KEY = "learnable_cam_plugin"
_MAX_HEADER = 10_000_000  # bytes; what is read of it takes some ten times as much memory
_MAX_DEPTH = 50  # of lists and objects in one another in a record
_TEMPORARY = re.compile(r"\.learnable-cam-[0-9a-f]{16}(\..*)?")
_STALE = 60.0  # seconds after which a temporary file that nobody holds was left by a dead process
_quiet = (Path(), 0.0)  # the folder that was swept last, and until when it need not be again


class CheckpointError(ValueError):
    """A file that is damaged, is not ours, or was made for something else than it is used for."""


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


def digest(tensors: Mapping[str, torch.Tensor], record: str = "") -> str:
    """SHA-256 over the record and over every tensor's name, type, shape and bytes."""
    found = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def save(
    path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]
) -> None:
    """Write tensors and their record to one safetensors file, atomically.

    Raises:
        TypeError: the record holds something else than JSON values.
        ValueError: it is too large, or too deep, to be read again.
        OSError: the file cannot be written, naming it; an old file there is as it was.
    """
    try:
        text = json.dumps({"format": FORMAT, **record}, sort_keys=True)
    except TypeError as error:
        raise TypeError(f"{path} was not written: its record takes JSON values; {error}") from error
    content = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    metadata = {_KEY: text, "sha256": digest(content, text)}
    raw = safetensors.torch.save(content, metadata)
    (header,) = struct.unpack("<Q", raw[:8])
    if header > _MAX_HEADER or _too_deep(record):
        raise ValueError(
            f"{path} was not written: its record and the list of its tensors take {header:,} bytes "
            f"({_MAX_HEADER:,} are read), in at most {_MAX_DEPTH} levels"
        )
    with atomic_path(path) as temporary:
        temporary.write_bytes(raw)


def load(path: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read and verify a file that `save` wrote: (tensors on the CPU, record).

    The digest tells damage, not malice: whoever changes a file can put a new one in. So nothing is
    believed of the record or the tensors here but that they are a JSON object and tensors.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it cannot be read, is no safetensors file, is truncated or altered, or is
            not ours.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"no attention file at {path}")
    if not os.path.isfile(path):  # a pipe would be waited for, a device has no end
        raise CheckpointError(f"{path} is a folder, a pipe or a device, not an attention file")
    try:
        raw = Path(path).read_bytes()
    except (OSError, MemoryError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    try:
        tensors, metadata = _parsed(raw)
    except Exception as error:  # whichever: no bytes that `save` wrote raise any
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({plain(error)}). It may be truncated, or be "
            "a pickle (.pt, .pth), which is never loaded: save the attention again."
        ) from error
    if _KEY not in metadata:
        raise CheckpointError(
            f"{path} holds no learnable_cam_plugin record; it has {reprlib.repr(sorted(tensors))}. "
            "Use a file that save_pretrained or the trainer wrote."
        )
    text = metadata[_KEY]
    if digest(tensors, text) != metadata.get("sha256"):
        raise CheckpointError(
            f"{path} does not match its own SHA-256: it was altered or damaged after it was "
            "saved. Get it again from where it came from."
        )
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has a record that is no JSON: {plain(error)}") from error
    if not isinstance(record, dict) or _too_deep(record):
        raise CheckpointError(
            f"{path} has a record that is no JSON object of at most {_MAX_DEPTH} levels. "
            "Use a file that save_pretrained or the trainer wrote."
        )
    if record.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {reprlib.repr(record.get('format'))}; this version reads format "
            f"{FORMAT}. Install the version of learnable-cam-plugin that wrote it."
        )
    return tensors, record


def _parsed(raw: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file."""
    (header,) = struct.unpack("<Q", raw[:8])
    if header > _MAX_HEADER:
        raise ValueError(f"its header claims {header:,} bytes, of at most {_MAX_HEADER:,}")
    tensors = safetensors.torch.load(raw)
    return tensors, json.loads(raw[8 : 8 + header]).get("__metadata__") or {}


def _too_deep(record: Any) -> bool:
    """Whether lists and objects lie in one another more than `_MAX_DEPTH` levels deep."""
    level = [record]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list, tuple))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return bool(level)


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names for a message; of more than so many the first, and how many there are besides.

    >>> listed(["head.weight", "head.bias", "stem.weight"], most=2)
    'head.weight, head.bias and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def plain(error: Exception) -> str:
    """What an error says, on one short line, whatever a file made it say."""
    said = "".join(c if c.isprintable() else " " for c in str(error))
    named = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return named + shorten(said, 300, placeholder=" ...")
