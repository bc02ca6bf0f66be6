"""Loss terms against values computed by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from learnable_cam_plugin import LossWeights
from learnable_cam_plugin.training.objectives.lcam import (
    average_variation,
    lcam_loss,
    total_variation,
)

A = torch.tensor([[[0.1, 0.4], [0.2, 0.8]]])


def test_total_variation_by_hand():
    # vertical: 0.1^2 + 0.4^2; horizontal: 0.3^2 + 0.6^2; each value lies on two of the four sides
    differences = 0.01 + 0.16 + 0.09 + 0.36
    border = 0.3 * 2 * (0.01 + 0.16 + 0.04 + 0.64)
    assert total_variation(A).item() == pytest.approx((differences + border) / 2, rel=1e-6)


def test_total_variation_is_per_image_for_own_maps():
    assert total_variation(A.expand(5, 2, 2)).item() == pytest.approx(total_variation(A).item())


def test_total_variation_of_the_authors_reading_grows_with_the_batch():
    """N maps an image, summed and divided by 2 N: N times the value of one map."""
    n = 4
    maps = A.expand(n * n, 2, 2)
    assert total_variation(maps, batch_size=n).item() == pytest.approx(
        n * total_variation(A).item()
    )


def test_total_variation_of_a_volume_has_three_directions():
    a = torch.zeros(1, 3, 3, 3)
    a[0, 1, 1, 1] = 1.0  # six neighbours, no border
    assert total_variation(a).item() == pytest.approx(3.0)


def test_average_variation_by_hand():
    expected = sum((v + 0.0005) ** 0.3 for v in (0.1, 0.4, 0.2, 0.8)) / 4
    assert average_variation(A, 0.3).item() == pytest.approx(expected, rel=1e-6)


def test_loss_is_the_weighted_sum_with_the_authors_weights():
    logits = torch.tensor([[2.0, 0.0, 0.0]])
    terms = lcam_loss(logits, torch.tensor([0]), A, LossWeights())
    cross_entropy = math.log(1 + 2 * math.exp(-2))
    assert terms["cross_entropy"].item() == pytest.approx(1.5 * cross_entropy, rel=1e-5)
    assert terms["average_variation"].item() == pytest.approx(
        2 * average_variation(A, 0.3).item(), rel=1e-5
    )
    assert terms["total_variation"].item() == pytest.approx(0.01 * total_variation(A).item())
    parts = terms["cross_entropy"] + terms["average_variation"] + terms["total_variation"]
    assert terms["loss"].item() == pytest.approx(parts.item(), rel=1e-6)


@pytest.mark.parametrize("term", ["total_variation", "average_variation", "cross_entropy"])
def test_each_weight_scales_its_own_term_only(term):
    logits, labels = torch.randn(3, 4), torch.tensor([0, 1, 3])
    maps = torch.rand(3, 5, 5)
    base = lcam_loss(logits, labels, maps, LossWeights())
    zero = lcam_loss(logits, labels, maps, LossWeights(**{term: 0.0}))
    assert zero[term] == 0
    assert all(zero[k] == base[k] for k in base if k not in (term, "loss"))


def test_gradients_match_finite_differences():
    maps = torch.rand(2, 3, 3, dtype=torch.double, requires_grad=True)
    logits = torch.randn(2, 4, dtype=torch.double, requires_grad=True)
    labels = torch.tensor([1, 2])
    assert torch.autograd.gradcheck(
        lambda z, a: lcam_loss(z, labels, a, LossWeights())["loss"], (logits, maps)
    )
    assert F.cross_entropy(logits, labels).isfinite()
