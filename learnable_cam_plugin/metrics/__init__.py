"""How well a saliency map explains a classifier: a number an image; `METRICS` has them all."""

from ..data import cell_regions, mosaics
from .adcc import adcc, coherency, complexity
from .confidence import (
    KEEP,
    average_drop,
    check_saliency,
    confidence,
    drops,
    increase_in_confidence,
    increases,
    keep_top,
    masked_confidence,
)
from .intervals import Interval, bootstrap, wilson
from .localization import energy_inside, grid_pointing, pointing_hit
from .perturbation import deletion, insertion, road
from .registry import METRICS, Explained, Metric, register_metric

__all__ = [
    "KEEP",
    "METRICS",
    "Explained",
    "Interval",
    "Metric",
    "adcc",
    "average_drop",
    "bootstrap",
    "cell_regions",
    "check_saliency",
    "coherency",
    "complexity",
    "confidence",
    "deletion",
    "drops",
    "energy_inside",
    "grid_pointing",
    "increase_in_confidence",
    "increases",
    "insertion",
    "keep_top",
    "masked_confidence",
    "mosaics",
    "pointing_hit",
    "register_metric",
    "road",
    "wilson",
]
