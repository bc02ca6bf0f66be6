"""An attention mechanism for every classifier: it sees no channel of it, only what it says."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .evidence import ENOUGH, INPUTS, Evidence, evidence, standard
from .headed import HeadedAttention

# the logarithm of the steepness and the threshold, before training: steeper, and higher, where the
# contrast is 0 at a higher place, as where most of the image speaks against the class
SHAPE = {"weight": [[0.0, 2.0], [0.8, 1.0]], "bias": [0.2, -1.6]}  # read of (top, zero)
# steeper ones are flat inside and cut off at the rim, and hide which part of an object matters
LOG_STEEPNESS = (math.log(0.7), math.log(3.3))
HIGHEST = 4.0  # above it a spike would leave all else dark; photographs' strongest are at 2 to 3


class UniversalAttention(HeadedAttention):
    """Raw maps from the classifier's own evidence; the same weights serve any classifier.

    Its inputs, see `evidence`, mean the same for a network of any number of channels and classes:
    what it learned beside some classifiers it can use beside one that it never saw (`beside`). Four
    convolutions of `width` channels give z, an order of the places, which is added to the contrast
    of the class against its competitors (classic CAM's, standardised), and the raw map is

        sigmoid(s * (z - t))      z: with mean 0 and standard deviation 1 over the image

    with a steepness s and a threshold t of the image. Both are read of two numbers that no scale of
    a classifier's logits changes: where in z the contrast is 0, and how high the strongest place
    is. (A brightness learned of pooled features, as `ConditionedAttention` has, was right beside
    the classifiers that it learned beside, and beside others far too dark for some images.)

    Args: as of `HeadedAttention`, and
        width: channels of its convolutions.
        darkness: what is taken off before the sigmoid: above 0 maps are smaller, at the price of
            average drop; their order, and so every threshold, stays as it is.

    >>> attention = UniversalAttention({"layer3": 4, "layer4": 8}, num_classes=10)
    >>> features = {"layer3": torch.rand(2, 4, 14, 14), "layer4": torch.rand(2, 8, 7, 7)}
    >>> attention.read_head(torch.rand(10, 8), torch.zeros(10))
    >>> [tuple(m.shape) for m in attention(features, torch.tensor([3, 9]))]
    [(2, 14, 14)]
    """

    contrasts = True
    several = True
    two_sided = True

    def __init__(
        self,
        channels: Mapping[str, int],
        num_classes: int,
        head: str | None = None,
        width: int = 32,
        darkness: float = 0.0,
    ) -> None:
        super().__init__(channels, num_classes, head, width)
        if isinstance(darkness, bool) or not -10 <= darkness <= 10:
            raise ValueError(f"darkness must lie in [-10, 10], got {darkness!r}")
        self.darkness = float(darkness)

        def convolution(outputs: int) -> nn.Conv2d:
            # what lies beyond the border is as what lies on it: zeros would draw a frame
            return nn.Conv2d(width, outputs, 3, padding=1, padding_mode="replicate")

        self.read = nn.Conv2d(INPUTS, width, 1)
        self.mix = nn.Sequential(convolution(width), nn.ReLU(), convolution(width), nn.ReLU())
        self.out = convolution(1)
        self.shape = nn.Linear(2, 2)
        with torch.no_grad():
            self.shape.weight.copy_(torch.tensor(SHAPE["weight"]))
            self.shape.bias.copy_(torch.tensor(SHAPE["bias"]))
            self.out.weight.mul_(0.5)
            nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def settings(self) -> dict[str, Any]:
        return {"head": self.head, "width": self.width, "darkness": self.darkness}

    def beside(
        self, channels: Mapping[str, int], num_classes: int, head: str | None
    ) -> "UniversalAttention":
        """The same weights, shared, for another classifier, whose head is yet to be read."""
        other = UniversalAttention(channels, num_classes, head, self.width, self.darkness)
        for name in ("read", "mix", "out", "shape"):
            setattr(other, name, getattr(self, name))
        return other.train(self.training)

    @property
    def precision(self) -> torch.dtype:
        return self.read.weight.dtype  # asked for at every call: a walk to the first one is slow

    def _hidden(self, found: Evidence) -> Tensor:
        """(N, width, H, W), before the last convolution."""
        return self.mix(F.relu(self.read(found.maps)))

    def _evidence(
        self,
        features: Mapping[str, Tensor],
        classes: Tensor,
        logits: Tensor | None = None,
        against: Tensor | None = None,
        without: Tensor | None = None,
    ) -> Evidence:
        maps = self.maps(features)
        return evidence(maps, self.vectors, self.offsets, classes, logits, against, without)

    def forward(
        self, features: Mapping[str, Tensor], classes: Tensor, logits: Tensor | None = None
    ) -> list[Tensor]:
        """One map (N, H, W) in (0, 1), at the finest layer's grid, from the maps of all layers; of
        several classes an image, (N, M), one map (N, M, H, W). For `logits` see `evidence`."""
        found = self._map(self._evidence(features, classes, logits))
        several = classes.ndim == 2 and not classes.is_floating_point()
        return [found.unflatten(0, classes.shape) if several else found]

    def _map(self, found: Evidence) -> Tensor:
        """(N, H, W)."""
        # where the classifier says the same everywhere, what was learned of it does not count
        learned = self.out(self._hidden(found))[:, 0]
        order = standard(torch.addcmul(found.contrast, found.varies, learned, value=1 / ENOUGH))
        top = order.amax((1, 2)).clamp(max=HIGHEST)
        shape = self.shape(torch.stack([top, found.zero], 1))[..., None, None]
        steepness, threshold = shape[:, 0].clamp(*LOG_STEEPNESS).exp(), shape[:, 1]
        return torch.sigmoid(steepness * (order - threshold) - self.darkness)

    def _narrow(self, found: Evidence) -> Evidence:
        """For a map of one class rather than others: not wider where the image as a whole speaks
        for it, as it does for both of two look-alikes."""
        return found._replace(zero=found.zero.clamp(min=0))

    def contrast(
        self,
        features: Mapping[str, Tensor],
        classes: Tensor,
        against: Tensor,
        logits: Tensor | None = None,
    ) -> list[Tensor]:
        """See `AttentionMechanism.contrast`: bright where the class is seen, and seen rather than
        the other one. Classes and against may be (N, M), with maps (N, M, H, W).

        The product of the class's map `among` the rest, and of one whose evidence is that of
        v_A - v_B: where a place shows neither, the difference says nothing, and is not small.
        """
        held = self._map(self._narrow(self._evidence(features, classes, logits, against)))
        plain = self.among(features, classes, against, logits)[0]
        return [plain * held.view_as(plain)]

    def among(
        self,
        features: Mapping[str, Tensor],
        classes: Tensor,
        without: Tensor,
        logits: Tensor | None = None,
    ) -> list[Tensor]:
        """See `AttentionMechanism.among`; classes and without may be (N, M)."""
        found = self._map(self._narrow(self._evidence(features, classes, logits, None, without)))
        return [found.view(*classes.shape, *found.shape[1:])]

    def along(self, direction: Tensor, offset: float = 0.0) -> "UniversalAttention":
        """The same weights for a direction of the head's space, such as a concept vector: an
        attention of one class, 0, whose evidence at a place is direction . A + offset.

        Args:
            direction: (C,), C the channels of the last layer.
            offset: by what it is above no evidence where the features are zeros.

        >>> attention = UniversalAttention({"layer4": 8}, num_classes=10)
        >>> striped = attention.along(torch.rand(8))
        >>> features = {"layer4": torch.rand(2, 8, 7, 7)}
        >>> [tuple(m.shape) for m in striped(features, torch.zeros(2, dtype=torch.long))]
        [(2, 7, 7)]
        """
        other = self.beside(self.channels, 1, None)
        other.read_head(direction[None], torch.tensor([offset]))
        return other

    def weighted_features(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        """What the last convolution sums over its input channels, (N, width, H, W)."""
        hidden = self._hidden(self._evidence(features, classes))
        padded = F.pad(hidden, (1, 1, 1, 1), mode="replicate")
        return [F.conv2d(padded, self.out.weight.transpose(0, 1), groups=self.width)]
