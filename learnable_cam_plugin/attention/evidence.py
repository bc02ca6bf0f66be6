"""Maps that mean the same for every classifier: what it says of a class, place by place.

None depends on how many channels or classes the classifier has, or on the scale of its features
or of its logits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..saliency import resize

INPUTS = 14
_COMPETITORS = 8
_SHARPNESS = 10.0  # of the finer layer's likeness of places
_PLACES = 1024  # of which likeness is taken at most


class Evidence(NamedTuple):
    """Of N images and a class of each.

    Attributes:
        maps: (N, 14, H, W) at the finest layer's grid; see `evidence`.
        contrast: (N, H, W), the class against its competitors, with mean 0 and deviation 1.
        strongest: (N,), the most that a place says for the class, in spreads of the logits.
    """

    maps: Tensor
    contrast: Tensor
    strongest: Tensor


def root(squares: Tensor) -> Tensor:
    """The square root, with a derivative of 0 at 0, where it has none: on a 1x1 grid, on maps of
    zeros."""
    return squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt()


def standard(maps: Tensor) -> Tensor:
    """Maps (N, M, h, w), each with mean 0 and standard deviation 1."""
    centred = maps - maps.mean((2, 3), keepdim=True)
    return centred / (root(centred.square().mean((2, 3), keepdim=True)) + 1e-3)


def against(vectors: Tensor, probabilities: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """v_y (N, C), and v_y - sum_k p_k v_k: the gradient of log p_y with respect to pooled features,
    which speaks for the class against what else the classifier sees. Of weights (N, K) of the
    classes, their sums."""
    if not classes.is_floating_point():
        own = vectors[classes]
        return own, own - probabilities @ vectors
    weights = classes.to(vectors)
    own = weights @ vectors
    return own, own - weights.sum(1, keepdim=True) * (probabilities @ vectors)


@torch.no_grad()
def evidence(
    features: Sequence[Tensor], vectors: Tensor, offsets: Tensor, classes: Tensor
) -> Evidence:
    """What a classifier's features and head say of a class, at each place.

    The head is applied to the last layer's feature vector of each place, as to the pooled one. At
    that layer's grid: the class's logit and its contrast g_y . A, both standardised and in spreads
    of the image's own logits; its log-probability among its strongest competitors, and its margin
    over the best of them; the feature vector's likeness to that of the contrast's peak, and its
    norm. At the finest layer's grid: contrast, logit and the two against competitors, each carried
    to the places that look alike there; that layer's norm; how much of a place's likeness is at one
    other place.

    Args:
        features: (N, C, h, w) a layer, the one that the head reads last.
        vectors, offsets: (K, C), (K,), the head's.
        classes: (N,), integers in [0, K); or weights (N, K) of the classes, of which what is not
            linear in them is the heaviest one's. A single class, K = 1, competes with a logit of 0.
    """
    last, fine = features[-1], max(features, key=lambda maps: maps.shape[2] * maps.shape[3])
    vectors, offsets, classes = vectors.to(last), offsets.to(last), classes.to(last.device)
    if len(vectors) == 1:
        vectors, offsets = F.pad(vectors, (0, 0, 0, 1)), F.pad(offsets, (0, 1))
        classes = F.pad(classes, (0, 1)) if classes.is_floating_point() else classes
    logits = F.linear(last.mean((2, 3)), vectors, offsets)
    own, gradient = against(vectors, logits.softmax(1), classes)
    offset = offsets[classes] if not classes.is_floating_point() else classes.to(offsets) @ offsets
    classes = classes.argmax(1) if classes.is_floating_point() else classes
    strength = gradient.norm(dim=1, keepdim=True).clamp(min=1e-3)
    both = torch.einsum("nchw,nmc->nmhw", last, torch.stack([own, gradient / strength], 1))
    relative = standard(both)
    spread = 4 * logits.std(1, correction=0).clamp(min=1e-3).view(-1, 1, 1)
    local = both[:, 0] + offset.view(-1, 1, 1)
    rivals = _competitors(logits, classes)
    theirs = (
        torch.einsum("nchw,nmc->nmhw", last, vectors[rivals]) + offsets[rivals][..., None, None]
    )
    log_share = (local - torch.cat([local[:, None], theirs], 1).logsumexp(1)) / 5
    margin = (local - theirs.amax(1)) / spread
    above = (local - logits.mean(1).view(-1, 1, 1)) / spread
    scaled = both[:, 1] * strength[:, :, None] / spread
    coarse = [relative[:, 0], relative[:, 1], above, scaled, log_share, margin]
    coarse += [_likeness_to_peak(last, relative[:, 1]), standard(last.norm(dim=1)[:, None])[:, 0]]
    size = fine.shape[2:]
    at_size = resize(torch.stack(coarse, 1), size)
    carried, alone = _carried(fine, at_size[:, [1, 0, 4, 3]])
    carried = torch.cat([standard(carried[:, :1]), carried[:, 1:]], 1)
    norm = standard(fine.norm(dim=1)[:, None])
    maps = torch.cat([at_size, carried, norm, standard(alone)], 1)
    return Evidence(maps, at_size[:, 1], at_size[:, 3].amax((1, 2)))


def _competitors(logits: Tensor, classes: Tensor) -> Tensor:
    """The classes (N, M) with the highest logits beside the explained one."""
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return others.topk(min(_COMPETITORS, logits.shape[1] - 1), 1).indices


def _likeness_to_peak(maps: Tensor, contrast: Tensor) -> Tensor:
    """(N, h, w): the cosine of each place's feature vector with that of the contrast's peak."""
    unit = F.normalize(maps.flatten(2), dim=1)
    peak = contrast.flatten(1).argmax(1).view(-1, 1, 1).expand(-1, unit.shape[1], 1)
    return (unit * unit.gather(2, peak)).sum(1).view_as(contrast)


def _carried(fine: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (N, M, H, W) averaged over the places that look alike in the feature maps `fine`; and
    (N, 1, H, W), the highest weight in each average."""
    size, grid = maps.shape[2:], fine.shape[2:]
    shrink = (_PLACES / (grid[0] * grid[1])) ** 0.5
    if shrink < 1:
        grid = torch.Size(max(1, int(side * shrink)) for side in grid)
        fine, maps = (F.adaptive_avg_pool2d(m, (grid[0], grid[1])) for m in (fine, maps))
    unit = F.normalize((fine - fine.mean((2, 3), keepdim=True)).flatten(2), dim=1)
    weights = (_SHARPNESS * unit.transpose(1, 2) @ unit).softmax(2)
    carried = (maps.flatten(2) @ weights.transpose(1, 2)).unflatten(2, grid)
    alone = weights.amax(2).unflatten(1, grid)[:, None]
    return resize(carried, size), resize(alone, size)
