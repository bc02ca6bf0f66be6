"""The feature maps of named layers of a classifier, in one forward pass.

Nothing here changes the classifier: hooks live for the length of one call.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any, Protocol

import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F

from ..saliency import compiling
from .grid import as_grid as arranged
from .guards import LOCK, evaluating, uninterrupted
from .wrappers import core, core_name, uncompiled

ReshapeTransform = Callable[[Any], Tensor]


class Spread(Protocol):
    """How to tell apart by place what a linear layer is given."""

    @property
    def watched(self) -> tuple[nn.Module, ...]:
        """The modules whose runs it needs."""

    def maps(self, seen: Sequence[tuple[Any, Any]], size: Size) -> Tensor:
        """Maps (N, D, h, w) whose mean is what the linear layer was given, (N, D), from what each
        of the modules was given and gave, for images of `size`.

        Raises:
            StaleError: the head does not read any more what it did when this was found.
        """


_STALE = (
    "the classifier's head does not read what it did when its layers were found: weights were "
    "loaded, or modules changed, since. Make anew what explains it"
)


class StaleError(ValueError):
    """What was found out about a classifier, of one pass, does not hold for the classifier now."""


def same(one: Tensor | None, other: Tensor | None, slack: float = 1.0) -> bool:
    """Whether two tensors are the same, up to rounding, or to `slack` times that."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape:
        return False
    exact, scale = other.dtype in (torch.float32, torch.float64), other.abs().amax() + 1e-6
    close = slack * (1e-3 if exact else 3e-2)
    return bool((one.to(other) - other).abs().amax() < close * scale)


def check_held(found: Tensor, given: Tensor | None) -> None:
    """StaleError unless what a head is `given` (N, D) is, of the first image, what was found (1, D)
    to make it; in what is compiled or traced no value is known, and it is not asked."""
    first = None if given is None else given[:1]
    if not compiling() and not torch.jit.is_tracing() and not same(found, first, slack=3):
        raise StaleError(_STALE)


def first_of(output: Any) -> Any:
    """What a network goes on with of what its blocks give: of a tuple the first."""
    return output[0] if isinstance(output, tuple) and output else output


def own_copy(value: Any) -> Any:
    """Of a tensor a copy, and of a tuple's first: what follows a module may work in place on what
    it gave."""
    if isinstance(value, tuple) and value:
        return own_copy(value[0]), *value[1:]
    return value.detach().clone() if isinstance(value, Tensor) else value


def layer_names(model: nn.Module, target_layers: Iterable[nn.Module | str]) -> dict[str, nn.Module]:
    """Name -> module of the target layers, in the order given, as modules of `model` or by name.

    The names are free of wrappers, see `core`.

    Raises:
        ValueError: there are no layers, or one of them is not part of the model.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> list(layer_names(net, [net[1], "0"]))
    ['1', '0']
    """
    if not isinstance(model, nn.Module):
        what = model.__name__ if isinstance(model, type) else f"a {type(model).__name__}"
        raise TypeError(f"model must be a torch.nn.Module, an instance of it, got {what}")
    if isinstance(target_layers, (str, nn.Module)) and not isinstance(
        target_layers, (nn.Sequential, nn.ModuleList)
    ):
        one = target_layers if isinstance(target_layers, str) else type(target_layers).__name__
        raise ValueError(f"target_layers must be a list of layers, got one, {one}: pass [layer]")
    modules = dict(core(model).named_modules())
    names = {id(module): name for name, module in modules.items()}
    found: dict[str, nn.Module] = {}
    for layer in target_layers:
        name = core_name(model, layer) if isinstance(layer, str) else names.get(id(layer))
        if name is None or name not in modules:
            what = repr(layer) if isinstance(layer, str) else f"a {type(layer).__name__}"
            raise ValueError(
                f"target layer {what} is not a module of {type(core(model)).__name__}. Its last "
                f"modules are {list(modules)[-8:]}; model.named_modules() lists all of them."
            )
        found[name] = modules[name]
    if not found:
        raise ValueError("target_layers is empty: name at least one layer of the model")
    return found


@contextmanager
def watching(
    hooks: Iterable[tuple[nn.Module, Callable[[Any, Any], None]]] = (),
    entered: Iterable[tuple[nn.Module, Callable[[Any], None]]] = (),
) -> Iterator[None]:
    """For the length of the block, hook(a module's first input, its output) of every pass of this
    thread, and of no other's; of those in `entered` hook(its first input), as long as the module
    has not worked in place on it."""
    thread = get_ident()

    def enter(hook: Callable, _module: nn.Module, args: tuple, named: dict) -> None:
        if get_ident() == thread:
            hook(next(iter((*args, *named.values())), None))

    def own(hook: Callable, _module: nn.Module, args: tuple, *rest: Any) -> None:
        if get_ident() == thread:  # others may see the hook while torch is still setting it
            named, output = rest
            hook(next(iter((*args, *named.values())), None), output)

    handles = []
    try:
        with LOCK:  # torch gives hooks of two threads one number, and loses one of them
            for module, hook in hooks:
                handles.append(module.register_forward_hook(partial(own, hook), with_kwargs=True))
            for module, first in entered:
                before = partial(enter, first)
                handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        yield
    finally:
        uninterrupted(partial(_remove, handles))


def _remove(handles: Iterable[Any]) -> None:
    for handle in handles:
        handle.remove()


