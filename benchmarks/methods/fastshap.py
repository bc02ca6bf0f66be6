"""FastSHAP (Jethani et al., ICLR 2022, arXiv 2107.07436): Shapley values in one pass, learned."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from learnable_cam_plugin.attention import AttentionMechanism, Origin
from learnable_cam_plugin.classifier import FrozenClassifier, class_scores
from learnable_cam_plugin.masking import background, mask_image
from learnable_cam_plugin.training.recipes import Step

# The paper has 14 x 14 super-pixels. A classifier that was never trained on masked images says next
# to nothing of random sets of those; of larger ones more sets lie between nothing and everything.
SIDE = 7


class FastSHAPAttention(AttentionMechanism):
    """The explainer: a convolutional head on the frozen classifier's feature maps.

    A 1x1 convolution a layer, summed on one grid, a 3x3 convolution, and a row of weights a class.
    The grid, whose places are the players, is the finest layer's, averaged to at most 7 x 7.

    The values lack the constant that makes them sum to what the whole image is worth (`efficient`):
    it takes a second pass, and min-max removes it from what is shown.

    Args:
        channels: layer name -> C.
        num_classes: K.
        width: channels of its convolutions.

    >>> attention = FastSHAPAttention({"a": 4, "b": 8}, num_classes=3)
    >>> features = {"a": torch.rand(2, 4, 14, 14), "b": torch.rand(2, 8, 7, 7)}
    >>> [tuple(m.shape) for m in attention(features, torch.tensor([0, 2]))]
    [(2, 7, 7)]
    """

    fuses = True

    def __init__(self, channels: Mapping[str, int], num_classes: int, width: int = 64) -> None:
        super().__init__(channels, num_classes)
        self.width = width
        self.read = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels.values())
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.rows = nn.Parameter(torch.empty(num_classes, width))
        nn.init.normal_(self.rows, std=1e-3)  # a player's share of a probability is small

    def settings(self) -> dict[str, Any]:
        return {"width": self.width}

    def _hidden(self, features: Mapping[str, Tensor]) -> Tensor:
        rows, columns = max((features[name].shape[2:] for name in self.channels), key=math.prod)
        size = (min(SIDE, rows), min(SIDE, columns))
        read = []
        for name, convolution in zip(self.channels, self.read, strict=True):
            self.check_features(name, features[name])
            maps = F.adaptive_avg_pool2d(features[name].to(self.rows.dtype), size)
            read.append(convolution(maps))
        return self.mix(torch.stack(read).sum(0).relu()).relu()

    def weighted_features(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        return [self._hidden(features) * self.rows[classes][:, :, None, None]]

    def forward(self, features: Mapping[str, Tensor], classes: Tensor) -> list[Tensor]:
        return [torch.einsum("nchw,nc->nhw", self._hidden(features), self.rows[classes])]


@dataclass(frozen=True)
class FastSHAPRecipe:
    """The paper's objective: the values of any set of places must sum to what the set is worth.

    A set is worth the class's probability where the image is black but for the set, less that of
    the black image. Sets are drawn as the Shapley kernel weighs them, each with its complement.

    Attributes:
        name: of the recipe, recorded in the attention file.
        pairs: sets an image and step, each beside its complement.
        learning_rate: of Adam; it falls to 0 along half a cosine (the paper's falls where the
            validation loss stands still).
        width: channels of the explainer.
        max_norm: to which the gradient is clipped, if at all.
    """

    terms: ClassVar = ("loss",)
    starts: ClassVar = ("random",)

    name: str = "fastshap"
    pairs: int = 4
    learning_rate: float = 1e-3
    width: int = 64
    max_norm: float | None = None

    def start(
        self, classifier: FrozenClassifier, images: Tensor, kind: str, seed: int, progress: bool
    ) -> FastSHAPAttention:
        """The explainer with random weights; `kind` is always "random"."""
        features, scores = classifier.clean_pass(images)
        channels = {name: maps.shape[1] for name, maps in features.items()}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            attention = FastSHAPAttention(channels, scores.shape[1], self.width)
        attention.origin = Origin.of(classifier.model, recipe={"name": self.name, "start": kind})
        return attention.to(images.device)

    def step(self, classifier: FrozenClassifier, images: Tensor) -> Step:
        """The squared error, the mean over images and sets."""
        black = background(images[:1], classifier.pixels, "black")
        return partial(self._terms, classifier, _probabilities(classifier, black))

    def _terms(
        self,
        classifier: FrozenClassifier,
        nothing: Tensor,
        attention: AttentionMechanism,
        images: Tensor,
        labels: Tensor | None,
        seed: int,
    ) -> dict[str, Tensor]:
        features, scores = classifier.clean_pass(images)
        classes = scores.argmax(1) if labels is None else labels

        def worth(probabilities: Tensor) -> Tensor:
            return (probabilities - nothing).gather(1, classes[:, None])[:, 0]

        (raw,) = attention(features, classes)
        values = efficient(raw.float().flatten(1), worth(scores.float().softmax(1)))
        generator = torch.Generator().manual_seed(seed)
        sets = draw_sets(len(raw), values.shape[1], self.pairs, generator).to(values)
        grids = sets.view(*sets.shape[:2], *raw.shape[1:])
        seen = [
            mask_image(images, mask, classifier.pixels)
            for mask in F.interpolate(grids, images.shape[2:], mode="nearest").unbind(1)
        ]
        worths = torch.stack([worth(_probabilities(classifier, part)) for part in seen], 1)
        return {"loss": F.mse_loss(torch.einsum("nsp,np->ns", sets, values), worths)}

    def make_optimizer(self, attention: AttentionMechanism) -> torch.optim.Optimizer:
        return torch.optim.Adam(attention.parameters(), lr=self.learning_rate)

    def rate(self, done: float, epochs: int) -> float:
        return (1 + math.cos(math.pi * min(1.0, done / epochs))) / 2

    def record(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def efficient(values: Tensor, total: Tensor) -> Tensor:
    """Values (N, P) of players, moved by one number an image so that they sum to `total` (N,).

    >>> efficient(torch.tensor([[1.0, 2.0]]), torch.tensor([1.0]))
    tensor([[0., 1.]])
    """
    return values + ((total - values.sum(1)) / values.shape[1])[:, None]


def draw_sets(images: int, players: int, pairs: int, generator: torch.Generator) -> Tensor:
    """Sets of players (N, 2 * pairs, P), bool, drawn as the Shapley kernel weighs them, neither
    empty nor whole: `pairs` of them, then their complements.

    Raises:
        ValueError: there are fewer than two players.
    """
    if players < 2:
        raise ValueError(f"{players} place has no share of its own: name a layer of a finer grid")
    sizes = torch.arange(1, players)
    # the kernel's weight of a set, times the number of sets of its size
    drawn = torch.multinomial(
        1 / (sizes * (players - sizes)), images * pairs, True, generator=generator
    )
    ranks = torch.rand(images * pairs, players, generator=generator).argsort(1)
    chosen = (ranks < sizes[drawn][:, None]).view(images, pairs, players)
    return torch.cat([chosen, ~chosen], 1)


@torch.no_grad()
def _probabilities(classifier: FrozenClassifier, images: Tensor) -> Tensor:
    return class_scores(classifier.model(images)).float().softmax(1)
