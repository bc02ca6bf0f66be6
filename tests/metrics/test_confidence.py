import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learnable_cam_plugin.masking import mask_image
from learnable_cam_plugin.metrics import (
    average_drop,
    energy_inside,
    increase_in_confidence,
    keep_top,
    masked_confidence,
    pointing_hit,
)

from ..conftest import UNIT


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.01, 1), st.integers(0, 99))
def test_exactly_the_lowest_pixels_are_dropped(height, width, fraction, seed):
    maps = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed)) * 0.9 + 0.1
    kept = keep_top(maps, fraction)
    dropped = round((1 - fraction) * height * width)
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


def test_masked_confidence_is_the_softmax_of_the_masked_image(tiny, images):
    maps, classes = torch.rand(4, 20, 24), torch.tensor([0, 1, 2, 4])
    result = masked_confidence(tiny.train(), images, maps, classes, UNIT)
    assert list(result) == [1.0, 0.5, 0.15]
    tiny.eval()
    for fraction, p in result.items():
        scores = tiny(mask_image(images, keep_top(maps, fraction), UNIT)).softmax(1)
        assert torch.allclose(p, scores[torch.arange(4), classes])


def test_location_by_hand():
    maps = torch.tensor([[[0.2, 0.8], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    regions = torch.tensor([[[True, False], [True, False]]] * 2)
    assert torch.allclose(energy_inside(maps, regions), torch.tensor([0.2, 0.0]))
    assert pointing_hit(maps, regions).tolist() == [False, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keep_top(torch.full((1, 2, 2), torch.nan), 0.5), "NaN"),
        (lambda: keep_top(torch.full((1, 2, 2), 1.5), 0.5), r"not \[0, 1\]"),
        (lambda: keep_top(torch.zeros(0, 2, 2), 0.5), "shape"),
        (lambda: keep_top(torch.zeros(1, 2, 2), 0.0), "fraction"),
        (lambda: average_drop(torch.zeros(0), torch.zeros(0)), "N > 0"),
        (lambda: average_drop(torch.ones(2), torch.ones(3)), "same N"),
        (lambda: energy_inside(torch.zeros(1, 2, 2), torch.ones(1, 2, 2)), "booleans"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_saliency_of_another_size_is_refused(tiny, images):
    with pytest.raises(ValueError, match="does not fit"):
        masked_confidence(tiny, images, torch.zeros(4, 10, 12), torch.zeros(4).long(), UNIT)
