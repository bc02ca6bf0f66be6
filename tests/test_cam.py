"""LearnableCAM against pytorch-grad-cam's contract, on torchvision's own networks."""

import copy
import functools
import gc
import pickle

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam import FinerCAM, GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import (
    BinaryClassifierOutputTarget,
    ClassifierOutputReST,
    ClassifierOutputSoftmaxTarget,
    ClassifierOutputTarget,
    FinerWeightedTarget,
    RawScoresOutputTarget,
    SemanticSegmentationTarget,
    SoftmaxOutputTarget,
)
from torch import nn
from torch.nn import functional as F
from torchvision import models

from learnable_cam_plugin import LCAMAttention, LearnableCAM, calibrate, random_attention
from learnable_cam_plugin.saliency import min_max

from .conftest import tiny_network

# network -> two layers with feature maps, the last one the customary target
NETWORKS = {
    "resnet18": ("layer3.1", "layer4.1"),
    "vgg11": ("features.10", "features.20"),
    "mobilenet_v3_small": ("features.8", "features.12"),
    "densenet121": ("features.denseblock3", "features"),
    "convnext_tiny": ("features.5", "features.7"),
}
CLASSES = 10


@functools.cache
def network(name: str) -> nn.Module:
    """Seeded weights; batch norm has seen images, else deep maps differ by rounding errors only."""
    torch.manual_seed(0)
    model = getattr(models, name)(weights=None, num_classes=CLASSES).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model(batch(8, seed=7))
    return model.eval()


def batch(n=2, channels=3, height=64, width=96, seed=0):
    return torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return network(name)


@pytest.fixture
def layers(name, model):
    return [model.get_submodule(layer) for layer in NETWORKS[name]]


@pytest.fixture
def attention(model, layers):
    torch.manual_seed(1)
    return random_attention(model, layers, batch())


def check(maps, n, height, width):
    assert isinstance(maps, np.ndarray)
    assert maps.dtype == np.float32
    assert maps.shape == (n, height, width)
    assert maps.min() >= 0
    assert maps.max() <= 1


