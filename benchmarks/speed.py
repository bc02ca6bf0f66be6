"""Latency of explanations beside the bare forward pass, interleaved in one run.

    python benchmarks/speed.py --rounds 15

Networks of torchvision with seeded random weights (speed does not depend on them), 224 x 224
pixels, batches of 1 and 16. Every round times each method once, in a new random order, so that what
else the machine does falls on all alike; medians and their ratios to the bare pass are printed.
"""

from __future__ import annotations

import platform
import random
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import click
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchvision import models
from tqdm.auto import tqdm

from learnable_cam_plugin import LearnableCAM, random_attention
from learnable_cam_plugin.comparison import markdown_table

LAYERS = {"resnet50": "layer4", "vgg16": "features.29"}


@click.command(help=__doc__)
@click.option("--rounds", default=15, show_default=True)
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
def main(rounds: int, device: str) -> None:
    rows = []
    for name, layer_name in LAYERS.items():
        torch.manual_seed(0)
        model = getattr(models, name)(weights=None).eval().to(device)
        layer = model.get_submodule(layer_name)
        for batch in (1, 16):
            x = torch.randn(batch, 3, 224, 224, device=device)
            targets = [ClassifierOutputTarget(281)] * batch
            medians = time_methods(model, layer, x, targets, rounds, device)
            for method, seconds in medians.items():
                rows.append(
                    {
                        "network": name,
                        "batch": str(batch),
                        "method": method,
                        "ms": seconds * 1e3,
                        "ratio to the bare pass": f"{seconds / medians['bare forward pass']:.2f}",
                    }
                )
    print(markdown_table(rows))
    where = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    print(f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}, {rounds} rounds")


def time_methods(
    model: nn.Module,
    layer: nn.Module,
    x: torch.Tensor,
    targets: list[ClassifierOutputTarget],
    rounds: int,
    device: str,
) -> dict[str, float]:
    """Median seconds of a call of each method."""

    @torch.no_grad()
    def bare() -> None:
        model(x)

    attention = random_attention(model, [layer], x[:1])
    times: dict[str, list[float]] = {}
    # The library's hooks slow every pass while they exist, so each call makes its own object.
    calls: dict[str, Callable[[], object]] = {"bare forward pass": bare}
    for name, method in {
        "LearnableCAM": lambda: LearnableCAM(model, [layer], attention=attention),
        "Grad-CAM": lambda: GradCAM(model, [layer]),
        "Grad-CAM++": lambda: GradCAMPlusPlus(model, [layer]),
    }.items():

        def call(method: Callable = method) -> None:
            with ExitStack() as stack:
                cam = stack.enter_context(method())
                synchronize(device)
                began[0] = time.perf_counter()
                cam(x, targets)

        calls[name] = call
    began = [0.0]
    order = list(calls)
    for _ in tqdm(range(rounds + 1), desc=f"{type(model).__name__}, batch {len(x)}"):
        random.shuffle(order)
        for name in order:
            synchronize(device)
            began[0] = time.perf_counter()
            calls[name]()
            synchronize(device)
            times.setdefault(name, []).append(time.perf_counter() - began[0])
    return {name: statistics.median(times[name][1:]) for name in calls}  # the first warms up


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
