"""The command on planted errors: all kinds in one analysis, and everything left that it says."""

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from benchmarks.commands import planted
from benchmarks.planted import kinds, network
from benchmarks.planted.kinds import KINDS
from learnable_cam_plugin.analysis import CAUSES


@pytest.fixture
def run(monkeypatch):
    """The command with an untrained network, whose errors are whatever they are."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = network.network().eval()

    def proved(drawn, model):
        images = network.images_of([one.scene for one in drawn])
        found = []
        for one, image, p in zip(drawn, images, network.probabilities(model, images), strict=True):
            first, second = p.topk(2).indices.tolist()
            label = first if one.label == one.predicted else second
            found.append((replace(one, label=label), image, None, p))
        return found

    monkeypatch.setattr(kinds, "_proved", proved)
    monkeypatch.setattr(planted, "trained_network", lambda folder, seed: model)
    monkeypatch.setattr(planted, "training_set", lambda count, seed: network.training_set(8, seed))
    return lambda *options: CliRunner().invoke(planted.main, [str(option) for option in options])


def test_everything_is_analysed_at_once_and_left(run, tmp_path):
    made = run("--out", tmp_path, "--count", 2, "--correct", 4)
    assert made.exit_code == 0, made.output
    found = json.loads((tmp_path / "planted.json").read_text())
    confusion, *_ = found["tables"].values()
    assert [row["planted"] for row in confusion] == list(KINDS)[:-2]
    assert all(sum(row[cause] for cause in CAUSES) == 2 for row in confusion)
    assert len(found["images"]) == 2 * (len(KINDS) - 1) + 4
    assert {one["named"] for one in found["images"] if one["planted"] == "correct"} == {"correct"}
    text = (tmp_path / "planted.md").read_text()
    assert all(title.capitalize() in text for title in found["tables"])
    assert "LearnableCAM, contrast" in text
    sheets = {f"sheet-{kinds.file_name(kind)}.png" for kind in KINDS}
    assert sheets < {path.name for path in tmp_path.iterdir()}
    again = run("--out", tmp_path, "--count", 2, "--correct", 4)
    assert again.exit_code == 0, again.output
    same = json.loads((tmp_path / "planted.json").read_text())
    assert {**found, "command": ""} == {**same, "command": ""}


def test_a_kind_that_is_never_found_is_told_of(run, tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "_proved", lambda drawn, model: [])
    monkeypatch.setattr(kinds, "_TRIES", 1)
    made = run("--out", tmp_path, "--count", 2)
    assert made.exit_code == 1
    assert "only 0 of 2 images of 'several objects' were found" in made.output
    assert not list(tmp_path.glob("planted*"))
