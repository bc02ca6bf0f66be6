"""L-CAM's attention mechanism: a row of weights a class."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .base import AttentionMechanism


class LCAMAttention(AttentionMechanism):
    """The attention mechanism of L-CAM: one 1x1 convolution a target layer.

    For class y and feature maps A (N, C, h, w), equation (1) of the paper gives the raw map

        c_y = W_y . A + b_y            (N, h, w), any sign

    Only the rows of W that are asked for are used: K maps are never computed for one class.

    Args:
        channels: layer name -> C, its number of channels.
        num_classes: K.

    Attributes:
        weights, biases: one parameter (K, C) and (K,) a layer, in the order of `channels`.
        origin: what it was made for (`Origin`), or None.

    >>> attention = LCAMAttention({"layer4.1": 512}, num_classes=10)
    >>> maps = attention({"layer4.1": torch.rand(2, 512, 7, 5)}, torch.tensor([3, 9]))
    >>> [tuple(m.shape) for m in maps]
    [(2, 7, 5)]
    """

    contrasts = True
    several = True

    def __init__(self, channels: Mapping[str, int], num_classes: int) -> None:
        super().__init__(channels, num_classes)
        convolutions = [nn.Conv2d(c, num_classes, 1) for c in channels.values()]
        self.weights = nn.ParameterList(
            nn.Parameter(c.weight.detach().flatten(1)) for c in convolutions
        )
        self.biases = nn.ParameterList(nn.Parameter(c.bias.detach()) for c in convolutions)  # type: ignore[union-attr]

    def _rows(self, layer: str, features: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """W and b of `layer` for `classes`, after checking the features against them."""
        self.check_features(layer, features)
        index = list(self.channels).index(layer)
        weight, bias = self.weights[index], self.biases[index]
        if classes.is_floating_point():
            classes = classes.to(weight)
            return classes @ weight, classes @ bias
        return weight[classes.to(weight.device)], bias[classes.to(weight.device)]

    def forward(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        """The raw maps of one class, or of several, for each image.

        Args:
            features: layer name -> (N, C, h, w) or (N, C, d, h, w).
            classes: (N,) one class an image, or (N, M) several; integers in [0, K). Or weights
                (N, K), floating-point: the maps are the same weighted sum of the classes' maps.

        Returns:
            for each layer of `features` (N, h, w) or (N, d, h, w); with (N, M) classes
            (N, M, h, w) or (N, M, d, h, w).
        """
        maps = []
        for layer, feature in features.items():
            weight, bias = self._rows(layer, feature, classes)
            flat = feature.flatten(2).to(weight.dtype)
            if weight.ndim == 2:
                raw = torch.baddbmm(bias[:, None, None], weight[:, None], flat)[:, 0]
            else:
                raw = torch.baddbmm(bias[:, :, None], weight, flat)
            maps.append(raw.view(*weight.shape[:-1], *feature.shape[2:]))
        return maps

    def weighted_features(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        """W_y * A before the sum over channels, (N, C, ...) for each layer of `features`."""
        weighted = []
        for layer, feature in features.items():
            weight, _ = self._rows(layer, feature, classes)
            weighted.append(feature * weight.view(*weight.shape, *[1] * (feature.ndim - 2)))
        return weighted
