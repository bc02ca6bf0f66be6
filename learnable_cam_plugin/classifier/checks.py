"""What goes into a classifier and what comes out, checked; each error says what to do."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from ..wording import warn


def class_scores(outputs: Any) -> Tensor:
    """The classifier's output as class scores (N, K): a tensor, or what has them as `.logits` or
    under "logits", as the models of transformers give; else a clear error."""
    if not isinstance(outputs, Tensor):
        given = outputs.get("logits") if isinstance(outputs, Mapping) else None
        outputs = getattr(outputs, "logits", outputs if given is None else given)
    if not isinstance(outputs, Tensor):
        named = dict(outputs) if isinstance(outputs, Mapping) else {}
        what = f"{type(outputs).__name__} of {list(named)}" if named else type(outputs).__name__
        # scores have two dimensions; which it is, its author knows
        fit = [key for key, value in named.items() if getattr(value, "ndim", 0) == 2]
        key = repr([*fit, *named][0]) if named else 0
        take = f"lambda outputs: outputs[{key}]"
        raise TypeError(
            f"the model returns a {what}; a tensor of class scores (N, K) is needed, or an object "
            f"with .logits. Say where they are, for example LearnableCAM(model, output={take}), or "
            f"wrap the model: ScoresOf(model, {take}) serves everywhere."
        )
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    if outputs.ndim != 2:
        shape = tuple(outputs.shape)
        raise ValueError(f"the model returns {shape}; class scores (N, K) are needed")
    return outputs


def check_images(images: Any) -> Tensor:
    """A batch of images (N, C, H, W) or (N, C, D, H, W) without NaN or infinity; else an error."""
    if not isinstance(images, Tensor):
        way = "torch.stack(images)" if isinstance(images, (list, tuple)) else "torch.from_numpy"
        raise TypeError(f"images must be a torch.Tensor, got {type(images).__name__}: use {way}")
    if images.ndim not in (4, 5) or 0 in images.shape:
        raise ValueError(
            f"images have shape {tuple(images.shape)}; (N, C, H, W) or (N, C, D, H, W) with no "
            "empty dimension is needed. Use image[None] for a single image."
        )
    if images.is_meta:
        raise ValueError(
            "the images, or the model that they go to, are on the device 'meta', where nothing has "
            "a value: make the model with its weights loaded, on a device that computes"
        )
    if not math.isfinite(images.sum(dtype=torch.float32).item()):
        bad = not_finite_images(images)
        if not bad:
            highest = images.abs().max().item()
            raise ValueError(
                f"the images reach {highest:.3g}: normalised pixels lie within some 10 of 0; check "
                "the normalisation they went through"
            )
        raise ValueError(
            f"images {bad} of the batch hold NaN or infinite pixels: check the files and the "
            "normalisation they went through"
        )
    return images


def not_finite_images(values: Tensor) -> list[int]:
    """The indices of the images of which the values (N, ...) hold NaN or infinity."""
    return (~torch.isfinite(values).flatten(1).all(1)).nonzero()[:, 0].tolist()


def check_finite(
    raw_maps: list[Tensor], scores: Any, features: Mapping[str, Tensor], attention: Any
) -> None:
    """Raise ValueError unless the raw maps (N, ...) and the scores are finite, naming what was the
    first to be not: the feature maps, the scores, the attention's weights, or the maps."""
    # a sum of squares is finite only of what is finite, and small enough for all that follows
    sums = [(raw.float() * raw).sum() for raw in raw_maps]
    sums += [scores.sum(dtype=torch.float32)] if isinstance(scores, Tensor) else []
    if math.isfinite(reduce(torch.add, sums).item()):
        return
    # a span that overflows would make the map NaN
    flat = [raw.flatten(1) for raw in raw_maps]
    spans = [each.amax(1) - each.amin(1) for each in flat]
    pass_ = "comes from the classifier's own pass: check its weights and its precision"
    for name, maps in features.items():
        if bad := not_finite_images(maps):
            raise ValueError(
                f"the feature maps at '{name}' of the images {bad} hold NaN or infinity. It {pass_}"
            )
    if isinstance(scores, Tensor) and (bad := not_finite_images(scores)):
        raise ValueError(f"the class scores of the images {bad} are NaN or infinite. It {pass_}")
    for name, value in attention.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"the attention's '{name}' holds NaN or infinity: train it again")
    for span in spans:
        if bad := not_finite_images(span[:, None]):
            raise ValueError(
                f"the maps of the images {bad} are beyond what {span.dtype} holds: the images, or "
                "the feature maps, are far larger than those that the attention was trained on"
            )


def tell_of_constant(raw_maps: list[Tensor], read: Mapping[str, Tensor]) -> None:
    """Warn where no raw map (N, ...) tells one place from another; `read` are the feature maps, by
    layer, in which places can differ."""
    if all(maps.shape[2:].numel() == 1 for maps in read.values()):
        why = "are 1x1, so every map is constant: name an earlier layer, or pass larger images"
    elif not any(bool(raw.any()) for raw in raw_maps):
        why = (
            "say the same of the class at every place, so every map is constant: the images are "
            "plain, or the head reads other layers than these; name the last before its pooling"
        )
    else:
        return
    warn(f"the feature maps at {list(read)} {why}")


def floating_weight(model: nn.Module) -> Tensor | None:
    """The model's first weight that is floating-point, whose type its images must have; or None."""
    return next((p for p in model.parameters() if p.is_floating_point()), None)


@contextmanager
def run_on(model: nn.Module | None, images: Any) -> Iterator[None]:
    """For the length of a pass: the model's own error on images of another type, or elsewhere, than
    its weights are, says so."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        weight = None if model is None else floating_weight(model)
        if not isinstance(images, Tensor):
            raise
        if images.ndim == 3:
            raise ValueError(
                f"the classifier does not run on images of shape {tuple(images.shape)}; (N, C, H, "
                "W) is needed. Use image[None] for a single image"
            ) from error
        if weight is None or isinstance(error, ValueError):
            raise
        if (images.dtype, images.device) == (weight.dtype, weight.device):
            raise
        raise RuntimeError(
            f"the classifier, whose weights are {weight.dtype} on {weight.device}, does not run on "
            f"images of {images.dtype} on {images.device}: pass images.to('{weight.device}', "
            f"{weight.dtype}), normalised as those that it was trained on"
        ) from error


def check_one_class_each(images: Tensor, classes: Tensor) -> None:
    """One class index an image; else a clear error."""
    check_images(images)
    if classes.shape != images.shape[:1] or classes.is_floating_point():
        raise ValueError(
            f"classes must be integers of shape ({len(images)},), one an image, got "
            f"{classes.dtype} of {tuple(classes.shape)}"
        )


def class_indices(classes: Tensor, num_classes: int) -> Tensor:
    """Class indices in [0, num_classes); one below 0 counts from the last class, as in Python.

    Raises:
        IndexError: one is out of range.
    """
    listed = classes.flatten().tolist()
    if not listed or (min(listed) >= 0 and max(listed) < num_classes):
        return classes
    below = (classes < 0) & (classes >= -num_classes)
    counted = torch.where(below, classes + num_classes, classes)
    outside = counted[(counted < 0) | (counted >= num_classes)]
    if outside.numel():
        first, last = outside.flatten()[0].item(), num_classes - 1
        raise IndexError(f"class index {first} is out of range: the classes are 0 to {last}")
    return counted
