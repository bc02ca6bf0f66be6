"""What every attention mechanism has: its layers, its origin, its file; and the way from a file."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import ModelHubMixin, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from torch import Tensor, nn

from .. import checkpoint
from ..checkpoint import CheckpointError
from .origin import Origin

WEIGHTS_FILE = "model.safetensors"
Kind = TypeVar("Kind", bound="AttentionMechanism")


class AttentionMechanism(nn.Module, ModelHubMixin):
    """Feature maps -> raw class activation maps. Only this is trained.

    A mechanism of your own is a subclass, which a file's record names: defining it is enough for
    `load_attention` to find it. Its constructor takes `channels`, `num_classes`, and what
    `settings` returns.

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
        """Make ready, in eval mode, to explain `model` at `layers`; see `check_model`."""
        self.check_model(model, layers)
        self.eval()

    def check_model(self, model: nn.Module, layers: Sequence[str]) -> None:
        """Raise CheckpointError for a model or layers that this was not made for, naming both."""
        missing = [name for name in layers if name not in self.channels]
        if missing:
            raise CheckpointError(
                f"the target layers are {list(layers)}, the attention was made for the layers "
                f"{list(self.channels)}: no map for {missing}"
            )
        if self.origin is not None:
            self.origin.check(model, self.num_classes)

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
    def load(cls: type[Kind], path: str | os.PathLike[str]) -> Kind:
        """Read what `save` wrote; in eval mode.

        Raises:
            FileNotFoundError: no such file.
            CheckpointError: a damaged, altered or foreign file, or of a mechanism not defined here.
        """
        tensors, record = checkpoint.load(path)
        name = record.get("mechanism")
        kind = mechanisms(cls).get(str(name))
        if kind is None:
            known = "" if name is None else f"; of this kind there are {sorted(mechanisms(cls))}"
            raise CheckpointError(
                f"{path} holds a {name or 'training state'}, not a {cls.__name__}{known}. A "
                "mechanism of your own has to be defined, or imported, before its file is loaded"
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
    def _from_pretrained(cls: type[Kind], *, model_id: str, **download: Any) -> Kind:
        options = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        known = {key: download[key] for key in options if key in download}
        return cls.load(_file_of(model_id, **known))


def mechanisms(base: type[Kind]) -> dict[str, type[Kind]]:
    """Name -> class of `base` and of all that derive from it; of one name the last defined.

    >>> sorted(name for name in mechanisms(AttentionMechanism) if "Attention" in name)[:2]
    ['ConditionedAttention', 'LCAMAttention']
    """
    found = {} if base is AttentionMechanism else {base.__name__: base}
    for kind in base.__subclasses__():
        found |= mechanisms(kind)
    return found


def load_attention(source: AttentionMechanism | str | os.PathLike[str]) -> AttentionMechanism:
    """An attention from a module (returned as it is), a file, a folder or a hub id.

    Raises:
        FileNotFoundError: there is no such file or folder, and it is no hub repository.
        CheckpointError: a damaged, altered or foreign file.
        TypeError: `source` is something else.
    """
    if isinstance(source, AttentionMechanism):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "attention must be an attention module, a path or a hub id, got "
            f"{type(source).__name__}"
        )
    return AttentionMechanism.load(_file_of(source))


def _file_of(source: str | os.PathLike[str], **download: Any) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        return path / WEIGHTS_FILE
    try:
        return Path(hf_hub_download(str(source), WEIGHTS_FILE, **download))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise FileNotFoundError(
            f"no attention at '{source}': it is no file, no folder, and not to be had as a hub "
            f"repository ({type(error).__name__})"
        ) from error
