"""One class rather than another one, in the deployed graph."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from learnable_cam_plugin import (
    ContrastTarget,
    ExplainedClassifier,
    LearnableCAM,
    Normalization,
    export_onnx,
)
from learnable_cam_plugin.attention import AttentionMechanism
from learnable_cam_plugin.export import FromPixels, quantize_onnx

from ..conftest import tiny_network
from ..networks import network, pictures
from .networks import IN_EVERY_RUN, deployed, operations, run
from .test_explained import BATCH, MECHANISMS

PAIRS = torch.tensor([[0, 3], [3, 0], [-1, 2], [1, -5]])
NORMALIZATION = Normalization([0.5] * 3, [0.25] * 3)


def expected(model, images, pairs, **settings):
    """LearnableCAM's maps of the first class of each pair rather than the second."""
    targets = [ContrastTarget(*pair) for pair in pairs.tolist()]
    return LearnableCAM(model, **settings).saliency(images, targets)


@pytest.fixture(params=MECHANISMS)
def settings(request, tiny, images):
    return MECHANISMS[request.param](tiny.eval(), images)


def test_it_is_what_learnable_cam_gives_of_a_contrast(tiny, images, settings):
    explained = ExplainedClassifier(tiny, images, **settings, contrast=True)
    logits, maps = explained(images, PAIRS)
    assert torch.equal(logits, tiny(images).detach())
    assert maps.shape == (4, 20, 24)
    assert torch.allclose(maps, expected(tiny, images, PAIRS, **settings), atol=1e-5)
    best = logits.topk(2, 1).indices
    assert torch.allclose(explained(images)[1], expected(tiny, images, best, **settings), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_of_any_network(name):
    model, images = network(name), pictures(2)
    explained = ExplainedClassifier(model, images, contrast=True)
    for pairs in (PAIRS[:2], None):
        logits, maps = explained(images, pairs)
        wanted = logits.topk(2, 1).indices if pairs is None else pairs
        assert torch.allclose(maps, expected(model, images, wanted), atol=1e-5)


def test_it_is_exported_and_loaded(tiny, images, settings, tmp_path):
    explained = ExplainedClassifier(tiny, images, **settings, contrast=True)
    for given in ((images,), (images, PAIRS)):
        shapes = (BATCH,) * len(given)
        program = torch.export.export(explained, given, dynamic_shapes=shapes, strict=False)
        torch.export.save(program, tmp_path / "explained.pt2")
        loaded = torch.export.load(tmp_path / "explained.pt2").module()
        for count in (1, 3, 16):
            some = (torch.rand(count, 3, 20, 24), PAIRS.repeat(4, 1)[:count])[: len(given)]
            for found, wanted in zip(loaded(*some), explained(*some), strict=True):
                assert torch.allclose(found, wanted, atol=1e-5)


def test_the_grid_eight_bits_and_half_precision(tiny, images):
    wanted = expected(tiny.eval(), images, PAIRS)
    small = ExplainedClassifier(tiny, images, contrast=True, size="grid", uint8=True)
    assert small(images, PAIRS)[1].shape == (4, 10, 12)
    assert small(images, PAIRS)[1].dtype == torch.uint8
    half = ExplainedClassifier(tiny, images, contrast=True).to(torch.bfloat16)
    assert (half(images.bfloat16(), PAIRS)[1] - wanted).abs().mean() < 0.05


class TestTheFile:
    @pytest.mark.parametrize("mechanism", ["shipped", "conditioned", "rows of two layers"])
    @pytest.mark.parametrize("chosen", [True, False])
    def test_it_gives_what_the_module_gives(self, mechanism, chosen, tiny, images, tmp_path):
        import onnxruntime

        explained = ExplainedClassifier(
            tiny.eval(), images, **MECHANISMS[mechanism](tiny, images), contrast=True
        )
        path = export_onnx(explained, tmp_path / "a.onnx", images, classes=chosen)
        session = onnxruntime.InferenceSession(path)
        assert [given.shape for given in session.get_inputs()][1:] == [["batch", 2]] * chosen
        assert session.get_outputs()[1].shape == ["batch", 20, 24]
        record = json.loads(session.get_modelmeta().custom_metadata_map["learnable_cam_plugin"])
        assert record["explains"] == (
            "given class rather than another"
            if chosen
            else "most probable class rather than the second"
        )
        for batch in (1, 3, 16):
            given = torch.rand(batch, 3, 20, 24)
            pairs = {"classes": PAIRS.repeat(4, 1)[:batch]} if chosen else {}
            logits, maps = explained(given, *pairs.values())
            found = run(path, images=given, **pairs)
            assert np.abs(found[0] - logits.numpy()).max() < 1e-5
            assert np.abs(found[1] - maps.numpy()).max() < 1e-4

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=() if name == "mobilenet_v3_small" else pytest.mark.long)
            for name in IN_EVERY_RUN
        ],
    )
    def test_the_backbone_is_there_once(self, name, tmp_path):
        images = pictures(4, 64)
        explained = ExplainedClassifier(deployed(name), images, contrast=True)
        path = export_onnx(explained, tmp_path / "a.onnx", images, classes=True)
        pairs = torch.tensor([[0, 1], [7, 2], [3, -1]])
        logits, maps = explained(pictures(3, 64, seed=3), pairs)
        found = run(path, images=pictures(3, 64, seed=3), classes=pairs)
        assert np.abs(found[0] - logits.detach().numpy()).max() / max(1, logits.abs().max()) < 1e-4
        assert np.abs(found[1] - maps.numpy()).max() < 1e-4
        modules = list(deployed(name).modules())
        convolutions = sum(isinstance(module, nn.Conv2d) for module in modules)
        # the mechanism's four, of the class and of what it is held against
        assert operations(path, ("Conv",)) == convolutions + 8
        blocks = sum(isinstance(module, nn.GELU) for module in modules)
        assert operations(path, ("Erf", "Gelu")) == blocks
        numbers = sum(tensor.nbytes for tensor in deployed(name).state_dict().values())
        assert path.stat().st_size < numbers + 1_200_000

    def test_of_photographs_as_they_are(self, tiny, tmp_path):
        images = torch.rand(4, 3, 64, 64)
        explained = ExplainedClassifier(tiny.eval(), images, contrast=True)
        given = {"classes": True, "normalization": NORMALIZATION, "pixels": True}
        path = export_onnx(explained, tmp_path / "a.onnx", images, **given)
        photos = torch.randint(255, (2, 90, 70, 3), dtype=torch.uint8)
        wanted = FromPixels(explained, NORMALIZATION, 64)(photos, PAIRS[:2])
        found = run(path, images=photos, classes=PAIRS[:2])
        assert np.abs(found[1] - wanted[1].numpy()).max() < 1e-4

    def test_of_any_height_and_width_and_in_eight_bits(self, tmp_path):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(3, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 2, 1), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5)),
        ).eval()
        images = torch.rand(4, 3, 24, 32)
        explained = ExplainedClassifier(model, images, contrast=True)
        given = {"classes": True, "dynamic_size": True}
        path = export_onnx(explained, tmp_path / "a.onnx", images, **given)
        for size in ((24, 32), (48, 33)):
            some = torch.rand(4, 3, *size)
            found = run(path, images=some, classes=PAIRS)[1]
            assert np.abs(found - explained(some, PAIRS)[1].numpy()).max() < 1e-4
        small = quantize_onnx(path, tmp_path / "b.onnx", images.split(2))
        found, wanted = (run(one, images=images, classes=PAIRS)[0] for one in (small, path))
        assert np.abs(found - wanted).max() < 0.05


