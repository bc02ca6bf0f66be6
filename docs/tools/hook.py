"""What mkdocs does not do by itself: tables from results, pages that lie outside docs/."""

from __future__ import annotations

import base64
import json
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import tables

# Pages whose text lies elsewhere in the repository, where its readers look for it.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "learnable_cam_plugin/pretrained/README.md": "model-card.md",
}
ASSETS = ("results.json", "results.csv", "quality-against-passes.png", "front.png")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that are not in docs/."""
    for source, target in PAGES.items():
        text = (tables.ROOT / source).read_text()
        files.append(File.generated(config, target, content=relinked(text, source)))
    for notebook in sorted((tables.ROOT / "examples").glob("*.ipynb")):
        for name, content in notebook_page(notebook).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
        files.append(
            File.generated(config, f"notebooks/{notebook.name}", content=notebook.read_bytes())
        )
    for path in sorted(tables.RESULTS.glob("*/*")):
        if path.name in ASSETS:
            target = f"files/{path.parent.name}/{path.name}"
            files.append(File.generated(config, target, content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put in the tables that a page asks for."""
    try:
        return tables.expand(markdown)
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error


def relinked(text: str, source: str) -> str:
    """A page's text with its relative links as the site has them; other files become plain text.

    >>> relinked("See [the log](docs/experiments.md) and [run](.ci/run).", "CONTRIBUTING.md")
    'See [the log](experiments.md) and `.ci/run`.'
    """

    def one(match: re.Match[str]) -> str:
        title, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match.group()
        path, mark, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if path in PAGES or path.startswith("docs/") or path == "README.md":
            page = PAGES.get(path, "index.md" if path == "README.md" else path[5:])
            return f"[{title}]({page}{'' if path == 'README.md' else mark + anchor})"
        return f"`{path}`"

    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", one, text)


def notebook_page(path: Path) -> dict[str, str | bytes]:
    """A notebook as a page of Markdown and its pictures: file name -> content."""
    files: dict[str, str | bytes] = {}
    parts = [f"*The notebook: [{path.name}]({path.name}).*"]
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"``` py\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(files)}.png"
                files[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![What the cell above shows]({name})")
            elif text := "".join(output.get("text", data.get("text/plain", ""))).strip():
                parts.append(f"```text\n{text}\n```")
    title, rest = parts[1], [parts[0], *parts[2:]]
    files[f"{path.stem}.md"] = "\n\n".join([title, *rest]) + "\n"
    return files
