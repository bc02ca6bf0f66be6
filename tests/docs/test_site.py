"""The site builds without a warning, shows what the results say, and has its figures."""

import doctest
import importlib
import re
import subprocess
import sys

import pytest

from .pages import DOCS, ROOT

sys.path.insert(0, str(DOCS / "tools"))
import tables


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed")
    pytest.importorskip("mkdocs_llmstxt", reason="the extra `docs` is not installed")
    pytest.importorskip("material", reason="the extra `docs` is not installed")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-4000:]
    return out


def test_it_builds_strictly_and_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?://[^"]+)', page.read_text()
        )
        assert not loaded, page


def test_the_figures_of_the_results_are_on_the_page(site):
    page = (site / "results.html").read_text()
    assert "<!-- table:" not in page
    results = re.findall(
        r"[\d.]+ \[[\d.]+, [\d.]+\]", tables.results("caltech-val", "all", "masked")
    )
    assert len(results) > 60
    assert all(value in page for value in results)


def test_the_reference_has_the_public_names(site):
    import learnable_cam_plugin

    text = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    missing = [n for n in learnable_cam_plugin.__all__ if f"<code>{n}</code>" not in text]
    assert not [n for n in missing if not re.search(rf'id="[\w.]*\.{n}"', text)]


def test_it_has_a_text_for_language_models(site):
    assert "how-to/train.md" in (site / "llms.txt").read_text()
    assert "LearnableCAMTrainer" in (site / "llms-full.txt").read_text()


def test_a_missing_result_is_an_error_that_names_it():
    with pytest.raises(FileNotFoundError, match=r"benchmarks/results/none/results\.json"):
        tables.expand("<!-- table: results none | all | masked -->")
    with pytest.raises(ValueError, match="no heading"):
        tables.expand("<!-- table: section caltech-val/paired.md | None such -->")
    with pytest.raises(ValueError, match="there is no table 'nothing'"):
        tables.expand("<!-- table: nothing -->")


def test_the_figures_that_the_script_draws_are_there():
    from PIL import Image

    for figure in re.findall(r'"([\w-]+\.png)"', (DOCS / "tools" / "figures.py").read_text()):
        with Image.open(DOCS / "images" / figure) as image:
            assert image.width > 1000


@pytest.mark.parametrize("module", ["tables", "hook", "docstrings"])
def test_the_examples_of_the_tools_hold(module):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    pytest.importorskip("griffe", reason="the extra `docs` is not installed")
    assert doctest.testmod(importlib.import_module(module)).failed == 0
