"""pytorch-grad-cam's contract, of GradCAM and of LearnableCAM."""

import gc
import inspect

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.metrics.cam_mult_image import CamMultImageConfidenceChange
from pytorch_grad_cam.metrics.road import ROADMostRelevantFirst
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import (
    BinaryClassifierOutputTarget,
    ClassifierOutputSoftmaxTarget,
    RawScoresOutputTarget,
    SemanticSegmentationTarget,
)
from torch import nn

from learnable_cam_plugin import LearnableCAM, calibrate

from ..conftest import of_class
from .networks import Returns, Tokens, classifier, of_volumes

pytestmark = pytest.mark.parametrize("method", [GradCAM, LearnableCAM])


def hooks(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def test_arguments(method, net, images):
    assert issubclass(method, BaseCAM)
    names = list(inspect.signature(method.__init__).parameters)
    assert names[:4] == ["self", "model", "target_layers", "reshape_transform"]
    call = list(inspect.signature(method.__call__).parameters)
    assert call == ["self", "input_tensor", "targets", "aug_smooth", "eigen_smooth"]
    by_position = method(net, [net[3]], None)
    by_name = method(model=net, target_layers=[net[3]], reshape_transform=None)
    maps = by_name(input_tensor=images, targets=None, aug_smooth=False, eigen_smooth=False)
    assert np.array_equal(by_position(images, None), maps)
    assert by_name.model is net
    assert by_name.target_layers == [net[3]]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("size", [(32, 32), (32, 40)])
@pytest.mark.parametrize("category", [None, 3])
@pytest.mark.parametrize("eigen_smooth", [False, True])
@pytest.mark.parametrize("layers", [[3], [1, 3]])
def test_maps(method, net, count, size, category, eigen_smooth, layers):
    images = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))
    cam = method(net, [net[layer] for layer in layers])
    cam.batch_size = 4
    targets = None if category is None else of_class(*[category] * count)
    maps = cam(images, targets, eigen_smooth=eigen_smooth)
    assert isinstance(maps, np.ndarray)
    assert maps.dtype == np.float32
    assert maps.shape == (count, *size)
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_top_class(method, net, images):
    cam = method(net, [net[3]])
    maps = cam(images, None)
    with torch.no_grad():
        scores = net(images)
    assert torch.allclose(cam.outputs, scores)
    assert np.array_equal(maps, cam(images, of_class(*scores.argmax(1).tolist())))


def test_classes_from_the_last(method, net, images):
    cam = method(net, [net[3]])
    assert np.array_equal(cam(images, of_class(-1, -2, -5, 0)), cam(images, of_class(4, 3, 0, 0)))


def test_each_image_by_itself(method, net, images):
    cam = method(net, [net[3]])
    together = cam(images, of_class(0, 1, 2, 3))
    each = [cam(images[i : i + 1], of_class(i)) for i in range(4)]
    assert np.allclose(together, np.concatenate(each), atol=1e-4)


def test_aug_smooth(method, net, images):
    cam = method(net, [net[3]])
    smooth = cam(images, of_class(0, 1, 2, 3), aug_smooth=True)
    assert smooth.shape == (4, 32, 40)
    assert abs(smooth - cam(images, of_class(0, 1, 2, 3))).max() > 1e-3


def test_other_targets_of_a_class(method, net, images):
    maps = method(net, [net[3]])(images, [ClassifierOutputSoftmaxTarget(2)] * 4)
    assert maps.shape == (4, 32, 40)


def test_targets_without_a_class(method, net, images):
    cam = method(net, [net[3]])
    without = [RawScoresOutputTarget(), lambda scores: scores[0] - scores[1]]
    if method is LearnableCAM:
        for target in (*without, SemanticSegmentationTarget(1, np.ones((4, 4), np.float32))):
            with pytest.raises(TypeError, match="names no class"):
                cam(images, [target] * 4)
    else:
        assert cam(images, without[1:] * 4).shape == (4, 32, 40)


