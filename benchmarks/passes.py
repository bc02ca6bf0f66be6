"""Forward and backward passes of a classifier, counted as they happen."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import nn


@dataclass
class Passes:
    """Passes so far, counted by image: a batch of 16 is 16."""

    forward: int = 0
    backward: int = 0


@contextmanager
def counted(*models: nn.Module) -> Iterator[Passes]:
    """Count the passes in the block: calls of the models; of autograd's `backward` and `grad`, for
    each image of the last forward pass, so that a Hessian-vector product counts as what it is.

    >>> net = nn.Linear(2, 1)
    >>> with counted(net) as passes:
    ...     net(torch.rand(3, 2)).sum().backward()
    >>> passes
    Passes(forward=3, backward=3)
    """
    passes, last = Passes(), 0

    def forward(_module: nn.Module, args: Any) -> None:
        nonlocal last
        last = len(args[0])
        passes.forward += last

    def counting(run: Callable[..., Any]) -> Callable[..., Any]:
        def backward(*args: Any, **kwargs: Any) -> Any:
            passes.backward += last
            return run(*args, **kwargs)

        return backward

    with ExitStack() as stack:
        for model in dict.fromkeys(models):
            stack.callback(model.register_forward_pre_hook(forward).remove)
        for name in ("backward", "grad"):
            run = getattr(torch.autograd, name)
            stack.enter_context(mock.patch.object(torch.autograd, name, counting(run)))
        yield passes
