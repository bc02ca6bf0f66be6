"""What the speed benchmark leaves; no test looks at how long anything took."""

import json

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from benchmarks.commands.speed import allowed, main
from benchmarks.memory import peak_memory
from benchmarks.methods import find_methods
from benchmarks.testbed import blank
from learnable_cam_plugin.classifier import forward_with_features


def test_rows_with_ratios_to_the_bare_pass_and_to_grad_cam(tmp_path):
    command = ["--network", "small-network", "--rounds", "2", "--slow-rounds", "1"]
    command += ["--methods", "LearnableCAM,classic CAM,L-CAM-Fm,Grad-CAM,Ada-SISE"]
    result = CliRunner().invoke(
        main, [*command, "--device", "cpu", "--out", str(tmp_path)], catch_exceptions=False
    )
    assert result.exit_code == 0
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    names = ["bare forward pass", "LearnableCAM", "classic CAM", "Grad-CAM"]
    assert [r["method"] for r in rows if r["batch"] == 1] == [*names, "Ada-SISE"]
    assert [r["method"] for r in rows if r["batch"] == 16] == names
    for row in rows:
        assert row["ms"] * row["a second"] == pytest.approx(1000)
    assert rows[0]["x bare pass"] == "1.00"
    assert rows[3]["x Grad-CAM"] == "1.00"
    assert "threads" in (tmp_path / "speed.md").read_text()


def test_classic_cam_is_left_out_where_the_head_does_not_allow_it():
    bed = blank("small-network")
    (classic,) = find_methods("classic CAM")
    assert allowed(classic, bed)
    bed.model.head = nn.Sequential(nn.Linear(96, 8), nn.Linear(8, 6))
    assert not allowed(classic, bed)


def test_peak_memory_grows_with_what_is_kept():
    """FullGrad keeps the gradients of every layer; the bare pass keeps nothing."""
    bare = peak_memory("small-network", None, 16, "cpu")
    full = peak_memory("small-network", "FullGrad", 16, "cpu")
    assert 0 < bare < full


def test_an_unknown_network_names_those_there_are():
    with pytest.raises(ValueError, match=r"there are .'efficientnet-lite0', .*'small-network'"):
        blank("alexnet")


@pytest.mark.parametrize("network", ["efficientnet-lite0", "resnet50", "vgg16", "small-network"])
def test_every_networks_layers_exist_and_the_target_layer_gives_feature_maps(network):
    bed = blank(network, images=1)
    assert len(bed.stages) >= 3
    with torch.no_grad():
        _, maps = forward_with_features(bed.model, {"layer": bed.layer}, bed.pictures.images)
    assert maps["layer"].ndim == 4
