"""One mechanism beside several classifiers: each has its own images, and none is changed."""

import pytest
import torch

from learnable_cam_plugin import EveryThreshold, LCAMAttention, LearnableCAMTrainer, Normalization
from learnable_cam_plugin.classifier import FrozenClassifier
from learnable_cam_plugin.training.recipes import BesideSeveral, Companion

from ...conftest import UNIT, tiny_network

OTHER = Normalization([0.5], [0.25])
# small random networks predict few classes
pytestmark = pytest.mark.filterwarnings("ignore:.*makes no mosaics")


def companion(seed, images=None, side=None, classes=7):
    net = tiny_network(classes, seed).eval().requires_grad_(False)
    return Companion(f"tiny {seed}", FrozenClassifier.of(net, ["2", "4"], OTHER), images, side)


@pytest.fixture
def loader():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(6, 3, 20, 24, generator=generator) for _ in range(8)]


def trained(companions, loader, start=None):
    recipe = BesideSeveral(EveryThreshold(), companions)
    trainer = LearnableCAMTrainer(
        tiny_network(), ["2", "4"], recipe=recipe, normalization=UNIT, epochs=1, progress=False,
        device="cpu", start=start,
    )  # fmt: skip
    return trainer.fit(loader)


def test_the_companions_shape_the_result_and_stay_as_they_were(loader):
    others = [companion(1), companion(2, OTHER.normalize(torch.rand(9, 3, 16, 16)))]
    before = [
        {k: v.clone() for k, v in one.classifier.model.state_dict().items()} for one in others
    ]
    alone, together = trained([], loader), trained(others, loader)
    assert not torch.equal(alone.out.weight, together.out.weight)
    for one, state in zip(others, before, strict=True):
        now = one.classifier.model.state_dict()
        assert all(torch.equal(now[key], value) for key, value in state.items())
    assert together.origin.recipe["companions"] == ["tiny 1", "tiny 2"]
    assert together.num_classes == 5


def test_it_comes_out_the_same_twice(loader):
    one, two = (trained([companion(1)], loader) for _ in range(2))
    assert torch.equal(one.out.weight, two.out.weight)


def test_a_companion_is_given_the_images_in_its_own_normalisation_and_size():
    pixels = torch.rand(2, 3, 20, 20)
    assert torch.allclose(companion(1).batch(pixels, 0), (pixels - 0.5) / 0.25, atol=1e-6)
    assert companion(1, side=12).batch(pixels, 0).shape == (2, 3, 12, 12)
    own = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 4, 4)
    assert companion(1, own).batch(pixels, 3).shape == (2, 3, 4, 4)
    assert torch.equal(companion(1, own).batch(pixels, 3), companion(1, own).batch(pixels, 3))
    drawn = [companion(1, own).batch(pixels, seed)[:, 0, 0, 0].tolist() for seed in range(9)]
    assert any(one != drawn[0] for one in drawn)


def test_labels_are_of_the_trainers_own_classifier(loader):
    recipe = BesideSeveral(EveryThreshold(), [companion(1, classes=2)])
    trainer = LearnableCAMTrainer(
        tiny_network(), ["2", "4"], recipe=recipe, normalization=UNIT, epochs=1, progress=False,
        device="cpu", labels="dataset",
    )  # fmt: skip
    trainer.fit([(images, torch.full((6,), 4)) for images in loader])
    assert trainer.history


def test_an_attention_of_one_classifier_cannot_be_trained_beside_several(loader):
    with pytest.raises(TypeError, match="LCAMAttention belongs to one classifier"):
        trained([companion(1)] * 9, loader, start=LCAMAttention({"2": 6, "4": 8}, 5))
