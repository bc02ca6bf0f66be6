"""The attention that comes with the package, beside a classifier as it is now."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Size, Tensor, nn

from ..classifier import (
    LOCK,
    FrozenClassifier,
    ModuleTree,
    ReshapeTransform,
    StaleError,
    bare,
    core,
    modules_of,
    tell_of_moved_images,
    tells_pooling,
    tensor_states,
)
from .base import AttentionMechanism
from .bound import Bound, Walked
from .classic import ClassicHead
from .shipped import shipped_beside
from .universal import UniversalAttention

# by model and named layers: the next LearnableCAM of a model needs no passes to find them again
_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[str, ...], Bound]] = WeakKeyDictionary()
# by model: of images that it was asked of whether it moves them
_SIZES: WeakKeyDictionary[nn.Module, set[Size]] = WeakKeyDictionary()


def own_attention(
    model: nn.Module,
    attention: object,
    named: Sequence[str],
    reshape_transform: ReshapeTransform | None,
) -> "ClassicHead | DefaultAttention":
    """What explains a classifier by itself: classic CAM for "head", for None `DefaultAttention`."""
    if attention == "head":
        if not named:
            raise ValueError("attention='head' needs target_layers: the layer that the head pools")
        return ClassicHead(model)
    return DefaultAttention(model, named, reshape_transform)


class DefaultAttention:
    """The shipped attention, bound to a classifier at its first images, and again whenever a module
    of it was replaced or its head moved. Another one of the same model finds it bound.

    Images so small that the head reads one place of them have a binding of their own, at an earlier
    layer, for their size alone.

    Args:
        model: the classifier.
        named: layers to read in place of the finer one that a pass shows; see `find_layers`.
        reshape_transform: as in pytorch-grad-cam.
    """

    def __init__(
        self, model: nn.Module, named: Sequence[str], reshape_transform: ReshapeTransform | None
    ) -> None:
        self._model, self._named, self._reshape = bare(model), list(named), reshape_transform
        self._classic = ClassicHead(model)
        self._bound: Bound | None = None
        self._sizes = _SIZES.setdefault(self._model, set())
        self._small: dict[Size, Bound] = {}
        self._last: Bound | None = None
        self._walked: Walked | None = None

    @property
    def attention(self) -> AttentionMechanism | None:
        """The one that explained last."""
        return self._classic.attention if self._last is None else self._last.attention

    def read(
        self, classifier: FrozenClassifier, images: Tensor
    ) -> tuple[Any, dict[str, Tensor], AttentionMechanism]:
        """One pass, but for the first: the output, the feature maps, and the attention. Of volumes
        it is classic CAM, at the layers of `classifier`."""
        if isinstance(images, Tensor) and images.ndim == 5 and classifier.layers:
            return self._classic.read(classifier, images)
        walked = self._walk()
        bound = self._current(walked, images) or self._bind(images, walked)
        try:
            outputs, features, same = bound.read(images, walked)
        except StaleError:
            same = False
        if not same:  # the model gives another head's scores now, or another model's `output` does
            self._forget(bound)
            bound = self._bind(images, walked)
            outputs, features, _ = bound.read(images, walked)
        last = list(features.values())[-1]
        one_place = last.shape[2:].numel() == 1
        if one_place and (small := self._bind_small(images, walked, bound)) is not None:
            bound = small
            outputs, features, _ = bound.read(images, walked)
        elif bound is self._bound and not bound.settled:
            if bound.attention.head is not None and not tells_pooling(last):
                self._bound = None  # on this batch every pooling is the mean: the next one decides
            else:
                self._bound = bound._replace(settled=True)
                self._remember(self._bound)
        self._last = bound
        if images.shape[2:] not in self._sizes:  # bound by a model inside, or another size
            self._sizes.add(images.shape[2:])
            tell_of_moved_images(self._model, images)
        return outputs, features, bound.attention

    def _bind(self, images: Tensor, walked: Walked) -> Bound:
        """The attention beside the model as it is now, with the layers to read.

        Where its head cannot be applied to single places, it is linearised on these images, once,
        which takes a backward pass a class; a warning says so.

        Raises:
            ValueError: no layer gives feature maps, or the scores do not depend on them.
        """
        with LOCK, torch.inference_mode(False):
            self._recall()
            bound = self._current(walked, images)
            if bound is None:  # else another one, or thread, was first
                bound = self._look(images, walked)
                if bound.classifier.one_place:
                    self._small[images.shape[2:]] = bound
                else:
                    self._bound = bound
        return bound

    def _bind_small(self, images: Tensor, walked: Walked, bound: Bound) -> Bound | None:
        """At an earlier layer, for images of which what is `bound` reads one place; None where
        nothing else is found."""
        with LOCK, torch.inference_mode(False):
            if images.shape[2:] in self._small:
                return None
            self._small[images.shape[2:]] = bound
            try:
                small = self._look(images, walked)
            except ValueError:  # no layer gives more: the map is constant, and that is warned of
                return None
            self._small[images.shape[2:]] = small
            return small

    def _look(self, images: Tensor, walked: Walked) -> Bound:
        if isinstance(images, Tensor) and images.is_inference():
            images = images.detach().clone()
        self._sizes.add(images.shape[2:])
        found = shipped_beside(self._model, images, self._named, self._reshape)
        return Bound(*found, self._state(found[1], walked))

    def _remember(self, bound: Bound) -> None:
        """For others of the same model; without the model itself, which nothing here keeps."""
        root = core(self._model)
        if not self._shares(bound) or root in bound.classifier.layers.values():
            return
        classifier = replace(bound.classifier, model=nn.Identity())
        with LOCK:
            known = _KNOWN.setdefault(root, {})
            own = bound.attention.shared()
            known[tuple(self._named)] = bound._replace(classifier=classifier, attention=own)

    def _shares(self, bound: Bound) -> bool:
        """Whether it is for others of the same model, or from them: a linearised head is of what a
        wrapper makes of the output, and a `reshape_transform` is each one's own."""
        whole = bound.attention.head is not None or core(self._model) is self._model
        return whole and self._reshape is None

    def _forget(self, bound: Bound) -> None:
        with LOCK:
            self._bound = None if self._bound is bound else self._bound
            self._small = {size: one for size, one in self._small.items() if one is not bound}
            _KNOWN.get(core(self._model), {}).pop(tuple(self._named), None)

    def _recall(self) -> None:
        known = _KNOWN.get(core(self._model), {}).get(tuple(self._named))
        if known is not None and self._bound is None and self._shares(known):
            classifier = replace(known.classifier, model=self._model)
            self._bound = known._replace(classifier=classifier, attention=known.attention.shared())

    def _walk(self) -> Walked:
        walked = self._walked
        if walked is None or not walked.tree.holds():
            tree, root = ModuleTree(self._model), core(self._model)
            inside = tree.modules if root is self._model else modules_of(root)
            self._walked = walked = Walked(tree, root, [*map(id, inside)])
        return walked

    def _current(self, walked: Walked, images: Tensor) -> Bound | None:
        """What is bound, for images of this size, if it holds for the model as it is."""
        small = self._small.get(images.shape[2:]) if isinstance(images, Tensor) else None
        bound = small or self._bound
        if bound is None or bound.state != self._state(bound.attention, walked):
            return None
        return bound

    def _state(self, attention: UniversalAttention, walked: Walked) -> tuple[list[int], list[int]]:
        """What changes when what was read is no longer the model's: modules, and weights. Those
        that are read in place are followed by themselves, a linearised head belongs to all of them
        as they were."""
        head = attention.head
        if head is None:
            state = tensor_states(chain(self._model.parameters(), self._model.buffers()))
        else:
            try:
                linear = walked.root.get_submodule(head)
                # of a module without others, `parameters()` takes three times as long
                own = linear.parameters() if linear._modules else linear._parameters.values()
                state = [hash((t.data_ptr(), t.shape, t.stride())) for t in own if t is not None]
            except AttributeError:  # there is no head of that name any more
                state = []
        return walked.ids, state
