"""TAME's mechanism, against its figure computed by hand, and trained by the trainer."""

import torch
from torch.nn import functional as F

from benchmarks.methods.tame import tame_start
from learnable_cam_plugin import LearnableCAM, LearnableCAMTrainer, load_attention
from learnable_cam_plugin.classifier import FrozenClassifier

from ...conftest import UNIT, tiny_network


def test_the_map_is_the_papers(images):
    model = tiny_network().eval()
    attention = tame_start(FrozenClassifier.of(model, ["2", "4"]), images, 0).eval()
    with torch.no_grad():
        features = {"2": model[:3](images)[:, :, ::2, ::2], "4": model[:5](images)}
        for branch in attention.branches:
            branch[1].running_mean.normal_()
            branch[1].running_var.uniform_(0.5, 2)
        parts = []
        for maps, branch in zip(features.values(), attention.branches, strict=True):
            convolved = torch.einsum("nchw,dc->ndhw", maps, branch[0].weight[:, :, 0, 0])
            convolved = convolved + branch[0].bias[:, None, None]
            mean, variance = branch[1].running_mean, branch[1].running_var
            normal = (convolved - mean[:, None, None]) / (variance + 1e-5).sqrt()[:, None, None]
            fused = (normal + maps).relu()
            parts.append(F.interpolate(fused, (10, 12), mode="bilinear", align_corners=False))
        classes = torch.tensor([0, 1, 2, 4])
        every = torch.einsum("nchw,kc->nkhw", torch.cat(parts, 1), attention.weight)
        expected = (every + attention.bias[:, None, None])[range(4), classes]
        raw = attention(features, classes)[0]
    assert torch.allclose(raw, expected, atol=1e-5)


def test_it_trains_and_explains_and_its_batch_norm_rests_when_it_explains(tmp_path, images):
    model = tiny_network()
    start = tame_start(FrozenClassifier.of(model.eval(), ["2", "4"]), images, 0)
    trained = LearnableCAMTrainer(
        model, ["2", "4"], recipe="l-cam-img", start=start, normalization=UNIT, epochs=2,
        progress=False, device="cpu",
    ).fit([images], [images])  # fmt: skip
    assert not trained.training
    assert (trained.branches[0][1].running_mean != 0).any()
    trained.save(tmp_path / "tame.safetensors")
    with LearnableCAM(
        model, [model[4]], attention=load_attention(tmp_path / "tame.safetensors")
    ) as cam:
        maps = cam(images)
        # alone or in a batch: its statistics are not the batch's
        assert abs(cam(images[:1]) - maps[:1]).max() < 1e-5
    before = trained.branches[0][1].running_mean.clone()
    with LearnableCAM(model, [model[4]], attention=trained) as cam:
        cam(images)
    assert torch.equal(trained.branches[0][1].running_mean, before)
