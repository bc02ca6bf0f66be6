"""The network inside what programs put around it: compiled, parallel, behind a normalisation."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class ScoresOf(nn.Module):
    """A classifier that returns a dict, a tuple or an object, as one that returns its scores.

    Args:
        model: the classifier.
        output: what it returns -> the class scores (N, K).

    >>> class Several(nn.Module):
    ...     def forward(self, images):
    ...         return {"scores": images.mean((2, 3)), "features": images}
    >>> from torch import rand
    >>> tuple(ScoresOf(Several(), lambda outputs: outputs["scores"])(rand(2, 3, 4, 4)).shape)
    (2, 3)
    """

    def __init__(self, model: nn.Module, output: Callable[[Any], Tensor]) -> None:
        super().__init__()
        if not callable(output):
            raise TypeError(
                "output must be a function of what the model returns, such as "
                f"lambda outputs: outputs['scores'], got {output!r}"
            )
        self.model, self.output = bare(model), output

    def forward(self, *inputs: Any) -> Tensor:
        return self.output(self.model(*inputs))


def bare(model: nn.Module) -> nn.Module:
    """The module that torch.compile, DataParallel and DistributedDataParallel hold.

    It is what is run to be read: compiled code skips hooks that were set later, replicas run in
    other threads, and a pass of one process must not wait for the others.

    Raises:
        TypeError: it is no module, or one of TorchScript, which cannot be read.
    """
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"the classifier must be a torch.nn.Module, whose layers can be read, got a "
            f"{type(model).__name__}: pass the module that was traced or scripted, or that the "
            "function calls"
        )
    while True:
        if isinstance(model, (nn.DataParallel, DistributedDataParallel)):
            model = model.module
        elif isinstance(compiled := model._modules.get("_orig_mod"), nn.Module):
            model = compiled
        else:
            return model


def uncompiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A model's own pass, with its hooks, where it was compiled in place (`model.compile()`):
    compiled code skips hooks that were set later."""
    if getattr(forward, "_compiled_call_impl", None) is None:
        return forward
    return forward._call_impl  # type: ignore[attr-defined]


def core(model: nn.Module) -> nn.Module:
    """The classifier itself, whose modules and tensors have the same names in all wrappers.

    Beside torch's own (`bare`), wrappers are `ScoresOf`, Captum's ModelInputWrapper, and a
    Sequential of steps without parameters and then the classifier: Sequential(normalise, model).

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> core(nn.Sequential(nn.Identity(), nn.DataParallel(net))) is net
    True
    """
    while True:
        model = bare(model)
        inner = _inside(model)
        if inner is not None:
            model = inner
            continue
        steps = list(model.children()) if isinstance(model, nn.Sequential) else []
        # what is told at once is asked first: this is of every call
        if len(steps) < 2 or not steps[-1]._modules or any(map(_trained, steps[:-1])):
            return model
        if not _trained(steps[-1]):
            return model
        model = steps[-1]


def _trained(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _inside(model: nn.Module) -> nn.Module | None:
    if isinstance(model, ScoresOf):
        return model.model
    # Captum's, by its parts: importing it takes a second
    children = model._modules
    return children["module"] if children.keys() == {"module", "input_maps"} else None


def of_volumes(model: nn.Module) -> bool:
    """Whether all of a network's convolutions are of three dimensions."""
    kinds = [type(module) for module in model.modules()]
    return any(issubclass(kind, nn.Conv3d) for kind in kinds) and not any(
        issubclass(kind, nn.Conv2d | nn.Conv1d) for kind in kinds
    )


def core_name(model: nn.Module, name: str) -> str:
    """A module's name inside the wrappers, the first one if it has several; `name` itself if it is
    that, or no module's."""
    inside = {id(module): own for own, module in core(model).named_modules()}
    if name in inside.values():
        return name
    for root in (model, core(model)):
        with suppress(AttributeError):
            return inside.get(id(root.get_submodule(name)), name)
    return name
