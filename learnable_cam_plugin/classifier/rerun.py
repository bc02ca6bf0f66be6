"""Run a network with the output of a layer replaced, or again from that layer on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from .checks import class_scores, run_on
from .guards import LOCK, evaluating
from .layers import own_copy
from .wrappers import bare, core, uncompiled


def forward_from_layer(
    forward: Callable[..., Any], layer: nn.Module, replace: Callable[[Any], Any], *inputs: Any
) -> Any:
    """One forward pass in which `layer` gives `replace(its output)` instead of its output, to this
    thread alone; of a tuple, as blocks of transformers give, its first is replaced."""
    thread = get_ident()

    def replaced(_module: nn.Module, _args: Any, output: Any) -> Any:
        if get_ident() != thread:
            return output
        if isinstance(output, tuple) and output:
            return replace(output[0]), *output[1:]
        return replace(output)

    with LOCK:  # torch gives hooks of two threads one number, and loses one of them
        handle = layer.register_forward_hook(replaced)
    try:
        return uncompiled(forward)(*inputs)
    finally:
        handle.remove()


@torch.no_grad()
def reaches_scores(model: nn.Module, layer: nn.Module, images: Tensor) -> bool:
    """Whether the class scores are others when what the layer gives is, in eval mode: not of a side
    branch. Told without gradients, by two passes with noise added to it."""
    generator = torch.Generator()

    def shaken(output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        noise = torch.randn(output.shape, generator=generator).to(output)
        return output + noise * (1 + output.float().std(correction=0)).to(output)

    found = []
    with evaluating(model), run_on(model, images):
        for seed in (0, 1):
            generator.manual_seed(seed)
            found.append(
                class_scores(forward_from_layer(bare(model), layer, shaken, images.clone()))
            )
    return not torch.equal(*found)


class Replay:
    """The classifier, with what runs up to a layer taken from an earlier pass on the same images.

    `recording()` keeps what the outermost modules that run before the layer's end gave; a call then
    runs the classifier's own code with those modules giving it again, so only the rest (the head)
    is computed. L-CAM-Fm needs this: its second pass differs from the first after the layer only.
    The layer is given by its name, free of wrappers (`core`).

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(),
    ...                     nn.Linear(16, 2)).requires_grad_(False)
    >>> images, replay = torch.rand(1, 3, 4, 4), Replay(net, "1")
    >>> with replay.recording():
    ...     scores = net(images)
    >>> torch.equal(replay(images), scores)
    True
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        self.model, inner = model, core(model)
        self.layer = inner.get_submodule(name)
        parts = name.split(".")
        containers = [inner.get_submodule(".".join(parts[:i])) for i in range(len(parts))]
        self._modules = [
            child for module in containers for child in module.children() if child not in containers
        ]
        self._outputs: dict[nn.Module, list[Any]] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep the outputs of one forward pass that runs in the block."""
        self._outputs = {}
        done = False

        def keep(module: nn.Module, _args: Any, output: Any) -> None:
            nonlocal done
            if done:
                return
            done = module is self.layer
            # What follows the layer may work in place on its output.
            kept = own_copy(output) if done else output
            self._outputs.setdefault(module, []).append(kept)

        with ExitStack() as stack:
            for module in self._modules:
                stack.callback(module.register_forward_hook(keep).remove)
            yield

    def __call__(self, images: Tensor) -> Any:
        """The classifier's output, computing only what comes after the layer."""
        with ExitStack() as stack:
            for module, outputs in self._outputs.items():
                stack.enter_context(_giving(module, outputs))
            return uncompiled(self.model)(images)

    def reproduces(self, images: Tensor, outputs: Tensor) -> bool:
        """Whether a replay gives the recorded outputs; not if the network's code works in place."""
        with torch.no_grad():
            again = class_scores(self(images))
        return again.shape == outputs.shape and torch.allclose(again, outputs, 1e-3, 1e-4)


@contextmanager
def _giving(module: nn.Module, outputs: list[Any]) -> Iterator[None]:
    """The module gives the recorded outputs, one a call; calls beyond them run as ever."""
    own: Callable[..., Any] = module.forward
    patched = "forward" in vars(module)
    left = iter(outputs)

    def forward(*args: Any, **kwargs: Any) -> Any:
        for output in left:
            return output
        return own(*args, **kwargs)

    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if patched:
            module.forward = own


def classify_masked_features(
    forward: Callable[[Tensor], Tensor], layer: nn.Module, images: Tensor, mask: Tensor
) -> Tensor:
    """L-CAM-Fm: the classifier's logits when the feature maps A of `layer` are `A * mask`.

    Of images (N, C, H, W), with a mask (N, h, w) of the maps' size. `forward` is the classifier, or
    a `Replay` of it that computes only what follows the layer.

    Raises:
        ValueError: the layer's output is not (N, C, h, w) of the mask's size, as with a layer of
            tokens: their order is known to the reshape_transform only; use L-CAM-Img there.
    """

    def apply(output: Tensor) -> Tensor:
        if output.ndim != mask.ndim + 1 or output.shape[2:] != mask.shape[1:]:
            raise ValueError(
                f"L-CAM-Fm multiplies the layer's own output, which is {tuple(output.shape)} and "
                f"does not match maps of {tuple(mask.shape)}; use recipe='l-cam-img' here"
            )
        return output * mask[:, None].to(output.dtype)

    return forward_from_layer(forward, layer, apply, images)