def test_single_logit(method, images):
    net = classifier(num_classes=1)
    cam = method(net, [net[3]])
    yes, no = (cam(images, [BinaryClassifierOutputTarget(k)] * 4) for k in (1, 0))
    assert yes.shape == no.shape == (4, 32, 40)
    assert abs(yes - no).max() > 0.1


def test_one_target_for_a_batch(method, net, images):
    maps = method(net, [net[3]])(images, of_class(2))
    if method is LearnableCAM:
        assert np.array_equal(maps, method(net, [net[3]])(images, of_class(2, 2, 2, 2)))
    else:
        assert not maps[1:].any()


def test_class_out_of_range(method, net, images):
    with pytest.raises(IndexError):
        method(net, [net[3]])(images, of_class(5, 5, 5, 5))


def test_one_channel_images(method):
    net = classifier(channels=1)
    assert method(net, [net[3]])(torch.rand(16, 1, 32, 32), None).shape == (16, 32, 32)


def test_volumes(method):
    net = of_volumes()
    maps = method(net, [net[1]])(torch.rand(2, 1, 8, 12, 16), of_class(1, 2))
    assert maps.shape == (2, 8, 12, 16)


def test_tokens(method):
    def grid(tokens):
        return tokens.transpose(1, 2).unflatten(2, (8, 10))

    images = torch.rand(2, 3, 32, 40)
    model = Tokens().eval()
    maps = method(model, [model.block], reshape_transform=grid)(images, of_class(1, 2))
    assert maps.shape == (2, 32, 40)
    if method is LearnableCAM:  # a grid of the images' proportions needs none
        assert np.array_equal(method(model, [model.block])(images, of_class(1, 2)), maps)
    else:
        with pytest.raises(ValueError, match="shape"):
            method(model, [model.block])(images, of_class(1, 2))


def test_with_block(method, net, images):
    with method(net, [net[3]]) as cam:
        cam(images, None)
    assert hooks(net) == 0
    del cam
    gc.collect()


def test_index_error_in_the_with_block(method, net, images):
    ended = False
    try:
        with method(net, [net[3]]) as cam:
            cam(images, of_class(9, 9, 9, 9))
        ended = True
    except IndexError:
        pass
    assert ended is (method is GradCAM)
    assert hooks(net) == 0


def test_hooks_between_calls(method, net, images):
    cam = method(net, [net[3]])
    cam(images, None)
    assert (hooks(net) == 0) is (method is LearnableCAM)
    cam.activations_and_grads.release()
    assert hooks(net) == 0


def test_mode_of_the_model(method, net, images):
    net.train()
    method(net, [net[3]])(images, None)
    assert all(module.training is (method is LearnableCAM) for module in net.modules())


def test_gradients_of_the_parameters(method, net, images):
    method(net, [net[3]])(images, None)
    left = [parameter for parameter in net.parameters() if parameter.grad is not None]
    assert bool(left) is (method is GradCAM)


def test_frozen_parameters(method, net, images):
    net.requires_grad_(False)
    cam = method(net, [net[3]])
    if method is LearnableCAM:
        assert cam(images, None).shape == (4, 32, 40)
    else:
        with pytest.raises((RuntimeError, IndexError, AttributeError, TypeError)):
            cam(images, None)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_autograd(method, net, images, mode):
    cam = method(net, [net[3]])
    expected = cam(images, None)
    with mode():
        if method is LearnableCAM:
            assert np.array_equal(cam(images, None), expected)
        else:
            with pytest.raises(RuntimeError):
                cam(images, None)


def test_arguments_of_gradients(method, net, images):
    if method is LearnableCAM:
        with pytest.raises(TypeError):
            method(net, [net[3]], compute_input_gradient=True)
    cam = method(net, [net[3]])
    assert cam.uses_gradients is (method is GradCAM)
    assert cam.compute_input_gradient is False


