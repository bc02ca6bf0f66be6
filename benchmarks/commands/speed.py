"""Latency of every method beside the bare forward pass, interleaved in one run; and peak memory.

\b
    python -m benchmarks speed --network resnet50 --network vgg16 --out results/speed
    python -m benchmarks speed --network efficientnet-lite0 --slow-rounds 1 --memory --out DIR

Seeded random weights (speed does not depend on them), 224 x 224 pixels, batches of 1 and 16. Every
round times each method once, in a new random order, so that what else the machine does falls on all
alike. Leaves speed.json and speed.md in --out: medians, explanations a second, and ratios to the
bare pass and to Grad-CAM. Slow methods explain image after image, so they are timed at batch 1.
"""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from tqdm.auto import tqdm

from learnable_cam_plugin.comparison import markdown_table

from ..memory import bare, peak_memory
from ..methods import METHODS, Explain, Method, find_methods, opened, untrained
from ..report.schema import leave
from ..report.summary import hardware
from ..sources import best_device
from ..testbed import Testbed, blank

BARE = "bare forward pass"
Open = Callable[[], AbstractContextManager[Explain]]
# at run time these are LearnableCAM
SAME = ("L-CAM-Img", "L-CAM-Fm", "LearnableCAM (seed 1)", "LearnableCAM (seed 2)")


@click.command(help=__doc__)
@click.option("--network", "networks", multiple=True, default=["resnet50", "vgg16"])
@click.option("--methods", help="comma-separated; all unless given")
@click.option("--rounds", default=15, show_default=True)
@click.option("--slow-rounds", default=0, show_default=True, help="for methods of 1,000s of passes")
@click.option("--memory", is_flag=True, help="peak memory too, a process a method")
@click.option("--device", default=best_device().type, show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(
    networks: Sequence[str],
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
        opens: dict[str, Open] = {BARE: partial(bare, bed)}
        for method in wanted:
            if allowed(method, bed):
                attention = untrained(bed, method.learned) if method.learned else None
                opens[method.name] = partial(opened, method, bed, attention)
        for batch in (1, 16):
            slow = slow_rounds if batch == 1 else 0
            rows += time_methods(bed, network, opens, batch, rounds, slow)
    if memory:
        for row in tqdm(rows, desc="peak memory"):
            name = None if row["method"] == BARE else row["method"]
            row["peak MiB"] = peak_memory(row["network"], name, row["batch"], device)
    where, version = hardware(torch.device(device)), torch.__version__
    where_text = ", ".join(f"{key} {value}" for key, value in where.items())
    table = markdown_table([{**row, "batch": str(row["batch"])} for row in rows])
    parts = [table, f"{where_text}, torch {version}, {rounds} rounds"]
    leave(out, "speed", parts, rows=rows, rounds=rounds, hardware=where, torch=version)


def time_methods(
    bed: Testbed, network: str, opens: Mapping[str, Open], batch: int, rounds: int, slow_rounds: int
) -> list[dict[str, Any]]:
    """A row a method: the median milliseconds an image of a call, and its ratios."""
    images, classes = bed.pictures.images[:batch].to(bed.device), bed.pictures.classes[:batch]
    times: dict[str, list[float]] = {name: [] for name in opens}
    for turn in tqdm(range(rounds + 1), desc=f"{network}, batch {batch}"):
        # The first round warms up; slow methods run in the first of the others.
        every = 0 < turn <= slow_rounds
        now = [n for n in opens if every or n == BARE or not METHODS[n].slow]
        for name in random.sample(now, len(now)):
            seconds = time_one(opens[name], images, classes)
            if turn:
                times[name].append(seconds)
    medians = {name: statistics.median(found) for name, found in times.items() if found}
    reference = medians.get("Grad-CAM")
    return [
        {
            "network": network,
            "batch": batch,
            "method": name,
            "ms": 1e3 * median / batch,
            "a second": batch / median,
            "x bare pass": f"{median / medians[BARE]:.2f}",
            "x Grad-CAM": f"{median / reference:.2f}" if reference else "",
        }
        for name, median in medians.items()
    ]


def allowed(method: Method, bed: Testbed) -> bool:
    """Whether the classifier's head gives classic CAM its maps; every other method takes any."""
    if method.name == "classic CAM":
        try:
            pictures = bed.pictures
            time_one(partial(opened, method, bed), pictures.images[:1], pictures.classes[:1])
        except ValueError:
            return False
    return True


def time_one(method: Open, images: Tensor, classes: Tensor) -> float:
    """Seconds of one call. The library's hooks slow every pass while they exist, so each call
    makes its own object, outside the time."""
    synchronize = torch.cuda.synchronize if images.is_cuda else lambda: None
    with method() as explain:
        synchronize()
        began = time.perf_counter()
        explain(images, classes)
        synchronize()
        return time.perf_counter() - began
