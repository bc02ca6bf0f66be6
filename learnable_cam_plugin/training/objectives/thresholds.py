"""An objective that holds at every threshold: train through the mask that is shown and scored.

The paper trains the sigmoid of a map, and scores the map min-max normalised, whole or cut to its
highest 50 % and 15 % of pixels. Here both are the same.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ...masking import Normalization, background


def soft_top(maps: Tensor, fraction: Tensor, width: float = 0.2) -> Tensor:
    """Near 1 on each map's highest `fraction` of pixels, near 0 on the rest; differentiable.

    A sigmoid around the threshold whose width is the distance, in values, between the pixels some
    ranks above and below it: a share of those kept, or dropped if these are fewer. So the same
    share of pixels lies in between however flat the map is: a map cannot pass half of everything
    by growing flat, as it can with a width of its own (or one in proportion to its standard
    deviation). The threshold moves with the pixels near it, so that the gradient exchanges pixels
    and does not lift them all.

    Args:
        maps: (N, H, W), any scale.
        fraction: (N,) in (0, 1), of the pixels to keep.
        width: that share of the pixels kept or dropped, on either side of the threshold.

    Returns:
        (N, H, W) in (0, 1).

    >>> ramp = torch.linspace(0, 1, 400).view(1, 20, 20)
    >>> kept = soft_top(ramp, torch.tensor([0.25]))
    >>> round(float(kept.mean()), 2), round(float(kept.max()), 3), round(float(kept.min()), 3)
    (0.25, 1.0, 0.0)
    """
    flat = maps.flatten(1)
    step = max(1, min(maps.shape[1:]) // 56)  # ranks among some 56 x 56 pixels are close enough
    ranked = maps.detach()[:, step // 4 :: step, step // 4 :: step].flatten(1).sort(1).values
    last = ranked.shape[1] - 1

    def value_at(rank: Tensor) -> Tensor:
        return ranked.gather(1, (rank.clamp(0, 1) * last).round().long()[:, None])

    threshold = value_at(1 - fraction)
    margin = (torch.minimum(fraction, 1 - fraction) / (1 / width)).clamp(min=0.01)
    spread = value_at(1 - fraction + margin) - value_at(1 - fraction - margin)
    scale = (ranked[:, -1:] - ranked[:, :1]).clamp(min=1e-12)
    reach = torch.maximum(spread / 2, 1e-5 * scale) / 2.2  # sigmoid(2.2) = 0.9
    distance = (flat - threshold) / reach
    near = torch.sigmoid(distance.detach())
    near = near * (1 - near)
    shift = (near * distance).sum(1, keepdim=True) / near.sum(1, keepdim=True).clamp(min=1e-6)
    return torch.sigmoid(distance - (shift - shift.detach())).view_as(maps)


def draw_fractions(count: int, between: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Shares (N,) of pixels `between` two, uniform in their logarithm."""
    low, high = map(math.log, between)
    return torch.exp(low + (high - low) * torch.rand(count, generator=generator))


def fill_at_random(
    images: Tensor, normalization: Normalization, black: float, generator: torch.Generator
) -> Tensor:
    """What shows behind each image's mask, (N, C, H, W), normalised as the images are: black, as in
    the protocol of average drop, for a share `black` of them, else the image's mean or a blur.
    The generator is the CPU's.
    """
    kinds = torch.rand(len(images), generator=generator).to(images.device)
    behind = background(images, normalization, "black").clone()
    shares = {"mean": (black, (1 + black) / 2), "blur": ((1 + black) / 2, 1.0)}
    for filling, (low, high) in shares.items():
        chosen = (kinds >= low) & (kinds < high)
        if bool(chosen.any()):
            behind[chosen] = background(images[chosen], normalization, filling)
    return behind


def log_odds(scores: Tensor, classes: Tensor) -> Tensor:
    """log(p / (1 - p)) of the classes (N,), from the scores (N, K)."""
    own = scores.gather(1, classes[:, None])
    others = scores.scatter(1, classes[:, None], -math.inf).logsumexp(1)
    return own[:, 0] - others


def sufficiency_loss(clean: Tensor, masked: Tensor) -> Tensor:
    """How far what the mask keeps falls short of the class and of the whole image, (N,).

    Half of it is the cross-entropy of the class against the rest, softplus(-masked), large where
    the class is lost; half is softplus(clean - masked), a smooth count of the images whose
    confidence does not rise: the two figures of the protocol.

    Args:
        clean: (N,), log odds of the class on the image; clamped to [-12, 12], beyond which the
            probability does not change.
        masked: (N,), on the masked image.
    """
    return (F.softplus(-masked) + F.softplus(clean.clamp(-12, 12) - masked)) / 2


def necessity_loss(masked: Tensor, offset: float = 2.0) -> Tensor:
    """How much of the class is left without the highest pixels, (N,): of its log odds `masked`
    (N,) without them, which are to fall `offset` below even."""
    return F.softplus(masked + offset)


def misplacement_loss(maps: Tensor, inside: Tensor, smallest: float = 0.02) -> Tensor:
    """-log of the share (N,) of each map (N, H, W) that lies in the true region `inside`, bool.

    The logarithm pulls hardest where the map is bright everywhere, a state that a loss of the share
    itself leaves slowly or not at all. A map counts as no smaller than `smallest` of the image: an
    empty one has no share.
    """
    flat = maps.flatten(1)
    share = (flat * inside.flatten(1)).sum(1) / flat.sum(1).clamp(min=smallest * flat.shape[1])
    return -share.clamp(min=1e-3).log()
