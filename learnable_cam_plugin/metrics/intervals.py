"""How sure is a mean over images, or a share of them? Intervals."""

from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor


class Interval(NamedTuple):
    """A mean, and the ends of its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: Tensor, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean over images and its percentile bootstrap interval (Efron, Tibshirani 1993, ch. 13).

    The images are drawn again, with replacement, `resamples` times; the interval holds the middle
    `level`, in (0, 1), of the means. One image, or equal values, give an interval of no width. Of
    few images it is too narrow: of normal values around 0 it leaves out 0 in one case of twelve for
    16 images, of nine for 8, of six for 5, where one of twenty is meant. For a share, as IC, take
    `wilson`.

    Args:
        values: (N,), a metric's number for each image; booleans count as 0 and 1.
        level, resamples, seed: of confidence; how many draws; theirs.

    >>> mean, low, high = bootstrap(torch.tensor([0.0, 1.0] * 50))
    >>> f"{mean} in [{low:.1f}, {high:.1f}]"
    '0.5 in [0.4, 0.6]'
    """
    values = torch.as_tensor(values)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values must be a vector (N,) with N > 0, got {tuple(values.shape)}")
    if not bool(torch.isfinite(values).all()):
        raise ValueError("values hold NaN or infinity: find the images that have no score first")
    if not 0 < level < 1 or resamples < 1:
        given = f"{level} and {resamples}"
        raise ValueError(f"level must be in (0, 1) and resamples at least 1, got {given}")
    values = values.detach().double().cpu()
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:  # all of them at once would be N * resamples indices
        return values[torch.randint(len(values), values.shape, generator=generator)].mean()

    means = torch.stack([draw() for _ in range(resamples)])
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.double)
    low, high = means.quantile(ends).tolist()
    return Interval(float(values.mean()), low, high)


def wilson(hits: int, of: int, level: float = 0.95) -> Interval:
    """A share, `hits / of`, and its score interval (Wilson 1927): of some width, and inside [0, 1],
    for no hit and for all, too. Of nothing, the share is NaN, and anything from 0 to 1.

    >>> share, low, high = wilson(9, 10)
    >>> f"{share} in [{low:.2f}, {high:.2f}]"
    '0.9 in [0.60, 0.98]'
    """
    if not 0 <= hits <= of or not 0 < level < 1:
        given = f"{hits} of {of} and {level}"
        raise ValueError(f"hits must be within 0 and of, and level in (0, 1), got {given}")
    if not of:
        return Interval(float("nan"), 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, weight = hits / of, z * z / of
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * (share * (1 - share) / of + weight / (4 * of)) ** 0.5
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))
