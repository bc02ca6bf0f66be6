"""ViT and Swin of torchvision, small and seeded: trained and explained as the rest."""

import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.reshape_transforms import vit_reshape_transform
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from learnable_cam_plugin import (
    LayerLearnableCam,
    LearnableCAM,
    LearnableCAMTrainer,
    load_attention,
)

from .conftest import UNIT


def vit() -> tuple[nn.Module, list[str], object]:
    model = VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=6,
    )  # fmt: skip
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at 0: no class would differ
    layers = ["encoder.layers.encoder_layer_1", "encoder.ln"]
    return model, layers, lambda tokens: vit_reshape_transform(tokens, 4, 4)


def swin() -> tuple[nn.Module, list[str], object]:
    model = SwinTransformer(
        patch_size=[2, 2], embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=[4, 4],
        num_classes=6,
    )  # fmt: skip
    return model, ["features.1", "norm"], lambda maps: maps.permute(0, 3, 1, 2)


@pytest.fixture(params=[vit, swin])
def transformer(request):
    torch.manual_seed(0)
    return request.param()


@pytest.mark.parametrize("recipe", ["every-threshold", "l-cam-img"])
def test_it_trains_and_explains_in_one_pass(transformer, recipe, tmp_path):
    model, layers, reshape = transformer
    images = torch.rand(8, 3, 32, 32)
    # the head of the ViT reads its class token: it says nothing of the patches at encoder.ln
    start = "random" if recipe == "l-cam-img" and "encoder.ln" in layers else "head"
    trainer = LearnableCAMTrainer(
        model, layers, recipe=recipe, start=start, normalization=UNIT,
        reshape_transform=reshape, epochs=2, output_dir=tmp_path, progress=False, device="cpu",
    )  # fmt: skip
    trainer.fit([images, images.flip(0)], [images])
    attention = load_attention(tmp_path / "attention")
    assert list(attention.channels) == layers
    modules = [model.get_submodule(name) for name in layers]
    passes = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    with LearnableCAM(model, modules, reshape, attention=attention) as cam:
        maps = cam(images, [ClassifierOutputTarget(k % 6) for k in range(8)])
        assert len(passes) == 1
        other = cam(images, [ClassifierOutputTarget((k + 1) % 6) for k in range(8)])
    handle.remove()
    assert maps.shape == (8, 32, 32)
    assert abs(maps - other).max() > 1e-3  # another class, another map
    if recipe == "every-threshold":
        raw = LayerLearnableCam(
            model, modules[-1], attention, reshape_transform=reshape
        ).attribute(images, target=[k % 6 for k in range(8)])  # fmt: skip
        assert raw.shape[1] == 1


def test_the_head_is_read_from_the_class_token_of_a_vit(transformer):
    from learnable_cam_plugin import condition

    model, layers, reshape = transformer
    attention = condition(model.eval(), layers, torch.rand(2, 3, 32, 32), reshape)
    assert attention.head in ("heads.head", "head")
    assert torch.equal(attention.vectors, model.get_submodule(attention.head).weight)
