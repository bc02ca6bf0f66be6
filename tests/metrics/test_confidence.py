import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learnable_cam_plugin.masking import FILLINGS, mask_image
from learnable_cam_plugin.metrics import (
    average_drop,
    bootstrap,
    confidence,
    drops,
    increase_in_confidence,
    increases,
    keep_top,
    masked_confidence,
)

from ..conftest import UNIT


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.01, 1), st.integers(0, 99))
def test_exactly_the_lowest_pixels_are_dropped(height, width, fraction, seed):
    maps = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed)) * 0.9 + 0.1
    kept = keep_top(maps, fraction)
    dropped = round((1 - fraction) * (height * width))  # in this order: a half may round either way
    assert ((kept == 0).flatten(1).sum(1) == dropped).all()
    assert torch.equal(kept[kept > 0], maps[kept > 0])
    for one, left in zip(maps, kept, strict=True):
        if 0 < dropped < one.numel():
            assert one[left == 0].max() <= one[left > 0].min()


def test_ties_do_not_change_the_count():
    assert (keep_top(torch.full((1, 10, 10), 0.5), 0.15) > 0).sum() == 15


def test_average_drop_and_increase_by_hand():
    p, q = torch.tensor([0.8, 0.5, 0.4]), torch.tensor([0.2, 0.6, 0.4])
    assert average_drop(p, q) == pytest.approx(100 * 0.75 / 3, abs=1e-4)
    assert increase_in_confidence(p, q) == pytest.approx(100 / 3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(1e-6, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_drops_and_increases_are_those_of_a_plain_loop(pairs):
    p, q = torch.tensor(pairs, dtype=torch.double).T
    assert drops(p, q).tolist() == pytest.approx([100 * max(0, a - b) / a for a, b in pairs])
    assert increases(p, q).tolist() == [100.0 * (b > a) for a, b in pairs]
    assert average_drop(p, q) == pytest.approx(float(drops(p, q).mean()), abs=1e-6)
    assert increase_in_confidence(p, q) == pytest.approx(float(increases(p, q).mean()))
    assert (drops(p, q)[increases(p, q) == 100] == 0).all()


@pytest.mark.parametrize("filling", FILLINGS)
def test_masked_confidence_is_the_softmax_of_the_masked_image(sharp, images, filling):
    maps, classes = torch.rand(4, 20, 24), torch.tensor([0, 1, 2, 4])
    result = masked_confidence(sharp.train(), images, maps, classes, UNIT, filling=filling)
    assert list(result) == [1.0, 0.5, 0.15]
    assert sharp.training
    sharp.eval()
    for fraction, p in result.items():
        scores = sharp(mask_image(images, keep_top(maps, fraction), UNIT, filling)).softmax(1)
        assert torch.allclose(p, scores[torch.arange(4), classes], atol=1e-6)


def test_a_full_map_keeps_the_confidence_and_an_empty_one_shows_the_filling(sharp, images):
    classes = torch.tensor([0, 1, 2, 4])
    ones, zeros = torch.ones(4, 20, 24), torch.zeros(4, 20, 24)
    full = masked_confidence(sharp, images, ones, classes, UNIT, [1.0])[1.0]
    assert torch.allclose(full, confidence(sharp, images, classes), atol=1e-6)
    empty = masked_confidence(sharp, images, zeros, classes, UNIT, [0.5])[0.5]
    assert torch.allclose(empty, confidence(sharp, images * 0, classes), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keep_top(torch.full((1, 2, 2), torch.nan), 0.5), "NaN"),
        (lambda: keep_top(torch.full((1, 2, 2), 1.5), 0.5), r"not \[0, 1\]"),
        (lambda: keep_top(torch.zeros(0, 2, 2), 0.5), "shape"),
        (lambda: keep_top(torch.zeros(1, 2, 2), 0.0), "fraction"),
        (lambda: average_drop(torch.zeros(0), torch.zeros(0)), "N > 0"),
        (lambda: average_drop(torch.ones(2), torch.ones(3)), "same N"),
        (lambda: drops(torch.ones(2, 2), torch.ones(2, 2)), "vectors"),
        (lambda: drops(torch.tensor([0.5, 0.0]), torch.ones(2)), "image 1 is 0, which cannot drop"),
        (lambda: drops(torch.tensor([0.5]), torch.tensor([torch.nan])), "masked must be"),
        (lambda: increases(torch.tensor([torch.nan]), torch.tensor([0.5])), "confidence must be"),
        (lambda: increases(torch.tensor([0.5, 1.5]), torch.ones(2)), "got 1.5 for image 1"),
        (lambda: increases(torch.tensor([1.01]), torch.ones(1)), "got 1.01 for image 0"),
        (lambda: average_drop(torch.tensor([-0.1]), torch.tensor([0.5])), r"in \[0, 1\]"),
        (lambda: increase_in_confidence(torch.ones(1), torch.tensor([2.0])), r"in \[0, 1\]"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_confidence_of_zero_can_still_rise():
    assert increases(torch.tensor([0.0]), torch.tensor([0.1])).tolist() == [100.0]


def test_classes_that_the_model_lacks_and_scores_without_a_number_are_refused(sharp, images):
    with pytest.raises(ValueError, match="classes 0 to 4"):
        confidence(sharp, images, torch.tensor([0, 1, 2, 5]))
    with pytest.raises(ValueError, match="classes 0 to 4"):
        confidence(sharp, images, torch.tensor([0, 1, -1, 2]))
    with pytest.raises(ValueError, match="one an image"):
        confidence(sharp, images, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="integers"):
        confidence(sharp, images, torch.zeros(4))
    with torch.no_grad():
        sharp[-1].bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="scores hold NaN"):
        confidence(sharp, images, torch.zeros(4).long())


def test_half_precision_keeps_the_pixels_of_the_maps_own_order(sharp, images):
    """Cast to bfloat16, values within 0.4 % are one, and which of them stay would be by place."""
    maps = torch.linspace(0.5, 0.502, 20 * 24).flip(0).view(1, 20, 24).expand(4, -1, -1)
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, x):
            seen.append(x.float())
            return torch.zeros(len(x), 5)

    masked_confidence(Watched(), images.bfloat16(), maps, torch.arange(4), UNIT, (0.5,))
    kept = seen[0].abs().amax(1).flatten(1)[0] > 0
    assert kept[: 20 * 12].float().mean() > 0.99
    assert not kept[20 * 12 :].any()


def test_lists_are_numbers_too():
    assert average_drop([0.8, 0.5], [0.4, 0.9]) == 25.0
    assert bootstrap([1.0, 1.0]) == (1.0, 1.0, 1.0)


def test_the_filling_may_be_images(sharp, images):
    maps = torch.rand(4, 20, 24, generator=torch.Generator().manual_seed(0))
    arguments = (sharp, images, maps, torch.arange(4), UNIT, (0.5,))
    mean = images.mean((2, 3), keepdim=True).expand_as(images)
    found = masked_confidence(*arguments, filling=mean)[0.5]
    assert torch.equal(found, masked_confidence(*arguments, filling="mean")[0.5])
