"""LayerLearnableCam beside Captum's own LayerGradCam, and under Captum's composers."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from captum._utils.common import _select_targets
from captum.attr import LayerAttribution, LayerGradCam, NoiseTunnel, visualization
from captum.metrics import infidelity, sensitivity_max
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchvision import models

from learnable_cam_plugin import (
    CheckpointError,
    InputLearnableCam,
    LayerLearnableCam,
    LCAMAttention,
    LearnableCAM,
    calibrate,
    random_attention,
)
from learnable_cam_plugin.attention import condition
from learnable_cam_plugin.saliency import min_max

from .conftest import tiny_network

LAYER = "4"


@pytest.fixture
def model():
    return tiny_network().eval()


@pytest.fixture
def attention(model, images):
    torch.manual_seed(2)
    return random_attention(model, [LAYER], images)


@pytest.fixture
def cam(model, attention):
    return LayerLearnableCam(model, model[4], attention)


def grid(tokens):
    return tokens[:, 1:].mT.unflatten(2, (4, 4))


def vit():
    torch.manual_seed(0)
    return models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5).eval()


@pytest.mark.parametrize("kind", ["cnn", "tokens"])
def test_it_is_learnable_cams_map(kind, images):
    if kind == "cnn":
        model, x, transform = tiny_network().eval(), images, None
        layer = model[4]
    else:
        model, x, transform = vit(), torch.randn(4, 3, 32, 32), grid
        nn.init.normal_(model.heads.head.weight)  # torchvision starts it at 0
        layer = model.encoder.layers[-1].ln_1
    attention = calibrate(model, [layer], x, transform)
    classes = [0, 3, 1, 4]
    theirs = LearnableCAM(model, [layer], transform, attention)(
        x, [ClassifierOutputTarget(c) for c in classes]
    )
    captum = LayerLearnableCam(model, layer, attention, reshape_transform=transform)
    raw = captum.attribute(x, target=classes)
    up = LayerAttribution.interpolate(raw, x.shape[2:], "bilinear")[:, 0]
    assert np.abs(min_max(up).numpy() - theirs).max() < 1e-5
    full = InputLearnableCam(model, layer, attention, reshape_transform=transform).attribute(
        x, classes
    )
    assert full.shape == x.shape
    assert np.abs(full[:, 1].numpy() - theirs).max() < 1e-5


TARGETS = [
    2,
    -1,
    (3,),
    torch.tensor(2),
    torch.tensor([4]),
    [0, 4, 2, 2],
    torch.tensor([3, 0, 1, 1]),
    [(0,), (1,), (4,), (2,)],
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"relu_attributions": True},
        {"attr_dim_summation": False},
        {"attribute_to_layer_input": True},
    ],
    ids=str,
)
def test_every_target_and_option_of_layer_grad_cam(model, images, target, options):
    """With the head as attention both methods are W_y . A up to a factor and b: same choice."""
    wide = options == {"attribute_to_layer_input": True}
    layer, name = (model[5], "5") if wide else (model[4], LAYER)
    attention = calibrate(model, [LAYER], images)
    attention.channels = {name: 8}
    attention.origin = None
    results = [
        method.attribute(images, target, **options)
        for method in (LayerGradCam(model, layer), LayerLearnableCam(model, layer, attention))
    ]
    assert results[0].shape == results[1].shape
    assert results[0].dtype == results[1].dtype
    assert results[0].device == results[1].device
    if not options:
        area = results[0][0].numel()
        same = results[0] * area - results[1]  # what is left is the bias of the chosen class
        assert (same.flatten(1).std(1) < 1e-5).all()
        classes = torch.zeros(4, dtype=torch.long)
        for i in range(4):
            classes[i] = (model[8].bias + same[i].mean()).abs().argmin()
        expected = torch.arange(5).expand(4, 5)
        assert torch.equal(classes, _select_targets(expected, target))


@pytest.mark.parametrize(
    "target", [None, [1, 2], torch.tensor([1, 2]), "cat", [0.5] * 4, (1, 2, 3)]
)
def test_malformed_targets_get_captums_own_error(model, cam, images, target):
    with pytest.raises(AssertionError) as theirs:
        LayerGradCam(model, model[4]).attribute(images, target)
    with pytest.raises(AssertionError) as ours:
        cam.attribute(images, target)
    assert str(ours.value)[:40] == str(theirs.value)[:40]


def test_a_class_out_of_range(cam, images):
    for target in (5, -6, [0, 1, 2, 5]):
        with pytest.raises((IndexError, RuntimeError), match="out of"):
            cam.attribute(images, target)


def test_composers_and_metrics_run_unchanged(model, attention, images):
    layer = LayerLearnableCam(model, model[4], attention)
    full = InputLearnableCam(model, model[4], attention)
    torch.manual_seed(0)
    for kind in ("smoothgrad", "smoothgrad_sq", "vargrad"):
        smooth = NoiseTunnel(layer).attribute(
            images, nt_type=kind, nt_samples=3, target=[0, 1, 2, 3]
        )
        assert smooth.shape == (4, 1, 10, 12)
        assert smooth.isfinite().all()

    def perturb(x):
        noise = torch.randn_like(x) * 0.1
        return noise, x - noise

    score = infidelity(model, perturb, images, full.attribute(images, 2), target=2)
    assert score.shape == (4,)
    assert score.isfinite().all()

    def in_tuple(x, **options):
        """Captum 0.9 iterates over what is explained: a layer method's tensor needs a tuple."""
        return (layer.attribute(x, **options),)

    for explain in (full.attribute, in_tuple):
        change = sensitivity_max(explain, images, target=[1, 1, 0, 4])
        assert change.shape == (4,)
        assert change.isfinite().all()
        assert (change > 0).any()


