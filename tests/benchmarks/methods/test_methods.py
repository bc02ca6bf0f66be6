"""Every method behind the same callable, on a tiny network; passes as their papers say."""

import pytest
import torch
from torch import nn

from benchmarks.methods import METHODS, Method, find_methods, opened, register_method
from benchmarks.passes import counted
from learnable_cam_plugin import random_attention

CHANNELS = 8


@pytest.fixture
def attention(bed):
    return random_attention(bed.model, [bed.layer], bed.pictures.images[:1])


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_each_gives_maps_of_the_images_and_leaves_no_hook(bed, attention, method):
    with opened(method, bed, attention) as cam:
        maps = cam(bed.pictures.images, bed.pictures.classes)
    assert maps.shape == (4, 20, 24)
    assert torch.isfinite(maps).all()
    assert maps.min() >= 0
    assert maps.max() <= 1 + 1e-5
    assert hooks(bed.model) == 0


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("LearnableCAM", 1, 0),
        ("L-CAM-Img", 1, 0),
        ("L-CAM-Fm", 1, 0),
        ("classic CAM", 1, 0),
        ("Grad-CAM", 1, 1),
        ("Grad-CAM++", 1, 1),
        ("HiResCAM", 1, 1),
        ("XGrad-CAM", 1, 1),
        ("LayerCAM", 1, 1),
        ("FullGrad", 1, 1),
        ("FinerCAM", 1, 1),
        ("RefineCAM", 3, 3),  # one of each a layer
        ("Eigen-CAM", 1, 0),
        ("FastSHAP", 1, 0),
        ("Recipro-CAM", 2, 0),  # the second of the head alone, on all places at once
        ("Opti-CAM", 1 + 100, 100),
        ("ShapleyCAM", 1, 2),  # the gradient, and a Hessian-vector product
        ("Score-CAM", 1 + CHANNELS, 0),
        ("Ablation-CAM", 2 + CHANNELS, 0),  # the library asks for the clean scores twice
        ("RISE", 1 + 50, 0),
        ("SIDU", 1 + CHANNELS, 0),
        ("random map", 0, 0),
        ("centred Gaussian", 0, 0),
    ],
)
def test_passes_are_those_of_the_paper(bed, attention, name, forward, backward):
    (method,) = find_methods(name)
    with opened(method, bed, attention) as cam, counted(bed.model, bed.scorer) as passes:
        cam(bed.pictures.images[:1], bed.pictures.classes[:1])
    assert (passes.forward, passes.backward) == (forward, backward)


def test_sise_passes_once_for_each_mask_and_ada_sise_takes_fewer(bed):
    counts = {}
    for method in find_methods("SISE,Ada-SISE"):
        with opened(method, bed) as cam, counted(bed.model) as passes:
            cam(bed.pictures.images[:1], bed.pictures.classes[:1])
        assert passes.backward == 1
        counts[method.name] = passes.forward
    assert 1 < counts["Ada-SISE"] < counts["SISE"] <= 1 + 6 + 6 + CHANNELS


def test_finer_cam_compares_with_the_three_nearest_classes(bed):
    """Its weighted target by hand: the class's score against its three most similar ones."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget

    scores = bed.model(bed.pictures.images[:1])[0].detach()
    others = [int(c) for c in (scores - scores[2]).abs().argsort() if int(c) != 2][:3]
    with GradCAM(bed.model, [bed.layer]) as cam:
        expected = cam(bed.pictures.images[:1], [FinerWeightedTarget(2, others, 1.0)])
    (method,) = find_methods("FinerCAM")
    with opened(method, bed) as call:
        found = call(bed.pictures.images[:1], torch.tensor([2]))
    assert torch.allclose(found, torch.from_numpy(expected))


def test_shapley_cam_is_not_grad_cam_by_another_name(bed):
    """With a plain score its Hessian is empty on a linear head; the paper's target has one."""
    maps = []
    for method in find_methods("Grad-CAM,ShapleyCAM"):
        with opened(method, bed) as cam:
            maps.append(cam(bed.pictures.images, bed.pictures.classes))
    assert (maps[0] - maps[1]).abs().max() > 1e-3


def test_a_learned_method_without_training_says_what_to_pass(bed):
    (method,) = find_methods("L-CAM-Fm")
    with pytest.raises(ValueError, match="pass --train"), opened(method, bed):
        pass


def test_unknown_methods_are_named():
    with pytest.raises(ValueError, match=r"no method \['smooth'\]; there are .*RISE"):
        find_methods("RISE, smooth")


def test_a_method_is_registered_once():
    mine = Method("grad-cam", "gradient", "", lambda bed, _: None)
    with pytest.raises(ValueError, match="a method 'Grad-CAM' already: give 'grad-cam' another"):
        register_method(mine)
    assert "grad-cam" not in METHODS
