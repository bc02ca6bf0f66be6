import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from learnable_cam_plugin.saliency import min_max, resize, saliency

maps = st.builds(
    lambda n, h, w, seed, scale, shift: (
        torch.randn(n, h, w, generator=torch.Generator().manual_seed(seed)) * scale + shift
    ),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 2**31),
    st.sampled_from([1e-6, 1.0, 1e4]),
    st.sampled_from([0.0, -7.0, 100.0]),
)


@settings(deadline=None)
@given(maps, st.integers(1, 40), st.integers(1, 40))
def test_saliency_fills_the_unit_interval(raw, height, width):
    result = saliency([raw], (height, width))
    assert result.shape == (len(raw), height, width)
    for one in result:
        assert one.min() == 0
        assert one.max() == (1 if one.max() > 0 else 0)


@settings(deadline=None)
@given(maps, st.floats(0.1, 10), st.floats(-5, 5))
def test_saliency_does_not_depend_on_scale_and_shift_of_the_raw_map(raw, scale, shift):
    raw = raw.double()
    assert torch.allclose(
        saliency([raw], (30, 20)), saliency([raw * scale + shift], (30, 20)), atol=1e-6
    )


def test_saliency_is_the_papers_formula_stretched_to_the_unit_interval():
    """Min-max, then bilinear resizing without aligned corners; written out on its own here."""
    raw = torch.randn(3, 7, 7)
    low, high = raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True)
    paper = F.interpolate(((raw - low) / (high - low))[:, None], (224, 224), mode="bilinear")[:, 0]
    peak, floor = paper.amax((1, 2), keepdim=True), paper.amin((1, 2), keepdim=True)
    assert torch.allclose(saliency([raw], (224, 224)), (paper - floor) / (peak - floor), atol=1e-5)


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), st.integers(1, 7), st.integers(1, 50))
def test_a_constant_map_is_zero_and_not_amplified_rounding(value, small, large):
    assert not saliency([torch.full((1, small, small), value)], (large, large)).any()


@settings(deadline=None)
@given(maps, st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_small_maps_are_resized_by_products_to_what_interpolate_gives(raw, height, width, several):
    given_, size = (raw[:, None].repeat(1, 2, 1, 1) if several else raw), (height, width)
    expected = F.interpolate(raw[:, None], size, mode="bilinear").expand(-1, 2, -1, -1)
    expected = expected if several else expected[:, 0]
    near = 1e-6 * float(raw.abs().max())
    assert torch.allclose(resize(given_, size), expected, rtol=1e-5, atol=near)


def test_no_mode_of_a_first_call_shows_in_later_ones():
    """The products' matrices are kept: made in inference mode, they serve a graph too."""
    with torch.inference_mode():
        resize(torch.rand(1, 11, 3), (13, 17))
    maps = torch.rand(1, 11, 3, requires_grad=True)
    resize(maps, (13, 17)).square().sum().backward()
    assert maps.grad is not None
    with torch.autocast("cpu", torch.bfloat16):
        rounded = resize(maps, (13, 17))
    assert torch.allclose(rounded, resize(maps, (13, 17)), atol=1e-6)


def test_volumes_are_resized_trilinearly():
    volumes = torch.rand(2, 3, 4, 5)
    expected = F.interpolate(volumes[:, None], (6, 8, 10), mode="trilinear")[:, 0]
    assert torch.equal(resize(volumes, (6, 8, 10)), expected)
    ramp = torch.arange(4.0)[:, None, None].expand(1, 4, 3, 3)  # linear stays linear inside
    assert torch.allclose(resize(ramp, (8, 3, 3))[0, 1:-1, 0, 0], torch.arange(6) / 2 + 0.25)


def test_several_layers_are_averaged():
    a, b = torch.rand(2, 4, 4), torch.rand(2, 8, 8)
    expected = min_max(resize(min_max(a), (16, 16)) + resize(min_max(b), (16, 16)))
    assert torch.allclose(saliency([a, b], (16, 16)), expected)
