"""Classifiers of many architectures, as their libraries build them, small and with seeded weights.

Names are "library:architecture". Sides and depths are as small as each allows, so that all of them
are tried in minutes: what is asked is whether they can be explained, not how well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from learnable_cam_plugin.loading.weights import RANDOM, built

CLASSES = 10


@dataclass(frozen=True)
class Architecture:
    """How a classifier of `CLASSES` classes is made.

    Attributes:
        make: builds it; its weights are drawn.
        side: of its square images.
        small: whether it is tried in every test run, within a second or so.
    """

    make: Callable[[], nn.Module]
    side: int = 64
    small: bool = False

    def classifier(self) -> nn.Module:
        """With seeded weights, in eval mode. Batch norms have seen images: with the statistics that
        they start with, deep maps differ by rounding errors only."""
        model = built(self.make, RANDOM)
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.train().momentum = None
        if norms:
            with torch.no_grad():
                model(self.images(8, seed=1))
        return model.eval()

    def images(self, count: int, seed: int = 0) -> Tensor:
        """Random blocks of colour in [-1, 1], (count, 3, side, side)."""
        generator = torch.Generator().manual_seed(seed)
        blocks = torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1
        return F.interpolate(blocks, (self.side, self.side))


class TextClasses(nn.Module):
    """CLIP's image tower, its classes the embeddings of texts: scores are their cosines, scaled.

    The scale stands before the linear layer, so that this gives the scores.
    """

    def __init__(self, tower: nn.Module, width: int) -> None:
        super().__init__()
        self.tower, self.texts = tower, nn.Linear(width, CLASSES, bias=False)
        with torch.no_grad():
            self.texts.weight.copy_(F.normalize(torch.randn(CLASSES, width), dim=1))

    def forward(self, images: Tensor) -> Tensor:
        return self.texts(100 * F.normalize(self.tower(images).image_embeds, dim=1))


def _torchvision(name: str, **options: Any) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **options)


def _timm(name: str, **options: Any) -> nn.Module:
    import timm

    return timm.create_model(name, num_classes=CLASSES, **options)


def _transformers(name: str, **options: Any) -> nn.Module:
    import transformers

    transformers.logging.set_verbosity_error()
    config = getattr(transformers, f"{name}Config")(num_labels=CLASSES, **options)
    config.architectures = []  # of several networks of a configuration, the first
    return transformers.AutoModelForImageClassification.from_config(config)


def _clip() -> nn.Module:
    import transformers

    config = transformers.CLIPVisionConfig(**_TOKENS, projection_dim=32)
    return TextClasses(transformers.CLIPVisionModelWithProjection(config), 32)


def _vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=64,
        patch_size=16,
        num_layers=3,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
        num_classes=CLASSES,
    )


_TOKENS: dict[str, Any] = {
    "image_size": 64,
    "patch_size": 8,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
_STAGES = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}
_SWIN = {"embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}

TORCHVISION = {
    "alexnet": Architecture(partial(_torchvision, "alexnet"), side=128),  # of 64 one place is left
    "convnext_tiny": Architecture(partial(_torchvision, "convnext_tiny")),
    "densenet121": Architecture(partial(_torchvision, "densenet121")),
    "efficientnet_b0": Architecture(partial(_torchvision, "efficientnet_b0"), small=True),
    "googlenet": Architecture(
        partial(_torchvision, "googlenet", aux_logits=False, init_weights=False)
    ),
    "maxvit_t": Architecture(partial(_torchvision, "maxvit_t", input_size=(224, 224)), 224),
    "mnasnet0_5": Architecture(partial(_torchvision, "mnasnet0_5")),
    "mobilenet_v2": Architecture(partial(_torchvision, "mobilenet_v2")),
    "mobilenet_v3_small": Architecture(partial(_torchvision, "mobilenet_v3_small"), small=True),
    "regnet_y_400mf": Architecture(partial(_torchvision, "regnet_y_400mf")),
    "resnet18": Architecture(partial(_torchvision, "resnet18"), small=True),
    "shufflenet_v2_x0_5": Architecture(partial(_torchvision, "shufflenet_v2_x0_5"), small=True),
    "squeezenet1_1": Architecture(partial(_torchvision, "squeezenet1_1"), small=True),
    "swin_t": Architecture(partial(_torchvision, "swin_t")),
    "vgg11": Architecture(partial(_torchvision, "vgg11")),
    "vit": Architecture(_vit, small=True),
}
TIMM = {
    "beit_base_patch16_224": Architecture(
        partial(_timm, "beit_base_patch16_224", img_size=64, depth=3, embed_dim=48, num_heads=4)
    ),
    "cait_xxs24_224": Architecture(partial(_timm, "cait_xxs24_224", img_size=64, depth=3)),
    "convnext_atto": Architecture(partial(_timm, "convnext_atto"), small=True),
    "deit_tiny_patch16_224": Architecture(
        partial(_timm, "deit_tiny_patch16_224", img_size=64, depth=3), small=True
    ),
    "efficientvit_b0": Architecture(partial(_timm, "efficientvit_b0")),
    "mixer_s32_224": Architecture(partial(_timm, "mixer_s32_224", img_size=128), 128),
    "mobilevit_xxs": Architecture(partial(_timm, "mobilevit_xxs")),
    "poolformer_s12": Architecture(partial(_timm, "poolformer_s12")),
    "regnety_002": Architecture(partial(_timm, "regnety_002")),
    "resnet10t": Architecture(partial(_timm, "resnet10t"), small=True),
    "swin_tiny_patch4_window7_224": Architecture(
        partial(
            _timm, "swin_tiny_patch4_window7_224", img_size=112, embed_dim=24, depths=(1, 1, 2, 1)
        ),
        112,
    ),
    "vit_base_patch16_siglip_224": Architecture(
        partial(
            _timm, "vit_base_patch16_siglip_224", img_size=64, depth=3, embed_dim=48, num_heads=4
        )
    ),
    "vit_tiny_patch16_224": Architecture(
        partial(_timm, "vit_tiny_patch16_224", img_size=64, depth=3), small=True
    ),
    "xcit_nano_12_p16_224": Architecture(
        partial(_timm, "xcit_nano_12_p16_224", img_size=64, depth=3)
    ),
}
TRANSFORMERS = {
    "BEiT": Architecture(partial(_transformers, "Beit", **_TOKENS)),
    "CLIP, texts as classes": Architecture(_clip, small=True),
    "ConvNeXt": Architecture(partial(_transformers, "ConvNext", **_STAGES), small=True),
    "DeiT": Architecture(partial(_transformers, "DeiT", **_TOKENS)),
    "DINOv2": Architecture(partial(_transformers, "Dinov2", **_TOKENS), small=True),
    "EfficientNet": Architecture(
        partial(
            _transformers,
            "EfficientNet",
            hidden_dim=1280,
            width_coefficient=1.0,
            depth_coefficient=1.0,
            initializer_range=0.2,  # with theirs, of 0.02, its norms see next to nothing
        )
    ),
    "FocalNet": Architecture(
        partial(_transformers, "FocalNet", image_size=64, embed_dim=24, depths=[1, 1, 2, 1])
    ),
    "MobileNetV2": Architecture(partial(_transformers, "MobileNetV2")),
    "PVT": Architecture(partial(_transformers, "Pvt", image_size=64, depths=[1, 1, 1, 1])),
    "RegNet": Architecture(partial(_transformers, "RegNet", **_STAGES)),
    "ResNet": Architecture(partial(_transformers, "ResNet", embedding_size=16, **_STAGES)),
    "SegFormer": Architecture(partial(_transformers, "Segformer", depths=[1, 1, 1, 1])),
    "SigLIP": Architecture(partial(_transformers, "Siglip", vision_config=_TOKENS)),
    "Swin": Architecture(partial(_transformers, "Swin", **_SWIN), 224, small=True),
    "ViT": Architecture(partial(_transformers, "ViT", **_TOKENS), small=True),
}
ARCHITECTURES = {
    f"{library}:{name}": architecture
    for library, those in (
        ("torchvision", TORCHVISION),
        ("timm", TIMM),
        ("transformers", TRANSFORMERS),
    )
    for name, architecture in those.items()
}
