"""The layers of a classifier that a class activation map is read from, found by running it."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .class_token import Projections
from .grid import as_grid, in_proportion, places
from .layers import Spread
from .record import Run, linear_of
from .spread import reads_first_token, spread_of
from .wrappers import core

_FINER = 4  # times the side of what the head reads, at most


class Found(NamedTuple):
    """Where a classifier is read.

    Attributes:
        names: of the layers to read, what the head reads last.
        spread: how that is told apart by place, where it is the input of the linear layer.
        linear: the run of the linear layer that gave the scores, if one did.
        known: whether that layer reads the last of the layers, in a way that is known.
    """

    names: list[str]
    spread: Spread | None
    linear: Run | None
    known: bool


def find_layers(
    model: nn.Module, runs: Sequence[Run], scores: Tensor, named: Sequence[str] = ()
) -> Found:
    """The layers to read, of a recorded pass: a finer one, and what the head reads last.

    The last one is the layer whose maps the head pools; or, where it does more than pool them, the
    linear layer that gives the scores, whose input is told apart by place (`Spread`); or, where
    that is not known either, the last layer that gives maps (that are read: of a head that reads a
    class token, what is named, or the block before the last). The other is that of a finer grid (up
    to four times the side) which ran last before it, else of the same grid.

    Args:
        named: layers to read in place of the finer one; if all are as coarse as what the head
            reads, as the customary last layer is, there is a finer one beside it all the same.

    Raises:
        ValueError: no layer gives feature maps of more than one place.
    """
    runs = list(runs)
    linear = linear_of(runs, scores)
    runs = [_as_its_first(run, runs) for run in runs]
    with_maps = [run for run in runs if _gives_maps(run, len(scores))]
    if not with_maps:
        raise ValueError(
            f"no layer of {type(core(model)).__name__} gives feature maps (N, C, h, w) of more "
            "than one place for these images, so there is nothing to map: pass larger images, or "
            "name target_layers, with a reshape_transform if their output is arranged otherwise"
        )
    last, source = _read_last(core(model), runs, with_maps, linear, named)
    finer = [name for name in named if name not in last.names]
    found = _finer(core(model), runs, with_maps, source)
    if found is not None and found not in last.names:
        here, grids = places(source.maps()), {run.name: places(run.maps()) for run in with_maps}
        # a pooling, or the head itself, has one place, or none
        if linear is not None and last.known:
            grids |= {run.name: 1 for run in runs if run is linear or places(run.maps()) == 1}
        coarse = grids[found] > here and all(
            name in grids and grids[name] <= here for name in finer
        )
        finer = [found] if coarse or not finer else finer
    return last._replace(names=[*finer, *last.names])


def reads_one_place(runs: Sequence[Run], scores: Tensor) -> bool:
    """Whether the images are so small that the maps which the head pools have one place: what pools
    them, or the activation before it, was given one."""
    linear = linear_of(list(runs), scores)
    if linear is None or any(
        _gives_maps(r, len(scores)) and pools_to(r, linear.given) for r in runs
    ):
        return False
    leaves = [run for run in runs if next(run.module.children(), None) is None]
    return any(
        isinstance(run.given, Tensor)
        and run.given.ndim == 4
        and run.given.shape[2:].numel() == 1
        and pools_to(run, linear.given)
        for run in leaves
    )


def _read_last(
    model: nn.Module,
    runs: list[Run],
    with_maps: list[Run],
    linear: Run | None,
    named: Sequence[str],
) -> tuple[Found, Run]:
    """The layer to read last, and the run whose grid it has."""

    def unknown(run: Run) -> tuple[Found, Run]:
        return Found([run.name], None, linear, False), run

    if linear is None:
        # of a class token, the head may read that alone: what is before the last block is read
        name = _before_last(model, runs, with_maps) if _extra(with_maps[-1]) else None
        run = next((run for run in reversed(with_maps) if run.name == name), with_maps[-1])
        return unknown(run)
    pooled = [run for run in with_maps if pools_to(run, linear.given)]
    if pooled:  # of several that are the same, a named one; else the outermost
        run = next((run for run in pooled if run.name in named), pooled[-1])
        return Found([run.name], None, linear, True), run
    spread = spread_of(runs, linear)
    if spread is None:
        if not reads_first_token(runs, linear):
            # of several branches of one grid, a named one; else one of the channels that the head
            # reads: what weighs the places, as a gate, may come after it
            grid, width = places(with_maps[-1].maps()), linear.given.shape[1]
            found = [(r, maps) for r in with_maps if places(maps := r.maps()) == grid]
            asked = [r for r, _ in found if r.name in named]
            fits = [r for r, maps in found if maps is not None and maps.shape[1] == width]
            run = (asked or fits or with_maps)[-1]
            return unknown(run)
        ran = [run.name for run in runs if run.name in named]
        name = ran[-1] if ran else _before_last(model, runs, with_maps)
        run = next((run for run in reversed(with_maps) if run.name == name), with_maps[-1])
        return Found([name or run.name], None, linear, False), run
    modules = {run.name: run for run in runs if run.module is spread.watched[0]}
    source = next(iter(modules.values()))
    if places(source.maps()) < 2:  # an attention layer, whose output is a tuple
        before = [run for run in with_maps if runs.index(run) < runs.index(source)]
        source = before[-1]
    return Found([linear.name], spread, linear, True), source


def _gives_maps(run: Run, count: int) -> bool:
    """Whether it gives maps of more than one place for that many images: of another number are the
    windows of a Swin transformer."""
    maps = run.maps()
    if maps is None or len(maps) != count:
        return False
    return places(maps) > 1 and in_proportion(maps, run.size)


def _extra(run: Run) -> bool:
    """Whether it gives tokens beside those of places."""
    return run.output.ndim == 3 and run.output.shape[1] > places(run.maps())


def pools_to(run: Run, given: Tensor) -> bool:
    """Whether the mean over a run's maps is what a linear layer was given, (N, D)."""
    maps = run.maps()
    if maps is None or maps.shape[:2] != given.shape:
        return False
    error = (maps.mean((2, 3)).to(given) - given).abs().max()
    return bool(error < 2e-3 * (given.abs().max() + 1e-6))


