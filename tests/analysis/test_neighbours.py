"""Vectors of what a map selects, and the nearest of many."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from learnable_cam_plugin.analysis.case import Photo
from learnable_cam_plugin.analysis.neighbours import Gallery, selected


def test_features_outside_the_map_do_not_count():
    features = torch.rand(2, 5, 6, 6)
    maps = torch.zeros(2, 12, 12)
    maps[:, :6, :6] = 0.3
    found = selected(features, maps)
    expected = features[:, :, :3, :3].mean((2, 3))
    assert torch.allclose(cosine_similarity(found, expected), torch.ones(2), atol=1e-6)
    assert torch.allclose(found.norm(dim=1), torch.ones(2))
    changed = features.clone()
    changed[:, :, 3:] += 9
    assert torch.equal(selected(changed, maps), found)


def test_maps_smaller_than_the_features_and_maps_of_zeros():
    features = torch.rand(1, 4, 8, 8)
    assert selected(features, torch.ones(1, 2, 2)).shape == (1, 4)
    mean = features.mean((2, 3))
    found = selected(features, torch.zeros(1, 4, 4))
    assert torch.allclose(found, mean / mean.norm(), atol=1e-6)
    assert selected(torch.zeros(1, 4, 2, 2), torch.ones(1, 2, 2)).eq(0).all()


def test_the_nearest_are_those_of_all_compared_at_once():
    vectors = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    photos = [Photo(f"{i}.jpg", i % 3) for i in range(40)]
    gallery = Gallery()
    for start in range(0, 40, 7):
        gallery.add(vectors[start : start + 7], photos[start : start + 7])
    asked = torch.randn(16, generator=torch.Generator().manual_seed(1))
    cosines = cosine_similarity(vectors, asked[None])
    expected = cosines.topk(5)
    found = gallery.nearest(asked)
    assert [n.name for n in found] == [f"{i}.jpg" for i in expected.indices.tolist()]
    assert [n.label for n in found] == [i % 3 for i in expected.indices.tolist()]
    assert [n.likeness for n in found] == pytest.approx(expected.values.tolist(), abs=2e-3)
    assert len(gallery) == 40
    assert len(gallery.nearest(asked, 99)) == 40
    assert Gallery().nearest(asked) == ()


def test_it_keeps_two_bytes_a_number_and_no_graph():
    gallery = Gallery()
    gallery.add(torch.rand(3, 4, requires_grad=True), [Photo("a", 0)] * 3)
    (kept,) = gallery._vectors
    assert kept.dtype == torch.float16
    assert not kept.requires_grad


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (torch.rand(2, 4), "one an image, got .2, 4. of 1 images"),
        (torch.rand(4), "one an image"),
        (torch.rand(1, 5), "vectors before had 4 numbers, these 5"),
        (torch.full((1, 4), torch.nan), "the vector of b is not finite"),
    ],
)
def test_vectors_that_do_not_fit_are_refused_and_nothing_is_added(vectors, message):
    gallery = Gallery()
    gallery.add(torch.rand(1, 4), [Photo("a", 0)])
    with pytest.raises(ValueError, match=message):
        gallery.add(vectors, [Photo("b", 1)])
    assert len(gallery) == 1
