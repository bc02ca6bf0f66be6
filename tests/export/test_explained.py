"""One module, no hooks: it gives what LearnableCAM gives, and can be compiled and exported."""

import copy
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from learnable_cam_plugin import (
    CheckpointError,
    ExplainedClassifier,
    LearnableCAM,
    calibrate,
    condition,
    random_attention,
)
from learnable_cam_plugin.classifier import ScoresOf

from ..conftest import tiny_network
from ..docs.preludes import TinyViT
from ..networks import LAYERS, TimmViT, network, pictures

BATCH = {0: torch.export.Dim.DYNAMIC}


def of_rows(model, images):
    torch.manual_seed(1)
    return random_attention(model, ["1", "4"], images)


MECHANISMS = {
    "shipped": lambda model, images: {},
    "conditioned": lambda m, x: {"attention": condition(m, ["2", "4"], x)},
    "rows of two layers": lambda model, images: {"attention": of_rows(model, images)},
    "head": lambda model, images: {"attention": "head", "target_layers": ["4"]},
    "calibrated": lambda m, x: {"attention": calibrate(m, ["1"], x)},
}


@pytest.fixture(params=MECHANISMS)
def settings(request, tiny, images):
    return MECHANISMS[request.param](tiny.eval(), images)


def expected(model, images, classes=None, **settings):
    """LearnableCAM's maps, of one class an image."""
    targets = None if classes is None else [ClassifierOutputTarget(c) for c in classes.tolist()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LearnableCAM(model, **settings).saliency(images, targets)


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_what_learnable_cam_gives_of_any_network(name):
    model, images = network(name), pictures(2)
    explained = ExplainedClassifier(model, images)
    assert list(explained.layers) == LAYERS[name]
    logits, maps = explained(images)
    with torch.no_grad():  # torch has another way through attention layers with gradients
        assert torch.equal(logits, model(images))
    # where it takes the classifier's own logits, and not those of the maps' mean: they are rounded
    assert torch.allclose(maps, expected(model, images), atol=1e-5)


@pytest.mark.parametrize("make", [TimmViT, TinyViT])
def test_it_sees_inside_fused_transformer_layers(make):
    model = make().eval()
    images = pictures(2, 224 if make is TinyViT else 32)
    logits, maps = ExplainedClassifier(model, images)(images)
    assert torch.allclose(logits, model(images).detach(), atol=1e-6)
    assert torch.allclose(maps, expected(model, images), atol=1e-5)


def test_every_mechanism(tiny, images, settings):
    explained = ExplainedClassifier(tiny, images, **settings)
    logits, maps = explained(images)
    assert torch.equal(maps, expected(tiny, images, **settings))
    assert torch.equal(logits, tiny(images).detach())
    classes = torch.tensor([[0, 3, -1], [1, 1, 2], [4, 0, 1], [2, 3, 0]])
    _, several = explained(images, classes)
    alone = [expected(tiny, images, column, **settings) for column in classes.unbind(1)]
    assert torch.allclose(several, torch.stack(alone, 1), atol=1e-5)


def test_it_is_exported_saved_and_loaded(tiny, images, settings, tmp_path):
    explained = ExplainedClassifier(tiny, images, **settings, top=2)
    program = torch.export.export(explained, (images,), dynamic_shapes=(BATCH,), strict=False)
    torch.export.save(program, tmp_path / "explained.pt2")
    loaded = torch.export.load(tmp_path / "explained.pt2").module()
    for count in (1, 3, 16):
        given = torch.rand(count, 3, 20, 24)
        for found, wanted in zip(loaded(given), explained(given), strict=True):
            assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["tiny", "vit"])
def test_it_is_compiled(name):
    model = tiny_network().eval() if name == "tiny" else network(name)
    images, others = pictures(2), pictures(3, seed=1)
    explained = ExplainedClassifier(model, images)
    compiled = torch.compile(explained, backend="eager", fullgraph=name == "tiny")
    for given in (images, others):
        for found, wanted in zip(compiled(given), explained(given), strict=True):
            assert torch.allclose(found, wanted, atol=1e-5)
    assert not explained._notes.seen()
    assert not explained._notes._traced


def test_the_top_classes_the_grid_and_eight_bits(tiny, images):
    logits, maps = ExplainedClassifier(tiny.eval(), images, top=3)(images)
    assert maps.shape == (4, 3, 20, 24)
    for rank, classes in enumerate(logits.topk(3, 1).indices.unbind(1)):
        assert torch.allclose(maps[:, rank], expected(tiny, images, classes), atol=1e-5)
    grid = ExplainedClassifier(tiny, images, size="grid")(images)[1]
    assert grid.shape == (4, 10, 12)
    assert (grid.amin((1, 2)).tolist(), grid.amax((1, 2)).tolist()) == ([0] * 4, [1] * 4)
    small = ExplainedClassifier(tiny, images, uint8=True)(images)[1]
    assert small.dtype == torch.uint8
    assert (small.float() / 255 - expected(tiny, images)).abs().max() <= 0.5 / 255 + 1e-6


def test_a_single_score_has_a_sign(images):
    model = tiny_network(num_classes=1).eval()
    layers = {"attention": "head", "target_layers": ["4"]}
    _, maps = ExplainedClassifier(model, images, **layers)(images)
    assert torch.equal(maps, expected(model, images, **layers))


