"""Work that is killed at a random moment, again and again, and what it leaves.

A scenario is a folder of work: `run` does all of it, from wherever it was left, in a process of its
own; `check` sees whether what a kill left is whole. Processes are forked, so that two hundred kills
need not start two hundred interpreters: of one that has done nothing else, since OpenMP's and
autograd's threads do not survive a fork.

    python -m tests.reliability.kills "a training" FOLDER 50 0
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file

from learnable_cam_plugin import (
    LearnableCAMTrainer,
    atomic,
    load_attention,
    random_attention,
)
from learnable_cam_plugin.comparison import picture

from ..conftest import UNIT, tiny_network

ROOT = Path(__file__).resolve().parents[2]
BATCHES = [torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(i)) for i in range(5)]


@dataclass(frozen=True)
class Scenario:
    """What is killed: `run(folder)`; after a kill and at the end `check(folder)` raises if what
    is there is not whole. `longest`: seconds within which it is killed."""

    name: str
    run: Callable[[Path], None]
    check: Callable[[Path], None]
    longest: float


def training(recipe: str, **settings: object) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        trainer = LearnableCAMTrainer(
            tiny_network(seed=4), ["2", "4"], recipe=recipe, normalization=UNIT, progress=False,
            device="cpu", output_dir=folder, checkpoint_every=1, **settings,
        )  # fmt: skip
        trainer.fit(BATCHES, BATCHES[:2], resume=True)

    return run


def check_training(folder: Path) -> None:
    """The state, the attention and the history are absent or whole."""
    for file in folder.rglob("*.safetensors"):
        if not file.name.startswith("."):
            assert all(bool(torch.isfinite(value).all()) for value in load_file(file).values())
    if (folder / "attention").exists() and any((folder / "attention").glob("model.safetensors")):
        load_attention(folder / "attention")
    if (folder / "history.png").exists():
        Image.open(folder / "history.png").load()


def overwrite(folder: Path) -> None:
    """One of two attentions, written in turn to one file, for as long as it lives."""
    attentions = [random_attention(tiny_network(), ["4"], BATCHES[0]) for _ in range(2)]
    for number in range(400):
        attentions[number % 2].save(folder / "attention.safetensors")


def check_overwritten(folder: Path) -> None:
    if (folder / "attention.safetensors").exists():
        load_attention(folder / "attention.safetensors")


def explanations(folder: Path) -> None:
    """Pictures and their list, as `learnable-cam explain` leaves them."""
    for number in range(30):
        maps = {"a": torch.rand(2, 12, 12)}
        picture(folder / f"{number:02}.png", BATCHES[number % 5][:2], ["x", "y"], maps, UNIT)


def check_explanations(folder: Path) -> None:
    for file in folder.glob("*.png"):
        if not file.name.startswith("."):
            Image.open(file).load()


SCENARIOS = [
    Scenario("a training", training("every-threshold", epochs=3), check_training, 1.5),
    Scenario("one with patience", training("l-cam-fm", epochs=4, patience=3), check_training, 1.5),
    Scenario("an attention overwritten", overwrite, check_overwritten, 0.6),
    Scenario("pictures of explanations", explanations, check_explanations, 1.5),
]


def forked(run: Callable[[Path], None], folder: Path, seconds: float | None) -> bool:
    """Whether `run(folder)` ended, in a process that is killed after so many seconds."""
    child = os.fork()
    if child == 0:
        code = 1
        atomic._STALE = -1  # what was killed a moment ago counts as left behind
        try:
            run(folder)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"{run} failed, see above"
    return not os.WIFSIGNALED(status)


def content(folder: Path) -> dict[str, str]:
    """The tensors of each attention file that is there, so that two folders can be compared."""
    return {
        str(file.relative_to(folder)): json.dumps(
            {name: value.tolist() for name, value in sorted(load_file(file).items())}
        )
        for file in sorted(folder.rglob("model.safetensors"))
    }


def left_over(folder: Path) -> list[str]:
    """Temporary files."""
    return [file.name for file in folder.rglob(".*") if file.suffix != ".lock"]


def kill(scenario: Scenario, folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill it `kills` times, beginning anew whenever it ends; AssertionError if anything that was
    left was not whole, or an end is not that of a run that nothing interrupted."""
    choose = random.Random(seed)
    (folder / "whole").mkdir(parents=True)
    forked(scenario.run, folder / "whole", None)
    expected, done, ends, number = content(folder / "whole"), 0, 0, 0
    while done < kills:
        work = folder / str(number)
        work.mkdir(exist_ok=True)
        ended = forked(scenario.run, work, choose.uniform(0.01, scenario.longest))
        scenario.check(work)
        if not ended:
            done += 1
        if ended or done == kills:
            forked(scenario.run, work, None)
            scenario.check(work)
            assert content(work) == expected, f"{scenario.name}: another end, seed {seed}"
            assert left_over(work) == [], (
                f"{scenario.name}: temporary files {left_over(work)} are left"
            )
            ends, number = ends + 1, number + 1
    return {"kills": done, "ends compared": ends}


def kill_in_process(name: str, folder: Path, kills: int, seed: int) -> dict[str, int]:
    """`kill` of the scenario of that name, in a process that has one thread and only this to do."""
    command = [sys.executable, "-m", __name__, name, str(folder), str(kills), str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


if __name__ == "__main__":
    which, where, count, number = sys.argv[1:]
    torch.set_num_threads(1)
    (chosen,) = (one for one in SCENARIOS if one.name == which)
    print(json.dumps(kill(chosen, Path(where), int(count), int(number))))
