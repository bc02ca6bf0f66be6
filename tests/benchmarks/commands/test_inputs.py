"""The picture of the universal attention's inputs: all of them, in the order of their names."""

import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks.commands import inputs
from learnable_cam_plugin.attention import universal_attention
from learnable_cam_plugin.attention.evidence import INPUTS, evidence
from learnable_cam_plugin.classifier import FrozenClassifier, forward_with_features, predict
from learnable_cam_plugin.data import NORMALIZATION, draw_images
from learnable_cam_plugin.pretrained import small_network


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return FrozenClassifier.of(small_network().eval(), ["features.1", "features"], NORMALIZATION)


@pytest.fixture
def attention(classifier):
    images = draw_images(2, 0).images
    return universal_attention(classifier.model, list(classifier.layers), images)


def test_every_input_has_its_name(classifier, attention):
    assert len(inputs.NAMES) == INPUTS
    image = draw_images(1, 3).images
    _, classes = predict(classifier.model, image)
    maps, shown = inputs.read(classifier, attention, image, classes)
    found = dict(zip(inputs.NAMES, maps, strict=True))
    assert shown.shape == (96, 96)
    for name in ("logit, standardised", "contrast, carried", "norm, finer layer"):
        assert float(found[name].mean()) == pytest.approx(0, abs=1e-4)
    assert float(found["log share among rivals"].max()) <= 0
    _, features = forward_with_features(classifier.model, classifier.layers, image)
    head = classifier.model[-1]
    with torch.no_grad():
        logit = torch.einsum("chw,c->hw", features["features"][0], head.weight[classes[0]])
    strong = found["logit, in spreads"].flatten().argmax()
    assert (
        strong
        == torch.nn.functional.interpolate(
            logit[None, None], maps.shape[1:], mode="bilinear"
        ).argmax()
    )


PAGE = Path(__file__).resolve().parents[3] / "docs" / "why-no-training.md"


def test_the_page_explains_them_under_the_same_names_and_numbers():
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", PAGE.read_text(), re.M)
    assert rows == [(str(i), name) for i, name in enumerate(inputs.NAMES, 1)]


def test_what_the_page_says_of_scales_holds():
    generator = torch.Generator().manual_seed(0)
    fine, last, vectors, offsets = (
        torch.rand(size, generator=generator)
        for size in ((2, 8, 14, 14), (2, 16, 7, 7), (20, 16), (20,))
    )
    classes = torch.tensor([3, 7])
    expected = evidence([fine, last * 3], vectors, offsets, classes).maps
    scaled = evidence([fine * 3, last * 15], vectors / 5, offsets, classes).maps
    assert float((scaled - expected).abs().max()) < 0.02
    surer = evidence([fine, last * 3], vectors * 2, offsets * 2, classes).maps
    moved = (surer - expected).abs().amax((0, 2, 3)) > 0.005
    # of the logits' scale: the contrast, the share, and what is carried of them
    assert {i for i, one in enumerate(moved.tolist(), 1) if one} == {1, 3, 4, 8, 10, 11}


def test_the_command_draws_a_photograph_of_ones_own(classifier, attention, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "lite", lambda number: classifier)
    monkeypatch.setattr(inputs, "SIDES", {2: 96})
    attention.save(tmp_path / "attention.safetensors")
    Image.new("RGB", (120, 100), "orange").save(tmp_path / "photo.png")
    options = ["--attention", str(tmp_path / "attention.safetensors")]

    def run(photo):
        given = [*options, "--photo", str(photo), "--out", str(tmp_path / "out" / "inputs.png")]
        return CliRunner().invoke(inputs.main, given)

    (tmp_path / "no.png").write_text("no image")
    wrong = run(tmp_path / "no.png")
    assert wrong.exit_code == 1
    assert "is not a readable image" in wrong.output
    assert not (tmp_path / "out").exists()
    made = run(tmp_path / "photo.png")
    assert made.exit_code == 0, made.output
    with Image.open(tmp_path / "out" / "inputs.png") as image:
        assert min(image.size) > 500
