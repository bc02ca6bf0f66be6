"""The paper's recipes: the sigmoid of a map masks the image or the features (L-CAM-Img, -Fm)."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...attention import AttentionMechanism, LCAMAttention, calibrate, random_attention
from ...classifier import (
    FrozenClassifier,
    Replay,
    class_scores,
    classify_masked_features,
    watching,
)
from ...masking import mask_image
from ..objectives.lcam import LossWeights, lcam_loss
from .base import Step

_MASKS, _READINGS, _OPTIMIZERS = ("image", "features"), ("own", "batch"), ("adam", "sgd")


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
        options = {"mask": _MASKS, "regularize": _READINGS, "optimizer": _OPTIMIZERS}
        for name, known in options.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")

    @property
    def per_image(self) -> bool:
        """Whether the loss is the mean of what each image gives, so that processes may share."""
        return self.regularize == "own"

    def start(
        self, classifier: FrozenClassifier, images: Tensor, kind: str, seed: int, progress: bool
    ) -> LCAMAttention:
        """The classifier's own head, calibrated on the images where it has to be; or random."""
        where = (classifier.model, classifier.layers.values(), images, classifier.reshape_transform)
        if kind == "random":
            torch.manual_seed(seed)
            return random_attention(*where)
        return calibrate(*where, progress)

    def step(self, classifier: FrozenClassifier, images: Tensor) -> Step:
        """The mean over the layers of `lcam_loss`, on masked images or feature maps."""
        replays = _replays(classifier, images) if self.mask == "features" else {}
        return partial(self._terms, classifier, replays)

    def _terms(
        self,
        classifier: FrozenClassifier,
        replays: Mapping[str, Replay],
        attention: AttentionMechanism,
        images: Tensor,
        labels: Tensor | None,
        _seed: int,
    ) -> dict[str, Tensor]:
        with ExitStack() as stack:
            for replay in replays.values():
                stack.enter_context(replay.recording())
            features, scores = classifier.clean_pass(images)
        classes = scores.argmax(1) if labels is None else labels
        own = regularized = attention(features, classes)
        if self.regularize == "batch":
            everyone = classes.expand(len(classes), -1)
            regularized = [m.flatten(0, 1) for m in attention(features, everyone)]
        losses = []
        # a mechanism that fuses its layers has one map, which belongs to the image
        for name, raw, maps in zip(classifier.layers, own, regularized, strict=False):
            mask = raw.sigmoid()
            if self.mask == "image":
                logits = classifier.model(mask_image(images, mask, classifier.pixels))
            else:
                forward = replays.get(name, classifier.model)
                logits = classify_masked_features(forward, classifier.layers[name], images, mask)
            scores = class_scores(logits).float()
            losses.append(lcam_loss(scores, classes, maps.sigmoid(), self.loss, len(images)))
        return {name: torch.stack([loss[name] for loss in losses]).mean() for name in self.terms}

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


def _replays(classifier: FrozenClassifier, images: Tensor) -> dict[str, Replay]:
    """The layers after which the network can be replayed, tried on a batch."""
    found = {}
    for name, layer in classifier.layers.items():
        replay, runs = Replay(classifier.model, name), list[bool]()
        watched = [(layer, lambda *_, runs=runs: runs.append(True))]
        with torch.no_grad(), replay.recording(), watching(watched):
            outputs = classifier.model(images)
        if len(runs) > 1:
            raise ValueError(
                f"layer '{name}' runs {len(runs)} times in a pass, and L-CAM-Fm would mask what it "
                "gives each time: name the module around it that ends with it, as a block"
            )
        if replay.reproduces(images, class_scores(outputs)):
            found[name] = replay
    return found
