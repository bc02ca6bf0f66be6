"""What one pass of a classifier showed, held for `LearnableCAM`, a thread at a time."""

import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .attention import AttentionMechanism
from .classifier import class_scores

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
        outputs, self.features, self.attention = self._read(images)
        self.scores = class_scores(outputs)
        self.outputs = outputs if isinstance(outputs, Tensor) else self.scores
        return self.outputs

    def release(self) -> None:
        self.features, self.scores, self.attention = {}, None, None
