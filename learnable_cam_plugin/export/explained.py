"""A classifier that returns its prediction and the explanation: a plain module, for deployment."""

import os
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Size, Tensor, nn

from ..attention import (
    AttentionMechanism,
    GivenAttention,
    HeadedAttention,
    gives_logits,
    known_of,
    own_attention,
    raw_class_maps,
    shipped_beside,
)
from ..classifier import (
    FrozenClassifier,
    ReshapeTransform,
    ScoresOf,
    as_feature_maps,
    bare,
    class_indices,
    class_scores,
    device_of,
    first_convolution,
    layer_names,
    size_given,
)
from ..saliency import compiling, saliency
from .noted import Notes, both, copied, evaluated, given_alone, output_alone

SIZES = ("image", "grid")
_SEVERAL = 8  # images, and more, are taken for varied ones that were chosen
_IMAGES = "images, as the first convolution is given them"


class ExplainedClassifier(nn.Module):
    """A classifier and its explanation in one forward pass: images -> (class scores, maps).

    A plain module without hooks: it can be compiled (`torch.compile`), exported (`torch.export`,
    `export_onnx`) and called by several threads. It holds a copy of the model, in eval mode, whose
    tensors share the model's memory until it is moved (`.to`) or converted (`.half`); the model
    stays as it is. It is of the model as it was made of: make it anew after weights were loaded,
    or modules changed (a head that was linearised is of the weights as they were).

    Args:
        model: the classifier, giving class scores (N, K).
        images: a few images (N, C, H, W) as it expects them: they show the layers and the layout of
            what these give. Where its head cannot be applied to single places (VGG's), it is
            linearised on them, once: then 8 to 32 varied ones.
        target_layers, reshape_transform, attention, output, check: as of `LearnableCAM`: attention
            None is the one that comes with the package, "head" is classic CAM.
        top: None explains the most probable class, a number k the k most probable ones.
        size: of the maps: "image", as the images' (H, W), or "grid", the mechanism's own (h, w).
        uint8: maps of 0 to 255, a quarter of the bytes, instead of [0, 1].
        contrast: explains one class rather than another one, as `ContrastTarget` does: the most
            probable class rather than the second, unless `forward` is given pairs of classes.

    Attributes:
        model, attention: the copies.
        layers: names of the layers that are read.

    Raises:
        CheckpointError: the attention was made for another model or other layers.
        ValueError: the model cannot be copied; `top` or `size` is no such thing; or `contrast` with
            `top`, or of a classifier of one score.
        TypeError: `contrast` of an attention that cannot.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ...                     nn.Linear(8, 5))
    >>> explained = ExplainedClassifier(net, torch.rand(2, 3, 32, 40), attention="head",
    ...                                 target_layers=["0"])
    >>> logits, saliency_map = explained(torch.rand(4, 3, 32, 40))
    >>> tuple(logits.shape), tuple(saliency_map.shape)
    ((4, 5), (4, 32, 40))
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        target_layers: Sequence[nn.Module | str] | None = None,
        reshape_transform: ReshapeTransform | None = None,
        attention: AttentionMechanism | str | os.PathLike[str] | None = None,
        output: Callable[[Any], Tensor] | None = None,
        check: bool = True,
        *,
        top: int | None = None,
        size: str = "image",
        uint8: bool = False,
        contrast: bool = False,
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
        model = model if output is None else ScoresOf(model, output)
        images = images.to(device_of(model)) if isinstance(images, Tensor) else images
        with torch.inference_mode(False):
            classifier, found = _bound(
                model, images, target_layers, reshape_transform, attention, check
            )
            outputs, features = classifier.read(images[:2])
            self.num_classes = class_scores(outputs).shape[1]
            if top is not None and not 1 <= top <= self.num_classes:
                raise ValueError(f"top must be 1 to {self.num_classes}, the classes, got {top}")
            if contrast and (top is not None or self.num_classes < 2):
                raise ValueError(
                    "contrast=True explains one class rather than another one: it takes no top, "
                    f"and 2 classes or more, got top={top} and {self.num_classes} classes"
                )
            self.layers = tuple(features)
            if attention is not None and isinstance(found, HeadedAttention):
                found.scores_are_logits = gives_logits(found, features, class_scores(outputs))
            parts = classifier.model, found, dict(classifier.layers), classifier.spreads
            self.model, self.attention, layers, self._spreads = copied(
                parts, [classifier.model, found]
            )
        evaluated(self)
        self.attention.to(device_of(model))
        if contrast:  # one that cannot says so here, and not in the first call
            first = torch.zeros_like(class_scores(outputs)[:, 0], dtype=torch.long)
            self.attention.contrast(features, first, first + 1)
        self.top, self.size, self.uint8, self.contrast = top, size, uint8, contrast
        self._reshape, self._as_grid = reshape_transform, classifier.as_grid
        self._notes, self._watched = Notes(), _watch_names(self._spreads)
        for name, layer in layers.items():
            if name not in self._spreads:
                self._notes.note(name, layer, output_alone)
        for module, name in self._watched.items():
            self._notes.note(name, module, both)
        convolution = first_convolution(self.model.modules())
        if convolution is not None:
            self._notes.note(_IMAGES, convolution, given_alone)

    def train(self, mode: bool = True) -> "ExplainedClassifier":
        """Nothing: it stays in eval mode, as what it explains."""
        return self

    def forward(self, images: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Class scores (N, K), and a map of each image.

        Args:
            images: (N, C, H, W), as the classifier expects them.
            classes: to explain, integers: (N,), one an image; (N, M), several. Below 0 they count
                from the last class. None: the most probable one, or the `top` most probable ones,
                the first first. With `contrast` pairs (N, 2): what speaks for the first rather than
                the second; None: for the most probable class rather than the second.

        Returns:
            the scores, and maps (N, H, W), or (N, M, H, W) of several classes; one map a pair.

        Raises:
            IndexError: a class is out of range; what was compiled or exported has its runtime's
                own error there.
            TypeError, ValueError: classes that are no tensor of integers, or of another shape; a
                class against itself, which is not checked there.
        """
        logits = class_scores(self.model(images))
        seen, size = self._notes.taken(), images.shape[2:]
        features = self._features(seen, size_given(seen.get(_IMAGES), images))
        raw = self._raw_maps(features, logits, classes)
        if self.size == "grid":
            size = max((maps.shape[-len(size) :] for maps in raw), key=prod)
        found = saliency(raw, size)
        return logits, (found * 255).round().to(torch.uint8) if self.uint8 else found

    def _features(self, seen: dict[str, tuple[Any, Any]], size: Size) -> dict[str, Tensor]:
        features = {}
        for name in self.layers:
            if (spread := self._spreads.get(name)) is not None:
                watched = [self._watched[module] for module in spread.watched]
                self._check(name, watched, seen)
                features[name] = spread.maps([seen[key] for key in watched], size)
                continue
            self._check(name, [name], seen)
            given = seen[name][1], self._reshape, size, name in self._as_grid
            features[name] = as_feature_maps(name, *given)
        return features

    def _check(self, name: str, keys: Sequence[str], seen: dict[str, tuple[Any, Any]]) -> None:
        if any(key not in seen for key in keys):
            raise ValueError(
                f"target layer '{name}' did not run in the forward pass of the model's copy: the "
                "model calls the layers of another one, as a function set for its forward does"
            )

    def _raw_maps(
        self, features: dict[str, Tensor], logits: Tensor, classes: Tensor | None
    ) -> list[Tensor]:
        """A layer, or in all, (N, h, w), or (N, M, h, w) of several classes."""
        if classes is None and self.num_classes == 1:  # its sign is the predicted class
            sign = logits[:, 0].sign()
            if self.attention.two_sided:
                return [maps.float() for maps in self.attention(features, (sign < 0).long())]
            raw = self.attention(features, torch.zeros_like(sign, dtype=torch.long))
            return [(m.float() * sign.view(-1, *[1] * (m.ndim - 1))) for m in raw]
        if classes is None:
            top = 2 if self.contrast else self.top
            classes = logits.argmax(1) if top is None else logits.topk(top, 1).indices
        elif compiling():  # values are not known yet
            torch._check(classes.shape[0] == logits.shape[0])  # one length, of one name in a file
            classes = torch.where(classes < 0, classes + self.num_classes, classes)
            # one still below 0 would count from the end again: no runtime takes one beyond it
            classes = torch.where(classes < 0, self.num_classes, classes)
        else:
            given = _checked(classes, logits, self.contrast)
            classes = class_indices(given, self.num_classes)
            if self.contrast and bool((classes[:, 0] == classes[:, 1]).any()):
                raise ValueError(f"a class cannot be held against itself: {given.tolist()}")
        if self.contrast:
            known, pair = known_of(self.attention, logits), classes.unbind(1)
            return [maps.float() for maps in self.attention.contrast(features, *pair, **known)]
        return raw_class_maps(self.attention, features, classes, logits)