class TestRefused:
    def test_at_construction(self, tiny, images):
        with pytest.raises(
            ValueError, match="takes no top, and 2 classes or more, got top=2 and 5"
        ):
            ExplainedClassifier(tiny.eval(), images, contrast=True, top=2)
        with pytest.raises(ValueError, match="2 classes or more, got top=None and 1 classes"):
            ExplainedClassifier(tiny_network(1).eval(), images, contrast=True)

        class Plain(AttentionMechanism):
            def forward(self, features, classes):
                return [maps.mean(1) for maps in features.values()]

        plain = Plain({"4": 8}, 5)
        ExplainedClassifier(tiny, images, attention=plain)
        with pytest.raises(TypeError, match="a Plain cannot contrast a class with another one"):
            ExplainedClassifier(tiny, images, attention=plain, contrast=True)

    @pytest.mark.parametrize(
        "classes",
        [PAIRS[:, 0], PAIRS[:3], PAIRS.repeat(1, 2), PAIRS.float(), PAIRS[None]],
    )
    def test_classes_that_are_no_pairs(self, tiny, images, classes):
        explained = ExplainedClassifier(tiny.eval(), images, contrast=True)
        with pytest.raises(ValueError, match=r"must be integers of shape \(4, 2\), pairs, got"):
            explained(images, classes)

    def test_a_class_against_itself_or_out_of_range(self, tiny, images):
        explained = ExplainedClassifier(tiny.eval(), images, contrast=True)
        for pair in ([2, 2], [4, -1]):
            with pytest.raises(ValueError, match="cannot be held against itself"):
                explained(images, torch.tensor([[0, 1]] * 3 + [pair]))
        with pytest.raises(IndexError, match="class index 5 is out of range"):
            explained(images, torch.tensor([[0, 5]] * 4))
