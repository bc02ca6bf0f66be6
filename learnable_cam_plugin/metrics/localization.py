"""Does the map lie where the object is known to be? True regions, and the cells of mosaics."""

import torch
from torch import Tensor

from ..data import cell_regions
from .confidence import check_saliency


def _regions(saliency: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    if regions.shape != saliency.shape or regions.dtype != torch.bool:
        given = f"{regions.dtype} of {tuple(regions.shape)}"
        raise ValueError(f"regions must be booleans of shape {tuple(saliency.shape)}, got {given}")
    return check_saliency(saliency).flatten(1), regions.flatten(1)


def energy_inside(saliency: Tensor, regions: Tensor) -> Tensor:
    """The share (N,) of each map that lies inside its true region; 0 for a map of zeros.

    The energy-based pointing game of Score-CAM (Wang et al., CVPR Workshops 2020). Another
    constant map scores the region's share of the image. Maps (N, H, W) in [0, 1], regions bool.

    >>> energy_inside(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[True, False]]]))
    tensor([0.5000])
    """
    flat, inside = _regions(saliency, regions)
    flat = flat.float()  # a sum of so many pixels overflows in half precision
    total = flat.sum(1)
    return (flat * inside).sum(1) / torch.where(total > 0, total, 1)


def pointing_hit(saliency: Tensor, regions: Tensor) -> Tensor:
    """Whether (N,) the highest pixel of each map lies inside its true region, bool.

    The pointing game (Zhang et al., IJCV 2018), without its tolerance of 15 pixels around the
    region. Of several highest pixels the first in reading order counts, so a constant map points
    at the top left pixel.
    """
    flat, inside = _regions(saliency, regions)
    return inside.gather(1, flat.argmax(1, keepdim=True))[:, 0]


def grid_pointing(saliency: Tensor, cells: Tensor) -> Tensor:
    """The share (M,) of each mosaic's map that lies in the cell explained, in [0, 1].

    The maps (M, H, W), in [0, 1], are of the class in the cell (M,), 0 to 3 in reading order. A
    constant map scores 1/4 (for an even size), a map of zeros 0.

    >>> grid_pointing(torch.ones(1, 4, 4), torch.tensor([2]))
    tensor([0.2500])
    """
    if saliency.ndim != 3:
        raise ValueError(f"saliency has shape {tuple(saliency.shape)}; (M, H, W) is needed")
    return energy_inside(saliency, cell_regions(cells, saliency.shape[1:]).to(saliency.device))
