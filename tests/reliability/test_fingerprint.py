"""An attention explains the classifier that it was made for, in any wrapper, and no other."""

import copy
import json

import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors import safe_open
from torch import nn

from learnable_cam_plugin import (
    CheckpointError,
    LayerLearnableCam,
    LearnableCAM,
    condition,
    load_attention,
    random_attention,
)

from ..conftest import tiny_network

TARGETS = [ClassifierOutputTarget(c) for c in (0, 1, 2, 3)]


class Normalise(nn.Module):
    """What many programs put before a classifier; its mean is a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))

    def forward(self, images):
        return images - self.mean


WRAPPERS = {
    "bare": lambda model: model,
    "torch.compile": lambda model: torch.compile(model, backend="eager"),
    "DataParallel": nn.DataParallel,
    "normalise": lambda model: nn.Sequential(Normalise(), model),
    "compiled, then normalised": lambda m: torch.compile(
        nn.Sequential(Normalise(), nn.DataParallel(m)), backend="eager"
    ),
}


def redraw_first_convolution(model):
    model[0].reset_parameters()


def other_statistics(model):
    model[1].running_mean += 0.05


def other_bias_of_the_head(model):
    model[8].bias += 0.05


def a_head_scaled_by_a_hundredth(model):
    model[8].weight *= 1.009


def other_slopes_of_the_normalisation(model):
    model[1].weight *= 1.02


CHANGES = [
    redraw_first_convolution,
    other_statistics,
    other_bias_of_the_head,
    a_head_scaled_by_a_hundredth,
    other_slopes_of_the_normalisation,
]


@pytest.fixture
def saved(tiny, images, tmp_path):
    attention = random_attention(tiny, [tiny[4]], images)
    attention.save(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


@pytest.mark.parametrize("change", CHANGES)
def test_any_other_tensor_is_noticed_and_named_with_the_way_out(tiny, images, saved, change):
    with torch.no_grad():
        change(tiny)
    with pytest.raises(CheckpointError, match=r"other values.*attention.origin = None") as error:
        LearnableCAM(tiny, ["4"], attention=saved)
    assert "Sequential" in str(error.value)
    overruled = load_attention(saved)
    overruled.origin = None
    assert LearnableCAM(tiny, ["4"], attention=overruled)(images, TARGETS).shape == (4, 20, 24)


@pytest.mark.parametrize("made_with", WRAPPERS)
@pytest.mark.parametrize("used_with", WRAPPERS)
@pytest.mark.parametrize("make", [random_attention, condition])
def test_the_right_classifier_is_taken_in_any_wrapper(images, tmp_path, made_with, used_with, make):
    model = tiny_network().eval()
    attention = make(WRAPPERS[made_with](model), [model[1], model[4]], images)
    attention.save(tmp_path / "a.safetensors")
    expected = LearnableCAM(model, [model[1], model[4]], attention=attention)(images, TARGETS)
    wrapped = WRAPPERS[used_with](model)
    file = tmp_path / "a.safetensors"
    with LearnableCAM(wrapped, [model[1], model[4]], attention=file) as cam:
        assert abs(cam(images, TARGETS) - expected).max() < 1e-6
    if make is condition:
        layer = LayerLearnableCam(wrapped, model[4], file).attribute(images, [0, 1, 2, 3])
        assert layer.shape == (4, 1, 10, 12)


def test_half_precision_and_back_is_the_same_classifier(tiny, images, saved):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        rounded = copy.deepcopy(tiny).to(dtype)
        load_attention(saved).check_model(rounded, ["4"])
        load_attention(saved).check_model(rounded.float(), ["4"])


def test_a_class_may_move_to_another_module(images, tmp_path):
    class Net(nn.Sequential):
        pass

    here = Net(*tiny_network())
    Net.__module__ = "__main__"
    random_attention(here, [here[4]], images).save(tmp_path / "a.safetensors")
    Net.__module__ = "somebody.models"
    load_attention(tmp_path / "a.safetensors").check_model(here, ["4"])


def test_other_names_and_shapes_are_named_with_both_sides(images, saved):
    wider = tiny_network(num_classes=7)
    with pytest.raises(CheckpointError, match=r"8.weight \(5, 8\) then, \(7, 8\) now"):
        load_attention(saved).check_model(wider, ["4"])
    longer = nn.Sequential(*tiny_network(), nn.Linear(5, 5))
    with pytest.raises(CheckpointError, match=r"new here: 9.bias, 9.weight"):
        load_attention(saved).check_model(longer, ["4"])


def test_a_count_of_batches_is_no_other_classifier(tiny, images, saved):
    tiny[1].num_batches_tracked += 100
    load_attention(saved).check_model(tiny, ["4"])


def test_a_model_without_values_is_refused(images, saved):
    with torch.device("meta"):
        nothing = tiny_network()
    with pytest.raises(ValueError, match="no values yet: load its weights"):
        load_attention(saved).check_model(nothing, ["4"])


def test_masks_of_minus_infinity_do_not_disturb(tiny, images):
    tiny.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    attention = random_attention(tiny, [tiny[4]], images)
    attention.check_model(tiny, ["4"])
    tiny.mask[2, 0] = -torch.inf
    with pytest.raises(CheckpointError, match="mask"):
        attention.check_model(tiny, ["4"])


def test_the_record_is_small(tiny, saved):
    with safe_open(saved, "pt") as file:
        record = json.loads(file.metadata()["learnable_cam_plugin"])
    assert len(record["origin"]["tensors"]) == 10
    assert len(json.dumps(record["origin"]["tensors"])) < 1000
