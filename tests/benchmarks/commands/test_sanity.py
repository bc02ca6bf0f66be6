"""What the sanity checks compute, on maps whose answer is known."""

import torch
from scipy.stats import spearmanr

from benchmarks.commands.sanity import correlation, masked_scores, ranks
from learnable_cam_plugin import Normalization
from learnable_cam_plugin.metrics import average_drop, masked_confidence

from ...conftest import tiny_network


def test_correlation_is_pearsons_and_0_for_a_constant_map():
    maps = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert abs(correlation(maps, 2 * maps + 1) - 1) < 1e-5
    assert abs(correlation(maps, -maps) + 1) < 1e-5
    assert correlation(maps, torch.ones(3, 6, 6)) == 0


def test_ranks_see_order_only():
    maps = torch.rand(2, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ranks(maps), ranks(maps**5))


def test_of_maps_that_are_0_in_most_places_ranks_give_spearmans_correlation():
    one, other = torch.randn(2, 28, 28, generator=torch.Generator().manual_seed(0)).sub(1).relu()
    expected = spearmanr(one.flatten(), other.flatten()).statistic
    assert abs(correlation(ranks(one[None]), ranks(other[None])) - expected) < 1e-5
    assert abs(expected) < 0.1  # they are independent; by place of equal ones it would be 0.4


def test_scores_with_black_behind_are_the_protocols(images):
    model, unit = tiny_network().eval(), Normalization([0.0], [1.0])
    maps = torch.rand(4, 20, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        p, classes = model(images).softmax(1).max(1)
    ours = masked_scores(model, images, maps, classes, unit, torch.zeros_like(images))
    assert ours == masked_scores(model, images, maps, classes, unit)
    q = masked_confidence(model, images, maps, classes, unit)
    for keep, confidence in q.items():
        assert abs(ours[f"AD {keep:.0%}"] - average_drop(p, confidence)) < 1e-3
    # an image of another size, as the second classifier takes it
    larger = torch.nn.functional.interpolate(images, (40, 48))
    assert set(masked_scores(model, larger, maps, classes, unit)) == set(ours)
