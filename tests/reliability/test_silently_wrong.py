"""Cases that gave a plausible map without a word, and a wrong one."""

from functools import partial

import numpy as np
import pytest
import torch
from pytorch_grad_cam import FinerCAM, GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget
from torch import nn
from torchvision.models import VisionTransformer

from learnable_cam_plugin import (
    CheckpointError,
    InputLearnableCam,
    LayerLearnableCam,
    LCAMAttention,
    LearnableCAM,
    calibrate,
    condition,
    random_attention,
)
from learnable_cam_plugin.attention import AttentionMechanism, Origin, universal_attention
from learnable_cam_plugin.saliency import saliency

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


# A model that changed since


@pytest.mark.parametrize("interface", [with_cam, with_captum])
@pytest.mark.parametrize("make", [calibrate, condition])
def test_a_trained_attention_is_refused_once_the_model_has_other_weights(images, interface, make):
    net = tiny_network().eval()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    call = interface(net, make(net, [net[4]], images), images)
    before = call()
    net.load_state_dict(tiny_network(seed=3).state_dict())
    for _ in range(2):
        with pytest.raises(CheckpointError, match="other values"):
            call()
    net.load_state_dict(state)
    assert np.array_equal(call(), before)
    with torch.no_grad():
        net[8].weight.mul_(2.0)
    with pytest.raises(CheckpointError, match=r"1 of 10 with other values: 8\.weight"):
        call()


def test_the_model_is_compared_again_only_when_a_tensor_was_changed(images, monkeypatch):
    net = tiny_network().eval()
    cam = LearnableCAM(net, [net[4]], attention=calibrate(net, [net[4]], images))
    compared = []
    monkeypatch.setattr(Origin, "check", lambda self, model: compared.append(model))
    net.train()
    for _ in range(3):
        cam(images)
    assert not compared
    net(images)  # moves the running means
    for _ in range(3):
        cam(images)
    assert compared == [net]


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


# FinerCAM


class RawGradCAM(GradCAM):
    """GradCAM that keeps its map of before ReLU and min-max."""

    def get_cam_image(self, *args, **options):
        self.raw = super().get_cam_image(*args, **options)
        return self.raw


def read_at(net, layer, images):
    """The layer's feature maps and the scores."""
    with torch.no_grad():
        return net[: layer + 1](images).clone(), net(images)


@pytest.mark.parametrize("alpha", [1.0, 0.6])
def test_finer_cam_is_that_over_grad_cam_where_the_head_is_pooling_and_linear(tiny, images, alpha):
    tiny.eval()
    targets = [FinerWeightedTarget(k, [(k + 2) % 5], alpha) for k in range(4)]
    theirs = FinerCAM(tiny, [tiny[4]], base_method=RawGradCAM)
    theirs(images, targets)
    classic = partial(LearnableCAM, attention="head")
    ours = FinerCAM(tiny, [tiny[4]], base_method=classic)(images, targets)
    expected = saliency([torch.from_numpy(theirs.base_cam.raw)], images.shape[2:])
    assert np.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("make", [calibrate, random_attention])
def test_finer_cam_takes_the_targets_weighted_difference_of_the_rows_maps(tiny, images, make):
    """By FinerWeightedTarget's formula, with the classes' raw maps in place of their scores."""
    tiny.eval()
    attention = make(tiny, [tiny[4]], images)
    cam = LearnableCAM(tiny, [tiny[4]], attention=attention)
    maps, scores = read_at(tiny, 4, images)
    targets = [FinerWeightedTarget(1, [0, 3], 0.7)] * 3 + [ClassifierOutputTarget(2)]
    with torch.no_grad():
        (raw,) = cam.attention({"4": maps}, torch.tensor([[0, 1, 2, 3, 4]] * 4))
    p = scores.softmax(1)[:, :, None, None]
    difference = sum(p[:, k] * (raw[:, 1] - 0.7 * raw[:, k]) for k in (0, 3)) / (p[:, 0] + p[:, 3])
    expected = torch.cat([difference[:3], raw[3:, 2]])
    found = cam(images, targets)
    assert np.allclose(found, saliency([expected], images.shape[2:]), atol=1e-5)


@pytest.mark.parametrize("make", [condition, universal_attention])
def test_finer_cam_of_one_that_reads_the_head_takes_the_difference_of_class_vectors(
    tiny, images, make
):
    tiny.eval()
    attention = make(tiny, [tiny[4]], images)
    cam = LearnableCAM(tiny, [tiny[4]], attention=attention)
    own = cam(images, [ClassifierOutputTarget(1)] * 4)
    against = cam(images, [FinerWeightedTarget(1, [3], 1.0)] * 4)
    assert abs(own - against).max() > 1e-3
    with torch.no_grad():
        maps, _ = read_at(tiny, 4, images)
        weights = torch.tensor([[0, 1.0, 0, -1.0, 0]] * 4)
        expected = cam.attention({"4": maps}, weights)[0]
        one = torch.nn.functional.one_hot(torch.tensor([1] * 4), 5).float()
        plain = cam.attention({"4": maps}, torch.tensor([1] * 4))[0]
        assert torch.allclose(cam.attention({"4": maps}, one)[0], plain, atol=1e-6)
    assert np.allclose(against, saliency([expected], images.shape[2:]), atol=1e-5)


