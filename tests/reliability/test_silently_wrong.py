"""Cases that gave a plausible map without a word, and a wrong one."""

import numpy as np
import pytest
import torch

from learnable_cam_plugin import (
    InputLearnableCam,
    LayerLearnableCam,
    LearnableCAM,
    condition,
)

from ..conftest import tiny_network


def with_cam(net, attention, images):
    cam = LearnableCAM(net, [net[4]], attention=attention)
    return lambda: cam(images)


def with_captum(net, attention, images):
    method = InputLearnableCam(net, net[4], attention)
    return lambda: method.attribute(images, 1).numpy()


# One attention beside two models


def two_models(images, seed=3):
    """Two classifiers that differ in their heads, and one attention that fits both."""
    first, second = tiny_network().eval(), tiny_network().eval()
    with torch.no_grad():
        second[8].weight.copy_(tiny_network(seed=seed)[8].weight)
    attention = condition(first, [first[4]], images)
    attention.origin = None
    return first, second, attention


@pytest.mark.parametrize("interface", [with_cam, with_captum])
def test_an_attention_beside_two_models_keeps_the_head_of_each(images, interface):
    first, second, attention = two_models(images)
    call = interface(first, attention, images)
    before = call()
    other = interface(second, attention, images)
    assert np.array_equal(call(), before)
    assert abs(other() - before).max() > 1e-3


@pytest.mark.parametrize("interface", [with_cam, with_captum])
def test_what_a_shared_attention_learns_later_shows_in_the_maps(images, interface):
    first, second, attention = two_models(images)
    calls = [interface(net, attention, images) for net in (first, second)]
    before = [call() for call in calls]
    with torch.no_grad():
        attention.mix.weight.add_(1.0)
    for call, then in zip(calls, before, strict=True):
        assert abs(call() - then).max() > 1e-3


def test_beside_models_no_weight_is_copied(images):
    first, _, attention = two_models(images)
    cam = LearnableCAM(first, [first[4]], attention=attention)
    layer = LayerLearnableCam(first, first[4], attention)
    for used in (cam.attention, layer.attention):
        assert all(a is b for a, b in zip(used.parameters(), attention.parameters(), strict=True))
