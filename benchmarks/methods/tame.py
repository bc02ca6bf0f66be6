"""TAME's attention mechanism, as published, for comparison: several layers fused, a row a class."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from learnable_cam_plugin.attention import AttentionMechanism, Origin
from learnable_cam_plugin.classifier import FrozenClassifier
from learnable_cam_plugin.saliency import resize


class TAMEAttention(AttentionMechanism):
    """TAME (Ntrougkas, Gkalelis, Mezaris, ISM 2022), figure 2: a branch a layer, then one fusion.

    Branch: 1x1 convolution (C to C), batch norm, plus the feature maps, ReLU, resized bilinearly to
    the largest of the maps. Fusion: concatenation, 1x1 convolution to K. The paper's random start.

    Args:
        channels: layer name -> C.
        num_classes: K.

    >>> attention = TAMEAttention({"a": 4, "b": 8}, num_classes=3)
    >>> features = {"a": torch.rand(2, 4, 14, 14), "b": torch.rand(2, 8, 7, 7)}
    >>> [tuple(m.shape) for m in attention(features, torch.tensor([0, 2]))]
    [(2, 14, 14)]
    """

    fuses = True

    def __init__(self, channels: Mapping[str, int], num_classes: int) -> None:
        super().__init__(channels, num_classes)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c)) for c in channels.values()
        )
        fusion = nn.Conv2d(sum(channels.values()), num_classes, 1)
        self.weight = nn.Parameter(fusion.weight.detach().flatten(1))
        self.bias = nn.Parameter(fusion.bias.detach())  # type: ignore[union-attr]

    def _fused(self, features: Mapping[str, Tensor]) -> Tensor:
        size = max((f.shape[2:] for f in features.values()), key=lambda s: s[0] * s[1])
        fused = []
        for name, branch in zip(self.channels, self.branches, strict=True):
            self.check_features(name, features[name])
            maps = features[name].to(self.weight.dtype)
            fused.append(resize(F.relu(branch(maps) + maps), size))
        return torch.cat(fused, 1)

    def forward(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        fused = self._fused(features)
        weight, bias = self.weight[classes], self.bias[classes]
        return [torch.einsum("nchw,nc->nhw", fused, weight) + bias[:, None, None]]

    def weighted_features(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        return [self._fused(features) * self.weight[classes][:, :, None, None]]


def tame_start(classifier: FrozenClassifier, images: Tensor, seed: int) -> TAMEAttention:
    """TAME with random weights for the classifier's layers; images: (N, C, H, W), a few."""
    features, scores = classifier.clean_pass(images)
    channels = {name: maps.shape[1] for name, maps in features.items()}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        attention = TAMEAttention(channels, scores.shape[1]).to(images.device)
    attention.origin = Origin.of(classifier.model, recipe={"name": "tame", "start": "random"})
    return attention
