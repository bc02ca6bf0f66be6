"""What a batch holds: images and labels, wherever a loader puts them, checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..classifier import check_images

# under which a dictionary may give them
IMAGE_KEYS = ("image", "images", "pixel_values", "img")
LABEL_KEYS = ("label", "labels", "target", "targets")


def _under(batch: Mapping[str, Any], keys: Sequence[str], what: str) -> Any:
    found = [key for key in keys if key in batch]
    if len(found) != 1:
        why = f"it has {found}" if found else f"it has the keys {list(batch)}"
        raise TypeError(
            f"a batch that is a dictionary must give its {what} under one of {list(keys)}; {why}"
        )
    return batch[found[0]]


def images_of(batch: Any, device: torch.device) -> Tensor:
    """A batch's images (N, C, H, W) on the device, laid out as `FrozenClassifier.held` likes them;
    a clear error where it holds no images, or they are of a wrong shape or not finite.

    A batch is the images, a sequence that starts with them, or a dictionary (alone, or first in a
    sequence) that has them under one of `IMAGE_KEYS`.
    """
    images = batch[0] if isinstance(batch, Sequence) and len(batch) else batch
    if isinstance(images, Mapping):
        images = _under(images, IMAGE_KEYS, "images")
    if not isinstance(images, Tensor):
        raise TypeError(
            "the loader must give batches of images (N, C, H, W), or (images, labels); got a "
            f"{type(images).__name__}"
        )
    images = check_images(images).to(device)
    if not images.is_floating_point():
        raise TypeError(
            f"images must be floating-point and normalised, got {images.dtype}: for bytes, "
            "images.float() / 255, then the normalisation"
        )
    if images.is_inference():  # made under torch.inference_mode: no graph goes through it
        images = images.clone()
    dense = torch.channels_last if images.ndim == 4 else torch.contiguous_format
    return images.contiguous(memory_format=dense)


def labels_of(batch: Any, count: int, device: torch.device, num_classes: int) -> Tensor:
    """The labels (N,) on the device of a batch of `count` images: what follows the images, or a
    dictionary's, under one of `LABEL_KEYS`. A clear error where it has none, or they are not one an
    image, no integers, or no classes of the classifier."""
    several = isinstance(batch, Sequence) and len(batch) > 1
    given = batch[1] if several else batch
    if isinstance(given, Sequence) and not several and len(given):
        given = given[0]
    if isinstance(given, Mapping):
        given = _under(given, LABEL_KEYS, "labels")
    elif not several:
        raise TypeError("labels='dataset' needs a loader of (images, labels)")
    try:
        labels = torch.as_tensor(given).to(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"labels must be integers, one an image: {error}") from error
    if labels.shape != (count,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f"labels must be integers of shape ({count},), got {labels.dtype} of "
            f"{tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"labels range from {low} to {high}, the classifier has classes 0 to {num_classes - 1}"
        )
    return labels.long()
