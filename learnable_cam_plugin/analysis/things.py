"""The things that an image is made of: pieces of one colour, any of which may be in front of the
object; and the image without one of them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from .case import Region
from .regions import shared

_SIDE = 112  # places, of the longer side of what is taken to pieces, at most
_SCALES = 0.2, 0.1  # how much colours may differ in a piece, over its places: twice taken to pieces
_SMALLEST = 10  # places of a piece
_LEAST, _MOST = 0.012, 0.15  # share of the image that a thing covers
_COUNT = 20  # things of a scale, the largest
_SAME = 0.85  # overlap of two things from which on they are one


def things(pixels: NDArray[np.float32]) -> list[Region]:
    """The things in an image (H, W, 3) in [0, 1]: regions (H, W), 40 at most, the coarser first and
    of those the largest.

    They are the segments of Felzenszwalb and Huttenlocher (2004), at two scales, that cover more
    than a hundredth and at most 15 % of the image, widened by a place: a thing's rim belongs
    to it.
    """
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    shrink = min(1.0, _SIDE / max(whole.shape[2:]))
    size = [max(1, round(side * shrink)) for side in whole.shape[2:]]
    small = interpolate(whole, size, mode="area")
    smooth = avg_pool2d(pad(small, (1, 1, 1, 1), mode="replicate"), 3, 1)[0].permute(1, 2, 0)
    found: list[Region] = []
    for scale in _SCALES:
        pieces = torch.from_numpy(segments(smooth.numpy(), scale))
        shares = torch.bincount(pieces.flatten()).float() / pieces.numel()
        fits = (shares >= _LEAST) & (shares <= _MOST)
        largest = shares.argsort(descending=True, stable=True)
        for piece in largest[fits[largest]].tolist()[:_COUNT]:
            wide = max_pool2d((pieces == piece).float()[None, None], 3, 1, 1)
            thing = (interpolate(wide, whole.shape[2:])[0, 0] > 0).numpy()
            if all(shared(thing, other) < _SAME for other in found):
                found.append(thing)
    return found


def segments(pixels: NDArray[np.float32], scale: float = _SCALES[0]) -> NDArray[np.int64]:
    """The number of the piece that each place of an image (H, W, 3) belongs to, (H, W).

    Neighbours are joined, the most alike first, while they differ no more than neighbours within
    either piece do, plus an allowance that small pieces have more of.
    """
    height, width, _ = pixels.shape
    places = np.arange(height * width).reshape(height, width)
    ends = [(places[:, :-1], places[:, 1:]), (places[:-1], places[1:])]
    ends += [(places[:-1, :-1], places[1:, 1:]), (places[1:, :-1], places[:-1, 1:])]
    one, two = (np.concatenate([pair[i].ravel() for pair in ends]) for i in range(2))
    colours = pixels.reshape(-1, 3)
    differences = np.linalg.norm(colours[one] - colours[two], axis=1)
    order = np.argsort(differences, kind="stable")
    edges = [found[order].tolist() for found in (differences, one, two)]
    parent, count = list(range(height * width)), [1] * (height * width)
    allowed = [scale] * (height * width)

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for last in (False, True):  # at last, what is left over goes to a neighbour
        for difference, a, b in zip(*edges, strict=True):
            a, b = root(a), root(b)
            small = min(count[a], count[b]) < _SMALLEST
            if a != b and (small if last else difference <= min(allowed[a], allowed[b])):
                parent[b] = a
                count[a] += count[b]
                allowed[a] = difference + scale / count[a]
    roots = np.array([root(place) for place in range(height * width)])
    return np.unique(roots, return_inverse=True)[1].reshape(height, width)


def surrounded(images: Tensor, hidden: Tensor) -> Tensor:
    """Images (N, C, H, W) whose hidden places, bool (N, H, W), take the colours around them: of the
    nearest ones at the rim, smoother and from farther away inwards. All hidden, they are 0."""
    known = (~hidden).to(images)[:, None]
    return _filled(images * known, known)


def _filled(images: Tensor, known: Tensor) -> Tensor:
    """From ever smaller images, each of what is known of the one before (push and pull)."""
    height, width = images.shape[2:]
    if max(height, width) == 1 or bool(known.all()):
        return images
    halves = [
        avg_pool2d(one, 2, ceil_mode=True, count_include_pad=False) for one in (images, known)
    ]
    smaller = halves[0] / halves[1].clamp(min=1e-6)
    below = _filled(smaller * (halves[1] > 0), (halves[1] > 0).to(images))
    coarse = interpolate(below, (height, width), mode="bilinear", align_corners=False)
    return torch.where(known > 0, images, coarse)
