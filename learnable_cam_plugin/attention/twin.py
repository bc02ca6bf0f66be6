"""One set of parameters in several modules."""

import copy
from typing import TypeVar

from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)


def twin(module: Kind) -> Kind:
    """The same parameters in modules of their own: what is set of one, as its mode, or put in place
    of a buffer, is not of the other.

    >>> one = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> other = twin(one).eval()
    >>> other[0].weight is one[0].weight, other[1].training, one[1].training
    (True, False, True)
    """
    other = copy.copy(module)
    other._parameters, other._buffers = dict(module._parameters), dict(module._buffers)
    other._modules = {
        name: None if child is None else twin(child) for name, child in module._modules.items()
    }
    return other
