import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from learnable_cam_plugin.metrics import Interval, bootstrap, wilson


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.floats(0.1, 0.99))
def test_the_interval_lies_within_the_values_and_widens_with_the_level(values, level):
    mean, low, high = bootstrap(torch.tensor(values, dtype=torch.double), level, resamples=200)
    assert mean == pytest.approx(np.mean(values), abs=1e-9)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    wide = bootstrap(torch.tensor(values, dtype=torch.double), (1 + level) / 2, resamples=200)
    assert wide.low <= low
    assert high <= wide.high


def test_the_interval_is_scipys():
    values = torch.rand(200, generator=torch.Generator().manual_seed(0)) ** 2 * 100
    ours = bootstrap(values, 0.9, resamples=4000)
    data = (values.double().numpy(),)
    theirs = stats.bootstrap(
        data, np.mean, confidence_level=0.9, n_resamples=4000, method="percentile", random_state=0
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_it_is_seeded_and_leaves_the_random_numbers_alone():
    values = torch.rand(20)
    state = torch.get_rng_state()
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) != bootstrap(values, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_image_has_no_width_and_booleans_count():
    assert bootstrap(torch.tensor([0.25])) == Interval(0.25, 0.25, 0.25)
    assert bootstrap(torch.tensor([True, True])) == Interval(1.0, 1.0, 1.0)


@pytest.mark.parametrize(("hits", "of"), [(0, 1), (0, 20), (3, 61), (9, 10), (10, 10)])
def test_the_interval_of_a_share_is_scipys(hits, of):
    theirs = stats.binomtest(hits, of).proportion_ci(0.9, method="wilson")
    assert wilson(hits, of, 0.9) == pytest.approx((hits / of, theirs.low, theirs.high), abs=1e-9)


def test_a_share_of_nothing_is_anything():
    share, low, high = wilson(0, 0)
    assert share != share
    assert (low, high) == (0, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap(torch.zeros(0)), "N > 0"),
        (lambda: bootstrap(torch.zeros(2, 2)), "vector"),
        (lambda: bootstrap(torch.tensor([1.0, torch.nan])), "NaN"),
        (lambda: bootstrap(torch.ones(2), level=1.0), "level"),
        (lambda: bootstrap(torch.ones(2), resamples=0), "resamples"),
        (lambda: wilson(3, 2), "within 0 and of"),
        (lambda: wilson(1, 2, level=0), "level"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
