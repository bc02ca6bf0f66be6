"""ADCC: average drop, coherency and complexity in one number.

Poppi, Cornia, Baraldi, Cucchiara, CVPR Workshops 2021 (arXiv 2104.10252): each of the three can be
fooled by a map that explains nothing; their harmonic mean less so. All are in percent.
"""

import torch
from torch import Tensor

from ..saliency import min_max
from .confidence import check_saliency


def complexity(saliency: Tensor) -> Tensor:
    """100 * the mean of each map (N, H, W) in [0, 1]: (N,) in [0, 100]; lower is better.

    >>> complexity(torch.tensor([[[0.0, 1.0]], [[0.0, 0.5]]]))
    tensor([50., 25.])
    """
    return check_saliency(saliency).flatten(1).mean(1) * 100


def coherency(saliency: Tensor, again: Tensor) -> Tensor:
    """How like (N,) each map and the map of the image masked by it are, in [0, 100]; higher better.

    100 * (1 + r) / 2 of their Pearson correlation r: 100 for the same map, 50 for unrelated ones.
    The correlation of a constant map is not defined: two of them are alike (100), one is unrelated
    to anything else (50). Both are (N, H, W) in [0, 1] and of the same classes, `saliency` of the
    images and `again` of `mask_image(images, saliency, ...)`.

    >>> maps = torch.tensor([[[0.0, 0.5, 1.0]]])
    >>> [float(coherency(maps, m).round()) for m in (maps, 1 - maps, torch.ones(1, 1, 3))]
    [100.0, 0.0, 50.0]
    """
    if saliency.shape != again.shape:
        shapes = f"{tuple(saliency.shape)} and {tuple(again.shape)}"
        raise ValueError(f"the two maps of each image must have one shape, got {shapes}")
    # the correlation does not mind the scale; at full scale no map is too faint to square
    a, b = (min_max(check_saliency(maps).flatten(1).double()) for maps in (saliency, again))
    both_constant = ((a == 0) & (b == 0)).all(1)
    a, b = (maps - maps.mean(1, keepdim=True) for maps in (a, b))
    norms = a.norm(dim=1) * b.norm(dim=1)
    r = ((a * b).sum(1) / torch.where(norms > 0, norms, 1)).clamp(-1, 1)
    return (100 * (1 + torch.where(both_constant, 1.0, r)) / 2).to(saliency.dtype)


def adcc(drop: Tensor, coherency: Tensor, complexity: Tensor) -> Tensor:
    """The harmonic mean (N,) of 100 - drop, coherency and 100 - complexity; higher is better.

    All are in [0, 100], `drop` of `drops`. It is 0 where one of the three is, as for a map of ones.

    >>> adcc(torch.tensor([0.0, 100.0]), torch.tensor([100.0, 100.0]), torch.tensor([50.0, 0.0]))
    tensor([75.,  0.], dtype=torch.float64)
    """
    parts = {"drop": drop, "coherency": coherency, "complexity": complexity}
    for name, values in parts.items():
        if values.ndim != 1 or values.shape != drop.shape or not len(values):
            shapes = {name: tuple(values.shape) for name, values in parts.items()}
            raise ValueError(f"three vectors (N,) of the same N > 0 are needed, got {shapes}")
        if not bool(((values >= 0) & (values <= 100)).all()):
            given = values.tolist()
            raise ValueError(f"{name} must lie in [0, 100] (percent, not NaN), got {given}")
    bad, alike, large = (values.double().to(drop.device) for values in parts.values())
    good = torch.stack([100 - bad, alike, 100 - large])
    return torch.where((good > 0).all(0), 3 / (1 / good.clamp(min=1e-300)).sum(0), 0.0)
