"""A benchmark's results as an HTML page, a CSV file or a Markdown table.

Everything is inside the page, its images too, so that the one file can be mailed, attached or
opened from a disk without a network; its content security policy forbids it to ask for anything.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import mimetypes
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from learnable_cam_plugin import comparison
from learnable_cam_plugin.checkpoint import atomic_path

# the images that a score is over: those on which every method is scored, or all
SUBSETS = ("common", "all")
# How each kind of method is named on the page, in the order it is shown.
GROUPS = {
    "learned": "learned",
    "gradient": "gradient",
    "gradient-free": "gradient-free",
    "perturbation": "perturbation",
    "floor": "floor (drawn without looking)",
}


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write `report.html` beside a folder's `results.json`; an old one stays if this fails.

    Args:
        folder: what a benchmark wrote: `results.json`, and the gallery's images that it names.

    Returns:
        the page's path.

    Raises:
        FileNotFoundError: there is no `results.json`, or an image that it names is missing.
        ValueError: `results.json` is damaged, or names a file that is no image of the folder.
    """
    folder = Path(folder)
    results = read_results(folder)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=ChainableUndefined,  # what a run did not record is left out of the page
    )
    environment.policies["json.dumps_kwargs"] = {}  # not sorted: kinds are in an order of theirs
    page = environment.get_template("report.html").render(
        results=results,
        groups=GROUPS,
        gallery=_embedded_gallery(folder, results),
        data={"metrics": results["metrics"], "methods": results["methods"], "groups": GROUPS},
        csv_uri=_uri("text/csv;charset=utf-8", results_csv(results).encode()),
        nonce=secrets.token_hex(16),
    )
    path = folder / "report.html"
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def read_results(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """A folder's `results.json`, checked; NaN and infinity are None, as a missing score is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or has no methods, no metrics or an uneven gallery.
    """
    path = Path(folder) / "results.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no results at {path}; give the folder that a benchmark wrote, or run one first "
            "(python benchmarks/run.py --help)"
        )
    try:
        results = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except ValueError as error:  # bytes that are no UTF-8 as well as text that is no JSON
        raise ValueError(
            f"{path} is not whole JSON ({error}); run the benchmark again to write it anew"
        ) from error
    try:
        problem = _problem(results)
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
        entries = results.get(name)
        if not isinstance(entries, list) or not entries:
            return f"it has no list of {name}"
        for i, entry in enumerate(entries):
            if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
                return f'{name}[{i}] has no "{key}"'
    for i, method in enumerate(results["methods"]):
        for subset in ("common", "all"):
            if not isinstance(method.get(subset) or {}, dict):
                return f"methods[{i}][{subset!r}] is not an object of scores"
    gallery = results.get("gallery") or {}
    if not isinstance(gallery, dict):
        return "its gallery is not an object"
    images = gallery.get("images") or []
    for name, maps in (gallery.get("maps") or {}).items():
        if len(maps) != len(images):
            return f"its gallery has {len(maps)} maps of {name!r} for {len(images)} images"
        if not all(isinstance(entry["file"], str) for entry in (*images, *maps) if entry):
            return f"its gallery has a map of {name!r} or an image without a file"
    return ""


def gallery_file(folder: str | os.PathLike[str], name: str) -> Path:
    """The path of an image that a folder's `results.json` names.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is outside the folder: a page must not carry off other files of a disk.
    """
    folder = Path(folder)
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{folder / 'results.json'} names the image {name!r}, which is outside its folder; "
            "give a path inside it"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"no image at {path}, which {folder / 'results.json'} names; copy the whole folder, "
            "or run the benchmark again"
        )
    return path


def score(method: Mapping[str, Any], subset: str, key: str) -> dict[str, Any] | None:
    """A method's score with a finite mean, or None where it has none."""
    found = (method.get(subset) or {}).get(key)
    return found if isinstance(found, dict) and finite(found.get("mean")) else None


