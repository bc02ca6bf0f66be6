import pytest
import torch
from torch import nn

from learnable_cam_plugin import Normalization
from learnable_cam_plugin.masking import classify_masked_features, mask_image
from learnable_cam_plugin.saliency import resize

from .conftest import UNIT

IMAGENET = Normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.mark.parametrize("normalization", [IMAGENET, UNIT, Normalization([0.5], [0.25])])
def test_the_image_is_masked_in_pixel_space_before_normalisation(images, normalization):
    mask = torch.rand(4, 5, 6)
    expected = normalization.normalize(images * resize(mask, (20, 24))[:, None])
    masked = mask_image(normalization.normalize(images), mask, normalization)
    assert torch.allclose(masked, expected, atol=1e-6)


def test_masks_of_one_and_zero_keep_and_blacken(images):
    x = IMAGENET.normalize(images)
    assert torch.allclose(mask_image(x, torch.ones(4, 2, 2), IMAGENET), x, atol=1e-6)
    black = mask_image(x, torch.zeros(4, 2, 2), IMAGENET)
    assert torch.allclose(IMAGENET.denormalize(black), torch.zeros_like(images), atol=1e-6)


def test_volumes_are_masked_too():
    x = torch.rand(2, 1, 4, 6, 8)
    masked = mask_image(x, torch.full((2, 2, 3, 4), 0.5), UNIT)
    assert torch.allclose(masked, x / 2)


def test_masked_features_run_through_the_rest_of_the_network(tiny, images):
    tiny.eval()
    mask = torch.rand(4, 10, 12)
    maps = tiny[:5](images)
    expected = tiny[5:](maps * mask[:, None])
    assert torch.allclose(classify_masked_features(tiny, tiny[4], images, mask), expected)


def test_masking_tokens_is_refused_with_the_way_out(images):
    net = nn.Sequential(nn.Flatten(2), nn.Flatten(1), nn.LazyLinear(3))
    with pytest.raises(ValueError, match="use recipe='l-cam-img'"):
        classify_masked_features(net, net[0], images, torch.rand(4, 10, 12))


def test_wrong_normalisations_are_refused(images):
    with pytest.raises(ValueError, match="one value a channel"):
        Normalization([0.5], [0.5, 0.5])
    with pytest.raises(ValueError, match="above 0"):
        Normalization([0.5], [0.0])
    with pytest.raises(ValueError, match="2 channels, the images 3"):
        Normalization([0.5] * 2, [0.5] * 2).normalize(images)
    with pytest.raises(ValueError, match=r"gives pixels from -.*declare the normalisation"):
        UNIT.check(IMAGENET.normalize(images))
    IMAGENET.check(IMAGENET.normalize(images))
