"""Every JSON file that a benchmark leaves, written and read in this one place.

`compare` leaves `results.json`. Reports show what there is of it; they need metrics and methods:

    {"protocol", "created", "command", "network", "seed", "notes": [Markdown],
     "versions": {package: version}, "hardware": {"processor", "threads", "device"},
     "data": {"name", and how many "images", "common" and "mosaics"},
     "metrics": [{"key", "title", "better": "lower" or "higher", "group", "unit"}],
     "methods": [{"method", "group", "reference", "note", "forward", "backward", "ms",
                  "common" and "all": {metric: {"mean", "low", "high", "n"}}}],
     "gallery": {"images": [{"title", "file"}], "maps": {method: [{"file", "masked"}]}}}

Forward and backward passes and ms are of one map, low and high the ends of the mean's 95 % interval
over n images, masked the probability by the share of pixels kept; what is not known is null. Beside
it stand `settings.json`, what the folder was made with, and `methods/*.json`, scores by image:

    {"method", "command", "forward", "backward", "gallery": [{"file", "masked"}],
     "scores": {metric: {"index": [...], "values": [...]}}}

The other commands leave `<name>.json` beside `<name>.md`: the command, and rows or tables.
"""

import json
import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeGuard, get_args

from learnable_cam_plugin.atomic import atomic_path

# the images that a score is over: those on which every method is scored, or all
SubsetName = Literal["common", "all"]
SUBSETS: tuple[SubsetName, ...] = get_args(SubsetName)
# How each kind of method is named in a report, in the order it is shown.
GROUPS = {
    "learned": "learned",
    "gradient": "gradient",
    "gradient-free": "gradient-free",
    "perturbation": "perturbation",
    "floor": "floor (drawn without looking)",
}


# `results.json`, and of it one of "methods" and one of its scores
Results: TypeAlias = dict[str, Any]
MethodRow: TypeAlias = dict[str, Any]
MeanScore: TypeAlias = dict[str, Any]
# a file of `methods/`, and one of its "scores"
MethodResults: TypeAlias = dict[str, Any]
ImageScores: TypeAlias = dict[str, Any]


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_text())


def command_line() -> str:
    """The command that is running, to be written beside what it measured."""
    program, *arguments = sys.argv
    path, run = Path(program), getattr(sys.modules["__main__"], "__spec__", None)
    if path.name == "__main__.py":
        module = ["-m", path.parent.name]
    elif run is not None and run.origin == str(path.absolute()):  # python -m a.module
        module = ["-m", run.name]
    else:
        module = [os.path.relpath(path)]
    return shlex.join(["python", *module, *arguments])


def read_results(folder: str | os.PathLike[str]) -> Results:
    """A folder's `results.json`, checked; NaN and infinity are None, as a missing score is.

    Raises FileNotFoundError where there is none, and ValueError where it is no JSON or has no
    methods, no metrics or an uneven gallery.
    """
    path = Path(folder) / "results.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no results at {path}; give the folder that a benchmark wrote, or run one first "
            "(python -m benchmarks compare --help)"
        )
    try:
        results = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        problem = _problem(results)
    except ValueError as error:  # bytes that are no UTF-8 as well as text that is no JSON
        problem = f"it is not whole JSON ({error})"
    except (TypeError, KeyError, AttributeError) as error:
        problem = f"its parts do not fit together ({type(error).__name__}: {error})"
    if problem:
        raise ValueError(
            f"{path} is not a benchmark's results: {problem}; run the benchmark again to write it "
            "anew"
        )
    return results


def _problem(results: Any) -> str:
    """What keeps this from being results, or nothing."""
    if not isinstance(results, dict):
        return f"it is a {type(results).__name__}, not an object"
    for name, key in (("metrics", "key"), ("methods", "method")):
        if not isinstance(results.get(name), list) or not results[name]:
            return f"it has no list of {name}"
        for i, entry in enumerate(results[name]):
            if not isinstance(entry.get(key), str):
                return f'{name}[{i}] has no "{key}"'
    for i, method in enumerate(results["methods"]):
        if not all(isinstance(method.get(subset) or {}, dict) for subset in SUBSETS):
            return f"methods[{i}] has scores that are not an object"
    gallery = results.get("gallery") or {}
    images = gallery.get("images") or []
    for name, maps in (gallery.get("maps") or {}).items():
        if len(maps) != len(images):
            return f"its gallery has {len(maps)} maps of {name!r} for {len(images)} images"
        if not all(isinstance(entry["file"], str) for entry in (*images, *maps) if entry):
            return f"its gallery has a map of {name!r} or an image without a file"
    return ""


def method_file(folder: Path, slug: str) -> Path:
    """Where a method's own results are; once there, the method is done."""
    return folder / "methods" / f"{slug}.json"


def read_methods(folder: Path) -> dict[str, MethodResults]:
    """Name -> results of every method that is done."""
    found = map(read_json, sorted((folder / "methods").glob("*.json")))
    return {content["method"]: content for content in found}


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder this run's; a ValueError where it holds results of other settings."""
    path, now = folder / "settings.json", json.loads(json.dumps(settings))
    if not path.exists():
        write_json(path, now)
    then = read_json(path)
    differing = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
    if differing:
        sides = "; ".join(f"{key}: {then.get(key)} then, {now.get(key)} now" for key in differing)
        raise ValueError(
            f"{folder} holds results made with other settings ({sides}): choose another --out"
        )


def leave(folder: Path, name: str, parts: Sequence[str], **record: Any) -> None:
    """Print a report and leave it as name.md, and its `record` as name.json if there is any.

    The report is the command and its `parts`, which are paragraphs and tables in Markdown.
    """
    text = "\n\n".join([f"`{command_line()}`", *parts]) + "\n"
    with atomic_path(folder / f"{name}.md") as path:
        path.write_text(text)
    if record:
        write_json(folder / f"{name}.json", {"command": command_line(), **record})
    print(text)


def read_left(folder: Path, name: str) -> dict[str, Any]:
    """What `leave` recorded as name.json: the command and the data; nothing if there is none."""
    path = folder / f"{name}.json"
    return read_json(path) if path.exists() else {}


def mean_score(method: MethodRow, subset: SubsetName, key: str) -> MeanScore | None:
    """A method's score with a finite mean, or None where it has none."""
    found = (method.get(subset) or {}).get(key)
    return found if isinstance(found, dict) and finite(found.get("mean")) else None


def finite(value: Any) -> TypeGuard[float]:
    """Whether a value of the results is a number that can be drawn and compared."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def kind_of(method: MethodRow) -> str:
    """A key of GROUPS, the last for a method of none of them."""
    return method["group"] if method.get("group") in GROUPS else list(GROUPS)[-1]


def passes_of(method: MethodRow) -> float | None:
    """Forward + backward passes for one map, or None where they are not known."""
    forward, backward = method.get("forward"), method.get("backward")
    return forward + backward if finite(forward) and finite(backward) else None
