"""RISE (Petsiuk, Das, Saenko, BMVC 2018, arXiv 1806.07421): the mean of random masks, weighted."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from learnable_cam_plugin.saliency import min_max, resize

from .masked import MaskingCAM, categories


class RISE(MaskingCAM):
    """Randomised input sampling: S = 1 / (N p) * sum over masks of f(I * M_i) M_i (equation 6).

    A mask is a random binary grid, resized bilinearly to a cell more than the image and cropped at
    a random place (section 3.2). All images are seen through the same masks, as in the authors'
    code.

    Args: those of `MaskingCAM` (it looks at no layer), and
        masks: N; the paper takes 4,000 for VGG-16 and 8,000 for ResNet-50.
        cells: s, the grid's side; 7 in the paper.
        probability: p that a cell is kept; 0.5 in the paper.
        seed: of the masks.
    """

    def __init__(
        self,
        *args: Any,
        masks: int = 4000,
        cells: int = 7,
        probability: float = 0.5,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.masks, self.cells, self.probability, self.seed = masks, cells, probability, seed

    def draw(self, size: Sequence[int], device: torch.device | None = None) -> Iterator[Tensor]:
        """The masks in batches (B, H, W), in [0, 1]; the same at every call, on any device."""
        generator = torch.Generator().manual_seed(self.seed)
        cell = [-(-side // self.cells) for side in size]
        larger = [(self.cells + 1) * side for side in cell]
        for start in range(0, self.masks, self.batch_size):
            count = min(self.batch_size, self.masks - start)
            grids = torch.rand(count, 1, self.cells, self.cells, generator=generator)
            kept = (grids < self.probability).float().to(device)
            places = [torch.randint(side, (count, 1), generator=generator) for side in cell]
            rows, columns = (
                place.to(device) + torch.arange(side, device=device)
                for place, side in zip(places, size, strict=True)
            )
            each = torch.arange(count, device=device)[:, None, None]
            yield resize(kept[:, 0], larger)[each, rows[:, :, None], columns[:, None]]

    def compute_cam_per_layer(
        self, input_tensor: Tensor, targets: Sequence[Any], eigen_smooth: bool
    ) -> list[Any]:
        """One map (N, 1, H, W) in [0, 1], as numpy."""
        device, size = input_tensor.device, input_tensor.shape[2:]
        total = torch.zeros(len(input_tensor), *size, device=device)
        classes = categories(targets)
        with tqdm(total=self.masks, desc="RISE", leave=False, disable=not self.progress) as bar:
            for masks in self.draw(size, device):
                for i, (image, category) in enumerate(zip(input_tensor, classes, strict=True)):
                    p = self.masked_probabilities(image, masks)[:, category]
                    total[i] += torch.tensordot(p, masks, 1)
                bar.update(len(masks))
        return [min_max(total / (self.masks * self.probability))[:, None].cpu().numpy()]
