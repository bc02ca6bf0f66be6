"""One set of parameters in several modules."""

import torch
from torch import nn
from torch.nn.utils import parametrizations

from learnable_cam_plugin.attention.twin import twin


def test_parametrised_modules_have_twins():
    one = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.Dropout())
    other = twin(one)
    given = torch.rand(2, 3)
    assert torch.equal(other.eval()(given), one.eval()(given))
    for own, theirs in zip(other.parameters(), one.parameters(), strict=True):
        assert own is theirs


def test_what_is_registered_twice_has_one_twin():
    shared = nn.Linear(3, 3)
    other = twin(nn.ModuleDict({"a": shared, "b": shared}))
    assert other["a"] is other["b"]
    assert other["a"] is not shared


def test_hooks_buffers_and_modes_are_its_own():
    one = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout())
    other, called = twin(one).eval(), []
    other[0].register_forward_hook(lambda *_: called.append(1))
    other[0].register_buffer("running_mean", torch.ones(3))
    one(torch.rand(4, 3))
    assert not called
    assert not torch.equal(one[0].running_mean, other[0].running_mean)
    assert all(module.training for module in one.modules())
