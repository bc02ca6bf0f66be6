"""Does the analysis of errors name the cause that was planted?

\b
    python -m benchmarks planted --out DIR
    python -m benchmarks planted --out DIR --seed 1

A small network is trained on drawn images (three minutes, kept in DIR), and images are drawn on
which it errs for a known reason: look-alike classes, two objects, a broader label, the watermark of
a class, a bar in front, a wrong label, and, as controls, none of these. Each is proved with the
network: without what was planted the same image is classified rightly. All of them, with correct
images between them, are analysed as one data set.

Leaves a contact sheet of each kind, and planted.json and planted.md: how often each cause is named;
contexts on correct images; which conditions failed where the cause is wrong; what erasing the
planted region itself does; whether contrasts point at the part in which look-alikes differ. The
thresholds were chosen on seeds below 100; what is published is of others. Nothing is downloaded.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from learnable_cam_plugin.analysis import Photo, analyze, hierarchy
from learnable_cam_plugin.comparison import markdown_table

from ..planted.kinds import HIERARCHY, KINDS, Planted, file_name, plant
from ..planted.network import probabilities, trained_network, training_set
from ..planted.scenes import CLASSES, NORMALIZATION
from ..planted.score import (
    at_the_part,
    confusion,
    contexts_on_correct,
    contrasts_at_the_part,
    erased,
    wrongly_named,
)
from ..planted.sheet import contact_sheet
from ..report.schema import leave

_BATCH = 32


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--count", type=click.IntRange(1), default=40, show_default=True, help="of a kind")
@click.option("--correct", type=click.IntRange(1), default=120, show_default=True)
@click.option("--seed", default=100, show_default=True, help="of the images")
@click.option("--network-seed", default=0, show_default=True)
def main(out: Path, count: int, correct: int, seed: int, network_seed: int) -> None:
    model = trained_network(out, network_seed)
    images, labels = training_set(600, 10_000 + network_seed)
    accuracy = float((probabilities(model, images).argmax(1) == labels).float().mean())
    try:
        planted = [
            one
            for kind in KINDS
            for one in plant(kind, correct if kind == "correct" else count, seed, model)
        ]
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    for kind in KINDS:
        of_kind = [one for one in planted if one.kind.split(":")[0] == kind]
        contact_sheet(out / f"sheet-{file_name(kind)}.png", of_kind)
    order = np.random.default_rng(seed).permutation(len(planted))
    shuffled = [planted[i] for i in order]
    analysis = analyze(
        model,
        batches(shuffled),
        NORMALIZATION,
        CLASSES,
        hierarchy=hierarchy(HIERARCHY, CLASSES),
        correct=correct,
        seed=seed,
    )
    cases = {case.photo.name: case for case in analysis.cases}
    table = confusion(planted, cases)
    wrong = wrongly_named(planted, cases)
    contexts = contexts_on_correct(planted, analysis)
    pointing = [contrasts_at_the_part(planted, cases), *at_the_part(planted, model, model.features)]
    oracle = erased(planted, model)
    parts = [
        f"{count} images of each kind and {correct} correct ones, of seed {seed}; network of seed "
        f"{network_seed}, {100 * accuracy:.1f} % right on new images like those of its training "
        "(of squares and triangles, which carry either label, some three fifths).",
        "**Causes** (rows: planted; columns: named)",
        markdown_table(table),
        "**Contexts named on correct images**",
        markdown_table([contexts]),
        "**Contrasts at the part in which look-alikes differ**",
        markdown_table(pointing),
        "**Label wins when the planted region itself is erased, %**",
        markdown_table(oracle),
        "**Named wrongly**",
        markdown_table(wrong) if wrong else "None.",
    ]
    leave(
        out,
        "planted",
        parts,
        seed=seed,
        accuracy=accuracy,
        settings=analysis.settings,
        confusion=table,
        contexts=contexts,
        pointing=pointing,
        erased=oracle,
        wrong=wrong,
        images=[
            {"name": one.name, "kind": one.kind, "planted": one.cause}
            | {"label": CLASSES[one.label], "predicted": CLASSES[one.predicted]}
            | {"probability": round(one.probability, 4)}
            | {"named": cases[one.name].cause if one.name in cases else "not looked at"}
            for one in planted
        ],
    )


def batches(planted: Sequence[Planted]) -> Iterator[tuple[Tensor, list[Photo]]]:
    """As `analyze` takes them: images (N, 3, 80, 80) and their names and labels."""
    for start in range(0, len(planted), _BATCH):
        part = planted[start : start + _BATCH]
        photos = [Photo(one.name, one.label) for one in part]
        yield torch.stack([one.image for one in part]), photos
