"""Metrics as entries: each says what it is, and is computed of what was explained, once."""

import dataclasses

import pytest
import torch

from learnable_cam_plugin import metrics
from learnable_cam_plugin.metrics import METRICS, Explained, Metric, register_metric

from ..conftest import UNIT


@pytest.fixture
def explained(tiny, images):
    regions = torch.zeros(4, 20, 24, dtype=torch.bool)
    regions[:, :, :9] = True
    maps = torch.rand(4, 20, 24, generator=torch.Generator().manual_seed(2))
    return Explained(
        tiny.eval(),
        UNIT,
        images,
        torch.tensor([0, 3, 1, 2]),
        maps,
        again=maps.flip(0),
        regions=regions,
        cells=torch.tensor([0, 1, 2, 3]),
    )


def test_the_entries_are_those_of_the_published_results():
    masked = [f"{name} {keep}" for keep in ("100%", "50%", "15%") for name in ("AD", "IC")]
    others = [f"{key} ({filling})" for filling in ("mean", "blur") for key in masked]
    rest = ["insertion", "deletion", "ROAD", "coherency", "complexity", "ADCC"]
    located = ["grid pointing", "energy inside", "pointing game"]
    assert list(METRICS) == [*masked, *rest, *located, *others]
    lower = {key for key, metric in METRICS.items() if metric.better == "lower"}
    assert lower == {key for key in METRICS if key.startswith("AD ")} | {"deletion", "complexity"}
    assert {METRICS[key].images for key in masked} == {"all"}
    assert {METRICS[key].images for key in others} == {"common"}


def test_each_entry_is_the_metric_it_names(explained):
    e = explained
    found = {key: metric.compute(e) for key, metric in METRICS.items()}
    assert all(values.shape == (4,) for values in found.values())
    p = metrics.confidence(e.model, e.images, e.classes)
    for filling, suffix in (("black", ""), ("mean", " (mean)"), ("blur", " (blur)")):
        after = metrics.masked_confidence(
            e.model, e.images, e.maps, e.classes, UNIT, filling=filling
        )
        for keep, q in after.items():
            assert torch.allclose(found[f"AD {keep:.0%}{suffix}"], metrics.drops(p, q))
            assert torch.allclose(found[f"IC {keep:.0%}{suffix}"], metrics.increases(p, q))
            if (filling, keep) == ("black", 1.0):
                drop = metrics.drops(p, q)
    alike = metrics.coherency(e.maps, e.again)
    area = metrics.complexity(e.maps)
    expected = {
        "insertion": 100 * metrics.insertion(e.model, e.images, e.maps, e.classes, UNIT, 14),
        "deletion": 100 * metrics.deletion(e.model, e.images, e.maps, e.classes, UNIT, 14),
        "ROAD": 100 * metrics.road(e.model, e.images, e.maps, e.classes, (70, 90)),
        "coherency": alike,
        "complexity": area,
        "ADCC": metrics.adcc(drop, alike, area),
        "grid pointing": 100 * metrics.grid_pointing(e.maps, e.cells),
        "energy inside": 100 * metrics.energy_inside(e.maps, e.regions),
        "pointing game": 100.0 * metrics.pointing_hit(e.maps, e.regions),
    }
    for key, values in expected.items():
        assert torch.allclose(found[key].double(), values.double(), atol=1e-4), key


def test_masked_probabilities_are_asked_for_once_of_the_parts_too(explained):
    passes = []
    explained.model.register_forward_hook(lambda *_: passes.append(1))
    part = explained.of(torch.tensor([2, 0]))
    for key in ("AD 100%", "IC 50%", "ADCC"):
        METRICS[key].compute(explained)
    assert len(passes) == 4  # clean, and at three shares
    before, after = part.masked()
    assert len(passes) == 4
    assert torch.equal(before, explained.masked()[0][[2, 0]])
    assert torch.equal(after[0.5], explained.masked()[1][0.5][[2, 0]])
    assert torch.equal(part.maps, explained.maps[[2, 0]])
    part.masked("blur")  # nobody asked this of the whole
    assert len(passes) == 8
    assert torch.allclose(part.masked("blur")[0], before)


def test_a_metric_of_ones_own_and_what_is_refused(explained):
    sharp = Metric("peak", "highest", "higher", "mine", lambda e: 100 * e.maps.flatten(1).amax(1))
    register_metric(sharp)
    try:
        assert METRICS["peak"].compute(explained).shape == (4,)
        with pytest.raises(ValueError, match="a metric 'peak' already"):
            register_metric(sharp)
    finally:
        del METRICS["peak"]
    for change, message in (
        ({"better": "larger"}, r"better of the metric 'x' must be one of \('lower', 'higher'\)"),
        ({"images": "some"}, "images of the metric 'x' must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            register_metric(dataclasses.replace(sharp, key="x", **change))
    bare = dataclasses.replace(explained, again=None, regions=None, cells=None)
    for key in ("coherency", "grid pointing", "energy inside"):
        with pytest.raises(ValueError, match="this metric needs"):
            METRICS[key].compute(bare)
