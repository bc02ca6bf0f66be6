"""Sanity checks: are high scores explanations? What a map trained for the scores could fail.

\b
    python -m benchmarks sanity --data VAL_FOLDER --out DIR
    python -m benchmarks sanity --data VAL_FOLDER --network efficientnet-lite2 --out DIR

\b
- Class sensitivity: on mosaics of four images, do the maps of a cell's class and of the most
  probable other one, which mostly another cell shows, differ?
- Model-parameter randomisation (Adebayo et al., NeurIPS 2018): as the classifier's weights are
  drawn anew from its head downwards, does the map change?
- Fillings that no training saw: white, and noise.
- A second classifier, of another depth, width and image size (EfficientNet-Lite2; for that one
  -Lite0): does it still see the class in the masked image?

The attention that needs no training; with --attention, one that was trained beside the classifier
too. Leaves sanity.json and sanity.md. Nothing is downloaded.
"""

import copy
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from learnable_cam_plugin import LearnableCAM, Normalization, load_attention, metrics
from learnable_cam_plugin.comparison import class_maps, markdown_table
from learnable_cam_plugin.pretrained import efficientnet_lite
from learnable_cam_plugin.saliency import resize

from ..protocol import load_protocol
from ..report.schema import leave
from ..sources import SIDES
from ..testbed import NETWORKS, Testbed, in_parts, prepare

MakeCAM = Callable[[nn.Module], BaseCAM]
# From the head downwards; each step draws its part anew too, on top of those before.
CASCADE = {"head": "head", "last stage": "features.last", "all": "features"}


def explainers(attention: Path | None) -> dict[str, MakeCAM]:
    """Name -> the method on the classifier, of any weights."""
    found: dict[str, MakeCAM] = {"LearnableCAM (no training)": LearnableCAM}
    if attention is not None:
        trained = load_attention(attention)
        trained.origin = None  # a classifier of other weights is what is asked about
        found["LearnableCAM"] = partial(LearnableCAM, attention=trained)
    found["classic CAM"] = lambda model: LearnableCAM(model, ["features"], attention="head")
    found["Grad-CAM"] = lambda model: GradCAM(model, [model.get_submodule("features")])
    return found


