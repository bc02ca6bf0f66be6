"""Every metric of a method's maps, image by image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from learnable_cam_plugin.metrics import (
    KEEP,
    adcc,
    coherency,
    complexity,
    confidence,
    deletion,
    drops,
    energy_inside,
    grid_pointing,
    increases,
    insertion,
    masked_confidence,
    pointing_hit,
    road,
)

from .explanations import Explanations
from .workbench import Workbench

CURVE_STEPS = 14
# The tenth and the three tenths highest, and lowest: the library solves a sparse system for each,
# and more pixels removed cost seconds an image.
ROAD_PERCENTILES = (70, 90)


@dataclass(frozen=True)
class Metric:
    """A column of the results: what it is, in percent, and which way is better."""

    key: str
    title: str
    better: str
    group: str


def _masking(filling: str) -> list[Metric]:
    suffix = "" if filling == "black" else f" ({filling})"
    return [
        Metric(f"{name} {keep:.0%}{suffix}", f"{title}, {keep:.0%} kept", better, f"{filling} mask")
        for keep in KEEP
        for name, title, better in (
            ("AD", "average drop of the class probability", "lower"),
            ("IC", "images whose class probability rises", "higher"),
        )
    ]


METRICS = [
    *_masking("black"),
    Metric(
        "insertion",
        f"area under p, pixels added to a blur in {CURVE_STEPS} steps",
        "higher",
        "curves",
    ),
    Metric(
        "deletion", f"area under p, pixels turned black in {CURVE_STEPS} steps", "lower", "curves"
    ),
    Metric(
        "ROAD",
        "half of p without the least relevant pixels minus p without the most relevant, 10 % and "
        "30 % of them, imputed",
        "higher",
        "curves",
    ),
    Metric("coherency", "correlation with the map of the masked image", "higher", "ADCC"),
    Metric("complexity", "mean of the map", "lower", "ADCC"),
    Metric("ADCC", "harmonic mean of 100 - AD, coherency, 100 - complexity", "higher", "ADCC"),
    Metric("grid pointing", "share of a mosaic's map in the right cell", "higher", "location"),
    Metric("energy inside", "share of the map inside the true region", "higher", "location"),
    Metric("pointing game", "share of maps whose peak is inside", "higher", "location"),
    *_masking("mean"),
    *_masking("blur"),
]


@dataclass(frozen=True)
class Scores:
    """One metric of one method: a value for each image (or mosaic) of `index`."""

    index: list[int]
    values: list[float]


def score(bench: Workbench, found: Explanations, title: str) -> dict[str, Scores]:
    """Metric -> its values: the masked image's black columns and the location on all images
    explained, the rest on the common ones (`Workbench.common`)."""
    scores: dict[str, Scores] = {}

    def keep(key: str, index: Tensor, values: Tensor) -> None:
        scores[key] = Scores(index.tolist(), [round(v, 5) for v in values.double().tolist()])

    with tqdm(total=7, desc=f"{title}, scores", leave=False) as bar:
        for key, values in _masked(bench, found, found.index, "black").items():
            keep(key, found.index, values)
        bar.update()
        for filling in ("mean", "blur"):
            for key, values in _masked(bench, found, bench.common, filling).items():
                keep(key, bench.common, values)
            bar.update()
        images, classes = bench.images[bench.common], bench.classes[bench.common]
        maps = found.of(bench.common)
        device = next(bench.model.parameters()).device
        arguments = (bench.judge, images.to(device), maps.to(device), classes.to(device))
        curves: dict[str, Callable[..., Tensor]] = {"insertion": insertion, "deletion": deletion}
        for key, curve in curves.items():
            values = curve(*arguments, bench.normalization, steps=CURVE_STEPS)
            keep(key, bench.common, 100 * values.cpu())
            bar.update()
        values = road(*arguments, percentiles=ROAD_PERCENTILES, seed=bench.protocol.seed)
        keep("ROAD", bench.common, 100 * values.cpu())
        bar.update()
        again = found.of(found.again_index)
        coherent, area = coherency(again, found.again), complexity(again)
        before, after = _probabilities(bench, found, found.again_index, "black")
        drop = drops(before, after[1.0])
        keep("coherency", found.again_index, coherent)
        keep("complexity", bench.common, complexity(maps))
        keep("ADCC", found.again_index, adcc(drop, coherent, area))
        if len(found.mosaics):
            inside = grid_pointing(found.mosaics, bench.cells[found.mosaic_index])
            keep("grid pointing", found.mosaic_index, 100 * inside)
        if bench.regions is not None:
            regions = bench.regions[found.index]
            keep("energy inside", found.index, 100 * energy_inside(found.maps, regions))
            keep("pointing game", found.index, 100.0 * pointing_hit(found.maps, regions))
        bar.update()
    return scores


def _masked(
    bench: Workbench, found: Explanations, index: Tensor, filling: str
) -> dict[str, Tensor]:
    suffix = "" if filling == "black" else f" ({filling})"
    before, after = _probabilities(bench, found, index, filling)
    values = {}
    for keep, q in after.items():
        values[f"AD {keep:.0%}{suffix}"] = drops(before, q)
        values[f"IC {keep:.0%}{suffix}"] = increases(before, q)
    return values


def _probabilities(
    bench: Workbench, found: Explanations, index: Tensor, filling: str
) -> tuple[Tensor, dict[float, Tensor]]:
    """The class probabilities (n,) of images, clean and masked, both asked of the judge."""
    device = next(bench.model.parameters()).device
    before, after = [], []
    for part in index.split(32):
        images, classes = bench.images[part].to(device), bench.classes[part].to(device)
        maps = found.of(part).to(device)
        before.append(confidence(bench.judge, images, classes).cpu())
        q = masked_confidence(
            bench.judge, images, maps, classes, bench.normalization, filling=filling
        )
        after.append({keep: value.cpu() for keep, value in q.items()})
    return torch.cat(before), {keep: torch.cat([q[keep] for q in after]) for keep in KEEP}
