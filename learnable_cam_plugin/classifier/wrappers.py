"""The network inside what programs put around it: compiled, parallel, behind a normalisation."""

from torch import nn
from torch.nn.parallel import DistributedDataParallel


def bare(model: nn.Module) -> nn.Module:
    """The module that torch.compile, DataParallel and DistributedDataParallel hold.

    It is what is run to be read: compiled code skips hooks that were set later, replicas run in
    other threads, and a pass of one process must not wait for the others.
    """
    while True:
        if isinstance(model, (nn.DataParallel, DistributedDataParallel)):
            model = model.module
        elif isinstance(compiled := getattr(model, "_orig_mod", None), nn.Module):
            model = compiled
        else:
            return model


def core(model: nn.Module) -> nn.Module:
    """The classifier itself, whose modules and tensors have the same names in all wrappers.

    Beside torch's own (`bare`), a Sequential of steps without parameters and then the classifier is
    one: Sequential(normalise, model).

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> core(nn.Sequential(nn.Identity(), nn.DataParallel(net))) is net
    True
    """
    while True:
        model = bare(model)
        steps = list(model.children()) if isinstance(model, nn.Sequential) else []
        trained = [step for step in steps if next(step.parameters(), None) is not None]
        if len(steps) < 2 or trained != steps[-1:] or not list(steps[-1].children()):
            return model
        model = steps[-1]


def core_name(model: nn.Module, name: str) -> str:
    """A module's name inside the wrappers; `name` itself if it is that, or no module's."""
    inside = {id(module): own for own, module in core(model).named_modules()}
    given = dict(model.named_modules()).get(name)
    return name if name in inside.values() else inside.get(id(given), name)
