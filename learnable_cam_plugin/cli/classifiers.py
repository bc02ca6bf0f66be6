"""The classifier that the options name, with its classes; where it runs."""

import hashlib
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import EfficientNet_B0_Weights

from .. import checkpoint
from ..attention import AttentionMechanism, load_attention
from ..class_names import ClassNames
from ..loading import LoadedClassifier, load_classifier
from ..pretrained import efficientnet_lite0
from .common import DEFAULT, Chosen

_ERRORS = (OSError, ValueError, TypeError)  # what says by itself what to do


def default_classifier() -> LoadedClassifier:
    """EfficientNet-Lite0 with its ImageNet weights and classes; nothing is downloaded."""
    model, normalization = efficientnet_lite0()
    names = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    return LoadedClassifier(model, normalization, 224, tuple(names), DEFAULT)


def open_classifier(chosen: Chosen) -> LoadedClassifier:
    """The classifier that was chosen, on the CPU.

    Raises:
        ValueError: there is no such name, module or weights; its normalisation is not known; or the
            names are not one a class.
        FileNotFoundError, ConnectionError, ModuleNotFoundError: as `load_classifier`.
    """
    if chosen.model == DEFAULT:
        if chosen.weights or chosen.num_classes:
            raise ValueError(
                f"{DEFAULT} has weights of its own: --weights goes with another --model"
            )
        loaded = default_classifier()
    else:
        loaded = _load(chosen)
    _ = loaded.pixels  # what is not known is told of now
    return loaded if chosen.names is None else replace(loaded, class_names=_names(chosen.names))


def _load(chosen: Chosen) -> LoadedClassifier:
    module = chosen.model.partition(":")[0]
    if os.getcwd() not in sys.path:  # a module of the user's own, beside which the command is run
        sys.path.append(os.getcwd())
    try:
        with redirect_stdout(sys.stderr):  # where torch.hub tells of a download
            return load_classifier(chosen.model, chosen.weights, chosen.num_classes)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise ValueError(
                f"there is no library or module '{error.name}' here, for '{chosen.model}': a "
                "classifier is torchvision:NAME, timm:NAME, transformers:NAME, or "
                "package.module:function of a module in this folder or installed"
            ) from error
        raise
    except _ERRORS:
        raise
    except Exception as error:  # whatever a function of the user's raises
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"'{chosen.model}' could not be made: {reason}") from error


def _names(path: Path) -> tuple[str, ...]:
    try:
        names = tuple(path.read_text(encoding="utf-8-sig").splitlines())  # or after a mark of order
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: write the name of a class a line") from error
    if blank := [number for number, name in enumerate(names, 1) if not name.strip()]:
        raise ValueError(f"{path}: line {blank[0]} is empty: write the name of a class a line")
    return names


def find_classes(loaded: LoadedClassifier, given: Sequence[str], count: int) -> list[int]:
    """Indices of classes of `count`, given as names, see `ClassNames`, or indices. Names, where
    they are known, must be one a class: see `LoadedClassifier.check_names`.

    Raises:
        ValueError: there is none of that name or index, with those that are close; or several.
    """
    if loaded.class_names is not None:
        names = ClassNames(loaded.class_names)
        return [names.index(one) for one in given]
    wrong = [one for one in given if not (one.isdecimal() and int(one) < count)]
    if wrong:
        raise ValueError(f"there is no class '{wrong[0]}': give an index of 0 to {count - 1}")
    return [int(one) for one in given]


def open_attention(given: str | None) -> AttentionMechanism | None:
    """The attention of a file, a folder, or of a training's folder; None for None."""
    return None if given is None else load_attention(given)


def device_named(name: str) -> torch.device:
    """ "auto" is CUDA where there is one."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ValueError("there is no CUDA device here: leave --device out, or give cpu")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as handle:
        while part := handle.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def contents(model: nn.Module) -> str:
    """SHA-256 of a model's tensors: a name such as module:function may give another one each
    time."""
    state = model.state_dict().items()
    plain = {n: v for n, v in state if isinstance(v, Tensor) and not v.is_quantized}
    return checkpoint.digest(plain)


def described(
    chosen: Chosen, model: nn.Module, attention: AttentionMechanism | None
) -> dict[str, Any]:
    """What tells a classifier and an attention (None or loaded) from others."""
    found: dict[str, Any] = {"model": chosen.model, "weights": chosen.weights}
    found["tensors"] = contents(model)
    found["attention"] = None if attention is None else attention.source
    found["names"] = None if chosen.names is None else str(chosen.names)
    for name, value in found.items():
        if name != "model" and value and os.path.isfile(value):
            found[name] = digest(value)
    return found
