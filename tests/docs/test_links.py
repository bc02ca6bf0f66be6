"""Every relative link and anchor of the README, the pages and the texts beside code resolves."""

import html
import re
import sys

import pytest

from .pages import DOCS, PAGES, ROOT, name

sys.path.insert(0, str(DOCS / "tools"))

TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "learnable_cam_plugin/pretrained/README.md"]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.M | re.S)


def anchors(text):
    """The anchors of a page's headings, as mkdocs and GitHub make them."""
    found = set()
    for heading in re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M
    ):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", html.unescape(heading)).lower()
        found.add(re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain).strip()))
    return found


def generated():
    """Pages and files that the site's hook adds: path in docs/ -> the file it is made of."""
    import hook
    import tables

    found = {target: ROOT / source for source, target in hook.PAGES.items()}
    for notebook in (ROOT / "examples").glob("*.ipynb"):
        found[f"notebooks/{notebook.stem}.md"] = found[f"notebooks/{notebook.name}"] = notebook
    for path in tables.RESULTS.glob("*/*"):
        if path.name in hook.ASSETS:
            found[f"files/{path.parent.name}/{path.name}"] = path
    return {DOCS / target: source for target, source in found.items()}


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_the_links_of_a_page_resolve(page):
    made, broken = generated(), []
    text = page.read_text()
    for link in _LINK.findall(_CODE.sub("", text)):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        target = made.get(target, target)
        there = target.exists()
        if there and anchor and target.suffix == ".md":
            there = anchor in anchors(target.read_text())
        if not there:
            broken.append(link)
    assert not broken


def test_an_anchor_is_made_of_its_heading():
    assert anchors("## `area`: what *it* does\n```\n# no heading\n```") == {"area-what-it-does"}
