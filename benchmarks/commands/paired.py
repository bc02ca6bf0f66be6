"""Paired differences of LearnableCAM and its peers in what `compare` left; and its trainings.

\b
    python -m benchmarks paired RESULTS_FOLDER
    python -m benchmarks paired RESULTS_FOLDER --data VAL --unseen TRAIN

Every column is compared image by image with every peer of at most ten passes on all images that
both explained, and with Score-CAM and RISE on theirs: the mean difference and its 95 % interval
(bootstrap over the images), positive where LearnableCAM is better. It is "ahead" of, or "behind",
a peer where the interval leaves out 0, else "level"; of fewer than 10 images there is no verdict,
and of 16 one in twelve is by chance. --unseen leaves out the images whose class is
the predicted one of any photograph that was trained on. Leaves paired.md in the folder, or
paired-unseen.md.
"""

import statistics
from pathlib import Path
from typing import Any

import click
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from learnable_cam_plugin.classifier import predict
from learnable_cam_plugin.comparison import markdown_table
from learnable_cam_plugin.data import PhotoFolder
from learnable_cam_plugin.metrics import METRICS, bootstrap

from ..methods import METHODS
from ..protocol import load_protocol
from ..report.schema import MethodResults, leave, read_methods
from ..testbed import prepare

OURS = ("LearnableCAM", "LearnableCAM (seed 1)", "LearnableCAM (seed 2)")
UNTRAINED = "LearnableCAM (no training)"
MASKED = ("AD 100%", "IC 100%", "AD 50%", "IC 50%", "AD 15%", "IC 15%")
COLUMNS = (
    *MASKED,
    "grid pointing",
    "insertion",
    "deletion",
    "ROAD",
    "coherency",
    "complexity",
    "ADCC",
)
SLOW = ("Score-CAM", "RISE")
FEW_PASSES = 10
FEWEST = 10  # images: of fewer, the bootstrap's interval is too narrow for a verdict

Found = dict[str, MethodResults]


def read(folder: Path) -> Found:
    """Name -> what `compare` left of each method that is still in the comparison."""
    found = {name: one for name, one in read_methods(folder).items() if name in METHODS}
    if not {OURS[0], UNTRAINED} & found.keys():
        raise click.ClickException(
            f"{folder} has no results of LearnableCAM: run `python -m benchmarks compare` first"
        )
    return found


def values(method: MethodResults, column: str, left_out: set[int]) -> dict[int, float]:
    """Image or mosaic -> value; of mosaics none is left out."""
    scores = method["scores"].get(column, {"index": [], "values": []})
    skip = set() if column == "grid pointing" else left_out
    pairs = zip(scores["index"], scores["values"], strict=True)
    return {i: v for i, v in pairs if i not in skip}


def seeds(found: Found, left_out: set[int]) -> list[dict[str, Any]]:
    """Mean and standard deviation of the trainings, a row a column."""
    rows = []
    for column in COLUMNS:
        trainings = [values(found[name], column, left_out) for name in OURS if name in found]
        if means := [statistics.mean(one.values()) for one in trainings if one]:
            spread = statistics.stdev(means) if len(means) > 1 else 0.0
            cells = {f"training {i + 1}": f"{mean:.1f}" for i, mean in enumerate(means)}
            mean = f"{statistics.mean(means):.1f} ± {spread:.1f}"
            rows.append({"column": column, "mean": mean, **cells})
    return rows


def paired_rows(found: Found, peers: list[str], left_out: set[int]) -> list[dict[str, Any]]:
    """A row a column: the peer that comes closest or leads, and the verdict over all of them."""
    rows = []
    for column in COLUMNS:
        ours, met = values(found[OURS[0]], column, left_out), []
        sign = -1 if METRICS[column].better == "lower" else 1
        for name in peers:
            theirs = values(found[name], column, left_out)
            if both := sorted(ours.keys() & theirs.keys()):
                better = [sign * (ours[i] - theirs[i]) for i in both]
                met.append((bootstrap(torch.tensor(better, dtype=torch.double)), name, both))
        if met:
            (mean, low, high), name, both = min(met, key=lambda one: one[0].mean)
            enough = [(interval, name) for interval, name, of in met if len(of) >= FEWEST]
            ahead = sum(interval.low > 0 for interval, _ in enough)
            behind = [name for interval, name in enough if interval.high < 0]
            none = "none" if enough else "too few"
            rows.append(
                {
                    "column": column,
                    "LearnableCAM": f"{statistics.mean(ours[i] for i in both):.1f}",
                    "closest peer": name,
                    "better by": f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]",
                    "n": len(both),
                    "ahead of": f"{ahead} of {len(enough)}",
                    "behind": ", ".join(behind) or none,
                }
            )
    return rows


_PLAIN = str.maketrans(" ", "-", "()")
_OURS = "the training to compare; or the attention that needs none"
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command(help=__doc__)
@click.argument("folder", type=_FOLDER)
@click.option("--data", type=_FOLDER, help="the images of the results, for --unseen")
@click.option("--unseen", type=_FOLDER, help="photographs trained on, whose classes to leave out")
@click.option("--ours", type=click.Choice([*OURS, UNTRAINED]), default=OURS[0], help=_OURS)
def main(folder: Path, data: Path | None, unseen: Path | None, ours: str) -> None:
    found, left_out, note = read(folder), set(), "All images."
    if unseen is not None:
        if data is None:
            raise click.ClickException("--unseen needs --data, the images of the results")
        bed = prepare(load_protocol("photos"), "efficientnet-lite0", folder, data)
        batches = tqdm(DataLoader(PhotoFolder(unseen, bed.normalization), 32), "trained on")
        trained = {int(c) for x in batches for c in predict(bed.model, x)[1]}
        classes = bed.pictures.classes.tolist()
        left_out = {i for i, c in enumerate(classes) if c in trained}
        note = (
            f"Images of the {len(trained)} classes trained on are left out: "
            f"{len(classes) - len(left_out)} of {len(classes)} stay."
        )
    peers = [
        name
        for name, one in found.items()
        if name not in (*OURS, UNTRAINED) and METHODS[name].group != "floor"
        if one["forward"] + one["backward"] <= FEW_PASSES
    ]
    trainings = ["**Trainings**, mean and standard deviation"]
    trainings += [markdown_table(seeds(found, left_out))]
    if ours == UNTRAINED:
        trainings = []
    if ours not in found:
        raise click.ClickException(f"{folder} has no results of {ours}: run `compare` with it")
    slow, ahead = [name for name in SLOW if name in found], {**found, OURS[0]: found[ours]}
    against = ["**Against Score-CAM and RISE**, where they were run"] if slow else []
    against += [markdown_table(paired_rows(ahead, slow, left_out))] if slow else []
    leave(
        folder,
        "-".join(["paired", *(["unseen"] if unseen else []), *ours.split()[1:]]).translate(_PLAIN),
        [
            note,
            *trainings,
            f"**{ours} against the {len(peers)} peers of at most {FEW_PASSES} passes**",
            markdown_table(paired_rows(ahead, peers, left_out)),
            *against,
        ],
    )