class Single(AttentionMechanism):
    """A mechanism that takes one class an image."""

    def forward(self, features, classes):
        return [maps.mean(1) for maps in features.values()]


def test_an_attention_that_cannot_contrast_says_so(tiny, images):
    tiny.eval()
    cam = LearnableCAM(tiny, [tiny[4]], attention=Single({"4": 8}, 5))
    with pytest.raises(TypeError, match="Single cannot contrast a class with others"):
        cam(images, [FinerWeightedTarget(1, [3], 1.0)] * 4)


def test_finer_cam_checks_the_classes_that_it_compares_with(tiny, images):
    with pytest.raises(IndexError, match="class index 5 is out of range"):
        LearnableCAM(tiny, [tiny[4]])(images, [FinerWeightedTarget(1, [5], 1.0)] * 4)


# Layers that the class scores do not depend on


def small_vit():
    torch.manual_seed(0)
    net = VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=6,
    )  # fmt: skip
    nn.init.normal_(net.heads.head.weight)
    return net.eval()


def grid(tokens):
    return tokens[:, 1:].mT.unflatten(2, (4, 4))


@pytest.mark.parametrize("layer", ["encoder.ln", "encoder.layers.encoder_layer_2"])
def test_calibrating_where_the_head_reads_no_patch_names_the_layer_and_what_to_take(layer):
    with pytest.raises(ValueError, match=f"at '{layer}'.*take the block before"):
        calibrate(small_vit(), [layer], torch.rand(2, 3, 32, 32), grid)


def test_the_block_before_the_last_gives_maps_there():
    net, images = small_vit(), torch.rand(2, 3, 32, 32)
    layer = "encoder.layers.encoder_layer_1"
    attention = calibrate(net, [layer], images, grid)
    maps = LearnableCAM(net, [layer], grid, attention)(images)
    assert (maps.std((1, 2)) > 0.05).all()


@pytest.mark.parametrize("layer", ["side", "relu"])
def test_calibrating_at_a_layer_whose_output_is_not_used_names_it(images, layer):
    class Net(TwoBranches):
        """Its head reads an earlier run of the ReLU than the last."""

        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, images):
            scores = self.fc(self.relu(self.main(images)).square().mean((2, 3)))
            self.relu(self.side(images))
            return scores

    with pytest.raises(ValueError, match=f"do not depend on the feature maps at '{layer}'"):
        calibrate(Net(), [layer], images)


# Inputs that are no images, classes below 0


class FromVector(nn.Module):
    """Feature maps made from a vector, beside images or alone."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.maps, self.fc = nn.Linear(7, 8 * 12), nn.Linear(8, 5)
        self.grid = nn.Unflatten(1, (8, 3, 4))

    def forward(self, vector, images=None):
        scores = self.fc(self.grid(self.maps(vector)).mean((2, 3)))
        return scores if images is None else scores + images.mean((1, 2, 3))[:, None]


def test_inputs_of_which_none_is_an_image_are_refused(images):
    net, vector = FromVector(), torch.rand(4, 7)
    attention = LCAMAttention({"grid": 8}, 5)
    explainer = InputLearnableCam(net, net.grid, attention)
    for inputs in (vector, (vector,)):
        with pytest.raises(ValueError, match=r"shapes \[\(4, 7\)\], and none of them is a batch"):
            explainer.attribute(inputs, 1)
    beside, shown = explainer.attribute((vector, images), 1)
    assert not beside.any()
    assert (shown.flatten(1).amax(1) > 0.9).all()


@pytest.mark.parametrize("index", [-1, -5])
def test_a_class_below_0_counts_from_the_last_as_in_grad_cam_and_captum(tiny, images, index):
    tiny.eval()
    attention = condition(tiny, [tiny[4]], images)
    cam = LearnableCAM(tiny, [tiny[4]], attention=attention)
    found = cam(images, [ClassifierOutputTarget(index)] * 4)
    assert np.array_equal(found, cam(images, [ClassifierOutputTarget(5 + index)] * 4))
    captum = InputLearnableCam(tiny, tiny[4], attention).attribute(images, index)
    assert np.allclose(found, captum[:, 0], atol=1e-6)
    theirs = GradCAM(tiny, [tiny[4]])
    below, above = ([ClassifierOutputTarget(k)] * 4 for k in (index, 5 + index))
    assert np.array_equal(theirs(images, below), theirs(images, above))


def test_a_class_out_of_range_is_named_as_it_was_given(tiny, images):
    attention = calibrate(tiny, [tiny[4]], images)
    cam = LearnableCAM(tiny, [tiny[4]], attention=attention)
    captum = LayerLearnableCam(tiny, tiny[4], attention)
    for call in (
        lambda: cam(images, [ClassifierOutputTarget(-6)] * 4),
        lambda: cam(images, [FinerWeightedTarget(1, [-6], 1.0)] * 4),
        lambda: captum.attribute(images, -6),
    ):
        with pytest.raises(IndexError, match="index -6 is out of range: the classes are 0 to 4"):
            call()
