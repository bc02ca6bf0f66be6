"""Class scores as probabilities, and models that give either."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from learnable_cam_plugin.classifier import predict, probabilities, still_gives
from learnable_cam_plugin.metrics import confidence

from ..conftest import tiny_network


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 4), st.integers(2, 8), st.integers(0, 10_000))
def test_of_logits_it_is_the_softmax_and_of_probabilities_nothing(count, classes, seed):
    logits = 3 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))
    shares = probabilities(logits)
    assert torch.equal(shares, logits.softmax(1))
    assert torch.equal(probabilities(shares), shares)


def test_one_row_that_is_no_probabilities_makes_all_of_them_logits():
    scores = torch.tensor([[0.5, 0.5], [0.5, 0.6]])
    assert torch.equal(probabilities(scores), scores.softmax(1))


def test_half_precision_adds_up_less_exactly():
    shares = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0)).softmax(1)
    assert torch.equal(probabilities(shares.bfloat16()), shares.bfloat16().float())


@pytest.mark.parametrize("given", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kept", [torch.float32, torch.bfloat16, torch.float16])
def test_scores_are_known_by_what_gave_them_in_any_precision(given, kept):
    """As in autocast, where a linear layer is rounded and the softmax after it is not."""
    logits = 3 * torch.randn(4, 10, generator=torch.Generator().manual_seed(0)).to(given)
    wide = logits.double()
    for scores in (wide, wide.softmax(1), wide.log_softmax(1), wide / 3):
        assert still_gives(logits, scores.to(kept))
    for other in (wide.flip(1), wide.flip(1).softmax(1), wide + wide.flip(1), -wide):
        assert not still_gives(logits, other.to(kept))
    assert not still_gives(logits[:, :9], wide.to(kept))
    assert not still_gives((logits,), wide.to(kept))


@pytest.mark.parametrize("end", [nn.Identity(), nn.Softmax(1)])
def test_a_softmax_at_the_end_of_a_model_changes_no_figure(images, end):
    net = tiny_network().eval()
    ended, classes = nn.Sequential(net, end), torch.tensor([0, 1, 2, 3])
    expected = net(images).softmax(1).detach()
    found = confidence(ended, images, classes)
    assert torch.allclose(found, expected[torch.arange(4), classes], atol=1e-6)
    assert torch.allclose(predict(ended, images)[0], expected.amax(1), atol=1e-6)


def test_a_single_score_is_no_certainty(images):
    net = tiny_network(num_classes=1).eval()
    found = confidence(net, images, torch.zeros(4, dtype=torch.long))
    assert torch.allclose(found, net(images)[:, 0].sigmoid().detach())
