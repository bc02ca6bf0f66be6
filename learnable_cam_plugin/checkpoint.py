"""Safetensors files with a JSON record: written atomically, verified when read, never unpickled."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

FORMAT = 1
_KEY = "learnable_cam_plugin"


class CheckpointError(ValueError):
    """A file that is damaged, is not ours, or was made for something else than it is used for."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there only if the block ends well.

    An error or an interruption leaves the old file as it was and no partial file.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(path.suffix, f".{path.stem}-", path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.umask(mask := os.umask(0))  # it can be read by setting it only
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(tensors: Mapping[str, torch.Tensor], record: str) -> str:
    """SHA-256 over the record and over every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(
    path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]
) -> None:
    """Write tensors and their record (JSON values only) to one safetensors file, atomically."""
    content = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    text = json.dumps({"format": FORMAT, **record}, sort_keys=True)
    metadata = {_KEY: text, "sha256": _digest(content, text)}
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(content, temporary, metadata=metadata)


def load(path: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read and verify a file that `save` wrote: (tensors on the CPU, record).

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is no safetensors file, is truncated or altered, or is not ours.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no attention file at {path}")
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}). It may be truncated, or be a "
            "pickle (.pt, .pth), which is never loaded: save the attention again."
        ) from error
    if _KEY not in metadata:
        raise CheckpointError(
            f"{path} holds no learnable_cam_plugin record; it has {sorted(tensors)[:4]}. "
            "Use a file that save_pretrained or the trainer wrote."
        )
    text = metadata[_KEY]
    if _digest(tensors, text) != metadata.get("sha256"):
        raise CheckpointError(
            f"{path} does not match its own SHA-256: it was altered or damaged after it was "
            "saved. Get it again from where it came from."
        )
    record = json.loads(text)
    if record.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {record.get('format')!r}; this version reads format {FORMAT}. "
            "Install the version of learnable-cam-plugin that wrote it."
        )
    return tensors, record
