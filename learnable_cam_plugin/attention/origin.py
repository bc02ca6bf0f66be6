"""What an attention mechanism was made for: saved with it, compared with the model at hand."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoint import CheckpointError

_PACKAGES = ("learnable-cam-plugin", "torch", "torchvision", "grad-cam", "captum")


@dataclass(frozen=True)
class Origin:
    """What an attention mechanism was made for; saved with it, checked when it is used.

    Attributes:
        architecture: qualified class name of the classifier.
        shapes: digest of the classifier's parameter and buffer names and shapes.
        weights: up to 64 values of the classifier's last weight matrix, evenly spaced.
        recipe: how it was trained (variant, loss weights, optimiser, epochs, start, seed, ...).
        normalization: {"mean": [...], "std": [...]} of the images, if declared.
        input_size: (C, H, W) of the images, if known.
        versions: of the libraries.
    """

    architecture: str
    shapes: str
    weights: Sequence[float]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    normalization: Mapping[str, Any] | None = None
    input_size: Sequence[int] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, **details: Any) -> "Origin":
        """The origin that describes `model`."""
        state = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
        shapes = ";".join(f"{name}:{tuple(value.shape)}" for name, value in state.items())
        matrices = [p for p in model.parameters() if p.ndim > 1]
        values = matrices[-1].detach().flatten() if matrices else torch.zeros(0)
        sample = values[:: max(1, len(values) // 64)][:64].float().cpu()
        return cls(
            architecture=f"{type(model).__module__}.{type(model).__qualname__}",
            shapes=hashlib.sha256(shapes.encode()).hexdigest()[:16],
            weights=sample.tolist(),
            versions=_versions(),
            **details,
        )

    def check(self, model: nn.Module, num_classes: int) -> None:
        """Raise CheckpointError for a model of another class, other shapes or other weights."""
        here = Origin.of(model)
        if here.architecture != self.architecture:
            raise CheckpointError(
                f"the model is a {here.architecture}, the attention was made for a "
                f"{self.architecture}"
            )
        if here.shapes != self.shapes:
            raise CheckpointError(
                f"the model is a {here.architecture} of other shapes (digest {here.shapes}) than "
                f"the one that the attention was made for ({self.shapes}, "
                f"{num_classes} classes): another depth, width or number of classes"
            )
        then, now = torch.tensor(self.weights), torch.tensor(here.weights)
        change = float((now - then).norm() / then.norm().clamp(min=1e-12))
        if not change < 0.01:  # half precision changes them by less
            raise CheckpointError(
                f"the model is a {here.architecture} with other weights than the one that the "
                f"attention was made for (its last layer differs by {change:.0%}). An attention "
                "explains the classifier beside which it was trained: train it again, or set "
                "attention.origin = None to use it all the same"
            )


def _versions() -> dict[str, str]:
    found = dict.fromkeys(_PACKAGES, "not installed as a package")
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
