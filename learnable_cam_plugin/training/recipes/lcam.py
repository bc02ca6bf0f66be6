"""The paper's recipes: the sigmoid of a map masks the image or the features (L-CAM-Img, -Fm)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...attention import AttentionMechanism, LCAMAttention, calibrate, random_attention
from ...classifier import FrozenClassifier, Replay, class_scores, classify_masked_features
from ...masking import mask_image
from ..objectives.lcam import LossWeights, lcam_loss


@dataclass(frozen=True)
class LCAMRecipe:
    """The paper's way to train, a row of weights a class. `dataclasses.replace` makes a variant.

    Attributes:
        name: of the recipe, recorded in the attention file.
        mask: "image" (L-CAM-Img: the whole network sees a masked image) or "features"
            (L-CAM-Fm: the rest of the network sees masked feature maps).
        loss: the four weights.
        regularize: "own": the two regularisers act on each image's own map, as the paper's
            equations read. "batch": on each image's maps for every label of the batch, N * N maps,
            as the authors' code does; its total variation, a sum over them divided by 2 N, is
            then about N times larger and grows with the batch size.
        optimizer: "adam", or "sgd" for the authors' Nesterov SGD (momentum 0.9, weight decay 5e-4,
            biases at twice the learning rate, x 0.95 after each of the first 12 epochs).
        learning_rate: of the weights.
        momentum, weight_decay, bias_rate, decay, decay_epochs: of "sgd", see there.
        max_norm: to which the gradient is clipped, if at all.
    """

    terms: ClassVar = ("loss", "cross_entropy", "average_variation", "total_variation")
    starts: ClassVar = ("head", "random")

    name: str
    mask: str
    loss: LossWeights = field(default_factory=LossWeights)
    regularize: str = "own"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    bias_rate: float = 2.0
    decay: float = 0.95
    decay_epochs: int = 12
    max_norm: float | None = None

    def __post_init__(self) -> None:
        for attribute, options in (
            ("mask", ("image", "features")),
            ("regularize", ("own", "batch")),
            ("optimizer", ("adam", "sgd")),
        ):
            if getattr(self, attribute) not in options:
                raise ValueError(
                    f"{attribute} must be one of {options}, got {getattr(self, attribute)!r}"
                )
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")

    def start(
        self, classifier: FrozenClassifier, images: Tensor, kind: str, seed: int, progress: bool
    ) -> LCAMAttention:
        """The classifier's own head, calibrated on the images where it has to be; or random."""
        where = (classifier.model, classifier.layers.values(), images, classifier.reshape_transform)
        if kind == "random":
            torch.manual_seed(seed)
            return random_attention(*where)
        return calibrate(*where, progress)

    def step(self, classifier: FrozenClassifier, images: Tensor) -> SigmoidStep:
        return SigmoidStep(classifier, self, images)

    def make_optimizer(self, attention: AttentionMechanism) -> torch.optim.Optimizer:
        if self.optimizer == "adam":
            return torch.optim.Adam(attention.parameters(), lr=self.learning_rate)
        groups: Sequence[dict] = [
            {"params": [p], "lr": self.learning_rate * (self.bias_rate if "bias" in name else 1)}
            for name, p in attention.named_parameters()
        ]
        return torch.optim.SGD(
            groups,
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=True,
            weight_decay=self.weight_decay,
        )

    def rate(self, done: float, epochs: int) -> float:
        return self.decay ** min(int(done), self.decay_epochs) if self.optimizer == "sgd" else 1.0

    def record(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class SigmoidStep:
    """L-CAM: the sigmoid of the class's raw map masks the image, or the feature maps.

    Args:
        classifier: frozen.
        recipe: what is masked, and the loss.
        images: a batch, on which a shorter second pass is tried out for L-CAM-Fm.
    """

    def __init__(self, classifier: FrozenClassifier, recipe: LCAMRecipe, images: Tensor) -> None:
        self.classifier, self.recipe = classifier, recipe
        self.replays = self._replays(images) if recipe.mask == "features" else {}

    def _replays(self, images: Tensor) -> dict[str, Replay]:
        """The layers after which the network can be replayed, tried on a batch."""
        found, model = {}, self.classifier.model
        for name in self.classifier.layers:
            replay = Replay(model, name)
            with torch.no_grad(), replay.recording():
                outputs = model(images)
            if replay.reproduces(images, class_scores(outputs)):
                found[name] = replay
        return found

    def __call__(
        self, attention: AttentionMechanism, images: Tensor, labels: Tensor | None, _seed: int
    ) -> dict[str, Tensor]:
        """The mean over the layers of the loss terms (`lcam_loss`)."""
        classifier = self.classifier
        with ExitStack() as stack:
            for replay in self.replays.values():
                stack.enter_context(replay.recording())
            features, scores = classifier.clean_pass(images)
        classes = scores.argmax(1) if labels is None else labels
        own = attention(features, classes)
        regularized = own
        if self.recipe.regularize == "batch":
            everyone = classes.expand(len(classes), -1)
            regularized = [m.flatten(0, 1) for m in attention(features, everyone)]
        losses = []
        # a mechanism that fuses its layers has one map, which belongs to the image
        for name, raw, maps in zip(classifier.layers, own, regularized, strict=False):
            mask = raw.sigmoid()
            if self.recipe.mask == "image":
                logits = classifier.model(mask_image(images, mask, classifier.pixels))
            else:
                forward = self.replays.get(name, classifier.model)
                logits = classify_masked_features(forward, classifier.layers[name], images, mask)
            losses.append(
                lcam_loss(
                    class_scores(logits).float(),
                    classes,
                    maps.sigmoid(),
                    self.recipe.loss,
                    batch_size=len(images),
                )
            )
        return {
            name: torch.stack([loss[name] for loss in losses]).mean() for name in self.recipe.terms
        }