def _checked(classes: Any, logits: Tensor, contrast: bool) -> Tensor:
    if not isinstance(classes, Tensor):
        kind = type(classes).__name__
        raise TypeError(f"classes must be a tensor of integers, got {kind}: use torch.tensor")
    count, shape = len(logits), tuple(classes.shape)
    fits = shape == (count, 2) if contrast else len(shape) in (1, 2) and shape[0] == count
    integers = not classes.is_floating_point() and classes.dtype != torch.bool
    if not fits or not integers or not classes.numel():
        expected = f"({count}, 2), pairs" if contrast else f"({count},) or ({count}, M)"
        raise ValueError(
            f"classes must be integers of shape {expected}, got {classes.dtype} of {shape}"
        )
    return classes.to(logits.device)


def _bound(
    model: nn.Module,
    images: Tensor,
    target_layers: Sequence[nn.Module | str] | None,
    reshape_transform: ReshapeTransform | None,
    attention: AttentionMechanism | str | os.PathLike[str] | None,
    check: bool,
) -> tuple[FrozenClassifier, AttentionMechanism]:
    """The classifier with the layers to read, and what explains it."""
    if attention is None:
        named = [] if target_layers is None else target_layers
        return shipped_beside(model, images, named, reshape_transform, len(images) >= _SEVERAL)
    if attention == "head":
        layers = {} if target_layers is None else layer_names(model, target_layers)
        source = own_attention(model, "head", list(layers), reshape_transform)
        classifier = FrozenClassifier(bare(model), layers, reshape_transform=reshape_transform)
        return classifier, source.read(classifier, images)[2]
    given = GivenAttention(model, attention, target_layers, check)
    classifier = FrozenClassifier(bare(model), given.layers, reshape_transform=reshape_transform)
    return classifier, given.attention


def _watch_names(spreads: dict[str, Any]) -> dict[nn.Module, str]:
    """Module -> the key of what it is given and gives, for all that the spreads need."""
    watched = {module: None for spread in spreads.values() for module in spread.watched}
    return {module: f"watched {index}" for index, module in enumerate(watched)}
