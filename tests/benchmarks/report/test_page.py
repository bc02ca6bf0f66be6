"""The report's page in a real browser, and what it refuses."""

import base64
import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave

from benchmarks.report.figures import write_figures
from benchmarks.report.page import write_report
from benchmarks.report.schema import read_results

from .example import EVIL, METHODS, METRICS, edit


@pytest.fixture
def page(chromium, folder: Path):
    """The report, opened from the disk; whatever is done with it must leave the console clean."""
    for log in ("browser", "performance"):
        chromium.get_log(log)
    chromium.get(write_report(folder).as_uri())
    yield chromium
    assert chromium.get_log("browser") == []


def column(page, key: str) -> list[str]:
    """The texts of a column from the top; "method" is the first."""
    return page.execute_script(
        """
        const buttons = [...document.querySelectorAll("#scores thead button")];
        const at = buttons.findIndex(button => button.firstChild.data === arguments[0]);
        return [...document.querySelectorAll("#scores tbody tr")]
            .map(row => (row.cells[at].querySelector("b") || row.cells[at]).textContent);
        """,
        key,
    )


def header(page, key: str):
    buttons = page.find_elements("css selector", "#scores thead button")
    return next(button for button in buttons if button.text.split(" ↓")[0].split(" ↑")[0] == key)


def test_table_sorts_by_number_and_keeps_the_unknown_last(page):
    assert column(page, "method") == [name for name, *_ in METHODS]
    header(page, "AD 100%").click()
    assert column(page, "AD 100%") == ["9.0", "9.5", "25.4", "100.0", "–"]
    assert column(page, "method")[:2] == ["LearnableCAM", "random map"]
    sorted_by = page.find_elements("css selector", "[aria-sort]")
    assert [cell.get_attribute("aria-sort") for cell in sorted_by] == ["ascending"]
    header(page, "AD 100%").click()
    assert column(page, "AD 100%") == ["100.0", "25.4", "9.5", "9.0", "–"]
    assert sorted_by[0].get_attribute("aria-sort") == "descending"
    header(page, "insertion").click()  # higher is better, so the highest comes first
    assert page.find_element("css selector", "[aria-sort]").get_attribute("aria-sort") == (
        "descending"
    )
    header(page, "method").send_keys("\n")  # from the keyboard too
    assert column(page, "method")[1:] == ["Grad-CAM", "LearnableCAM", "random map", "Score-CAM"]
    assert len(page.find_elements("css selector", "[aria-sort]")) == 1


def test_table_marks_the_best_and_what_it_does_not_beat(page):
    marked = {
        name: page.execute_script(
            "return [...document.querySelectorAll(`#scores td.${arguments[0]}`)]"
            ".filter(cell => cell.title.includes('AD 100%')).map(cell => cell.textContent)",
            name,
        )
        for name in ("best", "near")
    }
    assert marked == {"best": ["9.0[8.0, 10.0]"], "near": ["9.5[8.5, 10.5]"]}
    assert len(page.find_elements("css selector", "#scores tr.learned")) == 1


def test_subset_toggle_changes_scores_and_keeps_the_order_sorted(page):
    header(page, "AD 100%").click()
    page.find_element("css selector", "#subset input[value=all]").click()
    assert column(page, "AD 100%") == ["59.0", "59.5", "75.4", "–", "–"]
    assert "60 images, 5 methods" in page.find_element("id", "subset").text
    assert "434 images, 4 methods" in page.find_element("id", "subset").text
    assert "Score-CAM" not in page.find_element("id", "scatter").text


def test_scatter_follows_the_metric_and_the_kinds(page):
    def points() -> list[str]:
        return page.execute_script(
            "return [...document.querySelectorAll('#scatter .point')].map(point => "
            "point.querySelector('title').textContent + point.querySelector('path').outerHTML)"
        )

    first = points()
    assert len(first) == 4  # the one without a score has no point
    assert any("Grad-CAM: 25.4 [24.4, 26.4], 2 passes" in text for text in first)
    page.find_element("css selector", "#metric option[value='2']").click()
    second = points()
    assert len(second) == 5
    assert not set(first) & set(second)
    page.find_element("id", "kind-floor").click()
    assert len(points()) == 4


def test_page_is_whole_and_asks_for_nothing(page):
    widths = page.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert widths == [8] * 5  # two images, two maps and one; the sixth is missing
    entries = page.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"].endswith("BeSent")]
    assert asked
    assert all(url.startswith(("file:", "data:")) for url in [*entries, *asked])
    link = page.find_element("id", "csv").get_attribute("href")
    table = base64.b64decode(link.split(",")[1]).decode()
    assert next(csv.reader(io.StringIO(table)))[0] == "method"


def test_names_are_text_wherever_they_are_shown(page):
    assert page.execute_script("return window.evil") is None
    assert page.execute_script("return document.scripts.length") == 2
    assert page.execute_script("return document.querySelectorAll('[onerror]').length") == 0
    assert EVIL in column(page, "method")
    for place in ("h1", "#summary", "pre", ".notes", "#gallery", "#methods", "#metric"):
        text = page.find_element("css selector", place).get_attribute("textContent")
        assert EVIL in text, place


def test_page_fits_a_narrow_screen(page):
    page.set_window_size(420, 900)
    widths = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    scroll, client = page.execute_script(widths)
    page.set_window_size(1280, 900)
    assert scroll <= client


def test_page_without_gallery_and_with_bare_results(folder: Path):
    bare = {"metrics": METRICS[:1], "methods": [{"method": "Grad-CAM"}]}
    (folder / "results.json").write_text(json.dumps(bare))
    text = write_report(folder).read_text()
    assert "Grad-CAM" in text
    assert 'id="gallery"' not in text


def test_nan_is_a_missing_score(folder: Path):
    path = folder / "results.json"
    path.write_text(path.read_text().replace('"mean": 25.42', '"mean": NaN'))
    assert read_results(folder)["methods"][1]["common"]["AD 100%"]["mean"] is None
    assert "NaN" not in write_report(folder).read_text().split('id="results"')[1].split("<")[0]


@pytest.mark.parametrize("write", [write_report, write_figures])
def test_missing_and_damaged_results_leave_the_old_files(folder: Path, write):
    write(folder)
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    results = before.pop(folder / "results.json")
    path = folder / "results.json"

    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"results\.json.*run one first"):
        write(folder)
    for damaged, problem in (
        (results[:100], "not whole JSON"),
        (b"\xff\xfe", "not whole JSON"),
        (b"[]", "it is a list"),
        (b'{"metrics": [], "methods": []}', "no list of metrics"),
        (b'{"metrics": [{"key": "a"}], "methods": [{}]}', r'methods\[0\] has no "method"'),
        (results.replace(b'"images": [{', b'"images": [{}, {'), "do not fit|3 images"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"results\.json.*({problem}).*again"):
            write(folder)
    path.write_bytes(results)
    (folder / "gallery" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no image at .*1\.png.*copy the whole folder"):
        write(folder)
    assert {p: p.read_bytes() for p in folder.iterdir() if p.is_file() and p != path} == before


@pytest.mark.parametrize("name", ["../outside.png", "results.json"])
def test_only_images_of_the_folder_are_embedded(folder: Path, name: str):
    imsave(folder.parent / "outside.png", np.zeros((2, 2, 3)))
    edit(folder, gallery={"images": [{"title": "", "file": name}], "maps": {}})
    with pytest.raises(ValueError, match=r"outside its folder|not an image"):
        write_report(folder)
    assert not (folder / "report.html").exists()
