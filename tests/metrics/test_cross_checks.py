"""Our figures beside those of torchcam and Quantus, where the definitions are the same."""

from functools import partial
from importlib.util import find_spec

import pytest
import torch

from learnable_cam_plugin.masking import background
from learnable_cam_plugin.metrics import (
    average_drop,
    confidence,
    deletion,
    energy_inside,
    increase_in_confidence,
    insertion,
    masked_confidence,
    pointing_hit,
)
from learnable_cam_plugin.saliency import resize

from ..conftest import UNIT
from .conftest import sharp_network

torchcam_methods = pytest.importorskip("torchcam.methods")
torchcam_metrics = pytest.importorskip("torchcam.metrics")

# Its own extra: it brings the OpenCV that needs libGL, in place of the headless one of grad-cam.
needs_quantus = pytest.mark.skipif(
    find_spec("quantus") is None, reason="needs the extra `crosscheck`"
)

CLASSES = [0, 1, 2, 4]
softmax = partial(torch.softmax, dim=-1)


@pytest.fixture
def extractor(sharp):
    """torchcam's classic CAM of the network's last feature maps, hooks removed afterwards."""
    with torchcam_methods.CAM(sharp.eval(), target_layer=sharp[4], fc_layer=sharp[8]) as cam:
        yield cam


def torchcams_maps(extractor, images):
    """What torchcam's metrics get from the extractor: its maps, resized to the images."""
    with torch.no_grad():
        scores = softmax(extractor.model(images))
    return resize(extractor(CLASSES, scores)[0], images.shape[2:])


def test_average_drop_and_increase_are_torchcams(extractor, images):
    # torchcam multiplies the classifier's input by the map: the same as the paper's masked pixels
    # only for a classifier of plain [0, 1] images
    theirs = torchcam_metrics.ClassificationMetric(extractor, softmax)
    theirs.update(images, CLASSES)
    maps, classes = torchcams_maps(extractor, images), torch.tensor(CLASSES)
    p = confidence(extractor.model, images, classes)
    q = masked_confidence(extractor.model, images, maps, classes, UNIT, keep=[1.0])[1.0]
    summary = theirs.summary()
    assert average_drop(p, q) == pytest.approx(100 * summary["avg_drop"], abs=1e-3)
    assert increase_in_confidence(p, q) == pytest.approx(100 * summary["conf_increase"])
    assert 1 < average_drop(p, q) < 99  # so that the agreement says something


@pytest.mark.parametrize("filling", ["black", "blur"])
def test_insertion_and_deletion_are_torchcams(extractor, images, filling):
    if not hasattr(torchcam_metrics, "DeletionInsertionMetric"):
        pytest.skip("torchcam before 0.5 has neither")
    steps = 24  # it divides the 480 pixels: torchcam rounds the pixels of a step up, we do not
    baseline = background(images, UNIT, filling)
    theirs = torchcam_metrics.DeletionInsertionMetric(
        extractor, softmax, steps=steps, baseline=baseline
    )
    theirs.update(images, CLASSES)
    args = (extractor.model, images, torchcams_maps(extractor, images), torch.tensor(CLASSES), UNIT)
    summary = theirs.summary()
    added = float(insertion(*args, steps, filling).mean())
    removed = float(deletion(*args, steps, filling).mean())
    assert added == pytest.approx(summary["insertion_auc"], abs=1e-5)
    assert removed == pytest.approx(summary["deletion_auc"], abs=1e-5)
    assert abs(added - removed) > 1e-3


@needs_quantus
def test_location_is_quantus():
    import quantus

    draw = torch.Generator().manual_seed(0)
    maps = torch.rand(40, 9, 11, generator=draw)
    regions = torch.rand(40, 9, 11, generator=draw) < 0.4
    data = {
        "x_batch": maps[:, None].numpy(),
        "y_batch": torch.zeros(40).long().numpy(),
        "a_batch": maps[:, None].numpy(),
        "s_batch": regions[:, None].numpy(),
    }
    settings = {"normalise": False, "disable_warnings": True}
    mass = quantus.RelevanceMassAccuracy(**settings)(model=None, **data)
    assert energy_inside(maps, regions).tolist() == pytest.approx(mass, abs=1e-5)
    hits = quantus.PointingGame(**settings)(model=None, **data)
    assert pointing_hit(maps, regions).tolist() == [bool(hit) for hit in hits]
    assert 0 < sum(hits) < 40


@needs_quantus
def test_deletion_is_the_area_under_quantus_pixel_flipping():
    import quantus

    # grey images: Quantus flips a pixel's channels one after another, we and RISE at once
    net = sharp_network(channels=1).eval()
    images = torch.rand(4, 1, 8, 10)
    maps = torch.stack([torch.randperm(80).view(8, 10) / 80 for _ in range(4)])
    classes = torch.tensor(CLASSES)
    curves = quantus.PixelFlipping(
        features_in_step=8, perturb_baseline=0.0, normalise=False, disable_warnings=True
    )(
        model=net,
        x_batch=images.numpy(),
        y_batch=classes.numpy(),
        a_batch=maps[:, None].numpy(),
        softmax=True,
        device="cpu",
    )
    # Quantus' curve begins after the first step
    start = confidence(net, images, classes)[:, None]
    curve = torch.cat([start, torch.as_tensor(curves).float()], 1)
    expected = torch.trapezoid(curve, dim=1) / 10
    ours = deletion(net, images, maps, classes, UNIT, steps=10)
    assert torch.allclose(ours, expected, atol=1e-5)
    assert ours.std() > 1e-3
