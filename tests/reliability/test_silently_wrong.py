"""Cases that gave a plausible map without a word, and a wrong one."""

import numpy as np
import pytest
import torch
from torch import nn

from learnable_cam_plugin import (
    InputLearnableCam,
    LayerLearnableCam,
    LearnableCAM,
    condition,
)
from learnable_cam_plugin.attention import universal_attention

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


# The order of the layers


class TwoBranches(nn.Module):
    """Of two convolutions with equal channels, the head reads the one that runs first."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.main, self.side = (nn.Conv2d(3, 8, 3, padding=1) for _ in range(2))
        self.fc = nn.Linear(8, 5)

    def forward(self, images):
        main = self.main(images)
        self.side(images)
        return self.fc(main.mean((2, 3)))


@pytest.mark.parametrize("make", [condition, universal_attention])
@pytest.mark.parametrize(
    ("net", "layers"),
    [(tiny_network(), ["0", "2", "4"]), (TwoBranches(), ["side", "main"])],
    ids=["one after another", "two branches"],
)
def test_the_layers_may_be_named_in_any_order(images, make, net, layers):
    net.eval()
    expected = make(net, layers, images)
    assert list(expected.channels) == layers
    turned = make(net, layers[::-1], images)
    assert list(turned.channels) == layers
    maps = [LearnableCAM(net, [layers[-1]], attention=one)(images) for one in (expected, turned)]
    assert np.array_equal(*maps)


def test_a_layer_that_runs_again_counts_with_its_last_run(images):
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.conv = nn.ReLU(), nn.Conv2d(3, 8, 3)
            self.fc = nn.Linear(8, 5)

        def forward(self, images):
            return self.fc(self.relu(self.conv(self.relu(images))).mean((2, 3)))

    assert list(condition(Again(), ["relu", "conv"], images).channels) == ["conv", "relu"]
