"""Does the map lie where the object is known to be? True regions, and mosaics of four images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .confidence import check_classes, check_saliency


def _regions(saliency: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    if regions.shape != saliency.shape or regions.dtype != torch.bool:
        raise ValueError(
            f"regions must be booleans of shape {tuple(saliency.shape)}, got {regions.dtype} of "
            f"{tuple(regions.shape)}"
        )
    return check_saliency(saliency).flatten(1), regions.flatten(1)


def energy_inside(saliency: Tensor, regions: Tensor) -> Tensor:
    """The share (N,) of each map that lies inside its true region; 0 for a map of zeros.

    The energy-based pointing game of Score-CAM (Wang et al., CVPR Workshops 2020). Another
    constant map scores the region's share of the image.

    Args:
        saliency: (N, H, W) in [0, 1].
        regions: (N, H, W), bool.

    >>> energy_inside(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[True, False]]]))
    tensor([0.5000])
    """
    flat, inside = _regions(saliency, regions)
    total = flat.sum(1)
    return (flat * inside).sum(1) / torch.where(total > 0, total, 1)


def pointing_hit(saliency: Tensor, regions: Tensor) -> Tensor:
    """Whether (N,) the highest pixel of each map lies inside its true region, bool.

    The pointing game (Zhang et al., IJCV 2018). Of several highest pixels the first in reading
    order counts, so a constant map points at the top left pixel.
    """
    flat, inside = _regions(saliency, regions)
    return inside.gather(1, flat.argmax(1, keepdim=True))[:, 0]


def _cells(size: Sequence[int]) -> list[tuple[slice, slice]]:
    """The four cells of an image (H, W) in reading order; the last ones take an odd pixel."""
    height, width = size
    if min(size) < 2:
        raise ValueError(f"four cells need at least 2 x 2 pixels, got {height} x {width}")
    rows = slice(0, height // 2), slice(height // 2, height)
    columns = slice(0, width // 2), slice(width // 2, width)
    return [(row, column) for row in rows for column in columns]


def mosaics(
    images: Tensor, classes: Tensor, count: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """2 x 2 mosaics of images of four different classes, for the grid pointing game.

    Bohle, Fritz, Schiele, CVPR 2021 (arXiv 2104.00032), section 4: a map of the class in one cell
    should lie in that cell. There the mosaic is larger than its images; here each image is halved
    (antialiased), so that any classifier of images of that size can be asked.

    Args:
        images: (N, C, H, W), normalised or not; best those that the classifier is sure of.
        classes: (N,), of at least four kinds.
        count: how many mosaics M; each draws four classes, then an image of each.
        seed: of the draw.

    Returns:
        mosaics (M, C, H, W); members (M, 4), the indices of the images in reading order; cells
        (M,), which of the four is to be explained, each as often as the others. The class to
        explain is `classes[members.gather(1, cells[:, None])[:, 0]]`.

    >>> grids, members, cells = mosaics(torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 2, 3, 3]), 6)
    >>> tuple(grids.shape), tuple(members.shape), cells.tolist()
    ((6, 3, 8, 8), (6, 4), [0, 1, 2, 3, 0, 1])
    """
    check_classes(images, classes)
    if images.ndim != 4:
        raise ValueError(f"mosaics are of images (N, C, H, W), got {tuple(images.shape)}")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    groups = [(classes == c).nonzero()[:, 0].tolist() for c in classes.unique()]
    if len(groups) < 4:
        raise ValueError(
            f"a mosaic needs images of four different classes, got {len(groups)}: give more images"
        )
    generator = torch.Generator().manual_seed(seed)

    def draw() -> list[int]:
        chosen = [groups[g] for g in torch.randperm(len(groups), generator=generator)[:4]]
        return [g[int(torch.randint(len(g), (), generator=generator))] for g in chosen]

    members = torch.tensor([draw() for _ in range(count)], device=images.device)
    grids = images.new_empty(count, *images.shape[1:])
    for member, (rows, columns) in zip(members.T, _cells(images.shape[2:]), strict=True):
        cell = grids[:, :, rows, columns]
        cell.copy_(
            F.interpolate(
                images[member],
                cell.shape[2:],
                mode="bilinear",
                align_corners=False,
                antialias=True,
            )
        )
    return grids, members, torch.arange(count, device=images.device) % 4


def cell_regions(cells: Tensor, size: Sequence[int]) -> Tensor:
    """The pixels (M, H, W), bool, of the cells (M,), each 0 to 3, of mosaics of `size` (H, W).

    >>> cell_regions(torch.tensor([1]), (2, 3)).int()
    tensor([[[0, 1, 1],
             [0, 0, 0]]], dtype=torch.int32)
    """
    if cells.ndim != 1 or not len(cells) or not bool(((cells >= 0) & (cells <= 3)).all()):
        raise ValueError(f"cells must be (M,) with M > 0, each 0 to 3, got {cells.tolist()}")
    inside = torch.zeros(4, *size, dtype=torch.bool, device=cells.device)
    for region, (rows, columns) in zip(inside, _cells(size), strict=True):
        region[rows, columns] = True
    return inside[cells.long()]


def grid_pointing(saliency: Tensor, cells: Tensor) -> Tensor:
    """The share (M,) of each mosaic's map that lies in the cell explained, in [0, 1].

    A constant map scores 1/4 (for an even size), a map of zeros 0.

    Args:
        saliency: (M, H, W) in [0, 1], of the class in the cell.
        cells: (M,), each 0 to 3, in reading order.

    >>> grid_pointing(torch.ones(1, 4, 4), torch.tensor([2]))
    tensor([0.2500])
    """
    if saliency.ndim != 3:
        raise ValueError(f"saliency has shape {tuple(saliency.shape)}; (M, H, W) is needed")
    return energy_inside(saliency, cell_regions(cells, saliency.shape[1:]).to(saliency.device))
