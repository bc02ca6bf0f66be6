"""The region that a map points out, one of the same shape elsewhere, and how alike two maps are."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ..saliency import resize
from .case import Agreement, Map, Region

_TRIES = 64  # places for a random region


def region(found: Map, size: tuple[int, int], level: float = 0.5, area: float = 0.25) -> Region:
    """The places of a map (h, w), at the image's `size`, that are at least `level` of its highest
    one, bool (H, W); of more than `area` of the image, the brightest that cover so much. Of a map
    that is the same everywhere, none.

    >>> region(np.array([[0.0, 1.0], [0.0, 0.0]], dtype=np.float32), (2, 2))
    array([[False,  True],
           [False, False]])
    """
    if found.max() <= found.min():
        return np.zeros(size, dtype=np.bool_)
    full = resize(torch.from_numpy(np.ascontiguousarray(found))[None], size)[0]
    within = full >= level * full.max()
    most = max(1, math.floor(area * full.numel()))
    if int(within.sum()) > most:
        places = full.flatten().topk(most).indices
        within = torch.zeros(full.numel(), dtype=torch.bool)
        within[places] = True
        within = within.view(size)
    return within.numpy()


def elsewhere(found: Region, random: np.random.Generator) -> Region:
    """A region of the same shape and area at a random place off it: moved, and mirrored or not;
    what leaves the image on one side comes in on the other. Where none of the places tried leaves
    nine tenths of it uncovered, the one that leaves the most."""
    kept, covered = found, 2.0
    for _ in range(_TRIES):
        rows, columns = (int(random.integers(side)) for side in found.shape)
        turned = found[:: random.choice((1, -1)), :: random.choice((1, -1))]
        moved = np.roll(turned, (rows, columns), (0, 1))
        now = share_covered(found, moved)
        if now < covered:
            kept, covered = moved, now
        if covered <= 0.1:
            break
    return kept


def agreement(one: Map, other: Map, first: Region, second: Region) -> Agreement:
    """How alike two maps (h, w), and their regions (H, W), are; NaN of a map that is the same
    everywhere, and of a region that is empty."""
    return Agreement(
        overlap=shared(first, second),
        correlation=_correlation(_ranks(one), _ranks(other)),
        distance=distance(first, second) if first.any() and second.any() else math.nan,
    )


def shared(one: Region, other: Region) -> float:
    """Intersection over union of two regions (H, W), in [0, 1]; 0 if both are empty."""
    return float((one & other).sum()) / max(1.0, float((one | other).sum()))


def share_covered(one: Region, by: Region) -> float:
    """Share of a region (H, W) that another one covers, in [0, 1]; 0 if it is empty."""
    return float((one & by).sum() / max(1, one.sum()))


def _ranks(values: Map) -> NDArray[np.float64]:
    """Ranks, of equal values the mean one."""
    _, index, count = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[index.ravel()]


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    a, b = one - one.mean(), other - other.mean()
    length = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return max(-1.0, min(1.0, float((a * b).sum()) / length)) if length else math.nan


def distance(first: Region, second: Region) -> float:
    """Of the centres of two regions (H, W), as a share of the diagonal; 0 if one is empty."""
    if not first.any() or not second.any():
        return 0.0
    centres = [np.argwhere(one).mean(0) for one in (first, second)]
    height, width = first.shape
    return float(np.linalg.norm(centres[0] - centres[1]) / math.hypot(height, width))
