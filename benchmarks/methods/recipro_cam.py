"""Recipro-CAM (Byun and Lee, arXiv 2209.14074): what each place of the feature maps says alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor, nn
from torch.nn import functional as F

from learnable_cam_plugin.classifier import (
    FrozenClassifier,
    Replay,
    class_scores,
    forward_from_layer,
)
from learnable_cam_plugin.saliency import saliency

from .masked import categories


def spots(size: Sequence[int]) -> Tensor:
    """A mask for each place of a grid (h, w), row by row: (h * w, 1, h, w), a 3x3 Gaussian around
    the place, cut off at the border.

    >>> spots((3, 3))[0, 0]
    tensor([[0.2500, 0.1250, 0.0000],
            [0.1250, 0.0625, 0.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    places = size[0] * size[1]
    side = torch.tensor([0.25, 0.5, 0.25])
    kernel = (side[:, None] * side)[None, None]
    return F.conv2d(torch.eye(places).view(places, 1, *size), kernel, padding=1)


class ReciproCAM(BaseCAM):
    """A place's value is the class's probability where the rest of the network is given the feature
    maps through a Gaussian spot at that place, and zeros elsewhere.

    The network runs once a batch up to the layer, and its rest once an image, on all places.

    Args:
        model, target_layers: as BaseCAM's; one layer, whose own output is (N, C, h, w).
    """

    def __init__(self, model: nn.Module, target_layers: Sequence[nn.Module]) -> None:
        super().__init__(model, [], uses_gradients=False)
        self.classifier = FrozenClassifier.of(model, target_layers)
        if len(self.classifier.layers) != 1:
            raise ValueError(f"Recipro-CAM takes one layer, got {len(self.classifier.layers)}")
        ((name, self.layer),) = self.classifier.layers.items()
        self.rest = Replay(self.classifier.model, name)

    @torch.no_grad()
    def forward(
        self, input_tensor: Tensor, targets: Sequence[Any], eigen_smooth: bool = False
    ) -> np.ndarray:
        """Maps (N, H, W) in [0, 1], float32."""
        images, classes = input_tensor.to(self.device), categories(targets)
        with self.rest.recording():
            _, read = self.classifier.read(images)
        (features,) = read.values()
        masks = spots(features.shape[2:]).to(features)
        said = [
            self._probabilities(image[None], maps * masks)[:, category]
            for image, maps, category in zip(images, features, classes, strict=True)
        ]
        raw = torch.stack(said).view(-1, *features.shape[2:])
        return saliency([raw], images.shape[2:]).cpu().numpy()

    def _probabilities(self, image: Tensor, features: Tensor) -> Tensor:
        """Softmax probabilities (M, K) for feature maps (M, C, h, w) in place of the image's."""
        scores = forward_from_layer(self.rest, self.layer, lambda _: features, image)
        return class_scores(scores).float().softmax(1)
