"""From raw maps to saliency: min-max to [0, 1], resize bilinearly to the image."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

_COARSE = 32  # places a side
_ENTRIES = 2**14  # of the matrix that resizes both sides at once


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (N, h, w) or (N, C, h, w) resized to `size` (H, W), bilinearly, align_corners=False;
    (N, d, h, w) or (N, C, d, h, w) to (D, H, W), trilinearly."""
    size, single = tuple(size), maps.ndim == len(size) + 1
    if tuple(maps.shape[-len(size) :]) == size:
        return maps
    if len(size) == 2 and _as_product(maps):
        # on a CPU in a third of the time of `interpolate`, which is made for many channels
        grid = maps.shape[-2:]
        if grid.numel() * size[0] * size[1] <= _ENTRIES:
            return (maps.flatten(-2) @ _at_once(*grid, *size)).unflatten(-1, size)
        if single:
            return _bilinear(grid[0], size[0]) @ (maps @ _bilinear(grid[1], size[1]).T)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    given = maps[:, None] if single else maps
    resized = F.interpolate(given, size=size, mode=mode, align_corners=False)
    return resized[:, 0] if single else resized


def _as_product(maps: Tensor) -> bool:
    """Whether to resize by small matrices: not in what is compiled, traced or exported, nor where
    autocast would round them."""
    plain = type(maps) is Tensor and maps.dtype == torch.float32 and maps.is_cpu
    if not plain or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return max(maps.shape[-2:]) <= _COARSE and not torch.is_autocast_enabled("cpu")


@lru_cache(64)
def _bilinear(side: int, wanted: int) -> Tensor:
    """The (wanted, side) matrix that resizes columns of `side` values."""
    with torch.inference_mode(False):
        unit = torch.eye(side, device="cpu", dtype=torch.float32)[None, None]
        size = (wanted, side)
        return F.interpolate(unit, size=size, mode="bilinear", align_corners=False)[0, 0]


@lru_cache(64)
def _at_once(height: int, width: int, *size: int) -> Tensor:
    """The (height * width, H * W) matrix that resizes maps, flattened, to `size` (H, W)."""
    with torch.inference_mode(False):
        rows, columns = _bilinear(height, size[0]), _bilinear(width, size[1])
        return torch.kron(rows.contiguous(), columns.contiguous()).T


def min_max(maps: Tensor) -> Tensor:
    """Each map (N, ...) scaled to [0, 1] by its own minimum and maximum; a constant map is 0.

    >>> min_max(torch.tensor([[[-1.0, 0.0], [1.0, 3.0]]]))
    tensor([[[0.0000, 0.2500],
             [0.5000, 1.0000]]])
    """
    flat = maps.flatten(1)
    low = flat.amin(1, keepdim=True)
    span = flat.amax(1, keepdim=True) - low
    return ((flat - low) / span.masked_fill(span == 0, 1)).view_as(maps)


def combine(maps: Sequence[Tensor]) -> Tensor:
    """One saliency from several layers' (N, ...): their mean, scaled to [0, 1] again."""
    return min_max(maps[0] if len(maps) == 1 else torch.stack(list(maps)).mean(0))


def saliency(raw_maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """The paper's saliency (section 3.3) of one or several layers' raw maps, at the image's size.

    Each raw map is min-max normalised and resized, as in the paper. Then, as every pytorch-grad-cam
    method does, the mean over the layers is scaled to the full range [0, 1] once more: resizing
    can lower a peak that lies between pixels.

    The raw maps are a tensor (N, h, w) or (N, d, h, w) a layer, of any sign; `size` is the image's,
    (H, W) or (D, H, W); the result, (N, *size), lies in [0, 1].

    >>> saliency([torch.tensor([[[-2.0, 0.0], [0.0, 2.0]]])], (2, 2))
    tensor([[[0.0000, 0.5000],
             [0.5000, 1.0000]]])
    """
    if len(raw_maps) > 1:
        return combine([resize(min_max(raw), size) for raw in raw_maps])
    # one map is scaled when it is resized: before, what counts is that a constant one is 0
    raw = raw_maps[0]
    low = raw.flatten(1).amin(1).view(-1, *[1] * (raw.ndim - 1))
    return min_max(resize(raw - low, size))