def test_visualization_runs_unchanged(model, attention, images):
    mpl.use("Agg")
    maps = InputLearnableCam(model, model[4], attention).attribute(images[:1], 2)
    shown = maps[0].permute(1, 2, 0).numpy()
    original = images[0].permute(1, 2, 0).numpy()
    figure, _ = visualization.visualize_image_attr(
        shown, original, method="blended_heat_map", sign="positive", use_pyplot=False
    )
    assert figure.axes


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = tiny_network()

    def forward(self, x, y, scale=1.0, flag=None):
        assert flag == "flag"
        return self.net(x * scale) + y


def test_several_inputs_and_additional_arguments(images):
    model = TwoInputs().eval()
    attention = random_attention(model.net, [LAYER], images)
    attention.origin = None
    attention.channels = {"net.4": 8}
    inputs = (images, torch.rand(4, 5))
    extra = (0.5, "flag")
    layer = LayerLearnableCam(model, model.net[4], attention)
    a = layer.attribute(inputs, target=1, additional_forward_args=extra)
    b = LayerLearnableCam(lambda x: model.net(x * 0.5), model.net[4], attention).attribute(
        images, 1
    )
    assert torch.equal(a, b)
    full = InputLearnableCam(model, model.net[4], attention)
    maps = full.attribute(inputs, target=1, additional_forward_args=extra)
    assert [m.shape for m in maps] == [i.shape for i in inputs]
    assert not maps[1].any()


def test_functions_and_data_parallel(model, attention, images, cam):
    expected = cam.attribute(images, 3)
    function = LayerLearnableCam(lambda x: model(x), model[4], attention)
    assert torch.equal(function.attribute(images, 3), expected)
    parallel = LayerLearnableCam(nn.DataParallel(model), model[4], attention)
    assert torch.equal(parallel.attribute(images, 3), expected)
    both = random_attention(model, ["2", "4"], images)
    with pytest.raises(ValueError, match="cannot be seen through a function"):
        LayerLearnableCam(lambda x: model(x), model[4], both)


def test_layers_without_feature_maps(images):
    net = nn.Sequential(nn.Flatten(), nn.Linear(1440, 5))
    with pytest.raises(ValueError, match="reshape_transform"):
        LayerLearnableCam(net, net[0], LCAMAttention({"0": 1440}, 5)).attribute(images, 1)

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, x):
            return self.pair(x)[0].mean((2, 3))

    net = Net()
    with pytest.raises(TypeError, match="gives a tuple, not a tensor"):
        LayerLearnableCam(net, net.pair, LCAMAttention({"pair": 3}, 3)).attribute(images, 1)


def test_another_model_is_refused(attention):
    other = tiny_network(seed=5)
    with pytest.raises(CheckpointError, match="other values"):
        LayerLearnableCam(other, other[4], attention)


def test_no_backward_any_mode_and_nothing_left(model, attention, images, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("a backward pass")

    monkeypatch.setattr(torch.autograd, "backward", forbidden)
    monkeypatch.setattr(torch.autograd, "grad", forbidden)
    model.train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            result = LayerLearnableCam(model, model[4], attention).attribute(images, 1)
            InputLearnableCam(model, model[4], attention).attribute(images, 1)
        assert not result.requires_grad
    assert all(m.training for m in model.modules())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_half_precision_keeps_its_type(images):
    model = tiny_network().eval().to(torch.bfloat16)
    x = images.to(torch.bfloat16)
    attention = calibrate(model, [LAYER], x)
    assert LayerLearnableCam(model, model[4], attention).attribute(x, 1).dtype == torch.bfloat16


def test_a_layer_goes_by_name_too(tiny, images):
    found = LayerLearnableCam(tiny.eval(), "4").attribute(images, target=1)
    assert torch.equal(found, LayerLearnableCam(tiny, tiny[4]).attribute(images, target=1))
    with pytest.raises(ValueError, match="is not a module of Sequential"):
        LayerLearnableCam(tiny, "nothing")
    with pytest.raises(ValueError, match="the layer '4' of a function is unknown"):
        LayerLearnableCam(lambda x: tiny(x), "4")
    other = tiny_network(seed=1)
    with pytest.raises(ValueError, match="as it is no module of Sequential: name one"):
        LayerLearnableCam(tiny, other[4], condition(tiny, ["0", "4"], images))


def test_what_each_channel_adds_to_a_contrast_is_not_given(tiny, images):
    method = LayerLearnableCam(tiny.eval(), tiny[4], "head")
    with pytest.raises(ValueError, match="shows one class, not a contrast of two"):
        method.attribute(images, (1, 0), attr_dim_summation=False)
