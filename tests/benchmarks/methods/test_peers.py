"""RISE, SIDU and SISE: against slow computations of their papers' equations, and by property."""

import cv2
import numpy as np
import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch.nn import functional as F

from benchmarks.methods.floor import Floor, centred_gaussian
from benchmarks.methods.opti_cam import OptiCAM
from benchmarks.methods.recipro_cam import ReciproCAM
from benchmarks.methods.rise import RISE
from benchmarks.methods.sidu import SIDU
from benchmarks.methods.sise import SISE, above_otsu, fuse, otsu, positive
from learnable_cam_plugin.comparison import class_maps
from learnable_cam_plugin.data import NORMALIZATION
from learnable_cam_plugin.metrics import pointing_hit

from ...conftest import UNIT


def class_targets(classes):
    return [ClassifierOutputTarget(int(c)) for c in classes]


def scaled(one: np.ndarray) -> np.ndarray:
    span = one.max() - one.min()
    return (one - one.min()) / (span if span > 0 else 1)


def probability(model, image, mask, category=None):
    """Softmax of one image times one mask, in a pass of its own."""
    with torch.no_grad():
        p = model((image * torch.as_tensor(mask))[None].float()).softmax(1)[0].double()
    return p.numpy() if category is None else float(p[category])


@pytest.fixture
def layers(tiny):
    """The ends of the tiny network's two blocks; the first is not changed in place later."""
    tiny[2].inplace = False
    return [tiny[2], tiny[4]]


def test_rise_is_the_weighted_mean_of_its_masks(tiny, images):
    rise = RISE(tiny, normalization=UNIT, masks=37, batch_size=8, seed=3, progress=False)
    maps = rise(images[:2], class_targets(torch.tensor([1, 4])))
    masks = torch.cat(list(rise.draw(images.shape[2:])))
    assert len(masks) == 37
    for image, category, found in zip(images, (1, 4), maps, strict=False):
        slow = np.zeros(image.shape[1:])
        for mask in masks.double().numpy():
            slow += probability(tiny, image, mask, category) * mask
        np.testing.assert_allclose(found, scaled(slow / (37 * 0.5)), atol=2e-5)


def test_rises_masks_are_smooth_half_open_shifted_and_seeded(tiny):
    size = (20, 24)
    rise = RISE(tiny, normalization=UNIT, masks=600, cells=5, progress=False)
    masks = torch.cat(list(rise.draw(size)))
    assert masks.shape == (600, *size)
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-6
    assert masks.mean() == pytest.approx(0.5, abs=0.02)
    # Bilinear between cells of 4 x 5 pixels: a step is at most one cell's change.
    assert masks.diff(dim=1).abs().max() <= 1 / 4 + 1e-5
    assert masks.diff(dim=2).abs().max() <= 1 / 5 + 1e-5
    assert torch.equal(masks, torch.cat(list(rise.draw(size))))
    other = RISE(tiny, normalization=UNIT, masks=600, cells=5, seed=1, progress=False)
    assert not torch.equal(masks, torch.cat(list(other.draw(size))))
    often = RISE(tiny, normalization=UNIT, masks=600, probability=0.1, progress=False)
    assert torch.cat(list(often.draw(size))).mean() == pytest.approx(0.1, abs=0.02)


def test_sidu_by_its_equations(tiny, images):
    sidu = SIDU(tiny, [tiny[4]], normalization=UNIT, threshold=0.05, batch_size=3, progress=False)
    maps = sidu(images, None)
    for image, found in zip(images, maps, strict=True):
        with torch.no_grad():
            binary = (tiny[:5](image[None])[0] > 0.05).float()
        size = image.shape[1:]
        masks = F.interpolate(binary[:, None], size=size, mode="bilinear")[:, 0].double().numpy()
        clean = probability(tiny, image, np.ones(size))
        masked = [probability(tiny, image, mask) for mask in masks]
        slow = np.zeros(size)
        for p, mask in zip(masked, masks, strict=True):
            similarity = np.exp(-((clean - p) ** 2).sum() / (2 * 0.25**2))
            unique = sum(np.sqrt(((p - other) ** 2).sum()) for other in masked)
            slow += similarity * unique * mask
        np.testing.assert_allclose(found, scaled(slow), atol=1e-3)


@pytest.mark.parametrize("select", [positive, above_otsu])
def test_sise_by_its_equations(tiny, images, layers, select):
    sise = SISE(tiny, layers, normalization=UNIT, select=select, batch_size=2, progress=False)
    category = 2
    maps = sise(images[:2], class_targets(torch.full((2,), category)))
    sise.activations_and_grads.release()
    for image, found in zip(images, maps, strict=False):
        first = tiny[:3](image[None].requires_grad_())
        second = tiny[3:5](first)
        tiny[5:](second).softmax(1)[0, category].backward(inputs=[first, second])
        visual = []
        for features in (first, second):
            gradient = features.grad[0].sum((1, 2))
            chosen = features[0].detach()[select(gradient)].numpy()
            total = np.zeros(image.shape[1:])
            for one in chosen:
                mask = scaled(cv2.resize(one, image.shape[:0:-1]).astype(np.float64))
                total += probability(tiny, image, mask, category) * mask / (mask.sum() or 1)
            visual.append(scaled(total / max(1, len(chosen))))
        levels = np.round(visual[1] * 255).astype(np.uint8)
        threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)
        slow = scaled((visual[0] + visual[1]) * (levels > threshold))
        off = np.abs(found - slow) > 1e-3  # but for pixels at the threshold itself
        assert off.mean() < 0.01