def test_object_with_logits(method, net, images):
    model = Returns(net)
    cam = method(model, [net[3]])
    if method is LearnableCAM:
        assert np.array_equal(cam(images, None), method(net, [net[3]])(images, None))
    else:
        with pytest.raises((AttributeError, TypeError)):
            cam(images, None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_layers_by_name(method, net, images):
    if method is LearnableCAM:
        expected = method(net, [net[3]])(images, None)
        assert np.array_equal(method(net, ["3"])(images, None), expected)
    else:
        with pytest.raises(AttributeError):
            method(net, ["3"])


def test_nan_images(method, net, images):
    images[1] = torch.nan
    cam = method(net, [net[3]])
    if method is LearnableCAM:
        with pytest.raises(ValueError, match=r"images \[1\] of the batch hold NaN"):
            cam(images, None)
    else:
        with np.errstate(invalid="ignore"):
            assert not np.isfinite(cam(images, None)[1]).all() or not cam(images, None)[1].any()


def test_the_map_follows_the_weights(method, net, images):
    cam = method(net, [net[3]])
    before = cam(images, of_class(0, 1, 2, 3))
    net.load_state_dict(classifier(seed=5).state_dict())
    after = cam(images, of_class(0, 1, 2, 3))
    assert abs(after - before).max() > 1e-2
    assert np.array_equal(after, method(net, [net[3]])(images, of_class(0, 1, 2, 3)))


def test_many_calls_keep_no_memory(method, net, images):
    def tensors():
        gc.collect()
        return sum(t.nbytes for t in gc.get_objects() if type(t) in (torch.Tensor, nn.Parameter))

    sizes = []
    for _ in range(5):
        with method(net, [net[3]]) as cam:
            cam(images, of_class(0, 1, 2, 3))
        del cam
        net.zero_grad()
        sizes.append(tensors())
    assert len(set(sizes[1:])) == 1


def test_of_the_libraries_meta_methods(method, net, images):
    options = {"SESS": {"num_scales": 2}}
    for name in ("FinerCAM", "RefineCAM", "SESS"):  # of those that this release has
        meta = getattr(pytorch_grad_cam, name, None)
        if meta is not None:
            made = meta(net, [net[1], net[3]], base_method=method, **options.get(name, {}))
            assert made(images, None).shape == (4, 32, 40), name


def test_the_librarys_metrics(method, net, images):
    cams = method(net, [net[3]])(images, of_class(0, 1, 2, 3))
    targets = [ClassifierOutputSoftmaxTarget(k) for k in range(4)]
    change = CamMultImageConfidenceChange()(images, cams, targets, net)
    road = ROADMostRelevantFirst(percentile=75)(images, cams, targets, net)
    for scores in (change, road):
        assert np.shape(scores) == (4,)
        assert np.isfinite(scores).all()


def test_shown_over_the_photograph(method, net, images):
    grayscale = method(net, [net[3]])(images, None)[0]
    picture = images[0].permute(1, 2, 0).numpy()
    shown = show_cam_on_image(picture, grayscale, use_rgb=True)
    assert shown.shape == (32, 40, 3)
    assert shown.dtype == np.uint8


def test_half_precision(method, net, images):
    net = net.to(torch.bfloat16)
    cam = method(net, [net[3]])
    if method is LearnableCAM:
        assert cam(images.bfloat16(), None).dtype == np.float32
    else:  # numpy has no bfloat16
        with pytest.raises(TypeError):
            cam(images.bfloat16(), None)


def test_values(method, images):
    """With a head of pooling and one linear layer, of weights that are not below 0, on maps of the
    images' own size: Grad-CAM is classic CAM, which is LearnableCAM's attention='head'."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()  # fmt: skip
    with torch.no_grad():
        net[4].weight.abs_()
        raw = torch.einsum("c,nchw->nhw", net[4].weight[2], net[:2](images))
    low, high = raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True)
    expected = ((raw - low) / (high - low)).numpy()
    attentions = {"head": "head", "rows": calibrate(net, [net[1]], images)}
    settings = (
        [{}]
        if method is GradCAM
        else [{"attention": attention} for attention in attentions.values()]
    )
    for given in settings:
        maps = method(net, [net[1]], **given)(images, of_class(2, 2, 2, 2))
        assert np.allclose(maps, expected, atol=1e-4)
