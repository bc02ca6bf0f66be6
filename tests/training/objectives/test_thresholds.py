"""The objective of every threshold: what the mask keeps, and where the gradient goes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learnable_cam_plugin.masking import background
from learnable_cam_plugin.metrics.confidence import keep_top
from learnable_cam_plugin.training import EveryThreshold
from learnable_cam_plugin.training.objectives.thresholds import (
    draw_fractions,
    fill_at_random,
    log_odds,
    misplacement_loss,
    necessity_loss,
    soft_top,
    sufficiency_loss,
)

from ...conftest import UNIT


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def bumps(n=3, size=(40, 48), seed=0):
    """Smooth maps, as a mechanism gives them after resizing."""
    small = torch.rand(n, 1, 7, 7, generator=generator(seed))
    return torch.nn.functional.interpolate(small, size, mode="bilinear")[:, 0]


@pytest.mark.parametrize("fraction", [0.03, 0.15, 0.5, 0.85])
def test_it_keeps_what_the_protocol_keeps(fraction):
    maps = bumps()
    soft = soft_top(maps, torch.full((3,), fraction))
    hard = (keep_top(maps, fraction) > 0).float()
    # all but a fifth of the ranks kept (or dropped) on either side of the threshold
    assert ((soft > 0.5).float() - hard).abs().mean() < 0.02
    between = 2 * min(fraction, 1 - fraction) / 5
    assert ((soft - hard).abs() > 0.12).float().mean() < between + 0.02
    assert float(soft.mean()) == pytest.approx(fraction, abs=0.02)


@settings(max_examples=30, deadline=None)
@given(
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-10, 10),
    fraction=st.floats(0.07, 0.9),
    power=st.sampled_from([0.2, 1.0, 5.0]),
)
def test_a_flat_map_passes_no_more_than_a_steep_one(scale, shift, fraction, power):
    """What it keeps is a matter of ranks: any scale, shift and bend give about the same share."""
    maps = bumps().double() ** power * scale + shift
    share = soft_top(maps, torch.full((3,), fraction, dtype=torch.float64)).mean((1, 2))
    assert share.tolist() == pytest.approx([fraction] * 3, abs=0.04)


def test_the_gradient_exchanges_pixels_and_does_not_lift_them_all():
    maps = bumps().requires_grad_()
    gain = torch.rand(maps.shape, generator=generator(1))
    (gain * soft_top(maps, torch.full((3,), 0.3))).sum().backward()
    net, gross = maps.grad.sum((1, 2)).abs(), maps.grad.abs().sum((1, 2))
    assert (net < 1e-2 * gross).all()
    near = maps.grad.abs() > 0.01 * maps.grad.abs().amax((1, 2), keepdim=True)
    assert 0.02 < float(near.float().mean()) < 0.35  # only those about the threshold
    # a step along it does gain
    with torch.no_grad():
        scale = 0.02 / maps.grad.abs().amax((1, 2), keepdim=True)
        hard = [
            (keep_top(m.clamp(0, 1), 0.3) > 0).float() for m in (maps, maps + scale * maps.grad)
        ]
    assert float((gain * hard[1]).sum()) > float((gain * hard[0]).sum())


def test_a_constant_map_does_not_break_it():
    maps = torch.full((2, 8, 8), 0.5, requires_grad=True)
    soft_top(maps, torch.tensor([0.2, 0.7])).sum().backward()
    assert bool(torch.isfinite(maps.grad).all())


@pytest.mark.parametrize("between", [EveryThreshold.kept, EveryThreshold.lost])
def test_shares_lie_in_their_range_and_small_ones_are_as_frequent(between):
    low, high = between
    shares = draw_fractions(4000, between, generator())
    assert low <= float(shares.min()) < 1.05 * low
    assert 0.95 * high < float(shares.max()) <= high
    assert float((shares < (low * high) ** 0.5).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_every_filling_comes_up_in_its_share():
    images = torch.rand(1, 3, 32, 32, generator=generator()).expand(400, -1, -1, -1)
    behind = fill_at_random(images, UNIT, 0.6, generator(3))
    seen = {}
    for filling in ("black", "mean", "blur"):
        one = background(images[:1], UNIT, filling)
        seen[filling] = float((behind - one).flatten(1).abs().amax(1).lt(1e-5).float().mean())
    assert sum(seen.values()) == pytest.approx(1)
    assert seen["black"] == pytest.approx(0.6, abs=0.08)
    assert seen["mean"] == pytest.approx(0.2, abs=0.06)
    assert (fill_at_random(images[:8], UNIT, 1.0, generator()) == 0).all()


def test_log_odds_are_those_of_the_softmax():
    scores = torch.randn(6, 9, generator=generator())
    classes = torch.arange(6)
    p = scores.softmax(1).gather(1, classes[:, None])[:, 0]
    assert torch.allclose(log_odds(scores, classes), torch.logit(p), atol=1e-5)


def test_losses_point_the_right_way():
    clean, masked = torch.tensor([2.0, 2.0]), torch.tensor([1.0, 3.0], requires_grad=True)
    sufficiency = sufficiency_loss(clean, masked)
    assert sufficiency[0] > sufficiency[1]
    sufficiency.sum().backward()
    assert (masked.grad < 0).all()
    assert necessity_loss(torch.tensor(3.0)) > necessity_loss(torch.tensor(-3.0))


def test_misplacement_is_minus_the_logarithm_of_the_share_inside():
    maps = torch.zeros(1, 4, 4)
    maps[:, :2], maps[:, 2:] = 0.6, 0.2
    inside = torch.zeros(1, 4, 4, dtype=torch.bool)
    inside[:, :2] = True
    assert float(misplacement_loss(maps, inside)) == pytest.approx(-math.log(0.75))
    assert math.isfinite(float(misplacement_loss(torch.zeros(1, 4, 4), inside)))
    faint = torch.zeros(1, 10, 10)
    faint[0, 0, 0] = 0.01
    assert float(misplacement_loss(faint, faint > 0)) == pytest.approx(-math.log(0.01 / 2))


def test_beyond_log_odds_of_12_an_image_is_as_sure():
    masked = torch.tensor([3.0, -3.0])
    for sign in (1, -1):
        sure, surer = (sufficiency_loss(torch.full((2,), sign * odds), masked) for odds in (12, 30))
        assert torch.equal(sure, surer)


def test_of_few_pixels_a_hundredth_of_all_lie_about_the_threshold_on_either_side():
    ramp = torch.linspace(0, 1, 1600).view(1, 40, 40)
    found = soft_top(ramp, torch.tensor([0.02]))
    assert 28 <= int(((found > 0.1) & (found < 0.9)).sum()) <= 36
