"""Batches of any loader: what they hold, checked, and drawn the same way for the same seed."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..classifier import check_images


def seed_epoch(loader: Iterable[Any], seed: int, epoch: int) -> None:
    """Seed everything that an epoch draws from: the global generators and the loader's own."""
    from accelerate.utils import set_seed

    number = (seed * 1_000_003 + epoch) % 2**32
    set_seed(number)
    for owner in (loader, getattr(loader, "sampler", None)):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(number)


def batches_of(loader: Iterable[Any], accelerator: Any) -> Iterator[Any]:
    """This process's batches."""
    if isinstance(loader, torch.utils.data.DataLoader) and accelerator.num_processes > 1:
        loader = accelerator.prepare_data_loader(loader)
    return iter(loader)


def first_batch(loader: Iterable[Any]) -> Any:
    """A look at the loader; ValueError if it is empty."""
    for batch in loader:
        return batch
    raise ValueError("the training loader is empty: it gave no batch")


def images_of(batch: Any, device: torch.device) -> Tensor:
    """A batch's images (N, C, H, W) on the device, laid out as `FrozenClassifier.held` likes them;
    a clear error where it holds no images, or they are of a wrong shape or not finite."""
    images = batch[0] if isinstance(batch, Sequence) and len(batch) else batch
    if not isinstance(images, Tensor):
        raise TypeError(
            "the loader must give batches of images (N, C, H, W), or (images, labels); got a "
            f"{type(batch).__name__}"
        )
    images = check_images(images).to(device)
    dense = torch.channels_last if images.ndim == 4 else torch.contiguous_format
    return images.contiguous(memory_format=dense)


def labels_of(batch: Any, device: torch.device, num_classes: int) -> Tensor:
    """A batch's labels (N,) on the device; a clear error where it has none, or they are not one an
    image, no integers, or no classes of the classifier."""
    if not isinstance(batch, Sequence) or len(batch) < 2:
        raise TypeError("labels='dataset' needs a loader of (images, labels)")
    labels = torch.as_tensor(batch[1]).to(device)
    if labels.shape != (len(batch[0]),) or labels.is_floating_point():
        raise ValueError(
            f"labels must be integers of shape ({len(batch[0])},), got {labels.dtype} of "
            f"{tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"labels range from {low} to {high}, the classifier has classes 0 to {num_classes - 1}"
        )
    return labels.long()
