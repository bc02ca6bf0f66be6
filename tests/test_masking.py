import warnings

import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from learnable_cam_plugin import Normalization
from learnable_cam_plugin.masking import FILLINGS, background, mask_image
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


@pytest.mark.parametrize("filling", FILLINGS)
def test_a_mask_of_zero_leaves_the_filling_and_one_of_half_is_half_way(images, filling):
    x = IMAGENET.normalize(images)
    behind = background(x, IMAGENET, filling)
    assert behind.shape == x.shape
    hidden = mask_image(x, torch.zeros(4, 2, 2), IMAGENET, filling)
    assert torch.allclose(hidden, behind, atol=1e-6)
    assert torch.allclose(mask_image(x, torch.ones(4, 2, 2), IMAGENET, filling), x, atol=1e-6)
    half = mask_image(x, torch.full((4, 2, 2), 0.5), IMAGENET, filling)
    assert torch.allclose(half, (x + behind) / 2, atol=1e-6)


def test_the_fillings_by_hand():
    images = torch.rand(2, 3, 64, 80)
    x = IMAGENET.normalize(images)
    shown = {name: IMAGENET.denormalize(background(x, IMAGENET, name)) for name in FILLINGS}
    assert shown["black"].abs().max() < 1e-6
    assert torch.allclose(shown["mean"], images.mean((2, 3), keepdim=True), atol=1e-5)
    assert torch.allclose(shown["blur"], gaussian_blur(images, [25, 25], [4.0, 4.0]), atol=1e-5)


def test_black_and_mean_copy_no_image(images):
    assert background(images, UNIT, "black").stride(0) == 0
    assert background(images, UNIT, "mean").stride()[2:] == (0, 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (7, 100)])
@pytest.mark.parametrize("filling", ["mean", "blur"])
def test_an_image_of_one_colour_is_its_own_filling(size, filling):
    x = torch.rand(2, 3, 1, 1).expand(2, 3, *size)
    assert torch.allclose(background(x, UNIT, filling), x, atol=1e-6)


def test_volumes_have_the_fillings_that_need_no_blur():
    x = torch.rand(2, 1, 4, 6, 8)
    assert torch.allclose(background(x, UNIT, "mean")[:, 0, 0, 0, 0], x.mean((1, 2, 3, 4)))
    with pytest.raises(ValueError, match="use 'black' or 'mean'"):
        background(x, UNIT, "blur")


def test_an_unknown_filling_is_refused_with_the_known_ones(images):
    with pytest.raises(ValueError, match="'white'; it must be one of black, mean, blur"):
        mask_image(images, torch.ones(4, 2, 2), UNIT, "white")


def test_volumes_are_masked_too():
    x = torch.rand(2, 1, 4, 6, 8)
    masked = mask_image(x, torch.full((2, 2, 3, 4), 0.5), UNIT)
    assert torch.allclose(masked, x / 2)


def test_wrong_normalisations_are_refused(images):
    with pytest.raises(ValueError, match="one value a channel"):
        Normalization([0.5], [0.5, 0.5])
    with pytest.raises(ValueError, match="one value a channel"):
        Normalization([], [])
    with pytest.raises(ValueError, match="above 0"):
        Normalization([0.5], [0.0])
    with pytest.raises(ValueError, match="2 channels, the images 3"):
        Normalization([0.5] * 2, [0.5] * 2).normalize(images)
    with pytest.raises(ValueError, match=r"gives pixels from -.*declare the normalisation"):
        UNIT.check(IMAGENET.normalize(images))
    IMAGENET.check(IMAGENET.normalize(images))


def test_images_that_were_not_normalised_are_told_of(images):
    """As pixels they lie in [0, 1], and undone in the middle of it: the commonest mistake."""
    with pytest.warns(UserWarning, match="lie in .0, 1., as pixels do before they are normalised"):
        IMAGENET.check(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        IMAGENET.check(IMAGENET.normalize(images))
        UNIT.check(images)
        Normalization([0.5], [0.5]).check(2 * images - 1)
        IMAGENET.check(torch.zeros(1, 3, 4, 4))  # one colour may be anything
        IMAGENET.check(images / 4)  # so may what is as grey as that


def test_what_bicubic_resizing_overshoots_is_let_pass(images):
    pixels = torch.nn.functional.interpolate((images > 0.5).float(), (33, 47), mode="bicubic")
    assert pixels.min() < -0.02
    pixels = pixels.clamp(-0.09, 1.09)
    IMAGENET.check(IMAGENET.normalize(pixels))
    with pytest.raises(ValueError, match="declare the normalisation"):
        IMAGENET.check(IMAGENET.normalize(2 * pixels))
    for beyond in (pixels + 0.06, pixels - 0.06):
        with pytest.raises(ValueError, match="declare the normalisation"):
            IMAGENET.check(IMAGENET.normalize(beyond))


def test_a_mask_may_be_of_another_precision_than_the_images(images):
    mask = torch.rand(4, 20, 24, generator=torch.Generator().manual_seed(0))
    found = mask_image(images.bfloat16(), mask, UNIT)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), mask_image(images, mask, UNIT), atol=2e-2)