def test_a_dict_of_outputs(tiny, images):
    model = ScoresOf(tiny.eval(), lambda scores: {"scores": scores})
    read = {"output": lambda outputs: outputs["scores"]}
    _, maps = ExplainedClassifier(model, images, **read)(images)
    assert torch.equal(maps, expected(tiny, images))


def test_the_model_stays_as_it_is(tiny, images):
    tiny.train()
    state = {name: value.clone() for name, value in tiny.state_dict().items()}
    pointers = [tensor.data_ptr() for tensor in tiny.parameters()]
    explained = ExplainedClassifier(tiny, images)
    # until it is converted, no memory is taken for it
    assert [t.data_ptr() for t in explained.model.parameters()] == pointers
    _, maps = explained.train()(images)
    explained.half().to("meta")
    assert all(module.training for module in tiny.modules())
    assert all(parameter.requires_grad for parameter in tiny.parameters())
    assert not any("forward" in vars(module) for module in tiny.modules())
    assert not any(module._forward_hooks for module in tiny.modules())
    assert [tensor.data_ptr() for tensor in tiny.parameters()] == pointers
    assert all(torch.equal(value, state[name]) for name, value in tiny.state_dict().items())
    assert torch.equal(maps, expected(tiny, images))


def test_what_works_in_place_after_a_layer_does_not_reach_its_maps(tiny, images):
    layers = {"attention": random_attention(tiny.eval(), ["1"], images)}  # a ReLU(inplace) follows
    assert torch.equal(
        ExplainedClassifier(tiny, images, **layers)(images)[1], expected(tiny, images, **layers)
    )


def test_a_copy_of_it_is_one_more(tiny, images):
    explained = ExplainedClassifier(tiny.eval(), images)
    again = copy.deepcopy(explained)
    with torch.no_grad():
        explained.model[0].weight.zero_()
    assert not torch.equal(again(images)[1], explained(images)[1])


class Temperature(nn.Module):
    """Of one, before it is fitted."""

    def __init__(self):
        super().__init__()
        self.degree = nn.Parameter(torch.ones(()))

    def forward(self, scores):
        return scores / self.degree


def test_scores_that_are_no_logits_of_the_head_are_not_taken_for_them(images):
    """The shipped mechanism takes the model's scores where they are what it would compute."""
    tiny = tiny_network().eval()
    probable = nn.Sequential(*tiny.children(), nn.Softmax(1)).eval()
    not_yet = nn.Sequential(*tiny.children(), Temperature()).eval()
    for model, known in ((tiny, True), (probable, False), (not_yet, False)):
        explained = ExplainedClassifier(model, images)
        assert explained.attention.scores_are_logits is known
        assert torch.allclose(explained(images)[1], expected(model, images), atol=1e-5)


def test_half_precision(tiny, images):
    model = tiny.eval()
    _, maps = ExplainedClassifier(model, images).to(torch.bfloat16)(images.bfloat16())
    assert maps.dtype == torch.float32
    assert (maps - expected(model, images)).abs().mean() < 0.05


def test_threads_get_their_own_maps(tiny):
    given = torch.rand(200, 3, 20, 24).split(1)
    explained = ExplainedClassifier(tiny.eval(), torch.cat(given[:2]))
    wanted = [explained(image) for image in given]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(explained, given))
    finally:
        sys.setswitchinterval(before)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


class TestRefused:
    def test_classes_that_are_none(self, tiny, images):
        explained = ExplainedClassifier(tiny.eval(), images)
        with pytest.raises(IndexError, match="class index 5 is out of range"):
            explained(images, torch.tensor([0, 1, 2, 5]))
        with pytest.raises(ValueError, match=r"classes must be integers of shape \(4,\)"):
            explained(images, torch.tensor([0, 1]))
        with pytest.raises(ValueError, match="classes must be integers"):
            explained(images, torch.rand(4, 5))
        for none in (torch.tensor([True] * 4), torch.zeros(4, 0, dtype=torch.long)):
            with pytest.raises(ValueError, match="classes must be integers"):
                explained(images, none)
        with pytest.raises(TypeError, match=r"got list: use torch\.tensor"):
            explained(images, [0, 1, 2, 3])

    def test_settings(self, tiny, images):
        with pytest.raises(ValueError, match="top must be 1 to 5"):
            ExplainedClassifier(tiny.eval(), images, top=6)
        with pytest.raises(ValueError, match="size must be one of image, grid"):
            ExplainedClassifier(tiny, images, size="full")

    def test_an_attention_of_another_model(self, tiny, images):
        attention = condition(tiny.eval(), ["2", "4"], images)
        other = tiny_network(seed=1).eval()
        with pytest.raises(CheckpointError, match="another Sequential"):
            ExplainedClassifier(other, images, attention=attention)
        ExplainedClassifier(other, images, attention=attention, check=False)

    def test_a_model_that_runs_another(self, tiny, images):
        outer = nn.Module()
        outer.inner = tiny.eval()
        outer.forward = lambda images: tiny(images)  # the copy's would run the original
        explained = ExplainedClassifier(outer, images)
        with pytest.raises(ValueError, match="did not run in the forward pass of the model's copy"):
            explained(images)

    def test_a_model_that_cannot_be_copied(self, tiny, images):
        tiny.eval().generator = (number for number in range(3))
        with pytest.raises(ValueError, match=r"cannot be copied.+generator"):
            ExplainedClassifier(tiny, images)
