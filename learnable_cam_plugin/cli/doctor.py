"""`learnable-cam doctor`: whether what is here fits together."""

import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from ..attention import AttentionMechanism
from ..cam import LearnableCAM
from ..checkpoint import CheckpointError
from ..loading import LoadedClassifier
from .classifiers import device_named, open_attention, open_classifier
from .common import Chosen

_NEEDED = ("learnable-cam-plugin", "torch", "torchvision", "grad-cam", "captum", "safetensors")
_TRAIN = (
    "Here: give the --model and --weights that it was trained beside, leave --attention out, or "
    "train one with learnable-cam train"
)
_OPTIONAL = ("timm", "transformers", "accelerate", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Check:
    """`found` says what is there; where it is not `ok`, what is wrong and what to do."""

    name: str
    ok: bool
    found: str


def examine(chosen: Chosen, attention: str | None) -> list[Check]:
    """Versions and device; of a model that is named, whether it can be loaded, at which layers it
    is read, and whether it can be explained; of an attention, whether it is whole and fits it."""
    checks = [_versions(), _check("device", lambda: _device(chosen.device))]
    loaded: LoadedClassifier | None = None
    given: AttentionMechanism | None = None
    if attention is not None:
        found, given = _tried("attention", lambda: open_attention(attention), _described)
        checks.append(found)
    if chosen.model:
        found, loaded = _tried("model", lambda: open_classifier(chosen), _model)
        checks.append(found)
    if loaded is not None:
        classifier = loaded
        checks.append(_check("layers", lambda: ", ".join(classifier.layers)))
        checks.append(_check("explains", lambda: _explains(classifier, None)))
        if given is not None:
            checks.append(_check("attention fits", lambda: _explains(classifier, given)))
    return checks


def _tried(name: str, make: Callable[[], Any], describe: Callable[[Any], str]) -> tuple[Check, Any]:
    made: list[Any] = []

    def run() -> str:
        made.append(make())
        return describe(made[0])

    return _check(name, run), made[0] if made else None


def _check(name: str, run: Callable[[], str]) -> Check:
    """A check that says what it finds, and fails with whatever goes wrong."""
    try:
        return Check(name, True, run())
    except CheckpointError as error:
        return Check(name, False, f"{str(error).rstrip('.')}. {_TRAIN}")
    except Exception as error:  # a doctor names every illness
        said = str(error) or type(error).__name__
        return Check(name, False, said)


def _versions() -> Check:
    found = {package: _version(package) for package in (*_NEEDED, *_OPTIONAL)}
    missing = [package for package in _NEEDED if found[package] is None]
    told = [f"{package} {number or 'not installed'}" for package, number in found.items()]
    advice = f"; pip install {' '.join(missing)}" if missing else ""
    python = f"Python {platform.python_version()}"
    return Check("versions", not missing, ", ".join([python, *told]) + advice)


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def _device(name: str) -> str:
    device = device_named(name)
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"CPU, {torch.get_num_threads()} threads"


def _model(loaded: LoadedClassifier) -> str:
    numbers = sum(p.numel() for p in loaded.model.parameters())
    names = "named" if loaded.class_names else "not named"
    return (
        f"{type(loaded.model).__name__} of '{loaded.source}', {numbers:,} parameters, images of "
        f"{loaded.side} x {loaded.side}, classes {names}"
    )


def _described(attention: AttentionMechanism) -> str:
    made = "" if attention.origin is None else f", made for {attention.origin.architecture}"
    return (
        f"{type(attention).__name__} of {attention.num_classes} classes, layers "
        f"{', '.join(attention.channels)}{made}"
    )


def _explains(loaded: LoadedClassifier, attention: AttentionMechanism | None) -> str:
    """One image of random pixels, explained."""
    pixels = torch.rand(2, 3, loaded.side, loaded.side, generator=torch.Generator().manual_seed(1))
    heat = LearnableCAM(loaded.model, attention=attention).saliency(loaded.pixels.normalize(pixels))
    if float(heat.amax() - heat.amin()) == 0:
        raise ValueError("the map is the same everywhere: name earlier layers, or larger images")
    return f"maps of {heat.shape[1]} x {heat.shape[2]} pixels"
