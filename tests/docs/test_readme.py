"""The README is short, its table is what the results say, and CI finds its test command."""

import re
import sys

from .pages import DOCS, ROOT

sys.path.insert(0, str(DOCS / "tools"))
import tables

README = (ROOT / "README.md").read_text()


def test_it_is_short():
    assert len(README.splitlines()) <= 160


def test_its_table_is_what_the_results_say():
    assert tables.with_table(README) == README, "run: python docs/tools/tables.py"


def test_the_commands_are_there():
    block = re.search(r"<!-- tests -->\n```bash\n(.*?)```", README, re.S)
    assert block
    assert "pytest" in block.group(1)
    assert '&& pip install ".[photos]" && learnable-cam quickstart' in README
    assert "learnable-cam explain" in README
