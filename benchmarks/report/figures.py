"""A benchmark's results as pictures, for a README."""

import os
from collections import namedtuple
from pathlib import Path
from typing import Any

import textalloc
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from learnable_cam_plugin.atomic import atomic_path

from . import schema
from .gallery import gallery_figure, gallery_methods

DPI = 110
# kind -> colour, marker, size: the page's, told apart by shape as well as by colour
STYLES = {
    "learned": ("#c2410c", "*", 13.0),
    "gradient": ("#1d5fbf", "o", 6.5),
    "gradient-free": ("#0b7a5e", "s", 6.0),
    "perturbation": ("#7c3aed", "^", 7.0),
    "floor": ("#6b7280", "x", 6.0),
}
# What the paper's loss trains for, beside what it never sees: the gain and its price.
PANELS = ("AD 100%", "AD 50%")
ARROWS = {"lower": "↓", "higher": "↑"}
_LEAST = 1e-3  # what a panel's scores span at least
# where a point's name is tried, the best first
SIDES = ["east", "west", "southeast", "southwest", "northeast", "northwest", "south", "north"]


def write_figures(folder: str | os.PathLike[str]) -> list[Path]:
    """Write `quality-against-passes.png` and, where there is a gallery, `gallery.png`.

    Raises FileNotFoundError where the folder's `results.json` or an image that it names is missing,
    and ValueError where it is damaged or has no score of a method with known passes.
    """
    folder = Path(folder)
    results = schema.read_results(folder)
    with rc_context({"text.parse_math": False}):  # a $ in a name is a dollar, not a formula
        figures = {"quality-against-passes.png": _quality_figure(folder, results)}
        if (results.get("gallery") or {}).get("images") and gallery_methods(results):
            figures["gallery.png"] = gallery_figure(folder, results)
        for name, figure in figures.items():
            with atomic_path(folder / name) as temporary:
                figure.savefig(temporary, dpi=DPI)
    return [folder / name for name in figures]


def _panels(
    folder: Path, results: schema.Results
) -> tuple[schema.SubsetName, list[dict[str, str]]]:
    """The subset and the two metrics drawn: PANELS, or the first that have a better side."""
    sided = [metric for metric in results["metrics"] if metric.get("better") in ARROWS]
    for subset in schema.SUBSETS:
        scored = [metric for metric in sided if _points(results, subset, metric["key"])]
        preferred = [metric for metric in scored if metric["key"] in PANELS]
        if scored:
            return subset, (preferred if len(preferred) == len(PANELS) else scored)[: len(PANELS)]
    raise ValueError(
        f"{folder / 'results.json'} has no score with a better side of a method whose passes are "
        "known: there is nothing to draw; run the benchmark again"
    )


# A method in a panel: passes, at least 1/2, across; a score and its interval upwards.
Point = namedtuple("Point", ["name", "kind", "passes", "mean", "low", "high"])


def _points(results: schema.Results, subset: schema.SubsetName, key: str) -> list[Point]:
    points = []
    for method in results["methods"]:
        found, passes = schema.mean_score(method, subset, key), schema.passes_of(method)
        if found and passes is not None:
            mean = found["mean"]
            ends = (v if schema.finite(v) else mean for v in (found.get("low"), found.get("high")))
            kind = schema.kind_of(method)
            points.append(Point(method["method"], kind, max(passes, 0.5), mean, *ends))
    return points


def _quality_figure(folder: Path, results: schema.Results) -> Figure:
    """Scores against passes, log x; a method with no pass at all stands at 1/2, marked 0."""
    subset, metrics = _panels(folder, results)
    images = "common subset" if subset == "common" else "all images"
    figure = Figure(figsize=(6.8 * len(metrics), 6.4), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    panels = [_points(results, subset, metric["key"]) for metric in metrics]
    handles = {}
    for axis, metric, points in zip(axes, metrics, panels, strict=True):
        for kind, (colour, marker, size) in STYLES.items():
            if chosen := [point for point in points if point.kind == kind]:
                _, _, x, mean, low, high = zip(*chosen, strict=True)
                axis.vlines(x, low, high, color=colour, alpha=0.4, linewidth=1.3)
                (mark,) = axis.plot(x, mean, marker, color=colour, ms=size, zorder=3)
                handles[schema.GROUPS[kind]] = mark
        passes = [point.passes for point in points]
        first, last = min(passes), max(10, *passes)
        room = (last / first) ** 0.12
        axis.set(xscale="log", xlim=(first / room, last * room))
        ticks = [t for t in (0.5, 1, 2, 10, 100, 1000, 10_000, 100_000) if first <= t <= last]
        axis.set_xticks(ticks, ["0" if t == 0.5 else f"{t:,}" for t in ticks])
        axis.minorticks_off()
        axis.margins(y=0.08)
        # for good, as names are placed by it, and of a size: scores may differ by rounding alone
        bottom, top = axis.get_ylim()
        middle, half = (bottom + top) / 2, max(top - bottom, _LEAST) / 2
        axis.set_ylim(middle - half, middle + half)
        key, side = metric["key"], metric["better"]
        unit = f", {metric['unit']}" if metric.get("unit") else ""
        axis.set_title(f"{key}, {images} ({side} is better {ARROWS[side]})")
        axis.set_ylabel(f"{metric.get('title') or key}{unit}")
        axis.set_xlabel("forward + backward passes for one map")
        axis.grid(axis="y", color="#e3e2de", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
    legend: dict[str, Any] = {"ncols": len(handles), "frameon": False, "fontsize": 9}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", **legend)
    figure.draw_without_rendering()  # settles the layout, in which labels are then placed
    figure.set_layout_engine("none")
    for axis, points in zip(axes, panels, strict=True):
        _label(axis, points)
    return figure


def _label(axis: Axes, points: list[Point]) -> None:
    """Name each point close by, over no marker, name or leader; the learned choose first."""
    points = sorted(points, key=lambda point: (list(STYLES).index(point.kind), point.mean))
    names, kinds, x, y, _, _ = map(list, zip(*points, strict=True))
    radii: list[Any] = [7] * len(points)  # pixels around a marker
    textalloc.allocate(
        axis,
        x,
        y,
        names,
        x_scatter=x,
        y_scatter=y,
        scatter_sizes=radii,
        margin=0,
        min_distance=0.012,  # of a name from its point, as a part of the panel
        max_distance=0.1,
        nbr_candidates=500,
        direction=SIDES,
        avoid_label_lines_overlap=True,
        textsize=7.5,
        fontweight=["bold" if kind == "learned" else "normal" for kind in kinds],
        textcolor=[STYLES[kind][0] if kind == "learned" else "#1c1d20" for kind in kinds],
        linecolor=[STYLES[kind][0] for kind in kinds],
        plot_kwargs={"alpha": 0.5, "linewidth": 0.7},
        zorder=4,
    )
