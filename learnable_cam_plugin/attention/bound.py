"""An attention that is bound to a classifier: the layers that it reads there, and the head."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from ..classifier import (
    FrozenClassifier,
    ModuleTree,
    class_scores,
    own_copy,
    same,
    still_gives,
    watching,
)
from .universal import UniversalAttention


class Walked(NamedTuple):
    """What a model is made of, looked for only when a module of it was replaced.

    Attributes:
        tree: its modules.
        root: the classifier itself, inside of wrappers.
        ids: of the modules of that.
    """

    tree: ModuleTree
    root: nn.Module
    ids: list[int]


class Bound(NamedTuple):
    """The shipped attention beside a classifier.

    Attributes:
        classifier: with the layers to read.
        attention: its own.
        state: what of the model they hold for; see `DefaultAttention._state`.
        settled: whether a pass has shown what it was bound by to tell the head's pooling.
    """

    classifier: FrozenClassifier
    attention: UniversalAttention
    state: tuple[list[int], list[int]]
    settled: bool = False

    def read(self, images: Tensor, walked: Walked) -> tuple[Any, dict[str, Tensor], bool]:
        """One pass: the output, the feature maps, and whether the scores are still what the head
        gives that the attention reads, of the mean of the last maps. A weight that is computed, as
        by weight_norm, is read again.
        """
        attention, seen = self.attention, list[Any]()
        if attention.head is None:
            return *self.classifier.read(images, modules=walked.tree.modules), True
        linear: Any = walked.root.get_submodule(attention.head)

        def see(given: Any, output: Any) -> None:
            computed = not {"weight", "bias"} <= linear._parameters.keys()
            seen[:] = [given, own_copy(output), *([linear.weight, linear.bias] if computed else [])]

        with watching([(linear, see)]):
            outputs, features = self.classifier.read(images, modules=walked.tree.modules)
        if not seen:  # it did not run
            return outputs, features, False
        given, output, *computed = seen
        if computed:
            of_scores = attention.scores_are_logits
            attention.read_head(*computed)
            attention.scores_are_logits = of_scores
        name, last = list(features.items())[-1]
        # of what a head is given, spread over the places, that is so
        pooled = name in self.classifier.spreads or same(last[:1].mean((2, 3)), given[:1], slack=3)
        return outputs, features, pooled and still_gives(output, class_scores(outputs))
