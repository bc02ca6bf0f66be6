"""The pages, and the code blocks in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .preludes import PRELUDES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(p for p in DOCS.rglob("*.md") if "tools" not in p.parts)]
# a prelude's name, a file that the reader is to write, or a block of Python
_PARTS = re.compile(
    r"^<!-- prelude: (?P<prelude>\S+) -->$"
    r'|^```\w+ title="(?P<file>[^"]+)"\n(?P<content>.*?)^```$'
    r"|^```python\n(?P<code>.*?)^```$",
    re.M | re.S,
)


def name(path: Path) -> str:
    """A page's path from the repository's root."""
    return path.relative_to(ROOT).as_posix()


def has_code(path: Path) -> bool:
    """Whether there is Python on the page."""
    return any(part["code"] for part in _PARTS.finditer(path.read_text()))


def run(path: Path) -> dict[str, Any]:
    """Run a page's Python blocks in order, in one namespace; what a prelude gives joins it.

    A block with a title is a file, and is written to the working folder.

    Raises: what a block raises; the traceback has the page's own lines.
    """
    text = path.read_text()
    namespace: dict[str, Any] = {"__name__": "page"}
    for part in _PARTS.finditer(text):
        if part["prelude"]:
            namespace |= PRELUDES[part["prelude"]]()
        elif part["file"]:
            Path(part["file"]).write_text(part["content"])
        else:
            lines = text.count("\n", 0, part.start("code"))
            code = compile("\n" * lines + part["code"], str(path), "exec", dont_inherit=True)
            exec(code, namespace)
    return namespace
