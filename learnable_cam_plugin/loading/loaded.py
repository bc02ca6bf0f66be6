"""A classifier with what is needed to use it: the normalisation, the side of its images, names."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torchvision.transforms import v2

from ..classifier import FrozenClassifier, device_of
from ..data import photo_transform
from ..masking import Normalization


@dataclass(frozen=True)
class LoadedClassifier:
    """What `load_classifier` gives.

    Attributes:
        model: in eval mode, on the CPU; images (N, 3, side, side) -> class scores (N, K).
        normalization: what its images go through; None where nothing records it.
        side: of its square images, in pixels.
        class_names: one a class, in the order of the scores; None where they are not known, as of
            random weights.
        source: the name that it was asked for by.
    """

    model: nn.Module
    normalization: Normalization | None
    side: int
    class_names: tuple[str, ...] | None
    source: str

    @cached_property
    def frozen(self) -> FrozenClassifier:
        """The classifier, read at the layers that one pass of a random image shows."""
        generator = torch.Generator().manual_seed(0)
        pixels = torch.rand(1, 3, self.side, self.side, generator=generator)
        images = self.normalization.normalize(pixels) if self.normalization else pixels
        images = images.to(device_of(self.model))
        return FrozenClassifier.found(self.model, images, normalization=self.normalization)

    def check_names(self, count: int) -> None:
        """Raise ValueError if there are names, and not as many as scores."""
        names = self.class_names
        if names is not None and len(names) != count:
            raise ValueError(f"there are {len(names)} class names, the model gives {count} scores")

    def class_name(self, index: int) -> str:
        """The name of a class; "class 7" where there is none."""
        names = self.class_names
        return f"class {index}" if names is None or index >= len(names) else names[index]

    @property
    def layers(self) -> list[str]:
        """Names of the layers to read: a finer one, and what the head reads."""
        return list(self.frozen.layers)

    @property
    def pixels(self) -> Normalization:
        """The normalisation, where it is needed; ValueError where it is not known."""
        if self.normalization is None:
            raise ValueError(
                f"nothing records the normalisation of '{self.source}': let its function return "
                "(model, Normalization(mean, std)), with those that it was trained with; or, in "
                "Python, dataclasses.replace(loaded, normalization=Normalization(mean, std))"
            )
        return self.normalization

    @property
    def transform(self) -> v2.Compose:
        """Photograph in RGB -> normalised tensor (3, side, side), see `data.photo_transform`;
        ValueError where the normalisation is not known."""
        return photo_transform(self.pixels, self.side)
