"""What a block changes is as it was, wherever Ctrl-C cuts it."""

import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from learnable_cam_plugin.classifier import evaluating, frozen
from learnable_cam_plugin.classifier.guards import _HELD, channels_last, on_device, tensor_states

from ..conftest import tiny_network


class Cut(nn.ReLU):
    """Is interrupted where its flag is set to `at`, once."""

    at = None

    def __setattr__(self, name, value):
        if name == "training" and value is type(self).at:
            type(self).at = None
            raise KeyboardInterrupt
        super().__setattr__(name, value)


@pytest.fixture
def network():
    net = tiny_network()
    net[4] = Cut()
    return net.train()


@pytest.mark.parametrize("at", [False, True], ids=["on the way in", "on the way out"])
@pytest.mark.parametrize("block", [evaluating, frozen])
def test_an_interruption_leaves_every_flag(network, at, block):
    Cut.at = at
    with pytest.raises(KeyboardInterrupt), block(network):
        pass
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not _HELD
    with evaluating(network):  # and the next block is none the worse
        assert not any(module.training for module in network.modules())
    assert all(module.training for module in network.modules())


def test_of_two_blocks_the_last_gives_the_flag_back(network):
    outer, inner = evaluating(network), evaluating(network)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert not network[4].training
    inner.__exit__(None, None, None)
    assert network[4].training
    assert not _HELD


def test_weights_are_where_they_were(network):
    before = [parameter.data_ptr() for parameter in network.parameters()]
    with pytest.raises(KeyboardInterrupt), channels_last(network):
        raise KeyboardInterrupt
    assert [parameter.data_ptr() for parameter in network.parameters()] == before


# in a process of its own: Ctrl-C can leave torch's grad mode off, too, which is torch's
CUT_ANYWHERE = """
import signal, time
import torch
from torch import nn
from learnable_cam_plugin import LearnableCAM
from learnable_cam_plugin.classifier.guards import _HELD

torch.set_num_threads(1)
norms = [one for _ in range(60) for one in (nn.BatchNorm2d(4), nn.ReLU())]  # many flags
net = nn.Sequential(nn.Conv2d(3, 4, 3), *norms, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                    nn.Linear(4, 5)).train()
cam, images, left = LearnableCAM(net), torch.rand(1, 3, 8, 8), 0
cam(images)
began = time.perf_counter()
cam(images)
took = time.perf_counter() - began

def cut(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, cut)
for number in range(500):
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, max(1e-5, took * (number % 100) / 80))
            cam(images)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
    torch.set_grad_enabled(True)
    hooked = any(module._forward_hooks for module in net.modules())
    left += bool(_HELD) or hooked or not all(module.training for module in net.modules())
    _HELD.clear()
    net.train()
    for module in net.modules():
        module._forward_hooks.clear()
assert torch.isfinite(torch.from_numpy(cam(images))).all()
print(left)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers of signals")
def test_interruptions_at_any_moment_leave_flags_and_hooks():
    """Of 500 calls, each cut somewhere else; before, some fifty left something."""
    run = [sys.executable, "-c", CUT_ANYWHERE]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 2  # a line or two it may hit


class Sent(nn.Linear):
    """Keeps where it is sent."""

    def to(self, device):
        self.went = [*getattr(self, "went", []), torch.device(device)]
        return self


def test_a_model_goes_back_to_its_device_from_a_block_that_fails():
    model, elsewhere = Sent(2, 2), torch.device("meta")
    with pytest.raises(RuntimeError, match="no"), on_device(model, elsewhere):
        raise RuntimeError("no")
    assert model.went == [elsewhere, torch.device("cpu")]


def test_tensors_of_inference_mode_which_count_no_versions_have_a_state_too():
    with torch.inference_mode():
        tensor = torch.zeros(2)
    assert tensor_states([tensor, None]) == [tensor.data_ptr(), 0]
