"""The nearest training images, by the features that a map selects."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from ..saliency import resize
from .case import Neighbour, Photo


def selected(features: Tensor, maps: Tensor) -> Tensor:
    """The features of each image where its map is: their mean, weighted with the map, of length 1.

    Args:
        features: of the layer that the head reads, (N, C, h, w).
        maps: at least 0, (N, H, W); resized to (h, w). A map of zeros selects every place alike.

    Returns:
        (N, C); zeros where the features are.

    >>> features = torch.tensor([[[[3.0, 0.0]], [[0.0, 4.0]]]])
    >>> selected(features, torch.tensor([[[1.0, 0.0]]]))
    tensor([[1., 0.]])
    """
    size = (features.shape[2], features.shape[3])
    shrinks = all(a >= b for a, b in zip(maps.shape[1:], size, strict=True))
    weights = adaptive_avg_pool2d(maps, size) if shrinks else resize(maps, size)
    weights = torch.where(weights.sum((1, 2), keepdim=True) > 0, weights, 1.0)
    return normalize(torch.einsum("nchw,nhw->nc", features, weights.to(features)), dim=1)


class Gallery:
    """Training images, each a vector, as many as come; 2 bytes a number in memory, on the CPU.

    >>> gallery = Gallery()
    >>> gallery.add(torch.eye(2), [Photo("a.jpg", 0), Photo("b.jpg", 1)])
    >>> gallery.nearest(torch.tensor([0.6, 0.8]), 1)
    (Neighbour(name='b.jpg', label=1, likeness=0.8...),)
    """

    def __init__(self) -> None:
        self._photos: list[Photo] = []
        self._vectors: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._photos)

    def add(self, vectors: Tensor, photos: Sequence[Photo]) -> None:
        """Take in images with their vectors (N, C), see `selected`.

        Raises:
            ValueError: there is not one vector an image, they are not as long as those before, or
                not finite.
        """
        if vectors.ndim != 2 or len(vectors) != len(photos):
            given = f"{tuple(vectors.shape)} of {len(photos)} images"
            raise ValueError(f"vectors must be (N, C), one an image, got {given}")
        if self._vectors and vectors.shape[1] != self._vectors[0].shape[1]:
            before = self._vectors[0].shape[1]
            raise ValueError(f"vectors before had {before} numbers, these {vectors.shape[1]}")
        if not vectors.isfinite().all():
            bad = (~vectors.isfinite().all(1)).nonzero()[0, 0]
            raise ValueError(f"the vector of {photos[int(bad)].name} is not finite")
        self._vectors.append(normalize(vectors.detach().float(), dim=1).half().cpu())
        self._photos += photos

    def nearest(self, vector: Tensor, count: int = 5) -> tuple[Neighbour, ...]:
        """The `count` images most like a vector (C,), the nearest first; all if there are fewer."""
        if not self._photos:
            return ()
        asked = normalize(vector.detach().float().cpu(), dim=0)
        likeness = torch.cat([part.float() @ asked for part in self._vectors]).clamp(-1, 1)
        found = likeness.topk(min(count, len(self)))
        return tuple(
            Neighbour(self._photos[i].name, self._photos[i].label, round(cosine, 4))
            for i, cosine in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        )