def maps_of(make: MakeCAM, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """The maps (N, H, W)."""
    with make(model) as cam:
        return in_parts(lambda x, y: class_maps(cam, x, y), images, classes)


def correlation(one: Tensor, other: Tensor) -> float:
    """Mean over the images of Pearson's correlation of two maps (N, ...); 0 for a constant one."""
    a, b = (m.flatten(1) - m.flatten(1).mean(1, keepdim=True) for m in (one, other))
    norm = (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-9)
    return float(((a * b).sum(1) / norm).mean())


def ranks(maps: Tensor) -> Tensor:
    """The rank of each of 28 x 28 pixels of the maps (N, H, W), for Spearman's correlation; equal
    ones share theirs: by place, two maps that are 0 in most places would seem alike."""
    small = F.adaptive_avg_pool2d(maps[:, None], 28).flatten(1)
    return torch.from_numpy(rankdata(small.numpy(), axis=1)).float()


def other_classes(bed: Testbed) -> Tensor:
    """The most probable class of each mosaic that is not the one explained."""
    with torch.no_grad():
        scores = in_parts(bed.model, bed.mosaics.images)
    return scores.scatter(1, bed.mosaics.classes[:, None], -torch.inf).argmax(1)


def class_sensitivity(bed: Testbed, make: MakeCAM, others: Tensor) -> dict[str, float]:
    """On the mosaics: the share of the map in the right cell; and the correlation of the maps of
    the class explained and of another one (`other_classes`)."""
    images, classes = bed.mosaics.images, bed.mosaics.classes
    maps, other = (maps_of(make, bed.model, images, which) for which in (classes, others))
    return {
        "grid pointing": 100 * float(metrics.grid_pointing(maps, bed.mosaics.cells).mean()),
        "maps of it and the next class, r": correlation(maps, other),
    }


def randomised(model: nn.Module) -> dict[str, nn.Module]:
    """Step of the cascade -> a copy of the classifier with that much drawn anew."""
    models, model = {}, copy.deepcopy(model)
    torch.manual_seed(0)
    for step, name in CASCADE.items():
        for module in model.get_submodule(name).modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                module.reset_parameters()
        models[step] = copy.deepcopy(model)
    return models


def randomisation(bed: Testbed, make: MakeCAM, models: dict[str, nn.Module]) -> dict[str, float]:
    """Spearman's correlation of the maps before and after each step of the cascade."""
    explained = bed.pictures.images[bed.common], bed.pictures.classes[bed.common]
    before = ranks(maps_of(make, bed.model, *explained))
    return {
        f"{step} random, rho": correlation(before, ranks(maps_of(make, model, *explained)))
        for step, model in models.items()
    }


def masked_scores(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Tensor,
    normal: Normalization,
    filling: Tensor | None = None,
) -> dict[str, float]:
    """AD and IC at every threshold; maps of another size than the images are resized. Where the
    mask hides, images of `filling` (N, C, H, W) show, black unless given."""
    behind = normal.normalize(torch.zeros_like(images)) if filling is None else filling

    def asked(x: Tensor, m: Tensor, y: Tensor, b: Tensor) -> Tensor:
        kept = metrics.masked_confidence(model, x, m, y, normal, filling=b)
        return torch.stack([metrics.confidence(model, x, y), *kept.values()], 1)

    p, *after = in_parts(asked, images, resize(maps, images.shape[2:]), classes, behind).unbind(1)
    return {
        f"{name} {keep:.0%}": float(of(p, q).mean())
        for keep, q in zip(metrics.KEEP, after, strict=True)
        for name, of in (("AD", metrics.drops), ("IC", metrics.increases))
    }


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--network", type=click.Choice(list(NETWORKS)), default="efficientnet-lite0")
@click.option("--attention", type=click.Path(path_type=Path), help="one trained beside it")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--limit", type=int, help="that many images, evenly spread")
def main(data: Path, network: str, attention: Path | None, out: Path, limit: int | None) -> None:
    protocol, other = NETWORKS[network]
    bed = prepare(load_protocol(protocol), network, out, data, limit=limit)
    normal, images, classes = bed.normalization, bed.pictures.images, bed.pictures.classes
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    pixels = {"white": torch.ones_like(images), "noise": noise}
    fillings = {name: normal.normalize(shown) for name, shown in pixels.items()}
    second, _ = efficientnet_lite(other)  # of the same normalisation
    size = (SIDES[other], SIDES[other])
    larger = F.interpolate(images, size, mode="bilinear", antialias=True)
    agrees = in_parts(lambda x, y: metrics.confidence(second, x, y) > 0.3, larger, classes)
    others, models, tables = other_classes(bed), randomised(bed.model), defaultdict(list)
    for name, make in tqdm(explainers(attention).items(), desc="methods"):
        maps = maps_of(make, bed.model, images, classes)
        found = {
            "class sensitivity": class_sensitivity(bed, make, others),
            "model-parameter randomisation": randomisation(bed, make, models),
        }
        for filling, behind in fillings.items():
            scores = masked_scores(bed.model, images, maps, classes, normal, behind)
            found[f"filled with {filling}, {len(maps)} images"] = scores
        scores = masked_scores(second, larger[agrees], maps[agrees], classes[agrees], normal)
        found[f"EfficientNet-Lite{other}, {int(agrees.sum())} images"] = scores
        for title, scores in found.items():
            tables[title].append({"method": name, **scores})
    parts = []
    for title, rows in tables.items():
        digits = 2 if ", r" in str(rows) else 1  # correlations
        cells = [{k: v if k == "method" else f"{v:.{digits}f}" for k, v in r.items()} for r in rows]
        parts += [f"**{title}**", markdown_table(cells)]
    leave(out, "sanity", parts, tables=tables)
