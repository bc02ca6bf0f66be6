"""Recipro-CAM: against a loop over the places that masks the feature maps itself."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from benchmarks.methods.recipro_cam import ReciproCAM, spots
from learnable_cam_plugin.saliency import resize

from ...conftest import tiny_network

KERNEL = {-1: 0.25, 0: 0.5, 1: 0.25}


def by_hand(features, rest, category):
    """The map (h, w) of feature maps (C, h, w): a spot, and a pass of the rest, a place."""
    height, width = features.shape[1:]
    found = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            seen = torch.zeros_like(features)
            for i, down in KERNEL.items():
                for j, right in KERNEL.items():
                    y, x = row + i, column + j
                    if 0 <= y < height and 0 <= x < width:
                        seen[:, y, x] = features[:, y, x] * down * right
            with torch.no_grad():
                found[row, column] = rest(seen[None])[0].softmax(0)[category]
    return found


@pytest.fixture
def model():
    """Its last layers tell strong feature maps from weak ones: no bias drowns a single spot."""
    model = tiny_network().eval()
    nn.init.zeros_(model[3].bias)
    nn.init.normal_(model[8].weight, std=200.0, generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("layer", [2, 4], ids=["with a convolution after it", "before pooling"])
def test_a_place_is_worth_what_the_rest_of_the_network_says_of_it_alone(model, images, layer):
    classes = [1, 4, 0, 2]
    maps = ReciproCAM(model, [model[layer]])(images, [ClassifierOutputTarget(c) for c in classes])
    with torch.no_grad():
        features = model[: layer + 1](images)
    for one, category, found in zip(features, classes, maps, strict=True):
        slow = by_hand(one, model[layer + 1 :], category)
        assert np.ptp(slow) > 1e-3  # there is something to be found
        full = resize(torch.from_numpy((slow - slow.min()) / np.ptp(slow))[None], (20, 24))[0]
        full = (full - full.min()) / (full.max() - full.min())
        np.testing.assert_allclose(found, full, atol=1e-3)


def test_a_batch_gives_what_its_images_give_alone(model, images):
    targets = [ClassifierOutputTarget(c) for c in (0, 1, 2, 3)]
    cam = ReciproCAM(model, [model[4]])
    together = cam(images, targets)
    alone = np.concatenate([cam(images[i : i + 1], targets[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_a_spot_is_a_gaussian_of_3_x_3():
    masks = spots((4, 5))
    assert masks.shape == (20, 1, 4, 5)
    assert masks[7].sum() == 1  # row 1, column 2: all of it inside
    assert masks[7, 0, 1, 2] == 1 / 4
    assert masks[7, 0, 0, 2] == 1 / 8
    assert masks[7, 0, 2, 3] == 1 / 16
    assert masks[0].sum() == (1 - 0.25) ** 2  # a corner


def test_a_layer_too_many_is_refused(tiny):
    with pytest.raises(ValueError, match="one layer, got 2"):
        ReciproCAM(tiny, [tiny[2], tiny[4]])
