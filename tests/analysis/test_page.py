"""The report's page in a real browser."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from learnable_cam_plugin.analysis.written import write_report

from .made import EVIL, EVIL_FILE, NAMES, made_analysis, made_case, photograph_of

ERRORS, CORRECT = 8, 3


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    analysis = made_analysis(ERRORS, CORRECT)
    return write_report(analysis, tmp_path_factory.mktemp("report"), photograph_of(analysis))


@pytest.fixture
def page(chromium, report: Path):
    """The report, opened from the disk; whatever is done with it must leave the console clean."""
    for log in ("browser", "performance"):
        chromium.get_log(log)
    chromium.get("about:blank")  # else the same page at another case is only scrolled
    chromium.get(report.as_uri())
    yield chromium
    assert chromium.get_log("browser") == []


def listed(page) -> list[int]:
    return page.execute_script(
        "return [...document.querySelectorAll('#list li:not([hidden])')]"
        ".map(item => Number(item.dataset.number))"
    )


def shown(page) -> int:
    """The case that is marked in the list, which must be the one of the large panel."""
    number, named, file = page.execute_script(
        "const item = document.querySelector('#list [aria-current]').closest('li');"
        "return [Number(item.dataset.number), document.getElementById('which').textContent,"
        "        item.querySelector('.file').textContent];"
    )
    assert named.startswith(file)
    return number


def choose(page, field: str, value: str) -> None:
    page.execute_script(
        "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
        "field.dispatchEvent(new Event('input', {bubbles: true}));",
        field,
        value,
    )


def press(page, *keys: str) -> None:
    for key in keys:
        page.switch_to.active_element.send_keys(key)


def pixels(page) -> list[int]:
    return page.execute_script(
        "const canvas = document.getElementById('canvas');"
        "return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
    )


def test_errors_come_first_and_each_filter_narrows(page):
    analysis = made_analysis(ERRORS, CORRECT)
    assert listed(page) == list(range(ERRORS))
    choose(page, "kind", "correct")
    assert listed(page) == list(range(ERRORS, ERRORS + CORRECT))
    choose(page, "kind", "all")
    assert len(listed(page)) == ERRORS + CORRECT
    choose(page, "cause", "several objects")
    assert listed(page) == [i for i, c in enumerate(analysis.cases) if c.cause == "several objects"]
    choose(page, "cause", "")
    choose(page, "least", "0.6")
    choose(page, "most", "0.8")
    wanted = [i for i, c in enumerate(analysis.cases) if 0.6 <= c.probabilities[c.predicted] <= 0.8]
    assert 0 < len(wanted) < ERRORS
    assert listed(page) == wanted
    assert page.find_element("id", "count").text == f"{len(wanted)} of 11 cases"
    choose(page, "search", "terrier")
    assert all("terrier" in str(made_names(analysis.cases[i])) for i in listed(page))
    page.find_element("id", "clear").click()
    page.execute_async_script("setTimeout(arguments[0], 50)")
    assert listed(page) == list(range(ERRORS))


def made_names(case) -> tuple[str, ...]:
    return (NAMES[case.photo.label], NAMES[case.predicted], case.photo.name)


def test_a_pair_shows_its_errors_and_the_correct_images_beside_them(page):
    choose(page, "pair", "0>1")
    assert listed(page) == [0, 3, 6]
    choose(page, "kind", "all")
    assert listed(page) == [0, 3, 6, 9]  # the last is a goose, second a drake
    page.find_element("css selector", "#pairs a[data-pair='2>3']").click()
    page.execute_async_script("setTimeout(arguments[0], 50)")
    assert listed(page) == [1, 4, 7, 10]
    page.find_element("css selector", "#causes a[data-cause='several objects']").click()
    page.execute_async_script("setTimeout(arguments[0], 50)")
    cases = made_analysis(ERRORS, CORRECT).cases
    assert listed(page) == [i for i, one in enumerate(cases) if one.cause == "several objects"]


def test_the_order_is_of_doubt_or_confidence(page):
    analysis = made_analysis(ERRORS, CORRECT)
    errors = range(ERRORS)
    choose(page, "order", "doubt")
    assert listed(page) == sorted(errors, key=lambda i: -analysis.cases[i].doubt)
    choose(page, "order", "low")
    by_p = sorted(
        errors, key=lambda i: analysis.cases[i].probabilities[analysis.cases[i].predicted]
    )
    assert listed(page) == by_p
    choose(page, "order", "high")
    assert listed(page) == by_p[::-1]


def test_keys_go_through_the_cases_that_are_listed(page):
    from selenium.webdriver.common.keys import Keys

    assert shown(page) == 0
    press(page, "j", "j", Keys.ARROW_RIGHT)
    assert shown(page) == 3
    press(page, "k", Keys.ARROW_LEFT)
    assert shown(page) == 1
    assert page.current_url.endswith("#case-1")
    press(page, "k", "k", "k")  # there is none before the first
    assert shown(page) == 0
    assert not page.find_element("id", "previous").is_enabled()
    choose(page, "pair", "0>1")
    press(page, "j")
    assert shown(page) == 3
    press(page, "/", "terrier j")  # letters in a field are letters
    assert page.find_element("id", "search").get_attribute("value") == "terrier j"
    assert listed(page) == []
    press(page, Keys.ESCAPE, "s")
    assert not page.execute_script("return document.getElementById('summary').open")
    press(page, "?")
    assert page.execute_script("return document.getElementById('keys').open")
    press(page, "?")
    assert not page.execute_script("return document.getElementById('keys').open")


def test_arrows_in_the_list_move_the_focus_along(page):
    from selenium.webdriver.common.keys import Keys

    page.find_element("css selector", "#list a").send_keys(Keys.ARROW_DOWN, Keys.NULL)
    assert shown(page) == 1
    where = "return document.activeElement.closest('li').dataset.number"
    assert page.execute_script(where) == "1"


def test_number_keys_change_what_is_drawn(page):
    first = pixels(page)
    press(page, "1")
    plain = pixels(page)
    assert plain != first
    press(page, "2")
    photograph = pixels(page)
    assert photograph != plain
    assert abs(photograph[2] - 128) < 20  # the photograph's blue, behind no map and no outline
    press(page, "4")
    assert pixels(page) != photograph
    choose(page, "view", "")
    press(page, "1", "2")
    assert pixels(page) == first
    press(page, "5")
    assert page.find_element("id", "highest").text == "1.00"
    assert pixels(page) != first
    press(page, "3")
    sides = [page.find_element("id", side).get_attribute("value") for side in ("left", "right")]
    assert sides == ["contrast", "reverse"]
    press(page, "j")  # and the next case is shown in the same way
    sides = [page.find_element("id", side).get_attribute("value") for side in ("left", "right")]
    assert sides == ["contrast", "reverse"]
    label = page.find_element("id", "canvas").get_attribute("aria-label")
    assert "at the left the map of minibus rather than coach" in label


def test_the_slider_divides_the_two_maps(page):
    press(page, "2")  # the outlines
    choose(page, "split", "100")
    predicted = pixels(page)
    choose(page, "split", "0")
    other = pixels(page)
    assert predicted != other
    choose(page, "split", "50")
    width = page.execute_script("return document.getElementById('canvas').width")
    both = pixels(page)
    for row in range(0, len(both), 4 * width):
        middle, end = row + 2 * width, row + 4 * width
        assert both[row:middle] == predicted[row:middle]
        assert both[middle:end] == other[middle:end]
    page.execute_script("window.scrollTo(0, 500)")
    stage = page.find_element("id", "stage")
    from selenium.webdriver import ActionChains

    ActionChains(page).move_to_element_with_offset(stage, 60, 0).click().perform()
    assert float(page.find_element("id", "split").get_attribute("value")) > 55


def test_the_case_shows_every_number(page):
    case = made_analysis(ERRORS, CORRECT).cases[1]
    press(page, "j")
    text = page.find_element("id", "case").get_attribute("textContent")
    for needed in (
        "coach taken for minibus",
        f"{case.probabilities[case.predicted]:.2f}",
        "true class at rank 2",
        f"doubt {case.doubt:.2f}",
        "near-identical classes: 2 of 2 hold",
        "p of other, its region alone",
        "≥ 0.50",
        "✗ fails",
        "30 % of the diagonal",
        "erase a random region",
        "erase what speaks for minibus rather than coach",
        "filled with blur",
        "train/1.jpg, likeness 0.83",
    ):
        assert needed in text, needed
    bold = page.execute_script(
        "return [...document.querySelectorAll('#trials tbody tr:nth-child(2) .top')]"
        ".map(cell => cell.className)"
    )
    assert (
        bold == ["two is-other top"] * 3
    )  # without the predicted class's region the true one wins


def test_something_in_front_is_outlined_and_can_be_taken_away(page):
    (number,) = [
        i
        for i, case in enumerate(made_analysis(ERRORS, CORRECT).cases[:ERRORS])
        if case.cause == "something in front"
    ]
    press(page, *"j" * number)
    text = page.find_element("id", "case").get_attribute("textContent")
    assert "erase the thing that may be in front" in text
    assert "erase a random region of the thing’s shape" in text
    assert "filled with surroundings" in text
    press(page, "1")  # no maps
    whole = pixels(page)
    green = [tuple(whole[i : i + 3]) for i in range(0, len(whole), 4)].count((74, 222, 128))
    assert green > 10
    press(page, "2")
    before = pixels(page)
    choose(page, "view", "erase thing")
    assert pixels(page) != before


def test_the_page_asks_for_nothing_and_its_thumbnails_are_there(page):
    wide = "return [...document.querySelectorAll('#list img')].map(image => image.naturalWidth)"
    page.execute_async_script("setTimeout(arguments[0], 300)")
    assert page.execute_script(wide)[0] == 64
    entries = page.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"].endswith("BeSent")]
    assert asked
    assert all(url.startswith(("file:", "data:", "about:")) for url in [*entries, *asked])


def test_an_address_opens_its_case(chromium, report: Path):
    chromium.get("about:blank")
    chromium.get(f"{report.as_uri()}#case-9")  # a correct one, which the filter would hide
    assert shown(chromium) == 9
    assert 9 in listed(chromium)
    assert "correct" in chromium.find_element("id", "what").text


def test_a_name_is_text_wherever_it_is_shown(chromium, tmp_path: Path):
    names = (EVIL, *NAMES[1:])
    case = made_case(1, name=EVIL_FILE, names=names)
    case = replace(case, photo=replace(case.photo, label=0), other=0, predicted=1)
    case = replace(case, probabilities={1: 0.6, 0: 0.2})
    analysis = replace(
        made_analysis(1, 0, names=names),
        cases=(case,),
        contexts={0: (EVIL_FILE,)},
        unread={EVIL_FILE: EVIL},
        settings={"model": EVIL, EVIL: [EVIL]},
    )

    def photograph(name):
        raise OSError(EVIL)

    chromium.get_log("browser")
    chromium.get(write_report(analysis, tmp_path, photograph).as_uri())
    assert chromium.execute_script("return window.evil") is None
    assert chromium.execute_script("return document.querySelectorAll('[onerror]').length") == 0
    # the names and the data of the one case, and the page's own script
    assert chromium.execute_script("return document.scripts.length") == 3
    for place in ("h1", "#pairs", "#list", "#what", "#which", "#trials", "#pair", ".more", "#left"):
        text = chromium.find_element("css selector", place).get_attribute("textContent")
        assert EVIL in text, place
    assert "{{ 7 * 7 }}" in chromium.find_element("id", "list").get_attribute("textContent")
    assert chromium.get_log("browser") == []


def test_the_page_fits_a_narrow_screen(page):
    page.set_window_size(420, 900)
    widths = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    scroll, client = page.execute_script(widths)
    page.set_window_size(1280, 900)
    assert scroll <= client


def test_every_field_has_a_label_and_every_picture_a_text(page):
    bare = page.execute_script(
        "return [...document.querySelectorAll('input, select')]"
        ".filter(field => !field.labels.length)"
        ".concat([...document.querySelectorAll('img:not([alt]), canvas:not([aria-label])')])"
        ".map(element => element.outerHTML)"
    )
    assert bare == []


def test_without_scripts_the_summary_and_the_list_are_read(chromium, report: Path):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        chromium.get("about:blank")
        chromium.get(report.as_uri())
        text = chromium.find_element("tag name", "body").text
        for needed in ("8 of 110 images", "several objects", "coach → minibus", "need JavaScript"):
            assert needed in text, needed
        assert "0003_goose.jpg" in text
        assert not chromium.find_element("id", "filters").is_displayed()
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
