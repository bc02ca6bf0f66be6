"""`learnable-cam benchmark`: a table of a classifier by name."""

import json

from .networks import HERE
from .photographs import photographs, run, spoilt


def test_it_is_a_table_beside_grad_cam(tmp_path):
    photos, out = photographs(tmp_path / "in", 6), tmp_path / "out"
    done = run("benchmark", photos, "--limit", 4, "--out", out)
    assert done.exit_code == 0, done.output
    assert done.stdout == (out / "table.md").read_text()
    methods = [row["method"] for row in json.loads((out / "table.json").read_text())]
    assert methods == ["LearnableCAM (no training)", "Grad-CAM"]
    assert "| Grad-CAM |" in done.stdout


def test_it_is_json_and_names_what_was_left_out(tmp_path):
    photos = photographs(tmp_path / "in", 3)
    bad = spoilt(photos / "001.jpg")
    done = run("benchmark", photos, "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert [row["images"] for row in told["rows"]] == [2, 2]
    assert {"AD 100%", "IC 15%", "ms"} <= told["rows"][0].keys()
    assert str(bad) in told["left out"][0]


def test_where_grad_cam_does_not_run_it_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "learnable_cam_plugin.cli.benchmark.grad_cam",
        lambda *given: (_ for _ in ()).throw(ValueError("tokens")),
    )
    done = run("benchmark", photographs(tmp_path / "in", 2), model=f"{HERE}:small")
    assert done.exit_code == 0, done.output
    assert "note: Grad-CAM does not run here: tokens" in done.stderr
    assert "| Grad-CAM |" not in done.stdout


def test_those_that_are_scored_are_spread_over_all(tmp_path):
    photos = photographs(tmp_path / "in", 6)
    bad = spoilt(photos / "003.jpg")
    done = run("benchmark", photos, "--limit", 2, "--json")  # the first and the fourth
    told = json.loads(done.stdout)
    assert [row["images"] for row in told["rows"]] == [1, 1]
    assert str(bad) in told["left out"][0]
