"""Classifiers of many kinds for small images, with seeded weights; and what wraps them."""

import functools

import torch
from torch import nn
from torchvision import models

CLASSES = 10

# name -> the layers that an expert reads: a finer one, and what the head reads. Where that is the
# linear layer itself, the head does more than pool, and it is told apart by place.
LAYERS = {
    "resnet18": ["layer3", "layer4"],
    "resnet50": ["layer3", "layer4"],
    "densenet121": ["features.denseblock3", "classifier"],
    "mobilenet_v2": ["features.13", "features"],
    "mobilenet_v3_small": ["features.8", "classifier.3"],
    "convnext_tiny": ["features.5", "classifier.2"],
    "efficientnet_b0": ["features.5", "features"],
    "regnet_y_400mf": ["trunk_output.block3", "trunk_output"],
    "shufflenet_v2_x0_5": ["stage3", "conv5"],
    "mnasnet0_5": ["layers.11", "layers"],
    "googlenet": ["inception4e", "inception5b"],
    "swin_t": ["features.5", "permute"],
    "vit": ["encoder.layers.encoder_layer_1", "heads.head"],
    "squeezenet1_1": ["features.7", "classifier.2"],
    "vgg11": ["features.14", "avgpool"],
}
PLACEWISE = ["densenet121", "mobilenet_v3_small", "convnext_tiny"]


def vit(num_classes: int = CLASSES, **options: int) -> models.VisionTransformer:
    """Of images of 64 pixels: a class token, and 4 x 4 patches."""
    torch.manual_seed(0)
    shape = {"image_size": 64, "patch_size": 16, "num_layers": 3, "num_heads": 2}
    shape |= {"hidden_dim": 32, "mlp_dim": 64, **options}
    model = models.VisionTransformer(**shape, num_classes=num_classes)
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at 0: no class would differ
    return model.eval()


@functools.cache
def network(name: str) -> nn.Module:
    """Batch norm has seen images, else deep maps differ by rounding errors only."""
    if name == "vit":
        return vit()
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = getattr(models, name)(weights=None, num_classes=CLASSES, **options).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        model(pictures(8, seed=7))
    return model.eval()


def pictures(count: int = 2, side: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


class Normalise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2  # exact, so that what follows is given the same to the last bit


class Logits(nn.Module):
    """As programs write it around a network that gives several things."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return {"logits": self.network(x)}["logits"]


class Attention(nn.Module):
    """Self-attention as timm writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, 2)
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).flatten(2))


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int, attention: nn.Module, scaled: bool) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), attention
        self.ls1 = LayerScale(width) if scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.mlp(self.norm2(x))


class TimmViT(nn.Module):
    """A vision transformer as timm writes it, of any attention and number of extra tokens: 4 x 4
    patches of images of 32 pixels."""

    def __init__(self, extra: int = 1, scaled: bool = True, attention=Attention) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch_embed = nn.Conv2d(3, 16, 8, 8)
        self.tokens = nn.Parameter(torch.randn(1, extra, 16))
        self.blocks = nn.Sequential(*(Block(16, attention(16, 2), scaled) for _ in range(3)))
        self.norm, self.fc_norm = nn.LayerNorm(16), nn.Identity()
        self.head_drop, self.head = nn.Dropout(0.1), nn.Linear(16, 6)
        for layer in self.modules():
            if isinstance(layer, nn.LayerNorm):
                nn.init.normal_(layer.weight, 1, 0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.tokens.expand(len(x), -1, -1), patches], 1)
        token = self.norm(self.blocks(tokens))[:, 0]
        return self.head(self.head_drop(self.fc_norm(token)))
