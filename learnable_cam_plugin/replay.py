"""Run a network a second time from a layer on, without its earlier part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Replay:
    """The classifier, with what runs up to a layer taken from an earlier pass on the same images.

    `recording()` keeps what the outermost modules that run before the layer's end gave; a call then
    runs the classifier's own code with those modules giving it again, so only the rest (the head)
    is computed. L-CAM-Fm needs this: its second pass differs from the first after the layer only.

    Args:
        model: the classifier.
        name: of the layer, as in `model.named_modules()`.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(),
    ...                     nn.Linear(16, 2)).requires_grad_(False)
    >>> images, replay = torch.rand(1, 3, 4, 4), Replay(net, "1")
    >>> with replay.recording():
    ...     scores = net(images)
    >>> torch.equal(replay(images), scores)
    True
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        self.model = model
        self.layer = model.get_submodule(name)
        path, containers = model, [model]
        for part in name.split(".")[:-1]:
            path = path.get_submodule(part)
            containers.append(path)
        inside = {id(module) for module in containers}
        self._modules = [
            child for module in containers for child in module.children() if id(child) not in inside
        ]
        self._outputs: dict[int, list[Any]] = {}

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
            kept = output.clone() if done and isinstance(output, Tensor) else output
            self._outputs.setdefault(id(module), []).append(kept)

        with ExitStack() as stack:
            for module in self._modules:
                stack.callback(module.register_forward_hook(keep).remove)
            yield

    def __call__(self, images: Tensor) -> Any:
        """The classifier's output, computing only what comes after the layer."""
        with ExitStack() as stack:
            for module in self._modules:
                if id(module) in self._outputs:
                    stack.enter_context(_giving(module, self._outputs[id(module)]))
            return self.model(images)

    def reproduces(self, images: Tensor, outputs: Tensor) -> bool:
        """Whether a replay of the recorded pass gives that pass's outputs.

        It does unless the network's own code works in place on what an earlier module gave.
        """
        with torch.no_grad():
            again = self(images)
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
        if patched:
            module.forward = own
        else:
            del module.forward
