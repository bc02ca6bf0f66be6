"""Several threads, one classifier: each gets its own maps, and the classifier stays as it was."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from learnable_cam_plugin import LayerLearnableCam, LearnableCAM, condition, random_attention

from ..conftest import tiny_network

THREADS, REQUESTS = 8, 25


@pytest.fixture(autouse=True)
def switching_often():
    """Threads take turns after microseconds, so that what can be torn apart is."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def served(explain, model, images, classes):
    """Each request's map, asked for by threads at once, while others use the model itself."""
    done = threading.Event()

    def client():
        with torch.no_grad():
            while not done.is_set():
                model(torch.rand(3, 3, 20, 24))

    others = [threading.Thread(target=client) for _ in range(2)]
    for other in others:
        other.start()
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(explain, images.split(1), classes))
    finally:
        done.set()
        for other in others:
            other.join()


@pytest.mark.parametrize("kind", ["rows", "conditioned", "classic CAM", "captum"])
@pytest.mark.parametrize("shared", [True, False], ids=["one object", "an object a request"])
def test_threads_get_their_own_maps(kind, shared):
    model = tiny_network().eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(THREADS * REQUESTS, 3, 20, 24, generator=generator)
    classes = torch.randint(5, (len(images),), generator=generator).tolist()
    attention = None
    if kind in ("rows", "captum"):
        torch.manual_seed(1)
        attention = random_attention(model, ["4"], images[:2])
    elif kind == "conditioned":
        attention = condition(model, ["2", "4"], images[:2])

    def make():
        if kind == "captum":
            return LayerLearnableCam(model, model[4], attention)
        return LearnableCAM(model, [model[4]], attention=attention)

    one = make()

    def explain(image, c):
        method = one if shared else make()
        if kind == "captum":
            return method.attribute(image, target=c)
        maps = method.saliency(image, [ClassifierOutputTarget(c)])
        return torch.cat([maps.flatten(), method.outputs.flatten()])  # both of this very request

    expected = [explain(*each) for each in zip(images.split(1), classes, strict=True)]
    found = served(explain, model, images, classes)
    wrong = [
        i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if not torch.equal(a, b)
    ]
    assert wrong == []
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_in_train_mode_keeps_its_statistics_and_its_flags():
    """Its batch norm runs in eval mode in every pass of an explanation, whoever else explains."""
    model = tiny_network().train()
    model[7].eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    images = torch.rand(THREADS * REQUESTS, 3, 20, 24)
    attention = random_attention(model, ["4"], images[:2])
    cam = LearnableCAM(model, [model[4]], attention=attention)
    expected = [cam.saliency(image) for image in images.split(1)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(cam.saliency, images.split(1)))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
