"""Classic CAM reads the classifier's head anew whenever it may be another one."""

import pytest
import torch
from torch import nn

from learnable_cam_plugin import LearnableCAM

from ..conftest import tiny_network


def maximum_network():
    """As the tiny network, but its head reads the maximum of each feature map."""
    net = tiny_network()
    net[5] = nn.AdaptiveMaxPool2d(1)
    return net


@pytest.mark.parametrize("size", [(2, 2), (20, 24)])
def test_a_first_batch_on_which_all_poolings_agree_decides_nothing(images, size):
    net = maximum_network()
    with torch.no_grad():
        net[3].bias.zero_()
        net[0].bias.zero_()
    cam = LearnableCAM(net, [net[4]], attention="head")
    with pytest.warns(UserWarning, match="1x1") if size == (2, 2) else torch.no_grad():
        cam(torch.zeros(1, 3, *size))
    with pytest.raises(ValueError, match="does not go from"):
        cam(images)


def test_the_right_head_is_read_after_such_a_batch(tiny, images):
    cam = LearnableCAM(tiny, [tiny[4]], attention="head")
    cam(torch.zeros(1, 3, 20, 24))
    assert (cam(images) == LearnableCAM(tiny, [tiny[4]], attention="head")(images)).all()


def replace_the_head(net):
    net[8] = nn.Linear(8, 5)


def train_the_head(net):
    optimizer = torch.optim.SGD(net[8].parameters(), lr=5.0)
    (-net(torch.rand(4, 3, 20, 24))[:, 0].sum()).backward()
    optimizer.step()


def load_other_weights(net):
    net.load_state_dict(tiny_network(seed=9).state_dict())


def more_classes(net):
    net[8] = nn.Linear(8, 9)


@pytest.mark.parametrize(
    "change", [replace_the_head, train_the_head, load_other_weights, more_classes]
)
def test_a_head_that_changed_is_read_anew(tiny, images, change):
    tiny.eval()
    cam = LearnableCAM(tiny, [tiny[4]], attention="head")
    before = cam(images)
    change(tiny)
    after = cam(images)
    assert (after == LearnableCAM(tiny, [tiny[4]], attention="head")(images)).all()
    assert abs(after - before).max() > 1e-3


def test_a_head_that_is_not_changed_is_read_once(tiny, images, monkeypatch):
    from learnable_cam_plugin.attention import classic

    read = []
    start = classic.head_start
    monkeypatch.setattr(classic, "head_start", lambda *args: read.append(1) or start(*args))
    cam = LearnableCAM(tiny, [tiny[4]], attention="head")
    for _ in range(5):
        cam(images)
    assert read == [1]


def test_refused_calls_keep_nothing(images):
    import gc

    net = maximum_network()
    cam = LearnableCAM(net, [net[4]], attention="head")

    def tensors():
        gc.collect()
        return sum(isinstance(one, torch.Tensor) for one in gc.get_objects())

    def refused():
        with pytest.raises(ValueError, match="does not go from"):
            cam(images)

    refused()
    before = tensors()
    for _ in range(20):
        refused()
    assert tensors() <= before


def test_a_head_called_with_keywords_is_found(images):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = tiny_network()[:5]
            self.fc = nn.Linear(8, 5)

        def forward(self, images):
            return self.fc(input=self.features(images).mean((2, 3)))

    net = Net()
    assert LearnableCAM(net, [net.features], attention="head")(images).shape == (4, 20, 24)
