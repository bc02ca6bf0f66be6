from functools import partial

import pytest
import torch
from torch import nn

from learnable_cam_plugin import ExplainedClassifier, LearnableCAM
from learnable_cam_plugin.classifier import (
    check_images,
    class_scores,
    evaluating,
    forward_from_layer,
    forward_with_features,
    frozen,
    layer_names,
)
from learnable_cam_plugin.classifier.layers import applies

from ..conftest import tiny_network


def test_layers_are_named_in_the_order_given(tiny):
    assert list(layer_names(tiny, [tiny[4], "0"])) == ["4", "0"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Conv2d(3, 3, 1)], "a Conv2d is not a module of Sequential"),
        (["layer4"], "'layer4' is not a module"),
        ([], "is empty"),
        (nn.Conv2d(3, 3, 1), "must be a list"),
    ],
)
def test_wrong_layers_are_refused(tiny, layers, message):
    with pytest.raises(ValueError, match=message):
        layer_names(tiny, layers)


def fail():
    raise ValueError("too small")


def test_modes_and_requires_grad_come_back_even_after_an_error(tiny):
    tiny.train()
    tiny[1].eval()
    tiny[0].weight.requires_grad_(False)
    flags = [m.training for m in tiny.modules()]
    grads = [p.requires_grad for p in tiny.parameters()]
    with frozen(tiny):
        assert not any(m.training for m in tiny.modules())
        assert not any(p.requires_grad for p in tiny.parameters())
    with pytest.raises(ValueError, match="too small"), frozen(tiny):
        fail()
    assert [m.training for m in tiny.modules()] == flags
    assert [p.requires_grad for p in tiny.parameters()] == grads


def test_maps_are_the_layer_output_despite_a_relu_in_place(tiny, images):
    """Layer 1 (batch norm) is followed by a ReLU that overwrites its output."""
    with evaluating(tiny), torch.no_grad():
        outputs, maps = forward_with_features(tiny, {"1": tiny[1], "4": tiny[4]}, images)
        expected = tiny[1](tiny[0](images))
        assert torch.equal(outputs, tiny(images))
    assert torch.equal(maps["1"], expected)
    assert (maps["1"] < 0).any()
    assert not any(m._forward_hooks for m in tiny.modules())


def test_replacing_a_layer_output_runs_the_rest_on_it(tiny, images):
    with evaluating(tiny), torch.no_grad():
        zero = forward_from_layer(tiny, tiny[4], torch.zeros_like, images)
    assert torch.allclose(zero, tiny[8].bias.expand_as(zero))


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (nn.Flatten(), ValueError, "reshape_transform"),
        (nn.MultiheadAttention(4, 1), TypeError, "not a tensor"),
    ],
)
def test_a_layer_without_feature_maps_is_refused(layer, error, message):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            if isinstance(self.layer, nn.Flatten):
                return self.layer(x)
            tokens = x.flatten(2)[:, 0, :4][None]
            return self.layer(tokens, tokens, tokens)[0]

    net = Net()
    with pytest.raises(error, match=message):
        forward_with_features(net, {"layer": net.layer}, torch.rand(2, 3, 4, 4))
    assert not net.layer._forward_hooks


def test_a_layer_that_does_not_run_is_named(tiny, images):
    idle = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match=r"\['idle'\] did not run"):
        forward_with_features(tiny, {"idle": idle}, images)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_images_with_nan_are_named(images, bad):
    images[2, 0, 3, 3] = bad
    with pytest.raises(ValueError, match=r"images \[2\] of the batch hold NaN"):
        check_images(images)


@pytest.mark.parametrize("shape", [(3, 8, 8), (0, 3, 8, 8)])
def test_shapes_that_are_no_batch_are_refused(shape):
    with pytest.raises(ValueError, match="is needed"):
        check_images(torch.zeros(shape))
    with pytest.raises(TypeError, match="ndarray"):
        check_images(torch.zeros(shape).numpy())


def test_what_a_layer_is_given_is_read_before_it_works_in_place_on_it():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten())
    images = torch.rand(2, 3, 6, 6)
    _, found = forward_with_features(net, {"1": net[1]}, images, of_input=True)
    assert torch.equal(found["1"], net[0](images))
    assert float(found["1"].min()) < 0
    assert not net[1]._forward_pre_hooks


def test_what_has_no_values_is_refused():
    with torch.device("meta"):
        net = tiny_network()
    for call in (LearnableCAM(net), partial(ExplainedClassifier, net)):
        with pytest.raises(ValueError, match="on the device 'meta', where nothing has a value"):
            call(torch.rand(1, 3, 16, 16))


def test_outputs_that_are_no_scores_are_refused():
    with pytest.raises(TypeError, match="returns a dict"):
        class_scores({"out": torch.zeros(1, 2)})
    with pytest.raises(ValueError, match="class scores"):
        class_scores(torch.zeros(1, 2, 4, 4))


class Packed(nn.Linear):
    """As libraries of 8 bits hold it: its weight is no matrix that can be multiplied."""

    def __init__(self):
        super().__init__(4, 3)
        self.weight = nn.Parameter(torch.zeros(12, dtype=torch.uint8), requires_grad=False)

    def forward(self, given):
        return given[:, :3]


def test_a_packed_linear_layer_is_not_taken_for_its_weight():
    layer, given = Packed(), torch.rand(2, 4)
    assert not applies(layer, given, layer(given))


def test_a_linear_layer_under_autocast_is_its_weights():
    torch.manual_seed(0)
    layer, given = nn.Linear(64, 8), torch.rand(16, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = layer(given)
    assert output.dtype == torch.bfloat16
    assert applies(layer, given, output)
