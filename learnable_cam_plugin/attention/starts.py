"""Where an attention mechanism starts: from random weights, or from the classifier's own head."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..classifier import (
    FrozenClassifier,
    HeadProbe,
    ReshapeTransform,
    class_scores,
    core,
    watching,
)
from .calibration import calibrate, channels_of
from .conditioned import ConditionedAttention
from .headed import HeadedAttention, gives_logits
from .lcam import LCAMAttention
from .origin import Origin
from .universal import UniversalAttention

Kind = TypeVar("Kind", bound=HeadedAttention)


def random_attention(
    model: nn.Module,
    target_layers: Iterable[nn.Module | str],
    images: Tensor,
    reshape_transform: ReshapeTransform | None = None,
) -> LCAMAttention:
    """The paper's start: a 1x1 convolution with random weights (seeded by torch.manual_seed).

    Args: as of `calibrate`; any images that the model takes do, one pass shows C and K.
    """
    classifier = FrozenClassifier.of(model, target_layers, reshape_transform=reshape_transform)
    outputs, features = classifier.read(images)
    attention = LCAMAttention(channels_of(features), class_scores(outputs).shape[1])
    attention.origin = Origin.of(model, recipe={"name": "random", "start": "random"})
    return attention.to(images.device)


def condition(
    model: nn.Module,
    target_layers: Iterable[nn.Module | str],
    images: Tensor,
    reshape_transform: ReshapeTransform | None = None,
    width: int = 64,
    seed: int = 0,
    progress: bool = False,
    **constants: float,
) -> ConditionedAttention:
    """The start of an attention that all classes share, conditioned on the classifier's head.

    Args, beside those of `calibrate`, which it calls where the head has to be:
        target_layers: the one that the head reads; with an earlier one of a finer grid the maps
            are as fine. In any order: the attention has them in that of the forward pass, the one
            that the head reads last.
        width: channels of the mechanism.
        seed: of its weights.
        constants: of the mechanism, see `MapSettings`.

    Returns:
        an attention that is ready to explain `model`: before training, about as classic CAM does.
    """

    def make(
        channels: Mapping[str, int], num_classes: int, head: str | None
    ) -> ConditionedAttention:
        return ConditionedAttention(channels, num_classes, width, head, **constants)

    def linear(probe: HeadProbe, scores: Tensor, maps: Tensor) -> nn.Linear | None:
        return probe.last(scores, maps.shape[1])

    classifier = FrozenClassifier.of(model, target_layers, None, reshape_transform)
    attention = _beside_head(classifier, images, seed, progress, make, linear)
    attention.origin = Origin.of(model, recipe={"name": "conditioned", "start": "head"})
    return attention


def universal_attention(
    model: nn.Module,
    target_layers: Iterable[nn.Module | str] | None,
    images: Tensor,
    reshape_transform: ReshapeTransform | None = None,
    trained: UniversalAttention | None = None,
    seed: int = 0,
    progress: bool = False,
) -> UniversalAttention:
    """The mechanism that any classifier can be given, beside this one.

    Args, beside those of `condition`:
        target_layers: these exactly; None takes those that a pass shows, see `find_layers`.
        trained: beside another classifier; its weights are shared. Without, they are random.

    Returns:
        an attention that is ready to explain `model`. It carries no fingerprint of it, unless its
        head is linearised: those rows are of its weights as they are, and refused beside others.
    """
    if target_layers is None:
        found = FrozenClassifier.found(model, images, (), None, reshape_transform)
    else:
        found = FrozenClassifier.of(model, target_layers, None, reshape_transform)
    attention = universal_beside(found, images, trained, seed, progress)
    if attention.head is None and not is_identity(attention.vectors):
        attention.origin = Origin.of(model, recipe={"name": "universal", "start": "linearised"})
    return attention


def is_identity(rows: Tensor) -> bool:
    """Whether class vectors (K, C) say that each channel is a class, as of a head that only pools:
    that is of no weights."""
    return torch.equal(rows, torch.eye(*rows.shape).to(rows))


def universal_beside(
    classifier: FrozenClassifier,
    images: Tensor,
    trained: UniversalAttention | None = None,
    seed: int = 0,
    progress: bool = False,
) -> UniversalAttention:
    """`universal_attention` of a classifier with its layers."""

    def make(channels: Mapping[str, int], num_classes: int, head: str | None) -> UniversalAttention:
        if trained is not None:
            return trained.beside(channels, num_classes, head)
        return UniversalAttention(channels, num_classes, head)

    def linear(probe: HeadProbe, scores: Tensor, maps: Tensor) -> nn.Linear | None:
        return probe.head(scores, maps)  # only where the maps are what it reads

    return _beside_head(classifier, images, seed, progress, make, linear)


def _beside_head(
    classifier: FrozenClassifier,
    images: Tensor,
    seed: int,
    progress: bool,
    make: Callable[[Mapping[str, int], int, str | None], Kind],
    linear_of: Callable[[HeadProbe, Tensor, Tensor], nn.Linear | None],
) -> Kind:
    """What `make(channels, num_classes, name of the linear head or None)` makes, from `seed`, with
    the classifier's head read; calibrated on the images where it is not a linear layer."""
    model, probe = classifier.model, HeadProbe(classifier.model)
    outputs, features = _read_in_order(classifier, probe, images)
    scores, last = class_scores(outputs), list(features)[-1]
    linear = linear_of(probe, scores, features[last])
    names = {id(module): name for name, module in core(model).named_modules()}
    head = None if linear is None else names[id(linear)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        attention = make(channels_of(features), scores.shape[1], head).to(images.device)
    if linear is None:
        reshape = None if last in classifier.as_grid else classifier.reshape_transform
        rows = calibrate(model, [last], images, reshape, progress)
        attention.read_head(rows.weights[0], rows.biases[0])
    attention.attach(model, list(features))
    same = linear is not None and probe.untouched(linear, scores)
    attention.scores_are_logits = same and gives_logits(attention, features, scores)
    return attention


def _read_in_order(
    classifier: FrozenClassifier, probe: HeadProbe, images: Tensor
) -> tuple[Any, dict[str, Tensor]]:
    """`classifier.read` with the layers in the order in which they ended, but last the one whose
    pooled maps the head reads, where `probe` tells."""
    ended: dict[str, None] = {}

    def note(name: str, *_: Any) -> None:
        ended.pop(name, None)  # of several runs the last one counts
        ended[name] = None

    def run(given: Tensor) -> Any:
        with watching((layer, partial(note, name)) for name, layer in classifier.layers.items()):
            return probe(classifier.model, given)

    outputs, features = classifier.read(images.clone(), run)  # it may work in place on them
    scores, order = class_scores(outputs), list(ended)
    read = [name for name in order if probe.head(scores, features[name]) is not None]
    # of several, as a layer and the pooling after it, one that has places
    read.sort(key=lambda name: features[name].shape[2:].numel() > 1)
    if read and order[-1] != read[-1]:
        order.remove(read[-1])
        order.append(read[-1])
    return outputs, {name: features[name] for name in order}
