"""What a head reads, spread over the places that it comes from.

Where a classifier does not end in global average pooling and one linear layer, no layer's feature
maps are what its class vectors apply to. What the linear layer is given, z (N, D), can still be
told apart by place: as maps (N, D, h, w) whose mean over the places is z exactly. Their product
with the class vectors adds up to the class's logit, as in classic CAM (Zhou et al., CVPR 2016).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F

from .grid import as_grid, places
from .record import Run

Seen = Sequence[tuple[Any, Any]]  # what each watched module was given first, and gave


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
        spread = vectors.unflatten(0, (len(maps), -1)).transpose(1, 2)
        return _with_mean(spread, given).unflatten(2, maps.shape[2:])


@dataclass(frozen=True)
class ClassTokenHead:
    """Of a head that reads a class token: what each patch sends to it through the last attention
    layer, its direct contribution (Gandelsman, Efros, Steinhardt, ICLR 2024, arXiv 2310.05916).

    Attributes:
        watched: the attention layer, the norm after the last block, the linear layer.
        scale: of what the attention layer gives (`ls1.gamma` in timm), or None.
    """

    watched: tuple[nn.Module, nn.Module, nn.Module]
    scale: Tensor | None = None

    def contributions(self, tokens: Tensor) -> Tensor:
        """(N, T, D): of each token to what the attention layer adds to the first, before its last
        bias."""
        attention: Any = self.watched[0]
        heads, width = attention.num_heads, tokens.shape[2]
        if isinstance(attention, nn.MultiheadAttention):
            weight, bias = attention.in_proj_weight, attention.in_proj_bias
            project = attention.out_proj.weight
        else:  # as timm writes it
            weight, bias, project = attention.qkv.weight, attention.qkv.bias, attention.proj.weight
        own = None if bias is None else bias[:width]
        query = F.linear(tokens[:, 0], weight[:width], own).unflatten(1, (heads, -1))
        rest = F.linear(tokens, weight[width:], None if bias is None else bias[width:])
        key, value = rest.chunk(2, 2)
        key, value = (part.unflatten(2, (heads, -1)) for part in (key, value))
        scores = torch.einsum("nhd,nthd->nth", query, key) / query.shape[2] ** 0.5
        sent = scores.softmax(1)[..., None] * value
        return F.linear(sent.flatten(2), project)

    def maps(self, seen: Seen, size: Size) -> Tensor:
        (tokens, _), (before, _), (given, _) = seen
        sent = self.contributions(_batch_first(self.watched[0], tokens))
        if self.scale is not None:
            sent = sent * self.scale
        norm: Any = self.watched[1]
        if isinstance(norm, nn.LayerNorm):  # with its deviation held, it is linear
            token = before[:, 0] if before.ndim == 3 else before
            deviation = (token.var(1, correction=0) + norm.eps).sqrt()[:, None, None]
            sent = (sent - sent.mean(2, keepdim=True)) / deviation
            sent = sent if norm.weight is None else sent * norm.weight
        maps = as_grid(sent, size)
        assert maps is not None, "the tokens that were found make no grid"
        flat = maps.flatten(2) * places(maps)
        return _with_mean(flat, given).unflatten(2, maps.shape[2:])


def _batch_first(attention: nn.Module, tokens: Tensor) -> Tensor:
    return tokens if getattr(attention, "batch_first", True) else tokens.transpose(0, 1)


def _with_mean(spread: Tensor, given: Tensor) -> Tensor:
    """(N, D, places), moved by one vector an image so that their mean is `given` (N, D)."""
    return spread + (given - spread.mean(2))[:, :, None]


def spread_of(runs: Sequence[Run], linear: Run) -> PlacewiseHead | ClassTokenHead | None:
    """How the input of the linear layer is told apart by place; None where that is not known.

    Either answer has been tried on the pass: the head applied to the pooled maps gives what the
    linear layer was given; what the tokens send adds up to what the attention layer gave.
    """
    before = list(runs[: next(i for i, run in enumerate(runs) if run is linear)])
    return _placewise(before, linear) or _class_token(before, linear)


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
            if _same(found, linear.given):
                return head
    return None


def _class_token(before: list[Run], linear: Run) -> ClassTokenHead | None:
    # what holds the norm, or passes its output on, gives the same
    same = [run for run in reversed(before) if _same(_first_token(run.output), linear.given)]
    if not same:
        return None
    norm = next((run for run in same if isinstance(run.module, nn.LayerNorm)), same[0])
    for run in reversed(before[: before.index(norm)]):
        attends = isinstance(run.module, nn.MultiheadAttention) or (
            hasattr(run.module, "qkv") and hasattr(run.module, "proj")
        )
        if not attends:
            continue
        output = run.output[0] if isinstance(run.output, tuple) else run.output
        after = before[before.index(run) :]
        scaling = [r.module for r in after if hasattr(r.module, "gamma") and _same(r.given, output)]
        scale: Any = scaling[0].gamma if scaling else None
        head = ClassTokenHead((run.module, norm.module, linear.module), scale)
        try:
            tokens = _batch_first(run.module, run.given)
            sent = head.contributions(tokens).sum(1)
        except (AttributeError, RuntimeError, TypeError, ValueError):
            return None  # attention of another kind, with names alike
        out: Any = getattr(run.module, "out_proj", None) or getattr(run.module, "proj", None)
        sent = sent if out.bias is None else sent + out.bias
        whole, grid = _first_token(_batch_first(run.module, output)), as_grid(tokens, run.size)
        return head if _same(sent, whole) and places(grid) > 1 else None
    return None


def reads_first_token(runs: Sequence[Run], linear: Run) -> bool:
    """Whether the linear layer is given the first of the tokens that a layer gives."""
    tokens = [run.output for run in runs if getattr(run.output, "ndim", 0) == 3]
    return any(_same(_first_token(output), linear.given) for output in tokens)


def _first_token(output: Any) -> Tensor | None:
    if not isinstance(output, Tensor) or output.ndim not in (2, 3):
        return None
    return output[:, 0] if output.ndim == 3 else output


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape:
        return False
    scale = float(other.abs().max()) + 1e-6
    exact = other.dtype in (torch.float32, torch.float64)
    return bool((one.to(other) - other).abs().max() < (1e-3 if exact else 3e-2) * scale)
