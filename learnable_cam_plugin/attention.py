"""The attention mechanism: feature maps -> raw class activation maps. Only this is trained."""

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
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from torch import Tensor, nn

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


class LCAMAttention(nn.Module, ModelHubMixin):
    """The attention mechanism of L-CAM: one 1x1 convolution a target layer.

    For class y and feature maps A (N, C, h, w), equation (1) of the paper gives the raw map

        c_y = W_y . A + b_y            (N, h, w), any sign

    Only the rows of W that are asked for are used: K maps are never computed for one class.

    Args:
        channels: layer name -> C, its number of channels.
        num_classes: K.

    Attributes:
        weights, biases: one parameter (K, C) and (K,) a layer, in the order of `channels`.
        origin: what it was made for (`Origin`), or None.

    >>> attention = LCAMAttention({"layer4.1": 512}, num_classes=10)
    >>> maps = attention({"layer4.1": torch.rand(2, 512, 7, 5)}, torch.tensor([3, 9]))
    >>> [tuple(m.shape) for m in maps]
    [(2, 7, 5)]
    """

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
        convolutions = [nn.Conv2d(c, num_classes, 1) for c in channels.values()]
        self.weights = nn.ParameterList(
            nn.Parameter(c.weight.detach().flatten(1)) for c in convolutions
        )
        self.biases = nn.ParameterList(nn.Parameter(c.bias.detach()) for c in convolutions)  # type: ignore[union-attr]

    def _rows(self, layer: str, features: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """W and b of `layer` for `classes`, after checking features and classes against them."""
        if layer not in self.channels:
            raise ValueError(
                f"the attention covers the layers {list(self.channels)}, not '{layer}'"
            )
        if features.shape[1] != self.channels[layer]:
            raise ValueError(
                f"layer '{layer}' gives {features.shape[1]} channels, the attention was made for "
                f"{self.channels[layer]}: it belongs to another model or layer"
            )
        index = list(self.channels).index(layer)
        weight, bias = self.weights[index], self.biases[index]
        return weight[classes.to(weight.device)], bias[classes.to(weight.device)]

    def forward(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        """The raw maps of one class, or of several, for each image.

        Args:
            features: layer name -> (N, C, h, w) or (N, C, d, h, w).
            classes: (N,) one class an image, or (N, M) several; integers in [0, K).

        Returns:
            for each layer of `features` (N, h, w) or (N, d, h, w); with (N, M) classes
            (N, M, h, w) or (N, M, d, h, w).
        """
        maps = []
        for layer, feature in features.items():
            weight, bias = self._rows(layer, feature, classes)
            flat = feature.flatten(2).to(weight.dtype)
            if classes.ndim == 1:
                raw = torch.baddbmm(bias[:, None, None], weight[:, None], flat)[:, 0]
            else:
                raw = torch.baddbmm(bias[:, :, None], weight, flat)
            maps.append(raw.view(*classes.shape, *feature.shape[2:]))
        return maps

    def weighted_features(self, layer: str, features: Tensor, classes: Tensor) -> Tensor:
        """W_y * A before the sum over channels, (N, C, ...): what `eigen_smooth` projects."""
        weight, _ = self._rows(layer, features, classes)
        return features * weight.view(*weight.shape, *[1] * (features.ndim - 2))

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
            "origin": dataclasses.asdict(self.origin) if self.origin else None,
        }
        checkpoint.save(path, self.state_dict(), record)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LCAMAttention:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            CheckpointError: a damaged, altered or foreign file.
        """
        tensors, record = checkpoint.load(path)
        if record.get("mechanism") != cls.__name__:
            raise CheckpointError(
                f"{path} holds a {record.get('mechanism') or 'training state'}, not a "
                f"{cls.__name__}"
            )
        try:
            attention = cls(dict(record["channels"]), record["num_classes"])
            attention.load_state_dict(tensors)
            if record["origin"] is not None:
                attention.origin = Origin(**record["origin"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} contradicts its own record: {error}") from error
        return attention

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory / WEIGHTS_FILE)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **download: Any) -> LCAMAttention:
        """The mixin's hook: a local folder, else a hub repository."""
        if Path(model_id).is_dir():
            return cls.load(Path(model_id) / WEIGHTS_FILE)
        options = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        known = {key: download[key] for key in options if key in download}
        return cls.load(hf_hub_download(model_id, WEIGHTS_FILE, **known))


def load_attention(source: LCAMAttention | str | os.PathLike[str]) -> LCAMAttention:
    """An attention from a module (returned as it is), a file, a folder or a hub id.

    Raises:
        FileNotFoundError: there is no such file or folder, and it is no hub repository.
        CheckpointError: a damaged, altered or foreign file.
        TypeError: `source` is something else.
    """
    if isinstance(source, LCAMAttention):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "attention must be an attention module, a path or a hub id, got "
            f"{type(source).__name__}"
        )
    path = Path(source)
    if path.is_file():
        return LCAMAttention.load(path)
    if path.is_dir():
        return LCAMAttention.load(path / WEIGHTS_FILE)
    try:
        return LCAMAttention.load(hf_hub_download(str(source), WEIGHTS_FILE))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise FileNotFoundError(
            f"no attention at '{source}': it is no file, no folder, and not to be had as a hub "
            f"repository ({type(error).__name__})"
        ) from error
