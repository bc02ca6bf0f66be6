"""How long a browser takes to open a report: `python -m tests.analysis.opens [CASES]`.

Photographs of 224 x 224 pixels that take as many bytes as real ones, maps of 7 x 7, 18 trials a
case. The time is from the start of the navigation until the list is filled, filtered and answers
keys, and until the first case's photograph is drawn with its maps.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from selenium import webdriver

from learnable_cam_plugin.analysis.written import write_report

from .made import NAMES, made_analysis

TIMES = 5


def photograph(name: str) -> np.ndarray:
    some = np.random.default_rng(abs(hash(name)))
    coarse = Image.fromarray(some.integers(0, 256, (28, 28, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32)
    noisy = smooth + some.normal(0, 5, smooth.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def opened(browser: webdriver.Chrome, page: Path) -> tuple[float, float]:
    """Milliseconds until the page answers, and until its first picture is there."""
    browser.get("about:blank")
    browser.get(page.as_uri())
    return browser.execute_async_script(
        """
        const done = arguments[0];
        const look = () => {
          const drawn = performance.getEntriesByName("drawn")[0];
          if (!drawn) { setTimeout(look, 20); return; }
          done([performance.getEntriesByName("ready")[0].startTime, drawn.startTime]);
        };
        look();
        """
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="?", type=int, default=1000)
    cases = parser.parse_args().cases
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    for argument in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    with tempfile.TemporaryDirectory() as folder:
        analysis = made_analysis(cases, 0, size=(224, 224), grid=(7, 7), names=NAMES)
        began = time.perf_counter()
        page = write_report(analysis, folder, photograph)
        seconds = time.perf_counter() - began
        whole = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        print(f"{cases} cases written in {seconds:.0f} s, {whole / 1e6:.0f} MB in all")
        for name in (page.name, "manifest.json", "cases.csv"):
            print(f"  {name}: {(page.parent / name).stat().st_size / 1e6:.1f} MB")
        driver = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        browser = webdriver.Chrome(options=options, service=driver)
        try:
            found = [opened(browser, page) for _ in range(TIMES)]
        finally:
            browser.quit()
    ready, drawn = zip(*found, strict=True)
    for what, times in (("answers keys", ready), ("first case drawn", drawn)):
        spread = f"{min(times):.0f} to {max(times):.0f}"
        print(f"{what} after {statistics.median(times):.0f} ms (of {TIMES}: {spread})")


if __name__ == "__main__":
    main()
