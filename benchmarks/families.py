"""Classifiers of other families than EfficientNet-Lite, of ImageNet's 1,000 classes.

Small ones, each of another kind, which `python -m benchmarks distil` trains; and a real one, see
`mobilenet`.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ConvNeXt, DenseNet, GoogLeNet, get_model
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet, conv1x1
from torchvision.models.swin_transformer import PatchMerging, SwinTransformerBlock
from torchvision.models.vision_transformer import Encoder
from torchvision.ops import Conv2dNormActivation, Permute

from learnable_cam_plugin import Normalization, checkpoint
from learnable_cam_plugin.pretrained import efficientnet_lite

from .mobilenet import CLASSES, mobilenet
from .sources import IMAGENET


class Tokens(nn.Module):
    """Maps (N, C, 2h, 2w) -> tokens (N, 1 + h w, width): patches of 2 x 2, after a class token."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, 2, 2)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, maps: Tensor) -> Tensor:
        patches = self.patches(maps).flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(len(patches), -1, -1), patches], 1)


class ClassToken(nn.Module):
    """Tokens (N, T, width) -> the class token (N, width)."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


class Stem(nn.Sequential):
    """Modules in a row that stay as they are: no gradient, always in eval mode."""

    def train(self, mode: bool = True) -> "Stem":
        return super().train(False).requires_grad_(False)


def _resnet() -> tuple[nn.Module, Normalization]:
    """One block a stage, maps (N, 512, 5, 5) of images of 160 pixels."""
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=CLASSES), IMAGENET


def _stem() -> tuple[Stem, Normalization]:
    """EfficientNet-Lite0 up to its maps (N, 112, 14, 14): what stands on them learns fast, and is
    as sure as it is."""
    lite, normalization = efficientnet_lite(0)
    early, blocks = lite.get_submodule("features.stem"), lite.get_submodule("features.blocks")
    return Stem(early, *list(blocks.children())[:11]), normalization


def _vit() -> tuple[nn.Module, Normalization]:
    """torchvision's encoder, 4 blocks on 7 x 7 patches, whose head reads the class token alone."""
    stem, normalization = _stem()
    width = 192
    encoder = Encoder(
        seq_length=50,
        num_layers=4,
        num_heads=6,
        hidden_dim=width,
        mlp_dim=4 * width,
        dropout=0.0,
        attention_dropout=0.0,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    parts = OrderedDict(
        stem=stem,
        tokens=Tokens(112, width),
        encoder=encoder,
        first=ClassToken(),
        head=nn.Linear(width, CLASSES),
    )
    return nn.Sequential(parts), normalization


def _convnext() -> tuple[nn.Module, Normalization]:
    """Half as wide as ConvNeXt-T and less deep; a LayerNorm stands between pooling and head."""
    blocks = [(48, 96, 2), (96, 192, 2), (192, 384, 4), (384, None, 2)]
    stages = [CNBlockConfig(*block) for block in blocks]
    return ConvNeXt(stages, layer_scale=0.1, num_classes=CLASSES), IMAGENET


def _regnet() -> tuple[nn.Module, Normalization]:
    """RegNetY-400MF: groups of channels, squeeze and excitation."""
    return get_model("regnet_y_400mf", weights=None, num_classes=CLASSES), IMAGENET


def _shufflenet() -> tuple[nn.Module, Normalization]:
    """ShuffleNet v2 of the full width: 1,024 channels into the head, of depthwise convolutions."""
    return get_model("shufflenet_v2_x1_0", weights=None, num_classes=CLASSES), IMAGENET


def _densenet() -> tuple[nn.Module, Normalization]:
    """Less deep and narrower than DenseNet-121; a function, ReLU, stands before the pooling."""
    return DenseNet(24, (4, 8, 12, 8), 48, num_classes=CLASSES), IMAGENET


def _vgg() -> tuple[nn.Module, Normalization]:
    """Plain convolutions, no residual, nine of them; pooled to one vector, as VGG is not."""
    parts: list[nn.Module] = []
    inputs = 3
    for outputs in (32, 0, 64, 0, 128, 128, 0, 256, 256, 0, 512, 512, 0, 512):
        if outputs == 0:
            parts.append(nn.MaxPool2d(2))
            continue
        parts.append(Conv2dNormActivation(inputs, outputs, inplace=False))
        inputs = outputs
    features = OrderedDict(features=nn.Sequential(*parts))
    return _pooled(features, nn.Linear(inputs, CLASSES)), IMAGENET


def _googlenet() -> tuple[nn.Module, Normalization]:
    """GoogLeNet: branches side by side, joined by their channels; Dropout before the head."""
    return GoogLeNet(CLASSES, aux_logits=False, init_weights=False, dropout=0.0), IMAGENET


def _resnext() -> tuple[nn.Module, Normalization]:
    """Bottlenecks of 32 groups: 2,048 channels into the head."""
    return ResNet(Bottleneck, [1, 2, 2, 1], CLASSES, groups=32, width_per_group=4), IMAGENET


def _mlp() -> tuple[nn.Module, Normalization]:
    """Two residual blocks on EfficientNet-Lite0's maps; a hidden layer in its head."""
    stem, normalization = _stem()
    width = 512
    shorter = nn.Sequential(conv1x1(112, width, 2), nn.BatchNorm2d(width))
    blocks = nn.Sequential(BasicBlock(112, width, 2, shorter), BasicBlock(width, width))
    head = nn.Sequential(nn.Linear(width, 768), nn.Hardswish(), nn.Linear(768, CLASSES))
    return _pooled(OrderedDict(stem=stem, features=blocks), head), normalization


def _swin() -> tuple[nn.Module, Normalization]:
    """Windows of 7 x 7 places, 2 blocks on 14 x 14 and 2 on 7 x 7, on EfficientNet-Lite0's maps."""
    stem, normalization = _stem()
    width, norm = 128, partial(nn.LayerNorm, eps=1e-5)

    def blocks(channels: int) -> nn.Sequential:
        shifts = [[0, 0], [3, 3]]
        return nn.Sequential(
            *(
                SwinTransformerBlock(channels, channels // 32, [7, 7], s, norm_layer=norm)
                for s in shifts
            )
        )

    parts = OrderedDict(
        stem=stem,
        places=Permute([0, 2, 3, 1]),
        narrow=nn.Linear(112, width),
        stage1=blocks(width),
        merge=PatchMerging(width, norm),
        stage2=blocks(2 * width),
        norm=norm(2 * width),
        maps=Permute([0, 3, 1, 2]),
    )
    return _pooled(parts, nn.Linear(2 * width, CLASSES)), normalization


def _pooled(parts: Mapping[str, nn.Module], head: nn.Module) -> nn.Sequential:
    """What ends in maps (N, C, h, w), and a head on their mean."""
    pooled = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=head)
    return nn.Sequential(OrderedDict(**parts, **pooled))


@dataclass(frozen=True)
class Family:
    """How a classifier is made, with the weights of a file or with random ones, in eval mode.

    Attributes:
        load: from the file that `distil` left, or for "mobilenet" from what it takes.
        side: of the square images that it is used with.
        rate: the largest learning rate of its distillation; None where it comes trained.
    """

    load: Callable[..., tuple[nn.Module, Normalization]]
    side: int
    rate: float | None = None


def student(build: Callable[[], tuple[nn.Module, Normalization]], side: int, rate: float) -> Family:
    """A family that `distil` trains."""

    def load(weights: Path | None = None) -> tuple[nn.Module, Normalization]:
        model, normalization = build()
        if weights is not None:
            model.load_state_dict(checkpoint.load(weights)[0])
        return model.eval(), normalization

    return Family(load, side, rate)


FAMILIES = {
    "resnet": student(_resnet, 160, 3e-3),
    "vit": student(_vit, 224, 1.5e-3),
    "convnext": student(_convnext, 192, 2e-3),
    "regnet": student(_regnet, 160, 3e-3),
    "shufflenet": student(_shufflenet, 192, 3e-3),
    "densenet": student(_densenet, 160, 3e-3),
    "vgg": student(_vgg, 160, 3e-3),
    "googlenet": student(_googlenet, 192, 3e-3),
    "resnext": student(_resnext, 160, 3e-3),
    "mlp": student(_mlp, 224, 2e-3),
    "swin": student(_swin, 224, 1.5e-3),
    "mobilenet": Family(mobilenet, 224),
}
