"""What a head reads, spread over the places that it comes from.

Where a classifier does not end in global average pooling and one linear layer, no layer's feature
maps are what its class vectors apply to. What the linear layer is given, z (N, D), can still be
told apart by place: as maps (N, D, h, w) whose mean over the places is z exactly. Their product
with the class vectors adds up to the class's logit, as in classic CAM (Zhou et al., CVPR 2016).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F

from .class_token import ClassTokenHead, Seen, class_token_of, first_token
from .grid import as_grid, places
from .layers import Spread, check_held, same
from .record import Run

_CHANNELS = 128  # by which the places of an image are told apart, of those that a head reads
# what they make of a value does not depend on where it lies
_ELEMENTWISE = frozenset(
    {nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh}
)
_NOTHING = (nn.Dropout, nn.Identity)  # in eval mode


@dataclass(frozen=True)
class PlacewiseHead:
    """Of a head that pools and goes on: norm or MLP, then the linear layer. At each place it is
    applied to that place's own feature vector.

    Attributes:
        watched: the layer that is pooled, the linear layer; of a head that begins with a layer of
            many channels (see `_first_linear`) that one between them.
        inner: the modules between, each with how many dimensions it is given.
        rectified: whether the maps pass a ReLU, of no module, before they are pooled.
    """

    watched: tuple[nn.Module, ...]
    inner: tuple[tuple[nn.Module, int], ...]
    rectified: bool

    def through(self, vectors: Tensor, after: int = 0) -> Tensor:
        """(M, C) -> (M, D), what the linear layer is given for them; or for what is given to the
        modules `after` the first so many."""
        found = vectors
        for module, dimensions in self.inner[after:]:
            if isinstance(module, _NOTHING):
                continue
            if found.ndim != dimensions:
                found = found.flatten(1) if dimensions == 2 else found[:, :, None, None]
            found = module.forward(found)  # hooks have seen the pass already
        return found.flatten(1)

    def maps(self, seen: Seen, size: Size) -> Tensor:
        """Maps (N, D, h, w) whose mean is what the linear layer was given."""
        maps = as_grid(seen[0][1], size)
        assert maps is not None, "the layer that was found gave no maps"
        flat = (maps.relu() if self.rectified else maps).flatten(2)
        pooled, given = flat[:1].mean(2), seen[-1][0]
        if len(self.watched) == 2:
            check_held(self.through(pooled), given)
            spread = self._each(flat, 0)
        else:
            at = [module for module, _ in self.inner].index(self.watched[1]) + 1
            before, turned = (value.flatten(1) for value in seen[1])
            check_held(pooled, before)
            check_held(self.through(turned[:1].clone(), at), given)  # it may work in place
            near = _nearly(self.watched[1], flat, turned)
            rest = [m for m, _ in self.inner[at:] if not isinstance(m, (*_NOTHING, nn.Flatten))]
            if {type(module) for module in rest} <= _ELEMENTWISE:  # without turning it twice
                spread = near
                for module in rest:
                    spread = module.forward(spread)
            else:
                spread = self._each(near, at)
        spread = spread + (given[..., None] - spread.mean(2, keepdim=True))
        return spread.unflatten(2, maps.shape[2:])

    def _each(self, flat: Tensor, after: int) -> Tensor:
        """`through` of each place: (N, C, places) -> (N, D, places)."""
        vectors = self.through(flat.transpose(1, 2).flatten(0, 1), after)
        return vectors.unflatten(0, (flat.shape[0], flat.shape[2])).transpose(1, 2)


def _nearly(first: Any, flat: Tensor, pooled: Tensor) -> Tensor:
    """(N, D, places), what a head's first linear layer gives at each place of maps (N, C, places),
    whose mean it turned into `pooled` (N, D): from the channels that vary most over the places of
    an image. The others it has in common with all places, as they were pooled.

    All channels of all places would cost a fourth of what a MobileNetV3 does.
    """
    count, channels, _ = flat.shape
    moved = flat - flat.mean(2, keepdim=True)
    varied = (moved * moved).sum(2).topk(_CHANNELS, sorted=False).indices
    rows = varied + channels * torch.arange(count, device=flat.device)[:, None]
    moved = F.embedding(rows, moved.flatten(0, 1))
    weight = F.embedding(varied, first.weight.flatten(1).t())
    return torch.baddbmm(pooled[..., None], weight.transpose(1, 2).to(moved), moved)


def _first_linear(inner: Sequence[tuple[nn.Module, int]]) -> nn.Module | None:
    """The first of a head's modules that does something, if it is linear and has many channels."""
    for module, _ in inner:
        if isinstance(module, (nn.Flatten, nn.Dropout, nn.Identity)):
            continue
        if type(module).forward not in (nn.Linear.forward, nn.Conv2d.forward):
            return None  # another one, or one that does more, as LoRA
        if isinstance(module, nn.Linear):
            channels = module.in_features
        elif (
            isinstance(module, nn.Conv2d) and set(module.kernel_size) == {1} and module.groups == 1
        ):
            channels = module.in_channels
        else:
            return None
        return module if channels > _CHANNELS else None
    return None


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
    inner: list[Run] = []  # given one place, the parts before what they are parts of
    for run in reversed(before):
        if not isinstance(run.given, Tensor):
            continue
        if run.given.ndim in (2, 4) and run.given[0].numel() == run.given.shape[1]:
            inner.insert(0, run)
        elif next(run.module.children(), None) is None:
            break  # it is given more than one place
    ahead = before[: before.index(inner[0])] if inner else before
    leaves = [run for run in inner if next(run.module.children(), None) is None]
    # what has parts may do more than these, as a norm with an activation that is one of them
    outer = [r for r in inner if not any(r.name.startswith(f"{o.name}.") for o in inner)]
    found = _through(leaves, ahead, linear)
    return _through(outer, ahead, linear) if found is None and outer != leaves else found


def _through(inner: list[Run], before: list[Run], linear: Run) -> PlacewiseHead | None:
    """Of the modules `inner`, if what they make of a layer `before`, pooled, is what the linear
    layer was given."""
    chain = tuple((run.module, run.given.ndim) for run in inner)
    first = _first_linear(chain)
    seen = first is not None and all(run.last for run in inner if run.module is first)
    between = (first,) if first is not None and seen else ()
    for run in reversed(before):
        maps = run.maps()
        if maps is None or places(maps) < 2:
            continue
        for rectified in (False, True):
            head = PlacewiseHead((run.module, *between, linear.module), chain, rectified)
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
