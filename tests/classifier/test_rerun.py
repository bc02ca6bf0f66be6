"""A replay gives what a whole pass gives, and computes only what follows the layer."""

import functools

import pytest
import torch
from torch import nn
from torchvision import models

from learnable_cam_plugin.classifier import Replay, classify_masked_features, forward_from_layer

CASES = [
    ("resnet18", "layer4"),
    ("resnet18", "layer4.1"),
    ("resnet18", "layer4.1.conv2"),
    ("resnet18", "layer3.0.bn1"),
    ("vgg11", "features.18"),
    ("vgg11", "features"),
    ("mobilenet_v3_small", "features.12"),
    ("densenet121", "features"),
    ("densenet121", "features.denseblock4.denselayer16"),
    ("convnext_tiny", "features.7"),
]


@functools.cache
def network(name):
    torch.manual_seed(0)
    return getattr(models, name)(weights=None, num_classes=7).eval().requires_grad_(False)


@pytest.mark.parametrize(("name", "layer"), CASES)
def test_a_replay_with_masked_features_equals_the_whole_pass(name, layer):
    model, x = network(name), torch.randn(2, 3, 64, 64)
    module = model.get_submodule(layer)

    def halve_some(output):
        return output * (torch.arange(output.shape[-1]) % 2 + 0.5)

    expected = forward_from_layer(model, module, halve_some, x)
    replay = Replay(model, layer)
    with replay.recording():
        outputs = model(x)
    assert replay.reproduces(x, outputs)
    masked = forward_from_layer(replay, module, halve_some, x)
    assert torch.allclose(masked, expected, atol=1e-5)
    assert not torch.equal(masked, outputs)
    assert torch.equal(forward_from_layer(replay, module, halve_some, x), masked)  # and again


@pytest.mark.parametrize(("name", "layer"), CASES)
def test_nothing_is_left_on_the_model(name, layer):
    model, x = network(name), torch.randn(1, 3, 64, 64)
    replay = Replay(model, layer)
    with replay.recording():
        model(x)
    replay(x)
    assert not any("forward" in vars(m) or m._forward_hooks for m in model.modules())


def test_only_the_head_is_computed():
    model, x = network("resnet18"), torch.randn(2, 3, 64, 64)
    replay = Replay(model, "layer4")
    with replay.recording():
        model(x)
    ran = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            ran.append(str(func))
            return func(*args, **(kwargs or {}))

    with Watch():
        replay(x)
    assert not any("convolution" in op or "batch_norm" in op for op in ran)
    assert any("addmm" in op for op in ran)


def test_code_that_works_in_place_on_an_earlier_output_is_noticed():
    class Doubles(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            y = self.first(x)
            y *= 2
            return (self.second(y) + y).mean((2, 3))

    model = Doubles().requires_grad_(False)
    x = torch.rand(2, 3, 4, 4)
    replay = Replay(model, "second")
    with replay.recording():
        outputs = model(x)
    assert not replay.reproduces(x, outputs)


def test_masked_features_run_through_the_rest_of_the_network(tiny, images):
    tiny.eval()
    mask = torch.rand(4, 10, 12)
    maps = tiny[:5](images)
    expected = tiny[5:](maps * mask[:, None])
    assert torch.allclose(classify_masked_features(tiny, tiny[4], images, mask), expected)


def test_masking_tokens_is_refused_with_the_way_out(images):
    net = nn.Sequential(nn.Flatten(2), nn.Flatten(1), nn.LazyLinear(3))
    with pytest.raises(ValueError, match="use recipe='l-cam-img'"):
        classify_masked_features(net, net[0], images, torch.rand(4, 10, 12))


def test_a_forward_that_a_layer_was_given_is_left_to_it():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
    own = functools.partial(nn.Conv2d.forward, net[0])
    net[0].forward = own
    images, replay = torch.rand(1, 3, 4, 4), Replay(net, "1")
    with torch.no_grad(), replay.recording():
        expected = net(images)
    assert torch.equal(replay(images), expected)
    assert vars(net[0])["forward"] is own
