"""What the export benchmark leaves; no test looks at how long anything took."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.commands.export import main
from benchmarks.exported import in_turns, rank_correlation, ratio

pytest.importorskip("onnxscript", reason="the extra `export` is not installed")


def test_rows_of_graphs_and_methods_with_ratios_to_the_logits_alone(tmp_path):
    command = ["--network", "small-network", "--batch", "1", "--rounds", "2"]
    result = CliRunner().invoke(main, [*command, "--out", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    rows = json.loads((tmp_path / "export.json").read_text())["rows"]
    assert [row["what"] for row in rows] == [
        "onnxruntime, logits alone",
        "onnxruntime, top class",
        "onnxruntime, top 5",
        "onnxruntime, classic CAM",
        "eager, logits alone",
        "eager, ExplainedClassifier",
        "eager, ExplainedClassifier, top 5",
        "eager, Grad-CAM",
        "eager, Recipro-CAM",
    ]
    assert [row["x logits alone"] for row in (rows[0], rows[4])] == ["1.000", "1.000"]
    assert "onnxruntime" in (tmp_path / "export.md").read_text()


def test_each_call_is_made_once_a_round():
    made = []
    seconds = in_turns({"a": lambda: made.append("a"), "b": lambda: made.append("b")}, 5)
    assert [len(found) for found in seconds.values()] == [5, 5]
    assert sorted(made) == ["a"] * 7 + ["b"] * 7  # two rounds warm up


def test_ratios_and_ranks():
    assert ratio([2.0, 9.0, 3.0], [1.0, 1.0, 1.0]) == 3
    maps = np.random.default_rng(0).random((2, 5, 5))
    assert rank_correlation(maps, maps**3) == pytest.approx(1)
    assert rank_correlation(maps, -maps) == pytest.approx(-1)
