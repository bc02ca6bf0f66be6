"""What the export benchmark leaves; no test looks at how long anything took."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.commands import export
from benchmarks.commands.export import main, onnxruntime_run
from benchmarks.exported import in_turns, rank_correlation, ratio
from learnable_cam_plugin import Normalization
from learnable_cam_plugin.export import quantize_onnx

from ...conftest import tiny_network

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


def test_integers_are_calibrated_on_some_photographs_and_measured_on_others(tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="the extra `bench`")
    normalization = Normalization([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
    pixels = torch.rand(16, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    photos = normalization.normalize(pixels)
    shown, measured = [], []

    def watched(path, out, batches, mechanism=False):
        shown.extend(batches)
        return quantize_onnx(path, out, iter(shown), mechanism)

    def run(path, threads):
        found = onnxruntime_run(path, threads)

        def noting(images):
            measured.append(torch.from_numpy(images))
            return found(images)

        return noting

    monkeypatch.setattr(export, "load_network", lambda name: (tiny_network(), normalization))
    monkeypatch.setattr(export, "load_photos", lambda *given: (photos, []))
    monkeypatch.setattr(export, "quantize_onnx", watched)
    monkeypatch.setattr(export, "onnxruntime_run", run)
    rows = export.precisions(tmp_path, 16, rounds=1, threads=1)
    numbers = {row["runtime and precision"]: row for row in rows}
    assert float(numbers["onnxruntime int8"]["rank correlation"]) > 0.5
    calibrated, scored = (
        {image.numpy().tobytes() for part in parts for image in part} for parts in (shown, measured)
    )
    assert (len(calibrated), len(scored)) == (4, 12)
    assert not calibrated & scored
    monkeypatch.setattr(export, "load_photos", lambda *given: (photos[:1], []))
    with pytest.raises(ValueError, match="at least 2, got 1"):
        export.precisions(tmp_path, 1, rounds=1, threads=1)


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
    clipped = np.array([[[0, 0, 0, 1]], [[0, 0, 2, 1]]]), np.array([[[1, 0, 0, 0]], [[0, 0, 2, 1]]])
    assert rank_correlation(*clipped) == pytest.approx((-1 / 3 + 1) / 2)  # equal ones share ranks
