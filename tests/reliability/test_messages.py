"""What users pass by mistake: each error names what was given, what was expected, what to do."""

from functools import partial

import numpy as np
import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from learnable_cam_plugin import (
    InputLearnableCam,
    LayerLearnableCam,
    LearnableCAM,
    Normalization,
    random_attention,
)

from ..conftest import tiny_network


@pytest.fixture
def attention(tiny, images):
    return random_attention(tiny, ["4"], images)


IMAGES = {
    "numpy": (lambda x: x.numpy(), r"torch.Tensor, got ndarray: use torch.from_numpy"),
    "a list": (list, r"torch.Tensor, got list: use torch.stack\(images\)"),
    "nothing": (lambda x: None, "torch.Tensor, got NoneType"),
    "bytes": (lambda x: (x * 255).byte(), r"images of torch.uint8 on cpu: pass images.to\('cpu', "),
    "double": (lambda x: x.double(), r"weights are torch.float32.*images of torch.float64"),
    "half": (lambda x: x.half(), "images of torch.float16"),
    "one image": (lambda x: x[0], r"\(3, 20, 24\).*Use image\[None\]"),
    "no image": (lambda x: x[:0], "no empty dimension"),
}


@pytest.mark.parametrize("given", IMAGES)
@pytest.mark.parametrize("interface", [LearnableCAM, LayerLearnableCam, InputLearnableCam])
def test_images_of_another_kind(tiny, images, attention, given, interface):
    change, message = IMAGES[given]
    if interface is LearnableCAM:
        explain = LearnableCAM(tiny, ["4"], attention=attention)
    else:
        explain = partial(interface(tiny, tiny[4], attention).attribute, target=1)
    with pytest.raises((TypeError, ValueError, RuntimeError), match=message):
        explain(change(images))


def test_a_batch_smoothed_over_augmentations_says_the_same(tiny, images, attention):
    with pytest.raises(TypeError, match=r"torch.Tensor, got ndarray: use torch.from_numpy"):
        LearnableCAM(tiny, ["4"], attention=attention)(images.numpy(), aug_smooth=True)


@pytest.mark.parametrize(
    "target",
    [torch.tensor([1.0, 2, 3, 0]), torch.tensor([True] * 4), torch.tensor(2.0), [True] * 4],
)
def test_captum_targets_that_are_no_indices(tiny, images, attention, target):
    with pytest.raises(AssertionError, match=r"Target element type.*is not valid"):
        LayerLearnableCam(tiny, tiny[4], attention).attribute(images, target)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 1, 2, 3]), "list with one target an image.*got a Tensor"),
        ([1, 2, 3, 4], "int names no class.*ClassifierOutputTarget"),
        ([ClassifierOutputTarget(1.5)] * 4, "names no class"),
        ([ClassifierOutputTarget(True)] * 4, "names no class"),
        ([ClassifierOutputTarget(1)] * 3, "4 images need 4 targets, or one, got 3"),
        ([ClassifierOutputTarget(5)] * 4, "class index 5 is out of range: the classes are 0 to 4"),
    ],
)
def test_targets_that_name_no_class(tiny, images, attention, targets, message):
    with pytest.raises((TypeError, ValueError, IndexError), match=message):
        LearnableCAM(tiny, ["4"], attention=attention)(images, targets)


class Nothing(nn.Module):
    """A classifier without parameters: the mean colour of the image's quarters."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)

    def forward(self, images):
        return self.pool(images).flatten(1)


def test_a_model_without_parameters_is_explained(images):
    net = Nothing()
    attention = random_attention(net, ["pool"], images)
    assert LearnableCAM(net, ["pool"], attention=attention)(images).shape == (4, 20, 24)


def test_a_model_whose_weights_are_buffers_only_is_explained(images):
    net = tiny_network()
    for module in net.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, value.detach())
    assert LearnableCAM(net, ["4"])(images).shape == (4, 20, 24)


@pytest.mark.parametrize("given", [0.5, [0.5], np.float32(0.5), torch.tensor(0.5), (0.5,)])
def test_one_number_normalises_all_channels(images, given):
    expected = (images - 0.5) / 0.5
    assert torch.allclose(Normalization(given, given).normalize(images), expected)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ("0.5", 0.25, "mean must be one number a channel, got '0.5'"),
        (None, 0.25, "mean must be one number a channel, got None"),
        ([0.5, 0.5], [0.2], "one value a channel each"),
        (0.5, 0.0, "std must be above 0"),
        (float("nan"), 1, "mean must be finite, got nan"),
        (0.5, float("inf"), "std must be finite"),
        ([], [], "one value a channel"),
    ],
)
def test_normalisations_that_are_none(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalization(mean, std)


def test_the_models_own_error_is_not_hidden(tiny, images, attention):
    with pytest.raises(RuntimeError, match=r"expected input.*to have 3 channels"):
        LearnableCAM(tiny, ["4"], attention=attention)(images[:, :2])


def test_a_layer_that_does_not_run_is_named(images):
    net = tiny_network()
    net.add_module("spare", nn.Sequential())
    net.spare.add_module("unused", nn.Conv2d(3, 3, 1))
    net.forward = lambda x: nn.Sequential.forward(net[:9], x)
    with pytest.raises(ValueError, match=r"\['spare.unused'\] did not run.*choose layers that do"):
        LearnableCAM(net, ["spare.unused"])(images)
