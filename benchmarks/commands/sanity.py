"""Sanity checks: are high scores explanations? What a map trained for the scores could fail.

\b
    python -m benchmarks sanity --data VAL_FOLDER --attention FILE --out DIR

\b
- Class sensitivity: on mosaics of four images, do the maps of two present classes differ?
- Model-parameter randomisation (Adebayo et al., NeurIPS 2018): as the classifier's weights are
  drawn anew from its head downwards, does the map change?
- Fillings that no training saw: white, and noise.
- A second classifier, EfficientNet-Lite2, of another depth, width and image size: does it still
  see the class in the masked image?

Leaves sanity.json and sanity.md. Nothing is downloaded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from learnable_cam_plugin import LearnableCAM, Normalization, load_attention
from learnable_cam_plugin.comparison import class_maps, markdown_table
from learnable_cam_plugin.metrics import (
    KEEP,
    confidence,
    drops,
    grid_pointing,
    increases,
    masked_confidence,
)
from learnable_cam_plugin.pretrained import efficientnet_lite
from learnable_cam_plugin.saliency import resize

from ..protocol import load_protocol
from ..report.schema import leave
from ..testbed import Testbed, prepare

MakeCAM = Callable[[nn.Module], BaseCAM]
# From the head downwards; each step draws its part anew too, on top of those before.
CASCADE = {"head": ["head"], "last stage": ["features.last"], "all": ["features"]}


def explainers(attention: Path) -> dict[str, MakeCAM]:
    """Name -> the method on the classifier, of any weights."""

    def learned(model: nn.Module) -> BaseCAM:
        found = load_attention(attention)
        found.origin = None  # a classifier of other weights is what is asked about
        return LearnableCAM(model, [model.features], attention=found)  # type: ignore[list-item]

    return {
        "LearnableCAM": learned,
        "classic CAM": lambda model: LearnableCAM(model, [model.features]),
        "Grad-CAM": lambda model: GradCAM(model, [model.features]),
    }


def maps_of(make: MakeCAM, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """The maps (N, H, W), some images at a time."""
    parts = zip(images.split(32), classes.split(32), strict=True)
    with make(model) as cam:
        return torch.cat([class_maps(cam, x, y) for x, y in parts])


def correlation(one: Tensor, other: Tensor) -> float:
    """Mean over the images of Pearson's correlation of two maps (N, ...); 0 for a constant one."""
    a, b = (m.flatten(1) - m.flatten(1).mean(1, keepdim=True) for m in (one, other))
    norm = (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-9)
    return float(((a * b).sum(1) / norm).mean())


def ranks(maps: Tensor) -> Tensor:
    """The rank of each of 28 x 28 pixels of the maps (N, H, W), for Spearman's correlation."""
    small = F.adaptive_avg_pool2d(maps[:, None], 28).flatten(1)
    return small.argsort(1).argsort(1).float()


def class_sensitivity(bed: Testbed, make: MakeCAM, others: Tensor) -> dict[str, float]:
    """On the mosaics: the share of the map in the right cell; and the correlation of the maps of
    the class explained and of another one (`other_classes`)."""
    maps = maps_of(make, bed.model, bed.mosaics.images, bed.mosaics.classes)
    other = maps_of(make, bed.model, bed.mosaics.images, others)
    return {
        "grid pointing": 100 * float(grid_pointing(maps, bed.mosaics.cells).mean()),
        "maps of two present classes, r": correlation(maps, other),
    }


def other_classes(bed: Testbed) -> Tensor:
    """The most probable class of each mosaic that is not the one explained."""
    with torch.no_grad():
        scores = torch.cat([bed.model(part) for part in bed.mosaics.images.split(32)])
    return scores.scatter(1, bed.mosaics.classes[:, None], -torch.inf).argmax(1)


def randomised(model: nn.Module, seed: int = 0) -> dict[str, nn.Module]:
    """Step of the cascade -> a copy of the classifier with that much drawn anew."""
    models, model = {}, copy.deepcopy(model)
    torch.manual_seed(seed)
    for step, names in CASCADE.items():
        for name in names:
            for module in model.get_submodule(name).modules():
                if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                    module.reset_parameters()
        models[step] = copy.deepcopy(model)
    return models


def randomisation(bed: Testbed, make: MakeCAM, models: dict[str, nn.Module]) -> dict[str, float]:
    """Spearman's correlation of the maps before and after each step of the cascade."""
    images, classes = bed.pictures.images[bed.common], bed.pictures.classes[bed.common]
    before = ranks(maps_of(make, bed.model, images, classes))
    return {
        f"{step} random, rho": correlation(before, ranks(maps_of(make, model, images, classes)))
        for step, model in models.items()
    }


def masked_scores(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Tensor,
    normalization: Normalization,
    filling: str | Tensor = "black",
) -> dict[str, float]:
    """AD and IC at every threshold; maps of another size than the images are resized.

    Args:
        filling: as of `masked_confidence`; a tensor (N, C, H, W) shows where the mask hides.
    """
    maps = resize(maps, images.shape[2:])
    before, after = [], []
    for i in torch.arange(len(images)).split(32):
        behind = filling if isinstance(filling, str) else filling[i]
        arguments = model, images[i], maps[i], classes[i], normalization
        before.append(confidence(model, images[i], classes[i]))
        after.append(masked_confidence(*arguments, filling=behind))
    p, found = torch.cat(before), {}
    for keep in KEEP:
        q = torch.cat([part[keep] for part in after])
        found[f"AD {keep:.0%}"] = float(drops(p, q).mean())
        found[f"IC {keep:.0%}"] = float(increases(p, q).mean())
    return found


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--attention", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--limit", type=int, help="that many images, evenly spread")
def main(data: Path, attention: Path, out: Path, limit: int | None) -> None:
    bed = prepare(load_protocol("photos"), "efficientnet-lite0", out, data, limit=limit)
    normal, images, classes = bed.normalization, bed.pictures.images, bed.pictures.classes
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    fillings = {
        "white": normal.normalize(torch.ones_like(images)),
        "noise": normal.normalize(noise),
    }
    second, _ = efficientnet_lite(2)  # of the same normalisation
    larger = F.interpolate(images, (260, 260), mode="bilinear", antialias=True)
    pairs = zip(larger.split(32), classes.split(32), strict=True)
    agrees = torch.cat([confidence(second, x, y) > 0.3 for x, y in pairs])
    others, models = other_classes(bed), randomised(bed.model)
    tables: dict[str, list[dict[str, Any]]] = {}

    def keep(title: str, name: str, found: dict[str, Any]) -> None:
        tables.setdefault(title, []).append({"method": name, **found})

    for name, make in tqdm(explainers(attention).items(), desc="methods"):
        keep("class sensitivity", name, class_sensitivity(bed, make, others))
        keep("model-parameter randomisation", name, randomisation(bed, make, models))
        maps = maps_of(make, bed.model, images, classes)
        for filling, behind in fillings.items():
            found = masked_scores(bed.model, images, maps, classes, normal, behind)
            keep(f"filled with {filling}, {len(maps)} images", name, found)
        found = masked_scores(second, larger[agrees], maps[agrees], classes[agrees], normal)
        keep(f"EfficientNet-Lite2, {int(agrees.sum())} images", name, found)
    parts = []
    for title, rows in tables.items():
        digits = 2 if "rho" in str(rows) or ", r" in str(rows) else 1
        rounded = [
            {k: f"{v:.{digits}f}" if isinstance(v, float) else v for k, v in row.items()}
            for row in rows
        ]
        parts += [f"**{title}**", markdown_table(rounded)]
    leave(out, "sanity", parts, tables=tables)
