import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learnable_cam_plugin.metrics import adcc, coherency, complexity

PERCENT = st.floats(0, 100)


@settings(deadline=None)
@given(
    st.integers(1, 8), st.integers(2, 8), st.sampled_from([1.0, 1e-3, 1e-20]), st.integers(0, 99)
)
def test_coherency_is_the_correlation_at_any_brightness(height, width, scale, seed):
    a, b = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed)).double()
    scores = coherency(a * scale, b)
    for one, other, score in zip(a.numpy(), b.numpy(), scores.tolist(), strict=True):
        r = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert score == pytest.approx(50 * (1 + r), abs=1e-6)
    assert torch.allclose(coherency(b, a * scale), scores)
    assert torch.allclose(coherency(a, a), torch.full((3,), 100.0).double())
    assert torch.allclose(coherency(a, 1 - a), torch.zeros(3).double(), atol=1e-6)


def test_constant_maps_are_like_each_other_and_unlike_all_else():
    zeros, half, other = torch.zeros(1, 3, 4), torch.full((1, 3, 4), 0.1), torch.rand(1, 3, 4)
    assert coherency(zeros, half).tolist() == [100.0]
    assert coherency(half, half).tolist() == [100.0]
    assert coherency(other, half).tolist() == coherency(zeros, other).tolist() == [50.0]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_maps_that_are_no_numbers_in_0_to_1_are_refused(dtype):
    maps = torch.ones(2, 3, 4, dtype=dtype)
    for metric in (complexity, lambda x: coherency(x, x)):
        with pytest.raises(ValueError, match=r"saliency is (bool|uint8); .* pass maps.float\(\)"):
            metric(maps)


def test_complexity_is_the_mean_in_percent():
    maps = torch.rand(3, 5, 6)
    expected = [100 * statistics.fmean(one.flatten().tolist()) for one in maps]
    assert complexity(maps).tolist() == pytest.approx(expected, rel=1e-5)


@settings(deadline=None)
@given(st.lists(st.tuples(PERCENT, PERCENT, PERCENT), min_size=1, max_size=9))
def test_adcc_is_the_harmonic_mean(rows):
    drop, coherent, complicated = torch.tensor(rows, dtype=torch.double).T
    expected = [statistics.harmonic_mean([100 - d, c, 100 - x]) for d, c, x in rows]
    assert adcc(drop, coherent, complicated).tolist() == pytest.approx(expected)


def test_adcc_is_100_for_the_perfect_map_and_0_where_one_part_fails():
    zero, full = torch.zeros(1), torch.full((1,), 100.0)
    assert adcc(zero, full, zero).tolist() == pytest.approx([100])
    assert adcc(full, full, zero).tolist() == [0]
    assert adcc(zero, zero, zero).tolist() == [0]
    assert adcc(zero, full, full).tolist() == [0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coherency(torch.rand(2, 3, 4), torch.rand(2, 4, 3)), "one shape"),
        (lambda: coherency(torch.rand(2, 3), torch.rand(2, 3)), "shape"),
        (lambda: adcc(torch.zeros(2), torch.zeros(3), torch.zeros(2)), "same N"),
        (lambda: adcc(torch.zeros(0), torch.zeros(0), torch.zeros(0)), "N > 0"),
        (lambda: adcc(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1)), "vectors"),
        (lambda: adcc(torch.tensor([torch.nan]), torch.zeros(1), torch.zeros(1)), "drop must"),
        (lambda: adcc(torch.zeros(1), torch.tensor([-1.0]), torch.zeros(1)), "coherency must"),
        (lambda: adcc(torch.zeros(1), torch.zeros(1), torch.tensor([101.0])), "complexity must"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
