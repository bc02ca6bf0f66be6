"""What a benchmark leaves behind."""

import json
import sys

from benchmarks.results import leave


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
