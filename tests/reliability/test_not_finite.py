"""NaN and infinity never leave: a map is finite, or an error names what was the first to be not."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from learnable_cam_plugin import (
    InputLearnableCam,
    LayerLearnableCam,
    LearnableCAM,
    LearnableCAMTrainer,
    condition,
    random_attention,
)

from ..conftest import UNIT, tiny_network


def as_cam(net, attention, images):
    return LearnableCAM(net, ["4"], attention=attention).saliency(images)


def as_layer(net, attention, images):
    return LayerLearnableCam(net, net[4], attention).attribute(images, 1)


def as_input(net, attention, images):
    return InputLearnableCam(net, net[4], attention).attribute(images, 1)


@pytest.fixture(params=[as_cam, as_layer, as_input], ids=lambda f: f.__name__)
def explain(request):
    return request.param


@pytest.fixture
def attention(tiny, images):
    made = random_attention(tiny, ["4"], images)
    made.origin = None  # the weights are spoiled below
    return made


def test_a_classifier_with_nan_weights_is_named(tiny, images, attention, explain):
    with torch.no_grad():
        tiny[3].weight[2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"feature maps at '4' .*classifier's own pass"):
        explain(tiny, attention, images)


def test_a_head_with_nan_weights_is_named(tiny, images, attention, explain):
    with torch.no_grad():
        tiny[8].bias[3] = torch.inf
    with pytest.raises(ValueError, match=r"class scores of the images \[0, 1, 2, 3\]"):
        explain(tiny, attention, images)


def test_an_attention_with_nan_weights_is_named(tiny, images, attention, explain):
    with torch.no_grad():
        attention.weights[0][:] = torch.nan
    with pytest.raises(ValueError, match=r"attention's 'weights.0' holds NaN"):
        explain(tiny, attention, images)


def test_maps_beyond_float32_are_named(tiny, images, attention, explain):
    with torch.no_grad():
        attention.weights[0][:] = torch.tensor([3e38, -3e38] * 4)
    images *= 100
    with pytest.raises(ValueError, match=r"beyond what torch.float32 holds"):
        explain(tiny, attention, images)


def test_the_image_that_is_not_finite_is_named(tiny, images, attention, explain):
    images[2, 0, 3, 3] = torch.nan
    with pytest.raises(ValueError, match=r"images \[2\] of the batch hold NaN"):
        explain(tiny, attention, images)


def test_pixels_that_no_normalisation_gives_are_named_with_their_size(
    tiny, images, attention, explain
):
    with pytest.raises(ValueError, match=r"the images reach 1e\+37.*normalisation"):
        explain(tiny, attention, images * 0 + 1e37)


@settings(max_examples=60, deadline=None)
@given(
    scale=st.floats(-1e38, 1e38, allow_nan=False),
    offset=st.floats(-1e38, 1e38),
    size=st.sampled_from([(2, 2), (4, 3), (9, 9)]),
    shared=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:the feature maps")
def test_whatever_the_pixels_a_map_lies_in_0_to_1_or_is_refused(scale, offset, size, shared):
    net = tiny_network()
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * scale + offset
    attention = (condition if shared else random_attention)(net, ["4"], torch.rand(2, 3, 8, 8))
    try:
        maps = as_cam(net, attention, images)
    except ValueError:
        return
    assert bool(torch.isfinite(maps).all())
    assert 0 <= float(maps.min()) <= float(maps.max()) <= 1


@pytest.mark.parametrize("size", [(2, 2), (8, 8)])
@pytest.mark.parametrize("content", [torch.zeros, torch.rand])
def test_gradients_are_finite_on_1x1_grids_and_on_maps_of_zeros(tiny, size, content):
    attention = condition(tiny, ["4"], torch.rand(4, 3, 8, 8)).train()
    features = {"4": content(3, 8, size[0] // 2, size[1] // 2)}
    (maps,) = attention(features, torch.tensor([0, 1, 4]))
    maps.square().sum().backward()
    assert all(
        bool(torch.isfinite(p.grad).all()) for p in attention.parameters() if p.grad is not None
    )


@pytest.mark.filterwarnings("ignore:the feature maps")
@pytest.mark.parametrize("recipe", ["every-threshold", "l-cam-img", "l-cam-fm"])
def test_a_training_on_a_1x1_grid_ends_finite_or_is_refused(recipe, tmp_path):
    net = tiny_network()
    loader = [torch.rand(8, 3, 2, 2, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    trainer = LearnableCAMTrainer(
        net, ["4"], recipe=recipe, normalization=UNIT, epochs=2, progress=False, device="cpu",
        output_dir=tmp_path,
    )  # fmt: skip
    if recipe == "every-threshold":  # its mask is the map scaled to [0, 1]: constant there
        with pytest.raises(ValueError, match="maps saturated or constant"):
            trainer.fit(loader)
    else:
        trainer.fit(loader)
    assert all(math.isfinite(value) for row in trainer.history for value in row.values())
    kept = {} if trainer.attention is None else trainer.attention.state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in kept.values())
    for file in tmp_path.rglob("*.safetensors"):
        assert all(bool(torch.isfinite(value).all()) for value in load_file(file).values())


def test_the_head_probe_finds_the_head_of_a_half_model():
    net = nn.Sequential(*tiny_network()).to(torch.bfloat16).eval()
    maps = LearnableCAM(net, ["4"]).saliency(torch.rand(2, 3, 40, 40).to(torch.bfloat16))
    assert maps.dtype == torch.float32
    assert float(maps.max()) == 1
