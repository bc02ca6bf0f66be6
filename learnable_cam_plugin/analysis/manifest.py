"""An analysis as plain data, for `manifest.json` and `cases.csv`.

The fields that torch-cam (0.5) writes for one image have its names here where they mean the same:
those of the run on top, those of an image with each case.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from ..metrics import wilson
from .analysis import Analysis, Pair
from .case import Case
from .pictures import ALPHA, brightest

SCHEMA_VERSION = 1
CASES = "cases"  # the folder of what is written of each case
IMAGE = "image.jpg"
FIGURE = "figure.png"
Record = dict[str, Any]


def folder_of(analysis: Analysis, number: int) -> str:
    """The folder of a case, below the report's: its number and what can be kept of its name."""
    digits = max(4, len(str(len(analysis.cases))))
    stem = PurePath(analysis.cases[number].photo.name).stem
    name = re.sub(r"[^A-Za-z0-9_]+", "-", stem)[:40].strip("-")
    return f"{CASES}/{number + 1:0{digits}d}{'-' * bool(name)}{name}"


def run_record(analysis: Analysis) -> Record:
    """All of an analysis but its cases."""
    settings = analysis.settings
    return plain(
        {
            "schema_version": SCHEMA_VERSION,
            "method": "LearnableCAM",
            "model": settings.get("model"),
            "target_layers": _layers(analysis),
            "versions": settings.get("versions", {}),
            "alpha": ALPHA,
            "images": analysis.images,
            "errors": analysis.errors,
            "unread": analysis.unread,
            "causes": causes(analysis),
            "turned": analysis.turned(),
            "control": analysis.control(),
            "pairs": [_pair(analysis, pair) for pair in analysis.pairs],
            "contexts": [
                {**_reference(analysis, index), "images": images}
                for index, images in analysis.contexts.items()
            ],
            "settings": settings,
        }
    )


def _pair(analysis: Analysis, pair: Pair) -> Record:
    found = asdict(pair)
    expected, predicted = (_reference(analysis, found.pop(n)) for n in ("label", "predicted"))
    return {"expected": expected, "prediction": predicted, **found}


def causes(analysis: Analysis) -> Record:
    """Cause -> how many errors, their share of the errors looked at, and its Wilson interval."""
    counts = analysis.counts()
    of = sum(counts.values())
    found = {}
    for cause, errors in counts.items():
        share, low, high = wilson(errors, of)
        ends = {"share": share, "low": low, "high": high}
        found[cause] = {"errors": errors, "of": of, **{k: round(v, 4) for k, v in ends.items()}}
    return found


def case_record(analysis: Analysis, number: int, photograph: bool = True) -> Record:
    """A case, its files relative to the report's folder; whether its photograph is among them."""
    case, folder = analysis.cases[number], folder_of(analysis, number)
    height, width = case.size
    shown = {"predicted": case.predicted, "other": case.other}
    against = {"contrast": (case.predicted, case.other), "reverse": (case.other, case.predicted)}
    return plain(
        {
            "name": case.photo.name,
            "folder": folder,
            "correct": case.correct,
            "cause": case.cause,
            "prediction": _reference(analysis, case.predicted),
            "expected": _reference(analysis, case.photo.label),
            "other": {**_reference(analysis, case.other), "rank": case.rank},
            "input_shape": [1, 3, height, width],
            "image_size": [width, height],
            "input_image": f"{folder}/{IMAGE}" if photograph else None,
            "probabilities": [
                {**_reference(analysis, index), "probability": probability}
                for index, probability in case.probabilities.items()
            ],
            "scale": brightest(case),
            "classes": {
                str(index): {
                    **_reference(analysis, index),
                    "probability": case.probabilities[index],
                    "artifacts": [
                        {
                            "target_layers": _layers(analysis),
                            **_files(folder, kind, photograph),
                            "region": f"{folder}/{kind}-region.png",
                        }
                    ],
                }
                for kind, index in shown.items()
            },
            "contrasts": [
                {
                    "for": _reference(analysis, one),
                    "against": _reference(analysis, two),
                    "artifacts": [
                        {"target_layers": _layers(analysis), **_files(folder, kind, photograph)}
                    ],
                }
                for kind, (one, two) in against.items()
            ],
            "front": {name: f"{folder}/{name}-region.png" for name in ("thing", "behind")}
            if "thing" in case.regions
            else None,
            "agreement": asdict(case.agreement),
            "trials": [
                {**asdict(trial), "top": _reference(analysis, trial.top)} for trial in case.trials
            ],
            "verdict": case.verdict and asdict(case.verdict),
            "neighbours": [
                {"name": n.name, **_reference(analysis, n.label), "likeness": n.likeness}
                for n in case.neighbours
            ],
            "doubt": case.doubt,
        }
    )


def rows(analysis: Analysis) -> Iterator[list[Any]]:
    """The lines of a table, a case each; the first line names the columns. A name that a
    spreadsheet would take for a formula comes after an apostrophe."""
    tried: dict[str, None] = {}
    for case in analysis.cases:
        tried.update(dict.fromkeys(_tried(case)))
    named = [_text(name) for name in analysis.class_names]
    columns = [f"{name}_{what}" for name in tried for what in ("p_predicted", "p_other", "top")]
    yield [
        *("name", "correct", "cause", "expected", "expected_name", "predicted", "predicted_name"),
        *("other", "other_name", "rank", "p_predicted", "p_other"),
        *("overlap", "correlation", "distance", "doubt", "folder"),
        *columns,
    ]
    for number, case in enumerate(analysis.cases):
        names, p, trials = named, case.probabilities, _tried(case)
        yield [
            *(_text(case.photo.name), int(case.correct), case.cause),
            *(case.photo.label, names[case.photo.label], case.predicted, names[case.predicted]),
            *(case.other, names[case.other], case.rank),
            *map(_short, (p[case.predicted], p[case.other])),
            *map(_short, asdict(case.agreement).values()),
            *(_short(case.doubt), folder_of(analysis, number)),
            *(cell for name in tried for cell in trials.get(name, ("", "", ""))),
        ]


def _tried(case: Case) -> dict[str, tuple[Any, ...]]:
    """What was done to the image -> what the classifier says of it."""
    found: dict[str, tuple[Any, ...]] = {}
    for trial in case.trials:
        name = stem = f"{trial.action}_{trial.region}_{trial.filling}"
        again = 1
        while name in found:  # several random regions
            again += 1
            name = f"{stem}_{again}"
        found[name] = (_short(trial.predicted), _short(trial.other), trial.top)
    return found


def _text(name: str) -> str:
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def _short(value: float) -> str:
    return f"{value:.6g}"


def _layers(analysis: Analysis) -> list[str]:
    layers = analysis.settings.get("layers", [])
    return [layers] if isinstance(layers, str) else list(layers)


def _reference(analysis: Analysis, index: int) -> Record:
    return {"class_idx": index, "class_name": analysis.class_names[index]}


def _files(folder: str, kind: str, photograph: bool) -> Record:
    return {
        "map": f"{folder}/{kind}.npy",
        "heatmap": f"{folder}/{kind}.png",
        "overlay": f"{folder}/{kind}-overlay.jpg" if photograph else None,
    }


def plain(value: Any) -> Any:
    """What JSON takes: numpy's numbers as Python's; null for NaN and infinity."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
