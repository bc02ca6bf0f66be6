"""What a recorded pass shows of a classifier, and its map would not: refused, or told of."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..wording import warn
from .checks import class_scores
from .grid import as_grid, places
from .guards import evaluating
from .layers import watching
from .record import Run
from .rerun import forward_from_layer
from .spread import reads_first_token
from .wrappers import bare, core, uncompiled

_MOST_EXTRA = 64  # tokens beside those of patches, as registers and prompts
_MOVED = 0.03  # of a side, by which nine tenths of what a network sees lie elsewhere at most


def tell_of_several_runs(
    model: nn.Module, runs: Sequence[Run], read: Sequence[str], known: bool
) -> None:
    """Warn where the scores are of several runs of what is read, as of test-time augmentation: its
    map may be of a mirrored image. Not where what the head reads is `known`: it is the last run."""
    times = Counter(run.name for run in runs)
    again = [name for name in read if times[name] > 1]
    if again and not known:
        warn(
            f"{type(model).__name__} runs its layer '{again[-1]}' {times[again[-1]]} times for an "
            "image, and only the last run is explained; of mirrored or scaled images the map is of "
            "those. Pass the classifier that is inside of it"
        )


def tell_of_a_probability(model: nn.Module, scores: Tensor) -> None:
    """Warn of single scores (N, 1) that lie in [0, 1], where none of a sigmoid's is below 0: they
    are taken for logits, whose sign is the class."""
    if bool(((scores >= 0) & (scores <= 1)).all()):
        warn(
            f"the one score that {type(model).__name__} gives lies in [0, 1] for all {len(scores)} "
            "images, as a probability does, and is taken for a logit, above 0 for the class and "
            "below 0 against it: pass the model without its sigmoid"
        )


def tell_of_no_places(runs: Sequence[Run], named: Sequence[str], read: Sequence[str]) -> None:
    """Warn of a layer that was named and gives no places, as a pooling, or the head where it is not
    what is read: the map is of others."""
    for name in named:
        ran = [run for run in runs if run.name == name]
        vectors = any(getattr(run.output, "ndim", 0) == 2 for run in ran)
        pools = any(places(as_grid(run.given, run.size)) > 1 for run in ran)
        none = all(places(run.maps()) < 2 for run in ran)
        if none and (pools or vectors) and name != read[-1]:
            others = [one for one in read if one != name]
            warn(
                f"target layer '{name}' gives no feature maps (N, C, h, w) of more than one place, "
                f"so the map is of {others}: name a layer before the pooling, or none at all"
            )


def check_tokens(shown: Sequence[Run], runs: Sequence[Run], count: int) -> None:
    """Refuse tokens whose grid is not that of the patches, as a convolution cut them: so many come
    beside those of places that the number alone makes another grid, or none, so that what is read
    is a layer before them. `count` images were passed."""
    convolved = [run.output for run in runs if isinstance(run.module, nn.Conv2d)]
    cut = list(dict.fromkeys(output.shape[2:] for output in convolved if output.ndim == 4))
    last = max((runs.index(run) for run in shown), default=len(runs))
    after = [r for r in runs[last:] if r.maps() is None and r.last]
    for run in (*(run for run in shown if run.maps() is not None), *after):
        maps, output = run.maps(), run.output
        if not isinstance(output, Tensor) or output.ndim != 3:
            continue
        if len(output) != count or (maps is not None and maps.shape[2:] in cut):
            continue
        tokens, least = output.shape[1], int(maps is None)
        grids = [grid for grid in cut if least <= tokens - grid.numel() <= _MOST_EXTRA]
        if grids:
            (rows, columns), extra = grids[-1], tokens - grids[-1].numel()
            raise ValueError(
                f"layer '{run.name}' gives {tokens} tokens, {rows} x {columns} of patches and "
                f"{extra} others; 1, 2, 4 or 5 others, before the patches, are told apart by "
                "themselves: pass target_layers and a reshape_transform that leaves out the others"
            )


def tell_of_other_tokens(shown: Sequence[Run], linear: Run | None, runs: Sequence[Run]) -> None:
    """Warn of tokens beside those of patches that the head reads in no known way: they are taken to
    come first, and a map is moved by them where they come last."""
    run = next((run for run in reversed(shown) if run.maps() is not None), None)
    if run is None or linear is None or run.output.ndim != 3 or reads_first_token(runs, linear):
        return
    extra = run.output.shape[1] - places(run.maps())
    if extra:
        warn(
            f"layer '{run.name}' gives {extra} tokens beside those of places, and the head reads "
            f"neither the first token nor the mean of what follows the first {extra}: where they "
            "come last, the map is moved by them. Pass target_layers and a reshape_transform that "
            "leaves them out"
        )


@torch.no_grad()
def tell_of_other_branches(
    model: nn.Module, layer: nn.Module, name: str, images: Tensor, scores: Tensor
) -> None:
    """Warn where the scores of two images differ although the layer gives the same for both: of an
    ensemble, or of two branches, the map is of one. `scores` are those of the images."""
    plain = torch.full_like(images[:1], float(images[:1].float().mean()))
    pair = torch.cat([images[:1], plain])

    def nothing(output: Any) -> Any:
        return torch.zeros_like(output) if isinstance(output, Tensor) else output

    with evaluating(model):
        without = class_scores(forward_from_layer(bare(model), layer, nothing, pair)).float()
    close = 1e-3 * float(without.abs().max())
    matters = not torch.allclose(without[:1], scores[:1].float(), 0, close)  # else it is refused
    if matters and not torch.allclose(without[0], without[1], 0, close):
        warn(
            f"the scores of {type(core(model)).__name__} depend on more than what its layer "
            f"'{name}' gives, as those of an ensemble, or of several branches, do; the map is of "
            "that layer alone. Explain each part by itself, or name the layer as a target layer"
        )


class _Given(Exception):
    """Carries what the first convolution was given, out of the pass."""


@torch.no_grad()
def tell_of_moved_images(model: nn.Module, images: Tensor) -> None:
    """Warn where the first convolution is given another part of the images, or turned ones: a
    transform inside of the model crops them, as that of torchvision's weights does.

    Asked of ramps along either side, and of black and white, which tell what is only normalised.
    """
    low, high = images.min(), images.max()
    if images.ndim != 4 or bool(low == high):
        return
    seen = []
    for shade in (torch.zeros(()), torch.ones(()), *_along(images[0, 0])):  # one: they may be large
        probe = (low + (high - low) * shade.to(images)).expand_as(images[:1]).clone()
        given = _first_given(model, probe)
        if given is None or given.shape[:2] != probe.shape[:2]:
            return
        seen.append(given[0].float())
    black, white, *others = seen
    span = white - black
    told = span.abs() > 1e-2 * span.abs().max()
    if float(told.float().mean()) < 0.5:
        return
    found = (torch.stack(others) - black) / torch.where(told, span, 1.0)
    apart = (found - torch.stack(_along(black[0]))[:, None]).abs()[told.expand_as(found)]
    if float((apart > _MOVED).float().mean()) > 0.1:
        warn(
            f"{type(model).__name__} crops, pads or turns its images before its first layer: the "
            "map is of what that is given, stretched over the whole of them. Do so before, and "
            "pass the classifier that is inside of it"
        )


def _along(like: Tensor) -> tuple[Tensor, Tensor]:
    """How far down, and how far to the right, each place of (H, W) lies, in [0, 1]."""
    down, right = ((torch.arange(n, device=like.device) + 0.5) / n for n in like.shape)
    return down[:, None].expand(like.shape), right.expand(like.shape)


def _first_given(model: nn.Module, images: Tensor) -> Tensor | None:
    """What the first convolution that runs is given; None where the model has none."""

    def stop(given: Any, _output: Any) -> None:
        raise _Given(given)

    hooks = [(m, stop) for m in core(model).modules() if isinstance(m, nn.Conv2d)]
    try:
        with evaluating(model), watching(hooks):
            uncompiled(bare(model))(images)
    except _Given as found:
        return found.args[0] if isinstance(found.args[0], Tensor) else None
    return None
