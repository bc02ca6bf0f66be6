"""The classifier's own head as an attention: read off, or linearised on a few images."""

from collections.abc import Iterable, Mapping

import torch
from torch import Size, Tensor, nn
from torch.nn.functional import one_hot
from tqdm.auto import trange

from ..classifier import (
    FrozenClassifier,
    HeadProbe,
    ReshapeTransform,
    as_feature_maps,
    check_images,
    class_scores,
    forward_from_layer,
    frozen,
    tells_pooling,
)
from .lcam import LCAMAttention
from .origin import Origin

_TOGETHER = 64  # images times classes in one backward pass


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
    for weight, bias, head in zip(attention.weights, attention.biases, found, strict=True):
        _read_off(head, weight, bias)
    attention.origin = Origin.of(model, recipe={"name": "classic-cam", "start": "head"})
    return attention


@torch.no_grad()
def _read_off(head: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    weight.copy_(head.weight)
    bias.copy_(head.bias if head.bias is not None else torch.zeros_like(bias))


def _blank(channels: Mapping[str, int], num_classes: int, device: torch.device) -> LCAMAttention:
    """An attention whose weights are to be filled in; no random number is drawn for it."""
    with torch.device("meta"):
        attention = LCAMAttention(channels, num_classes)
    return attention.to_empty(device=device)


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
    and a linear layer this is its weight and bias exactly, and is then read off without gradients;
    so is the identity, for one of pooling alone, as SqueezeNet has.

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
        images = check_images(images).detach()  # each pass has a copy: it may work in place on it
        outputs, features = classifier.read(images.clone(), lambda x: probe(classifier.model, x))
        scores = class_scores(outputs)
        heads = {name: probe.head(scores, maps) for name, maps in features.items()}
        if all(head is not None for head in heads.values()):
            return head_start(heads, features, model)
        attention = _blank(channels_of(features), scores.shape[1], images.device)
        for name, weight, bias in zip(
            classifier.layers, attention.weights, attention.biases, strict=True
        ):
            if (head := heads[name]) is not None:
                _read_off(head, weight, bias)
                continue
            if _pools_to(features[name], scores):
                with torch.no_grad():
                    weight.copy_(torch.eye(len(weight)))
                    bias.zero_()
                continue
            grid = features[name].shape[2:]
            gradient = _mean_gradient(classifier, name, images, grid, progress)
            if not bool(gradient.any()):
                raise ValueError(_unread(name))
            with torch.no_grad():
                weight.copy_(gradient)
                mean = features[name].flatten(2).mean((0, 2)).to(weight)
                bias.copy_(scores.float().mean(0) - weight @ mean)
    attention.origin = Origin.of(model, recipe={"name": "calibrated", "start": "head"})
    return attention


def _pools_to(maps: Tensor, scores: Tensor) -> bool:
    pooled = maps.flatten(2).mean(2)
    close = 1e-4 * float(pooled.abs().max())
    same = pooled.shape == scores.shape and tells_pooling(maps)
    return same and torch.allclose(pooled.to(scores), scores, rtol=1e-3, atol=close)


def _unread(name: str) -> str:
    return (
        f"the class scores do not depend on the feature maps at '{name}', so the head says nothing "
        "of them and the maps would be blank: take an earlier layer. Where the head reads a class "
        "token, patches count up to what the last block is given: take the block before. Where the "
        "classifier itself cuts gradients, with torch.no_grad(), .detach() or a quantised layer, "
        "let it keep them, or pass a trained attention. (A head "
        "that starts at zero, as torchvision's ViT has, reads none at all. To train there "
        "all the same: start='random'.)"
    )


def channels_of(features: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: maps.shape[1] for name, maps in features.items()}


def _mean_gradient(
    classifier: FrozenClassifier, name: str, images: Tensor, grid: Size, progress: bool
) -> Tensor:
    """(K, C): d score_k / d A of the layer, of that grid, summed over positions, averaged over
    images."""
    leaf: list[Tensor] = []

    def as_leaf(output: Tensor) -> Tensor:
        leaf.append(output.detach().requires_grad_())
        return leaf[-1].clone()  # what follows may work in place; a leaf must not change

    with torch.enable_grad():
        layer = classifier.layers[name]
        run = forward_from_layer(classifier.model, layer, as_leaf, images.clone())
        scores, rows = class_scores(run).sum(0), []
        step = max(1, _TOGETHER // len(images))
        bar = trange(0, len(scores), step, desc=f"calibrating {name}", disable=not progress)
        for first in bar:
            chosen = torch.arange(first, min(first + step, len(scores)), device=scores.device)
            gradient = _gradients(scores, leaf[-1], chosen) if scores.requires_grad else None
            if gradient is None:
                raise ValueError(_unread(name))
            transform = classifier.reshape_transform
            maps = as_feature_maps(name, gradient.flatten(0, 1), transform, grid)
            rows.append(maps.flatten(2).sum(2).unflatten(0, (len(chosen), -1)).mean(1))
    return torch.cat(rows)


def _gradients(scores: Tensor, leaf: Tensor, chosen: Tensor) -> Tensor | None:
    """(M, N, ...): of the chosen scores (M,), of which many at once take a sixth of the time."""
    ones = one_hot(chosen, len(scores)).to(scores)

    def of(directions: Tensor, batched: bool) -> Tensor | None:
        return torch.autograd.grad(
            scores, leaf, directions, True, is_grads_batched=batched, allow_unused=True
        )[0]

    try:
        return of(ones, batched=True)
    except RuntimeError:  # an operation of the head cannot be batched
        each = [of(one, batched=False) for one in ones]
        return None if each[0] is None else torch.stack(each)  # type: ignore[arg-type]
