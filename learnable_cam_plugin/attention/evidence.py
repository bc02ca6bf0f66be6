"""Maps that mean the same for every classifier: what it says of a class, place by place.

None depends on how many channels or classes the classifier has, or on the scale of its features
or of its logits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..saliency import exporting, resize

INPUTS = 12
_COMPETITORS = 8
_SHARPNESS = 10.0  # of the finer layer's likeness of places
_PLACES = 1024  # of which likeness is taken at most
FLAT = 1e-6  # in spreads: what the contrast varies by at most where all it varies by is rounding
ENOUGH = 1 / 16  # a power of two: divided by it, what is that much gives 1 to the bit


class Evidence(NamedTuple):
    """Of N images and a class of each.

    Attributes:
        maps: (N, 12, H, W) at the finest layer's grid; see `evidence`.
        contrast: (N, H, W), the class against its competitors, with mean 0 and deviation 1.
        zero: (N,), where the contrast is 0 when it has mean 0 and deviation 1, within -1 and 1:
            below 0 where the image as a whole speaks for the class.
        varies: (N, 1, 1), the contrast's deviation over the places, in spreads, at most `ENOUGH`:
            less is less than any image of a trained classifier showed, and rounding in the end.
    """

    maps: Tensor
    contrast: Tensor
    zero: Tensor
    varies: Tensor


def standard(maps: Tensor) -> Tensor:
    """Maps (..., h, w), each with mean 0 and standard deviation 1; of what is the same everywhere,
    zeros."""
    return F.layer_norm(maps, maps.shape[-2:], eps=1e-6)


def _lengths(maps: Tensor) -> Tensor:
    """Of the vectors of maps (N, C, h, w), standardised (N, 1, h, w).

    Taken over their mean first: what a LayerNorm gives has one length everywhere, sqrt(C), but for
    rounding, which must not be carried into the map.
    """
    # a square of half precision could overflow; `norm` over channels takes five times as long
    wide = (maps if maps.dtype == torch.float64 else maps.float()).flatten(2)
    squares = wide * wide
    if exporting():  # as a product, which onnxruntime has in a fourth of the time
        total = squares.new_ones(1, squares.shape[1]) @ squares
    else:  # autocast would round a product
        total = squares.sum(1, keepdim=True)
    lengths = total.sqrt().to(maps.dtype)
    lengths = standard(lengths / lengths.mean(2, keepdim=True).clamp(min=1e-12))
    return lengths.view(-1, 1, *maps.shape[2:])


@torch.no_grad()
def evidence(
    features: Sequence[Tensor],
    vectors: Tensor,
    offsets: Tensor,
    classes: Tensor,
    logits: Tensor | None = None,
    against: Tensor | None = None,
    without: Tensor | None = None,
) -> Evidence:
    """What a classifier's features and head say of a class, at each place.

    The head is applied to the last layer's feature vector of each place, as to the pooled one. At
    that layer's grid: the class's logit and its contrast against the competitors as the image has
    them, both in spreads of the image's own logits, and standardised; its log-probability among
    its strongest competitors, and its margin over the best of them; the norm of the feature vector.
    At the finest layer's grid: contrast and logit, and the two against competitors, each carried to
    the places that look alike there; that layer's norm.

    Args:
        features: (N, C, h, w) a layer, the one that the head reads last.
        vectors, offsets: (K, C), (K,), the head's.
        classes: (N,), integers in [0, K); or (N, M), several an image: then the result is of N * M,
            an image's one after the other. Or weights (N, K) of the classes, of which what is not
            linear in them is the heaviest one's. A single class, K = 1, competes with a logit of 0,
            which is class 1.
        logits: (N, K), the head's of the pooled vector, where they are known: they save a fifth of
            the work of a network of 1,000 classes.
        against: of the shape of `classes`, integers: the class a that each one's contrast is held
            against, (v_y - v_a) . A, alone. None: against the strongest competitors in the image.
        without: of that shape, too: a class that is not among the competitors of each, unless it is
            the only other one.
    """
    last, fine = features[-1], max(features, key=lambda maps: maps.shape[2] * maps.shape[3])
    vectors, offsets, classes = vectors.to(last), offsets.to(last), classes.to(last.device)
    if len(vectors) == 1:
        vectors, offsets = F.pad(vectors, (0, 0, 0, 1)), F.pad(offsets, (0, 1))
        classes = F.pad(classes, (0, 1)) if classes.is_floating_point() else classes
        logits = None
    each = 1 if classes.is_floating_point() or classes.ndim == 1 else classes.shape[1]
    if logits is None:
        logits = F.linear(last.mean((2, 3)), vectors, offsets)
    logits = logits.to(last)
    local, rivals = _at_places(last, vectors, offsets, classes, logits, against, without)
    deviation, mean = torch.std_mean(logits, 1, correction=0)
    spread = _repeated(4 * deviation.clamp(min=1e-3).view(-1, 1, 1, 1), each)
    mean = _repeated(mean.view(-1, 1, 1, 1), each).expand_as(rivals)
    below = torch.cat([rivals, mean, local[:, 1:].amax(1, keepdim=True)], 1)
    # contrast, logit above the mean of all, margin: (N, 3, h, w)
    spoken = (local[:, :1] - below) / spread
    log_share = local.log_softmax(1)[:, :1] / 5
    norm = _repeated(_lengths(last), each)
    coarse = [standard(spoken[:, :2]), spoken[:, :1], log_share, spoken[:, 1:], norm]
    at_size = resize(torch.cat(coarse, 1), fine.shape[2:])
    carried = _carried(fine, at_size[:, :4].reshape(-1, 4 * each, *at_size.shape[2:]))
    carried = carried.reshape(-1, 4, *at_size.shape[2:])
    fine_norm = _repeated(_lengths(fine), each)
    maps = torch.cat([at_size, standard(carried[:, :1]), carried[:, 1:], fine_norm], 1)
    deviation, mean = torch.std_mean(spoken[:, 0], (1, 2), correction=0)
    zero = (-mean / deviation.clamp(min=1e-12)).clamp(-1, 1)
    varies = deviation.clamp(max=ENOUGH).view(-1, 1, 1)
    return Evidence(maps, at_size[:, 0], zero, varies)


def _repeated(values: Tensor, each: int) -> Tensor:
    """(N, ...) -> (N * each, ...), for as many classes of an image."""
    if isinstance(each, int) and each == 1:
        return values
    return values[:, None].expand(-1, each, *values.shape[1:]).flatten(0, 1)


def _at_places(
    last: Tensor,
    vectors: Tensor,
    offsets: Tensor,
    classes: Tensor,
    logits: Tensor,
    against: Tensor | None,
    without: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """At each place: the class's logit and its strongest competitors' (N, 1 + M, h, w), and what
    the first is held against, the mean of the others, each weighted as the image has it,
    (N, 1, h, w).

    Their difference is the gradient of log p_y with respect to pooled features, times them, over
    1 - p_y: what speaks for the class against what else the classifier sees, however sure it is.
    """
    weights = classes.to(vectors) if classes.is_floating_point() else None
    heaviest = (classes if weights is None else classes.argmax(1))[..., None]
    seen = logits if heaviest.ndim == 2 else logits[:, None].expand(-1, classes.shape[1], -1)
    others = seen.scatter(-1, heaviest, -torch.inf)
    count = len(vectors) - 1
    if without is not None and count > 1:
        others = others.scatter(-1, without.to(heaviest)[..., None], -torch.inf)
        count -= 1
    among, rivals = others.topk(min(_COMPETITORS, count), -1)
    if against is not None:  # one more, which alone the contrast is held against
        rivals = torch.cat([against.to(rivals)[..., None], rivals], -1)
        among = F.pad(torch.full_like(among, -torch.inf), (1, 0))
    shown = rivals if weights is not None else torch.cat([heaviest, rivals], -1)
    # rows of a matrix: in half the time of `vectors[shown]`
    rows, plus = F.embedding(shown, vectors), F.embedding(shown, offsets[:, None])
    shares = among.softmax(-1).view(-1, 1, among.shape[-1])
    if weights is not None:
        rows = torch.cat([(weights @ vectors)[:, None], rows], 1)
        plus = torch.cat([(weights @ offsets)[:, None, None], plus], 1)
        shares = shares * weights.sum(1).view(-1, 1, 1)
    local = torch.baddbmm(plus.flatten(1, -2), rows.flatten(1, -2), last.flatten(2))
    local, grid = local.view(-1, rows.shape[-2], local.shape[2]), last.shape[2:]
    others = torch.bmm(shares, local[:, 1:])
    return local.view(*local.shape[:2], *grid), others.view(-1, 1, *grid)


def _carried(fine: Tensor, maps: Tensor) -> Tensor:
    """Maps (N, M, H, W) averaged over the places that look alike in the feature maps `fine`."""
    size, grid = maps.shape[2:], fine.shape[2:]
    shrink = (_PLACES / (grid[0] * grid[1])) ** 0.5
    if shrink < 1:
        grid = torch.Size(max(1, int(side * shrink)) for side in grid)
        fine, maps = (F.adaptive_avg_pool2d(m, (grid[0], grid[1])) for m in (fine, maps))
    places = fine.flatten(2)
    places = places - places.mean(2, keepdim=True)
    products = torch.bmm(places.transpose(1, 2), places)
    # lengths from the products: to normalise all channels first would cost more than the rest
    # (the diagonal, as a slice: an exported graph would multiply by an identity matrix)
    squares = products.flatten(1)[:, :: products.shape[1] + 1]
    scale = squares.clamp(min=1e-24).rsqrt()[:, None]
    weights = products.mul_(_SHARPNESS * scale).mul_(scale.transpose(1, 2)).softmax(2)
    carried = torch.bmm(maps.flatten(2), weights.transpose(1, 2))
    return resize(carried.view(*maps.shape[:2], *grid), size)
