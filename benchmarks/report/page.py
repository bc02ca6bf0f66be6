"""A benchmark's results as an HTML page.

Everything is inside the page, its images too, so that the one file can be mailed, attached or
opened from a disk without a network; its content security policy forbids it to ask for anything.
"""

from __future__ import annotations

import base64
import mimetypes
import os
import secrets
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from learnable_cam_plugin.checkpoint import atomic_path

from .gallery import gallery_file
from .schema import GROUPS, Results, read_results
from .tables import results_csv


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
    page = environment.get_template("page.html").render(
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


def _embedded_gallery(folder: Path, results: Results) -> dict[str, Any]:
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
