"""What every attention mechanism has: its layers, its origin, its file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from torch import Tensor, nn
from typing_extensions import Self

from . import checkpoint
from .checkpoint import CheckpointError

WEIGHTS_FILE = "model.safetensors"


@dataclasses.dataclass(frozen=True)
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
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    normalization: Mapping[str, Any] | None = None
    input_size: Sequence[int] | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, **details: Any) -> Origin:
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


def _versions() -> dict[str, str]:
    def one(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed as a package"

    packages = ("learnable-cam-plugin", "torch", "torchvision", "grad-cam", "captum")
    return {package: one(package) for package in packages}


def check_classes(classes: Tensor, num_classes: int) -> None:
    """Raise IndexError unless every class index lies in [0, num_classes)."""
    outside = classes[(classes < 0) | (classes >= num_classes)]
    if outside.numel():
        raise IndexError(
            f"class index {outside.flatten()[0].item()} is out of range: the classes are 0 to "
            f"{num_classes - 1}"
        )


class AttentionMechanism(nn.Module, ModelHubMixin):
    """Feature maps -> raw class activation maps. Only this is trained.

    Args:
        channels: layer name -> C, its number of channels.
        num_classes: K.

    Attributes:
        origin: what it was made for (`Origin`), or None.
        fuses: whether it makes one map of all its layers, and so needs all of them, or a map of
            each layer that it is given.
    """

    fuses = False

    def __init__(self, channels: Mapping[str, int], num_classes: int) -> None:
        super().__init__()
        if not channels or min(channels.values()) < 1 or num_classes < 1:
            raise ValueError(
                "at least one layer, channel and class is needed, got "
                f"channels={dict(channels)}, num_classes={num_classes}"
            )
        self.channels = dict(channels)
        self.num_classes = num_classes
        self.origin: Origin | None = None

    def forward(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        """The raw maps of one class an image.

        Args:
            features: layer name -> (N, C, h, w) or (N, C, d, h, w).
            classes: (N,), integers in [0, K).

        Returns:
            (N, h, w) or (N, d, h, w), any sign: one for each layer, or one in all if it fuses.
        """
        raise NotImplementedError

    def weighted_features(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        """What the raw maps sum over channels, (N, C, ...) each: `eigen_smooth` projects it."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What the constructor takes beside `channels` and `num_classes`; saved with it."""
        return {}

    def check_features(self, layer: str, features: Tensor) -> None:
        """Refuse feature maps of a layer, or with channels, that this was not made for."""
        if layer not in self.channels:
            raise ValueError(
                f"the attention covers the layers {list(self.channels)}, not '{layer}'"
            )
        if features.shape[1] != self.channels[layer]:
            raise ValueError(
                f"layer '{layer}' gives {features.shape[1]} channels, the attention was made for "
                f"{self.channels[layer]}: it belongs to another model or layer"
            )

    def layers_to_read(
        self, layers: Mapping[str, nn.Module], model: nn.Module
    ) -> dict[str, nn.Module]:
        """The layers whose feature maps it needs, to explain at the target layers `layers`."""
        if not self.fuses:
            return dict(layers)
        return {name: model.get_submodule(name) for name in self.channels}

    def attach(self, model: nn.Module, layers: Sequence[str]) -> None:
        """Make ready to explain `model` at `layers`, after checking that it was made for them.

        Sets the mechanism to eval mode.

        Raises:
            CheckpointError: see `check_model`.
        """
        self.check_model(model, layers)
        self.eval()

    def check_model(self, model: nn.Module, layers: Sequence[str]) -> None:
        """Refuse a model or layers that this attention was not made for.

        Raises:
            CheckpointError: naming both sides.
        """
        missing = [name for name in layers if name not in self.channels]
        if missing:
            raise CheckpointError(
                f"the target layers are {list(layers)}, the attention was made for the layers "
                f"{list(self.channels)}: no map for {missing}"
            )
        if self.origin is None:
            return
        here = Origin.of(model)
        if here.architecture != self.origin.architecture:
            raise CheckpointError(
                f"the model is a {here.architecture}, the attention was made for a "
                f"{self.origin.architecture}"
            )
        if here.shapes != self.origin.shapes:
            raise CheckpointError(
                f"the model is a {here.architecture} of other shapes (digest {here.shapes}) than "
                f"the one that the attention was made for ({self.origin.shapes}, "
                f"{self.num_classes} classes): another depth, width or number of classes"
            )
        then, now = torch.tensor(self.origin.weights), torch.tensor(here.weights)
        change = float((now - then).norm() / then.norm().clamp(min=1e-12))
        if not change < 0.01:  # half precision changes them by less
            raise CheckpointError(
                f"the model is a {here.architecture} with other weights than the one that the "
                f"attention was made for (its last layer differs by {change:.0%}). An attention "
                "explains the classifier beside which it was trained: train it again, or set "
                "attention.origin = None to use it all the same"
            )

    # Files: one self-describing safetensors file, alone or in a folder or hub repository.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the attention and its origin to one safetensors file, atomically."""
        record = {
            "mechanism": type(self).__name__,
            "channels": list(self.channels.items()),
            "num_classes": self.num_classes,
            "settings": self.settings(),
            "origin": dataclasses.asdict(self.origin) if self.origin else None,
        }
        checkpoint.save(path, self.state_dict(), record)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; in eval mode.

        Raises:
            FileNotFoundError: no such file.
            CheckpointError: a damaged, altered or foreign file.
        """
        tensors, record = checkpoint.load(path)
        kinds = {kind.__name__: kind for kind in (cls, *cls.__subclasses__())}
        kind = kinds.get(record.get("mechanism", ""))
        if kind is None or kind is AttentionMechanism:
            raise CheckpointError(
                f"{path} holds a {record.get('mechanism') or 'training state'}, not a "
                f"{cls.__name__}"
            )
        try:
            attention = kind(
                dict(record["channels"]), record["num_classes"], **record.get("settings", {})
            )
            attention.load_state_dict(tensors)
            if record["origin"] is not None:
                attention.origin = Origin(**record["origin"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} contradicts its own record: {error}") from error
        return attention.eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory / WEIGHTS_FILE)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **download: Any) -> Self:
        """The mixin's hook: a local folder, else a hub repository."""
        if Path(model_id).is_dir():
            return cls.load(Path(model_id) / WEIGHTS_FILE)
        options = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        known = {key: download[key] for key in options if key in download}
        return cls.load(hf_hub_download(model_id, WEIGHTS_FILE, **known))
