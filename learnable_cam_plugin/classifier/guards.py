"""Blocks that change the classifier for their length, and leave it as it was found."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from operator import attrgetter
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

# What threads share: hooks being set, and flags that blocks hold off.
LOCK = RLock()
_HELD: dict[tuple[int, str], set[object]] = {}  # id and flag -> the blocks that hold it off


def modules_of(root: nn.Module) -> list[nn.Module]:
    """What `root.modules()` gives, in another order and a third of its time, which is of every
    call."""
    seen, found = {root}, [root]
    for module in found:  # which grows
        if children := module._modules:
            for child in children.values():
                if child is not None and child not in seen:
                    seen.add(child)
                    found.append(child)
    return found


class ModuleTree:
    """The modules of a model, `modules`, in the order of `modules_of`, and whether they still are:
    to see that, at every call, takes a third of the time of a walk."""

    def __init__(self, root: nn.Module) -> None:
        self.modules = modules_of(root)
        self._inside = [module._modules for module in self.modules]
        self._children = self._now()

    def _now(self) -> list[nn.Module | None]:
        return [*chain.from_iterable([children.values() for children in self._inside])]

    def holds(self) -> bool:
        """Whether no module was added, taken away or replaced since."""
        return self._now() == self._children


def tensor_states(tensors: Iterable[Tensor | None]) -> list[int]:
    """Of each tensor that is there two numbers, which change with it: where it lies, and how often
    it was changed in place. Tensors of inference mode cannot be, and count no versions."""
    return [
        number
        for tensor in tensors
        if tensor is not None
        for number in (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
    ]


@contextmanager
def _off(things: Iterable[Any], flag: str) -> Iterator[None]:
    """The boolean `flag` off; each thing's own comes back when the last block that holds it ends,
    whichever thread that is in, and wherever Ctrl-C cuts it, but for a line or two."""
    held: list[tuple[Any, tuple[int, str]]] = []
    token = object()
    try:
        with LOCK:
            if _HELD:
                on = [t for t in things if getattr(t, flag) or (id(t), flag) in _HELD]
            else:
                on = [*filter(attrgetter(flag), things)]
            for thing in on:  # each step after the one that undoes it can see what there is
                held.append((thing, key := (id(thing), flag)))
                _HELD.setdefault(key, set()).add(token)
                setattr(thing, flag, False)
        yield
    finally:
        uninterrupted(partial(_back, held, flag, token))


def _back(held: Iterable[tuple[Any, tuple[int, str]]], flag: str, token: object) -> None:
    """What `_off` undoes; done twice, it is as if it were done once."""
    with LOCK:
        for thing, key in held:
            if (holders := _HELD.get(key)) is not None:
                holders.discard(token)
                if not holders:
                    setattr(thing, flag, True)
                    del _HELD[key]


def uninterrupted(undo: Callable[[], Any]) -> None:
    """Calls what may be called twice until it ends; a Ctrl-C that came meanwhile is raised then."""
    came: KeyboardInterrupt | None = None
    while True:
        try:
            undo()
            break
        except KeyboardInterrupt as error:
            came = error
    if came is not None:
        try:
            raise came
        finally:
            del came  # its traceback holds this frame


def evaluating(
    model: nn.Module, modules: Sequence[nn.Module] | None = None
) -> AbstractContextManager[None]:
    """The model in eval mode for the length of the block; each module's own flag afterwards. Its
    `modules_of`, where they are known, need not be looked for."""
    return _off(modules_of(model) if modules is None else modules, "training")


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Eval mode, and no parameter collects a gradient, for the length of the block."""
    with evaluating(model), _off(model.parameters(), "requires_grad"):
        yield


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter, or buffer, is; the CPU for one that has none."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def on_device(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The model on `device` for the length of the block, and where it was afterwards."""
    before = device_of(model)
    try:
        model.to(device)
        yield
    finally:
        uninterrupted(partial(model.to, before))


@contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Convolutions' weights in channels_last: a quarter less time a step; as before afterwards."""
    before = [(p, p.data) for p in model.parameters() if p.ndim == 4]
    try:
        for parameter, data in before:
            parameter.data = data.contiguous(memory_format=torch.channels_last)
        yield
    finally:
        uninterrupted(partial(_put, before))


def _put(data: Iterable[tuple[nn.Parameter, Tensor]]) -> None:
    for parameter, one in data:
        parameter.data = one
