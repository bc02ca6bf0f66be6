"""Classic CAM of a classifier as it is now: its head may be trained, replaced, or in doubt."""

from functools import partial
from typing import Any

from torch import Tensor, nn

from ..classifier import (
    FrozenClassifier,
    HeadProbe,
    bare,
    class_scores,
    evaluating,
    tells_pooling,
    tensor_states,
)
from .calibration import head_start
from .lcam import LCAMAttention


class ClassicHead:
    """The classifier's own head as an attention, read anew whenever it may have changed.

    A batch on which every pooling gives the same (zeros, 1x1 maps) cannot tell that the head is
    global average pooling and a linear layer: then the next one decides again. So it does after the
    head was replaced, moved or changed in place, unless past autograd's back (`weight.data`).

    Attributes:
        attention: the one read last.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = bare(model)
        self._seen: list[tuple[str, nn.Linear, list[int]]] = []
        self.attention: LCAMAttention | None = None

    def settled(self) -> bool:
        """Whether the head read last is, beyond doubt, the model's still."""
        return bool(self._seen) and all(
            self._model.get_submodule(name) is linear and _state(linear) == then
            for name, linear, then in self._seen
        )

    def read(
        self, classifier: FrozenClassifier, images: Tensor
    ) -> tuple[Any, dict[str, Tensor], LCAMAttention]:
        """One pass: the output, the feature maps, and the attention; see `head_start` for the
        errors."""
        if self.attention is not None and self.settled():
            return *classifier.read(images), self.attention
        probe = HeadProbe(classifier.model)
        outputs, features = classifier.read(images, partial(probe, classifier.model))
        scores = class_scores(outputs)
        heads = {name: probe.head(scores, maps) for name, maps in features.items()}
        with evaluating(self._model):  # a weight that is computed may be another in training
            self.attention = attention = head_start(heads, features, self._model)
        if all(tells_pooling(maps) for maps in features.values()):
            names = {id(module): name for name, module in self._model.named_modules()}
            used = [head for head in heads.values() if head is not None]
            self._seen = [(names[id(head)], head, _state(head)) for head in used]
        return outputs, features, attention


def _state(linear: nn.Linear) -> list[int]:
    """Of the tensors that are there: to ask for a weight that is computed can change the layer."""
    plain = [value for value in vars(linear).values() if isinstance(value, Tensor)]
    return tensor_states([*linear.parameters(), *linear.buffers(), *plain])