def finite(value: Any) -> TypeGuard[float]:
    """Whether a value of the results is a number that can be drawn and compared."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def kind_of(method: Mapping[str, Any]) -> str:
    """A key of GROUPS, the last for a method of none of them."""
    return method["group"] if method.get("group") in GROUPS else list(GROUPS)[-1]


def passes_of(method: Mapping[str, Any]) -> float | None:
    """Forward + backward passes for one map, or None where they are not known."""
    forward, backward = method.get("forward"), method.get("backward")
    return forward + backward if finite(forward) and finite(backward) else None


def _passes(method: Mapping[str, Any]) -> str:
    """Forward and backward passes, as "1 + 1"."""
    counts = (method.get("forward"), method.get("backward"))
    return " + ".join(f"{count:g}" if finite(count) else "?" for count in counts)


def results_csv(results: Mapping[str, Any]) -> str:
    """Every score as CSV text, a row a method; a missing one is an empty cell.

    Columns: method, group, forward, backward, ms, and for each subset ("common", "all") and metric
    `<subset>/<metric> mean`, `... low`, `... high`, `... n`.
    """
    keys = [metric["key"] for metric in results["metrics"]]
    columns = ["method", "group", "forward", "backward", "ms"]
    fields = ("mean", "low", "high", "n")
    scores = [(subset, key, field) for subset in SUBSETS for key in keys for field in fields]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *(f"{subset}/{key} {field}" for subset, key, field in scores)])
    for method in results["methods"]:
        cells = [(score(method, subset, key) or {}).get(field) for subset, key, field in scores]
        writer.writerow([*(method.get(column) for column in columns), *cells])
    return text.getvalue()


def markdown_table(results: Mapping[str, Any], subset: str, metrics: Sequence[str]) -> str:
    """Some metrics of one subset as a Markdown table, cells "mean [low, high]".

    Beside the method stand its passes, forward + backward.

    Methods with none of these scores are left out.

    Args:
        results: what `read_results` returns.
        subset: "common" or "all".
        metrics: keys of metrics, in the order of the columns.
    """
    known = {metric["key"]: metric for metric in results["metrics"]}
    unknown = [key for key in metrics if key not in known]
    if subset not in SUBSETS or unknown or not metrics:
        raise ValueError(
            f"got the subset {subset!r} and the metrics {list(metrics)}; expected one of "
            f"{SUBSETS} and some of {list(known)}; give those"
        )
    rows = []
    for method in results["methods"]:
        scores = {key: score(method, subset, key) for key in metrics}
        if any(scores.values()):
            cells = {key: _cell(found, known[key].get("unit")) for key, found in scores.items()}
            name = method["method"].replace("|", "\\|")
            rows.append({"method": name, "passes": _passes(method), **cells})
    if not rows:
        raise ValueError(
            f"no method has any of {list(metrics)} on the subset {subset!r}; give another subset "
            "or other metrics"
        )
    return comparison.markdown_table(rows)


def number(value: float, unit: str | None) -> str:
    """Percent to one decimal, anything else to three significant digits.

    >>> number(25.42, "%"), number(0.9, ""), number(0.001234, ""), number(12345.6, "")
    ('25.4', '0.900', '0.00123', '12,346')
    """
    if unit == "%":
        return f"{value:.1f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def _cell(found: Mapping[str, Any] | None, unit: str | None) -> str:
    if not found:
        return "–"
    mean, low, high = number(found["mean"], unit), found.get("low"), found.get("high")
    if not (finite(low) and finite(high)):
        return mean
    return f"{mean} [{number(low, unit)}, {number(high, unit)}]"


def _embedded_gallery(folder: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """The gallery with data URIs for files, and its methods in the table's order; or nothing."""
    gallery = results.get("gallery") or {}
    images = gallery.get("images")
    if not images:
        return {}
    maps = gallery.get("maps") or {}
    methods = [method for method in results["methods"] if method["method"] in maps]
    embedded = {
        name: [entry and {**entry, "uri": _data_uri(folder, entry["file"])} for entry in entries]
        for name, entries in maps.items()
    }
    # Not every run keeps the same shares of pixels.
    entries = (entry for shown in maps.values() for entry in shown if entry)
    shares = list(dict.fromkeys(share for entry in entries for share in entry.get("masked") or {}))
    return {
        "images": [{**image, "uri": _data_uri(folder, image["file"])} for image in images],
        "methods": methods,
        "maps": embedded,
        "shares": shares,
    }


def _data_uri(folder: Path, name: str) -> str:
    path = gallery_file(folder, name)
    kind, _ = mimetypes.guess_type(path.name)
    if not (kind or "").startswith("image/"):
        raise ValueError(
            f"{path} is not an image by its name; results.json may name .jpg, .png or .webp files"
        )
    return _uri(str(kind), path.read_bytes())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
