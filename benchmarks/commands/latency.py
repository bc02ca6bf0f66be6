"""Latency of one explanation, paired with that of another state of this repository.

\b
    git worktree add /tmp/before 33e9ca1
    python -m benchmarks latency --before /tmp/before --out results/latency

Each state explains in a process of its own, with one thread and seeded weights; the two take turns,
a block of explanations each, in an order that changes every round. Leaves latency.json and
latency.md in --out: medians, and the ratio of the two states in a round, its median over the rounds
with a bootstrap interval of the mean.
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
print("ready", flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    for _ in range(int(line)):
        explain()
    print(time.perf_counter() - began, flush=True)
"""


@click.command(help=__doc__)
@click.option("--before", type=click.Path(exists=True, file_okay=False), required=True)
@click.option("--network", "networks", multiple=True, default=NETWORKS, show_default=True)
@click.option("--rounds", default=60, show_default=True)
@click.option("--explanations", default=4, show_default=True, help="of each state, a round")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(before: str, networks: Sequence[str], rounds: int, explanations: int, out: Path) -> None:
    rows = [
        pair(before, network, interface, rounds, explanations)
        for network, interface in product(networks, INTERFACES)
    ]
    where = {**hardware(torch.device("cpu")), "threads": 1}
    where_text = ", ".join(f"{key} {value}" for key, value in where.items())
    parts = [markdown_table(rows), f"{where_text}, torch {torch.__version__}, {rounds} rounds"]
    leave(out, "latency", parts, rows=rows, rounds=rounds, hardware=where, torch=torch.__version__)


def pair(
    before: str, network: str, interface: str, rounds: int, explanations: int
) -> dict[str, Any]:
    """Milliseconds an explanation in both states, and the ratio."""
    seconds: dict[str, list[float]] = {"before": [], "now": []}
    with worker(before, network, interface) as then, worker(str(HERE), network, interface) as now:
        asked = {"before": then, "now": now}
        for number in tqdm(range(rounds), desc=f"{network}, {interface}"):
            for state in sorted(asked, reverse=bool(number % 2)):
                seconds[state].append(asked[state](explanations))
    ratios = [now / then for now, then in zip(seconds["now"], seconds["before"], strict=True)]
    mean = bootstrap(torch.tensor(ratios))
    milliseconds = {s: statistics.median(all_) / explanations * 1e3 for s, all_ in seconds.items()}
    return {
        "network": network,
        "interface": interface,
        **{f"ms {state}": round(value, 2) for state, value in milliseconds.items()},
        "ratio": f"{statistics.median(ratios):.3f}",
        "mean of the ratios": f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})",
    }


@contextmanager
def worker(state: str, network: str, interface: str) -> Iterator[Callable[[int], float]]:
    """A process that runs the package of the folder `state`: number of explanations -> seconds."""
    command = [sys.executable, "-c", _WORKER, network, interface]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=state, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise click.ClickException(f"the worker of {state} did not start; see above")

        def ask(count: int) -> float:
            print(count, file=process.stdin, flush=True)
            return float(process.stdout.readline())  # type: ignore[union-attr]

        try:
            yield ask
        finally:
            process.stdin.close()
