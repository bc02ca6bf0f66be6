"""The attention that comes with the package, on the real network and real photographs."""

import json

import pytest
import torch
from click.testing import CliRunner
from pytorch_grad_cam import GradCAM

from learnable_cam_plugin import ConditionedAttention, LearnableCAM
from learnable_cam_plugin.cli import main
from learnable_cam_plugin.comparison import compare, explain
from learnable_cam_plugin.photos import PhotoFolder
from learnable_cam_plugin.pretrained import FILES, explain_photos, pretrained, shipped_photos


@pytest.fixture(scope="module")
def ready():
    return pretrained()


def test_the_file_is_small_and_covers_every_class(ready):
    model, normalization, attention = ready
    (file,) = FILES.glob("*.safetensors")
    assert file.stat().st_size < 5_000_000
    assert (FILES / "README.md").exists()
    assert isinstance(attention, ConditionedAttention)
    assert attention.num_classes == 1000
    assert attention.origin.normalization["mean"] == list(normalization.mean)
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with LearnableCAM(model, [model.features], attention=attention) as cam:
        first, last = (explain(cam, images, torch.full((2,), c)) for c in (0, 999))
    assert first.shape == (2, 224, 224)
    assert (first - last).abs().max() > 0.05


def test_it_explains_the_photographs_that_packages_ship(tmp_path):
    photos = shipped_photos()
    assert {"china.jpg", "flower.jpg"} <= {path.name for path in photos}
    rows = explain_photos([], tmp_path, top=2)
    assert len(rows) == 2 * len(photos)
    assert json.loads((tmp_path / "explanations.json").read_text()) == rows
    assert (tmp_path / "explanations.png").stat().st_size > 50_000
    by_name = {row["photo"].split("/")[-1]: row["name"] for row in rows[::2]}
    if "chelsea.png" in by_name:
        assert "cat" in by_name["chelsea.png"]


def test_the_command_explains_a_photograph_of_ones_own(tmp_path):
    photo = shipped_photos()[-1]
    run = CliRunner().invoke(main, ["explain", str(photo), "--out", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    assert photo.name in run.output
    for bad, message in ((tmp_path / "no.jpg", "no photograph at"), (__file__, "not a readable")):
        run = CliRunner().invoke(main, ["explain", str(bad), "--out", str(tmp_path / "bad")])
        assert run.exit_code == 1
        assert message in run.output
    assert not (tmp_path / "bad").exists()


def test_it_is_ahead_of_grad_cam_on_photographs_that_it_was_not_trained_on(ready, photos):
    model, normalization, attention = ready
    folder = PhotoFolder(photos, normalization)
    images = torch.stack([folder[i] for i in range(0, len(folder), len(folder) // 32)])
    layers = [model.features]
    methods = {
        "ours": LearnableCAM(model, layers, attention=attention),
        "theirs": GradCAM(model, layers),
    }
    rows = compare(model, methods, images.split(16), normalization, progress=False)
    ours, theirs = rows
    for column in ("AD 100%", "AD 50%"):
        assert ours[column] < theirs[column] - 5
