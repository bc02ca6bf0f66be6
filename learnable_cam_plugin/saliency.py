"""From raw maps to saliency: min-max to [0, 1], resize bilinearly to the image."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# Whether `torch.compile` or `torch.export` is at work; torch 2.2 has it elsewhere.
compiling = getattr(torch.compiler, "is_compiling", None) or torch._utils.is_compiling

_COARSE = 32  # places a side
_ENTRIES = 2**14  # of the matrix that resizes both sides at once


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (N, h, w) or (N, C, h, w) resized to `size` (H, W), bilinearly, align_corners=False;
    (N, d, h, w) or (N, C, d, h, w) to (D, H, W), trilinearly."""
    size, single = tuple(size), maps.ndim == len(size) + 1
    if tuple(maps.shape[-len(size) :]) == size:
        return maps
    if len(size) == 2 and _as_product(maps, size):
        # on a CPU in a third of the time of `interpolate`, which is made for many channels
        (height, width), matrix = maps.shape[-2:], _written if exporting() else _kept
        if height * width * size[0] * size[1] <= _ENTRIES:
            return (maps.flatten(-2) @ matrix(height, width, *size)).unflatten(-1, size)
        if single:
            return matrix(height, size[0]) @ (maps @ matrix(width, size[1]).T)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    given = maps[:, None] if single else maps
    resized = F.interpolate(given, size=size, mode=mode, align_corners=False)
    return resized[:, 0] if single else resized


def _as_product(maps: Tensor, size: Sequence[int]) -> bool:
    """Whether to resize by small matrices: not to sizes that a graph leaves open, nor in what is
    compiled or traced, nor where autocast would round them."""
    if maps.dtype != torch.float32 or not maps.is_cpu or _autocast():
        return False
    if exporting():  # a graph with such a product is as much faster
        plain = all(isinstance(side, int) for side in (*maps.shape[-2:], *size))
    else:
        plain = type(maps) is Tensor and not compiling()
    return plain and not torch.jit.is_tracing() and max(maps.shape[-2:]) <= _COARSE


def _autocast() -> bool:
    try:
        return torch.is_autocast_enabled("cpu")
    except TypeError:  # torch 2.2 and 2.3
        return torch.is_autocast_cpu_enabled()


def exporting() -> bool:
    """Whether `torch.export` is at work."""
    return getattr(torch.compiler, "is_exporting", bool)()  # torch 2.2 has none


def _bilinear(side: int, wanted: int) -> np.ndarray:
    """The (wanted, side) matrix that resizes columns of `side` values."""
    places = (np.arange(wanted) + 0.5) * side / wanted - 0.5
    far = np.abs(places.clip(0, side - 1)[:, None] - np.arange(side))
    return (1 - far).clip(0).astype(np.float32)


def _matrix(height: int, width: int, *size: int) -> np.ndarray:
    """`_bilinear` of one side; of two, the (height * width, H * W) matrix of maps, flattened."""
    if not size:
        return _bilinear(height, width)
    return np.kron(_bilinear(height, size[0]), _bilinear(width, size[1])).T


@lru_cache(64)
def _kept(*sides: int) -> Tensor:
    """`_matrix` as a tensor."""
    with torch.inference_mode(False):
        return torch.tensor(_matrix(*sides), device="cpu")


def _written(*sides: int) -> Tensor:
    """The same, not kept: while a graph is exported, what is made belongs to it."""
    return torch.tensor(_matrix(*sides).tolist(), dtype=torch.float32, device="cpu")


def min_max(maps: Tensor) -> Tensor:
    """Each map (N, ...) scaled to [0, 1] by its own minimum and maximum; a constant map is 0.

    >>> min_max(torch.tensor([[[-1.0, 0.0], [1.0, 3.0]]]))
    tensor([[[0.0000, 0.2500],
             [0.5000, 1.0000]]])
    """
    flat, each = maps.flatten(1), (-1, *[1] * (maps.ndim - 1))
    low = flat.amin(1)
    span = flat.amax(1) - low
    return (maps - low.view(each)) / span.masked_fill(span == 0, 1).view(each)


def combine(maps: Sequence[Tensor]) -> Tensor:
    """One saliency from several layers' (N, ...): their mean, scaled to [0, 1] again."""
    return min_max(maps[0] if len(maps) == 1 else torch.stack(list(maps)).mean(0))


def saliency(raw_maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """The paper's saliency (section 3.3) of one or several layers' raw maps, at the image's size.

    Each raw map is min-max normalised and resized, as in the paper. Then, as every pytorch-grad-cam
    method does, the mean over the layers is scaled to the full range [0, 1] once more: resizing
    can lower a peak that lies between pixels.

    The raw maps are a tensor (N, h, w) or (N, d, h, w) a layer, of any sign; `size` is the image's,
    (H, W) or (D, H, W); the result, (N, *size), lies in [0, 1]. Of several classes an image, maps
    (N, M, h, w), it is (N, M, *size).

    >>> saliency([torch.tensor([[[-2.0, 0.0], [0.0, 2.0]]])], (2, 2))
    tensor([[[0.0000, 0.5000],
             [0.5000, 1.0000]]])
    """
    if raw_maps[0].ndim > len(size) + 1:
        flat = saliency([raw.flatten(0, 1) for raw in raw_maps], size)
        return flat.unflatten(0, raw_maps[0].shape[:2])
    if len(raw_maps) > 1:
        return combine([resize(min_max(raw), size) for raw in raw_maps])
    # one map is scaled when it is resized: before, what counts is that a constant one is 0
    raw = raw_maps[0]
    low = raw.flatten(1).amin(1).view(-1, *[1] * (raw.ndim - 1))
    return min_max(resize(raw - low, size))
