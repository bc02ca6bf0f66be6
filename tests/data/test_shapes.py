import torch

from learnable_cam_plugin.data import CLASSES, NORMALIZATION, draw_images


def test_drawings_are_seeded_and_their_regions_are_the_shapes():
    drawn, again, other = draw_images(20, 3), draw_images(20, 3), draw_images(20, 4)
    assert torch.equal(drawn.images, again.images)
    assert not torch.equal(drawn.images, other.images)
    assert (drawn.classes[:, 0] != drawn.classes[:, 1]).all()
    assert drawn.classes.unique().tolist() == list(range(len(CLASSES)))
    assert not (drawn.regions[:, 0] & drawn.regions[:, 1]).any()
    share = drawn.regions.float().mean((2, 3))
    assert share.min() > 0.01
    assert share.max() < 0.15
    NORMALIZATION.check(drawn.images)


def test_a_shape_has_its_own_colour():
    """Inside its region the pixels vary less than those of the texture around."""
    drawn = draw_images(10, 0)
    pixels = NORMALIZATION.denormalize(drawn.images)
    for image, regions in zip(pixels, drawn.regions, strict=True):
        background = image[:, ~regions.any(0)].std(1).mean()
        assert all(image[:, region].std(1).mean() < background for region in regions)
