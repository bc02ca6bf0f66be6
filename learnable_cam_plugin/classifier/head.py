"""Which linear layer gave the classifier's output, and what it read."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .layers import watching


class HeadProbe:
    """Sees, during a forward pass, the linear layer that produces the classifier's output.

    Wrap the forward function with it; afterwards `head(outputs, features)` says whether the rest
    of the network after a target layer is exactly global average pooling and that linear layer.
    """

    def __init__(self, model: nn.Module) -> None:
        self._linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
        self._calls: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def __call__(self, forward: Callable[..., Any], *inputs: Any) -> Any:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            self._calls.append((module, args[0], output))  # type: ignore[arg-type]

        with watching((linear, keep) for linear in self._linears):
            return forward(*inputs)

    def head(self, outputs: Tensor, features: Tensor) -> nn.Linear | None:
        """The head after these feature maps if it is pooling + linear on this batch, else None."""
        pooled = features.flatten(2).mean(2)
        for linear, given in self._giving(outputs):
            same = given.shape == pooled.shape
            if same and torch.allclose(given.to(pooled), pooled, rtol=1e-3, atol=1e-4):
                return linear
        return None

    def last(self, outputs: Tensor, channels: int) -> nn.Linear | None:
        """The linear layer that gave these outputs from `channels` values an image, if one did."""
        for linear, given in self._giving(outputs):
            if given.ndim == 2 and given.shape[1] == channels:
                return linear
        return None

    def _giving(self, outputs: Tensor) -> list[tuple[nn.Linear, Tensor]]:
        calls = reversed(self._calls)
        return [(linear, given) for linear, given, gave in calls if torch.equal(gave, outputs)]
