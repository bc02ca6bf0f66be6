"""Heads that read a class token, told apart by place: what each patch sends to it.

The last attention layer adds to the class token a sum over the tokens, and what follows up to the
class scores is linear, or linear once the deviation of a norm is held: each token's part of the sum
is its direct contribution (Gandelsman, Efros, Steinhardt, ICLR 2024, arXiv 2310.05916).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.nn import functional as F

from .grid import as_grid, places
from .layers import check_held, first_of, same
from .record import Run

Seen = Sequence[tuple[Any, Any]]  # what each watched module was given first, and gave

# how attention layers call the linear layers of their queries, keys and values, and the last one
_SEPARATE = (
    ("q_proj", "k_proj", "v_proj", "o_proj"),  # transformers from 5
    ("q_proj", "k_proj", "v_proj", "out_proj"),  # its CLIP
    ("attention.query", "attention.key", "attention.value", "output.dense"),  # before 5
)
_HEADS = ("num_heads", "num_attention_heads", "attention.num_attention_heads")
_SCALES = ("gamma", "lambda1")  # of a layer scale, in timm and in transformers


@dataclass(frozen=True)
class Projections:
    """Of an attention layer: (weight, bias or None) of queries, keys and values, and the last
    linear layer."""

    parts: tuple[tuple[Tensor, Tensor | None], ...]
    out: nn.Linear
    heads: int

    @classmethod
    def of(cls, module: Any) -> "Projections | None":
        """None where the module is no attention layer of a kind that is known here."""
        heads = next((n for name in _HEADS if (n := _at(module, name)) is not None), None)
        if not isinstance(heads, int):
            return None
        weight: Tensor | None
        if isinstance(module, nn.MultiheadAttention):
            weight, bias, out = module.in_proj_weight, module.in_proj_bias, module.out_proj
        elif isinstance(qkv := _at(module, "qkv"), nn.Linear):  # as timm writes it
            weight, bias, out = qkv.weight, qkv.bias, _at(module, "proj")
        else:
            for names in _SEPARATE:
                *linear, out = [_at(module, name) for name in names]
                if all(isinstance(layer, nn.Linear) for layer in (*linear, out)):
                    return cls(tuple((layer.weight, layer.bias) for layer in linear), out, heads)
            return None
        if weight is None or not isinstance(out, nn.Linear):
            return None
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        return cls(tuple(zip(weight.chunk(3), biases, strict=True)), out, heads)

    def contributions(self, tokens: Tensor) -> Tensor:
        """(N, T, C) -> (N, T, D): of each token to what the layer gives for the first, before its
        last bias."""
        given = (tokens[:, :1], tokens, tokens)
        query, key, value = (
            F.linear(part, *linear).unflatten(2, (self.heads, -1))
            for part, linear in zip(given, self.parts, strict=True)
        )
        scores = torch.einsum("nhd,nthd->nth", query[:, 0], key) / query.shape[3] ** 0.5
        return F.linear((scores.softmax(1)[..., None] * value).flatten(2), self.out.weight)

    def total(self, contributions: Tensor) -> Tensor:
        """(N, D), what the layer gives for the first token, of its contributions (N, T, D)."""
        found = contributions.sum(1)
        return found if self.out.bias is None else found + self.out.bias


@dataclass(frozen=True)
class ClassTokenHead:
    """What each patch sends to the class token through the last attention layer.

    Attributes:
        watched: the attention layer; the layers after the last block, norms and linear ones, that
            the class token goes through; the linear layer of the scores.
        scale: the module, and its parameter's name, that what the attention layer gives is scaled
            by (`ls1`, "gamma" in timm), or None.
        scaled: whether each image's vector is then scaled by a number, as CLIP does, to length 1.
    """

    watched: tuple[nn.Module, ...]
    scale: tuple[nn.Module, str] | None = None
    scaled: bool = False

    def maps(self, seen: Seen, size: Size) -> Tensor:
        """Maps (N, D, h, w) whose mean is what the linear layer was given."""
        (tokens, output), *between, (given, _) = seen
        projections = Projections.of(self.watched[0])
        assert projections is not None, "an attention layer was found, and is none any more"
        sent = projections.contributions(_batch_first(self.watched[0], tokens))
        gave = first_token(_batch_first(self.watched[0], first_of(output)))
        check_held(projections.total(sent[:1]), gave)
        if between and not self.scaled:
            check_held(given[:1], first_token(between[-1][1]))
        sent = sent if self.scale is None else sent * getattr(*self.scale)
        for layer, (before, _) in zip(self.watched[1:-1], between, strict=True):
            sent = _through(layer, before, sent)
        if self.scaled:
            last = first_token(between[-1][1])
            assert last is not None, "the layer before the scaling gives no tokens any more"
            sent = sent * (given.norm(dim=1) / last.norm(dim=1).clamp(min=1e-12))[:, None, None]
        maps = as_grid(sent, size)
        assert maps is not None, "the tokens that were found make no grid"
        return with_mean(maps.flatten(2) * places(maps), given).unflatten(2, maps.shape[2:])


def _through(layer: Any, before: Tensor, sent: Tensor) -> Tensor:
    """What a layer makes of parts (N, T, C) of the class token, but for its bias."""
    if not isinstance(layer, nn.LayerNorm):
        return F.linear(sent, layer.weight)
    token = first_token(before)  # with its deviation held, the norm is linear
    assert token is not None, "the norm that was found is given no tokens any more"
    deviation = (token.var(1, correction=0) + layer.eps).sqrt()[:, None, None]
    sent = (sent - sent.mean(2, keepdim=True)) / deviation
    return sent if layer.weight is None else sent * layer.weight


@torch.no_grad()
def class_token_of(before: Sequence[Run], given: Tensor) -> ClassTokenHead | None:
    """How what a linear layer was `given` (N, D) is told apart by place, if it is a class token
    after the last block. All of it has been tried on the pass: see `_sends`."""
    found = _after_block(before, given)
    if found is None:
        return None
    token, chain, scaled = found
    at = before.index(chain[0]) if chain else len(before)
    for i, run in reversed(list(enumerate(before[:at]))):
        if (projections := Projections.of(run.module)) is None:
            continue
        output = first_of(run.output)
        rest = before[i:at]
        scales = [
            (run.module, name) for run in rest for name in _SCALES
            if hasattr(run.module, name) and same(run.given, output)
        ]  # fmt: skip
        scale = scales[0] if scales else None
        try:
            tokens = _batch_first(run.module, run.given)
            sent = projections.total(projections.contributions(tokens))
        except (AttributeError, RuntimeError, TypeError, ValueError):
            return None  # attention of another kind, with names alike
        known = same(sent, first_token(_batch_first(run.module, output)))
        if not known or places(as_grid(tokens, run.size)) < 2:
            return None
        added = sent if scale is None else sent * getattr(*scale)
        if not _is_added(before[:i], before[i:], run.module, added, token):
            return None
        watched = (run.module, *(each.module for each in chain))
        return ClassTokenHead(watched, scale, scaled)
    return None


def _after_block(before: Sequence[Run], given: Tensor) -> tuple[Tensor, list[Run], bool] | None:
    """The class token after the last block, the norms and linear layers from there to `given`, and
    whether it is scaled at the end; None where it goes through anything else."""
    leaves = [run for run in before if next(run.module.children(), None) is None]
    chain: list[Run] = []
    value: Tensor | None = given
    scaled = False
    if not any(same(first_token(run.output), given) for run in before):
        scaling = [run for run in leaves if _same_direction(first_token(run.output), given)]
        if not scaling:
            return None
        value, scaled = first_token(scaling[-1].output), True
    for run in reversed(leaves):
        if not same(first_token(run.output), value):
            continue
        source = first_token(run.given)
        if same(source, value):
            continue  # it passes on what it is given
        if source is None or not isinstance(run.module, (nn.LayerNorm, nn.Linear)):
            return None
        chain.insert(0, run)
        value = source
    return None if value is None or (scaled and not chain) else (value, chain, scaled)


def _is_added(
    before: Sequence[Run], after: Sequence[Run], attention: nn.Module, added: Tensor, token: Tensor
) -> bool:
    """Whether what an attention layer gives the class token is added to it as it was before, and
    nothing but another sum follows up to `token`, as it is after the block."""

    def tokens(runs: Sequence[Run], what: str) -> list[Tensor]:
        found = [getattr(run, what) for run in runs]
        found = [value for value in found if isinstance(value, Tensor) and value.ndim in (2, 3)]
        arranged = [_batch_first(attention, v) if v.ndim == 3 else v for v in found]
        firsts = [first_token(value) for value in arranged]
        return [first for first in firsts if first is not None and first.shape == added.shape]

    blocks = [first + added for first in tokens(before, "given")]
    middles = [first for first in tokens(after, "given") if any(same(first, b) for b in blocks)]
    sums = [*middles, *(m + out for m in middles for out in tokens(after, "output"))]
    return any(same(total, token) for total in [*sums, *blocks])


def _batch_first(attention: nn.Module, tokens: Tensor) -> Tensor:
    return tokens if getattr(attention, "batch_first", True) else tokens.transpose(0, 1)


def with_mean(spread: Tensor, given: Tensor) -> Tensor:
    """(N, D, places), moved by one vector an image so that their mean is `given` (N, D)."""
    return spread + (given - spread.mean(2))[:, :, None]


def first_token(output: Any) -> Tensor | None:
    """(N, C), of tokens (N, T, C) or of the first of them alone; None for anything else."""
    if not isinstance(output, Tensor) or output.ndim not in (2, 3):
        return None
    return output[:, 0] if output.ndim == 3 else output


def _same_direction(one: Tensor | None, other: Tensor) -> bool:
    if one is None or one.shape != other.shape or not bool(one.norm(dim=1).all()):
        return False
    return same(one * (other.norm(dim=1) / one.norm(dim=1))[:, None], other)


def _at(module: Any, name: str) -> Any:
    """What a module has under a name of several parts, or None."""
    try:
        return attrgetter(name)(module)
    except AttributeError:
        return None
