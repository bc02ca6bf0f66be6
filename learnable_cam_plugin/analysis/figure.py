"""A case as one static picture, for print: what it says are names and numbers."""

import os
from collections.abc import Sequence
from statistics import fmean
from textwrap import fill, shorten, wrap
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ..atomic import atomic_path
from .case import Case, Trial
from .pictures import KINDS, Pixels, brightest, enlarged

PREDICTED, OTHER, REST, THING = "#c2410c", "#1d5fbf", "#8a8d94", "#15803d"  # the page's colours
_STYLE: Any = {
    "text.parse_math": False,  # a $ in a name is a dollar, not a formula
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}


def write_figure(
    path: str | os.PathLike[str],
    case: Case,
    class_names: Sequence[str],
    pixels: Pixels | None = None,
    dpi: int = 200,
) -> None:
    """Draw a case for print: the photograph with the two regions outlined, and with something in
    front if that is the cause, the four maps on one scale with one colour bar, the most probable
    classes, both classes' probabilities after each change to the image (of several random regions
    their mean), and the cause with its conditions.

    Args:
        path: where to; its suffix says what: .png, .pdf or .svg.
        case, class_names: of the analysis.
        pixels: the image as the classifier sees it, RGB, uint8, (H, W, 3); without it, grey.
        dpi: pixels an inch, of 7.2 inches; of a .png.

    Raises:
        OSError: the file cannot be written.
    """
    with rc_context(_STYLE), atomic_path(path) as temporary:
        _draw(case, class_names, pixels).savefig(temporary, dpi=dpi)


def _draw(case: Case, class_names: Sequence[str], pixels: Pixels | None) -> Figure:
    names = {index: shorten(name, 26, placeholder="…") for index, name in enumerate(class_names)}
    predicted, other = names[case.predicted], names[case.other]
    fillings = list(dict.fromkeys(trial.filling for trial in case.trials))
    tried = list(dict.fromkeys((trial.action, trial.region) for trial in case.trials))
    tried.sort(key=lambda row: row[0])  # a region stands above its control
    lines = _verdict(case)
    heights = [1.75, 0.45 + 0.14 * max(6, 2 * len(tried) + 2), 0.25 + 0.12 * len(lines)]
    figure = Figure(figsize=(7.2, sum(heights)))
    grid = figure.add_gridspec(3, 1, height_ratios=heights)
    top, middle, bottom = (figure.add_subfigure(grid[row]) for row in range(3))
    _draw_maps(top, case, predicted, other, pixels)
    widths = [1.0] + [0.9] * len(fillings)
    axes = middle.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    _draw_probabilities(axes[0], case, names)
    regions = {
        "predicted": f"region of {predicted}",
        "other": f"region of {other}",
        "contrast": f"what speaks for {predicted}",
        "random": "a random region",
        "elsewhere": "a random one of that shape",
        "thing": "what may be in front",
        "beside": "a random one of its shape",
    }
    rows = [f"{action} {regions[region]}" for action, region in tried]
    for place, filling in enumerate(fillings):
        shown = [trial for trial in case.trials if trial.filling == filling]
        _draw_trials(axes[1 + place], case, shown, tried)
        axes[1 + place].set(title=f"filled with {filling}", xlabel="probability")
        axes[1 + place].set_yticks(range(len(rows) + 1), ["unchanged", *rows] if not place else [])
    bottom.text(0.012, 0.98, "\n".join(lines), va="top", linespacing=1.35)
    return figure


def _draw_maps(
    figure: SubFigure, case: Case, predicted: str, other: str, pixels: Pixels | None
) -> None:
    titles = {
        "predicted": predicted,
        "other": other,
        "contrast": f"{predicted} rather than {other}",
        "reverse": f"{other} rather than {predicted}",
    }
    axes = figure.subplots(1, 5)
    axes[0].imshow(np.full((*case.size, 3), 128, np.uint8) if pixels is None else pixels)
    axes[0].set_title(fill("true class: " + (predicted if case.correct else other), 22))
    outlines = {"other": OTHER, "predicted": PREDICTED}
    if case.cause == "something in front":
        outlines["thing"] = THING
    for kind, colour in outlines.items():
        region = case.regions[kind]
        if 0 < region.mean() < 1:
            axes[0].contour(region, levels=[0.5], colors=colour, linewidths=1)
    scale = brightest(case)
    for axis, kind in zip(axes[1:], KINDS, strict=True):
        found = enlarged(getattr(case.maps, kind), case.size)
        drawn = axis.imshow(found, cmap="viridis", vmin=0, vmax=scale)
        axis.set_title(fill(titles[kind], 22))
    for axis in axes:
        axis.set_axis_off()
    figure.colorbar(drawn, ax=axes, fraction=0.02, pad=0.01)


def _draw_probabilities(axis: Axes, case: Case, names: dict[int, str]) -> None:
    colours = {case.predicted: PREDICTED, case.other: OTHER}
    classes = sorted(case.probabilities, key=lambda index: case.probabilities[index])
    values = [case.probabilities[index] for index in classes]
    shades = [colours.get(index, REST) for index in classes]
    bars = axis.barh(range(len(classes)), values, 0.5, color=shades)
    axis.bar_label(bars, [_number(value) for value in values], padding=2, fontsize=6)
    axis.set(xlim=(0, 1.25), xticks=[0, 0.5, 1], title="most probable", xlabel="probability")
    axis.set_yticks(range(len(classes)), [names[index] for index in classes])


def _draw_trials(axis: Axes, case: Case, trials: list[Trial], tried: list[tuple[str, str]]) -> None:
    before = (case.probabilities[case.predicted], case.probabilities[case.other])
    points = [(0, before)]
    for row, done in enumerate(tried, 1):
        of_row = [(t.predicted, t.other) for t in trials if (t.action, t.region) == done]
        if of_row:
            predicted, other = (fmean(values) for values in zip(*of_row, strict=True))
            points.append((row, (predicted, other)))
    for offset, which, colour in ((-0.2, 0, PREDICTED), (0.2, 1, OTHER)):
        rows = [row + offset for row, _ in points]
        values = [pair[which] for _, pair in points]
        bars = axis.barh(rows, values, 0.38, color=colour)
        axis.bar_label(bars, [_number(value) for value in values], padding=2, fontsize=6)
    axis.set(xlim=(0, 1.25), xticks=[0, 0.5, 1], ylim=(len(tried) + 0.6, -0.6))


def _verdict(case: Case) -> list[str]:
    agreement = case.agreement
    lines = [
        f"{case.photo.name}; {case.cause}; overlap of the regions {_number(agreement.overlap)}, "
        f"rank correlation {_number(agreement.correlation)}, doubt {_number(case.doubt)}"
    ]
    for cause, checks in ({} if case.verdict is None else case.verdict.checks).items():
        asked = "; ".join(
            f"{check.name} {_asked(check.value)} {'≥' if check.above else '≤'} "
            f"{_asked(check.bound)} {'holds' if check.holds else 'fails'}"
            for check in checks
        )
        lines.append(f"{cause}: {asked}")
    printed = [line.encode("utf-8", "backslashreplace").decode() for line in lines]
    return [part for line in printed for part in wrap(line, 140, subsequent_indent="    ")]


def _asked(value: float) -> str:
    whole = float(value).is_integer()  # some are counts
    return f"{value:.0f}" if whole else _number(value)


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.01 or not value else f"{value:.0e}"
