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
what it says of correct images; which conditions failed where the cause is wrong; what erasing the
planted region itself does; whether contrasts point at the part in which look-alikes differ. The
thresholds were chosen on seeds 101, 103, 104 and 106 to 109; what is published is of 110. Nothing
is downloaded.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from learnable_cam_plugin.analysis import Case, Photo, analyze, hierarchy_of
from learnable_cam_plugin.comparison import markdown_table

from ..planted.kinds import HIERARCHY, KINDS, Planted, file_name, plant
from ..planted.network import probabilities, trained_network, training_set
from ..planted.scenes import CLASSES, NORMALIZATION
from ..planted.score import (
    at_the_part,
    confusion,
    contrasts_at_the_part,
    erased,
    on_correct,
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
    images, labels, _ = training_set(600, 10_000 + network_seed)
    accuracy = float((probabilities(model, images).argmax(1) == labels).float().mean())
    click.echo(f"network of seed {network_seed}: {100 * accuracy:.1f} % right on new images")
    try:
        found = {
            kind: plant(kind, correct if kind == "correct" else count, seed, model)
            for kind in KINDS
        }
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    for kind, of_kind in found.items():
        contact_sheet(out / f"sheet-{file_name(kind)}.png", of_kind)
    planted = [one for of_kind in found.values() for one in of_kind]
    shuffled = [planted[i] for i in np.random.default_rng(seed).permutation(len(planted))]
    broader = hierarchy_of(HIERARCHY, CLASSES)
    analysis = analyze(
        model,
        batches(shuffled),
        NORMALIZATION,
        CLASSES,
        hierarchy=broader,
        correct=len(planted),
        seed=seed,
    )
    cases = {case.photo.name: case for case in analysis.cases}
    shown = contrasts_at_the_part(planted, cases)
    tables: dict[str, list[dict[str, Any]]] = {
        "causes, rows planted, columns named": confusion(planted, cases),
        "the rule asked of correct images, the runner-up as the true class": on_correct(
            planted, analysis, broader
        ),
        "pointing game at the part in which look-alikes differ, %": [
            shown,
            *at_the_part(planted, model, model.get_submodule("features")),
        ],
        "the label wins where the planted region itself is erased, %": erased(planted, model),
        "named wrongly": wrongly_named(planted, cases),
    }
    parts = [
        f"{count} images of each kind and {correct} correct ones, of seed {seed}; network of seed "
        f"{network_seed}, {100 * accuracy:.1f} % right on new images like those of its training "
        "(of squares and triangles, which carry either label, some three fifths)."
    ]
    for title, rows in tables.items():
        parts += [f"**{title.capitalize()}**", markdown_table(rows) if rows else "None."]
    leave(
        out,
        "planted",
        parts,
        seed=seed,
        accuracy=accuracy,
        settings=analysis.settings,
        tables=tables,
        images=[_record(one, cases[one.name]) for one in planted],
    )


def _record(one: Planted, case: Case) -> dict[str, Any]:
    checks = {} if case.verdict is None else case.verdict.checks
    return {
        "name": one.name,
        "kind": one.kind,
        "planted": one.cause,
        "named": case.cause,
        "label": CLASSES[one.label],
        "predicted": CLASSES[one.predicted],
        "probability": round(one.probability, 4),
        "checks": {
            cause: [{"asked": c.name, "value": round(c.value, 4), "holds": c.holds} for c in asked]
            for cause, asked in checks.items()
        },
    }


def batches(planted: Sequence[Planted]) -> Iterator[tuple[Tensor, list[Photo]]]:
    """As `analyze` takes them: images (N, 3, 80, 80) and their names and labels."""
    for start in range(0, len(planted), _BATCH):
        part = planted[start : start + _BATCH]
        photos = [Photo(one.name, one.label) for one in part]
        yield torch.stack([one.image for one in part]), photos
