"""The table on the site is of the tests that there are."""

from importlib import import_module

import pytest

from .cases import GROUPS, PAGE, written


@pytest.mark.parametrize("name", GROUPS)
def test_every_test_has_its_row(name):
    module = import_module(f".{name}", __package__)
    tests = {key.removeprefix("test_") for key in vars(module) if key.startswith("test_")}
    assert tests == GROUPS[name][3].keys()


def test_the_page_shows_the_rows_of_now():
    page = PAGE.read_text()
    assert written(page) == page, "python -m tests.conformance.cases"