def test_ada_sise_takes_fewer_masks_than_sise():
    gradients = torch.tensor([-5.0, -0.1, 0.0, 0.1, 0.15, 0.2, 3.0, 3.2])
    assert positive(gradients).tolist() == [False] * 3 + [True] * 5
    assert above_otsu(gradients).tolist() == [False] * 6 + [True] * 2
    assert not above_otsu(-gradients.abs()).any()
    assert above_otsu(torch.tensor([2.0, 2.0, -1.0])).tolist() == [True, True, False]


def test_sise_without_a_positive_gradient_gives_a_constant_map(tiny, images):
    nothing = SISE(
        tiny, [tiny[4]], normalization=UNIT, select=lambda g: g > torch.inf, progress=False
    )
    maps = nothing(images, class_targets(torch.zeros(4)))
    assert maps.shape == (4, 20, 24)
    assert (maps == 0).all()


def test_fusion_keeps_what_the_deeper_map_shows():
    shallow, deep = torch.rand(8, 8), torch.zeros(8, 8)
    deep[2:5, 3:6] = 1
    fused = fuse([shallow, deep])
    assert (fused[deep == 0] == 0).all()
    assert (fused[deep == 1] > 0).sum() >= 8
    assert otsu(torch.tensor([0.0, 0.1, 0.9, 1.0])).tolist() == [False, False, True, True]


def test_a_layer_too_many_is_refused(tiny):
    with pytest.raises(ValueError, match="one layer, got 2"):
        SIDU(tiny, [tiny[2], tiny[4]], normalization=UNIT)


def test_floors_look_at_nothing(tiny, images):
    noise = Floor(tiny, seed=1)
    first, second = noise(images, None), noise(images, None)
    assert first.shape == (4, 20, 24)
    assert (first != second).any()
    np.testing.assert_array_equal(Floor(tiny, seed=1)(images, None), first)
    gaussian = Floor(tiny, draw=centred_gaussian)(images, None)
    assert np.allclose(gaussian, gaussian[:, ::-1, ::-1], atol=1e-6)
    assert np.unravel_index(gaussian[0].argmax(), (20, 24)) in {
        (9, 11),
        (9, 12),
        (10, 11),
        (10, 12),
    }


@pytest.mark.parametrize("name", ["RISE", "SIDU", "SISE", "Ada-SISE", "Recipro-CAM", "Opti-CAM"])
def test_they_localise_the_object_better_than_the_floor(shapes, name):
    """What each paper shows first: the map lies on the object (the embedded images know where)."""
    model, drawn, chosen = shapes
    common = {"normalization": NORMALIZATION, "progress": False}
    stages = [model.get_submodule(f"features.{i}") for i in (0, 1, 4)]
    cam = {
        "RISE": lambda: RISE(model, masks=1500, **common),
        "SIDU": lambda: SIDU(model, stages[-1:], threshold=2.0, **common),  # of features up to 4
        "SISE": lambda: SISE(model, stages, **common),
        "Ada-SISE": lambda: SISE(model, stages, select=above_otsu, **common),
        "Recipro-CAM": lambda: ReciproCAM(model, stages[-1:]),
        "Opti-CAM": lambda: OptiCAM(model, stages[-1:], **common),
    }[name]()
    images, classes = drawn.images[chosen], drawn.classes[chosen, 0]
    regions = drawn.regions[chosen, 0]
    if name == "SIDU":  # explains the prediction, here both shapes alike
        regions = drawn.regions[chosen].any(1)
    found = class_maps(cam, images, classes)
    cam.activations_and_grads.release()
    floor = class_maps(Floor(model, seed=0), images, classes)
    middle = class_maps(Floor(model, draw=centred_gaussian), images, classes)
    standing_out = contrast(found, regions)
    assert standing_out > 0.5 + contrast(floor, regions)
    assert standing_out > contrast(middle, regions)
    hits = [float(pointing_hit(maps, regions).float().mean()) for maps in (found, floor, middle)]
    assert hits[0] > max(hits[1:])


def contrast(maps, regions):
    """How far the map inside the region stands above its mean, in standard deviations."""
    flat = maps.flatten(1)
    standard = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)
    inside = regions.flatten(1)
    return float(((standard * inside).sum(1) / inside.sum(1)).mean())
