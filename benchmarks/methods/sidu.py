"""SIDU (Muddamsetty, Jahromi, Moeslund, ICIP 2020; Pattern Recognition 2022, arXiv 2101.10710)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from learnable_cam_plugin.saliency import min_max, resize

from .masked import MaskingCAM


class SIDU(MaskingCAM):
    """Similarity difference and uniqueness: a mask for each feature map, weighted by what it does.

    Each feature map A_i of the last convolutional layer, made binary and resized, is a mask M_i.
    With the vectors of class probabilities P of the image and P_i of the masked images,

        SD_i = exp(-|P - P_i|^2 / (2 sigma^2))       how alike the prediction stays
        U_i  = sum over j of |P_i - P_j|             how different it is from the other masks'
        S    = sum over i of SD_i U_i M_i

    It explains the prediction as a whole: the target's class plays no part.

    Args: those of `MaskingCAM`, the target layers being the last convolutional one alone, and
        sigma: 0.25 in the paper.
        threshold: above which a feature map's value counts; 0.15 in the authors' code. It is on
            the feature maps' own scale, and too low a value makes all masks alike.
    """

    def __init__(
        self, *args: Any, sigma: float = 0.25, threshold: float = 0.15, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        if len(self.target_layers) != 1:
            raise ValueError(f"SIDU takes one layer, got {len(self.target_layers)}")
        self.sigma, self.threshold = sigma, threshold

    def compute_cam_per_layer(
        self, input_tensor: Tensor, targets: Sequence[Any], eigen_smooth: bool
    ) -> list[Any]:
        """One map (N, 1, H, W) in [0, 1], as numpy."""
        probabilities = self.outputs.detach().float().softmax(1)
        with self.unrecorded() as ((features,), _):
            each = zip(input_tensor, features, probabilities, strict=True)
            maps = [self._map_of(*one) for one in each]
        return [min_max(torch.stack(maps))[:, None].numpy()]

    def _map_of(self, image: Tensor, features: Tensor, p: Tensor) -> Tensor:
        """The map (H, W) of one image, from its feature maps (C, h, w) and probabilities (K,)."""
        binary = (features > self.threshold).float()
        parts = binary.split(self.batch_size)
        bar = tqdm(parts, "SIDU", leave=False, disable=not self.progress)
        size = image.shape[1:]
        masked = torch.cat([self.masked_probabilities(image, resize(m, size)) for m in bar])
        similarity = torch.exp(-((masked - p).norm(dim=1) ** 2) / (2 * self.sigma**2))
        # In double precision, since the matrix product within loses small differences.
        unique = torch.cdist(masked.double(), masked.double()).sum(1)
        # Resizing is linear: the sum of the resized masks is the resized sum.
        weighted = torch.tensordot((similarity * unique).float().cpu(), binary.cpu(), 1)
        return resize(weighted[None], size)[0]
