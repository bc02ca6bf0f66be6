"""Metrics as entries: what is asked, which way is better, on which images; and what they are."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..classifier import device_of
from ..masking import Normalization
from .adcc import adcc, coherency, complexity
from .confidence import KEEP, confidence, drops, increases, masked_confidence
from .localization import energy_inside, grid_pointing, pointing_hit
from .perturbation import deletion, insertion, road

Masked = tuple[Tensor, dict[float, Tensor]]
Better = Literal["lower", "higher"]
On = Literal["all", "common", "again", "mosaics"]
Compute = Callable[["Explained"], Tensor]

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
    _whole: "tuple[Explained, Tensor] | None" = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the model is, and so what it is handed."""
        return device_of(self.model)

    def of(self, places: Tensor) -> "Explained":
        """Some of the images (n,), by place; what was asked of all is not asked again."""
        of_images = ("images", "classes", "maps", "again", "regions", "cells")
        some = {name: v[places] for name in of_images if (v := getattr(self, name)) is not None}
        return replace(self, **some, _known={}, _whole=(self, places))

    def given(self, name: str) -> Tensor:
        """`again`, `regions` or `cells`; an error if the images come without."""
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise ValueError(f"this metric needs {name!r}, and the images explained come without")
        return value

    def masked(self, filling: str = "black") -> Masked:
        """The class probabilities (N,), clean, and of the masked images by the share kept.

        Asked of the model once for each filling, one of `FILLINGS`; see `masked_confidence`.
        """
        if filling not in self._known:
            whole, places = self._whole or (self, torch.empty(0))
            if filling in whole._known:
                p, kept = whole._known[filling]
                self._known[filling] = p[places], {keep: q[places] for keep, q in kept.items()}
            else:
                self._known[filling] = self._ask(filling)
        return self._known[filling]

    def _ask(self, filling: str) -> Masked:
        p, kept = [], []
        for some in torch.arange(len(self.images)).split(BATCH):
            x, y, maps = (v[some].to(self.device) for v in (self.images, self.classes, self.maps))
            p.append(confidence(self.model, x, y).cpu())
            kept += [masked_confidence(self.model, x, maps, y, self.normalization, KEEP, filling)]
        return torch.cat(p), {keep: torch.cat([q[keep].cpu() for q in kept]) for keep in KEEP}

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
    better: Better
    group: str
    compute: Compute
    images: On = "common"
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
    for name, options in (("better", get_args(Better)), ("images", get_args(On))):
        if (value := getattr(metric, name)) not in options:
            raise ValueError(
                f"{name} of the metric {metric.key!r} must be one of {options}, got {value!r}"
            )
    METRICS[metric.key] = metric
    return metric


_TITLES = {
    "AD": "average drop of the class probability",
    "IC": "images whose class probability rises",
    "insertion": f"area under p, pixels added to a blur in {CURVE_STEPS} steps",
    "deletion": f"area under p, pixels turned black in {CURVE_STEPS} steps",
    "ROAD": "half of p without the least relevant pixels minus p without the most relevant, "
    "10 % and 30 % of them, imputed",
    "coherency": "correlation with the map of the masked image",
    "complexity": "mean of the map",
    "ADCC": "harmonic mean of 100 - AD, coherency, 100 - complexity",
    "grid pointing": "share of a mosaic's map in the right cell",
    "energy inside": "share of the map inside the true region",
    "pointing game": "share of maps whose peak is inside",
}


def _add(
    key: str, better: Better, group: str, compute: Compute, on: On = "common", regions: bool = False
) -> None:
    register_metric(Metric(key, _TITLES[key], better, group, compute, on, regions))


def _add_masking(filling: str) -> None:
    """Average drop and increase in confidence at every share kept."""
    suffix, group = "" if filling == "black" else f" ({filling})", f"{filling} mask"
    on: On = "common" if suffix else "all"
    for keep in KEEP:
        for name, of in (("AD", drops), ("IC", increases)):
            key, title = f"{name} {keep:.0%}{suffix}", f"{_TITLES[name]}, {keep:.0%} kept"
            better: Better = "lower" if of is drops else "higher"
            compute = _after_masking(of, filling, keep)
            register_metric(Metric(key, title, better, group, compute, on))


def _after_masking(of: Callable[..., Tensor], filling: str, keep: float) -> Compute:
    return lambda e: of(e.masked(filling)[0], e.masked(filling)[1][keep])


def _curve(area: Callable[..., Tensor]) -> Compute:
    return lambda e: 100 * e.of_each(area, normalization=e.normalization, steps=CURVE_STEPS)


def _share(of: Callable[..., Tensor], beside: str) -> Compute:
    return lambda e: 100.0 * of(e.maps, e.given(beside))


def _road(e: Explained) -> Tensor:
    return 100 * e.of_each(road, percentiles=ROAD_PERCENTILES, seed=e.seed)


def _adcc(e: Explained) -> Tensor:
    p, kept = e.masked("black")
    return adcc(drops(p, kept[1.0]), coherency(e.maps, e.given("again")), complexity(e.maps))


_add_masking("black")
_add("insertion", "higher", "curves", _curve(insertion))
_add("deletion", "lower", "curves", _curve(deletion))
_add("ROAD", "higher", "curves", _road)
_add("coherency", "higher", "ADCC", lambda e: coherency(e.maps, e.given("again")), "again")
_add("complexity", "lower", "ADCC", lambda e: complexity(e.maps))
_add("ADCC", "higher", "ADCC", _adcc, "again")
_add("grid pointing", "higher", "location", _share(grid_pointing, "cells"), "mosaics")
_add("energy inside", "higher", "location", _share(energy_inside, "regions"), "all", True)
_add("pointing game", "higher", "location", _share(pointing_hit, "regions"), "all", True)
_add_masking("mean")
_add_masking("blur")
