"""LearnableCAM in Quantus and in torchcam, with figures that are ours where both define them."""

import copy
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from learnable_cam_plugin import LearnableCAM, calibrate
from learnable_cam_plugin.evaluation import Extractor, explain_func
from learnable_cam_plugin.metrics import (
    average_drop,
    confidence,
    increase_in_confidence,
    masked_confidence,
)

from .conftest import UNIT
from .metrics.conftest import sharp_network

# Its own extra: it brings the OpenCV that needs libGL, in place of the headless one of grad-cam.
needs_quantus = pytest.mark.skipif(
    find_spec("quantus") is None, reason="needs the extra `crosscheck`"
)

CLASSES = [0, 1, 2, 4]
SOFTMAX = partial(torch.softmax, dim=-1)


@pytest.fixture
def net():
    return sharp_network().eval()


def maps_of(net, images, **settings):
    return LearnableCAM(net, **settings)(images, [ClassifierOutputTarget(k) for k in CLASSES])


SETTINGS = {"left out": {}, "head": {"target_layers": ["4"], "attention": "head"}}


# Quantus


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_explain_func_gives_the_maps_from_arrays(net, images, settings):
    expected = maps_of(net, images, **settings)[:, None]
    for given in (images.numpy(), images.double().numpy(), images):
        found = explain_func(net, given, np.array(CLASSES), method="ours", **settings)
        assert found.dtype == np.float32
        assert np.allclose(found, expected, atol=1e-6)
    double = copy.deepcopy(net).double()
    found = explain_func(double, images.numpy(), np.array(CLASSES), **settings)
    assert np.allclose(found, expected, atol=1e-4)
    one = explain_func(model=net, inputs=images[:1].numpy(), targets=np.array(0), **settings)
    assert np.allclose(one, expected[:1], atol=1e-4)


@needs_quantus
def test_quantus_evaluates_it_beside_its_own_methods(net, images):
    """evaluate() prints what fails and goes on: every score must be there."""
    import quantus

    quiet = {"disable_warnings": True, "display_progressbar": False}
    metrics = {
        "robustness": quantus.MaxSensitivity(nr_samples=3, **quiet),
        "faithfulness": quantus.PixelFlipping(features_in_step=48, **quiet),
        "complexity": quantus.Sparseness(**quiet),
        "randomisation": quantus.MPRT(**quiet),
        "logits": quantus.RandomLogit(num_classes=5, seed=1, **quiet),
    }
    results = quantus.evaluate(
        metrics=metrics,
        xai_methods={"ours": explain_func},
        explain_func_kwargs={"target_layers": ["4"]},
        model=net,
        x_batch=images.numpy(),
        y_batch=np.array(CLASSES),
    )
    assert results["ours"].keys() == metrics.keys()
    for name, scores in results["ours"].items():
        values = list(scores.values()) if isinstance(scores, dict) else [scores]
        assert values, name
        assert np.isfinite(np.concatenate([np.ravel(one) for one in values])).all(), name


@needs_quantus
@pytest.mark.parametrize("attention", ["left out", "head", "trained"])
def test_quantus_model_parameter_randomisation(net, images, attention):
    """The maps move as layers are drawn anew, from the head on; the classifier is as it was."""
    import quantus

    given = {"target_layers": ["4"]}
    if attention == "head":
        given["attention"] = "head"
    if attention == "trained":
        given |= {"attention": calibrate(net, ["4"], images), "check": False}
    state = {key: value.clone() for key, value in net.state_dict().items()}
    scores = quantus.MPRT(disable_warnings=True, normalise=False, abs=False)(
        model=net,
        x_batch=images.numpy(),
        y_batch=np.array(CLASSES),
        explain_func=explain_func,
        explain_func_kwargs=given,
        device="cpu",
    )
    assert np.allclose(scores["original"], 1, atol=1e-4)
    drawn = {key: value for key, value in scores.items() if key != "original"}
    assert {"0", "3", "8"} <= drawn.keys()
    assert np.mean(drawn["0"]) < 0.9  # all is drawn anew by then
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


# torchcam


@pytest.fixture
def torchcam():
    return pytest.importorskip("torchcam.metrics")


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_torchcams_classification_metric_has_our_figures(net, images, torchcam, settings):
    metric = torchcam.ClassificationMetric(Extractor(net, **settings), SOFTMAX)
    for part in (slice(0, 2), slice(2, 4)):
        metric.update(images[part], CLASSES[part])
    maps, classes = torch.from_numpy(maps_of(net, images, **settings)), torch.tensor(CLASSES)
    p = confidence(net, images, classes)
    q = masked_confidence(net, images, maps, classes, UNIT, keep=[1.0])[1.0]
    summary = metric.summary()
    assert average_drop(p, q) == pytest.approx(100 * summary["avg_drop"], abs=1e-3)
    assert increase_in_confidence(p, q) == pytest.approx(100 * summary["conf_increase"])
    assert 1 < average_drop(p, q) < 99  # so that the agreement says something


def test_torchcam_explains_the_top_class_or_one_for_all(net, images, torchcam):
    extractor = Extractor(net)
    top = LearnableCAM(net)(images)
    extractor.model(images)
    assert np.allclose(extractor.fuse_cams(extractor()), top)
    extractor.model(images)
    one = LearnableCAM(net)(images, [ClassifierOutputTarget(2)])
    assert np.allclose(extractor(2)[0], one)
    metric = torchcam.ClassificationMetric(extractor, SOFTMAX)
    metric.update(images)
    metric.update(images, 2)
    assert metric.total == 8


def test_torchcam_leaves_the_classifier_as_it_was(net, images, torchcam):
    net.train()
    metric = torchcam.ClassificationMetric(Extractor(net), SOFTMAX)
    metric.update(images, CLASSES)
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())


def test_an_extractor_without_a_pass_says_so(net, images):
    extractor = Extractor(net)
    with pytest.raises(RuntimeError, match=r"run extractor.model\(images\) before each call"):
        extractor(1)
    extractor.model(images)
    extractor(1)
    with pytest.raises(RuntimeError, match="nothing to explain"):
        extractor(1)
    with pytest.raises(TypeError, match="pass class_idx"):
        extractor(targets=[lambda scores: scores[0]])


def test_classes_of_numpy_are_classes_and_fractions_are_none(net, images):
    extractor = Extractor(net)
    extractor.model(images)
    (found,) = extractor(np.int64(1))
    extractor.model(images)
    (expected,) = extractor(1)
    assert torch.equal(found, expected)
    with pytest.raises(ValueError, match=r"class indices, got \[1.7"):
        explain_func(net, images, [1.7] * len(images))
