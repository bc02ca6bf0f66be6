"""What one pass of a classifier showed, held for `LearnableCAM`, a thread at a time."""

import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .attention import AttentionMechanism, UniversalAttention
from .classifier import check_finite, class_scores, tell_of_constant

Read = Callable[[Tensor], tuple[Any, dict[str, Tensor], AttentionMechanism]]


class Recorder(threading.local):
    """Stands where BaseCAM keeps ActivationsAndGradients: FinerCAM and others call it there.

    It hooks the layers for one call only, keeps the maps on their device, and makes no graph. What
    it holds between two calls is each thread's own.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self.gradients: list[Tensor] = []
        self.outputs: Any = None
        self.features: dict[str, Tensor] = {}
        self.scores: Any = None  # between two calls there is none
        self.attention: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Recorder, (self._read,)  # a copy has seen nothing yet

    @property
    def activations(self) -> list[Tensor]:
        return list(self.features.values())

    def __call__(self, images: Tensor) -> Tensor:
        self.release()
        outputs, features, attention = self._read(images)
        scores = class_scores(outputs)
        if scores.shape[1] != attention.num_classes:
            raise ValueError(
                f"the model gives {scores.shape[1]} class scores, the attention explains "
                f"{attention.num_classes} classes: it was made for another model"
            )
        self.features, self.scores, self.attention = features, scores, attention
        self.outputs = outputs if isinstance(outputs, Tensor) else scores
        return self.outputs

    def check(self, raw_maps: list[Tensor]) -> None:
        """Refuse raw maps of this pass that are not finite; warn of constant ones."""
        check_finite(raw_maps, self.scores, self.features, self.attention)
        read = self.features
        if isinstance(self.attention, UniversalAttention):  # places differ in what the head reads
            read = {name: read[name] for name in list(self.attention.channels)[-1:]}
        tell_of_constant(raw_maps, read)

    def release(self) -> None:
        self.features, self.scores, self.attention = {}, None, None
