"""Train one mechanism beside several classifiers at once, so that it serves others too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...attention import AttentionMechanism, UniversalAttention, universal_beside
from ...classifier import FrozenClassifier
from ...saliency import resize
from .base import Step, TrainingRecipe


@dataclass(frozen=True)
class Companion:
    """A classifier beside which the attention is trained too.

    Attributes:
        name: recorded with the attention.
        classifier: with its layers and its normalisation.
        images: its own (N, C, H, W), normalised, from which batches are drawn; None for those of
            the training, in its normalisation.
        side: of the images of the training that it is given, in pixels; None as they are.
    """

    name: str
    classifier: FrozenClassifier
    images: Tensor | None = None
    side: int | None = None

    def batch(self, pixels: Tensor, seed: int) -> Tensor:
        """A batch for this classifier, in place of one (N, C, H, W) of pixels in [0, 1]."""
        if self.images is not None:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randint(len(self.images), (len(pixels),), generator=generator)
            return self.images[drawn].to(pixels.device)
        sized = pixels if self.side is None else resize(pixels, (self.side, self.side))
        return self.classifier.pixels.normalize(sized)


@dataclass(frozen=True)
class BesideSeveral:
    """The steps of another recipe, each beside one of several classifiers, in random order.

    For a `UniversalAttention`. The trainer's own classifier is one of them; the companions must be
    in eval mode, with no gradient of their own, on the same device.

    Attributes:
        recipe: whose steps, optimiser and rate they are.
        companions: the other classifiers.
        trained: beside other classifiers before, to start from; None starts at random.
    """

    recipe: TrainingRecipe
    companions: Sequence[Companion]
    trained: UniversalAttention | None = None

    @property
    def name(self) -> str:
        return f"{self.recipe.name} beside several"

    @property
    def terms(self) -> Sequence[str]:
        return self.recipe.terms

    @property
    def starts(self) -> Sequence[str]:
        return ("head",)

    @property
    def max_norm(self) -> float | None:
        return self.recipe.max_norm

    def start(
        self, classifier: FrozenClassifier, images: Tensor, kind: str, seed: int, progress: bool
    ) -> UniversalAttention:
        """The universal mechanism beside the trainer's classifier; `kind` is always "head"."""
        return universal_beside(classifier, images, self.trained, seed, progress)

    def step(self, classifier: FrozenClassifier, images: Tensor) -> Step:
        """Steps of the recipe, each beside a classifier that its seed chooses."""
        pixels = classifier.pixels.denormalize(images)
        first = [one.batch(pixels, 0) for one in self.companions]
        others = [
            self.recipe.step(one.classifier, batch)
            for one, batch in zip(self.companions, first, strict=True)
        ]
        own = self.recipe.step(classifier, images)
        attached: dict[int, UniversalAttention] = {}

        def terms(
            attention: AttentionMechanism, images: Tensor, labels: Tensor | None, seed: int
        ) -> dict[str, Tensor]:
            number = seed % (1 + len(others))
            if number == len(others):
                return own(attention, images, labels, seed)
            one, step = self.companions[number], others[number]
            if number not in attached:
                attached[number] = _beside(attention, one.classifier, first[number])
            batch = one.batch(classifier.pixels.denormalize(images), seed)
            return step(attached[number], batch, None, seed)

        return terms

    def make_optimizer(self, attention: AttentionMechanism) -> torch.optim.Optimizer:
        return self.recipe.make_optimizer(attention)

    def rate(self, done: float, epochs: int) -> float:
        return self.recipe.rate(done, epochs)

    def record(self) -> dict[str, Any]:
        return {**self.recipe.record(), "companions": [one.name for one in self.companions]}


def _beside(
    attention: AttentionMechanism, classifier: FrozenClassifier, images: Tensor
) -> UniversalAttention:
    """The same weights, shared, beside a companion."""
    if not isinstance(attention, UniversalAttention):
        raise TypeError(
            f"a {type(attention).__name__} belongs to one classifier; beside several a "
            "UniversalAttention is trained"
        )
    # what the head reads is seen in full precision, whatever the training's is
    with torch.autocast(images.device.type, enabled=False):
        return universal_beside(classifier, images, attention)
