"""Captum's contract, of LayerGradCam and of LayerLearnableCam."""

import inspect
from functools import partial

import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam, NoiseTunnel
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from learnable_cam_plugin import LayerLearnableCam, LCAMAttention, calibrate

from .networks import Both, Pair, Returns, TwoInputs, Unused, classifier

pytestmark = pytest.mark.parametrize("method", [LayerGradCam, LayerLearnableCam])


def trained(method, net, layer, images):
    """Ours with an attention that has a row of weights a class; the host's as it is."""
    if method is LayerGradCam:
        return method
    return partial(method, attention=calibrate(net, [layer], images), check=False)


def test_arguments(method, net, images):
    assert issubclass(method, LayerAttribution)
    parameters = list(inspect.signature(method.__init__).parameters)
    assert parameters[:3] == ["self", "forward_func", "layer"]
    assert "device_ids" in parameters
    names = list(inspect.signature(method.attribute).parameters)
    known = [
        "self", "inputs", "target", "additional_forward_args", "attribute_to_layer_input",
        "relu_attributions", "attr_dim_summation",
    ]  # fmt: skip
    assert names[:7] == known
    assert set(names[7:]) <= {"grad_kwargs"}  # since Captum 0.8
    made = method(net, net[3])
    assert made.forward_func is net
    assert made.layer is net[3]
    assert made.multiplies_by_inputs is False
    assert made.has_convergence_delta() is False


