"""What an exported graph takes: normalised images, or photographs as a camera gives them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..classifier import floating_weight
from ..masking import Normalization
from ..runtime.photographs import shorter_side
from .explained import ExplainedClassifier


class FromPixels(nn.Module):
    """`ExplainedClassifier` of RGB photographs of 8 bits, (N, H, W, 3) of any H and W.

    Their central square, the shorter side resized to 256 / 224 of `side`, is cropped to `side`, as
    `data.photo_transform` does (along the longer side within a pixel), and normalised. A batch has
    one H and W.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ...                     nn.Linear(8, 5))
    >>> explained = ExplainedClassifier(net, torch.rand(2, 3, 32, 32), ["0"], attention="head")
    >>> graph = FromPixels(explained, Normalization(0.5, 0.25), side=32)
    >>> logits, maps = graph(torch.zeros(1, 50, 60, 3, dtype=torch.uint8))
    >>> tuple(maps.shape)
    (1, 32, 32)
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, explained: ExplainedClassifier, normalization: Normalization, side: int
    ) -> None:
        super().__init__()
        self.explained, self.side = explained, side
        mean, std = torch.tensor(normalization.mean), torch.tensor(normalization.std)
        weight = floating_weight(explained)
        weight = mean if weight is None else weight
        self.register_buffer("scale", (1 / (255 * std)).view(-1, 1, 1).to(weight))
        self.register_buffer("shift", (mean / std).view(-1, 1, 1).to(weight))

    def forward(self, images: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Class scores (N, K) and maps (N, side, side), or (N, M, side, side)."""
        height, width = images.shape[1:3]
        square, resized = torch.sym_min(height, width), shorter_side(self.side)
        for axis, length in ((1, height), (2, width)):
            # by indices: of a slice, the tracer would have to know that it lies inside
            places = torch.arange(square, device=images.device) + (length - square) // 2
            images = images.index_select(axis, places)
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        pixels = F.interpolate(pixels, (resized, resized), mode="bilinear", antialias=True)
        start = round((resized - self.side) / 2)  # as torchvision's CenterCrop
        pixels = pixels[:, :, start : start + self.side, start : start + self.side]
        return self.explained(pixels.to(self.scale) * self.scale - self.shift, classes)
