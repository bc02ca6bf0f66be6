"""An attention from its file's record and tensors, each compared with the other beforehand."""

import copy
import os
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from .. import checkpoint
from ..checkpoint import CheckpointError
from ..wording import plain
from .origin import Origin

MAX_LAYERS = 1000
_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Kind = TypeVar("Kind", bound=nn.Module)


def declared(record: Mapping[str, Any]) -> tuple[dict[str, int], int, dict[str, Any]]:
    """The channels, number of classes and settings that a record declares.

    Raises:
        ValueError: they are not what a mechanism's constructor takes.
    """
    pairs, num_classes = record.get("channels"), record.get("num_classes")
    settings = record.get("settings", {})
    if not isinstance(pairs, (list, tuple)) or not all(_is_layer(pair) for pair in pairs):
        raise ValueError(
            "its channels must be pairs of a layer's name and its number of channels, got "
            f"{reprlib.repr(pairs)}"
        )
    names = [name for name, _ in pairs]
    if not 1 <= len(names) <= MAX_LAYERS or len(set(names)) < len(names):
        raise ValueError(
            f"it must have between 1 and {MAX_LAYERS} layers, each named once, got "
            f"{len(names)} names: {reprlib.repr(names)}"
        )
    if not _is_count(num_classes):
        raise ValueError(f"num_classes must be at least 1, got {reprlib.repr(num_classes)}")
    if not isinstance(settings, dict):
        raise ValueError(f"its settings must be an object, got {reprlib.repr(settings)}")
    return dict(pairs), num_classes, settings


def _is_layer(pair: Any) -> bool:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        return False
    name, channels = pair
    return isinstance(name, str) and name.isprintable() and _is_count(channels)


def _is_count(number: Any) -> TypeGuard[int]:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def read(
    path: str | os.PathLike[str], kinds: Mapping[str, type[Kind]], wanted: str
) -> tuple[Kind, Origin | None]:
    """The mechanism in a file, on the CPU, and what it was made for.

    Args:
        path: the file.
        kinds: the classes that it may be of, by name.
        wanted: what they are called together.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: anything else that keeps it from being what its record says.
    """
    tensors, record = checkpoint.load(path)
    name = record.get("mechanism")
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        found = "training state" if name is None else reprlib.repr(name).strip("'")
        known = "" if name is None else f"; of this kind there are {sorted(kinds)}"
        raise CheckpointError(
            f"{path} holds a {found}, not a {wanted}{known}. A mechanism of your own has to "
            "be defined, or imported, before its file is loaded"
        )
    try:
        mechanism = _rebuild(kind, record, tensors)
        origin = record.get("origin")
        return mechanism, None if origin is None else Origin.from_record(origin)
    except Exception as error:  # a constructor may raise any, for what a record may declare
        raise CheckpointError(f"{path} contradicts its own record: {plain(error)}") from error


def _rebuild(
    kind: Callable[..., Kind], record: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Kind:
    """A mechanism as its record declares it, with the tensors' values and precision.

    Before anything of the declared size is allocated, the tensors' names and shapes are compared
    with those of a mechanism without storage (on the device "meta"). Torch's random state is left
    as it was.
    """
    channels, num_classes, settings = declared(record)
    check_numbers(tensors)

    def construct(device: str) -> Kind:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            return kind(dict(channels), num_classes, **copy.deepcopy(settings))

    try:
        _compare(construct("meta").state_dict(), tensors)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        if "meta" not in str(error):  # else: a constructor that reads a tensor's values
            raise
    mechanism = construct("cpu")
    _compare(mechanism.state_dict(), tensors)
    precisions = {t.dtype for t in tensors.values() if t.is_floating_point()}
    if len(precisions) == 1:
        mechanism.to(precisions.pop())
    mechanism.load_state_dict(tensors)
    return mechanism


def check_numbers(tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError for floats that are not finite, or of fewer than 16 bits."""
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    for name, tensor in floats.items():
        if tensor.dtype not in _PRECISIONS:
            raise ValueError(f"the tensor {name!r} is {tensor.dtype}, of {_PRECISIONS} one is read")
        if not tensor.isfinite().all():
            raise CheckpointError(f"{name!r} holds NaN or infinite values")


def _compare(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless the names, shapes and kinds of numbers are the same."""
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or extra:
        raise ValueError(
            f"of the tensors that its record asks for {reprlib.repr(missing)} are missing, and "
            f"{reprlib.repr(extra)} are there beside them"
        )
    mixed = len({t.dtype for t in tensors.values() if t.is_floating_point()}) > 1
    for name, expected in own.items():
        found = tensors[name]
        if found.shape != expected.shape:
            raise ValueError(
                f"the tensor {name!r} is {tuple(found.shape)}, by its record it is "
                f"{tuple(expected.shape)}"
            )
        cast = not mixed and expected.is_floating_point() and found.is_floating_point()
        if found.dtype != expected.dtype and not cast:
            raise ValueError(f"the tensor {name!r} is {found.dtype}, it must be {expected.dtype}")