def _finer(model: nn.Module, runs: Sequence[Run], with_maps: list[Run], source: Run) -> str | None:
    """Of the modules in a row, from the outermost in, the last before the grid gets coarse."""
    known = {run.name: places(run.maps()) ** 0.5 for run in with_maps}
    instead = {
        run.name: _gives_first(run, with_maps)
        for run in runs
        if isinstance(run.output, tuple)
        and run.output
        and places(as_grid(run.output[0], run.size)) > 1
    }
    return _finer_in(model, "", known, instead, places(source.maps()) ** 0.5)


def _before_last(model: nn.Module, runs: Sequence[Run], with_maps: list[Run]) -> str | None:
    """Of the blocks of the last grid, the one before the last; where there is one alone, `_finer`'s
    layer of the grid before."""
    last = with_maps[-1]
    here = [run for run in with_maps if places(run.maps()) == places(last.maps())]
    return _finer(model, runs, here, last) or _finer(model, runs, with_maps, last)


def _gives_first(several: Run, runs: Sequence[Run]) -> str | None:
    """Of a module that gives several things, the one inside it that gives the first of them."""
    first, inside = several.output[0], f"{several.name}."
    same = [
        run.name for run in runs
        if run.name.startswith(inside) and isinstance(run.output, Tensor)
        and run.output.shape == first.shape and torch.equal(run.output, first)
    ]  # fmt: skip
    return same[-1] if same else None


def _as_its_first(run: Run, runs: Sequence[Run]) -> Run:
    """Of a block that gives several things, and of which no module inside gives the first, as a sum
    is not, that one, as if it were all: what the network goes on with. Not of attention, which is
    a branch."""
    several = isinstance(run.output, tuple) and run.output and isinstance(run.output[0], Tensor)
    if not several or Projections.of(run.module) is not None or _gives_first(run, runs):
        return run
    return replace(run, output=run.output[0])


def _finer_in(
    at: nn.Module,
    prefix: str,
    known: Mapping[str, float],
    instead: Mapping[str, str | None],
    side: float,
) -> str | None:
    row = _row(at, prefix, known, instead)
    names = sorted(row, key=list(known).index)
    coarse = [name for name in names if known[name] <= side]
    before = names[: names.index(coarse[0])] if coarse else names
    fit = [name for name in before if side < known[name] <= _FINER * side]
    if fit:
        return fit[-1]
    # of one grid throughout, as in a vision transformer: what runs before the last
    blocks = [n for n in coarse if known[n] == side and next(row[n].children(), None)]
    alike = [n for n in blocks if type(row[n]) is type(row[blocks[-1]])]
    inside = [n for n in coarse if next(row[n].children(), None) is not None]
    if len(alike) > 1:
        # the first of them may be what makes the grid coarse, as in EfficientNet-Lite
        within = _row(row[inside[0]], f"{inside[0]}.", known, instead)
        coarsens = any(side < known[name] <= _FINER * side for name in within)
        if alike[0] != inside[0] or not coarsens:
            return alike[-2]
    # the first makes the grid coarse; in a vision transformer it cuts the patches, and has no row
    found = (_finer_in(row[name], f"{name}.", known, instead, side) for name in inside)
    return next(filter(None, found), None)


def _row(
    module: nn.Module, prefix: str, known: Container[str], instead: Mapping[str, str | None]
) -> dict[str, nn.Module]:
    """Its children that give maps by name; in place of those that give none, such as a list, or a
    network inside a wrapper, their children; in place of those that give several things, such as a
    Swin's stage in transformers, the one inside that gives the first, if one does: what else is
    inside may be a branch."""
    row: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        inside = prefix + name
        if inside in known:
            row[inside] = child
        elif inside not in instead:
            row |= _row(child, inside + ".", known, instead)
        elif (found := instead[inside]) is not None:
            row[found] = child.get_submodule(found.removeprefix(f"{inside}."))
    return row
