"""Made-up analyses: what a report is written from, without a classifier."""

import numpy as np

from learnable_cam_plugin.analysis.analysis import Analysis, Pair
from learnable_cam_plugin.analysis.case import (
    Agreement,
    Case,
    Check,
    Maps,
    Neighbour,
    Photo,
    Trial,
    Verdict,
)

NAMES = ("goose", "drake", "coach", "minibus", "tennis ball", "terrier")
EVIL = "</script><img src=x onerror=window.evil=1><script>window.evil=1</script>"
EVIL_FILE = f'{EVIL}" & \u2028 $x$ {{{{ 7 * 7 }}}} <!-- the cases --> \udcff.jpg'
FOUND = (  # of the cases, one after the other
    "several objects",
    "near-identical classes",
    "broader or narrower label",
    "context",
    "label doubtful",
    "undetermined",
    "something in front",
)
RULES = {
    "several objects": ("overlap of the two regions", "p of predicted, its region alone"),
    "near-identical classes": ("overlap of the two regions", "p of other, its region alone"),
    "context": ("share of the region outside the object",),
}


def blob(centre: tuple[float, float], grid: tuple[int, int], top: float) -> np.ndarray:
    y, x = np.mgrid[: grid[0], : grid[1]]
    y, x = (y + 0.5) / grid[0] - centre[0], (x + 0.5) / grid[1] - centre[1]
    return (top * np.exp(-(y**2 + x**2) / 0.06)).astype(np.float32)


def region(found: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows = np.arange(size[0]) * found.shape[0] // size[0]
    columns = np.arange(size[1]) * found.shape[1] // size[1]
    return (found >= np.quantile(found, 0.85))[np.ix_(rows, columns)]


def made_case(
    number: int,
    *,
    name: str | None = None,
    correct: bool = False,
    size: tuple[int, int] = (48, 64),
    grid: tuple[int, int] = (6, 8),
    names: tuple[str, ...] = NAMES,
) -> Case:
    """A case whose numbers follow from `number`; its classes are neighbours in `names`."""
    some = np.random.default_rng(number)
    label = 2 * (number % (len(names) // 2))
    predicted, other = (label, label + 1) if correct else (label + 1, label)
    rest = next(i for i in range(len(names)) if i not in (predicted, other))
    p, q = 0.45 + 0.5 * some.random(), 0.05 * some.random()
    one, two = blob(some.random(2), grid, 0.3), blob(some.random(2), grid, 0.12)
    maps = Maps(one, two, np.maximum(one - two, 0), np.maximum(two - one, 0))
    trials = tuple(
        Trial(
            *(where, action, filling),
            *((p * 0.2, 0.6, other, 0.6) if where == "predicted" else (p, q, predicted, p)),
        )
        for action in ("erase", "keep")
        for where in ("predicted", "other", "contrast", "random")
        for filling in ("black", "mean", "blur")
    )
    cause = FOUND[number % len(FOUND)]
    in_front = {}
    if cause == "something in front":
        in_front = {"thing": region(blob((0.5, 0.5), grid, 1.0), size), "behind": region(two, size)}
        trials += tuple(
            Trial(where, "erase", filling, 0.1, 0.7, other, 0.7)
            for where in ("thing", "beside", "beside", "beside")
            for filling in ("black", "mean", "blur", "surroundings")
        )
    checks = {
        rule: tuple(Check(asked, 0.71, 0.5, True, rule == cause) for asked in conditions)
        for rule, conditions in RULES.items()
    }
    return Case(
        photo=Photo(name or f"{number:04d}_{names[label]}.jpg", label),
        predicted=predicted,
        other=other,
        probabilities={predicted: p, other: q, rest: 0.01},
        rank=2,
        size=size,
        maps=maps,
        regions={
            "predicted": region(one, size),
            "other": region(two, size),
            "contrast": region(maps.contrast, size),
            **in_front,
        },
        agreement=Agreement(0.4, -0.2, 0.3),
        trials=trials,
        verdict=None if correct else Verdict(cause, checks),
        neighbours=(Neighbour("train/1.jpg", other, 0.83),) if number % 2 else (),
        doubt=round(some.random(), 3),
    )


def made_analysis(errors: int = 8, correct: int = 3, **options) -> Analysis:
    cases = [
        made_case(number, correct=number >= errors, **options) for number in range(errors + correct)
    ]
    names = options.get("names", NAMES)
    found: dict[tuple[int, int], int] = {}
    for case in cases[:errors]:
        pair = (case.photo.label, case.predicted)
        found[pair] = found.get(pair, 0) + 1
    return Analysis(
        cases=tuple(cases),
        class_names=names,
        images=10 * (errors + correct),
        errors=errors,
        unread={"broken.jpg": "cannot identify image file"},
        pairs=tuple(
            Pair(label, predicted, count, 20, count // 2, 1, 4)
            for (label, predicted), count in found.items()
        ),
        contexts={1: tuple(case.photo.name for case in cases[:2])},
        settings={
            "model": "tiny",
            "layers": ["features.8"],
            "thresholds": {"overlap": 0.5, "likeness": float("nan")},
            "fillings": ("black", "mean", "blur"),
            "seed": np.int64(0),
            "versions": {"python": "3.11", "torch": "2.9"},
        },
    )


def photograph_of(analysis: Analysis):
    """Name -> noise with a gradient, of the case's size."""
    cases = {case.photo.name: case for case in analysis.cases}

    def photograph(name: str) -> np.ndarray:
        height, width = cases[name].size
        y, x = np.mgrid[:height, :width]
        ramp = np.stack([255 * y / height, 255 * x / width, np.full((height, width), 128)], -1)
        return ramp.astype(np.uint8)

    return photograph


def documented() -> Analysis:
    """One error, with what docs/reference/analysis-manifest.md shows of it."""
    grid = np.zeros((7, 7), np.float32)
    first, second = grid.copy(), grid.copy()
    first[2:4, 1:4], second[2:4, 1:5] = 0.75, 0.25
    case = Case(
        photo=Photo("geese/0412.jpg", 1),
        predicted=0,
        other=1,
        probabilities={0: 0.5, 1: 0.25},
        rank=2,
        size=(224, 224),
        maps=Maps(first, second, first - second, grid),
        regions={"predicted": region(first, (224, 224)), "other": region(second, (224, 224))},
        agreement=Agreement(overlap=0.75, correlation=0.5, distance=0.0625),
        trials=(
            Trial("contrast", "erase", "blur", 0.125, 0.625, 1, 0.625),
            Trial("elsewhere", "erase", "blur", 0.5, 0.25, 0, 0.5),
        ),
        verdict=Verdict(
            "near-identical classes",
            {
                "near-identical classes": (
                    Check("overlap of the two regions", 0.75, 0.5, True, True),
                    Check("correlation of the two maps", 0.75, 0.5, True, True),
                )
            },
        ),
        neighbours=(Neighbour("drakes/0007.jpg", 0, 0.875),),
        doubt=0.25,
    )
    return Analysis(
        cases=(case,),
        class_names=("drake", "goose"),
        images=200,
        errors=1,
        unread={"geese/broken.jpg": "cannot identify image file"},
        pairs=(Pair(1, 0, errors=1, of=100, shared=1, shared_when_correct=3, correct=8),),
        contexts={},
        settings={
            "model": "EfficientNetLite",
            "layers": ["model._conv_head"],
            "seed": 0,
            "versions": {"torch": "2.9.1"},
        },
    )
