"""Every Python block of the README and of every page runs."""

import pytest
import torch

from .pages import PAGES, has_code, name, run


@pytest.mark.parametrize("page", [p for p in PAGES if has_code(p)], ids=name)
@pytest.mark.filterwarnings("ignore")
def test_the_code_of_a_page_runs(page, folder):
    torch.manual_seed(0)
    run(page)
