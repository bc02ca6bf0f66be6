"""SISE and Ada-SISE: feature maps of several blocks as masks, scored, fused block by block.

SISE: Sattarzadeh et al., AAAI 2021, arXiv 2010.00672. Ada-SISE: Sudhakar et al., ICASSP 2021,
arXiv 2102.07799.
"""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import Tensor
from tqdm.auto import tqdm

from learnable_cam_plugin.saliency import min_max, resize

from .masked import MaskingCAM, categories

Select = Callable[[Tensor], Tensor]


def otsu(values: Tensor) -> Tensor:
    """Whether each value in [0, 1] lies above Otsu's threshold (256 levels), in the same shape."""
    levels = np.ascontiguousarray((values * 255).round().numpy().astype(np.uint8).reshape(1, -1))
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return torch.from_numpy(levels > threshold).view_as(values)


def positive(gradients: Tensor) -> Tensor:
    """SISE's choice of feature maps: those of a positive average gradient (C,) (mu = 0)."""
    return gradients > 0


def above_otsu(gradients: Tensor) -> Tensor:
    """Ada-SISE's: of those, the ones above Otsu's threshold of the scaled average gradients."""
    chosen = positive(gradients)
    if chosen.any():
        scaled = gradients.clamp(min=0) / gradients.max()
        above = torch.zeros_like(chosen)
        above[chosen] = otsu(scaled[chosen])
        # All alike: there is nothing to choose between.
        chosen = above if above.any() else chosen
    return chosen


class SISE(MaskingCAM):
    """Semantic input sampling: one backward pass chooses the masks, forward passes weigh them.

    Of each layer, the feature maps whose average gradient of the class probability is positive are
    resized and scaled to [0, 1]: the attribution masks m. The layer's visualisation map is the mean
    of f(I * m) * m / sum(m) over them. The maps are then fused from the first layer to the last:
    each is added to what was fused before and the sum is kept where the later one is above its
    Otsu threshold.

    Args: those of `MaskingCAM`, the target layers being the last layer of each convolutional block,
        first to last, and
        select: `positive` (SISE) or `above_otsu` (Ada-SISE).
    """

    def __init__(self, *args: Any, select: Select = positive, **options: Any) -> None:
        super().__init__(*args, uses_gradients=True, **options)
        self.select = select

    def forward(
        self, input_tensor: Tensor, targets: Sequence[Any] | None, eigen_smooth: bool = False
    ) -> np.ndarray:
        """As BaseCAM's; the gradient is that of the class probability."""
        if targets is None:
            with torch.no_grad():
                classes = self.model(input_tensor.to(self.device)).argmax(1).tolist()
        else:
            classes = categories(targets)
        wanted = [ClassifierOutputSoftmaxTarget(c) for c in classes]
        return super().forward(input_tensor, wanted, eigen_smooth)

    def compute_cam_per_layer(
        self, input_tensor: Tensor, targets: Sequence[Any], eigen_smooth: bool
    ) -> list[Any]:
        """One fused map (N, 1, H, W) in [0, 1], as numpy."""
        maps = []
        with self.unrecorded() as recorded:
            for i, category in enumerate(categories(targets)):
                layers = [(a[i], g[i]) for a, g in zip(*recorded, strict=True)]
                maps.append(self._map_of(input_tensor[i], category, layers))
        return [torch.stack(maps)[:, None].numpy()]

    def _map_of(
        self, image: Tensor, category: int, layers: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The map (H, W) of one image, from its feature maps and their gradients (C, h, w)."""
        chosen = [maps[self.select(gradient.flatten(1).sum(1))] for maps, gradient in layers]
        total = sum(len(maps) for maps in chosen)
        with tqdm(total=total, desc="SISE", leave=False, disable=not self.progress) as bar:
            visual = [self._visualize(image, maps, category, bar) for maps in chosen if len(maps)]
        return fuse(visual) if visual else torch.zeros(image.shape[1:])

    def _visualize(self, image: Tensor, features: Tensor, category: int, bar: tqdm) -> Tensor:
        """A layer's visualisation map (H, W) from its chosen feature maps (M, h, w)."""
        total = torch.zeros(image.shape[1:])
        for part in features.split(self.batch_size):
            masks = min_max(resize(part.float(), image.shape[1:])).to(image.device)
            p = self.masked_probabilities(image, masks)[:, category]
            area = masks.sum((1, 2))
            total += torch.tensordot(p / torch.where(area > 0, area, 1), masks, 1).cpu()
            bar.update(len(part))
        return total / len(features)


def fuse(layers: Sequence[Tensor]) -> Tensor:
    """SISE's fusion module: maps (H, W), first layer to last -> one (H, W) in [0, 1].

    >>> fuse([torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[0.0, 1.0, 1.0]])])
    tensor([[0.0000, 0.5000, 1.0000]])
    """
    fused = min_max(layers[0][None])
    for layer in layers[1:]:
        deeper = min_max(layer[None])
        fused = min_max((fused + deeper) * otsu(deeper))
    return fused[0]
