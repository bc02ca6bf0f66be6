"""The attention that comes with the package, beside a classifier as it is now."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..classifier import (
    LOCK,
    FrozenClassifier,
    ReshapeTransform,
    bare,
    core,
    tells_pooling,
)
from .base import AttentionMechanism
from .classic import ClassicHead
from .starts import universal_beside
from .universal import UniversalAttention

UNIVERSAL = Path(__file__).parent / "universal.safetensors"

# the classifier with its layers, the attention beside it, and what of the model they hold for
Bound = tuple[FrozenClassifier, AttentionMechanism, list[int]]
# by model and named layers: the next LearnableCAM of a model needs no passes to find them again
_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[str, ...], Bound]] = WeakKeyDictionary()


@cache
def _shipped() -> UniversalAttention:
    return UniversalAttention.load(UNIVERSAL)


def shipped_attention() -> UniversalAttention:
    """The attention of this package: trained beside several classifiers, for any other.

    It belongs to none: `LearnableCAM(model)` binds it to a model, and `universal_attention(model,
    None, images, trained=shipped_attention())` does so by hand. Beside what it was trained, its
    figures and limits: the model card, `attention/README.md`.
    """
    return _shipped().shared()


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

    @property
    def attention(self) -> AttentionMechanism | None:
        """The one bound last."""
        return self._classic.attention if self._bound is None else self._bound[1]

    def read(
        self, classifier: FrozenClassifier, images: Tensor
    ) -> tuple[Any, dict[str, Tensor], AttentionMechanism]:
        """One pass, but for the first: the output, the feature maps, and the attention. Of volumes
        it is classic CAM, at the layers of `classifier`."""
        if isinstance(images, Tensor) and images.ndim == 5 and classifier.layers:
            return self._classic.read(classifier, images)
        bound = self._bound
        found, attention = self.beside(images)
        outputs, features = found.read(images)
        if self._bound is not bound:
            head = getattr(attention, "head", None)
            if head is not None and not tells_pooling(list(features.values())[-1]):
                self._bound = None  # on this batch every pooling is the mean: the next one decides
            else:
                self._remember()
        return outputs, features, attention

    def beside(self, images: Tensor) -> tuple[FrozenClassifier, AttentionMechanism]:
        """The classifier with the layers to read, and the attention.

        Where its head cannot be applied to single places, it is linearised on these images, once,
        which takes a backward pass a class; a warning says so.

        Raises:
            ValueError: no layer gives feature maps, or the scores do not depend on them.
        """
        if (bound := self._current()) is not None:
            return bound
        with LOCK, torch.inference_mode(False):
            self._recall()
            if (bound := self._current()) is not None:  # another one, or thread, was first
                return bound
            images = images.detach().clone() if images.is_inference() else images
            classifier = FrozenClassifier.found(
                self._model, images, self._named, None, self._reshape
            )
            attention = universal_beside(classifier, images, shipped_attention())
            if attention.head is None and not _is_identity(attention.vectors):
                warnings.warn(
                    f"the head of {type(self._model).__name__} is not applied place by place, so "
                    f"it was linearised on these {len(images)} images, once, by gradients of its "
                    f"{attention.num_classes} classes: pass attention=universal_attention("
                    "model, None, images, trained=shipped_attention()), both of "
                    "learnable_cam_plugin.attention, with 8 to 32 varied images, to choose them",
                    stacklevel=4,
                )
            self._bound = classifier, attention, self._now(attention)
        return classifier, attention

    def _remember(self) -> None:
        """For others of the same model; without the model itself, which nothing here keeps."""
        root, bound = core(self._model), self._bound
        if bound is None or self._reshape is not None or root in bound[0].layers.values():
            return
        classifier = replace(bound[0], model=nn.Identity())
        with LOCK:
            known = _KNOWN.setdefault(root, {})
            known[tuple(self._named)] = classifier, bound[1].shared(), bound[2]

    def _recall(self) -> None:
        known = _KNOWN.get(core(self._model), {}).get(tuple(self._named))
        if known is not None and self._bound is None and self._reshape is None:
            classifier, attention, state = known
            self._bound = replace(classifier, model=self._model), attention.shared(), state

    def _current(self) -> tuple[FrozenClassifier, AttentionMechanism] | None:
        bound = self._bound
        return bound[:2] if bound is not None and bound[2] == self._now(bound[1]) else None

    def _now(self, attention: AttentionMechanism) -> list[int]:
        """What changes when what was read is no longer the model's: weights that are read in place
        are followed by themselves, a linearised head belongs to all of them as they were."""
        root, head = core(self._model), getattr(attention, "head", None)
        if head is None:
            read = chain(self._model.parameters(), self._model.buffers())
            state = [n for p in read for n in (p.data_ptr(), _version(p))]
        else:
            try:
                state = [tensor.data_ptr() for tensor in root.get_submodule(head).parameters()]
            except AttributeError:  # there is no head of that name any more
                state = []
        return [*_identities(root), *state]


def _identities(root: nn.Module) -> list[int]:
    """Of all modules; in a quarter of the time of `modules()`, which is of every call."""
    found, left = [], [root]
    while left:
        module = left.pop()
        found.append(id(module))
        left += [child for child in module._modules.values() if child is not None]
    return found


def _is_identity(rows: Tensor) -> bool:
    return torch.equal(rows, torch.eye(*rows.shape).to(rows))


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
