"""A benchmark's results as pictures, for a README."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from learnable_cam_plugin.checkpoint import atomic_path

from .gallery import gallery_figure, gallery_methods
from .schema import (
    GROUPS,
    SUBSETS,
    Results,
    SubsetName,
    finite,
    kind_of,
    mean_score,
    passes_of,
    read_results,
)

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
# pixels from a point to where its label may begin
GAPS = (11, 24, 44, 72)


def write_figures(folder: str | os.PathLike[str]) -> list[Path]:
    """Write `quality-against-passes.png` and, where there is a gallery, `gallery.png`.

    Args:
        folder: what a benchmark wrote: `results.json`, and the gallery's images that it names.

    Returns:
        the pictures' paths.

    Raises:
        FileNotFoundError: there is no `results.json`, or an image that it names is missing.
        ValueError: `results.json` is damaged, or holds no score of a method with known passes.
    """
    folder = Path(folder)
    results = read_results(folder)
    with rc_context({"text.parse_math": False}):  # a $ in a name is a dollar, not a formula
        figures = {"quality-against-passes.png": _quality_figure(folder, results)}
        if (results.get("gallery") or {}).get("images") and gallery_methods(results):
            figures["gallery.png"] = gallery_figure(folder, results)
        for name, figure in figures.items():
            with atomic_path(folder / name) as temporary:
                figure.savefig(temporary, dpi=DPI)
    return [folder / name for name in figures]


def _panels(folder: Path, results: Results) -> tuple[SubsetName, list[dict[str, str]]]:
    """The subset and the two metrics drawn: PANELS, or the first that have a better side."""
    methods = [method for method in results["methods"] if passes_of(method) is not None]
    for subset in SUBSETS:
        scored = [
            metric
            for metric in results["metrics"]
            if metric.get("better") in ("lower", "higher")
            and any(mean_score(m, subset, metric["key"]) for m in methods)
        ]
        preferred = [metric for metric in scored if metric["key"] in PANELS]
        if scored:
            return subset, (preferred if len(preferred) == len(PANELS) else scored)[: len(PANELS)]
    raise ValueError(
        f"{folder / 'results.json'} has no score with a better side of a method whose passes are "
        "known: there is nothing to draw; run the benchmark again"
    )


class Point(NamedTuple):
    """A method in a panel: passes, at least 1/2, across; a score and its interval upwards."""

    name: str
    kind: str
    passes: float
    mean: float
    low: float
    high: float


def _points(results: Results, subset: SubsetName, key: str) -> list[Point]:
    points = []
    for method in results["methods"]:
        found, passes = mean_score(method, subset, key), passes_of(method)
        if found and passes is not None and finite(mean := found["mean"]):
            low, high = (v if finite(v) else mean for v in (found.get("low"), found.get("high")))
            points.append(
                Point(method["method"], kind_of(method), max(passes, 0.5), mean, low, high)
            )
    return points


def _quality_figure(folder: Path, results: Results) -> Figure:
    """Scores against passes, log x; a method with no pass at all stands at 1/2, marked 0."""
    subset, metrics = _panels(folder, results)
    figure = Figure(figsize=(6.8 * len(metrics), 5.6), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = []
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axis, metric in zip(axes, metrics, strict=True):
        points = _points(results, subset, metric["key"])
        for kind, (colour, marker, size) in STYLES.items():
            chosen = [point for point in points if point.kind == kind]
            if chosen:
                _, _, x, mean, low, high = zip(*chosen, strict=True)
                axis.vlines(x, low, high, color=colour, alpha=0.4, linewidth=1.3)
                axis.plot(x, mean, marker, color=colour, ms=size, label=GROUPS[kind], zorder=3)
        first = min(point.passes for point in points)
        last = max(10, *(point.passes for point in points))
        room = (last / first) ** 0.12
        axis.set_xscale("log")
        axis.set_xlim(first / room, last * room)
        ticks = [t for t in (0.5, 1, 2, 10, 100, 1000, 10_000, 100_000) if first <= t <= last]
        axis.set_xticks(ticks, ["0" if t == 0.5 else f"{t:,}" for t in ticks])
        axis.minorticks_off()
        axis.margins(y=0.08)
        arrow = {"lower": "↓", "higher": "↑"}[metric["better"]]
        unit = f", {metric['unit']}" if metric.get("unit") else ""
        images = "common subset" if subset == "common" else "all images"
        axis.set_title(f"{metric['key']}, {images} ({metric['better']} is better {arrow})")
        axis.set_ylabel(f"{metric.get('title') or metric['key']}{unit}")
        axis.set_xlabel("forward + backward passes for one map")
        axis.grid(axis="y", color="#e3e2de", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
        panels.append((axis, points))
    handles: dict[str, Artist] = {}
    for axis, _ in panels:
        marks, names = axis.get_legend_handles_labels()
        handles |= dict(zip(names, marks, strict=True))
    legend: dict[str, Any] = {"ncols": len(handles), "frameon": False, "fontsize": 9}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", **legend)
    figure.draw_without_rendering()  # settles the layout, in which labels are then placed
    figure.set_layout_engine("none")
    for axis, points in panels:
        _label(axis, points)
    return figure


def _label(axis: Axes, points: Sequence[Point]) -> None:
    """Name each point where it costs least: near it, over no label, no marker and few bars."""
    renderer = axis.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    ends = [[(p.passes, p.mean), (p.passes, p.low), (p.passes, p.high)] for p in points]
    mark, low, high = (
        axis.transData.transform(np.reshape(ends, (-1, 2))).reshape(-1, 3, 2).swapaxes(0, 1)
    )
    markers = np.hstack([mark - 7, mark + 7])
    bars = np.hstack([low - 1, high + 1])
    placed = np.empty((0, 4))
    heights = range(-140, 141, 5)
    offsets = np.array([(gap * side, dy) for dy in heights for gap in GAPS for side in (1, -1)])
    right = offsets[:, 0] > 0
    distance = np.abs(offsets) @ [0.6, 1.0]
    for i in sorted(range(len(points)), key=lambda i: list(STYLES).index(points[i].kind)):
        own = points[i].kind == "learned"
        style: dict[str, Any] = {"fontsize": 7.5, "fontweight": "bold" if own else "normal"}
        text = axis.text(0, 0, points[i].name, **style)
        size = text.get_window_extent(renderer)
        text.remove()
        corner = mark[i] + offsets - [0, size.height / 2]
        corner[~right, 0] -= size.width
        boxes = np.hstack([corner, corner + np.array([size.width, size.height])])
        outside = (corner < axis.bbox.min).any(1) | (boxes[:, 2:] > axis.bbox.max).any(1)
        cost = distance + 1e5 * outside + 15 * _overlaps(boxes, placed)
        cost += 2 * _overlaps(boxes, markers) + 0.6 * _overlaps(boxes, bars)
        best = int(cost.argmin())
        placed = np.vstack([placed, boxes[best]])
        colour = STYLES[points[i].kind][0]
        leader = {"arrowstyle": "-", "color": colour, "alpha": 0.5, "linewidth": 0.7, "shrinkA": 0}
        far = distance[best] > distance.min() + 6
        axis.annotate(
            points[i].name,
            (points[i].passes, points[i].mean),
            tuple(offsets[best] * 72 / DPI),
            textcoords="offset points",
            ha="left" if right[best] else "right",
            va="center",
            color=colour if own else "#1c1d20",
            arrowprops={**leader, "relpos": (0.0 if right[best] else 1.0, 0.5)} if far else None,
            zorder=4,
            **style,
        )


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area in pixels that each of (N, 4) boxes (left, bottom, right, top) shares with others."""
    sides = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(
        boxes[:, None, :2], others[:, :2]
    )
    return sides.clip(0).prod(2).sum(1)
