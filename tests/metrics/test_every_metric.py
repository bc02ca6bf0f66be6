"""What holds for every metric of a map: bad input is refused, a constant map has a finite score."""

import pytest
import torch

from learnable_cam_plugin import metrics

from ..conftest import UNIT

SIZE = (20, 24)
CLASSES = torch.tensor([0, 1, 2, 4])
REGIONS = torch.zeros(4, *SIZE, dtype=torch.bool)
REGIONS[:, :10, :6] = True
OTHER = torch.rand(4, *SIZE, generator=torch.Generator().manual_seed(2))

# (model, images, maps) -> (N,)
OF_MAPS = {
    "masked_confidence": lambda *args: metrics.masked_confidence(*args, CLASSES, UNIT)[0.5],
    "insertion": lambda *args: metrics.insertion(*args, CLASSES, UNIT, steps=4),
    "deletion": lambda *args: metrics.deletion(*args, CLASSES, UNIT, steps=4),
    "road": lambda *args: metrics.road(*args, CLASSES, (50,)),
    "energy_inside": lambda _model, _images, maps: metrics.energy_inside(maps, REGIONS),
    "pointing_hit": lambda _model, _images, maps: metrics.pointing_hit(maps, REGIONS),
    "grid_pointing": lambda _model, _images, maps: metrics.grid_pointing(maps, torch.arange(4)),
    "complexity": lambda _model, _images, maps: metrics.complexity(maps),
    "coherency": lambda _model, _images, maps: metrics.coherency(maps, OTHER),
}
every_metric = pytest.mark.parametrize("metric", OF_MAPS.values(), ids=OF_MAPS.keys())


def bad(value):
    maps = torch.full((4, *SIZE), 0.5)
    maps[2, 3, 4] = value
    return maps


@every_metric
@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (bad(torch.nan), "NaN"),
        (bad(torch.inf), "infinity"),
        (bad(1.5), r"\[0, 1\]"),
        (bad(-0.5), r"\[0, 1\]"),
        (torch.zeros(0, *SIZE), r"\(0, 20, 24\)"),
        (torch.zeros(*SIZE), r"\(20, 24\)"),
    ],
    ids=["NaN", "infinity", "above 1", "below 0", "empty", "one map without a batch"],
)
def test_bad_maps_are_refused(metric, maps, message, sharp, images):
    with pytest.raises(ValueError, match=message):
        metric(sharp, images, maps)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (name, shape)
        for name in OF_MAPS
        for shape in [(4, 10, 12), (3, *SIZE)]
        # a complexity needs nothing beside the maps, and a mosaic is as large as its map
        if name != "complexity" and (name, shape) != ("grid_pointing", (4, 10, 12))
    ],
)
def test_maps_that_do_not_fit_are_refused(name, shape, sharp, images):
    with pytest.raises(ValueError, match=r"\(4, |shape"):
        OF_MAPS[name](sharp, images, torch.zeros(shape))


@pytest.mark.parametrize("name", ["masked_confidence", "insertion", "deletion", "road"])
def test_images_without_a_number_are_refused(name, sharp, images):
    images[1, 0, 2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"images \[1\] of the batch hold NaN"):
        OF_MAPS[name](sharp, images, OTHER)


@every_metric
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_map_has_a_finite_score_an_image(metric, value, sharp, images):
    scores = metric(sharp, images, torch.full((4, *SIZE), value))
    assert scores.shape == (4,)
    assert torch.isfinite(scores.float()).all()


@pytest.mark.parametrize(
    ("name", "value", "score"),
    [
        ("road", 0.0, 0),
        ("road", 0.3, 0),
        ("energy_inside", 0.0, 0),
        ("energy_inside", 0.5, 1 / 8),
        ("pointing_hit", 0.0, 1),  # the top left pixel, which is inside
        ("grid_pointing", 0.0, 0),
        ("grid_pointing", 0.5, 1 / 4),
        ("complexity", 0.0, 0),
        ("complexity", 1.0, 100),
        ("coherency", 0.0, 50),
        ("coherency", 0.3, 50),
    ],
)
def test_a_constant_map_scores_as_documented(name, value, score, sharp, images):
    scores = OF_MAPS[name](sharp, images, torch.full((4, *SIZE), value))
    assert scores.float().tolist() == pytest.approx([score] * 4)


def test_a_constant_map_is_uncovered_line_by_line(sharp, images):
    lines = torch.linspace(1, 0, 480).view(1, *SIZE).expand(4, -1, -1)
    for name in ("insertion", "deletion"):
        constant = OF_MAPS[name](sharp, images, torch.full((4, *SIZE), 0.5))
        assert torch.allclose(constant, OF_MAPS[name](sharp, images, lines))
