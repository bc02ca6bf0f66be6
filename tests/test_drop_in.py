"""What the hosts accept, accepted: wrapped models, outputs of any kind, arguments where theirs are.

What else of their contract holds is in tests/conformance; what was wrong without a word, in
tests/reliability/test_silently_wrong.py.
"""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from captum.attr._utils.input_layer_wrapper import ModelInputWrapper
from pytorch_grad_cam import FinerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget
from torch import nn

from learnable_cam_plugin import (
    CheckpointError,
    InputLearnableCam,
    LayerLearnableCam,
    LCAMAttention,
    LearnableCAM,
    LearnableCAMTrainer,
    Normalization,
    ScoresOf,
    calibrate,
    condition,
    random_attention,
)

from .conftest import tiny_network

SETTINGS = {"normalization": Normalization([0.0], [1.0]), "epochs": 1, "progress": False}


@pytest.fixture
def net(tiny):
    return tiny.eval()


@pytest.fixture
def one_process(tmp_path):
    """A process group of one, as torchrun starts it."""
    address = f"file://{tmp_path / 'meeting'}"
    torch.distributed.init_process_group("gloo", address, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def targets(*classes):
    return [ClassifierOutputTarget(index) for index in classes]


# Wrapped models

WRAPPERS = {
    "DistributedDataParallel": nn.parallel.DistributedDataParallel,
    "DataParallel": nn.DataParallel,
    "torch.compile": partial(torch.compile, backend="eager"),
    "normalise": lambda net: nn.Sequential(nn.Identity(), net),
    "ModelInputWrapper": ModelInputWrapper,
    "ScoresOf": lambda net: ScoresOf(net, lambda outputs: outputs),
    "several": lambda net: nn.DataParallel(nn.Sequential(nn.Identity(), nn.DataParallel(net))),
}
MECHANISMS = {
    "left out": lambda *_: None,
    "head": lambda *_: "head",
    "rows": random_attention,
    "conditioned": condition,
}


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_in_any_wrapper_a_model_has_its_own_maps(net, images, one_process, wrapper, mechanism):
    """The attention is made beside the bare model; layers are named, or are modules of it."""
    attention = MECHANISMS[mechanism](net, [net[4]], images)
    expected = LearnableCAM(net, [net[4]], attention=attention)(images, targets(0, 1, 2, 3))
    wrapped = WRAPPERS[wrapper](net)
    for layer in (net[4], "4"):
        cam = LearnableCAM(wrapped, [layer], attention=attention)
        assert np.allclose(cam(images, targets(0, 1, 2, 3)), expected, atol=1e-5)
    captum = InputLearnableCam(wrapped, net[4], attention).attribute(images, [0, 1, 2, 3])
    assert np.allclose(captum[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_an_attention_made_in_any_wrapper_names_the_layers_as_the_bare_model_does(
    net, images, one_process, wrapper
):
    wrapped = WRAPPERS[wrapper](net)
    trainer = LearnableCAMTrainer(wrapped, [net[4]], device="cpu", **SETTINGS)
    trained = trainer.fit([images])
    for attention in (trained, condition(wrapped, [net[4]], images)):
        assert list(attention.channels) == ["4"]
        assert attention.head == "8"
        LearnableCAM(net, ["4"], attention=attention)(images)


# What the model returns


class Returns(nn.Module):
    def __init__(self, net, make):
        super().__init__()
        self.net, self.make = net, make

    def forward(self, images):
        return self.make(self.net(images))


OUTPUTS = {
    "logits": (lambda scores: SimpleNamespace(logits=scores, loss=None), None),
    "dict": (lambda scores: {"features": 1, "scores": scores}, lambda given: given["scores"]),
    "tuple": (lambda scores: (scores, None), lambda given: given[0]),
}


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_scores_are_read_from_what_the_model_returns(net, images, kind, mechanism):
    make, output = OUTPUTS[kind]
    model = Returns(net, make)
    attention = MECHANISMS[mechanism](net, [net[4]], images)
    expected = LearnableCAM(net, [net[4]], attention=attention)(images)
    model = model if output is None else ScoresOf(model, output)
    attention = MECHANISMS[mechanism](model, [net[4]], images)
    cam = LearnableCAM(model, [net[4]], attention=attention)
    if mechanism != "rows":  # drawn anew
        assert np.allclose(cam(images), expected, atol=1e-5)
        with torch.no_grad():
            assert torch.equal(cam.outputs, net(images))
    maps = InputLearnableCam(model, net[4], attention).attribute(images, [0, 1, 2, 3])
    assert np.allclose(maps[:, 0], cam(images, targets(0, 1, 2, 3)), atol=1e-5)
    FinerCAM(model, [net[4]], base_method=partial(LearnableCAM, attention=attention))(images)


def test_output_is_an_argument_too(net, images):
    make, output = OUTPUTS["dict"]
    expected = LearnableCAM(net)(images)
    assert np.array_equal(LearnableCAM(Returns(net, make), output=output)(images), expected)
    with pytest.raises(TypeError, match=r"returns a dict.*LearnableCAM\(model, output="):
        LearnableCAM(Returns(net, make))(images)
    with pytest.raises(TypeError, match="output must be a function of what the model returns"):
        LearnableCAM(Returns(net, make), output="scores")


@pytest.mark.parametrize("recipe", ["every-threshold", "l-cam-fm", "l-cam-img"])
@pytest.mark.parametrize("kind", OUTPUTS)
def test_it_trains_beside_such_a_model(net, images, kind, recipe):
    make, output = OUTPUTS[kind]
    model = Returns(net, make)
    model = model if output is None else ScoresOf(model, output)
    trainer = LearnableCAMTrainer(model, [net[4]], recipe=recipe, device="cpu", **SETTINGS)
    trained = trainer.fit([images])
    assert list(trained.channels) == ["net.4"]
    assert LearnableCAM(model, attention=trained)(images).shape == (4, 20, 24)


@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
def test_the_vision_transformer_of_transformers_needs_no_wrapper():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 32}
    config = transformers.ViTConfig(
        **sizes, num_hidden_layers=3, num_attention_heads=2, num_labels=4
    )
    model = transformers.ViTForImageClassification(config).eval()
    nn.init.normal_(model.classifier.weight)
    images = torch.rand(2, 3, 32, 32)
    alone = LearnableCAM(ScoresOf(model, lambda outputs: outputs.logits))(images)
    assert np.array_equal(LearnableCAM(model)(images), alone)
    assert (alone.std((1, 2)) > 0.05).all()


# Arguments


def test_the_layers_of_the_attention_need_not_be_named_again(net, images):
    attention = calibrate(net, ["2", "4"], images)
    expected = LearnableCAM(net, ["2", "4"], attention=attention)(images)
    assert np.array_equal(LearnableCAM(net, attention=attention)(images), expected)


@pytest.mark.parametrize("aug_smooth", [False, True])
def test_a_single_target_is_for_the_whole_batch(net, images, aug_smooth):
    cam = LearnableCAM(net, [net[4]])
    expected = cam(images, targets(2, 2, 2, 2), aug_smooth)
    one = ClassifierOutputTarget(2)
    assert np.array_equal(cam(images, [one], aug_smooth), expected)
    assert np.array_equal(cam(images, one, aug_smooth), expected)
    finer = FinerWeightedTarget(1, [3], 1.0)
    assert np.array_equal(cam(images, [finer]), cam(images, [finer] * 4))


def test_another_number_of_targets_is_refused(net, images):
    with pytest.raises(ValueError, match="4 images need 4 targets, or one, got 3"):
        LearnableCAM(net, [net[4]])(images, targets(0, 1, 2))
    for wrong in (3, torch.tensor([1, 2, 3, 4]), "cat"):
        with pytest.raises(TypeError, match="targets must be a list"):
            LearnableCAM(net, [net[4]])(images, wrong)


@pytest.mark.parametrize("make", [np.array, np.int64, torch.tensor, lambda k: np.array([k])])
def test_classes_as_arrays_of_one_number(net, images, make):
    cam = LearnableCAM(net, [net[4]])
    expected = cam(images, targets(3, 3, 3, 3))
    assert np.array_equal(cam(images, targets(*[make(3)] * 4)), expected)


def test_finer_cam_takes_an_attention_as_part_of_its_base_method(net, images):
    attention = calibrate(net, [net[4]], images)
    base = partial(LearnableCAM, attention=attention)
    finer = FinerCAM(net, [net[4]], base_method=base)
    assert finer.base_cam.attention.weights[0] is attention.weights[0]
    assert finer(images).shape == (4, 20, 24)


def test_volumes_are_refused_when_built_where_the_attention_is_for_images(images):
    volume = nn.Sequential(
        nn.Conv3d(1, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 5)
    )
    with pytest.raises(ValueError, match=r"Sequential convolves volumes.*is for images"):
        condition(volume, ["1"], torch.rand(2, 1, 8, 8, 8))
    flat = tiny_network().eval()
    attention = condition(flat, ["4"], images)
    attention.origin, attention.channels, attention.head = None, {"1": 8}, "4"
    for interface in (
        lambda: LearnableCAM(volume, ["1"], attention=attention),
        lambda: LayerLearnableCam(volume, volume[1], attention),
    ):
        with pytest.raises(ValueError, match="Sequential convolves volumes"):
            interface()


def test_an_attention_made_for_other_weights_is_taken_where_that_is_meant(net, images):
    attention = calibrate(net, [net[4]], images)
    other = tiny_network(seed=3).eval()
    interfaces = (
        partial(LearnableCAM, other, [other[4]], attention=attention),
        partial(LayerLearnableCam, other, other[4], attention),
        partial(InputLearnableCam, other, other[4], attention),
    )
    for interface in interfaces:
        with pytest.raises(CheckpointError, match=r"other values.*check=False"):
            interface()
        interface(check=False)
    assert attention.origin is not None  # it was not changed
    maps = LearnableCAM(other, attention=attention, check=False)(images, targets(0, 1, 2, 3))
    shown = InputLearnableCam(other, other[4], attention, check=False).attribute(
        images, [0, 1, 2, 3]
    )
    assert np.allclose(maps, shown[:, 0], atol=1e-5)
    with pytest.raises(CheckpointError, match="no map for"):
        LearnableCAM(other, ["2"], attention=attention, check=False)


def test_the_name_of_a_class_is_a_hint_only(net, images):
    """As of one that lay in __main__ while its attention was trained."""

    class Net(nn.Sequential):
        """The same network."""

    Net.__module__ = "__main__"
    Net.__qualname__ = "make.<locals>.Net"
    attention = calibrate(net, [net[4]], images)
    maps = [LearnableCAM(one, attention=attention)(images) for one in (Net(*net), net)]
    assert np.array_equal(*maps)
    other = Net(*tiny_network(seed=4).eval())
    with pytest.raises(CheckpointError, match=r"a Net, the attention was made for a Seq.*val"):
        LearnableCAM(other, attention=attention)


# Captum


def test_grad_kwargs_are_taken_and_change_nothing(net, images):
    method = LayerLearnableCam(net, net[4])
    expected = method.attribute(images, 1)
    found = method.attribute(images, 1, grad_kwargs={"materialize_grads": True})
    assert torch.equal(found, expected)


def test_device_ids_may_stand_where_layer_grad_cam_has_them(net, images):
    expected = LayerLearnableCam(net, net[4]).attribute(images, 1)
    for method in (LayerLearnableCam, InputLearnableCam):
        method(net, net[4], [0])
    assert torch.equal(LayerLearnableCam(net, net[4], [0]).attribute(images, 1), expected)
    assert LayerLearnableCam(net, net[4], [0]).device_ids == [0]


@pytest.mark.parametrize("make", [calibrate, random_attention])
def test_the_channels_parts_add_up_to_the_map(net, images, make):
    ours = LayerLearnableCam(net, net[4], make(net, [net[4]], images))
    for method in (LayerGradCam(net, net[4]), ours):
        total = method.attribute(images, [0, 1, 2, 3])
        parts = method.attribute(images, [0, 1, 2, 3], attr_dim_summation=False)
        assert parts.shape == (4, 8, 10, 12)
        assert torch.allclose(parts.sum(1, keepdim=True), total, atol=1e-5)


@pytest.mark.parametrize("mechanism", ["left out", "conditioned"])
def test_a_map_that_is_no_sum_over_channels_says_so(net, images, mechanism):
    attention = MECHANISMS[mechanism](net, [net[4]], images)
    with pytest.raises(ValueError, match=r"makes one map of .* by convolutions.*no sum"):
        LayerLearnableCam(net, net[4], attention).attribute(images, 1, attr_dim_summation=False)


@pytest.mark.parametrize(("layer", "attention"), [(6, None), (6, "head"), (6, "rows")])
def test_a_layer_that_gives_vectors_is_refused_by_name(net, images, layer, attention):
    given = LCAMAttention({str(layer): 8}, 5) if attention == "rows" else attention
    with pytest.raises(ValueError, match=rf"'{layer}'.*\(4, 8\), not feature maps"):
        LayerLearnableCam(net, net[layer], given).attribute(images, 1)
