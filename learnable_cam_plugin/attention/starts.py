"""Where an attention mechanism starts: from random weights, or from the classifier's own head."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import trange

from ..classifier import (
    FrozenClassifier,
    HeadProbe,
    ReshapeTransform,
    as_feature_maps,
    check_images,
    class_scores,
    core,
    forward_from_layer,
    frozen,
    watching,
)
from .conditioned import ConditionedAttention
from .headed import HeadedAttention
from .lcam import LCAMAttention
from .origin import Origin
from .universal import UniversalAttention


def head_start(
    heads: Mapping[str, nn.Linear | None], features: Mapping[str, Tensor], model: nn.Module
) -> LCAMAttention:
    """Classic CAM (Zhou et al., CVPR 2016) as an attention: W, b = the head's weight and bias.

    Raises:
        ValueError: for a layer the head is not global average pooling and a linear layer.
    """
    other = [name for name, head in heads.items() if head is None]
    if other:
        raise ValueError(
            f"{type(model).__name__} does not go from {other} to its scores by global average "
            "pooling and one linear layer, so its head gives no maps by itself. Pass "
            "attention=calibrate(model, target_layers, images) with a few preprocessed images, "
            "or a trained attention."
        )
    found = [head for head in heads.values() if head is not None]
    channels = {name: features[name].shape[1] for name in heads}
    attention = _blank(channels, found[0].out_features, found[0].weight.device)
    with torch.no_grad():
        for weight, bias, head in zip(attention.weights, attention.biases, found, strict=True):
            weight.copy_(head.weight)
            bias.copy_(head.bias if head.bias is not None else torch.zeros_like(bias))
    attention.origin = Origin.of(model, recipe={"name": "classic-cam", "start": "head"})
    return attention


def _blank(channels: Mapping[str, int], num_classes: int, device: torch.device) -> LCAMAttention:
    """An attention whose weights are to be filled in; no random number is drawn for it."""
    with torch.device("meta"):
        attention = LCAMAttention(channels, num_classes)
    return attention.to_empty(device=device)


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
    attention = LCAMAttention(_channels(features), class_scores(outputs).shape[1])
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

    def make(channels: Mapping[str, int], num_classes: int, head: str | None) -> HeadedAttention:
        return ConditionedAttention(channels, num_classes, width, head, **constants)

    attention = _beside_head(model, target_layers, images, reshape_transform, seed, progress, make)
    attention.origin = Origin.of(model, recipe={"name": "conditioned", "start": "head"})
    return attention  # type: ignore[return-value]


def universal_attention(
    model: nn.Module,
    target_layers: Iterable[nn.Module | str],
    images: Tensor,
    reshape_transform: ReshapeTransform | None = None,
    trained: UniversalAttention | None = None,
    seed: int = 0,
    progress: bool = False,
) -> UniversalAttention:
    """The mechanism that any classifier can be given, beside this one.

    Args, beside those of `condition`:
        trained: beside another classifier; its weights are shared. Without, they are random.

    Returns:
        an attention that is ready to explain `model`, and carries no fingerprint of it.
    """

    def make(channels: Mapping[str, int], num_classes: int, head: str | None) -> HeadedAttention:
        if trained is not None:
            return trained.beside(channels, num_classes, head)
        return UniversalAttention(channels, num_classes, head)

    return _beside_head(  # type: ignore[return-value]
        model, target_layers, images, reshape_transform, seed, progress, make
    )


def _beside_head(
    model: nn.Module,
    target_layers: Iterable[nn.Module | str],
    images: Tensor,
    reshape_transform: ReshapeTransform | None,
    seed: int,
    progress: bool,
    make: Callable[[Mapping[str, int], int, str | None], HeadedAttention],
) -> HeadedAttention:
    """What `make(channels, num_classes, name of the linear head or None)` makes, from `seed`, with
    the classifier's head read; calibrated on the images where it is not a linear layer."""
    classifier = FrozenClassifier.of(model, target_layers, reshape_transform=reshape_transform)
    probe = HeadProbe(model)
    outputs, features = _read_in_order(classifier, probe, images)
    scores, last = class_scores(outputs), list(features)[-1]
    linear = probe.last(scores, features[last].shape[1])
    names = {id(module): name for name, module in core(model).named_modules()}
    head = None if linear is None else names[id(linear)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        attention = make(_channels(features), scores.shape[1], head).to(images.device)
    if linear is None:
        rows = calibrate(model, [last], images, reshape_transform, progress)
        attention.read_head(rows.weights[0], rows.biases[0])
    attention.attach(model, list(features))
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

    outputs, features = classifier.read(images, run)
    scores, order = class_scores(outputs), list(ended)
    read = [name for name in order if probe.head(scores, features[name]) is not None]
    if read and order[-1] not in read:
        order.remove(read[-1])
        order.append(read[-1])
    return outputs, {name: features[name] for name in order}


def calibrate(
    model: nn.Module,
    target_layers: Iterable[nn.Module | str],
    images: Tensor,
    reshape_transform: ReshapeTransform | None = None,
    progress: bool = False,
) -> LCAMAttention:
    """Start from a classifier's head of any shape, linearised on a few images.

    W_y = the gradient of the class score with respect to A, summed over positions and averaged
    over the images; b_y = what is left of the mean score. For a head of global average pooling
    and a linear layer this is its weight and bias exactly, and is then read off without gradients.

    Args:
        model: the classifier.
        target_layers: its layers, as modules or names.
        images: (N, C, H, W), preprocessed; 8 to 32 varied ones are enough.
        reshape_transform: as in pytorch-grad-cam, for layers of tokens.
        progress: show a bar; a head of K classes takes K backward passes through the head.

    Returns:
        an attention with the head's K classes, on the images' device.

    Raises:
        ValueError: the class scores do not depend on a layer's maps, such as the patches of a
            vision transformer after its last block, where the head reads the class token.
    """
    classifier = FrozenClassifier.of(model, target_layers, reshape_transform=reshape_transform)
    probe = HeadProbe(model)
    with torch.inference_mode(False), frozen(model):
        images = check_images(images).detach().clone()
        outputs, features = classifier.read(images, lambda x: probe(classifier.model, x))
        scores = class_scores(outputs)
        heads = {name: probe.head(scores, maps) for name, maps in features.items()}
        if all(head is not None for head in heads.values()):
            return head_start(heads, features, model)
        attention = _blank(_channels(features), scores.shape[1], images.device)
        for name, weight, bias in zip(
            classifier.layers, attention.weights, attention.biases, strict=True
        ):
            gradient = _mean_gradient(classifier, name, images, progress)
            if not bool(gradient.any()):
                raise ValueError(_unread(name))
            with torch.no_grad():
                weight.copy_(gradient)
                mean = features[name].flatten(2).mean((0, 2)).to(weight)
                bias.copy_(scores.float().mean(0) - weight @ mean)
    attention.origin = Origin.of(model, recipe={"name": "calibrated", "start": "head"})
    return attention


def _unread(name: str) -> str:
    return (
        f"the class scores do not depend on the feature maps at '{name}', so the head says nothing "
        "of them and the maps would be blank: take an earlier layer. Where the head reads a class "
        "token, patches count up to what the last block is given: take the block before. (A head "
        "that starts at zero, as torchvision's ViT has, reads none at all. To train there "
        "all the same: start='random'.)"
    )


def _channels(features: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: maps.shape[1] for name, maps in features.items()}


def _mean_gradient(
    classifier: FrozenClassifier, name: str, images: Tensor, progress: bool
) -> Tensor:
    """(K, C): d score_k / d A of the layer, summed over positions, averaged over images."""
    leaf: list[Tensor] = []

    def as_leaf(output: Tensor) -> Tensor:
        leaf.append(output.detach().requires_grad_())
        return leaf[-1].clone()  # what follows may work in place; a leaf must not change

    with torch.enable_grad():
        run = forward_from_layer(classifier.model, classifier.layers[name], as_leaf, images)
        scores, rows = class_scores(run), []
        for k in trange(scores.shape[1], desc=f"calibrating {name}", disable=not progress):
            score, gradient = scores[:, k].sum(), None
            if score.requires_grad:
                (gradient,) = torch.autograd.grad(
                    score, leaf[-1], retain_graph=True, allow_unused=True
                )
            if gradient is None:
                raise ValueError(_unread(name))
            maps = as_feature_maps(name, gradient, classifier.reshape_transform)
            rows.append(maps.flatten(2).sum(2).mean(0))
    return torch.stack(rows)
