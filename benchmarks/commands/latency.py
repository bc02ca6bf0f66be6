"""Latency of one explanation, paired with that of another state of this repository.

\b
    git worktree add /tmp/before 33e9ca1
    python -m benchmarks latency --before /tmp/before --out results/latency

Each state explains in a process of its own, with one thread and seeded weights; the two take turns,
a block of explanations each, in an order that changes every round. One process is by some percent
faster than the next, whatever it runs, so that several pairs are started. Leaves latency.json and
latency.md in --out: medians, and the ratio of the two states, the median of a pair's rounds, as a
mean over the pairs with its bootstrap interval.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch
from tqdm.auto import tqdm

from learnable_cam_plugin.comparison import markdown_table
from learnable_cam_plugin.metrics import bootstrap

from ..report.schema import leave
from ..report.summary import hardware

HERE = Path(__file__).resolve().parents[2]
NETWORKS = ("resnet50", "efficientnet-lite0")
INTERFACES = ("LearnableCAM", "LearnableCAM, classic CAM", "LayerLearnableCam")

# Asked with a number of explanations, it answers with their seconds. Of the package it uses only
# what both states have.
_WORKER = """
import pathlib, sys, time, torch, torchvision
import learnable_cam_plugin
if pathlib.Path(learnable_cam_plugin.__file__).parents[1] != pathlib.Path.cwd():
    sys.exit(f"{pathlib.Path.cwd()} holds no learnable_cam_plugin")
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from learnable_cam_plugin import LayerLearnableCam, LearnableCAM, condition
from learnable_cam_plugin.pretrained import efficientnet_lite0

torch.set_num_threads(1)
torch.manual_seed(0)
network, interface = sys.argv[1:]
if network == "resnet50":
    model, layers = torchvision.models.resnet50().eval(), ["layer3", "layer4"]
else:
    model, layers = efficientnet_lite0()[0], ["features.blocks", "features"]
images = torch.rand(1, 3, 224, 224)
targets = [ClassifierOutputTarget(281)]
if interface == "LearnableCAM, classic CAM":
    try:
        cam = LearnableCAM(model, layers[-1:], attention="head")
    except FileNotFoundError:  # a state in which it was the default
        cam = LearnableCAM(model, layers[-1:])
    explain = lambda: cam(images, targets)
else:
    attention = condition(model, layers, torch.rand(8, 3, 224, 224))
    if interface == "LearnableCAM":
        cam = LearnableCAM(model, layers, attention=attention)
        explain = lambda: cam(images, targets)
    else:
        layer = LayerLearnableCam(model, model.get_submodule(layers[-1]), attention)
        explain = lambda: layer.attribute(images, 281)
for _ in range(3):
    explain()
print(0, flush=True)  # it is ready
for line in sys.stdin:
    began = time.perf_counter()
    for _ in range(int(line)):
        explain()
    print(time.perf_counter() - began, flush=True)
"""


@click.command(help=__doc__)
@click.option("--before", type=click.Path(exists=True, file_okay=False), required=True)
@click.option("--network", "networks", multiple=True, default=NETWORKS, show_default=True)
@click.option("--pairs", default=10, show_default=True, help="of processes, one after the other")
@click.option("--rounds", default=12, show_default=True, help="of each pair")
@click.option("--explanations", default=4, show_default=True, help="of each state, a round")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(
    before: str, networks: Sequence[str], pairs: int, rounds: int, explanations: int, out: Path
) -> None:
    rows = []
    for network, interface in product(networks, INTERFACES):
        name = f"{network}, {interface}"
        found = [
            pair(before, network, interface, rounds, explanations)
            for _ in tqdm(range(pairs), desc=name)
        ]
        ratios = [statistics.median(n / b for b, n in seconds) for seconds in found]
        mean = bootstrap(torch.tensor(ratios))
        both = zip(*(row for seconds in found for row in seconds), strict=True)
        before_ms, now_ms = (statistics.median(all_) / explanations * 1e3 for all_ in both)
        row: dict[str, Any] = {"network": network, "interface": interface}
        row |= {"ms before": round(before_ms, 2), "ms now": round(now_ms, 2)}
        rows.append({**row, "ratio": f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})"})
    where = {**hardware(torch.device("cpu")), "threads": 1}
    where_text = ", ".join(f"{key} {value}" for key, value in where.items())
    about = f"{where_text}, torch {torch.__version__}, {pairs} pairs of {rounds} rounds"
    parts = [markdown_table(rows), about]
    leave(out, "latency", parts, rows=rows, rounds=rounds, hardware=where, torch=torch.__version__)


def pair(
    before: str, network: str, interface: str, rounds: int, explanations: int
) -> list[tuple[float, float]]:
    """Seconds of so many explanations before and now, a round each, of two processes."""
    found = []
    with worker(before, network, interface) as then, worker(str(HERE), network, interface) as now:
        for one in (then, now):
            one(0)  # both start at once; neither is timed before both are ready
        for number in range(rounds):
            if number % 2:
                second = now(explanations)
                found.append((then(explanations), second))
            else:
                found.append((then(explanations), now(explanations)))
    return found


@contextmanager
def worker(state: str, network: str, interface: str) -> Iterator[Callable[[int], float]]:
    """A process that runs the package of the folder `state`: number of explanations -> seconds."""
    command = [sys.executable, "-c", _WORKER, network, interface]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=state, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        given, answers = process.stdin, process.stdout

        def ask(count: int) -> float:
            if count:
                print(count, file=given, flush=True)
            answer = answers.readline().strip()
            if not answer:
                raise click.ClickException(f"the worker of {state} did not start; see above")
            return float(answer)

        try:
            yield ask
        finally:
            process.kill()
