"""The attention that comes with the package, on the real network and real photographs."""

import pytest
import torch
from pytorch_grad_cam import GradCAM

from learnable_cam_plugin import ConditionedAttention, LearnableCAM
from learnable_cam_plugin.comparison import class_maps, compare_methods
from learnable_cam_plugin.data import PhotoFolder
from learnable_cam_plugin.pretrained import EFFICIENTNET_LITE0, pretrained


@pytest.fixture(scope="module")
def ready():
    return pretrained()


def test_the_file_is_small_and_covers_every_class(ready):
    model, normalization, attention = ready
    assert EFFICIENTNET_LITE0.stat().st_size < 5_000_000
    assert EFFICIENTNET_LITE0.with_name("README.md").exists()
    assert isinstance(attention, ConditionedAttention)
    assert attention.num_classes == 1000
    assert attention.origin.normalization["mean"] == list(normalization.mean)
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with LearnableCAM(model, [model.features], attention=attention) as cam:
        first, last = (class_maps(cam, images, torch.full((2,), c)) for c in (0, 999))
    assert first.shape == (2, 224, 224)
    assert (first - last).abs().max() > 0.05


def test_it_is_ahead_of_grad_cam_on_photographs_that_it_was_not_trained_on(ready, photos):
    model, normalization, attention = ready
    folder = PhotoFolder(photos, normalization)
    images = torch.stack([folder[i] for i in range(0, len(folder), len(folder) // 32)])
    layers = [model.features]
    methods = {
        "ours": LearnableCAM(model, layers, attention=attention),
        "theirs": GradCAM(model, layers),
    }
    rows = compare_methods(model, methods, images.split(16), normalization, progress=False)
    ours, theirs = rows
    for column in ("AD 100%", "AD 50%"):
        assert ours[column] < theirs[column] - 5
