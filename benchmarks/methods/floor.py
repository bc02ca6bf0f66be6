"""Maps that know nothing of the image or the classifier: what every method must beat."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor, nn

from learnable_cam_plugin.saliency import min_max, resize

Draw = Callable[[int, Sequence[int], torch.Generator], Tensor]


def random_grid(count: int, size: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform noise on a 7x7 grid, as fine as most CAMs, resized: (count, H, W)."""
    return resize(torch.rand(count, 7, 7, generator=generator), size)


def centred_gaussian(count: int, size: Sequence[int], _generator: torch.Generator) -> Tensor:
    """A Gaussian at the centre, its standard deviation a quarter of each side: (count, H, W)."""
    rows, columns = (torch.exp(-8 * torch.linspace(-0.5, 0.5, side) ** 2) for side in size)
    return (rows[:, None] * columns).expand(count, -1, -1)


class Floor(BaseCAM):
    """A map drawn without looking: no pass of the classifier.

    Args:
        model: as BaseCAM's; not asked.
        draw: `random_grid` or `centred_gaussian`.
        seed: of the draws, which go on from call to call.
    """

    def __init__(self, model: nn.Module, draw: Draw = random_grid, seed: int = 0) -> None:
        super().__init__(model, [], uses_gradients=False)
        self.draw, self.generator = draw, torch.Generator().manual_seed(seed)

    def forward(
        self, input_tensor: Tensor, targets: Any = None, eigen_smooth: bool = False
    ) -> np.ndarray:
        """Maps (N, H, W) in [0, 1], float32."""
        maps = self.draw(len(input_tensor), input_tensor.shape[2:], self.generator)
        return min_max(maps.contiguous()).numpy()
