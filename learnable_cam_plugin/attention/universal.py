"""An attention mechanism for every classifier: it sees no channel of it, only what it says."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .evidence import ENOUGH, FLAT, INPUTS, Evidence, evidence, standard
from .headed import HeadedAttention

# log k = 5 zero - 1.5 before training: about 0 where the image as a whole speaks for the class, as
# most photographs do, and more where most of it speaks against the class
NARROW = (5.0, -1.5)
HIGHEST = 4.0  # above it a spike would leave all else dark; photographs' strongest are at 2 to 3


class UniversalAttention(HeadedAttention):
    """Raw maps from the classifier's own evidence; the same weights serve any classifier.

    Its inputs, see `evidence`, mean the same for a network of any number of channels and classes:
    what it learned beside some classifiers it can use beside one that it never saw (`beside`). Four
    convolutions of `width` channels are added to the contrast of the class against its competitors
    (classic CAM's, standardised). Of that sum, the order of the places, standardised again, with
    h >= 0 its height above the lowest place (the order counts up to `HIGHEST`), the raw map is

        h (1 + u / 2 + u^2 / 6) / (1 + k)^2      u = k h

    the first terms of (exp(u) - 1) / k, of one size for all k: a straight line where k is 0, and
    narrower, up to a cube, the larger it is. k > 0 is read of one number that no scale of a
    classifier's logits changes: where in the contrast the zero lies. (A brightness learned of
    pooled features, as `ConditionedAttention` has, was right beside the classifiers that it learned
    beside, and beside others far too dark for some images.)

    Args: as of `HeadedAttention`, and
        width: channels of its convolutions.
        darkness: added to k, 0 to 10: above 0 maps are smaller, at the price of average drop; their
            order, and so every threshold, stays as it is.

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
        if isinstance(darkness, bool) or not 0 <= darkness <= 10:
            raise ValueError(f"darkness must lie in [0, 10], got {darkness!r}")
        self.darkness = float(darkness)

        def convolution(outputs: int) -> nn.Conv2d:
            # what lies beyond the border is as what lies on it: zeros would draw a frame
            return nn.Conv2d(width, outputs, 3, padding=1, padding_mode="replicate")

        self.read = nn.Conv2d(INPUTS, width, 1)
        self.mix = nn.Sequential(convolution(width), nn.ReLU(), convolution(width), nn.ReLU())
        self.out = convolution(1)
        self.narrow = nn.Linear(1, 1)
        with torch.no_grad():
            self.narrow.weight.fill_(NARROW[0])
            self.narrow.bias.fill_(NARROW[1])
            self.out.weight.mul_(0.5)
            nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def settings(self) -> dict[str, Any]:
        return {"head": self.head, "width": self.width, "darkness": self.darkness}

    def beside(
        self, channels: Mapping[str, int], num_classes: int, head: str | None
    ) -> "UniversalAttention":
        """The same weights, shared, for another classifier, whose head is yet to be read."""
        other = UniversalAttention(channels, num_classes, head, self.width, self.darkness)
        for name in ("read", "mix", "out", "narrow"):
            setattr(other, name, getattr(self, name))
        return other

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
        """One map (N, H, W), 0 at its lowest place, at the finest layer's grid, from the maps of
        all layers; of several classes an image, (N, M), one map (N, M, H, W). For `logits` see
        `evidence`."""
        found = self._map(self._evidence(features, classes, logits))
        several = classes.ndim == 2 and not classes.is_floating_point()
        return [found.unflatten(0, classes.shape) if several else found]

    def _map(self, found: Evidence) -> Tensor:
        """(N, H, W)."""
        # where the classifier says the same everywhere, what was learned of it does not count
        learned = self.out(self._hidden(found))[:, 0]
        order = standard(torch.addcmul(found.contrast, found.varies, learned, value=1 / ENOUGH))
        height = order.clamp(max=HIGHEST) - order.amin((1, 2), keepdim=True)
        height = height * (found.varies > FLAT)  # else rounding, which other runtimes do otherwise
        k = self.narrow(found.zero[:, None]).exp()[..., None] + self.darkness
        u = k * height
        return torch.addcmul(height, height, u * (u / 6 + 0.5)) / (1 + k).square()

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
        held = self._map(self._evidence(features, classes, logits, against))
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
        found = self._map(self._evidence(features, classes, logits, None, without))
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
