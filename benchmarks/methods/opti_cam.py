"""Opti-CAM (Zhang et al., CVIU 2024, arXiv 2301.07002): the best weights of the feature maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor, nn
from tqdm.auto import tqdm

from learnable_cam_plugin.classifier import FrozenClassifier, class_scores, frozen
from learnable_cam_plugin.masking import Normalization, mask_image
from learnable_cam_plugin.saliency import min_max, resize

from .masked import categories


class OptiCAM(BaseCAM):
    """Weights of the channels are optimised for each image, through the image that they mask.

    With the feature maps A_k of the layer, clipped at 0, the map is

        S = min-max(resized(sum over k of softmax(u)_k A_k))

    and u, equal at first, maximises the class's logit of the image times S, by Adam.

    Args:
        model, target_layers: as BaseCAM's; one layer.
        normalization: what the images went through.
        iterations, learning_rate: of Adam; as in the paper, which stops earlier only where the
            loss no longer moves at all.
        progress: show a bar.
    """

    def __init__(
        self,
        model: nn.Module,
        target_layers: Sequence[nn.Module],
        *,
        normalization: Normalization,
        iterations: int = 100,
        learning_rate: float = 0.1,
        progress: bool = True,
    ) -> None:
        super().__init__(model, [], uses_gradients=False)
        self.classifier = FrozenClassifier.of(model, target_layers, normalization)
        if len(self.classifier.layers) != 1:
            raise ValueError(f"Opti-CAM takes one layer, got {len(self.classifier.layers)}")
        self.iterations, self.learning_rate = iterations, learning_rate
        self.progress = progress

    def forward(
        self, input_tensor: Tensor, targets: Sequence[Any], eigen_smooth: bool = False
    ) -> np.ndarray:
        """Maps (N, H, W) in [0, 1], float32."""
        images = input_tensor.to(self.device)
        classes = torch.tensor(categories(targets), device=self.device)
        _, read = self.classifier.read(images)
        (features,) = (maps.relu() for maps in read.values())
        weights = torch.zeros(features.shape[:2], device=self.device, requires_grad=True)
        optimizer = torch.optim.Adam([weights], self.learning_rate)
        steps = range(self.iterations)
        with torch.enable_grad(), frozen(self.classifier.model):
            for _ in tqdm(steps, "Opti-CAM", leave=False, disable=not self.progress):
                maps = weighted(features, weights, images.shape[2:])
                optimizer.zero_grad()
                (-self.logits(images, maps, classes).sum()).backward()
                optimizer.step()
        maps = weighted(features, weights.detach(), images.shape[2:])
        return maps.cpu().numpy()

    def logits(self, images: Tensor, maps: Tensor, classes: Tensor) -> Tensor:
        """The class's logit (N,) of images (N, C, H, W) masked by maps (N, H, W) in [0, 1]."""
        masked = mask_image(images, maps, self.classifier.pixels)
        scores = class_scores(self.classifier.model(masked)).float()
        return scores.gather(1, classes[:, None])[:, 0]


def weighted(features: Tensor, weights: Tensor, size: Sequence[int]) -> Tensor:
    """The maps (N, H, W) in [0, 1] of feature maps (N, C, h, w) by the softmax of weights (N, C).

    >>> features = torch.tensor([[[[0.0, 1.0]], [[3.0, 1.0]]]])
    >>> weighted(features, torch.zeros(1, 2), (1, 2))
    tensor([[[1., 0.]]])
    """
    raw = torch.einsum("nchw,nc->nhw", features, weights.softmax(1))
    return min_max(resize(raw, size))
