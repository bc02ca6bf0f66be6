"""Classifiers that a function makes: of a module of yours, or of anyone's."""

from dataclasses import replace
from importlib import import_module

from torch import nn

from ..masking import Normalization
from .libraries import unknown
from .loaded import LoadedClassifier
from .weights import RANDOM, Weights, load_weights

_SIDE = 224


def load(name: str, weights: Weights | None, num_classes: int | None) -> LoadedClassifier:
    """What "package.module:function" makes, called without arguments but `num_classes`, if that is
    given: the model; (the model, its `Normalization`); or a `LoadedClassifier`, which says the side
    and the class names too."""
    module_name, _, function_name = name.partition(":")
    module = import_module(module_name)
    function = getattr(module, function_name, None)
    if function is None:
        raise unknown(f"{module_name} has no function", function_name, vars(module))
    if weights == RANDOM:
        raise ValueError(
            f"'{name}' makes its own weights: leave weights out, name a function that makes a "
            "network with random ones, or pass a file"
        )
    made = function() if num_classes is None else function(num_classes=num_classes)
    if isinstance(made, LoadedClassifier):
        found = replace(made, source=name)
    else:
        model, normalization = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if not isinstance(model, nn.Module) or not isinstance(
            normalization, (Normalization, type(None))
        ):
            raise TypeError(
                f"'{name}' gives a {type(made).__name__}; a torch.nn.Module is needed, or (that, "
                "its Normalization), or a LoadedClassifier"
            )
        found = LoadedClassifier(model, normalization, _SIDE, None, name)
    if weights is not None:
        load_weights(found.model, weights)
    found.model.eval()
    return found
