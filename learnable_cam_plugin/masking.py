"""How a map acts on the frozen classifier: on the image (L-CAM-Img) or the features (L-CAM-Fm)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .features import forward_from_layer
from .saliency import resize


@dataclass(frozen=True)
class Normalization:
    """The (x - mean) / std that the classifier's images in [0, 1] went through, per channel.

    One value stands for all channels.

    >>> Normalization(mean=[0.5], std=[0.25]).denormalize(torch.zeros(1, 3, 1, 1)).flatten()
    tensor([0.5000, 0.5000, 0.5000])
    """

    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not len(self.mean):
            raise ValueError(
                f"mean and std need one value a channel each, got {self.mean} and {self.std}"
            )
        if any(not value > 0 for value in self.std):
            raise ValueError(f"std must be above 0, got {self.std}")
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "std", tuple(float(v) for v in self.std))

    def _per_channel(self, values: Sequence[float], images: Tensor) -> Tensor:
        if len(values) not in (1, images.shape[1]):
            raise ValueError(
                f"the normalisation has {len(values)} channels, the images {images.shape[1]}"
            )
        shape = (1, len(values)) + (1,) * (images.ndim - 2)
        return torch.tensor(values, dtype=images.dtype, device=images.device).view(shape)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] (N, C, ...) -> images as the classifier expects them."""
        return (pixels - self._per_channel(self.mean, pixels)) / self._per_channel(self.std, pixels)

    def denormalize(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, ...) -> pixels in [0, 1]."""
        return images * self._per_channel(self.std, images) + self._per_channel(self.mean, images)

    def check(self, images: Tensor) -> None:
        """Refuse images that this normalisation cannot have produced from pixels in [0, 1]."""
        pixels = self.denormalize(images.float())
        low, high = float(pixels.min()), float(pixels.max())
        if low < -0.02 or high > 1.02:
            raise ValueError(
                f"undoing mean {self.mean}, std {self.std} gives pixels from {low:.2f} to "
                f"{high:.2f}, not [0, 1]: declare the normalisation that your images went "
                "through, and feed images in [0, 1] to it"
            )


def mask_image(images: Tensor, mask: Tensor, normalization: Normalization) -> Tensor:
    """L-CAM-Img (and the paper's evaluation): multiply the image by a mask in [0, 1] pixel space.

    `normalize(denormalize(x) * m)` written as a blend with the normalised black image, which is
    the same and takes one step.

    Args:
        images: (N, C, H, W) or (N, C, D, H, W), normalised.
        mask: (N, h, w) or (N, d, h, w) in [0, 1]; resized bilinearly to the images.
        normalization: what the images went through.

    Returns:
        the masked images, normalised, in the shape of `images`.
    """
    black = normalization.normalize(torch.zeros_like(images[:1]))
    return torch.lerp(black.expand_as(images), images, resize(mask, images.shape[2:])[:, None])


def classify_masked_features(
    forward: Callable[[Tensor], Tensor], layer: nn.Module, images: Tensor, mask: Tensor
) -> Tensor:
    """L-CAM-Fm: the classifier's logits when the feature maps of `layer` are `A * mask`.

    Args:
        forward: the classifier, or a `Replay` of it that computes only what follows the layer.
        layer: the target layer.
        images: (N, C, H, W), as the classifier expects them.
        mask: (N, h, w), the size of the layer's feature maps.

    Raises:
        ValueError: the layer's output is not (N, C, h, w) of the mask's size, as with a layer of
            tokens: their order is known to the reshape_transform only; use L-CAM-Img there.
    """

    def apply(output: Tensor) -> Tensor:
        if output.ndim != mask.ndim + 1 or output.shape[2:] != mask.shape[1:]:
            raise ValueError(
                f"L-CAM-Fm multiplies the layer's own output, which is {tuple(output.shape)} and "
                f"does not match maps of {tuple(mask.shape)}; use recipe='l-cam-img' here"
            )
        return output * mask[:, None].to(output.dtype)

    return forward_from_layer(forward, layer, apply, images)
