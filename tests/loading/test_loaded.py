"""A loaded classifier: its layers, found by running it, and the transform of photographs."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from learnable_cam_plugin import FrozenClassifier, load_classifier

from . import networks


def test_the_layers_are_those_of_a_pass():
    loaded = load_classifier("torchvision:resnet18", "random")
    images = torch.randn(1, 3, 224, 224)
    assert loaded.layers == list(FrozenClassifier.found(loaded.model, images).layers)
    assert loaded.layers == ["layer3", "layer4"]
    assert loaded.frozen is loaded.frozen  # run once
    assert loaded.frozen.normalization == loaded.normalization


def test_a_photograph_is_transformed_to_its_side_and_normalised():
    loaded = networks.loaded()
    image = loaded.transform(Image.new("RGB", (300, 200), (255, 255, 255)))
    assert image.shape == (3, 96, 96)
    assert torch.allclose(image, torch.ones(()))  # (1 - 0.5) / 0.5


def test_without_a_normalisation_the_transform_says_so():
    loaded = replace(networks.loaded(), normalization=None, source="mine:net")
    with pytest.raises(ValueError, match=r"nothing records the normalisation of 'mine:net'"):
        _ = loaded.transform
    assert loaded.layers == ["1", "4"] or loaded.layers  # they are found all the same
