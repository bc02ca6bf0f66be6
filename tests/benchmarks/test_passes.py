import pytest
import torch
from torch import nn

from benchmarks.passes import Passes, counted


def test_forward_and_backward_passes_are_counted_by_image():
    net, other = nn.Linear(2, 3), nn.Linear(2, 3)
    x = torch.rand(5, 2, requires_grad=True)
    with counted(net, other, net) as passes:
        scores = net(x)
        other(x[:2])
        assert passes == Passes(7, 0)
        net(x)
        scores.sum().backward(retain_graph=True)
        torch.autograd.grad(scores.sum(), x)
    assert passes == Passes(12, 10)


def test_nothing_is_counted_after_the_block_not_even_after_an_error():
    net = nn.Linear(2, 1)
    before = torch.autograd.backward, torch.autograd.grad
    with pytest.raises(RuntimeError), counted(net) as passes:
        raise RuntimeError
    net(torch.rand(1, 2)).sum().backward()
    assert passes == Passes(0, 0)
    assert (torch.autograd.backward, torch.autograd.grad) == before
    assert not net._forward_pre_hooks
