"""What fitting the shipped attention to one classifier adds, by images and minutes.

\b
    python -m benchmarks finetune --train caltech/train --val caltech/val --out results/finetune
    python -m benchmarks finetune --family mobilenet=WHEEL --network mobilenet ...

For each --network, the attention that comes with the package as it is, then fitted on so many
--photos of --train (each count is passed over until --steps are done), and ConditionedAttention
trained from the classifier's head for as long. Leaves finetune.md and finetune.json.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from torch.utils.data import DataLoader, Subset

from learnable_cam_plugin import (
    AttentionMechanism,
    EveryThreshold,
    FrozenClassifier,
    LearnableCAMTrainer,
)
from learnable_cam_plugin.attention import shipped_attention, universal_beside
from learnable_cam_plugin.comparison import markdown_table
from learnable_cam_plugin.data import PhotoFolder

from ..beside import of_photos, score
from ..companions import family, weights_of
from ..report.schema import leave
from ..sources import SIDES, lite

STARTS = {"universal": "fine-tuned", "head": "ConditionedAttention, trained"}
_PATH = click.Path(path_type=Path)


@click.command(help=__doc__)
@click.option("--train", "photos_of", type=_PATH, required=True)
@click.option("--val", "held_out", type=_PATH, multiple=True, required=True)
@click.option("--network", "networks", multiple=True, default=["lite0", "lite2"])
@click.option("--family", "families", multiple=True, help="name=weights, of networks named so")
@click.option("--photos", "counts", multiple=True, type=int, default=[50, 200])
@click.option("--steps", default=200, show_default=True)
@click.option("--area", default=1.5, show_default=True)
@click.option("--start", "starts", multiple=True, type=click.Choice(list(STARTS)), default=STARTS)
@click.option("--every", default=8, show_default=True, help="which of the held-out photographs")
@click.option("--few", default=24, show_default=True, help="on which the slow metrics are taken")
@click.option("--bf16", is_flag=True, help="train in mixed precision")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(
    photos_of: Path,
    held_out: Sequence[Path],
    networks: Sequence[str],
    families: Sequence[str],
    counts: Sequence[int],
    steps: int,
    area: float,
    starts: Sequence[str],
    every: int,
    few: int,
    bf16: bool,
    out: Path,
) -> None:
    weights, rows = weights_of(families), []
    known = {f"lite{number}": number for number in SIDES}
    if unknown := sorted(set(networks) - known.keys() - weights.keys()):
        raise click.UsageError(
            f"no network {', '.join(unknown)}: there are {', '.join([*known, *weights])}; a family "
            "is given as --family NAME=WEIGHTS"
        )
    for network in networks:
        classifier, side = (
            (lite(known[network]), SIDES[known[network]])
            if network in known
            else family(network, weights[network])
        )
        photos = PhotoFolder(photos_of, classifier.pixels, side, train=True)
        first = photos[0][None]
        attentions: dict[str, AttentionMechanism] = {
            "0 photographs": universal_beside(classifier, first, shipped_attention())
        }
        minutes = {"0 photographs": 0.0}
        for start in starts:
            for count in counts:
                name = f"{count} photographs, {STARTS[start]}"
                recipe = EveryThreshold(
                    whole=0.25, area=area, learning_rate=1e-3 if start == "universal" else 2e-3
                )
                folder = out / "trainings" / f"{network}-{start}-{count}"
                attentions[name], minutes[name] = fit(
                    classifier, photos, count, recipe, start, steps, bf16, folder
                )
        for folder in held_out:
            seen, sure = of_photos(classifier, side, folder, every)
            where = f"{network}, {folder.parent.name}/{folder.name}"
            for row in score(classifier, attentions, seen, few, sure):
                spent = minutes.get(row["method"], 0.0)
                rows.append({"where": where, "minutes": round(spent, 1), **row})
            leave(out, "finetune", [markdown_table(rows)], rows=rows)


def fit(
    classifier: FrozenClassifier,
    photos: PhotoFolder,
    count: int,
    recipe: EveryThreshold,
    start: str,
    steps: int,
    bf16: bool,
    folder: Path,
) -> tuple[AttentionMechanism, float]:
    """An attention trained for about so many steps, 16 images each, on `count` photographs; and the
    minutes that it took, in an earlier run or in this one."""
    chosen: Any = np.random.default_rng(0).permutation(len(photos))[:count].tolist()
    loader = DataLoader(Subset(photos, chosen), min(16, count), shuffle=True, drop_last=True)
    trainer = LearnableCAMTrainer(
        classifier.model,
        list(classifier.layers),
        recipe=recipe,
        start=start,
        normalization=classifier.pixels,
        epochs=max(1, round(steps / len(loader))),
        mixed_precision="bf16" if bf16 else "no",
        output_dir=folder,
        checkpoint_every=50,
    )
    attention = trainer.fit(loader, resume=True)
    return attention, sum(row["seconds"] for row in trainer.history) / 60
