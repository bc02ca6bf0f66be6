"""What a classifier must be to train beside it, found before the first step and not in the maps."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..classifier import FrozenClassifier, HeadProbe, class_scores
from ..wording import needed, warn

_CUT = (
    "the classifier's forward cuts it off, with torch.no_grad(), torch.inference_mode() or "
    ".detach(): remove it there, the trainer takes care of the classifier's own gradients"
)


def check_extra() -> None:
    """ModuleNotFoundError if the extra `train` is missing."""
    needed("train", "accelerate")


def check_weights(model: nn.Module) -> None:
    """ValueError for a classifier in half precision, or made where no gradients are."""
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ValueError(
            "the classifier's weights were made inside torch.inference_mode(), so that no gradient "
            "can pass them: build it, or copy.deepcopy it, outside"
        )
    half = {p.dtype for p in model.parameters() if p.dtype in (torch.float16, torch.bfloat16)}
    if half:
        raise ValueError(
            f"the classifier is in {half.pop()}, in which masks and gradients are too coarse to "
            "train with: pass model.float(); mixed_precision='bf16' makes it as fast"
        )


def check_clean_pass(classifier: FrozenClassifier, images: Tensor) -> None:
    """ValueError for a classifier that gives probabilities, or runs in inference mode by itself, or
    a layer whose channels come last.

    Args:
        images: (N, C, H, W) or (N, C, D, H, W), a first batch.
    """
    features, scores = classifier.clean_pass(images)
    for name, maps in features.items():
        _check_layout(name, maps, images)
        if maps.is_inference():
            raise ValueError(f"no gradient gets from the scores to the attention: {_CUT}")
    sums = scores.float().sum(1)
    if bool((scores >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise ValueError(
            "the model gives probabilities (none below 0, and each image's sum to 1), where scores "
            "before the softmax are needed: a second softmax would flatten them. Pass the model "
            "without its softmax, or wrap it so that it returns torch.log(probabilities)"
        )
    if scores.numel() >= 16 and bool(((scores >= 0) & (scores <= 1)).all()):
        warn(
            "all scores of the first batch lie in [0, 1], as probabilities of labels that do not "
            "exclude each other do, and are taken for logits: the training takes their softmax. If "
            "the model ends in a sigmoid, pass it without"
        )


def _check_layout(name: str, maps: Tensor, images: Tensor) -> None:
    """Strides tell: those of a grid are about the same on all sides of the image."""
    size, shape = images.shape[2:], tuple(maps.shape)
    if maps.ndim == images.ndim and not _is_grid(shape[2:], size) and _is_grid(shape[1:-1], size):
        order = (0, maps.ndim - 1, *range(1, maps.ndim - 1))
        raise ValueError(
            f"layer '{name}' gives {shape} for images of {tuple(size)}: a grid of {shape[1:-1]} "
            f"whose {shape[-1]} channels come last, read as {shape[1]} channels. Pass "
            f"reshape_transform=lambda x: x.permute{order}"
        )


def _is_grid(shape: Sequence[int], size: Sequence[int]) -> bool:
    strides = [whole / part for whole, part in zip(size, shape, strict=True)]
    return min(strides) >= 1 and max(strides) < 1.5 * min(strides)


def check_order(classifier: FrozenClassifier, images: Tensor) -> None:
    """ValueError if the classifier's head reads another target layer than the last; a warning if
    the last seems not to be what it reads: it has a finer grid than one before it."""
    names = list(classifier.layers)
    if len(names) == 1:
        return
    probe = HeadProbe(classifier.model)
    outputs, features = classifier.read(images, lambda x: probe(classifier.model, x))
    scores, last = class_scores(outputs), names[-1]
    read = [name for name in names if probe.head(scores, features[name]) is not None]
    order = f"target_layers are {names}, and the one that the head reads comes last"
    if read and last not in read:
        right = [name for name in names if name != read[-1]] + [read[-1]]
        raise ValueError(f"{order}: that is '{read[-1]}', so pass {right}")
    coarser = [name for name in names if _positions(features, name) < _positions(features, last)]
    if coarser and not read:
        warn(
            f"{order}; but {coarser} have a coarser grid than '{last}', as later layers have: is "
            "the order right?"
        )


def _positions(features: Mapping[str, Tensor], name: str) -> int:
    return math.prod(features[name].shape[2:])


def check_teaching(
    terms: Mapping[str, Tensor], model: nn.Module, images: Tensor, recipe: str
) -> None:
    """ValueError if a step's terms have no graph to the attention, because nothing has or because
    the classifier runs without gradients: they would be shown, and teach nothing."""
    without = [name for name, term in terms.items() if not term.requires_grad]
    cut = [name for name in without if name == "loss" or float(terms[name]) != 0]
    if not cut or ("loss" not in cut and _passes_gradients(model, images)):
        return
    where = (
        f"the recipe {recipe!r} computes it under torch.no_grad(), or detaches the maps"
        if _passes_gradients(model, images)
        else _CUT
    )
    raise ValueError(f"no gradient gets from {cut} to the attention: {where}")


def _passes_gradients(model: nn.Module, images: Tensor) -> bool:
    with torch.enable_grad():
        return class_scores(model(images[:1].detach().clone().requires_grad_())).requires_grad


def check_taught(attention: nn.Module, recipe: str) -> None:
    """ValueError if a backward pass left no gradient, or zeros, at all parameters."""
    gradients = [p.grad for p in attention.parameters() if p.grad is not None]
    if not any(bool(gradient.any()) for gradient in gradients):
        state = "is zero at all its parameters" if gradients else "reached none of its parameters"
        raise ValueError(
            f"the first step of {recipe!r} taught the attention nothing: the gradient {state}. Are "
            "its maps saturated or constant, or does the recipe compute them without a graph?"
        )
