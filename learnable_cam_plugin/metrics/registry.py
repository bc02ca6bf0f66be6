"""Metrics as entries: what is asked, which way is better, on which images; and what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from ..masking import Normalization
from .adcc import adcc, coherency, complexity
from .confidence import KEEP, confidence, drops, increases, masked_confidence
from .localization import energy_inside, grid_pointing, pointing_hit
from .perturbation import deletion, insertion, road

Masked = tuple[Tensor, dict[float, Tensor]]
Given = TypeVar("Given")

CURVE_STEPS = 14
# The tenth and the three tenths highest, and lowest: the library solves a sparse system for each,
# and more pixels removed cost seconds an image.
ROAD_PERCENTILES = (70, 90)
BATCH = 32


@dataclass(frozen=True)
class Explained:
    """Images with a class and a map each: what a metric is computed of. All on the CPU.

    Attributes:
        model: the classifier, giving scores (N, K), or a fast copy of it; on any device.
        normalization: what the images went through.
        images, classes, maps: (N, C, H, W), normalised; (N,); (N, H, W) in [0, 1].
        seed: of what a metric draws.
        again: (N, H, W), the maps of the images masked by `maps`; for metrics of "again".
        regions: (N, H, W), bool, where the class is, if that is known.
        cells: (N,), the cell explained of each mosaic; for metrics of "mosaics".
    """

    model: nn.Module
    normalization: Normalization
    images: Tensor
    classes: Tensor
    maps: Tensor
    seed: int = 0
    again: Tensor | None = None
    regions: Tensor | None = None
    cells: Tensor | None = None
    _known: dict[str, Masked] = field(default_factory=dict, repr=False)
    _whole: tuple[Explained, Tensor] | None = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the model is, and so what it is handed."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def of(self, places: Tensor) -> Explained:
        """Some of the images (n,), by place; what was asked of all is not asked again."""
        some = {
            name: None if value is None else value[places]
            for name in ("images", "classes", "maps", "again", "regions", "cells")
            for value in (getattr(self, name),)
        }
        return replace(self, **some, _known={}, _whole=(self, places))  # type: ignore[arg-type]

    def masked(self, filling: str = "black") -> Masked:
        """The class probabilities (N,), clean, and of the masked images by the share kept.

        Asked of the model once for each filling, one of `FILLINGS`; see `masked_confidence`.
        """
        if filling not in self._known:
            whole, places = self._whole or (self, torch.empty(0))
            if filling in whole._known:
                before, after = whole._known[filling]
                self._known[filling] = before[places], {k: q[places] for k, q in after.items()}
            else:
                self._known[filling] = self._ask(filling)
        return self._known[filling]

    def _ask(self, filling: str) -> Masked:
        before, after = [], []
        for some in torch.arange(len(self.images)).split(BATCH):
            x, y, maps = (v[some].to(self.device) for v in (self.images, self.classes, self.maps))
            before.append(confidence(self.model, x, y).cpu())
            q = masked_confidence(self.model, x, maps, y, self.normalization, filling=filling)
            after.append({keep: value.cpu() for keep, value in q.items()})
        return torch.cat(before), {keep: torch.cat([q[keep] for q in after]) for keep in KEEP}

    def of_each(self, metric: Callable[..., Tensor], **options: object) -> Tensor:
        """`metric(model, images, maps, classes, **options)` (N,), computed where the model is."""
        parts = (value.to(self.device) for value in (self.images, self.maps, self.classes))
        return metric(self.model, *parts, **options).cpu()


@dataclass(frozen=True)
class Metric:
    """One column of a comparison.

    Attributes:
        key: its name, in tables and results.
        title: what it is, in a line.
        better: which way, "lower" or "higher".
        group: under which it is shown.
        compute: (N,), in percent, of what was explained.
        images: on which it is computed: "all" that a method explained; "common", those that every
            method explained; "again", those explained a second time, masked by their own map;
            "mosaics" of four images.
        needs_regions: it is computed only where true regions are known.
    """

    key: str
    title: str
    better: Literal["lower", "higher"]
    group: str
    compute: Callable[[Explained], Tensor]
    images: Literal["all", "common", "again", "mosaics"] = "common"
    needs_regions: bool = False


METRICS: dict[str, Metric] = {}


def register_metric(metric: Metric) -> Metric:
    """Add a metric to `METRICS`; from then on benchmarks compute and show it.

    Raises:
        ValueError: there is one of that key, or it has a direction or images that there are not.

    >>> sharp = Metric("peak", "highest value", "higher", "my own",
    ...                lambda explained: 100 * explained.maps.flatten(1).amax(1))
    >>> register_metric(sharp).images
    'common'
    >>> del METRICS["peak"]
    """
    if metric.key in METRICS:
        raise ValueError(f"there is a metric {metric.key!r} already: give yours another key")
    for name, options in (
        ("better", ("lower", "higher")),
        ("images", ("all", "common", "again", "mosaics")),
    ):
        if getattr(metric, name) not in options:
            raise ValueError(
                f"{name} of the metric {metric.key!r} must be one of {options}, got "
                f"{getattr(metric, name)!r}"
            )
    METRICS[metric.key] = metric
    return metric


def _given(value: Given | None, what: str) -> Given:
    if value is None:
        raise ValueError(f"this metric needs {what}, and the images explained come without")
    return value


def _masking(filling: str) -> list[Metric]:
    """Average drop and increase in confidence at every share kept."""
    suffix = "" if filling == "black" else f" ({filling})"
    return [
        Metric(
            f"{name} {keep:.0%}{suffix}",
            f"{title}, {keep:.0%} kept",
            better,
            f"{filling} mask",
            lambda e, of=of, keep=keep: of(e.masked(filling)[0], e.masked(filling)[1][keep]),  # type: ignore[misc]
            images="all" if filling == "black" else "common",
        )
        for keep in KEEP
        for name, title, better, of in (
            ("AD", "average drop of the class probability", "lower", drops),
            ("IC", "images whose class probability rises", "higher", increases),
        )
    ]


def _adcc(e: Explained) -> Tensor:
    before, after = e.masked("black")
    alike = coherency(e.maps, _given(e.again, "maps of the masked images"))
    return adcc(drops(before, after[1.0]), alike, complexity(e.maps))


for entry in (
    *_masking("black"),
    Metric(
        "insertion",
        f"area under p, pixels added to a blur in {CURVE_STEPS} steps",
        "higher",
        "curves",
        lambda e: 100 * e.of_each(insertion, normalization=e.normalization, steps=CURVE_STEPS),
    ),
    Metric(
        "deletion",
        f"area under p, pixels turned black in {CURVE_STEPS} steps",
        "lower",
        "curves",
        lambda e: 100 * e.of_each(deletion, normalization=e.normalization, steps=CURVE_STEPS),
    ),
    Metric(
        "ROAD",
        "half of p without the least relevant pixels minus p without the most relevant, 10 % and "
        "30 % of them, imputed",
        "higher",
        "curves",
        lambda e: 100 * e.of_each(road, percentiles=ROAD_PERCENTILES, seed=e.seed),
    ),
    Metric(
        "coherency",
        "correlation with the map of the masked image",
        "higher",
        "ADCC",
        lambda e: coherency(e.maps, _given(e.again, "maps of the masked images")),
        images="again",
    ),
    Metric("complexity", "mean of the map", "lower", "ADCC", lambda e: complexity(e.maps)),
    Metric(
        "ADCC",
        "harmonic mean of 100 - AD, coherency, 100 - complexity",
        "higher",
        "ADCC",
        _adcc,
        images="again",
    ),
    Metric(
        "grid pointing",
        "share of a mosaic's map in the right cell",
        "higher",
        "location",
        lambda e: 100 * grid_pointing(e.maps, _given(e.cells, "the cell of each mosaic")),
        images="mosaics",
    ),
    Metric(
        "energy inside",
        "share of the map inside the true region",
        "higher",
        "location",
        lambda e: 100 * energy_inside(e.maps, _given(e.regions, "true regions")),
        images="all",
        needs_regions=True,
    ),
    Metric(
        "pointing game",
        "share of maps whose peak is inside",
        "higher",
        "location",
        lambda e: 100.0 * pointing_hit(e.maps, _given(e.regions, "true regions")),
        images="all",
        needs_regions=True,
    ),
    *_masking("mean"),
    *_masking("blur"),
):
    register_metric(entry)
