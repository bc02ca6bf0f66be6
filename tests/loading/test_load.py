"""One name for all sources: what is said of names and of weights that are none."""

import pytest
import torch

import learnable_cam_plugin
from learnable_cam_plugin import LearnableCAM, load_classifier
from learnable_cam_plugin.loading import LoadedClassifier

for extra in ("timm", "transformers"):
    pytest.importorskip(extra, reason=f"the extra `{extra}`")

SOURCES = [
    "torchvision:resnet18",
    "timm:test_resnet",
    "transformers:SwinConfig",
    "tests.loading.networks:tiny",
]


def test_it_is_a_public_name():
    assert "load_classifier" in learnable_cam_plugin.__all__
    assert isinstance(load_classifier("tests.loading.networks:tiny"), LoadedClassifier)


@pytest.mark.parametrize("name", ["", "resnet18", "torchvision:", ":resnet18"])
def test_a_name_without_a_source_is_told_the_forms(name):
    with pytest.raises(ValueError, match=r"named 'source:name'.*timm, torchvision, transformers"):
        load_classifier(name)


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_that_is_not_there_is_said_before_anything_is_built(name):
    with pytest.raises(FileNotFoundError, match=r"no weights at 'mine.pth'.*/mine.pth"):
        load_classifier(name, weights="mine.pth")


@pytest.mark.parametrize("name", SOURCES[:3])
def test_pretrained_weights_have_their_own_classes(name):
    with pytest.raises(ValueError, match="num_classes goes with"):
        load_classifier(name, num_classes=7)


@pytest.mark.parametrize("count", [0, -1, True])
def test_num_classes_is_checked(count):
    with pytest.raises(ValueError, match="above 0"):
        load_classifier("torchvision:resnet18", "random", count)


@pytest.mark.parametrize("name", SOURCES[:2])
def test_random_weights_are_the_same_each_time_and_draw_nothing(name):
    before = torch.get_rng_state()
    one, other = (load_classifier(name, "random", 7) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert not one.model.training
    states = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.parametrize("name", SOURCES)
def test_learnable_cam_takes_the_model_as_it_is(name):
    loaded = load_classifier(name, None if "networks" in name else "random")
    images = torch.rand(1, 3, loaded.side, loaded.side)
    maps = LearnableCAM(loaded.model)(images)
    assert maps.shape == (1, loaded.side, loaded.side)
    assert maps.min() >= 0 < maps.max() <= 1
    assert loaded.layers
