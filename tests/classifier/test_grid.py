"""Tokens, and channels that come last, are arranged as the grid that they came from."""

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Size

from learnable_cam_plugin.classifier.grid import as_grid, in_proportion, places

sides, channels, patches = st.integers(2, 32), st.integers(1, 9), st.integers(1, 16)


def numbered(*shape):
    count = torch.Size(shape).numel()
    return torch.arange(count, dtype=torch.float32).view(shape)


@settings(deadline=None)
@given(
    rows=sides, columns=sides, width=channels, patch=patches, extra=st.sampled_from([0, 1, 2, 4, 5])
)
def test_tokens_with_any_known_extra_ones_come_back_as_their_grid(
    rows, columns, width, patch, extra
):
    maps = numbered(2, width, rows, columns)
    tokens = torch.cat([-torch.ones(2, extra, width), maps.flatten(2).mT], 1)
    found = as_grid(tokens, Size([rows * patch, columns * patch]))
    assert found is not None
    if found.shape == maps.shape:
        assert torch.equal(found, maps)
    else:  # other numbers of tokens make a grid of these proportions too
        other = [tokens.shape[1] - n for n in (0, 1, 2, 5) if n != extra]
        assert places(found) in other
        assert found.shape[2] * columns == found.shape[3] * rows


@settings(deadline=None)
@given(rows=sides, columns=sides, extra=st.sampled_from([0, 1]), patch=patches)
def test_of_the_customary_two_none_is_taken_for_the_other(rows, columns, extra, patch):
    maps = numbered(1, 2, rows, columns)
    tokens = torch.cat([-torch.ones(1, extra, 2), maps.flatten(2).mT], 1)
    assert torch.equal(as_grid(tokens, Size([rows * patch, columns * patch])), maps)


def test_two_extra_tokens_are_not_one_more_column():
    maps = numbered(1, 3, 2, 20)
    tokens = torch.cat([-torch.ones(1, 2, 3), maps.flatten(2).mT], 1)
    assert torch.equal(as_grid(tokens, Size([32, 320])), maps)


@pytest.mark.parametrize("size", [(224, 224), (230, 237), (224, 300), (96, 160)])
def test_images_that_are_no_whole_number_of_patches(size):
    maps = numbered(1, 3, size[0] // 16, size[1] // 16)
    tokens = torch.cat([-torch.ones(1, 1, 3), maps.flatten(2).mT], 1)
    assert torch.equal(as_grid(tokens, Size(size)), maps)


@settings(deadline=None)
@given(rows=sides, columns=sides, more=st.integers(1, 64), patch=patches)
def test_channels_that_come_last(rows, columns, more, patch):
    """Where they are more than both sides of the grid, and the images not of proportions as odd."""
    width, size = max(rows, columns) + more, Size([rows * patch, columns * patch])
    maps = numbered(2, width, rows, columns)
    last = maps.permute(0, 2, 3, 1)
    found = as_grid(last, size)
    if columns * columns == rows * width:  # (columns, width) has the images' proportions too
        assert found is last
    else:
        assert torch.equal(found, maps)


@settings(deadline=None)
@given(width=st.integers(1, 300), rows=sides, columns=sides, patch=patches)
def test_maps_as_they_are_customary_are_left_alone(width, rows, columns, patch):
    maps = numbered(1, width, rows, columns)
    assert as_grid(maps, Size([rows * patch, columns * patch])) is maps


@settings(deadline=None)
@given(width=st.integers(1, 64), height=st.integers(32, 160), other=st.integers(32, 160))
@example(width=1, height=33, other=131)
@example(width=5, height=51, other=70)
def test_maps_of_rounded_sides_are_left_alone(width, height, other):
    """As strided convolutions of a side that their stride does not divide."""
    maps = torch.nn.functional.conv2d(
        torch.rand(1, 1, height, other), torch.rand(width, 1, 3, 3), None, 8
    )
    assume(width * other != maps.shape[2] * height)  # a grid of the images' exact proportions
    assert as_grid(maps, Size([height, other])) is maps


@pytest.mark.parametrize(
    ("output", "size"),
    [
        (torch.rand(2, 7), (32, 32)),
        (torch.rand(2, 16, 4, 4, 4), (32, 32)),
        (torch.rand(2, 19, 8), (32, 32)),  # no grid has 19, 18, 17, 15 or 14 places
        (torch.rand(2, 1, 8), (32, 32)),
        (torch.rand(2, 16, 8), (16, 32, 32)),  # volumes
        ((torch.rand(2, 8, 4, 4), None), (32, 32)),
        (None, (32, 32)),
    ],
)
def test_what_is_no_grid_is_none(output, size):
    assert as_grid(output, Size(size)) is None
    assert places(None) == 0


@pytest.mark.parametrize("size", [(16, 128), (128, 16)])
def test_a_row_or_a_column_of_tokens_is_no_grid(size):
    assert as_grid(torch.rand(2, 8, 4), Size(size)) is None


def test_a_grid_is_in_proportion_up_to_one_row_or_column():
    assert in_proportion(torch.rand(1, 8, 3, 4), Size([64, 64]))
    assert not in_proportion(torch.rand(1, 8, 3, 5), Size([64, 64]))
