"""What goes into a classifier and what comes out, checked; each error says what to do."""

from typing import Any

import torch
from torch import Tensor


def class_scores(outputs: Any) -> Tensor:
    """The classifier's output as class scores (N, K); else a clear error."""
    if not isinstance(outputs, Tensor):
        raise TypeError(
            f"the model returns a {type(outputs).__name__}; a tensor of class scores (N, K) is "
            "needed. Wrap the model in a module that returns its logits."
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
        raise TypeError(f"images must be a torch.Tensor, got {type(images).__name__}")
    if images.ndim not in (4, 5) or 0 in images.shape:
        raise ValueError(
            f"images have shape {tuple(images.shape)}; (N, C, H, W) or (N, C, D, H, W) with no "
            "empty dimension is needed. Use image[None] for a single image."
        )
    if not bool(torch.isfinite(images.sum(dtype=torch.float32))):
        bad = (~torch.isfinite(images).flatten(1).all(1)).nonzero()[:, 0].tolist()
        raise ValueError(
            f"images {bad} of the batch hold NaN or infinite pixels: check the files and the "
            "normalisation they went through"
        )
    return images


def check_one_class_each(images: Tensor, classes: Tensor) -> None:
    """One class index an image; else a clear error."""
    check_images(images)
    if classes.shape != images.shape[:1] or classes.is_floating_point():
        raise ValueError(
            f"classes must be integers of shape ({len(images)},), one an image, got "
            f"{classes.dtype} of {tuple(classes.shape)}"
        )


def check_class_range(classes: Tensor, num_classes: int) -> None:
    """Raise IndexError unless every class index lies in [0, num_classes)."""
    outside = classes[(classes < 0) | (classes >= num_classes)]
    if outside.numel():
        first, last = outside.flatten()[0].item(), num_classes - 1
        raise IndexError(f"class index {first} is out of range: the classes are 0 to {last}")
