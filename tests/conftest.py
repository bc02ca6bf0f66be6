"""A tiny seeded network for most tests; the real network and photographs where at hand."""

import shutil
import signal
from pathlib import Path

import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from learnable_cam_plugin import Normalization

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
UNIT = Normalization([0.0], [1.0])


def tiny_network(num_classes: int = 5, seed: int = 0) -> nn.Sequential:
    """Two convolutions (maps half the image's size), pooling, one linear layer."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, 1, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8, num_classes),
    )


def of_class(*classes: int) -> list[ClassifierOutputTarget]:
    """A target of pytorch-grad-cam's each."""
    return [ClassifierOutputTarget(index) for index in classes]


@pytest.fixture
def tiny() -> nn.Sequential:
    return tiny_network()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 20, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session", autouse=True)
def _heard_interruptions():
    """A job in a shell's background, and what it starts, ignores Ctrl-C: the tests that send one
    to a process of theirs would wait for it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real photographs that developers have; never part of the repository."""
    folder = DATA / "caltech" / "val"
    if not folder.is_dir():
        pytest.skip(f"no photographs at {folder}")
    return folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory):
    """A real browser, without a window, that keeps its log and that of what it asks for."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: .[test] has it")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("needs chromium and chromedriver on PATH (apt install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # A driver given by its path: selenium then downloads none.
    service = webdriver.ChromeService(executable_path=driver)
    opened = webdriver.Chrome(options=options, service=service)
    yield opened
    opened.quit()
