"""Something in front: things of an image, the image without one, and the cause that it is."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from learnable_cam_plugin.analysis import Photo, analyze
from learnable_cam_plugin.analysis.causes import away
from learnable_cam_plugin.analysis.things import segments, surrounded, things

from ..conftest import UNIT

GREY, RED, BLUE = (0.5, 0.5, 0.5), (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)
MIXED, FLAG, NOTHING = 0, 1, 2
OBJECT, BAR, CORNER = np.zeros((3, 64, 64), bool)
OBJECT[12:44, 12:44] = True
BAR[24:32, 8:48] = True
CORNER[54:62, 20:60] = True


def drawn(bar, seed=0):
    """A red square on grey, and a blue bar; (3, 64, 64)."""
    pixels = np.full((64, 64, 3), GREY) + np.random.default_rng(seed).normal(0, 0.01, (64, 64, 3))
    pixels[OBJECT] = RED
    pixels[bar] = BLUE
    return pixels.clip(0, 1).astype(np.float32)


def network(misled=30.0):
    """What is red is a flag, unless there is blue, too."""
    features = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AvgPool2d(4))
    head = nn.Linear(2, 3)
    with torch.no_grad():
        features[0].weight.copy_(torch.tensor([[1.0, -1, -1], [-1, -1, 1]])[..., None, None])
        features[0].bias.zero_()
        head.weight.copy_(5 * torch.tensor([[4.0, 0.0], [8.0, -misled], [0.0, 0.0]]))
        head.bias.copy_(torch.tensor([0.0, 0.0, 1.5]))
    pool = nn.AdaptiveAvgPool2d(1)
    parts = {"features": features, "pool": pool, "flatten": nn.Flatten(), "head": head}
    return nn.Sequential(OrderedDict(parts)).eval()


def analysed(bar, label=FLAG, model=None, seed=0):
    image = torch.from_numpy(drawn(bar)).permute(2, 0, 1)[None]
    photos = [Photo("flag.png", label)]
    model = network() if model is None else model
    (found,) = analyze(model, [(image, photos)], UNIT, seed=seed, progress=False).cases
    return found


@pytest.mark.parametrize("seed", range(3))
def test_a_bar_in_front_of_the_object_is_named_and_found(seed):
    found = analysed(BAR, seed=seed)
    assert found.predicted == MIXED
    assert found.cause == "something in front"
    thing = found.regions["thing"]
    assert (thing & BAR).sum() > 0.8 * (thing | BAR).sum()
    assert (found.regions["behind"] & OBJECT).sum() > 0.5 * found.regions["behind"].sum()


@pytest.mark.parametrize("seed", range(3))
def test_beside_the_object_the_same_bar_is_not_in_front(seed):
    found = analysed(CORNER, seed=seed)
    assert found.predicted == MIXED
    assert found.cause != "something in front"
    freed, *_ = found.verdict.checks["something in front"]
    assert freed.holds  # without it the label wins; it is where it is that speaks against it


@pytest.mark.parametrize("seed", range(3))
def test_a_bar_that_changes_nothing_is_not_named(seed):
    found = analysed(BAR, label=MIXED, model=network(misled=-2.0), seed=seed)
    assert found.predicted == FLAG
    assert found.cause != "something in front"


def test_what_random_regions_do_as_well_is_not_named():
    """The label wins where anything is erased: nothing in the image is proved to be in the way."""

    class Shy(nn.Module):
        def __init__(self, first):
            super().__init__()
            self.model, self.first = network(0.0), first

        def forward(self, images):
            changed = (images - self.first).abs().amax((1, 2, 3)) > 0.2
            scores = self.model(images)
            return torch.where(changed[:, None], scores.flip(1), scores)

    first = torch.from_numpy(drawn(BAR)).permute(2, 0, 1)[None]
    for label in (MIXED, NOTHING):
        found = analysed(BAR, label=label, model=Shy(first))
        assert found.cause != "something in front"


def test_things_are_pieces_of_one_colour_neither_tiny_nor_most_of_the_image():
    found = things(drawn(BAR))
    assert all(0.012 <= one.mean() < 0.2 for one in found)
    best = max((one & BAR).sum() / (one | BAR).sum() for one in found)
    assert best > 0.8
    assert things(np.full((64, 64, 3), 0.5, np.float32)) == []  # one piece, all of the image
    for side, small in ((20, True), (29, False)):  # a tenth of it, and a fifth
        square = np.full((64, 64, 3), 0.5, np.float32)
        square[:side, :side] = 0.9
        assert any(one[: side - 2, : side - 2].all() for one in things(square)) == small


@pytest.mark.parametrize("size", [(224, 224), (150, 300), (7, 5), (1, 1)])
def test_things_are_regions_at_the_images_size_and_no_more_than_a_pass_each_can_test(size):
    noise = np.random.default_rng(0).random((*size, 3)).astype(np.float32)
    found = things(noise)
    assert len(found) <= 40
    assert all(one.shape == size and one.dtype == bool for one in found)
    pairs = [(one, other) for i, one in enumerate(found) for other in found[:i]]
    assert all((one & other).sum() < 0.85 * (one | other).sum() for one, other in pairs)


def test_segments_part_two_colours_at_their_border():
    halves = np.zeros((10, 12, 3), np.float32)
    halves[:, 5:] = 0.8
    found = segments(halves)
    assert set(found[:, :5].ravel()) != set(found[:, 5:].ravel())
    assert len(np.unique(found)) == 2


def test_what_is_hidden_takes_the_colours_around_it():
    images = torch.rand(2, 3, 40, 56) * 0.1
    images[1] += 0.7
    clean = images.clone()
    hidden = torch.zeros(2, 40, 56, dtype=torch.bool)
    hidden[:, 10:22, 20:45] = True
    images[hidden[:, None].expand_as(images)] = 5.0
    found = surrounded(images, hidden)
    seen = ~hidden[:, None].expand_as(images)
    assert torch.equal(found[seen], clean[seen])
    for one, low in zip(found, (0.0, 0.7), strict=True):
        assert float(one.min()) >= low
        assert float(one.max()) <= low + 0.1
    assert torch.equal(surrounded(clean, torch.zeros_like(hidden)), clean)
    assert not surrounded(images, torch.ones_like(hidden)).any()


def test_a_thing_lies_far_from_a_class_that_is_not_seen():
    assert away(BAR, OBJECT) < 0.2
    assert away(BAR, np.zeros_like(OBJECT)) == 1
