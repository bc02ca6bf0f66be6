"""An attention mechanism shared by all classes: the class enters through the head's own weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..saliency import resize
from .headed import HeadedAttention


@dataclass(frozen=True)
class MapSettings:
    """The numbers of `ConditionedAttention` that are set, not trained; saved in its file.

    Attributes:
        trust: what the learned part of the order counts in use, against 1 in training: it is
            noisier than the class's evidence that it starts from (docs/experiments.md, part 3).
        steepness: of the sigmoid, before it is learned.
        steepness_range: the learned steepness lies within exp(+-this) of it.
        brightness: the learned brightness lies between minus and plus this.
        certainty: by what the class's probability, less a half, enters the brightness.
        evidence_offset, evidence_scale: the class's evidence enters as (v_y . A - offset) / scale.
        start_order: by what the random weights of the last convolution are multiplied.
        start_brightness: the weight of the class's probability before training. Bright where the
            classifier is sure of the class, dark where it sees others too: from an even start, some
            trainings stay bright everywhere.
    """

    trust: float = 0.5
    steepness: float = 2.0
    steepness_range: float = 1.2
    brightness: float = 5.0
    certainty: float = 10.0
    evidence_offset: float = 2.0
    evidence_scale: float = 10.0
    start_order: float = 0.5
    start_brightness: float = 0.3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name} must be a number, got {value!r}")
            least = 1e-6 if name == "evidence_scale" else -1e6
            if not least <= value <= 1e6:  # NaN is not, either
                raise ValueError(f"{name} must lie in [{least:g}, 1e6], got {value}")


def _root(squares: Tensor) -> Tensor:
    """The square root, with a derivative of 0 at 0, where it has none: on a 1x1 grid, on maps of
    zeros."""
    return squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt()


def _standard(maps: Tensor) -> Tensor:
    """Maps (N, M, h, w), each with mean 0 and standard deviation 1."""
    centred = maps - maps.mean((2, 3), keepdim=True)
    return centred / (_root(centred.square().mean((2, 3), keepdim=True)) + 1e-3)


def _unit(maps: Tensor) -> Tensor:
    """Feature maps (N, ...) with a root mean square of 1 an image, so that layers compare."""
    return maps / (_root(maps.flatten(1).square().mean(1)).view(-1, 1, 1, 1) + 1e-4)


def _against(vectors: Tensor, probabilities: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """v_y (N, C), and v_y - sum_k p_k v_k: the gradient of log p_y with respect to pooled features,
    which speaks for the class against what else the classifier sees. Of weights (N, K) of the
    classes, their sums."""
    if not classes.is_floating_point():
        own = vectors[classes]
        return own, own - probabilities @ vectors
    weights = classes.to(vectors)
    own = weights @ vectors
    return own, own - weights.sum(1, keepdim=True) * (probabilities @ vectors)


def _direction(
    vectors: Tensor, probabilities: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """v_y and g_y (N, C) and p_y (N, 1). Of weights (N, K) of the classes, the sums of the first
    two, and the probability of what they speak for."""
    own, gradient = _against(vectors, probabilities, classes)
    if not classes.is_floating_point():
        return own, gradient, probabilities.gather(1, classes[:, None])
    weights = classes.to(vectors).clamp(0, 1)
    return own, gradient, (weights * probabilities).sum(1, keepdim=True)


class ConditionedAttention(HeadedAttention):
    """One mechanism for all classes, conditioned on the classifier head's weights of the class.

    With the head's weight v_y (K, C) of class y, the last layer's feature maps A give evidence for
    the class, v_y . A, and for it against what else the classifier sees, g_y . A, where

        g_y = v_y - sum_k p_k v_k           p: the classifier's probabilities

    is the gradient of log p_y with respect to the pooled features. Both, the feature maps of all
    layers, and A * g_y channel by channel, go through 1x1 convolutions to a common width, are
    resized to the finest layer's grid and summed; two 3x3 convolutions make one map of them, which
    is added to g_y . A, classic CAM against the competing classes, and gives c. (In training it
    counts in full, in `eval` mode `trust`.) The raw map is

        sigmoid(s * z + b)      z: c with mean 0 and standard deviation 1 over the image

    with a steepness s and a brightness b of the image, from the pooled features: the order of the
    pixels and how much of the map is bright are learned apart, and neither spoils the other. What
    is trained is the same for every class: it explains classes that it never saw in training, and
    its size does not depend on how many there are.

    The fusion of layers is TAME's (Ntrougkas, Gkalelis, Mezaris, ISM 2022) in spirit: 1x1
    convolutions, a common grid. There, the last convolution has a row a class.

    Args:
        channels: layer name -> C; the last one is what the head reads.
        num_classes: K.
        width: channels after the 1x1 convolutions.
        head: name of the linear layer of the classifier whose weight gives the v_y; None if they
            are saved with the attention, as for a head of another shape (see `calibrate`).
        constants: of `MapSettings`.

    >>> attention = ConditionedAttention({"layer3": 4, "layer4": 8}, num_classes=10)
    >>> features = {"layer3": torch.rand(2, 4, 14, 14), "layer4": torch.rand(2, 8, 7, 7)}
    >>> attention.read_head(torch.rand(10, 8), torch.zeros(10))
    >>> [tuple(m.shape) for m in attention(features, torch.tensor([3, 9]))]
    [(2, 14, 14)]
    """

    contrasts = True

    def __init__(
        self,
        channels: Mapping[str, int],
        num_classes: int,
        width: int = 64,
        head: str | None = None,
        **constants: float,
    ) -> None:
        super().__init__(channels, num_classes, head, width)
        self.constants, last = MapSettings(**constants), list(channels.values())[-1]
        self.layers = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels.values())
        self.products = nn.Conv2d(last, width, 1, bias=False)
        self.evidence = nn.Conv2d(4, width, 1, bias=False)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, 1, 3, padding=1)
        self.shape = nn.Linear(width + 1, 2)
        with torch.no_grad():
            self.out.weight.mul_(self.constants.start_order)
            for zero in (self.out.bias, self.shape.weight, self.shape.bias):
                nn.init.zeros_(zero)  # type: ignore[arg-type]
            self.shape.weight[1, -1] = self.constants.start_brightness

    def settings(self) -> dict[str, Any]:
        return {"width": self.width, "head": self.head, **asdict(self.constants)}

    def _hidden(
        self, features: Mapping[str, Tensor], classes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, width, H, W) before the last convolution, what is added after it (N, H, W), and the
        probability (N, 1) of the classes."""
        maps, known = self.maps(features), self.constants
        last = maps[-1]
        vectors = self.vectors.to(last)
        probabilities = F.linear(last.mean((2, 3)), vectors, self.offsets.to(last)).softmax(1)
        own, gradient, probability = _direction(vectors, probabilities, classes.to(last.device))
        strength = gradient.norm(dim=1, keepdim=True).clamp(min=1e-3)
        unit = gradient / strength
        evidence = torch.einsum("nchw,nmc->nmhw", last, torch.stack([own, unit], 1))
        of_class, contrast = evidence.unbind(1)
        relative = _standard(evidence)
        # absolute values too: relative ones cannot tell a class that fills the image
        absolute = torch.stack(
            [of_class - known.evidence_offset, contrast * strength[..., None]], 1
        )
        absolute = absolute / known.evidence_scale
        parts = [conv(_unit(part)) for conv, part in zip(self.layers, maps, strict=True)]
        parts[-1] = parts[-1] + self.products(_unit(last * unit[:, :, None, None]))
        parts[-1] = parts[-1] + self.evidence(torch.cat([relative, absolute], 1))
        size = max((part.shape[2:] for part in maps), key=lambda s: s[0] * s[1])
        total = torch.stack([resize(part, size) for part in parts]).sum(0)
        hidden = F.relu(self.mix(F.relu(total)))
        start = resize(relative[:, 1], size)
        return hidden, start, probability

    def _trust(self) -> float:
        return 1.0 if self.training else self.constants.trust

    def forward(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        """One map (N, H, W) in (0, 1), at the finest layer's grid, from the maps of all layers."""
        hidden, start, probability = self._hidden(features, classes)
        order = _standard((self._trust() * self.out(hidden)[:, 0] + start)[:, None])[:, 0]
        pooled = F.layer_norm(hidden.mean((2, 3)), (self.width,))
        known = self.constants
        pooled = torch.cat([pooled, known.certainty * (probability - 0.5)], 1)
        steepness, brightness = self.shape(pooled)[:, :, None, None].unbind(1)
        # With the default settings between 0.6 and 6.6, and between -5 and 5: the sigmoid keeps
        # its order in float32.
        steepness = known.steepness * torch.exp(known.steepness_range * torch.tanh(steepness))
        return [torch.sigmoid(steepness * order + known.brightness * torch.tanh(brightness / 2))]

    def weighted_features(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        """What the last convolution sums over its input channels, (N, width, H, W)."""
        hidden, _, _ = self._hidden(features, classes)
        weight = self._trust() * self.out.weight.transpose(0, 1)
        return [F.conv2d(hidden, weight, padding=1, groups=self.width)]
