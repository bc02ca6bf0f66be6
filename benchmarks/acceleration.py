"""A copy of a classifier whose convolutional part runs in OpenVINO: thousands of masked images.

Only what scores masked images is handed such a copy; speed is never measured with one.
"""

import contextlib
import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

PRECISION = {"float32": "f32", "bfloat16": "bf16"}


def openvino_core() -> Any:
    """A `Core` of OpenVINO whose end leaves this thread's stack for signals alone.

    Its CPU plugin takes that of the thread that makes it, and puts back the one before when it
    goes: of two that go in the order they came, the thread is left with one that is freed, and the
    next signal (a worker of a loader that ends, Ctrl-C) crashes the process. In a thread of its own
    there was none before, and none is put back.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_with_its_plugin).result()


def _with_its_plugin() -> Any:
    import openvino  # the extra `bench`

    core = openvino.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # the plugin is made when it is first asked for
    return core


class _Compiled(nn.Module):
    """A module's forward pass, compiled for images (N, C, H, W) of one size; no gradient."""

    def __init__(self, module: nn.Module, images: Tensor, precision: str) -> None:
        import openvino  # the extra `bench`

        super().__init__()
        # The traced module must be quiet: a hook would be traced with it.
        network = openvino.convert_model(module, example_input=images[:1])
        network.reshape([-1, *images.shape[1:]])
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISION[precision],
            "PERFORMANCE_HINT": "LATENCY",
            # As many threads as torch; pinned, two runs beside each other would share a core.
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = openvino_core().compile_model(network, "CPU", settings)
        self._request = self._compiled.create_infer_request()

    def forward(self, images: Tensor) -> Tensor:
        result = self._request.infer([np.ascontiguousarray(images.detach().numpy())])
        return torch.from_numpy(result[0].copy())


def accelerated(
    model: nn.Module,
    layer: str,
    images: Tensor,
    precision: Literal["float32", "bfloat16"],
    tolerance: float,
) -> tuple[nn.Module, float]:
    """A copy of `model`, on the CPU in eval mode, in which `layer` runs in OpenVINO.

    The layer, by name, computes feature maps from the image itself. Returned with the copy is by
    how much its class probabilities of a few images (N, C, H, W) differ at most; more than the
    tolerance is a ValueError.
    """
    if precision not in PRECISION:
        raise ValueError(f"precision must be one of {list(PRECISION)}, got {precision!r}")
    fast = copy.deepcopy(model).requires_grad_(False)
    fast.set_submodule(layer, _Compiled(fast.get_submodule(layer), images, precision))
    difference = float("inf")
    with torch.no_grad():
        expected = model(images).softmax(1)
        # OpenVINO refuses images of another size than it was compiled for.
        with contextlib.suppress(RuntimeError):
            found = fast(images).softmax(1)
            difference = float((found - expected).abs().max())
    if not difference <= tolerance:
        raise ValueError(
            f"in {precision} the probabilities differ by {difference:.2g}, more than "
            f"{tolerance:.2g}: does '{layer}' take the image itself?"
        )
    return fast.eval(), difference
