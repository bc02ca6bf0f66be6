"""2 x 2 mosaics of images: one class in each cell, so that a map of it has a right place."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..classifier import check_one_class_each


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
        count, seed: how many mosaics M, each of four classes and an image of each; of the draw.

    Returns:
        mosaics (M, C, H, W); members (M, 4), the indices of the images in reading order; cells
        (M,), which of the four is to be explained, each as often as the others. The class to
        explain is `classes[members.gather(1, cells[:, None])[:, 0]]`.

    >>> grids, members, cells = mosaics(torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 2, 3, 3]), 6)
    >>> tuple(grids.shape), tuple(members.shape), cells.tolist()
    ((6, 3, 8, 8), (6, 4), [0, 1, 2, 3, 0, 1])
    """
    check_one_class_each(images, classes)
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
        size = grids[:, :, rows, columns].shape[2:]
        wide = images[member].to(torch.promote_types(images.dtype, torch.float32))  # no CPU has it
        small = F.interpolate(wide, size, mode="bilinear", antialias=True)
        grids[:, :, rows, columns] = small.to(grids)
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
