"""A benchmark's results as an HTML page.

Everything is inside the page, its images too, so that the one file can be mailed, attached or
opened from a disk without a network; its content security policy forbids it to ask for anything.
"""

import base64
import mimetypes
import os
import secrets
from functools import partial
from pathlib import Path

from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from learnable_cam_plugin.atomic import atomic_path

from .gallery import gallery_file, kept_shares
from .schema import GROUPS, read_results
from .tables import results_csv


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write `report.html` beside a folder's `results.json`; an old one stays if this fails.

    Raises FileNotFoundError where the results or an image that they name is missing, and ValueError
    where they are damaged or name a file that is no image of the folder.
    """
    folder = Path(folder)
    results = read_results(folder)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=ChainableUndefined,  # what a run did not record is left out of the page
    )
    environment.policies["json.dumps_kwargs"] = {}  # not sorted: kinds are in an order of theirs
    environment.filters["uri"] = partial(_data_uri, folder)
    page = environment.get_template("page.html").render(
        results=results,
        groups=GROUPS,
        shares=kept_shares(((results.get("gallery") or {}).get("maps") or {}).values()),
        data={"metrics": results["metrics"], "methods": results["methods"], "groups": GROUPS},
        csv_uri=_uri("text/csv;charset=utf-8", results_csv(results).encode()),
        nonce=secrets.token_hex(16),
    )
    path = folder / "report.html"
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _data_uri(folder: Path, name: str) -> str:
    """An image of the folder as a part of the page."""
    path = gallery_file(folder, name)
    kind, _ = mimetypes.guess_type(path.name)
    if not (kind or "").startswith("image/"):
        raise ValueError(
            f"{path} is not an image by its name; results.json may name .jpg, .png or .webp files"
        )
    return _uri(str(kind), path.read_bytes())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
