"""The head that an attention reads is the one that gives the scores, at every pass."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from learnable_cam_plugin import LayerLearnableCam, LearnableCAM, ScoresOf

from ..conftest import of_class, tiny_network
from ..networks import pictures


class TwoHeads(nn.Module):
    """Both at once, or the one that `task` names."""

    def __init__(self, classes=5):
        super().__init__()
        torch.manual_seed(3)
        self.trunk = tiny_network()[:8]
        self.a, self.b, self.task = nn.Linear(8, 5), nn.Linear(8, classes), None

    def forward(self, x):
        z = self.trunk(x)
        if self.task is not None:
            return getattr(self, self.task)(z)
        return {"a": self.a(z), "b": self.b(z)}


def of_head(name):
    return lambda outputs: outputs[name]


@pytest.mark.parametrize("classes", [5, 7])
def test_each_output_of_a_model_is_explained_by_its_own_head(classes):
    model, images = TwoHeads(classes).eval(), pictures(2, 32)
    first, second = (LearnableCAM(model, output=of_head(name)) for name in "ab")
    maps = first(images), second(images)
    assert (first.attention.head, second.attention.head) == ("a", "b")
    assert (first(images) == maps[0]).all()
    alone = LearnableCAM(copy.deepcopy(model), output=of_head("b"))
    assert abs(alone(images) - maps[1]).max() < 1e-6
    scores = ScoresOf(model, of_head("b"))
    raw = LayerLearnableCam(scores, model.trunk[4]).attribute(images, target=1)
    other = copy.deepcopy(scores)
    expected = LayerLearnableCam(other, other.model.trunk[4]).attribute(images, target=1)
    assert torch.allclose(raw, expected, atol=1e-5)


def test_a_model_that_goes_to_another_head_is_followed():
    model, images = TwoHeads().eval(), pictures(2, 32)
    model.task = "a"
    cam = LearnableCAM(model)
    cam(images)
    model.task = "b"
    found = cam(images, of_class(1, 2))
    assert cam.attention.head == "b"
    assert abs(found - LearnableCAM(copy.deepcopy(model))(images, of_class(1, 2))).max() < 1e-6


COMPUTED = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "pruned": lambda head: prune.l1_unstructured(head, "weight", amount=0.4),
}


@pytest.mark.parametrize("compute", COMPUTED.values(), ids=COMPUTED)
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_head_whose_weight_is_computed_is_read_as_it_is_now(compute):
    model, images = tiny_network().eval(), pictures(2, 32)
    compute(model[8])
    cam = LearnableCAM(model)
    cam(images)
    with torch.no_grad():  # in place, as training does
        for parameter in model[8].parameters():
            parameter.copy_(torch.randn(parameter.shape))
    found = cam(images, of_class(1, 2))
    plain = tiny_network().eval()
    model(images)  # the old way of pruning computes it in a pass
    with torch.no_grad():
        plain[8].weight.copy_(model[8].weight)
        plain[8].bias.copy_(model[8].bias)
    assert abs(found - LearnableCAM(plain)(images, of_class(1, 2))).max() < 1e-5


@pytest.mark.parametrize("attention", [None, "head"])
def test_to_look_at_a_computed_weight_changes_nothing_in_training(attention):
    model = tiny_network().train()
    parametrizations.spectral_norm(model[8])
    before = copy.deepcopy(model.state_dict())
    cam = LearnableCAM(model, [model[4]], attention=attention)
    cam(pictures(2, 32))
    cam(pictures(2, 32))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


class Adapted(nn.Module):
    """A head with a low-rank addition, which is nothing before it is trained."""

    def __init__(self, base):
        super().__init__()
        self.base, self.down, self.up = base, nn.Linear(8, 2, bias=False), nn.Linear(2, 5)
        nn.init.zeros_(self.up.weight), nn.init.zeros_(self.up.bias)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
def test_what_is_added_to_a_head_later_counts():
    model, images = tiny_network().eval(), pictures(2, 32)
    model[8] = Adapted(model[8])
    cam = LearnableCAM(model)
    before = cam(images, of_class(1, 2))
    with torch.no_grad():
        model[8].up.weight.normal_(0, 3)
    found = cam(images, of_class(1, 2))
    merged = tiny_network().eval()
    with torch.no_grad():
        added = model[8].up.weight @ model[8].down.weight
        merged[8].weight.copy_(model[8].base.weight + added)
        merged[8].bias.copy_(model[8].base.bias)
    assert abs(found - before).max() > 0.05
    assert abs(found - LearnableCAM(merged)(images, of_class(1, 2))).max() < 1e-4


def test_logarithms_of_probabilities_are_explained_as_their_logits():
    model, images = tiny_network().eval(), pictures(2, 32)
    with torch.no_grad():
        model[8].weight.mul_(10)
    expected = LearnableCAM(model)(images, of_class(1, 2))
    for end in nn.LogSoftmax(1), nn.Softmax(1):
        cam = LearnableCAM(nn.Sequential(model, end))
        assert abs(cam(images, of_class(1, 2)) - expected).max() < 1e-5
