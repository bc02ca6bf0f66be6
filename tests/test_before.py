"""What was made long ago comes out the same: the maps of attentions, and their trainings.

The tensors of `fixtures` were made by the code of commit 3766f69: a decided tiny classifier, an
attention of each recipe trained beside it on drawn images, and their maps.
"""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from learnable_cam_plugin import RECIPES, LearnableCAM, LearnableCAMTrainer, load_attention
from learnable_cam_plugin.classifier import FrozenClassifier
from learnable_cam_plugin.data import NORMALIZATION, draw_images
from learnable_cam_plugin.pretrained import pretrained

from .conftest import tiny_network

FIXTURES = Path(__file__).parent / "fixtures"
LAYERS = {"every-threshold": ["2", "4"], "l-cam-img": ["4"], "l-cam-fm": ["4"]}
SMALLER = {"every-threshold": {"width": 8}, "l-cam-img": {}, "l-cam-fm": {}}


@pytest.fixture(scope="module")
def drawn():
    return draw_images(64, 5).images


@pytest.fixture
def classifier():
    model = tiny_network(6).eval()
    model.load_state_dict(load_file(FIXTURES / "classifier.safetensors"))
    return model


@pytest.fixture(scope="module")
def maps():
    return load_file(FIXTURES / "maps.safetensors")


@pytest.mark.parametrize("recipe", LAYERS)
def test_an_attention_file_gives_the_maps_that_it_gave(recipe, classifier, drawn, maps):
    attention = load_attention(FIXTURES / f"{recipe}.safetensors")
    with LearnableCAM(classifier, [classifier[4]], attention=attention) as cam:
        found = cam.saliency(drawn[:1])
    # equal to the bit on one machine; another one's convolutions round differently
    assert torch.allclose(found, maps[recipe], atol=1e-5)


def test_the_shipped_attention_gives_the_maps_that_it_gave(maps):
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `photos`")
    model, _, attention = pretrained()
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    _, features = FrozenClassifier.of(model, list(attention.channels)).read(images)
    with torch.no_grad():
        (raw,) = attention(features, torch.tensor([3, 507]))
    assert torch.allclose(raw, maps["shipped"], atol=1e-4)


@pytest.mark.parametrize("recipe", LAYERS)
def test_a_training_ends_with_the_attention_that_it_ended_with(recipe, classifier, drawn):
    trainer = LearnableCAMTrainer(
        classifier,
        LAYERS[recipe],
        recipe=dataclasses.replace(RECIPES[recipe], **SMALLER[recipe]),
        start="head" if recipe == "every-threshold" else "random",
        normalization=NORMALIZATION,
        epochs=2,
        seed=3,
        device="cpu",
        progress=False,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order, and Adam makes much of little
    try:
        trained = trainer.fit(list(drawn.split(16))).state_dict()
    finally:
        torch.set_num_threads(threads)
    expected = load_attention(FIXTURES / f"{recipe}.safetensors").state_dict()
    assert trained.keys() == expected.keys()
    apart = max(float((trained[name] - expected[name]).abs().max()) for name in expected)
    print(f"{recipe}: at most {apart:.1g} apart")  # where they were made 0; shown by pytest -s
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"  # as where they were made
    assert apart < (5e-4 if wide else 2e-3)
