"""How well a saliency map explains a classifier: each metric gives a number an image.

| module | what is asked |
| --- | --- |
| `confidence` | does the class survive when only what the map shows is left? (the L-CAM paper) |
| `perturbation` | does it fade, and come back, in the map's order of pixels? (RISE, ROAD) |
| `localization` | does the map lie where the object is known to be? |
| `adcc` | is the map small, stable and sufficient at once? |
| `intervals` | how sure is a mean over images? |
| `registry` | every metric as an entry, for benchmarks; where one of your own is added |
"""

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
from .intervals import Interval, bootstrap
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
]
