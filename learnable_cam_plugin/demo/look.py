"""What the page shows: a photograph's top classes and their maps, and what a threshold leaves."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam.utils.image import show_cam_on_image
from torch import Tensor

from ..attention import AttentionMechanism
from ..classifier import class_scores, device_of, probabilities
from ..data import read_photo
from ..export import ExplainedClassifier
from ..loading import LoadedClassifier
from ..masking import mask_image


@dataclass(frozen=True)
class Look:
    """A photograph and what explains its most probable classes; all on the CPU.

    Attributes:
        image: the square that the classifier is given, normalised, (3, side, side).
        classes, names, probabilities: of the k most probable classes, the first first. A name that
            two of them have is followed by the index.
        maps: (k, side, side), in [0, 1].
    """

    image: Tensor
    classes: list[int]
    names: list[str]
    probabilities: list[float]
    maps: Tensor


@dataclass(frozen=True)
class Masked:
    """What a threshold leaves of a photograph.

    Attributes:
        pixels: RGB in 8 bits, (side, side, 3).
        kept: the share of the pixels that are shown, in [0, 1].
        probabilities: of the look's classes, in its order, for the masked image.
    """

    pixels: NDArray[np.uint8]
    kept: float
    probabilities: list[float]


def explainer(
    loaded: LoadedClassifier,
    images: Tensor | None = None,
    attention: AttentionMechanism | str | os.PathLike[str] | None = None,
    top: int = 5,
) -> ExplainedClassifier:
    """The classifier with its `top` maps, or with one a class if it has fewer classes.

    Args:
        loaded: the classifier, where it shall run, with a normalisation.
        images: of `ExplainedClassifier`, (N, 3, side, side), normalised; random ones without. A
            head that is linearised (VGG's) needs 8 to 32 varied photographs.
        attention: None is the one that comes with the package.

    Raises:
        CheckpointError: the attention was made for another model or other layers.
        ValueError: the normalisation is not known, or `top` is below 1.
    """
    if top < 1:
        raise ValueError(f"top must be 1 or more, got {top}")
    normalization = loaded.pixels
    if images is None:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.rand(2, 3, loaded.side, loaded.side, generator=generator)
        images = normalization.normalize(pixels)
    explained = ExplainedClassifier(loaded.model, images, attention=attention)
    explained.top = min(top, explained.num_classes)
    return explained


@torch.no_grad()
def look_at(
    loaded: LoadedClassifier, explained: ExplainedClassifier, photo: str | os.PathLike[str]
) -> Look:
    """Classify a photograph, and explain its most probable classes, in one forward pass.

    Args:
        loaded, explained: the classifier, and what `explainer` makes of it.
        photo: an image file, see `read_photo`.

    Raises:
        FileNotFoundError, ValueError: as `read_photo`; or there are not as many names as classes.
    """
    image = loaded.transform(read_photo(photo, loaded.side))
    logits, maps = explained(image[None].to(device_of(explained)))
    found = probabilities(logits)[0].topk(explained.top or 1)
    classes = found.indices.tolist()
    maps = maps[0] if maps.ndim == 4 else maps  # of a single class there is no dimension for it
    names = _names(loaded, classes, logits.shape[1])
    return Look(image, classes, names, found.values.tolist(), maps.float().cpu())


def _names(loaded: LoadedClassifier, classes: list[int], count: int) -> list[str]:
    loaded.check_names(count)
    names = [loaded.class_name(index) for index in classes]
    return [
        f"{name} ({index})" if names.count(name) > 1 else name
        for name, index in zip(names, classes, strict=True)
    ]


def overlay(loaded: LoadedClassifier, look: Look, number: int) -> NDArray[np.uint8]:
    """The map of the look's class `number` (0 is the most probable) over the image, RGB in 8 bits,
    (side, side, 3)."""
    return show_cam_on_image(_pixels(loaded, look.image), look.maps[number].numpy(), use_rgb=True)


@torch.no_grad()
def mask(
    loaded: LoadedClassifier,
    look: Look,
    number: int,
    threshold: float,
    filling: str = "black",
    dim: bool = False,
) -> Masked:
    """Show the pixels where the map is `threshold` or more, and classify what is left.

    They are shown as they are, so that at a threshold of 0 all is as it was; or dimmed by the map,
    as the paper's measures have it (`metrics.masked_confidence`).

    Args:
        loaded, look, number: the classifier, the photograph, and which of its classes' maps.
        threshold: in [0, 1]; the map's highest value is 1.
        filling: what shows elsewhere, one of `masking.FILLINGS`.
        dim: whether the pixels that are shown are dimmed by the map.

    Raises:
        ValueError: the threshold is out of range, or there is no such filling.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"the threshold must be in [0, 1], got {threshold}")
    heat = look.maps[number]
    shown = (heat >= threshold).float()
    weights = shown * heat if dim else shown
    image = mask_image(look.image[None], weights[None], loaded.pixels, filling)
    scores = class_scores(loaded.model(image.to(device_of(loaded.model))))
    shares = probabilities(scores)[0].cpu()[look.classes].tolist()
    pixels = (_pixels(loaded, image[0]) * 255).round().astype(np.uint8)
    return Masked(pixels, float(shown.mean()), shares)


def sentence(look: Look, masked: Masked, number: int) -> str:
    """What became of the class's probability, in words.

    >>> look = Look(torch.zeros(3, 1, 1), [281], ["tabby"], [0.834], torch.ones(1, 1, 1))
    >>> sentence(look, Masked(np.zeros((1, 1, 3), np.uint8), 0.34, [0.791]), 0)
    'tabby: p = 0.83 of the photograph, 0.79 of the 34 % of its pixels that are kept'
    """
    before, after = look.probabilities[number], masked.probabilities[number]
    return (
        f"{look.names[number]}: p = {before:.2f} of the photograph, {after:.2f} of the "
        f"{masked.kept:.0%} of its pixels that are kept"
    ).replace("%", " %")


def _pixels(loaded: LoadedClassifier, image: Tensor) -> NDArray[np.float32]:
    """A normalised image (3, H, W) as RGB in [0, 1], (H, W, 3)."""
    return loaded.pixels.rgb(image[None])[0]
