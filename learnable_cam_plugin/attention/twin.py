"""One set of parameters in several modules."""

import copy
from typing import TypeVar

from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)


def twin(module: Kind, known: dict[nn.Module, nn.Module] | None = None) -> Kind:
    """The same parameters in modules of their own: what is set of one, as its mode, put in place of
    a buffer, or hooked, is not of the other. (A module that is kept in a list, and so is no
    submodule, is that of both.)

    >>> one = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> other = twin(one).eval()
    >>> other[0].weight is one[0].weight, other[1].training, one[1].training
    (True, False, True)
    """
    known = {} if known is None else known  # of what is registered twice one twin is
    if module in known:
        return known[module]  # type: ignore[return-value]
    other = known[module] = object.__new__(type(module))  # parametrised ones refuse copy.copy
    for name, value in vars(module).items():
        own = isinstance(value, (dict, set))
        other.__dict__[name] = copy.copy(value) if own else value
    for name, child in module._modules.items():
        other._modules[name] = None if child is None else twin(child, known)
    return other