def independent(attention, layer, maps, classes, size):
    """The paper's formula in a few lines of its own, for one layer's recorded feature maps."""
    index = list(attention.channels).index(layer)
    result = []
    for a, y in zip(maps, classes, strict=True):
        c = (attention.weights[index][y][:, None, None] * a).sum(0) + attention.biases[index][y]
        c = (c - c.min()) / (c.max() - c.min())
        result.append(
            F.interpolate(c[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        )
    result = torch.stack(result)
    low, high = result.amin((1, 2), keepdim=True), result.amax((1, 2), keepdim=True)
    return ((result - low) / (high - low)).detach().numpy()


def test_saliency_equals_the_papers_formula(name, model, layers, attention):
    recorded = []
    handle = layers[1].register_forward_hook(lambda m, i, o: recorded.append(o.detach().clone()))
    with torch.no_grad():
        model(batch())
    handle.remove()
    cam = LearnableCAM(model, layers[1:], attention=attention)
    maps = cam(batch(), [ClassifierOutputTarget(3), ClassifierOutputTarget(8)])
    expected = independent(attention, NETWORKS[name][1], recorded[0], [3, 8], (64, 96))
    assert np.abs(maps - expected).max() < 1e-5
    check(maps, 2, 64, 96)
    assert maps.max((1, 2)) == pytest.approx([1, 1])
    assert maps.min((1, 2)) == pytest.approx([0, 0])


def test_the_librarys_options_work(model, layers, attention):
    targets = [ClassifierOutputTarget(1)] * 2
    for chosen in (layers[1:], layers):
        with LearnableCAM(model=model, target_layers=chosen, attention=attention) as cam:
            assert isinstance(cam, BaseCAM)
            cam.batch_size = 8
            check(cam(input_tensor=batch(), targets=targets), 2, 64, 96)
            check(cam(batch(), targets, aug_smooth=True), 2, 64, 96)
            check(cam(batch(), targets, eigen_smooth=True), 2, 64, 96)
            check(cam(batch(1), None), 1, 64, 96)
            check(cam(batch(1)), 1, 64, 96)
            assert cam.outputs.shape == (1, CLASSES)


def test_several_layers_give_the_mean_of_their_maps(model, layers, attention):
    targets = [ClassifierOutputTarget(1)] * 2
    both = LearnableCAM(model, layers, attention=attention)
    each = [LearnableCAM(model, [layer], attention=attention) for layer in layers]
    maps = both(batch(), targets)
    with torch.no_grad():
        both.activations_and_grads(batch())
        parts = both.compute_cam_per_layer(batch(), targets, False)
    assert np.allclose(maps, min_max(torch.stack(parts).mean(0)).numpy(), atol=1e-6)
    for cam, part in zip(each, parts, strict=True):
        assert np.allclose(cam(batch(), targets), min_max(part).numpy(), atol=1e-5)


def test_a_layer_by_name_is_the_layer(tiny, images):
    with LearnableCAM(tiny, [tiny[4]]) as cam, LearnableCAM(tiny, ["4"]) as named:
        assert named.target_layers == [tiny[4]]
        assert (named(images) == cam(images)).all()


def test_top_class_is_explained_without_targets(model, layers, attention):
    cam = LearnableCAM(model, layers[1:], attention=attention)
    maps = cam(batch())
    top = cam.outputs.argmax(1)
    assert np.array_equal(maps, cam(batch(), [ClassifierOutputTarget(int(t)) for t in top]))


def test_one_channel_images(name):
    torch.manual_seed(0)
    model = getattr(models, name)(weights=None, num_classes=CLASSES)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    first.weight = nn.Parameter(first.weight[:, :1])
    first.in_channels = 1
    layer = model.get_submodule(NETWORKS[name][1])
    attention = random_attention(model, [layer], batch(channels=1))
    check(LearnableCAM(model, [layer], attention=attention)(batch(channels=1)), 2, 64, 96)


@pytest.mark.parametrize("kind", ["RefineCAM", "SESS", "FinerCAM"])
def test_as_base_method(kind, model, layers, attention):
    if not hasattr(pytorch_grad_cam, kind):
        pytest.skip(f"this release of pytorch-grad-cam has no {kind}")
    meta = getattr(pytorch_grad_cam, kind)
    base = functools.partial(LearnableCAM, attention=attention)
    options = {"num_scales": 2} if kind == "SESS" else {}
    chosen = layers if kind == "RefineCAM" else layers[1:]
    maps = meta(model, chosen, base_method=base, **options)(batch(), None)
    check(maps, 2, 64, 96)
    if meta is not FinerCAM:
        maps = meta(model, chosen, base_method=LearnableCAM, attention=attention, **options)(
            batch(), [ClassifierOutputTarget(4)] * 2
        )
        check(maps, 2, 64, 96)


def test_the_librarys_methods_pattern():
    model = network("resnet18")
    methods = {"gradcam": GradCAM, "learnable": LearnableCAM}
    for name in methods:
        with methods[name](model=model, target_layers=[model.layer4]) as cam:
            check(cam(input_tensor=batch(), targets=None, aug_smooth=False, eigen_smooth=False),
                  2, 64, 96)  # fmt: skip


def test_the_head_as_attention_is_classic_cam():
    """Zhou et al. 2016: the head's weight row times the last feature maps; no ReLU."""
    model = network("resnet18")
    recorded = []
    handle = model.layer4.register_forward_hook(lambda m, i, o: recorded.append(o.clone()))
    with torch.no_grad():
        model(batch())
    handle.remove()
    raw = torch.einsum("c,nchw->nhw", model.fc.weight[7], recorded[0]) + model.fc.bias[7]
    low, high = raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True)
    scaled = ((raw - low) / (high - low))[:, None]
    expected = F.interpolate(scaled, (64, 96), mode="bilinear")[:, 0]
    expected = (expected - expected.amin((1, 2), keepdim=True)) / (
        expected.amax((1, 2), keepdim=True) - expected.amin((1, 2), keepdim=True)
    )
    classic = LearnableCAM(model, [model.layer4], attention="head")
    maps = classic(batch(), [ClassifierOutputTarget(7)] * 2)
    assert np.abs(maps - expected.detach().numpy()).max() < 1e-5


def test_200_calls_leave_no_tensor_and_no_hook(model, layers, attention):
    def hooks():
        return sum(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())

    def tensors():
        gc.collect()
        return sum(t.nbytes for t in gc.get_objects() if type(t) in (torch.Tensor, nn.Parameter))

    before = hooks()
    x = batch(1, height=32, width=32)
    cam = LearnableCAM(model, layers[1:], attention=attention)
    cam(x)
    level = tensors()
    for _ in range(200):
        cam(x)
        assert hooks() == before
    assert tensors() == level


def test_building_many_cams_frees_each_at_once():
    """No reference cycle: memory goes without waiting for the garbage collector."""
    import weakref

    model = network("resnet18")
    cam = LearnableCAM(model, [model.layer4])
    cam(batch(1, height=32, width=32))
    gone = weakref.ref(cam)
    gc.disable()
    try:
        del cam
        assert gone() is None
    finally:
        gc.enable()


def test_one_forward_no_backward_no_graph(monkeypatch, model, layers, attention):
    def forbidden(*args, **kwargs):
        raise AssertionError("a backward pass")

    monkeypatch.setattr(torch.autograd, "backward", forbidden)
    monkeypatch.setattr(torch.autograd, "grad", forbidden)
    counts = {}
    handles = [
        module.register_forward_pre_hook(
            lambda m, i, key=key: counts.update({key: counts.get(key, 0) + 1})
        )
        for key, module in {"network": model, "layer": layers[1]}.items()
    ]
    try:
        cam = LearnableCAM(model, layers, attention=attention)
        for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
            counts.clear()
            with mode():
                cam(batch().requires_grad_(mode is torch.enable_grad), None)
            assert counts == {"network": 1, "layer": 1}
            assert not cam.outputs.requires_grad
        result = cam.saliency(batch())
        assert not result.requires_grad
    finally:
        for handle in handles:
            handle.remove()


def test_several_classes_of_an_image_take_one_forward(model, layers, attention):
    calls = []
    with LearnableCAM(model, layers, attention=attention) as cam:
        cam(batch())  # the shipped attention finds its layers
        handle = model.register_forward_pre_hook(lambda m, i: calls.append(1))
        classes, maps = cam.several(batch(), top=3)
        named, of_named = cam.several(batch(), [2, -1])
        handle.remove()
        assert len(calls) == 2
        assert torch.equal(classes, cam.outputs.topk(3).indices)
        assert named.tolist() == [[2, CLASSES - 1]] * len(batch())
        assert maps.shape == (*classes.shape, *batch().shape[2:])
        for found, of in ((classes, maps), (named, of_named)):
            for k in range(found.shape[1]):
                targets = [ClassifierOutputTarget(c) for c in found[:, k].tolist()]
                assert torch.allclose(of[:, k], cam.saliency(batch(), targets), atol=1e-5)
        alone = cam.several(batch(), torch.tensor([2]))[1]
        assert torch.allclose(alone, of_named[:, :1], atol=1e-5)
        assert torch.equal(cam.several(batch())[0], cam.outputs.topk(5).indices)
        for wrong in (0, CLASSES + 1):
            with pytest.raises(ValueError, match="top must be 1 to"):
                cam.several(batch(), top=wrong)
        for wrong in (3, [1.5], ["1"], "1", [True], [[1, 2]], torch.zeros(2, 2).long()):
            with pytest.raises(TypeError, match="classes must be a list of integers, got"):
                cam.several(batch(), wrong)
        for wrong, what in (
            ({"classes": []}, "is empty"),
            ({"classes": [1], "top": 2}, "not both"),
        ):
            with pytest.raises(ValueError, match=what):
                cam.several(batch(), **wrong)
        with pytest.raises(IndexError, match="out of range"):
            cam.several(batch(), [CLASSES])
        assert not cam.activations_and_grads.features


def test_head_start_takes_one_forward_too():
    model = network("resnet18")
    calls = []
    handle = model.register_forward_pre_hook(lambda m, i: calls.append(1))
    LearnableCAM(model, [model.layer4], attention="head")(batch())
    handle.remove()
    assert len(calls) == 1


def test_the_model_is_left_as_it_was(name):
    torch.manual_seed(0)
    model = getattr(models, name)(weights=None, num_classes=CLASSES).train()
    next(iter(model.children())).eval()
    layer = model.get_submodule(NETWORKS[name][1])
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [m.training for m in model.modules()]
    attention = random_attention(model, [layer], batch())
    LearnableCAM(model, [layer], attention=attention)(batch())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == flags
    assert all((p.grad == 1).all() and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


# Targets


@pytest.fixture
def resnet():
    return network("resnet18")


@pytest.fixture
def cam(resnet):
    return LearnableCAM(resnet, [resnet.layer4])


@pytest.mark.parametrize(
    "target",
    [
        ClassifierOutputTarget(np.int64(4)),
        ClassifierOutputTarget(np.array(4)),
        ClassifierOutputTarget(torch.tensor(4)),
        ClassifierOutputTarget(4 - CLASSES),
        ClassifierOutputSoftmaxTarget(4),
        ClassifierOutputReST(4),
        BinaryClassifierOutputTarget(4),
        FinerWeightedTarget(4, [], 1.0),  # nothing to compare with
    ],
)
def test_targets_that_name_a_class(cam, target):
    expected = cam(batch(1), [ClassifierOutputTarget(4)])
    assert np.array_equal(cam(batch(1), [target]), expected)


@pytest.mark.parametrize(
    "target",
    [
        RawScoresOutputTarget(),
        SoftmaxOutputTarget(),
        SemanticSegmentationTarget(1, np.ones((4, 4))),
        lambda output: output[3],
        4,
    ],
)
def test_targets_that_name_no_class_say_which_do(cam, target):
    with pytest.raises(TypeError, match=r"names no class.*ClassifierOutputTarget\((index|4)\)"):
        cam(batch(1), [target])


def test_wrong_lists_of_targets(cam):
    with pytest.raises(ValueError, match="2 images need 2 targets, or one, got 3"):
        cam(batch(), [ClassifierOutputTarget(1)] * 3)
    with pytest.raises(TypeError, match="must be a list"):
        cam(batch(), 1)
    for index in (-CLASSES - 1, CLASSES):
        with pytest.raises(IndexError, match=f"class index {index} is out of range"):
            cam(batch(1), [ClassifierOutputTarget(index)])


def test_an_error_leaves_the_with_block_and_no_hook(resnet):
    """BaseCAM swallows an IndexError there; ours reaches the caller."""
    with pytest.raises(IndexError), LearnableCAM(resnet, [resnet.layer4]) as cam:
        cam(batch(1), [ClassifierOutputTarget(99)])
    assert not any(m._forward_hooks for m in resnet.modules())


def test_a_single_logit_has_two_maps():
    torch.manual_seed(0)
    model = models.resnet18(weights=None, num_classes=1)
    cam = LearnableCAM(model, [model.layer4])
    yes = cam(batch(1), [BinaryClassifierOutputTarget(1)])
    no = cam(batch(1), [BinaryClassifierOutputTarget(0)])
    assert not np.allclose(yes, no, atol=0.1)
    classic = LearnableCAM(model, [model.layer4], attention="head")  # of any sign, and turned
    sides = [classic(batch(1), [BinaryClassifierOutputTarget(c)]) for c in (1, 0)]
    assert np.allclose(sides[0], 1 - sides[1], atol=1e-5)
    predicted = yes if float(cam.outputs) > 0 else no
    assert np.array_equal(cam(batch(1)), predicted)
    # of targets of both kinds each counts for its own image
    mixed = cam(
        batch(1).repeat(2, 1, 1, 1), [BinaryClassifierOutputTarget(0), ClassifierOutputTarget(0)]
    )
    assert np.allclose(mixed, np.concatenate([no, yes]), atol=1e-5)
    with pytest.raises(IndexError, match="class index 1 is out of range"):
        cam(batch(2), [BinaryClassifierOutputTarget(0), ClassifierOutputTarget(1)])


# Bad input


def test_nan_images(cam):
    x = batch()
    x[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"images \[1\] of the batch hold NaN"):
        cam(x)


def test_attention_of_another_model_or_layer(resnet, tmp_path):
    vgg = network("vgg11")
    attention = calibrate(resnet, [resnet.layer4], batch())
    attention.save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"target layers are \['features.20'\].*\['layer4'\]"):
        LearnableCAM(vgg, [vgg.features[20]], attention=tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"target layers are \['layer3'\]"):
        LearnableCAM(resnet, [resnet.layer3], attention=attention)
    loaded = LearnableCAM(resnet, [resnet.layer4], attention=tmp_path / "a.safetensors")
    classic = LearnableCAM(resnet, [resnet.layer4], attention="head")
    assert np.array_equal(loaded(batch()), classic(batch()))
    wrong_classes = LCAMAttention({"layer4": 512}, 3)
    with pytest.raises(ValueError, match="10 class scores, the attention explains 3"):
        LearnableCAM(resnet, [resnet.layer4], attention=wrong_classes)(batch())


def test_volumes():
    """3-D images (N, C, D, H, W), which pytorch-grad-cam supports too."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(1, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 4)
    )
    x = torch.rand(2, 1, 8, 12, 16)
    cam = LearnableCAM(model, [model[1]])
    maps = cam(x, [ClassifierOutputTarget(2)] * 2)
    assert maps.shape == (2, 8, 12, 16)
    assert cam(x, eigen_smooth=True).shape == (2, 8, 12, 16)
    raw = torch.einsum("c,ncdhw->ndhw", model[4].weight[2], model[:2](x))
    low, high = raw.amin((1, 2, 3), keepdim=True), raw.amax((1, 2, 3), keepdim=True)
    scaled = ((raw - low) / (high - low))[:, None]
    expected = min_max(F.interpolate(scaled, x.shape[2:], mode="trilinear")[:, 0])
    assert np.abs(maps - expected.detach().numpy()).max() < 1e-5


def test_vision_transformer_through_reshape_transform():
    torch.manual_seed(0)
    model = models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5).eval()
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at 0: no class would differ
    layer = model.encoder.layers[-1].ln_1

    def grid(tokens):
        return tokens[:, 1:].mT.unflatten(2, (4, 4))

    x = torch.randn(2, 3, 32, 32)
    attention = calibrate(model, [layer], x, grid)
    maps = LearnableCAM(model, [layer], grid, attention)(x)
    check(maps, 2, 32, 32)
    # tokens that make a grid of the images' proportions need none
    assert np.array_equal(LearnableCAM(model, [layer], attention=attention)(x), maps)


def test_half_precision_models_give_float32_maps(resnet):
    import copy

    model = copy.deepcopy(resnet).to(torch.bfloat16)
    maps = LearnableCAM(model, [model.layer4])(batch().to(torch.bfloat16))
    check(maps, 2, 64, 96)


@pytest.mark.parametrize("attention", [None, "head"])
def test_a_copy_explains_its_own_model(resnet, attention):
    cam = LearnableCAM(resnet, [resnet.layer4], attention=attention)
    images = batch(height=64)
    expected = cam(images)
    for again in (copy.deepcopy(cam), pickle.loads(pickle.dumps(cam))):
        assert again.model is not resnet
        assert np.array_equal(again(images), expected)


@pytest.mark.parametrize("attention", [None, "head"])
def test_a_model_compiled_in_place_is_read_as_it_is_written(resnet, attention):
    images = batch(height=64)
    expected = LearnableCAM(resnet, [resnet.layer4], attention=attention)(images)
    compiled = copy.deepcopy(resnet)
    compiled.compile(backend="eager")
    with torch.no_grad():
        compiled(images)  # from now on the compiled code runs, which sees no hook
    cam = LearnableCAM(compiled, [compiled.layer4], attention=attention)
    assert np.allclose(cam(images), expected, atol=1e-5)


def test_what_is_no_module_or_hides_its_layers_is_refused(resnet):
    for model in (torch.jit.trace(resnet, batch(height=64)), None, resnet.forward):
        with pytest.raises(TypeError, match=r"must be a torch.nn.Module, .*got a"):
            LearnableCAM(model)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_smoothed_is_not_turned_round(images, seed):
    """The sign of a principal component is arbitrary; that of the map is not."""
    cam = LearnableCAM(tiny_network(seed=seed).eval())
    plain, smooth = cam.saliency(images), cam.saliency(images, eigen_smooth=True)
    for one, other in zip(plain, smooth, strict=True):
        assert np.corrcoef(one.flatten(), other.flatten())[0, 1] > 0
