"""A classifier's copy that notes what its layers give, in plain calls: no hook, so that it can be
compiled and exported."""

import copy
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from torch import nn

from ..classifier import own_copy
from ..saliency import compiling

Parts = TypeVar("Parts")
Seen = dict[str, Any]  # key -> what was noted of a module's pass


class _Own(threading.local):
    def __init__(self) -> None:
        self.seen: Seen = {}

    def __reduce__(self) -> tuple[type, tuple]:  # a copy begins with nothing
        return _Own, ()


class Notes:
    """What the modules of `note` saw in the pass that is under way: each thread's own."""

    def __init__(self) -> None:
        self._own = _Own()
        self._traced: Seen = {}

    def seen(self) -> Seen:
        # a compiler sees no threads: what it traced holds the values itself
        return self._traced if compiling() else self._own.seen

    def taken(self) -> Seen:
        """What was seen, of which nothing is kept here."""
        seen = self.seen()
        found = dict(seen)
        seen.clear()
        return found

    def note(self, key: str, module: nn.Module, what: Callable[[Any, Any], Any]) -> None:
        """From now on each pass of the module leaves under `key` `what` there is to keep of what it
        was given first, and gave. The last of several runs counts."""
        forward = vars(module).get("forward", partial(type(module).forward, module))
        module.forward = partial(_noted, self, key, what, forward)


def both(given: Any, output: Any) -> tuple[Any, Any]:
    return own_copy(given), own_copy(output)


def output_alone(_given: Any, output: Any) -> tuple[None, Any]:
    return None, own_copy(output)


def given_alone(given: Any, _output: Any) -> Any:
    return given


def _noted(
    notes: Notes, key: str, what: Callable[[Any, Any], Any], forward: Callable, *args: Any,
    **named: Any,
) -> Any:  # fmt: skip
    output = forward(*args, **named)
    notes.seen()[key] = what(next(iter((*args, *named.values())), None), output)
    return output


def copied(parts: Parts, modules: Iterable[nn.Module]) -> Parts:
    """A copy of `parts` that shares the values of all tensors of `modules`, under parameters and
    buffers of its own, without gradients: to move or convert the copy leaves the modules as they
    are.

    Raises:
        ValueError: a part cannot be copied, with the reason.
    """
    memo: dict[int, Any] = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            own = tensor.detach()
            if isinstance(tensor, nn.Parameter):
                own = nn.Parameter(own, requires_grad=False)
            memo[id(tensor)] = own
    try:
        return copy.deepcopy(parts, memo)
    except Exception as error:  # whatever the classifier's own attributes raise
        raise ValueError(
            f"the classifier cannot be copied ({type(error).__name__}: {error}): it holds "
            "something beside parameters and buffers that copy.deepcopy does not take"
        ) from error


def evaluated(module: nn.Module) -> None:
    """In eval mode, by the flags alone: `eval` may do more, such as merge LoRA's weights."""
    for part in module.modules():
        part.training = False
        if isinstance(part, nn.TransformerEncoderLayer):
            part.activation_relu_or_gelu = 0  # its fused path runs past the modules inside
