"""The classifier, and the program's random numbers, are left as they were found."""

import copy
import random

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from learnable_cam_plugin import (
    LayerLearnableCam,
    LearnableCAM,
    calibrate,
    condition,
    load_attention,
    random_attention,
)

from ..conftest import tiny_network


class Merging(nn.Linear):
    """As LoRA layers do: `train()` and `eval()` fold a second matrix into the weight, and out."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.low = nn.Parameter(torch.randn(self.out_features, self.in_features))
        self.merged = False

    def train(self, mode=True):
        if self.merged == mode:
            self.weight.data += self.low if not mode else -self.low
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        own = super().forward(x)
        return own if self.merged else own + x @ self.low.T


def merging():
    net = tiny_network()
    net[8] = Merging(8, 5)
    return net.train()


def spectral():
    net = tiny_network()
    net[3] = nn.utils.parametrizations.spectral_norm(net[3])
    return net.train()


def spectral_head():
    net = tiny_network()
    net[8] = nn.utils.parametrizations.spectral_norm(net[8])
    return net.train()


def partly_frozen():
    net = tiny_network().train()
    net[0].requires_grad_(False)
    net[1].eval()
    net[4].register_forward_hook(lambda *_: None)
    return net


def with_gradients():
    net = tiny_network().train()
    net(torch.rand(2, 3, 20, 24)).sum().backward()
    return net


def large(name):
    def make():
        torch.manual_seed(3)
        model = getattr(torchvision.models, name)(num_classes=7)
        return model.train()

    make.__name__ = name
    return make


MODELS = [tiny_network, merging, spectral, spectral_head, partly_frozen, with_gradients]
LARGE = {
    "resnet18": "layer4",
    "mobilenet_v3_small": "features",
    "squeezenet1_1": "features",
    "shufflenet_v2_x0_5": "conv5",
}
MODELS += [large(name) for name in LARGE]


def state_of(model):
    """All that can be seen of a model from outside, copied."""
    modules = dict(model.named_modules())
    return {
        "tensors": {k: v.clone() for k, v in model.state_dict().items()},
        "ids": {n: id(p) for n, p in model.named_parameters()},
        "gradients": {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None},
        "requires_grad": {n: p.requires_grad for n, p in model.named_parameters()},
        "training": {n: m.training for n, m in modules.items()},
        "merged": {n: m.merged for n, m in modules.items() if hasattr(m, "merged")},
        "hooks": {
            n: [len(vars(m)[k]) for k in sorted(vars(m)) if k.endswith("hooks")]
            for n, m in modules.items()
        },
        "own": {n: sorted(vars(m)) for n, m in modules.items()},
    }


def same(before, after):
    assert before.keys() == after.keys()
    for key, value in before.items():
        if isinstance(value, dict):
            same(value, after[key])
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, after[key]), key
        else:
            assert value == after[key], key


def explained(model, layer, images):
    with LearnableCAM(model, [layer]) as cam:
        cam(images)


def explained_with(make):
    def run(model, layer, images):
        attention = make(model, [layer], images)
        with LearnableCAM(model, [layer], attention=attention) as cam:
            cam(images, eigen_smooth=True)
            cam(images, aug_smooth=True)
        module = model.get_submodule(layer)
        LayerLearnableCam(model, module, attention).attribute(images, 1)

    run.__name__ = make.__name__
    return run


def failing(model, layer, images):
    with LearnableCAM(model, [layer], attention=random_attention(model, [layer], images)) as cam:
        with pytest.raises(ValueError, match="NaN"):
            cam(images * torch.nan)
        with pytest.raises(RuntimeError):
            cam(images[:, :2])


USES = [explained, *map(explained_with, (random_attention, calibrate, condition)), failing]


@pytest.mark.filterwarnings("ignore:the head of Sequential:UserWarning")  # of `merging`
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_the_classifier_is_left_as_it_was(make, use):
    model = make()
    layer = LARGE.get(make.__name__, "4")
    if use is explained and make.__name__ in ("mobilenet_v3_small", "squeezenet1_1"):
        pytest.skip("its head is not pooling and one linear layer: classic CAM refuses it")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = state_of(model)
    use(model, layer, images)
    same(before, state_of(model))


# its weight is not what it applies, and so is not read as that
@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
def test_a_model_that_merges_gives_the_same_scores_before_during_and_after(images):
    model = merging()
    model[7].eval()  # no dropout
    model[1].eval()
    expected = model(images)
    with LearnableCAM(model, ["4"]) as cam:
        cam(images)
        assert torch.allclose(cam.outputs, expected, atol=1e-5)
    assert torch.equal(model(images), expected)


def drawn():
    return torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


@pytest.mark.parametrize(
    "use",
    [
        lambda net, images, file: LearnableCAM(net, ["4"])(images),
        lambda net, images, file: LearnableCAM(net, ["4"], attention=file)(images),
        lambda net, images, file: load_attention(file),
        lambda net, images, file: calibrate(net, ["4"], images),
        lambda net, images, file: calibrate(net, ["1"], images),
        lambda net, images, file: condition(net, ["1", "4"], images),
    ],
    ids=["classic", "from a file", "load", "calibrate", "calibrate an earlier layer", "condition"],
)
def test_no_random_number_of_the_program_is_drawn(tiny, images, tmp_path, use):
    random_attention(tiny, ["4"], images).save(tmp_path / "a.safetensors")
    torch_before, *before = drawn()
    use(tiny, images, tmp_path / "a.safetensors")
    torch_after, *after = drawn()
    assert torch.equal(torch_before, torch_after)
    assert before == after


def test_names_of_layers_leave_no_hook(tiny, images):
    reference = copy.deepcopy(state_of(tiny)["hooks"])
    cam = LearnableCAM(tiny, ["1", "4"], attention=random_attention(tiny, ["1", "4"], images))
    assert state_of(tiny)["hooks"] == reference
    cam(images)
    del cam
    assert state_of(tiny)["hooks"] == reference
