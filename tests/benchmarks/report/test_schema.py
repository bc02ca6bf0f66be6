"""What a benchmark leaves behind, and reads again."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.report.schema import command_line, leave, read_left, read_results


def test_a_report_says_which_command_made_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "benchmarks" / "x.py"), "--data", "MY PHOTOS"])
    leave(tmp_path / "out", "table", ["A note.", "| a |"], rows=[1, 2])
    expected = "`python benchmarks/x.py --data 'MY PHOTOS'`\n\nA note.\n\n| a |\n"
    assert (tmp_path / "out" / "table.md").read_text() == expected
    record = json.loads((tmp_path / "out" / "table.json").read_text())
    assert record == {"command": "python benchmarks/x.py --data 'MY PHOTOS'", "rows": [1, 2]}
    assert "A note." in capsys.readouterr().out
    leave(tmp_path, "words", ["No data."])
    assert not (tmp_path / "words.json").exists()
    assert read_left(tmp_path / "out", "table") == record
    assert read_left(tmp_path, "words") == {}


def test_a_command_of_the_package_is_recorded_as_it_is_typed(tmp_path, monkeypatch):
    program = tmp_path / "benchmarks" / "__main__.py"
    monkeypatch.setattr(sys, "argv", [str(program), "compare", "synthetic", "--out", "x y"])
    assert command_line() == "python -m benchmarks compare synthetic --out 'x y'"


RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/*.json")), ids=lambda path: path.parts[-2])
def test_what_is_published_is_read(path):
    if path.name == "results.json":
        results = read_results(path.parent)
        assert results["methods"][0]["method"].startswith("LearnableCAM")
        assert results["methods"][0]["common"].keys() <= {m["key"] for m in results["metrics"]}
    else:
        left = read_left(path.parent, path.stem)
        assert left.get("command", "python ").startswith("python ")  # the oldest have none
        assert left.get("rows") or left["tables"]
