"""A long trial of what `docs/reliability.md` guarantees, and its figures.

    python -m tests.reliability.soak --out benchmarks/results/reliability

Threads that explain with one classifier and one attention, all answers compared with those of one
thread; work killed at random moments and gone on with; attention files gone wrong; inputs that are
none. Ends with an error at the first thing that is not as it should be. Leaves soak.json and
soak.md. tests/reliability/test_soak.py is its short form.
"""

import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from tqdm import tqdm

from benchmarks.report.schema import leave
from learnable_cam_plugin import LearnableCAM, condition
from learnable_cam_plugin.comparison import markdown_table

from ..conftest import tiny_network
from .inputs import INPUTS, refused
from .kills import SCENARIOS, kill_in_process
from .mutations import mutated, outcome, whole_files


def serve(threads: int, requests: int, seed: int = 0) -> dict[str, int]:
    """Each thread asks for `requests` maps, each of its own image and class, while others use the
    classifier itself; counts the answers that are not the sequential ones, to the bit."""
    model = tiny_network().eval()
    count = threads * requests
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 20, 24, generator=generator)
    classes = torch.randint(5, (count,), generator=generator).tolist()
    cam = LearnableCAM(model, ["4"], attention=condition(model, ["2", "4"], images[:4]))

    def explain(number: int) -> torch.Tensor:
        maps = cam.saliency(images[number, None], [ClassifierOutputTarget(classes[number])])
        return torch.cat([maps.flatten(), cam.outputs.flatten()])

    expected = [explain(number) for number in range(count)]
    done = threading.Event()

    def client() -> None:
        with torch.no_grad():
            while not done.is_set():
                model(images[:3])

    def worker(own: int) -> int:
        numbers = range(own, count, threads)
        return sum(not torch.equal(explain(number), expected[number]) for number in numbers)

    other = threading.Thread(target=client)
    other.start()
    try:
        with ThreadPoolExecutor(threads) as pool:
            wrong = sum(pool.map(worker, range(threads)))
    finally:
        done.set()
        other.join()
    return {"threads": threads, "requests": count, "wrong": wrong}


def mutate(count: int, folder: Path) -> dict[str, int]:
    """Load so many files gone wrong; how many were refused in plain words, how many did no harm."""
    files = list(whole_files(folder))
    found = {"files": count, "refused": 0, "harmless": 0}
    path = folder / "mutated.safetensors"
    for seed in tqdm(range(count), desc="files gone wrong"):
        path.write_bytes(mutated(files[seed % len(files)], seed))
        found["refused" if outcome(path).startswith("refused") else "harmless"] += 1
    return found


@click.command(help=__doc__)
@click.option("--threads", default=8, show_default=True)
@click.option("--requests", default=2000, show_default=True, help="of each thread")
@click.option("--kills", default=200, show_default=True, help="over all scenarios")
@click.option("--files", default=10_000, show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(threads: int, requests: int, kills: int, files: int, out: Path) -> None:
    torch.set_num_threads(1)
    rows = []

    def trial(what: str, run, *arguments) -> None:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = run(*arguments, *([Path(folder)] if run in (mutate, every_input) else []))
        text = ", ".join(f"{key} {value:,}" for key, value in found.items())
        rows.append({"trial": what, "found": text, "seconds": round(time.perf_counter() - began)})
        click.echo(f"{what}: {text}")

    for number, scenario in enumerate(SCENARIOS):
        with tempfile.TemporaryDirectory() as folder:
            share = kills // len(SCENARIOS)
            what = f"killed: {scenario.name}"
            trial(what, kill_in_process, scenario.name, Path(folder), share, number)
    trial("one classifier, one attention, many threads", serve, threads, requests)
    trial("attention files gone wrong", mutate, files)
    trial("inputs that are none", every_input)
    if any("wrong 0" not in row["found"] for row in rows if "threads" in row["found"]):
        raise click.ClickException(f"wrong answers: {rows}")
    leave(out, "soak", [markdown_table(rows)], rows=rows)


def every_input(folder: Path) -> dict[str, int]:
    """Try every input that is none; AssertionError at one that is taken, or refused unclearly."""
    for number, name in enumerate(INPUTS):
        own = folder / str(number)
        own.mkdir()
        refused(name, own)
    return {"kinds": len(INPUTS), "refused by name": len(INPUTS)}


if __name__ == "__main__":
    main(prog_name="python -m tests.reliability.soak")
