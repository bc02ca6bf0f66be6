"""Safetensors files with a JSON record: written atomically, verified when read, never unpickled."""

import hashlib
import json
import os
import reprlib
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from .atomic import atomic_path
from .wording import plain

FORMAT = 1
_KEY = "learnable_cam_plugin"
_MAX_HEADER = 10_000_000  # bytes; what is read of it takes some ten times as much memory
_MAX_DEPTH = 50  # of lists and objects in one another in a record


class CheckpointError(ValueError):
    """A file that is damaged, is not ours, or was made for something else than it is used for."""


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


def is_ours(path: str | os.PathLike[str]) -> bool:
    """Whether a file says of itself that `save` wrote it; its tensors are not read."""
    try:
        with open(path, "rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            header = json.loads(handle.read(min(length, _MAX_HEADER)))
        return _KEY in (header.get("__metadata__") or {})
    except (OSError, ValueError, RecursionError, AttributeError, struct.error):
        return False


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
