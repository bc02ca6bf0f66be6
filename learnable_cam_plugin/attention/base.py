"""What every attention mechanism has: its layers, its origin, its file; and the way from a file."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import HfApi, ModelCard, ModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from ..atomic import atomic_path
from ..checkpoint import CheckpointError, save
from ..classifier import core, core_name
from ..wording import warn
from .card import model_card, write_card
from .files import check_numbers, declared, read
from .hub import HUB, WEIGHTS_FILE, check_folder, hub_file, local_file, names_the_hub
from .origin import Origin
from .twin import twin

Kind = TypeVar("Kind", bound="AttentionMechanism")


class AttentionMechanism(nn.Module, ModelHubMixin):
    """Feature maps -> raw class activation maps. Only this is trained.

    A mechanism of your own is a subclass, which a file's record names: defining it is enough for
    `load_attention` to find it. Its constructor takes `channels`, `num_classes`, and what
    `settings` returns. To load a file it is called twice, first under `torch.device("meta")`: what
    the file declares is compared with what it holds before memory is taken for it.

    Args:
        channels: layer name -> C, its number of channels.
        num_classes: K.

    Attributes:
        origin: what it was made for (`Origin`), or None.
        source: the file that it was read from: a path, or 'hf://owner/name@<commit hash>'; or None.
        fuses: whether it makes one map of all its layers, and so needs all of them, or a map of
            each layer that it is given.
        contrasts: whether `classes` may be weights of all classes, floating-point (N, K), too: a
            map of the same weighted difference of classes, as FinerCAM asks for.
        several: whether `classes` may be (N, M), with maps (N, M, ...), too.
        two_sided: whether class 1 of a single score is what speaks against it; else its map turned.
    """

    fuses = False
    contrasts = False
    several = False
    two_sided = False

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
        self.source: str | None = None

    def forward(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        """The raw maps of one class an image.

        Args:
            features: layer name -> (N, C, h, w) or (N, C, d, h, w).
            classes: (N,), integers in [0, K).

        Returns:
            (N, h, w) or (N, d, h, w), any sign: one for each layer, or one in all if it fuses.
        """
        raise NotImplementedError

    def contrast(
        self, features: Mapping[str, Tensor], classes: Tensor, against: Tensor
    ) -> list[Tensor]:
        """The raw maps of what speaks for classes A (N,) `against` others B (N,): of v_A - v_B, v
        the vectors that the classes are known by. TypeError if it cannot: see `contrasts`."""
        if not self.contrasts:
            raise TypeError(
                f"a {type(self).__name__} cannot contrast a class with another one: pass "
                "attention=None, the attention of the package, or calibrate(...), which can"
            )
        one, other = (F.one_hot(which.long(), self.num_classes) for which in (classes, against))
        return self(features, (one - other).float())

    def among(
        self, features: Mapping[str, Tensor], classes: Tensor, without: Tensor
    ) -> list[Tensor]:
        """The raw maps of classes (N,) as if others, `without` (N,), did not compete with them:
        those of two look-alikes then cover one place. Where none competes, the class's own."""
        return self(features, classes)

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
        fused = {name: core(model).get_submodule(name) for name in self.channels if self.fuses}
        return fused or dict(layers)

    def shared(self: Kind) -> Kind:
        """The same parameters, beside another model: names, buffers and modes are its own."""
        return twin(self)

    def attach(self, model: nn.Module, layers: Sequence[str]) -> None:
        """Make ready, in eval mode, to explain `model` at `layers`; see `check_model`."""
        # some files name layers as the wrapped classifier does
        self.channels = {core_name(model, name): c for name, c in self.channels.items()}
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
            self.origin.check(model)
        modules = dict(core(model).named_modules())
        absent = [name for name in self.channels if self.fuses and name not in modules]
        if absent:
            raise CheckpointError(
                f"the attention reads the layers {list(self.channels)}, and the "
                f"{type(core(model)).__name__} has no {absent}"
            )

    # Files: one self-describing safetensors file, alone or in a folder or hub repository.

    def _record(self) -> dict[str, Any]:
        return {
            "mechanism": type(self).__name__,
            "channels": list(self.channels.items()),
            "num_classes": self.num_classes,
            "settings": self.settings(),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the attention and its origin to one safetensors file, atomically.

        Raises:
            CheckpointError: weights that are NaN or infinite, or of another kind than is read.
            OSError: the file cannot be written, naming it; an old file there is as it was.
        """
        record, tensors = self._record(), self.state_dict()
        try:
            declared(record)
            check_numbers(tensors)
        except ValueError as error:
            raise CheckpointError(f"{path} was not written: {error}") from error
        record["origin"] = dataclasses.asdict(self.origin) if self.origin else None
        save(path, tensors, record)

    @classmethod
    def load(cls: type[Kind], path: str | os.PathLike[str]) -> Kind:
        """Read what `save` wrote; on the CPU, in eval mode, in the precision it was saved in.

        Raises:
            FileNotFoundError: no such file.
            CheckpointError: a damaged, altered or foreign file, or of a mechanism not defined here.
        """
        attention, origin = read(path, mechanisms(cls), cls.__name__)
        attention.origin = origin
        attention.source = os.path.abspath(path)
        return attention.eval()

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        config: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write a folder: the file, a model card (README.md), and config.json for the hub's pages.

        Each is written atomically. A card that somebody wrote or changed is kept, with a warning; a
        folder of another model is a FileExistsError.

        Args:
            save_directory: the folder.
            config: what config.json holds, if not the mechanism's name, layers and settings.
            repo_id, push_to_hub, push_to_hub_kwargs: as of `huggingface_hub.ModelHubMixin`.
            model_card_kwargs: of the card: `data` (what it was trained on, in words), `license`,
                and what `huggingface_hub.ModelCardData` takes (base_model, datasets, ...).

        Returns:
            the address of the commit, if it was pushed.
        """
        folder, about = Path(save_directory), dict(model_card_kwargs or {})
        check_folder(folder)
        card = self.generate_model_card(**{"source": folder.name, **about})
        text = json.dumps(self._record() if config is None else config, sort_keys=True, indent=2)
        self.save(folder / WEIGHTS_FILE)
        with atomic_path(folder / "config.json") as temporary:
            temporary.write_text(text, encoding="utf-8")
        if not write_card(folder, card):
            warn(
                f"{folder / 'README.md'} was written or changed by somebody, and is kept: see that "
                "it describes this attention, or remove it before the next save_pretrained"
            )
        if not push_to_hub:
            return None
        options = {**push_to_hub_kwargs, "config": config, "model_card_kwargs": about}
        return self.push_to_hub(repo_id or folder.name, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Save to a hub repository, 'owner/name' or your own 'name'; options as ModelHubMixin's."""
        if "/" not in repo_id:  # the card says from where it is loaded
            repo_id = f"{HfApi(token=options.get('token')).whoami()['name']}/{repo_id}"
        about = {"source": HUB + repo_id, **(options.pop("model_card_kwargs", None) or {})}
        return super().push_to_hub(repo_id, model_card_kwargs=about, **options)

    def generate_model_card(self, *args: Any, **about: Any) -> ModelCard:
        """The model card; see `save_pretrained` for what it takes."""
        last = list(self.channels)[-1]
        return model_card(
            type(self).__name__,
            sum(p.numel() for p in self.parameters()),
            self.channels,
            self.num_classes,
            self.origin,
            [last] if self.fuses else list(self.channels),
            *args,
            **about,
        )

    @classmethod
    def from_pretrained(
        cls: type[Kind],
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        **download: Any,
    ) -> Kind:
        """From the Hugging Face hub, 'owner/name', or from a folder or file.

        A name goes to the hub if it is 'hf://owner/name', or a string 'owner/name' with no folder
        'owner' here; never a `Path`, an absolute path, or what ends in .safetensors.

        Args:
            pretrained_model_name_or_path: the name.
            revision: a branch, tag or commit hash of the repository.
            download: cache_dir, force_download, local_files_only and token, as of huggingface_hub.

        Raises:
            FileNotFoundError: there is no such folder, file or repository.
            CheckpointError: a damaged, altered or foreign file.
        """
        name = pretrained_model_name_or_path
        if not names_the_hub(name):
            if revision is not None:
                raise ValueError(f"revision={revision!r} is for the hub, '{name}' is a path")
            return cls.load(local_file(name))
        path, source = hub_file(str(name), revision, **download)
        attention = cls.load(path)
        attention.source = source
        return attention


def mechanisms(base: type[Kind]) -> dict[str, type[Kind]]:
    """Name -> class of `base` and of all that derive from it; of one name the last defined.

    >>> sorted(name for name in mechanisms(AttentionMechanism) if "CAM" in name)
    ['LCAMAttention']
    """
    found = {} if base is AttentionMechanism else {base.__name__: base}
    for kind in base.__subclasses__():
        found |= mechanisms(kind)
    return found
