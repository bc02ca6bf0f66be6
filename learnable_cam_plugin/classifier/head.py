"""Which linear layer gave the classifier's output, but for a softmax, and what it read."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .layers import applies, watching
from .scores import gives_scores
from .wrappers import uncompiled


class HeadProbe:
    """Sees, during a forward pass, the linear layer that produces the classifier's output.

    Wrap the forward function with it; afterwards `head(outputs, features)` says whether the rest
    of the network after a target layer is exactly global average pooling and that linear layer.
    """

    def __init__(self, model: nn.Module) -> None:
        self._linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
        self._calls: list[tuple[nn.Linear, Tensor, Tensor, Tensor]] = []

    def __call__(self, forward: Callable[..., Any], *inputs: Any) -> Any:
        def keep(linear: nn.Linear, given: Tensor, output: Tensor) -> None:
            # what follows may work in place on it; the head's is small
            copy = output.clone() if output.ndim == 2 else output
            self._calls.append((linear, given, output, copy))

        with watching((linear, partial(keep, linear)) for linear in self._linears):
            return uncompiled(forward)(*inputs)

    def head(self, outputs: Tensor, features: Tensor) -> nn.Linear | None:
        """The head after these feature maps if it is pooling + linear on this batch, else None."""
        pooled = features.flatten(2).mean(2)
        exact, scale = (torch.float32, torch.float64), _scale(pooled)
        for linear, given in self._giving(outputs):
            same = given.shape == pooled.shape
            close = 1e-3 if pooled.dtype in exact and given.dtype in exact else 2e-2
            least = close / 10 * scale
            if same and torch.allclose(given.to(pooled), pooled, rtol=close, atol=least):
                return linear
        return None

    def last(self, outputs: Tensor, channels: int) -> nn.Linear | None:
        """The linear layer that gave these outputs from `channels` values an image, if one did."""
        for linear, given in self._giving(outputs):
            if given.ndim == 2 and given.shape[1] == channels:
                return linear
        return None

    def untouched(self, linear: nn.Linear, outputs: Tensor) -> bool:
        """Whether the outputs are the very tensor that the linear layer gave: not even scaled by
        one, as by a temperature that is not fitted yet."""
        given = [gave for module, _, gave, _ in self._calls if module is linear]
        return any(
            gave.data_ptr() == outputs.data_ptr()
            and gave.shape == outputs.shape
            and (outputs.is_inference() or outputs._version == 0)
            for gave in given
        )

    def _giving(self, outputs: Tensor) -> list[tuple[nn.Linear, Tensor]]:
        return [
            (linear, given)
            for linear, given, _, gave in reversed(self._calls)
            if gives_scores(gave, outputs) and applies(linear, given, gave)
        ]


def tells_pooling(features: Tensor) -> bool:
    """Whether feature maps (N, C, ...) show how they are pooled: on a 1x1 grid, or on maps of
    zeros, the mean, the maximum and every other pooling are one."""
    flat = features.flatten(2).float()
    mean, highest = flat.mean(2), flat.amax(2)
    return bool(((highest - mean) > 0.05 * mean.abs() + 0.01 * _scale(flat)).any())


def _scale(values: Tensor) -> float:
    return min(1.0, float(values.abs().max()))
