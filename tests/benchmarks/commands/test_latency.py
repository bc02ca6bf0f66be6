"""The paired latency: two states of the repository, one table."""

import json

from click.testing import CliRunner

from benchmarks.commands import latency


def test_a_state_is_paired_with_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "INTERFACES", ("LearnableCAM, classic CAM",))
    options = [
        "--before",
        str(latency.HERE),
        "--network",
        "resnet50",
        "--rounds",
        "3",
        "--pairs",
        "2",
    ]
    options += ["--explanations", "1", "--out", str(tmp_path)]
    run = CliRunner().invoke(latency.main, options, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    (row,) = json.loads((tmp_path / "latency.json").read_text())["rows"]
    assert row["ms before"] > 0 < row["ms now"]
    assert 0.2 < float(row["ratio"].split()[0]) < 5
    assert "| resnet50 |" in (tmp_path / "latency.md").read_text()


def test_a_folder_that_holds_no_package_is_named(tmp_path):
    options = ["--before", str(tmp_path), "--out", str(tmp_path / "out")]
    run = CliRunner().invoke(latency.main, options)
    assert run.exit_code == 1
    assert f"the worker of {tmp_path} did not start" in run.output
