"""Drawn images whose true regions are known: coloured, textured shapes, several to an image.

Made in memory from a seed, so that the quick start, the tests and the benchmarks need no data set.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..masking import Normalization

CLASSES = ("circle", "square", "triangle", "cross", "ring", "star")
SIZE = 96
NORMALIZATION = Normalization([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])


@dataclass(frozen=True)
class DrawnImages:
    """Images (N, 3, 96, 96), normalised with `NORMALIZATION`, of two different shapes each.

    `classes` (N, 2) are the shapes, as indices into `CLASSES`; `regions` (N, 2, 96, 96), bool, the
    pixels of each.
    """

    images: Tensor
    classes: Tensor
    regions: Tensor

    def batches(self, size: int = 32) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(images, classes, regions) of each image's first shape, for `compare_methods`."""
        for i in range(0, len(self.images), size):
            part = slice(i, i + size)
            yield self.images[part], self.classes[part, 0], self.regions[part, 0]


def _regular(corners: int, radii: Sequence[float]) -> np.ndarray:
    """Corners (n, 2) at equal angles, their distances from the centre taken in turn."""
    turns = np.arange(corners) * 2 * np.pi / corners
    return np.resize(radii, corners)[:, None] * np.stack([np.cos(turns), np.sin(turns)], 1)


_ARM = 0.36  # half the width of the cross's arms
_CORNER = [(1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM)]  # an arm's end, and the notch after it
_TURNS = [(1, 0), (0, 1), (-1, 0), (0, -1)]
_OUTLINES = {
    "circle": _regular(48, [1.0]),
    "square": _regular(4, [1.15]),
    "triangle": _regular(3, [1.25]),
    "cross": np.array([(x * i - y * j, x * j + y * i) for i, j in _TURNS for x, y in _CORNER]),
    "ring": _regular(48, [1.0]),
    "star": _regular(10, [1.25, 0.5]),
}


def _polygon(name: str, center: np.ndarray, radius: float, angle: float) -> list[tuple]:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return [tuple(corner) for corner in center + radius * _OUTLINES[name] @ turn.T]


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Smooth random colours with noise, (SIZE, SIZE, 3) in [0, 1]."""
    coarse = rng.uniform(0.2, 0.8, (6, 6, 3)).astype(np.float32)
    planes = [Image.fromarray(coarse[..., c]) for c in range(3)]
    large = [plane.resize((SIZE, SIZE), Image.Resampling.BICUBIC) for plane in planes]
    smooth = np.stack([np.asarray(plane) for plane in large], -1)
    return np.clip(smooth + rng.normal(0, 0.06, smooth.shape), 0, 1)


def draw_images(count: int, seed: int) -> DrawnImages:
    """Draw `count` images, each with two different shapes on a texture; seeded.

    >>> drawn = draw_images(2, seed=0)
    >>> tuple(drawn.images.shape), tuple(drawn.classes.shape), tuple(drawn.regions.shape)
    ((2, 3, 96, 96), (2, 2), (2, 2, 96, 96))
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    rng = np.random.default_rng(seed)
    images = np.zeros((count, SIZE, SIZE, 3), np.float32)
    regions = np.zeros((count, 2, SIZE, SIZE), bool)
    classes = np.stack([rng.choice(len(CLASSES), 2, replace=False) for _ in range(count)])
    for i in range(count):
        pixels = _texture(rng)
        for j, center in enumerate(_two_places(rng)):
            name = CLASSES[classes[i, j]]
            radius, angle = rng.uniform(12, 17), rng.uniform(0, 2 * np.pi)
            stencil = Image.new("1", (SIZE, SIZE))
            ImageDraw.Draw(stencil).polygon(_polygon(name, center, radius, angle), fill=1)
            if name == "ring":
                hole = _polygon("circle", center, 0.55 * radius, 0)
                ImageDraw.Draw(stencil).polygon(hole, fill=0)
            region = np.asarray(stencil)
            colour = np.where(rng.random(3) < 0.5, 0.1, 0.9) + rng.uniform(-0.1, 0.1, 3)
            pixels[region] = np.clip(colour + rng.normal(0, 0.04, (region.sum(), 3)), 0, 1)
            regions[i, j] = region
        images[i] = pixels
    x, present, where = (torch.from_numpy(array) for array in (images, classes, regions))
    return DrawnImages(NORMALIZATION.normalize(x.permute(0, 3, 1, 2)), present, where)


def _two_places(rng: np.random.Generator) -> np.ndarray:
    """Two centres that keep their shapes inside the image and apart."""
    while True:
        places = rng.uniform(22, SIZE - 22, (2, 2))
        if np.linalg.norm(places[0] - places[1]) > 44:
            return places
