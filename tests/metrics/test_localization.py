import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learnable_cam_plugin.metrics import (
    cell_regions,
    energy_inside,
    grid_pointing,
    mosaics,
    pointing_hit,
)


def test_location_by_hand():
    maps = torch.tensor([[[0.2, 0.8], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    regions = torch.tensor([[[True, False], [True, False]]] * 2)
    assert torch.allclose(energy_inside(maps, regions), torch.tensor([0.2, 0.0]))
    assert pointing_hit(maps, regions).tolist() == [False, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_maps_in_half_precision_are_added_up_in_single(dtype):
    maps, regions = torch.full((1, 300, 300), 0.9, dtype=dtype), torch.zeros(1, 300, 300).bool()
    regions[:, :100] = True
    assert float(energy_inside(maps, regions)) == pytest.approx(1 / 3, abs=1e-5)
    assert float(grid_pointing(maps, torch.tensor([1]))) == pytest.approx(1 / 4, abs=1e-5)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_energy_inside_and_outside_is_all_of_it(height, width, seed):
    draw = torch.Generator().manual_seed(seed)
    maps = torch.rand(3, height, width, generator=draw) + 1e-3
    maps /= maps.amax()
    regions = torch.rand(3, height, width, generator=draw) < 0.5
    both = energy_inside(maps, regions) + energy_inside(maps, ~regions)
    assert torch.allclose(both, torch.ones(3))
    assert (pointing_hit(maps, regions) ^ pointing_hit(maps, ~regions)).all()
    assert torch.allclose(energy_inside(maps / 7, regions), energy_inside(maps, regions))


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(2, 15), st.integers(2, 15)),
    st.lists(st.integers(0, 6), min_size=4, max_size=20).filter(lambda x: len(set(x)) >= 4),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_each_cell_shows_its_member_and_no_class_is_shown_twice(size, labels, count, seed):
    classes = torch.tensor(labels)
    images = torch.arange(len(labels)).float()[:, None, None, None].expand(-1, 2, *size)
    grids, members, cells = mosaics(images, classes, count, seed)
    assert grids.shape == (count, 2, *size)
    assert members.shape == (count, 4)
    for grid, member in zip(grids, members, strict=True):
        assert len(set(classes[member].tolist())) == 4
        for cell, index in enumerate(member.tolist()):
            inside = grid[:, cell_regions(torch.tensor([cell]), size)[0]]
            assert torch.allclose(inside, torch.tensor(float(index)), atol=1e-4)
    shown = cells.bincount(minlength=4)
    assert cells.shape == (count,)
    assert shown.max() - shown.min() <= 1
    again = mosaics(images, classes, count, seed)
    assert all(torch.equal(a, b) for a, b in zip(again, (grids, members, cells), strict=True))


def test_the_seed_draws_and_every_image_gets_its_turn():
    images, classes = torch.rand(12, 3, 4, 4), torch.arange(12) % 6
    state = torch.get_rng_state()
    _, members, _ = mosaics(images, classes, 60, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert members.unique().tolist() == list(range(12))
    assert not torch.equal(mosaics(images, classes, 60, seed=1)[1], members)


def test_images_are_halved_without_aliasing():
    noise = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    grids = mosaics(noise, torch.arange(4), 1)[0]
    # a triangle over 4 x 4 pixels leaves 0.31 of noise; the 2 x 2 without antialiasing 0.5
    assert float(grids.std() / noise.std()) == pytest.approx(0.31, abs=0.05)


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(2, 9))
def test_the_four_cells_cover_every_pixel_once(height, width):
    regions = cell_regions(torch.arange(4), (height, width))
    assert regions.shape == (4, height, width)
    assert (regions.sum(0) == 1).all()
    assert regions[0, 0, 0]
    assert regions[1, 0, -1]
    assert regions[2, -1, 0]
    assert regions[3, -1, -1]


def test_grid_pointing_is_the_energy_in_the_cell():
    cells = torch.tensor([3, 0, 1])
    inside = cell_regions(cells, (6, 8))
    assert grid_pointing(inside.float(), cells).tolist() == [1, 1, 1]
    assert grid_pointing(1 - inside.float(), cells).tolist() == [0, 0, 0]
    maps = torch.rand(3, 6, 8)
    corner = maps[0, 3:, 4:].sum() / maps[0].sum()
    assert float(grid_pointing(maps, cells)[0]) == pytest.approx(float(corner))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: energy_inside(torch.zeros(1, 2, 2), torch.ones(1, 2, 2)), "booleans"),
        (lambda: pointing_hit(torch.zeros(1, 2, 2), torch.ones(1, 2, 3).bool()), "booleans"),
        (lambda: mosaics(torch.rand(5, 3, 8, 8), torch.arange(5) % 3, 2), "different classes"),
        (lambda: mosaics(torch.rand(5, 3, 8, 8), torch.arange(4), 2), "one an image"),
        (lambda: mosaics(torch.rand(4, 3, 8, 8), torch.arange(4), 0), "count"),
        (lambda: mosaics(torch.rand(4, 3, 1, 8), torch.arange(4), 1), "2 x 2 pixels"),
        (lambda: mosaics(torch.rand(4, 3, 8), torch.arange(4), 1), "shape"),
        (lambda: mosaics(torch.rand(4, 3, 8, 8, 8), torch.arange(4), 1), r"\(N, C, H, W\)"),
        (lambda: mosaics(torch.full((4, 3, 8, 8), torch.nan), torch.arange(4), 1), "NaN"),
        (lambda: cell_regions(torch.tensor([4]), (4, 4)), "0 to 3"),
        (lambda: cell_regions(torch.zeros(0).long(), (4, 4)), "M > 0"),
        (lambda: cell_regions(torch.zeros(1).long(), (1, 4)), "2 x 2 pixels"),
        (lambda: grid_pointing(torch.rand(2, 4, 4), torch.tensor([1])), "booleans of shape"),
        (lambda: grid_pointing(torch.rand(2, 4, 4, 4), torch.tensor([1])), r"\(M, H, W\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mosaics_of_half_precision_are_those_of_the_whole(images, dtype):
    classes = torch.arange(4)
    grids, _, _ = mosaics(images.to(dtype), classes, 3)
    assert grids.dtype == dtype
    torch.testing.assert_close(grids.float(), mosaics(images, classes, 3)[0], atol=0.01, rtol=0.01)