def test_one_map_at_the_layers_size(method, net, images):
    maps = method(net, net[3]).attribute(images, target=1)
    if method is LayerGradCam:
        assert maps.shape == (4, 1, 8, 10)
    else:  # at the grid of a finer layer, which is found
        assert maps.shape == (4, 1, 16, 20)
    given = trained(method, net, net[3], images)(net, net[3]).attribute(images, target=1)
    assert given.shape == (4, 1, 8, 10)
    assert given.dtype == images.dtype


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
def test_targets(method, net, images, target):
    made = method(net, net[3])
    found = made.attribute(images, target)
    classes = torch.arange(5).repeat(4, 1)
    one_each = target if isinstance(target, list) or torch.is_tensor(target) else [target] * 4
    if torch.is_tensor(target):
        one_each = target.flatten().tolist() * (4 // target.numel())
    chosen = [one[0] if isinstance(one, tuple) else one for one in one_each]
    for i, k in enumerate(chosen):
        alone = made.attribute(images[i : i + 1], int(classes[i, k]))
        assert torch.allclose(found[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "target", [None, [1, 2], torch.tensor([1, 2]), "cat", [0.5] * 4, (1, 2, 3)]
)
def test_malformed_targets(method, net, images, target):
    with pytest.raises(AssertionError):
        method(net, net[3]).attribute(images, target)


@pytest.mark.parametrize("target", [5, -6, [0, 1, 2, 5]])
def test_class_out_of_range(method, net, images, target):
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        method(net, net[3]).attribute(images, target)


def test_one_score_needs_no_target(method, images):
    net = classifier(num_classes=1)
    assert method(net, net[3]).attribute(images).shape[:2] == (4, 1)


def test_relu_attributions(method, net, images):
    made = trained(method, net, net[3], images)(net, net[3])
    plain = made.attribute(images, 1)
    assert torch.equal(made.attribute(images, 1, relu_attributions=True), plain.relu())
    assert (plain < 0).any()


def test_attr_dim_summation(method, net, images):
    made = trained(method, net, net[3], images)(net, net[3])
    parts = made.attribute(images, [0, 1, 2, 3], attr_dim_summation=False)
    assert parts.shape == (4, 8, 8, 10)
    total = made.attribute(images, [0, 1, 2, 3])
    assert torch.allclose(parts.sum(1, keepdim=True), total, atol=1e-5)
    if method is LayerLearnableCam:
        with pytest.raises(ValueError, match="no sum over channels"):
            method(net, net[3]).attribute(images, 1, attr_dim_summation=False)


def test_attribute_to_layer_input(method, net, images):
    """The input of the pooling is the output of the ReLU before it."""
    of_output = trained(method, net, net[3], images)(net, net[3]).attribute(images, 1)
    given = {} if method is LayerGradCam else {"attention": calibrate(net, [net[3]], images)}
    if given:
        given["attention"].channels, given["attention"].origin = {"4": 8}, None
    of_input = method(net, net[4], **given).attribute(images, 1, attribute_to_layer_input=True)
    assert torch.allclose(of_input, of_output, atol=1e-6)
    if method is LayerLearnableCam:
        with pytest.raises(ValueError, match="attribute_to_layer_input"):
            method(net, net[3]).attribute(images, 1, attribute_to_layer_input=True)


def test_several_inputs_and_additional_arguments(method, images):
    model = TwoInputs().eval()
    plain = trained(method, model.net, model.net[3], images)(model.net, model.net[3])
    given = {}
    if method is LayerLearnableCam:
        given["attention"] = calibrate(model.net, [model.net[3]], images)
        given["attention"].channels, given["attention"].origin = {"net.3": 8}, None
    made = method(model, model.net[3], **given)
    found = made.attribute((images, images), 1, additional_forward_args=(0.5, "word"))
    assert torch.allclose(found, plain.attribute(images * 1.5, 1), atol=1e-6)
    if method is LayerLearnableCam:
        with pytest.raises(ValueError, match="additional inputs"):
            method(model, model.net[3]).attribute((images, images), 1)


def test_device_ids(method, net, images):
    by_position = method(net, net[3], [0])
    assert by_position.device_ids == method(net, net[3], device_ids=[0]).device_ids == [0]
    assert torch.equal(by_position.attribute(images, 1), method(net, net[3]).attribute(images, 1))


def test_forward_function(method, net, images):
    made = trained(method, net, net[3], images)
    expected = made(net, net[3]).attribute(images, 1)
    assert torch.equal(made(lambda x: net(x), net[3]).attribute(images, 1), expected)
    if method is LayerLearnableCam:
        with pytest.raises(ValueError, match="through a function"):
            method(lambda x: net(x), net[3])


def test_data_parallel(method, net, images):
    expected = method(net, net[3]).attribute(images, 1)
    assert torch.equal(method(nn.DataParallel(net), net[3]).attribute(images, 1), expected)


def test_grad_kwargs(method, net, images):
    if "grad_kwargs" not in inspect.signature(method.attribute).parameters:
        pytest.skip("Captum before 0.8 has none")
    made = method(net, net[3])
    found = made.attribute(images, 1, grad_kwargs={"materialize_grads": True})
    assert torch.equal(found, made.attribute(images, 1))


def test_frozen_parameters(method, net, images):
    expected = method(net, net[3]).attribute(images, 1)
    net.requires_grad_(False)
    assert torch.allclose(method(net, net[3]).attribute(images, 1), expected, atol=1e-6)


def test_under_no_grad(method, net, images):
    made = method(net, net[3])
    expected = made.attribute(images, 1).detach()
    with torch.no_grad():
        assert torch.equal(made.attribute(images, 1), expected)
    with torch.inference_mode():
        if method is LayerLearnableCam:
            assert torch.equal(made.attribute(images, 1), expected)
        else:
            with pytest.raises(RuntimeError):
                made.attribute(images, 1)


def test_graph_of_the_result(method, net, images):
    found = method(net, net[3]).attribute(images.requires_grad_(), 1)
    assert found.requires_grad is (method is LayerGradCam)


def test_layer_of_vectors(method, net, images):
    if method is LayerGradCam:
        assert method(net, net[5]).attribute(images, 1).shape == (4, 1)
    else:
        for attention in (None, "head", LCAMAttention({"5": 8}, 5)):
            with pytest.raises(ValueError, match=r"layer '5' gives \(4, 8\), not feature maps"):
                method(net, net[5], attention).attribute(images, 1)


def test_layer_of_several_tensors(method, images):
    model = Pair().eval()
    if method is LayerGradCam:
        assert len(method(model, model.both).attribute(images, 1)) == 2
    else:
        assert isinstance(model.both, Both)
        with pytest.raises(TypeError, match="layer 'both' gives a tuple"):
            method(model, model.both).attribute(images, 1)


def test_unused_layer(method, images):
    """Of which no score depends."""
    model = Unused().eval()
    if method is LayerLearnableCam:
        with pytest.raises(ValueError, match="do not depend on the feature maps at 'side'"):
            calibrate(model, [model.side], images)
    else:
        with pytest.raises(RuntimeError):
            method(model, model.side).attribute(images, 1)


def test_mode_of_the_model(method, net, images):
    net.train()
    method(net, net[3]).attribute(images, 1)
    assert all(module.training for module in net.modules())
    torch.manual_seed(0)
    twice = [method(net, net[3]).attribute(images, 1) for _ in range(2)]
    # dropout is at work in Captum's pass, and held off in ours
    assert torch.equal(*twice) is (method is LayerLearnableCam)


def test_gradients_of_the_parameters(method, net, images):
    method(net, net[3]).attribute(images, 1)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_hooks_after_a_call(method, net, images):
    made = method(net, net[3])
    made.attribute(images, 1)
    with pytest.raises((AssertionError, IndexError, RuntimeError)):
        made.attribute(images, 99)
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    assert not any(getattr(module, kind) for module in net.modules() for kind in kinds)


def test_object_with_logits(method, net, images):
    model = Returns(net)
    if method is LayerLearnableCam:
        expected = method(net, net[3]).attribute(images, 1)
        assert torch.equal(method(model, net[3]).attribute(images, 1), expected)
    else:
        with pytest.raises((AssertionError, AttributeError, TypeError)):
            method(model, net[3]).attribute(images, 1)


def test_interpolate(method, net, images):
    raw = method(net, net[3]).attribute(images, 1)
    assert LayerAttribution.interpolate(raw, (32, 40), "bilinear").shape == (4, 1, 32, 40)


def test_composers(method, net, images):
    torch.manual_seed(0)
    made = method(net, net[3])
    for kind in ("smoothgrad", "smoothgrad_sq", "vargrad"):
        smooth = NoiseTunnel(made).attribute(
            images, nt_type=kind, nt_samples=3, target=[0, 1, 2, 3]
        )
        assert smooth.shape == made.attribute(images, 1).shape
        assert smooth.isfinite().all()


def test_captums_metrics(method, net, images):
    made = method(net, net[3])

    def explain(inputs, **options):
        raw = made.attribute(inputs, **options)
        return LayerAttribution.interpolate(raw, (32, 40), "bilinear").repeat(1, 3, 1, 1)

    def perturb(inputs):
        noise = torch.randn_like(inputs) * 0.1
        return noise, inputs - noise

    def explained(inputs, **options):
        return (explain(inputs[0] if isinstance(inputs, tuple) else inputs, **options),)

    torch.manual_seed(0)
    score = infidelity(net, perturb, images, explain(images, target=2).detach(), target=2)
    change = sensitivity_max(explained, images, target=[1, 1, 0, 4], n_perturb_samples=2)
    for found in (score, change):
        assert found.shape == (4,)
        assert found.isfinite().all()


def test_half_precision(method, net, images):
    net, images = net.to(torch.bfloat16), images.to(torch.bfloat16)
    assert method(net, net[3]).attribute(images, 1).dtype == torch.bfloat16


def test_values(method, net, images):
    """With a head of pooling and one linear layer: the weight's row times the maps, where Captum
    takes the mean of a gradient that we take whole, and adds no bias."""
    with torch.no_grad():
        maps, head = net[:4](images), net[7]
        rows = torch.einsum("c,nchw->nhw", head.weight[2], maps)[:, None]
        if method is LayerGradCam:
            assert torch.allclose(method(net, net[3]).attribute(images, 2), rows / 80, atol=1e-6)
        else:
            found = method(net, net[3], "head").attribute(images, 2)
            assert torch.allclose(found, rows + head.bias[2], atol=1e-5)
