"""The page of guarantees names tests that there are."""

import re

from .pages import DOCS, ROOT

TESTS = ROOT / "tests"


def test_every_guarantee_names_a_test_that_there_is():
    rows = re.findall(r"^\| (?!guarantee|---).*$", (DOCS / "reliability.md").read_text(), re.M)
    named = [re.findall(r"`(\w*/?test_\w+\.py)::(test_\w+)`", row) for row in rows]
    assert len(rows) >= 25
    assert all(named), [row for row, tests in zip(rows, named, strict=True) if not tests]
    for file, test in {pair for pairs in named for pair in pairs}:
        path = next(at for at in (TESTS / "reliability" / file, TESTS / file) if at.exists())
        assert f"def {test}(" in path.read_text(), f"{file}::{test}"
