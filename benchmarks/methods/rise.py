"""RISE (Petsiuk, Das, Saenko, BMVC 2018, arXiv 1806.07421): the mean of random masks, weighted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from learnable_cam_plugin.masking import Normalization
from learnable_cam_plugin.saliency import min_max

from .masked import categories, masked_probabilities


class RISE(BaseCAM):
    """Randomised input sampling: S = 1 / (N p) * sum over masks of f(I * M_i) M_i (equation 6).

    A mask is a random binary grid, resized bilinearly to a cell more than the image and cropped at
    a random place (section 3.2). All images are seen through the same masks, as in the authors'
    code.

    Args:
        model: the classifier.
        target_layers, reshape_transform: as BaseCAM's; RISE looks at no layer.
        normalization: what the images went through.
        masks: N; the paper takes 4,000 for VGG-16 and 8,000 for ResNet-50.
        cells: s, the grid's side; 7 in the paper.
        probability: p that a cell is kept; 0.5 in the paper.
        seed: of the masks.
        batch_size: masked copies scored at once.
        scorer: what scores the masked copies; the classifier unless given.
        progress: show a bar.
    """

    def __init__(
        self,
        model: nn.Module,
        target_layers: Sequence[nn.Module] = (),
        reshape_transform: Any = None,
        *,
        normalization: Normalization,
        masks: int = 4000,
        cells: int = 7,
        probability: float = 0.5,
        seed: int = 0,
        batch_size: int = 32,
        scorer: nn.Module | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(model, [], reshape_transform, uses_gradients=False)
        self.normalization, self.masks = normalization, masks
        self.cells, self.probability, self.seed = cells, probability, seed
        self.batch_size, self.scorer, self.progress = batch_size, scorer or model, progress

    def draw(self, size: Sequence[int]) -> Iterator[Tensor]:
        """The masks in batches (B, H, W), in [0, 1]; the same at every call."""
        generator = torch.Generator().manual_seed(self.seed)
        cell = [-(-side // self.cells) for side in size]
        larger = [(self.cells + 1) * side for side in cell]
        for start in range(0, self.masks, self.batch_size):
            count = min(self.batch_size, self.masks - start)
            grids = torch.rand(count, 1, self.cells, self.cells, generator=generator)
            full = F.interpolate((grids < self.probability).float(), size=larger, mode="bilinear")[
                :, 0
            ]
            places = [torch.randint(side, (count,), generator=generator).tolist() for side in cell]
            yield torch.stack(
                [
                    one[row : row + size[0], column : column + size[1]]
                    for one, row, column in zip(full, *places, strict=True)
                ]
            )

    def compute_cam_per_layer(
        self, input_tensor: Tensor, targets: Sequence[Any], eigen_smooth: bool
    ) -> list[Any]:
        """One map (N, 1, H, W) in [0, 1], as numpy."""
        total = torch.zeros(len(input_tensor), *input_tensor.shape[2:])
        classes = categories(targets)
        with tqdm(total=self.masks, desc="RISE", leave=False, disable=not self.progress) as bar:
            for masks in self.draw(input_tensor.shape[2:]):
                for i, (image, category) in enumerate(zip(input_tensor, classes, strict=True)):
                    p = masked_probabilities(
                        self.scorer, image, masks.to(image.device), self.normalization
                    )[:, category]
                    total[i] += torch.tensordot(p.cpu(), masks, 1)
                bar.update(len(masks))
        return [min_max(total / (self.masks * self.probability))[:, None].numpy()]
