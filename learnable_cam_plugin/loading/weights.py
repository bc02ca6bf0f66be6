"""Weights of a network that was just built: random ones from a seed, or those of a local file."""

import os
import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..wording import listed

Weights = str | os.PathLike[str]
RANDOM = "random"
_WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before all names
_INSIDE = ("state_dict", "model")  # where training programs put the weights


def built(build: Callable[[], nn.Module], weights: Weights) -> nn.Module:
    """The network that `build` makes, in eval mode: with random weights, always the same, or those
    of a file. Random numbers that are drawn elsewhere stay as they would have been.

    Linear layers that a library starts at zero, as torchvision's vision transformers do their last,
    are drawn: else all classes had one score.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
        for module in model.modules():
            if isinstance(module, nn.Linear) and not bool(module.weight.detach().any()):
                nn.init.trunc_normal_(module.weight, std=0.02)
    if weights != RANDOM:
        load_weights(model, weights)
    return model.eval()


def check_file(weights: Weights) -> None:
    """FileNotFoundError unless there is a file."""
    if not Path(weights).is_file():
        raise FileNotFoundError(
            f"no weights at '{weights}': there is no file {os.path.abspath(weights)}. Pass a "
            "safetensors file, a torch file of a state dict, 'random', or None for the library's "
            "own"
        )


def load_weights(model: nn.Module, path: Weights) -> None:
    """Give a model the weights of a file; all of them, and no others.

    Raises:
        ValueError: the file holds other than tensors by name, or not those of this model, naming
            what is missing, not expected, or of another shape. The model is as it was then.
    """
    found, own = read_weights(path), model.state_dict()
    missing = [name for name in own if name not in found]
    foreign = [name for name in found if name not in own]
    both = [(name, found[name].shape, own[name].shape) for name in own if name in found]
    check_fit(path, model, missing, foreign, [each for each in both if each[1] != each[2]])
    model.load_state_dict(found)


def check_fit(
    path: Weights,
    model: nn.Module,
    missing: Collection[str],
    foreign: Collection[str],
    shapes: Collection[tuple[str, Sequence[int], Sequence[int]]],
) -> None:
    """ValueError unless nothing is missing, not expected, or (name, its shape in the file, in the
    model) of another shape."""
    sizes = [f"{name} {tuple(there)}, not {tuple(here)}" for name, there, here in shapes]
    kinds = {"missing": missing, "not expected": foreign, "of another shape": sizes}
    problems = [f"{kind}: {listed(sorted(names))}" for kind, names in kinds.items() if names]
    if problems:
        raise ValueError(
            f"the weights of '{path}' are not those of this {type(model).__name__}; "
            f"{'; '.join(problems)}. Name the network that they were trained in, with "
            "num_classes=K if its head was replaced by one of K classes"
        )


def read_weights(path: Weights) -> dict[str, Tensor]:
    """Name -> tensor of a safetensors file, or of a torch file that holds nothing but tensors.

    What wrappers and training programs put around them is taken off.
    """
    try:
        if Path(path).suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"'{path}' holds no weights that can be read safely ({type(error).__name__}: {reason})."
            " Save them with torch.save(model.state_dict(), path), or with safetensors"
        ) from error
    for key in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(
            f"'{path}' holds no state dict, name -> tensor: save one with "
            "torch.save(model.state_dict(), path)"
        )
    found = dict(content)
    for prefix in _WRAPPERS:
        if found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found
