"""What tells one classifier from another: a few numbers of every tensor that it holds."""

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from ..classifier import core
from ..wording import listed

# name -> (shape, the norm and two projections)
Fingerprint = Mapping[str, tuple[list[int], list[float]]]

_BLOCK = 4096
# Rounding every value to bfloat16 changes a norm by up to 0.2 %, a projection by 0.11 % of the norm
# times a normal number; to float16 what is near 0 by half its smallest step.
_RELATIVE, _ABSOLUTE = 5e-3, 3e-8


@torch.no_grad()
def fingerprint(model: nn.Module) -> Fingerprint:
    """Of every parameter and buffer that is saved with the model: its shape, its norm, and its
    products with two fixed patterns. Names are free of wrappers (`core`).

    One pass over the weights, on their own device: about 40 ms for the 25 million of a ResNet-50.
    Counters of batches, which nothing reads in eval mode, are left out.

    Raises:
        ValueError: a tensor has no values yet.

    >>> list(fingerprint(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))))[-2:]
    ['1.running_mean', '1.running_var']
    """
    state = core(model).state_dict(keep_vars=True)
    tensors = {
        name: value.detach()
        for name, value in state.items()
        if isinstance(value, Tensor) and not name.endswith("num_batches_tracked")
        if _has_values(name, value)
    }
    if not tensors:
        return {}
    device = next(iter(tensors.values())).device
    with torch.autocast(device.type, enabled=False):
        rows = torch.stack([_numbers(value).to(device) for value in tensors.values()]).tolist()
    return {
        name: (list(value.shape), [float(f"{number:.6e}") for number in row])
        for (name, value), row in zip(tensors.items(), rows, strict=True)
    }


def differences(then: Fingerprint, now: Fingerprint) -> list[str]:
    """What a reader needs to know of two fingerprints that differ; nothing if they are of the same
    weights, maybe rounded to half precision or back.

    Values that change by less than half a percent of their tensor's norm are the same.
    """
    found = []
    for what, names in (("missing", then.keys() - now.keys()), ("new", now.keys() - then.keys())):
        if names:
            found.append(f"{what} here: {listed(sorted(names), 3)}")
    both = [name for name in then if name in now]
    shapes = [name for name in both if list(then[name][0]) != list(now[name][0])]
    if shapes:
        sides = [f"{n} {tuple(then[n][0])} then, {tuple(now[n][0])} now" for n in shapes]
        found.append(f"of other shapes: {listed(sides, 3)}")
    changes = {n: _change(then[n], now[n]) for n in both if n not in shapes}
    changed = [f"{name} (by {c:.1%})" for name, c in changes.items() if not c <= _RELATIVE]
    if changed:
        found.append(f"{len(changed)} of {len(both)} with other values: {listed(changed, 3)}")
    return found


def _has_values(name: str, value: Tensor) -> bool:
    if nn.parameter.is_lazy(value) or value.is_meta:
        raise ValueError(
            f"the model's tensor '{name}' has no values yet: load its weights, or run it once"
        )
    return value.numel() > 0


def _change(then: tuple[list[int], list[float]], now: tuple[list[int], list[float]]) -> float:
    """The largest change of a number, against the larger norm; what float16 drops is none."""
    (shape, before), (_, after) = then, now
    change = max(abs(a - b) for a, b in zip(before, after, strict=True))
    change = max(0.0, change - _ABSOLUTE * math.sqrt(math.prod(shape)))
    return change / max(before[0], after[0], 1e-30)


def _numbers(tensor: Tensor) -> Tensor:
    """The norm and two projections, (3,), float32."""
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    flat = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    flat = flat.reshape(-1).float()
    norm = torch.linalg.vector_norm(flat)
    if not bool(torch.isfinite(norm)):  # masks of attention layers hold -inf
        flat = torch.nan_to_num(flat, nan=3.0, posinf=5.0, neginf=-7.0).clamp(-1e6, 1e6)
        norm = torch.linalg.vector_norm(flat)
    whole = len(flat) // _BLOCK * _BLOCK
    pattern = _pattern(_BLOCK, str(flat.device))
    blocks = flat[:whole].view(-1, _BLOCK) @ pattern
    weights = _pattern(len(blocks), "cpu").to(blocks)
    rest = flat[whole:] @ pattern[: len(flat) - whole]
    return torch.cat([norm[None], (blocks * weights).sum(0) + rest])


@lru_cache(maxsize=64)
def _pattern(count: int, device: str) -> Tensor:
    """(count, 2) fixed numbers of mean square 1 that look random: chirps."""
    steps = torch.arange(1, count + 1, dtype=torch.float64).square()
    rates = torch.tensor([0.754877666, 0.569840291], dtype=torch.float64)
    return (math.sqrt(2) * torch.cos(steps[:, None] * rates)).float().to(device)
