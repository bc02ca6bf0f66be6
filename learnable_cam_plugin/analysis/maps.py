"""The maps of two classes of an image, their contrast, and the classifier's answer: one pass."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..attention import (
    AttentionMechanism,
    GivenAttention,
    HeadedAttention,
    own_attention,
)
from ..classifier import (
    FrozenClassifier,
    bare,
    class_scores,
    device_of,
    layer_names,
    probabilities,
)
from ..saliency import min_max
from .case import Maps
from .neighbours import selected


class Seen(NamedTuple):
    """One pass of N images.

    Attributes:
        probabilities: (N, K).
        features: layer name -> feature maps.
        attention: what explains them.
    """

    probabilities: Tensor
    features: dict[str, Tensor]
    attention: HeadedAttention

    def of(self, images: list[int]) -> "Seen":
        """The same of some of the images."""
        features = {name: maps[images] for name, maps in self.features.items()}
        return Seen(self.probabilities[images], features, self.attention)

    @torch.no_grad()
    def maps(self, predicted: Tensor, other: Tensor) -> list[Maps]:
        """Of two classes (N,) each: see `Maps`. All are scaled to their highest place, and that by
        how much the classifier sees of the class there: see `HeadedAttention.strength`."""

        explain, features = self.attention, self.features
        one, two = torch.stack([predicted, other], 1), torch.stack([other, predicted], 1)
        strengths = [explain.strength(features, one), explain.strength(features, one, two)]
        raw = [
            explain.among(features, predicted, other)[0],
            explain.among(features, other, predicted)[0],
            explain.contrast(features, predicted, other)[0],
            explain.contrast(features, other, predicted)[0],
        ]
        return [Maps(*each) for each in _on_one_scale(raw, torch.cat(strengths, 1))]

    @torch.no_grad()
    def among(self, classes: Tensor, without: Tensor) -> NDArray[np.float32]:
        """`Maps.predicted` alone, (N, h, w), if the classes (N,) are the predicted ones, and those
        without which they are seen the other ones."""
        raw = self.attention.among(self.features, classes, without)
        return _on_one_scale(raw, self.attention.strength(self.features, classes[:, None]))[:, 0]

    @torch.no_grad()
    def selected(self) -> Tensor:
        """The features (N, C) that the map of each image's most probable class selects."""
        top = self.probabilities.argmax(1)
        maps = min_max(self.attention(self.features, top)[0])
        return selected(list(self.features.values())[-1], maps)


def _on_one_scale(raw: Sequence[Tensor], strengths: Tensor) -> NDArray[np.float32]:
    """M raw maps (N, h, w), each from 0 to its strength (N, M): (N, M, h, w)."""
    scaled = torch.stack([min_max(each.float()) for each in raw], 1)
    return (scaled * strengths.float()[..., None, None]).cpu().numpy()


def check_two(scores: Tensor) -> None:
    """ValueError for class scores (N, 1), of which none can be held against another."""
    if scores.shape[1] < 2:
        raise ValueError(
            "the classifier gives one score; an analysis holds one class against another. Wrap "
            "a binary classifier so that it returns two, for example torch.cat([-z, z], 1)"
        )


class Eyes:
    """A classifier and what explains it, as an analysis looks at images.

    Args: as of `LearnableCAM`.

    Raises:
        TypeError: an attention that does not read the classifier's head, by which maps are brought
            to one scale.
    """

    def __init__(
        self,
        model: nn.Module,
        target_layers: Sequence[nn.Module | str] | None = None,
        attention: AttentionMechanism | str | os.PathLike[str] | None = None,
    ) -> None:
        self.model, self.device = model, device_of(model)
        self._source: Any
        if attention is None:
            layers = {} if target_layers is None else layer_names(model, target_layers)
            self._source = own_attention(model, None, list(layers), None)
        else:
            given = None if attention == "head" else GivenAttention(model, attention, target_layers)
            if given is None or not isinstance(given.attention, HeadedAttention):
                raise TypeError(
                    "an analysis compares maps of two classes on one scale, which takes an "
                    "attention that reads the classifier's head: None, the attention of the "
                    "package, or a ConditionedAttention; got "
                    f"{'head' if given is None else type(given.attention).__name__}"
                )
            given.attention.to(self.device)
            self._source, layers = given, given.layers
        self._classifier = FrozenClassifier(bare(model), layers)

    @property
    def attention(self) -> AttentionMechanism | None:
        """What explains the classifier; without one given, from the first look on."""
        return self._source.attention

    @torch.no_grad()
    def look(self, images: Tensor) -> Seen:
        """One pass of images (N, C, H, W), normalised."""
        outputs, features, attention = self._source.read(self._classifier, images.to(self.device))
        assert isinstance(attention, HeadedAttention), "of images, the default is one"
        scores = class_scores(outputs)
        check_two(scores)
        return Seen(probabilities(scores), features, attention)

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """(N, K), of images that are not explained."""
        outputs, _ = FrozenClassifier(bare(self.model), {}).read(images.to(self.device))
        return probabilities(class_scores(outputs))
