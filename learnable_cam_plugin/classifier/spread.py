"""What a head reads, spread over the places that it comes from.

Where a classifier does not end in global average pooling and one linear layer, no layer's feature
maps are what its class vectors apply to. What the linear layer is given, z (N, D), can still be
told apart by place: as maps (N, D, h, w) whose mean over the places is z exactly. Their product
with the class vectors adds up to the class's logit, as in classic CAM (Zhou et al., CVPR 2016).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Size, Tensor, nn

from .class_token import ClassTokenHead, Seen, class_token_of, first_token, same, with_mean
from .grid import as_grid, places
from .layers import Spread
from .record import Run


@dataclass(frozen=True)
class PlacewiseHead:
    """Of a head that pools and goes on: norm or MLP, then the linear layer. At each place it is
    applied to that place's own feature vector.

    Attributes:
        watched: the layer that is pooled, the linear layer.
        inner: the modules between, each with how many dimensions it is given.
        rectified: whether the maps pass a ReLU, of no module, before they are pooled.
    """

    watched: tuple[nn.Module, nn.Module]
    inner: tuple[tuple[nn.Module, int], ...]
    rectified: bool

    def through(self, vectors: Tensor) -> Tensor:
        """(M, C) -> (M, D), what the linear layer is given for them."""
        found = vectors[:, :, None, None]
        for module, dimensions in self.inner:
            if found.ndim == 4 and dimensions == 2:
                found = found.flatten(1)
            found = module.forward(found)  # hooks have seen the pass already
        return found.flatten(1)

    def maps(self, seen: Seen, size: Size) -> Tensor:
        (_, output), (given, _) = seen
        maps = as_grid(output, size)
        assert maps is not None, "the layer that was found gave no maps"
        maps = maps.relu() if self.rectified else maps
        vectors = self.through(maps.flatten(2).transpose(1, 2).flatten(0, 1))
        spread = vectors.unflatten(0, (maps.shape[0], places(maps))).transpose(1, 2)
        return with_mean(spread, given).unflatten(2, maps.shape[2:])


@dataclass(frozen=True)
class JoinedHead:
    """Of a head that reads the class token and the mean of the patches, one after the other, as
    DINOv2's in transformers.

    Attributes:
        parts: how either is told apart by place.
        width: of the first.
    """

    parts: tuple[ClassTokenHead, PlacewiseHead]
    width: int

    @property
    def watched(self) -> tuple[nn.Module, ...]:
        """Those of the class token's part, then those of the patches', which share the last one."""
        return (*self.parts[0].watched[:-1], *self.parts[1].watched)

    def maps(self, seen: Seen, size: Size) -> Tensor:
        """Maps (N, D, h, w) whose mean is what the linear layer was given."""
        *rest, (given, output) = seen
        first, second = (
            (part, output) for part in (given[:, : self.width], given[:, self.width :])
        )
        count = len(self.parts[0].watched) - 1
        maps = self.parts[0].maps([*rest[:count], first], size)
        return torch.cat([maps, self.parts[1].maps([*rest[count:], second], size)], 1)


def spread_of(runs: Sequence[Run], linear: Run) -> Spread | None:
    """How the input of the linear layer is told apart by place; None where that is not known.

    Either answer has been tried on the pass: the head applied to the pooled maps gives what the
    linear layer was given; what the tokens send adds up to what the attention layer gave.
    """
    before = list(runs[: next(i for i, run in enumerate(runs) if run is linear)])
    return _placewise(before, linear) or _class_token(before, linear) or _joined(before, linear)


def _placewise(before: list[Run], linear: Run) -> PlacewiseHead | None:
    inner: list[Run] = []
    for run in reversed(before):
        if not isinstance(run.given, Tensor) or next(run.module.children(), None) is not None:
            continue
        if run.given.ndim not in (2, 4) or run.given[0].numel() != run.given.shape[1]:
            break  # it is given more than one place
        inner.insert(0, run)
    chain = tuple((run.module, run.given.ndim) for run in inner)
    for run in reversed(before[: before.index(inner[0])] if inner else before):
        maps = run.maps()
        if maps is None or places(maps) < 2:
            continue
        for rectified in (False, True):
            head = PlacewiseHead((run.module, linear.module), chain, rectified)
            pooled = (maps.relu() if rectified else maps).mean((2, 3))
            try:
                found = head.through(pooled)
            except (RuntimeError, ValueError):
                return None  # maps of other channels than the head takes
            if same(found, linear.given):
                return head
    return None


def _class_token(before: list[Run], linear: Run) -> ClassTokenHead | None:
    head = class_token_of(before, linear.given)
    return head and replace(head, watched=(*head.watched, linear.module))


def _joined(before: list[Run], linear: Run) -> JoinedHead | None:
    width = linear.given.shape[1] // 2
    first, second = (replace(linear, given=part) for part in linear.given.split(width, 1)[:2])
    token, patches = _class_token(before, first), _placewise(before, second)
    return JoinedHead((token, patches), width) if token and patches else None


def reads_first_token(runs: Sequence[Run], linear: Run) -> bool:
    """Whether the linear layer is given the first of the tokens that a layer gives."""
    tokens = [run.output for run in runs if getattr(run.output, "ndim", 0) == 3]
    return any(same(first_token(output), linear.given) for output in tokens)
