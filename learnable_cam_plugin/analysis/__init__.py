"""Why was it wrong? Maps of both classes, tests of what they show, a cause, and a report."""

from .across import contexts, doubt, pairs
from .analysis import Analysis, Pair
from .case import CAUSES, Agreement, Case, Check, Maps, Neighbour, Photo, Trial, Verdict
from .causes import Thresholds, verdict
from .hierarchy import Hierarchy, hierarchy_of, read_hierarchy
from .study import analyze
from .written import write_report

__all__ = [
    "CAUSES",
    "Agreement",
    "Analysis",
    "Case",
    "Check",
    "Hierarchy",
    "Maps",
    "Neighbour",
    "Pair",
    "Photo",
    "Thresholds",
    "Trial",
    "Verdict",
    "analyze",
    "contexts",
    "doubt",
    "hierarchy_of",
    "pairs",
    "read_hierarchy",
    "verdict",
    "write_report",
]
