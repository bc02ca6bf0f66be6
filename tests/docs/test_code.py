"""Every Python block of the README and of every page runs."""

import pytest
import torch

from .pages import PAGES, has_code, name, run

# these run in test_extensions.py, where what they leave is looked at
EXTENSIONS = {f"write-a-{piece}" for piece in ("mechanism", "recipe", "metric", "peer")}


@pytest.mark.parametrize(
    "page", [p for p in PAGES if has_code(p) and p.stem not in EXTENSIONS], ids=name
)
@pytest.mark.filterwarnings("ignore")
def test_the_code_of_a_page_runs(page, folder):
    torch.manual_seed(0)
    run(page)
