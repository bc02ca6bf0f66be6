"""Does a map tell the classes of an image apart, those too that the classifier puts behind others?

\b
    python -m benchmarks classes --data VAL_FOLDER --out DIR
    python -m benchmarks classes --data VAL_FOLDER --network efficientnet-lite2 --out DIR

On mosaics of four photographs that the classifier is sure of, each of the four classes has a right
place, at whatever rank it ends up in the mosaic:

\b
- By rank: the share of a class's map in its own cell (a quarter by chance), and how often its
  highest place is there, for the class that wins and for those behind it.
- Contrasts: of the two best ranked classes A and B of the four, the same for what speaks for A
  rather than B, and for B rather than A, beside the plain maps and FinerCAM's.
- One scale: whether `comparable` maps tell a class that is in the mosaic from one that is in
  another one: the area under the ROC curve of their mean and of their highest place.

Leaves classes.json and classes.md. Nothing is downloaded.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget
from torch import Tensor
from tqdm import tqdm

from learnable_cam_plugin import ContrastTarget, LearnableCAM
from learnable_cam_plugin.comparison import markdown_table
from learnable_cam_plugin.data import cell_regions, mosaics
from learnable_cam_plugin.metrics import bootstrap, energy_inside, pointing_hit

from ..protocol import load_protocol
from ..report.schema import leave
from ..testbed import NETWORKS, Testbed, in_parts, prepare

RANKS = {"1": (1, 1), "2": (2, 2), "3 to 5": (3, 5), "6 to 20": (6, 20), "beyond 20": (21, 10**9)}
Target = Callable[[int, int], object]


def asked(cam: BaseCAM, target: Target, images: Tensor, classes: Tensor, others: Tensor) -> Tensor:
    """A method's maps (N, H, W) of a target of each image's class and another class."""

    def part(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        targets = [target(int(one), int(other)) for one, other in zip(y, z, strict=True)]
        return torch.from_numpy(cam(x, targets))

    return in_parts(part, images, classes, others)


def placed(maps: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """The share of each map (N, H, W) in its cell (N,), and whether its highest place is there."""
    inside = cell_regions(cells, maps.shape[1:])
    return energy_inside(maps, inside), pointing_hit(maps, inside).float()


def plain(one: int, other: int) -> object:
    return ClassifierOutputTarget(one)


def finer(one: int, other: int) -> object:
    return FinerWeightedTarget(one, [other], alpha=1.0)


def methods(bed: Testbed) -> dict[str, tuple[BaseCAM, Target]]:
    """Name -> the method, and the target that it takes of a class and another one."""
    ours, theirs = LearnableCAM(bed.model), GradCAM(bed.model, [bed.layer])
    return {
        "LearnableCAM (no training)": (ours, plain),
        "LearnableCAM, A against B": (ours, ContrastTarget),
        "Grad-CAM": (theirs, plain),
        "Grad-CAM, A against B": (theirs, ContrastTarget),
        "FinerCAM, A finer than B": (theirs, finer),
    }


def area_under_roc(present: Tensor, absent: Tensor) -> float:
    """The probability that one of the first is above one of the second; a tie counts half."""
    above = (present[:, None] > absent[None]).double() + (present[:, None] == absent[None]) / 2
    return float(above.mean())


def by_rank(cam: BaseCAM, grids: Tensor, classes: Tensor, ranks: Tensor) -> list[dict[str, object]]:
    """A row a range of ranks: of the four classes (M, 4) of each mosaic, at ranks (M, 4)."""
    rows = []
    for title, (first, last) in RANKS.items():
        which, cells = ((ranks >= first) & (ranks <= last)).nonzero().unbind(1)
        if len(which) < 2:
            continue
        chosen = classes[which, cells]
        share, hit = placed(asked(cam, plain, grids[which], chosen, chosen), cells)
        row = {"rank": title, "maps": len(which)}
        rows.append(row | {"in its cell": cell(share), "pointing": cell(hit)})
    return rows


def cell(values: Tensor) -> str:
    """Mean with half of its 95 % interval, in percent."""
    mean, low, high = bootstrap(100 * values)
    return f"{mean:.1f} ± {(high - low) / 2:.1f}"


@torch.no_grad()
def logits_of(bed: Testbed, grids: Tensor) -> Tensor:
    return in_parts(bed.model, grids)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--network", type=click.Choice(list(NETWORKS)), default="efficientnet-lite0")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--limit", type=int, help="that many photographs, evenly spread")
@click.option("--count", type=click.IntRange(8), default=100, help="mosaics")
def main(data: Path, network: str, out: Path, limit: int | None, count: int) -> None:
    bed = prepare(load_protocol(NETWORKS[network][0]), network, out, data, limit=limit)
    sure = bed.pictures.confidence > 0.5
    grids, members, _ = mosaics(bed.pictures.images[sure], bed.pictures.classes[sure], count)
    classes = bed.pictures.classes[sure][members]
    logits = logits_of(bed, grids)
    order = logits.argsort(1, descending=True).argsort(1) + 1
    ranks = order.gather(1, classes)
    known = methods(bed)

    parts, left = [], {}
    for name in ("LearnableCAM (no training)", "Grad-CAM"):
        left[f"ranks, {name}"] = rows = by_rank(known[name][0], grids, classes, ranks)
        parts += [f"**{name}, by the rank of the class in the mosaic**", markdown_table(rows)]

    best = ranks.argsort(1)[:, :2]  # the cells of the two classes that are ranked best
    pair, rows = classes.gather(1, best), []
    for name, (cam, target) in tqdm(known.items(), desc="contrasts"):
        found: dict[str, str] = {}
        for title, one, other in (("A, ranked before", 0, 1), ("B, ranked behind", 1, 0)):
            maps = asked(cam, target, grids, pair[:, one], pair[:, other])
            share, hit = placed(maps, best[:, one])
            found |= {f"{title}: in its cell": cell(share), "pointing" + " " * one: cell(hit)}
        rows.append({"method": name, **found})
    left["contrasts"] = rows
    parts += ["**Contrasts of two classes that are there**", markdown_table(rows)]

    # the classes of another mosaic that are not in this one too
    absent = classes.roll(count // 2, 0)
    apart = ~(absent[:, :, None] == classes[:, None]).any(2)
    rows, ours = [], known["LearnableCAM (no training)"][0]
    for name, read in (
        ("on one scale", ours.comparable),
        ("as LearnableCAM gives them", ours.saliency),
    ):
        mean, peak = [], []
        for which, counts in ((classes, apart | True), (absent, apart)):
            maps = torch.stack([in_parts(partial(of_class, read), grids, k) for k in which.T], 1)
            mean.append(maps.mean((2, 3))[counts])
            peak.append(maps.amax((2, 3))[counts])
        under = {"mean of the map": area_under_roc(*mean), "highest place": area_under_roc(*peak)}
        rows.append({"maps": name, **{key: f"{value:.3f}" for key, value in under.items()}})
    shares = logits.softmax(1)
    whole = area_under_roc(shares.gather(1, classes).flatten(), shares.gather(1, absent)[apart])
    rows.append({"maps": "(probability of the whole mosaic)", "highest place": f"{whole:.3f}"})
    parts += ["**One scale: in the mosaic, or not? Area under the ROC curve**"]
    parts += [markdown_table(rows)]
    left["scale"] = rows
    leave(out, "classes", parts, mosaics=count, network=network, tables=left)


def of_class(read: Callable[..., Tensor], images: Tensor, classes: Tensor) -> Tensor:
    return read(images, [ClassifierOutputTarget(int(c)) for c in classes])
