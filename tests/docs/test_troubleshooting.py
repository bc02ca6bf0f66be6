"""The messages of docs/troubleshooting.md are those that a user gets."""

import re

import pytest

from .errors import ERRORS, raised
from .pages import DOCS
from .preludes import classifier

PAGE = (DOCS / "troubleshooting.md").read_text()
SHOWN = dict(re.findall(r"^### (.+?)\n\n```text\n(.+?)\n```", PAGE, re.M | re.S))
# what other packages say, or what takes another installation to meet
NOT_RAISED = {
    "The command needs an extra",
    "torchvision::nms does not exist",
    "libGL.so.1 is missing",
}


def test_every_message_that_is_shown_is_tried():
    assert SHOWN.keys() - NOT_RAISED == ERRORS.keys()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("heading", ERRORS)
def test_the_message_is_the_one_shown(heading, folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = raised(heading, classifier())
    pattern = ".+".join(re.escape(part) for part in SHOWN[heading].split("…"))
    assert re.fullmatch(pattern, f"{type(error).__name__}: {error}", re.S), error
