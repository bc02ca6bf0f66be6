"""Opti-CAM: the objective, written out, falls; only the weights of the channels move."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from benchmarks.methods.opti_cam import OptiCAM, weighted
from learnable_cam_plugin import Normalization
from learnable_cam_plugin.saliency import resize

from ...conftest import tiny_network

NORMALIZATION = Normalization([0.4], [0.5])
CLASSES = [1, 4, 0, 2]
TARGETS = [ClassifierOutputTarget(c) for c in CLASSES]


@pytest.fixture
def model():
    model = tiny_network().eval()
    model[2].inplace = False
    return model


def by_hand(model, images, weights):
    """Maps of weights that sum to 1 (N, C), and the classes' logits of the images they mask."""
    maps, logits = [], []
    for image, own, category in zip(images, weights, CLASSES, strict=True):
        with torch.no_grad():
            features = model[:5](image[None])[0]
            one = sum(w * f for w, f in zip(own, features, strict=True))
            one = resize(one[None], image.shape[1:])[0]
            one = (one - one.min()) / (one.max() - one.min())
            pixels = image * 0.5 + 0.4
            logits.append(float(model(((pixels * one - 0.4) / 0.5)[None])[0, category]))
        maps.append(one)
    return torch.stack(maps), np.array(logits)


def test_the_objective_is_the_papers_and_grows_from_equal_weights(model, images):
    images = NORMALIZATION.normalize(images)
    cam = OptiCAM(model, [model[4]], normalization=NORMALIZATION, progress=False)
    equal, before = by_hand(model, images, torch.full((4, 8), 1 / 8))
    start = weighted(model[:5](images).detach(), torch.zeros(4, 8), (20, 24))
    assert torch.allclose(start, equal, atol=1e-5)
    found = cam.logits(images, equal, torch.tensor(CLASSES)).detach().numpy()
    np.testing.assert_allclose(found, before, atol=1e-5)

    maps = torch.from_numpy(cam(images, TARGETS))
    assert float(maps.amin((1, 2)).max()) == 0
    assert float(maps.amax((1, 2)).min()) == pytest.approx(1)
    after = cam.logits(images, maps, torch.tensor(CLASSES)).detach().numpy()
    assert (after > before + 1e-3).all()


def test_the_optimum_is_about_as_good_as_the_best_channel_alone(model, images):
    """The weights can single out any channel, and a place as good as the best one is found."""
    images = NORMALIZATION.normalize(images)
    cam = OptiCAM(model, [model[4]], normalization=NORMALIZATION, progress=False)
    maps = torch.from_numpy(cam(images, TARGETS))
    after = cam.logits(images, maps, torch.tensor(CLASSES)).detach().numpy()
    every = np.stack([by_hand(model, images, row.expand(4, -1))[1] for row in torch.eye(8)])
    assert (after >= np.nanmax(every, 0) - 0.25 * np.ptp(every, 0)).all()


def test_only_the_weights_of_the_channels_learn(model, images):
    model.train()  # as somebody may leave it: the classifier's flags and gradients are its own
    model[3].weight.requires_grad_(False)
    cam = OptiCAM(model, [model[4]], normalization=NORMALIZATION, iterations=3, progress=False)
    model.train()
    held = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        cam(NORMALIZATION.normalize(images), TARGETS)
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert all(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, held[name]), name


def test_a_batch_gives_what_its_images_give_alone(model, images):
    images = NORMALIZATION.normalize(images)
    cam = OptiCAM(model, [model[4]], normalization=NORMALIZATION, iterations=10, progress=False)
    together = cam(images, TARGETS)
    alone = np.concatenate([cam(images[i : i + 1], TARGETS[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_a_layer_too_many_is_refused(tiny):
    with pytest.raises(ValueError, match="one layer, got 2"):
        OptiCAM(tiny, [tiny[2], tiny[4]], normalization=NORMALIZATION)
