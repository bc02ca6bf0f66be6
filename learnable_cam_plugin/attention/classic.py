"""Classic CAM of a classifier as it is now: its head may be trained, replaced, or in doubt."""

from collections.abc import Mapping

from torch import Tensor, nn

from ..classifier import HeadProbe, bare, tells_pooling
from .lcam import LCAMAttention
from .starts import head_start


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
        self, probe: HeadProbe, scores: Tensor, features: Mapping[str, Tensor]
    ) -> LCAMAttention:
        """Of a pass that `probe` saw; see `head_start` for the errors."""
        heads = {name: probe.head(scores, maps) for name, maps in features.items()}
        self.attention = attention = head_start(heads, features, self._model)
        if all(tells_pooling(maps) for maps in features.values()):
            names = {id(module): name for name, module in self._model.named_modules()}
            used = [head for head in heads.values() if head is not None]
            self._seen = [(names[id(head)], head, _state(head)) for head in used]
        return attention


def _state(linear: nn.Linear) -> list[int]:
    numbers = []
    for tensor in (linear.weight, linear.bias):
        if tensor is not None:
            # tensors of inference mode cannot change in place, and count no versions
            version = 0 if tensor.is_inference() else tensor._version
            numbers += [tensor.data_ptr(), version]
    return numbers
