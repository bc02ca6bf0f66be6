"""Latency of every method beside the bare forward pass, interleaved in one run; and peak memory.

\b
    python -m benchmarks speed --network resnet50 --network vgg16 --out results/speed
    python -m benchmarks speed --network efficientnet-lite0 --slow-rounds 1 --memory --out DIR

Seeded random weights (speed does not depend on them), 224 x 224 pixels, batches of 1 and 16. Every
round times each method once, in a new random order, so that what else the machine does falls on all
alike. Leaves speed.json and speed.md in --out: medians, explanations a second, and ratios to the
bare pass and to Grad-CAM. Slow methods explain image after image, so they are timed at batch 1.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from tqdm.auto import tqdm

from learnable_cam_plugin import AttentionMechanism
from learnable_cam_plugin.comparison import markdown_table

from ..memory import peak_memory
from ..methods import Method, find_methods, opened, untrained
from ..report.schema import leave
from ..report.summary import hardware
from ..testbed import Testbed, blank

BARE = "bare forward pass"
# at run time these are LearnableCAM
SAME = ("L-CAM-Img", "L-CAM-Fm", "LearnableCAM (seed 1)", "LearnableCAM (seed 2)")

Attentions = Mapping[str, AttentionMechanism]


@click.command(help=__doc__)
@click.option("--network", "networks", multiple=True, default=["resnet50", "vgg16"])
@click.option("--methods", help="comma-separated; all unless given")
@click.option("--rounds", default=15, show_default=True)
@click.option("--slow-rounds", default=0, show_default=True, help="for methods of 1,000s of passes")
@click.option("--memory", is_flag=True, help="peak memory too, a process a method")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(
    networks: tuple[str, ...],
    methods: str | None,
    rounds: int,
    slow_rounds: int,
    memory: bool,
    device: str,
    out: Path,
) -> None:
    wanted = [m for m in find_methods(methods) if m.name not in SAME]
    rows: list[dict[str, Any]] = []
    for network in networks:
        bed = blank(network, device)
        attentions = {m.name: untrained(bed, m.learned) for m in wanted if m.learned}
        usable = [method for method in wanted if allowed(method, bed)]
        for batch in (1, 16):
            slow = slow_rounds if batch == 1 else 0
            rows += time_methods(bed, attentions, network, batch, usable, rounds, slow)
    if memory:
        for row in tqdm(rows, desc="peak memory"):
            method = None if row["method"] == BARE else row["method"]
            row["peak MiB"] = peak_memory(row["network"], method, row["batch"], device)
    where = hardware(torch.device(device))
    where_text = ", ".join(f"{key} {value}" for key, value in where.items())
    leave(
        out,
        "speed",
        [
            markdown_table([{**row, "batch": str(row["batch"])} for row in rows]),
            f"{where_text}, torch {torch.__version__}, {rounds} rounds",
        ],
        rows=rows,
        rounds=rounds,
        hardware=where,
        torch=torch.__version__,
    )


def time_methods(
    bed: Testbed,
    attentions: Attentions,
    network: str,
    batch: int,
    methods: list[Method],
    rounds: int,
    slow_rounds: int,
) -> list[dict[str, Any]]:
    """A row a method: the median milliseconds an image of a call, and its ratios."""
    images, classes = bed.pictures.images[:batch].to(bed.device), bed.pictures.classes[:batch]
    times: dict[str, list[float]] = {}
    for turn in tqdm(range(rounds + 1), desc=f"{network}, batch {batch}"):
        # The first round warms up; slow methods run in the first of the others.
        now = [m for m in methods if not m.slow or 0 < turn <= slow_rounds]
        calls: dict[str, Callable[[], float]] = {BARE: partial(time_bare, bed, images)}
        for method in now:
            attention = attentions.get(method.name)
            calls[method.name] = partial(time_one, method, bed, attention, images, classes)
        order = list(calls)
        random.shuffle(order)
        for name in order:
            seconds = calls[name]()
            if turn:
                times.setdefault(name, []).append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    reference = medians.get("Grad-CAM")
    return [
        {
            "network": network,
            "batch": batch,
            "method": name,
            "ms": 1e3 * medians[name] / batch,
            "a second": batch / medians[name],
            "x bare pass": f"{medians[name] / medians[BARE]:.2f}",
            "x Grad-CAM": f"{medians[name] / reference:.2f}" if reference else "",
        }
        for name in [BARE, *(method.name for method in methods)]
        if name in medians
    ]


def allowed(method: Method, bed: Testbed) -> bool:
    """Whether the classifier's head gives classic CAM its maps; every other method takes any."""
    if method.name != "classic CAM":
        return True
    try:
        time_one(method, bed, None, bed.pictures.images[:1], bed.pictures.classes[:1])
    except ValueError:
        return False
    return True


def time_bare(bed: Testbed, images: Tensor) -> float:
    """Seconds of the classifier's forward pass, without a graph."""
    with torch.no_grad():
        return _timed(lambda: bed.model(images), images.device)


def time_one(
    method: Method,
    bed: Testbed,
    attention: AttentionMechanism | None,
    images: Tensor,
    classes: Tensor,
) -> float:
    """Seconds of one call. The library's hooks slow every pass while they exist, so each call
    makes its own object, outside the time."""
    with opened(method, bed, attention) as explain:
        return _timed(lambda: explain(images, classes), images.device)


def _timed(call: Callable[[], Any], device: torch.device) -> float:
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronize()
    began = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - began
