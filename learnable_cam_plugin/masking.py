"""How a map acts on an image: pixels in [0, 1] times the map, in front of a filling."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from .saliency import resize
from .wording import warn

FILLINGS = ("black", "mean", "blur")
_OVERSHOOT = 0.1  # of bicubic resizing


@dataclass(frozen=True, init=False)
class Normalization:
    """The (x - mean) / std that the classifier's images in [0, 1] went through, per channel.

    One value, or a number, stands for all channels.

    >>> Normalization(mean=[0.5], std=[0.25]).denormalize(torch.zeros(1, 3, 1, 1)).flatten()
    tensor([0.5000, 0.5000, 0.5000])
    """

    mean: Sequence[float]
    std: Sequence[float]

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        object.__setattr__(self, "mean", _numbers("mean", mean))
        object.__setattr__(self, "std", _numbers("std", std))
        if len(self.mean) != len(self.std) or not len(self.mean):
            given = f"{self.mean} and {self.std}"
            raise ValueError(f"mean and std need one value a channel each, got {given}")
        if any(not value > 0 for value in self.std):
            raise ValueError(f"std must be above 0, got {self.std}")

    def _per_channel(self, values: Sequence[float], images: Tensor) -> Tensor:
        if len(values) not in (1, images.shape[1]):
            found = images.shape[1]
            raise ValueError(f"the normalisation has {len(values)} channels, the images {found}")
        shape = (1, len(values)) + (1,) * (images.ndim - 2)
        return torch.tensor(values, dtype=images.dtype, device=images.device).view(shape)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] (N, C, ...) -> images as the classifier expects them."""
        return (pixels - self._per_channel(self.mean, pixels)) / self._per_channel(self.std, pixels)

    def denormalize(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, ...) -> pixels in [0, 1]."""
        return images * self._per_channel(self.std, images) + self._per_channel(self.mean, images)

    def rgb(self, images: Tensor) -> NDArray[np.float32]:
        """Normalised images (N, 3, H, W), on the CPU -> (N, H, W, 3) in [0, 1], to be looked at."""
        return self.denormalize(images).clamp(0, 1).permute(0, 2, 3, 1).numpy()

    def check(self, images: Tensor) -> None:
        """Refuse images that this normalisation cannot have produced from pixels in [0, 1] (but for
        what resizing them overshoots), and warn of those that may not have gone through it."""
        self.check_range(images)
        plain = float(images.min()) >= 0 and 0.5 < float(images.max()) <= 1
        if plain and min(-mean / std for mean, std in zip(self.mean, self.std, strict=True)) < -0.5:
            warn(
                "the images lie in [0, 1], as pixels do before they are normalised, which mean "
                f"{self.mean}, std {self.std} would not leave there: normalise them, or declare "
                "Normalization([0], [1])"
            )

    def check_range(self, images: Tensor) -> None:
        """Refuse images that this normalisation cannot have produced, as `check` does."""
        pixels = self.denormalize(images.float())
        low, high = float(pixels.min()), float(pixels.max())
        if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
            raise ValueError(
                f"undoing mean {self.mean}, std {self.std} gives pixels from {low:.2f} to "
                f"{high:.2f}, not [0, 1]: declare the normalisation that your images went "
                "through, and feed images in [0, 1] to it"
            )


def _numbers(name: str, given: Any) -> tuple[float, ...]:
    try:
        values = tuple(
            float(value) for value in torch.as_tensor(given, dtype=torch.float64).flatten()
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be one number a channel, got {given!r}") from error
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name} must be finite, got {given!r}")
    return values


def background(images: Tensor, normalization: Normalization, filling: str) -> Tensor:
    """What shows where a mask hides the image: images (N, C, H, W), normalised as `images` are.

    The filling "black" is 0 in [0, 1] pixels; "mean" each image's own mean pixel; "blur" the image
    under a Gaussian with a sigma of 1/16 of its shorter side (14 pixels of 224), cut off at 3
    sigma: colours stay, shapes go. "black" and "mean" are for images (N, C, D, H, W) too.

    >>> background(torch.rand(2, 3, 4, 4), Normalization([0.5], [0.25]), "black").unique()
    tensor([-2.])
    """
    if filling == "black":
        return normalization.normalize(torch.zeros_like(images[:1])).expand_as(images)
    if filling == "mean":
        return images.mean(tuple(range(2, images.ndim)), keepdim=True).expand_as(images)
    if filling == "blur":
        if images.ndim != 4:
            given = f"got {tuple(images.shape)}; use 'black' or 'mean'"
            raise ValueError(f"filling 'blur' is for images (N, C, H, W), {given}")
        sigma = min(images.shape[2:]) / 16
        window = 2 * round(3 * sigma) + 1
        # one side at a time: the same blur as both at once, in 2 * window instead of window ** 2
        rows = gaussian_blur(images, [1, window], [sigma, sigma])
        return gaussian_blur(rows, [window, 1], [sigma, sigma])
    raise ValueError(f"filling is {filling!r}; it must be one of {', '.join(FILLINGS)}")


def mask_image(
    images: Tensor, mask: Tensor, normalization: Normalization, filling: str = "black"
) -> Tensor:
    """L-CAM-Img (and the paper's evaluation): multiply the image by a mask in [0, 1] pixel space.

    `normalize(denormalize(x) * m)` written as a blend with the normalised black image, which is
    the same and takes one step. Other fillings, see `background`, are blended in the same way.

    The images are (N, C, H, W) or (N, C, D, H, W), normalised, before and after; the mask, in
    [0, 1], is (N, h, w) or (N, d, h, w), and resized bilinearly to them.
    """
    behind = background(images, normalization, filling)
    return torch.lerp(behind, images, resize(mask, images.shape[2:])[:, None].to(images))