def applies(linear: nn.Linear, given: Tensor, output: Tensor) -> bool:
    """Whether a linear layer gave what its weight and bias make of what it was given: a class that
    derives from `nn.Linear` may do more, such as normalise both.

    >>> layer, given = nn.Linear(4, 3), torch.rand(2, 4)
    >>> applies(layer, given, layer(given)), applies(layer, given, layer(given.square()))
    (True, False)
    """
    close = 1e-3 if {given.dtype, output.dtype} <= {torch.float32, torch.float64} else 2e-2
    given, output = given.detach(), output.detach()
    try:
        # Its weight may be computed, and then be another in training.
        with evaluating(linear), torch.no_grad():
            made = F.linear(given.to(linear.weight), linear.weight, linear.bias).to(output)
    except RuntimeError:  # of a weight that is packed, as of 8 bits
        return False
    least = close * float(output.abs().max()) if output.numel() else close
    return made.shape == output.shape and torch.allclose(made, output, rtol=close, atol=least)


def as_feature_maps(
    name: str,
    output: Any,
    reshape_transform: ReshapeTransform | None,
    size: Size | None = None,
    found: bool = False,
) -> Tensor:
    """A layer's output as feature maps (N, C, h, w) or (N, C, d, h, w); else a clear error.

    Without a reshape_transform, tokens and channels that come last are arranged as a grid of the
    proportions of the images, of `size` (H, W), where there is one. A tuple of one tensor, beside
    which there is none, as blocks of transformers give it, is that. For a layer that was `found`,
    not named, the transform is not, and of several tensors that it gives the first is read.
    """
    reshape_transform = None if found else reshape_transform
    several = isinstance(output, tuple) and any(isinstance(one, Tensor) for one in output[1:])
    if found or (reshape_transform is None and not several):
        output = first_of(output)
    if reshape_transform is not None:
        maps = reshape_transform(output)
    else:
        grid = None if size is None else arranged(output, size)
        maps = output if grid is None else grid
    if not isinstance(maps, Tensor):
        raise TypeError(
            f"layer '{name}' gives a {type(maps).__name__}, not a tensor of feature maps; "
            "choose another target layer, or pass a reshape_transform that picks the tensor"
        )
    if maps.ndim not in (4, 5):
        raise ValueError(
            f"layer '{name}' gives {tuple(maps.shape)}, not feature maps (N, C, h, w) or "
            "(N, C, d, h, w); pass a reshape_transform that arranges its tokens as a grid"
        )
    return maps


def first_convolution(modules: Iterable[nn.Module]) -> nn.Module | None:
    """The first of a network's modules that convolves images: what it is given are the images as
    the network has them, which may be resized inside of the model."""
    return next((module for module in modules if isinstance(module, nn.Conv2d)), None)


def size_given(given: Any, images: Tensor) -> Size:
    """(H, W) of images (N, C, ...), as the first convolution is `given` them; of what is not them,
    as maps are not, their own."""
    if isinstance(given, Tensor) and given.ndim == 4 and given.shape[:2] == images.shape[:2]:
        return given.shape[2:]
    return images.shape[2:]


def forward_with_features(
    forward: Callable[..., Any],
    layers: Mapping[str, nn.Module],
    *inputs: Any,
    reshape_transform: ReshapeTransform | None = None,
    of_input: bool = False,
    as_grid: Container[str] = (),
    spreads: Mapping[str, Spread] | None = None,
    first: nn.Module | None = None,
) -> tuple[Any, dict[str, Tensor]]:
    """One forward pass: (what `forward` returns, name -> feature maps of that layer).

    The maps are copies on the same device, without a graph: a ReLU that works in place after the
    layer does not reach them. A layer that runs several times counts with its last run, and only
    the runs of this thread count. With `of_input` it is what the layers are given that is read.
    Those in `as_grid` were found, see `as_feature_maps`. Of those in `spreads`, linear ones, it is
    what they are given, spread over the places it comes from. Tokens are arranged by the
    proportions of the images as `first`, the `first_convolution`, is given them; of a function
    whose modules are not known, as they are passed.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten())
    >>> outputs, maps = forward_with_features(net, {"0": net[0]}, torch.zeros(2, 3, 5, 6))
    >>> tuple(maps["0"].shape)
    (2, 4, 5, 6)
    """
    features: dict[str, Tensor] = {}
    images = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
    size = None if images is None else images.shape[2:]
    seen: dict[nn.Module, tuple[Any, Any]] = {}

    def keep(name: str, *values: Any) -> None:
        maps = as_feature_maps(name, values[-1], reshape_transform, size, name in as_grid)
        features[name] = maps.detach().clone()

    def see(module: nn.Module, given: Any, output: Any) -> None:
        seen[module] = (own_copy(given), own_copy(output))

    def resized(given: Any, _: Any) -> None:
        nonlocal size
        size = size if images is None else size_given(given, images)

    if first is None and isinstance(forward, nn.Module):
        first = first_convolution(forward.modules())
    found = spreads or {}
    kept = [(layer, partial(keep, name)) for name, layer in layers.items() if name not in found]
    watched = {module for spread in found.values() for module in spread.watched}
    entered, left = (kept, []) if of_input else ([], kept)
    hooks: list[tuple[nn.Module, Callable]] = [] if first is None else [(first, resized)]
    hooks += [*left, *((module, partial(see, module)) for module in watched)]
    with watching(hooks, entered):
        outputs = uncompiled(forward)(*inputs)
    for name, spread in found.items():
        if size is None or layers[name] not in seen:
            continue
        if any(module not in seen for module in spread.watched):
            raise StaleError(_STALE)
        features[name] = spread.maps([seen[module] for module in spread.watched], size)
    missing = [name for name in layers if name not in features]
    if missing:
        raise ValueError(
            f"target layers {missing} did not run in the forward pass: choose layers that do. "
            "Inside a compiled or replicated module nothing is seen: pass the model before that"
        )
    return outputs, {name: features[name] for name in layers}
