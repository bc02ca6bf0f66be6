"""The loss of L-CAM (Gkartzonika, Gkalelis, Mezaris, ECCV Workshops 2022), term by term."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class LossWeights:
    """The four weights of the loss, with the authors' values.

    Attributes:
        total_variation: lambda 1, on `total_variation`.
        average_variation: lambda 2, on `average_variation`.
        cross_entropy: lambda 3, on the cross-entropy of the masked image's logits.
        power: lambda 4, the exponent inside the average variation.
        border: of the squared border values in the total variation.
        offset: added to the map in the average variation.
    """

    total_variation: float = 0.01
    average_variation: float = 2.0
    cross_entropy: float = 1.5
    power: float = 0.3
    border: float = 0.3
    offset: float = 0.0005


def total_variation(
    attention: Tensor, batch_size: int | None = None, border: float = LossWeights.border
) -> Tensor:
    """(sum of squared differences of neighbours + border * squared border values) / (2 N).

    The border is each side of the map, so a corner lies on two sides and counts twice.

    Args:
        attention: (M, h, w) or (M, d, h, w) in (0, 1).
        batch_size: N; M unless given.

    >>> total_variation(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))  # (1 + 1 + 0.3 * 2) / 2
    tensor(1.3000)
    """
    total = attention.new_zeros(())
    for dim in range(1, attention.ndim):
        edges = attention.select(dim, 0).square() + attention.select(dim, -1).square()
        total = total + attention.diff(dim=dim).square().sum() + border * edges.sum()
    return total / (2 * (batch_size or attention.shape[0]))


def average_variation(
    attention: Tensor, power: float, offset: float = LossWeights.offset
) -> Tensor:
    """mean((a + offset) ** power): small where the map is small; a power below 1 favours sparsity.

    >>> average_variation(torch.tensor([0.9995, 0.0]), 1.0)
    tensor(0.5002)
    """
    return ((attention + offset) ** power).mean()


def lcam_loss(
    logits: Tensor,
    labels: Tensor,
    attention: Tensor,
    weights: LossWeights,
    batch_size: int | None = None,
) -> dict[str, Tensor]:
    """The loss and its terms, each already multiplied by its weight.

    Args:
        logits: (N, K), of the masked second pass.
        labels: (N,), the classes explained.
        attention: (M, h, w) or (M, d, h, w) in (0, 1), the maps that are regularised: M = N for
            each image's own map, M = N * N for each image's maps for every label of the batch.
        batch_size: N, by which the total variation is divided; `len(labels)` unless given.

    Returns:
        scalars "loss", "cross_entropy", "average_variation", "total_variation".
    """
    small = average_variation(attention, weights.power, weights.offset)
    smooth = total_variation(attention, batch_size or len(labels), weights.border)
    terms = {
        "cross_entropy": weights.cross_entropy * F.cross_entropy(logits, labels),
        "average_variation": weights.average_variation * small,
        "total_variation": weights.total_variation * smooth,
    }
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}
