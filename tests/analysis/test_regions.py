"""Regions of maps, the control of the same shape, and how alike two maps are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from learnable_cam_plugin.analysis.regions import agreement, elsewhere, region

MAPS = arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32))


@given(MAPS, st.floats(0.05, 1), st.floats(0.05, 1))
@settings(deadline=None, max_examples=50)
def test_a_region_is_the_bright_part_and_no_larger_than_asked(found, level, area):
    size = (20, 28)
    inside = region(found, size, level, area)
    assert inside.shape == size
    assert inside.dtype == bool
    assert inside.mean() <= area + 1 / (20 * 28)
    if found.max() > found.min():
        assert inside.any()


def test_it_holds_the_highest_place():
    found = np.zeros((4, 4), np.float32)
    found[1, 2] = 1.0
    inside = region(found, (8, 8))
    assert inside[3, 5]
    assert not inside[:, :3].any()


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_of_a_constant_map_there_is_none(value):
    assert not region(np.full((4, 4), value, np.float32), (8, 8)).any()


@given(arrays(np.bool_, (6, 9)), st.integers(0, 1000))
@settings(deadline=None, max_examples=50)
def test_the_control_has_the_same_area_elsewhere_and_is_repeatable(found, seed):
    moved = elsewhere(found, np.random.default_rng(seed))
    assert moved.sum() == found.sum()
    assert moved.shape == found.shape
    assert (moved == elsewhere(found, np.random.default_rng(seed))).all()


def test_the_control_lies_off_the_region_and_everywhere_else():
    found = np.zeros((12, 12), bool)
    found[2:5, 3:6] = True
    random = np.random.default_rng(0)
    moved = [elsewhere(found, random) for _ in range(500)]
    assert all((one & found).sum() <= 1 for one in moved)
    covered = np.mean(moved, axis=0)
    assert (covered > 0).sum() > 0.9 * (~found).sum()


def test_where_there_is_no_place_off_it_the_control_covers_as_little_as_may_be():
    found = np.zeros((4, 4), bool)
    found[:3] = True
    moved = elsewhere(found, np.random.default_rng(0))
    assert (moved & found).sum() == 8


@given(MAPS, MAPS)
@settings(deadline=None, max_examples=50)
def test_the_correlation_is_spearmans(one, other):
    found = agreement(one, other, one > 0.5, other > 0.5).correlation
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        assert np.isnan(found)  # null, in the manifest
    else:
        assert found == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic, abs=1e-6)


def test_overlap_and_distance():
    grid = np.zeros((3, 4), np.float32)
    first, second = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    first[:10, :10] = second[:10, 5:15] = True
    found = agreement(grid, grid, first, second)
    assert found.overlap == pytest.approx(1 / 3)
    assert found.distance == pytest.approx(5 / 50)
    nothing = agreement(grid, grid, first, np.zeros((30, 40), bool))
    assert nothing.overlap == 0
    assert np.isnan(nothing.distance)  # it is nowhere, not at the same place
