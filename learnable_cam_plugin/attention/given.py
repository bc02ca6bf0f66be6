"""A trained attention, beside the classifier that it is to explain."""

import os
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..checkpoint import CheckpointError
from ..classifier import FrozenClassifier, core, layer_names
from .base import AttentionMechanism
from .headed import HeadedAttention
from .origin import Watch
from .source import load_attention


class GivenAttention:
    """An attention that was given, made ready for a model; each pass checks that the model is still
    the one it was made for.

    Args:
        model: the classifier.
        attention: see `load_attention`. Of a module the parameters are shared, the rest is copied.
        target_layers: those it explains at, as modules or names; None takes its own.
        check: False takes one that was made for other weights.

    Attributes:
        attention: the copy.
        target_layers: name -> module.
        layers: name -> module of those that are read: of an attention that fuses, all of its own.

    Raises:
        CheckpointError: it was made for another model or other layers; `read` raises it too.
        FileNotFoundError: there is no such file, folder or repository.
    """

    def __init__(
        self,
        model: nn.Module,
        attention: AttentionMechanism | str | os.PathLike[str],
        target_layers: Sequence[nn.Module | str] | None = None,
        check: bool = True,
    ) -> None:
        self.attention = given = load_attention(attention).shared()
        given.origin = given.origin if check else None
        if target_layers is None:
            self.target_layers = _own_layers(given, model)
        else:
            self.target_layers = layer_names(model, target_layers)
        given.attach(model, list(self.target_layers))
        self.layers = given.layers_to_read(self.target_layers, model)
        self._watch, self._model = Watch(given.origin, model), model

    def read(
        self, classifier: FrozenClassifier, images: Tensor
    ) -> tuple[Any, dict[str, Tensor], AttentionMechanism]:
        """One pass: the output, the feature maps, and the attention."""
        self.check()
        return *classifier.read(images), self.attention

    def check(self) -> None:
        """Refuse a model that is another now; read its head, where that is another."""
        self._watch.check()
        if isinstance(self.attention, HeadedAttention):
            self.attention.follow(self._model)


def _own_layers(given: AttentionMechanism, model: nn.Module) -> dict[str, nn.Module]:
    try:
        return layer_names(model, list(given.channels))
    except ValueError as error:
        raise CheckpointError(
            f"the attention reads the layers {list(given.channels)} of its classifier, and the "
            f"{type(core(model)).__name__} has not all of them: it was made for another one"
        ) from error
