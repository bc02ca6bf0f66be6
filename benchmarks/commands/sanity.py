"""Are high scores explanations? Checks that a map trained for the scores could fail.

    python benchmarks/checks.py --data VAL_FOLDER --attention FILE --out DIR

- Class sensitivity: on mosaics of four images, do the maps of two present classes differ?
- Model-parameter randomisation (Adebayo et al., NeurIPS 2018): as the classifier's weights are
  drawn anew from its head downwards, does the map change?
- Fillings that no training saw: white, and noise.
- A second classifier, EfficientNet-Lite2, of another depth, width and image size: does it still
  see the class in the masked image?

Leaves checks.json and checks.md. Nothing is downloaded.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: import the folder's modules as a package's
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import click
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.protocol import load_protocol
from benchmarks.results import leave
from benchmarks.workbench import Workbench, prepare
from learnable_cam_plugin import LearnableCAM, load_attention
from learnable_cam_plugin.comparison import explain, markdown_table
from learnable_cam_plugin.metrics import KEEP, confidence, drops, grid_pointing, increases
from learnable_cam_plugin.metrics.confidence import keep_top
from learnable_cam_plugin.photos import efficientnet_lite

MakeCAM = Callable[[nn.Module], BaseCAM]
# From the head downwards; each step draws its part anew too, on top of those before.
CASCADE = {"head": ["head"], "last stage": ["features.last"], "all": ["features"]}


def methods(attention: Path) -> dict[str, MakeCAM]:
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


def explained(make: MakeCAM, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """The maps (N, H, W), some images at a time."""
    parts = zip(images.split(32), classes.split(32), strict=True)
    with make(model) as cam:
        return torch.cat([explain(cam, x, y) for x, y in parts])


def correlation(one: Tensor, other: Tensor) -> float:
    """Mean over the images of Pearson's correlation of two maps (N, ...); 0 for a constant one."""
    a, b = (m.flatten(1) - m.flatten(1).mean(1, keepdim=True) for m in (one, other))
    norm = (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-9)
    return float(((a * b).sum(1) / norm).mean())


def ranks(maps: Tensor) -> Tensor:
    """The rank of each of 28 x 28 pixels of the maps (N, H, W), for Spearman's correlation."""
    small = F.adaptive_avg_pool2d(maps[:, None], 28).flatten(1)
    return small.argsort(1).argsort(1).float()


def class_sensitivity(bench: Workbench, make: MakeCAM, others: Tensor) -> dict[str, float]:
    """On the mosaics: the share of the map in the right cell; and the correlation of the maps of
    the class explained and of another one (`other_classes`)."""
    maps = explained(make, bench.model, bench.mosaics, bench.mosaic_classes)
    other = explained(make, bench.model, bench.mosaics, others)
    return {
        "grid pointing": 100 * float(grid_pointing(maps, bench.cells).mean()),
        "maps of two present classes, r": correlation(maps, other),
    }


def other_classes(bench: Workbench) -> Tensor:
    """The most probable class of each mosaic that is not the one explained."""
    with torch.no_grad():
        scores = torch.cat([bench.model(part) for part in bench.mosaics.split(32)])
    return scores.scatter(1, bench.mosaic_classes[:, None], -torch.inf).argmax(1)


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


def randomisation(
    bench: Workbench, make: MakeCAM, models: dict[str, nn.Module]
) -> dict[str, float]:
    """Spearman's correlation of the maps before and after each step of the cascade."""
    images, classes = bench.images[bench.common], bench.classes[bench.common]
    before = ranks(explained(make, bench.model, images, classes))
    return {
        f"{step} random, rho": correlation(before, ranks(explained(make, model, images, classes)))
        for step, model in models.items()
    }


def masked_scores(
    model: nn.Module, images: Tensor, maps: Tensor, classes: Tensor, behind: Tensor
) -> dict[str, float]:
    """AD and IC at every threshold, with `behind` (N, C, H, W) where the mask hides."""
    before, after = [], {keep: [] for keep in KEEP}  # type: ignore[var-annotated]
    for i in torch.arange(len(images)).split(32):
        before.append(confidence(model, images[i], classes[i]))
        for keep in KEEP:
            mask = F.interpolate(keep_top(maps[i], keep)[:, None], images.shape[2:])
            masked = torch.lerp(behind[i], images[i], mask)
            after[keep].append(confidence(model, masked, classes[i]))
    p, found = torch.cat(before), {}
    for keep in KEEP:
        q = torch.cat(after[keep])
        found[f"AD {keep:.0%}"] = float(drops(p, q).mean())
        found[f"IC {keep:.0%}"] = float(increases(p, q).mean())
    return found


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--attention", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--limit", type=int, help="that many images, evenly spread")
def main(data: Path, attention: Path, out: Path, limit: int | None) -> None:
    bench = prepare(load_protocol("photos"), "efficientnet-lite0", out, data, limit=limit)
    normal = bench.normalization
    noise = torch.rand(bench.images.shape, generator=torch.Generator().manual_seed(0))
    fillings = {
        "white": normal.normalize(torch.ones_like(bench.images)),
        "noise": normal.normalize(noise),
    }
    second, _ = efficientnet_lite(2)  # of the same normalisation
    larger = F.interpolate(bench.images, (260, 260), mode="bilinear", antialias=True)
    pairs = zip(larger.split(32), bench.classes.split(32), strict=True)
    agrees = torch.cat([confidence(second, x, y) > 0.3 for x, y in pairs])
    others, models = other_classes(bench), randomised(bench.model)
    tables: dict[str, list[dict[str, Any]]] = {}

    def keep(title: str, name: str, found: dict[str, Any]) -> None:
        tables.setdefault(title, []).append({"method": name, **found})

    for name, make in tqdm(methods(attention).items(), desc="methods"):
        keep("class sensitivity", name, class_sensitivity(bench, make, others))
        keep("model-parameter randomisation", name, randomisation(bench, make, models))
        maps = explained(make, bench.model, bench.images, bench.classes)
        for filling, behind in fillings.items():
            found = masked_scores(bench.model, bench.images, maps, bench.classes, behind)
            keep(f"filled with {filling}, {len(maps)} images", name, found)
        black = normal.normalize(torch.zeros_like(larger[:1])).expand_as(larger)
        found = masked_scores(
            second, larger[agrees], maps[agrees], bench.classes[agrees], black[agrees]
        )
        keep(f"EfficientNet-Lite2, {int(agrees.sum())} images", name, found)
    parts = []
    for title, rows in tables.items():
        digits = 2 if "rho" in str(rows) or ", r" in str(rows) else 1
        rounded = [
            {k: f"{v:.{digits}f}" if isinstance(v, float) else v for k, v in row.items()}
            for row in rows
        ]
        parts += [f"**{title}**", markdown_table(rounded)]
    leave(out, "checks", parts, tables=tables)


if __name__ == "__main__":
    main()
