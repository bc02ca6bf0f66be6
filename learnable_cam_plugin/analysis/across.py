"""What many cases show together: pairs of classes, places that recur, explanations to doubt."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import comb
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from .analysis import Pair
from .case import Case, Region
from .regions import share_covered

# regions are compared on a grid of that many places a side, each by the share of it that is covered
_GRID = 28
_OVERLAP = 0.5  # with a place, from which on a region lies there
_INSIDE = 0.25  # share of a region within the other class's, up to which it lies away from that
# the probability of so many there by chance must not be above it (binomial, times the number of
# regions that a place could have been made from)
_LEVEL = 0.01
_Covered = NDArray[np.float64]


def pairs(
    cases: Sequence[Case], images_of: Mapping[int, int], overlap: float = 0.5
) -> tuple[Pair, ...]:
    """The pairs of (true, predicted) class among the errors, the most shared regions first.

    Args:
        cases: errors and correct images.
        images_of: class -> how many images of it there were, looked at or not.
        overlap: of the two classes' regions, from which on they are one and the same; see
            `Agreement.overlap`.

    Returns:
        sorted by the errors with a shared region, then by all errors. Beside them stands how many
        correct images of the two classes, with the other one as runner-up, share it too.
    """
    errors, correct = (defaultdict[tuple[int, int], list[bool]](list) for _ in range(2))
    for case in cases:
        shared = case.agreement.overlap >= overlap
        if case.correct:
            for pair in ((case.predicted, case.other), (case.other, case.predicted)):
                correct[pair].append(shared)
        else:
            errors[case.photo.label, case.predicted].append(shared)
    found = [
        Pair(
            *pair,
            errors=len(shared),
            of=images_of[pair[0]],
            shared=sum(shared),
            shared_when_correct=sum(correct[pair]),
            correct=len(correct[pair]),
        )
        for pair, shared in errors.items()
    ]
    return tuple(sorted(found, key=lambda p: (-p.shared, -p.errors, p.label, p.predicted)))


def contexts(
    cases: Iterable[Case],
    images: int = 3,
    classes: int = 2,
) -> dict[int, tuple[str, ...]]:
    """Classes whose region recurs at one place of wrongly classified images, away from the object.

    The region is that of what speaks for the predicted class rather than the other one. The rule,
    for each predicted class: of its errors, those count whose region lies away from the other
    class's. A place is the median region of those that overlap with one of them; it recurs
    if enough images of enough true classes have their region there, and more than chance has it:
    how often the same regions, put anywhere in the image, come to lie there, and how often those of
    other predicted classes do, whichever is more.

    Args:
        cases: correct images are not looked at.
        images, classes: how many images, of how many true classes, there must be at least.

    Returns:
        class -> names of the images whose region lies at the place, the class of most images first.
    """
    away = [case for case in cases if not case.correct and _away(case)]
    covered = np.stack([_covered(case.regions["contrast"]) for case in away]) if away else None
    found = {}
    for index in sorted({case.predicted for case in away}):
        assert covered is not None
        own = [i for i, case in enumerate(away) if case.predicted == index]
        if len(own) < images:
            continue
        there, place = _recurring(covered[own], _OVERLAP)
        members = [away[i] for i in np.array(own)[there]]
        if len(members) < images or len({case.photo.label for case in members}) < classes:
            continue
        rest = np.delete(covered, own, axis=0)
        chance = max(
            fmean(_by_chance(one, place, _OVERLAP) for one in covered[own][there]),
            float((_ious(rest, place) >= _OVERLAP).mean()) if len(rest) else 0.0,
        )
        if len(own) * _at_least(len(members) - 1, len(own) - 1, chance) <= _LEVEL:
            found[index] = tuple(case.photo.name for case in members)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def doubt(case: Case) -> float:
    """How little an explanation is to be trusted, from 0 to 1: by what erasing its region does.

    For each filling: the drop of the predicted class's probability where its region is erased, less
    the drop where the random control is, as a share of the probability before. Their mean over the
    fillings, within [0, 1], is what the explanation is worth; the doubt is the rest of 1. Without
    both trials in any filling nothing is known, and the doubt is 1.
    """
    before = case.probabilities[case.predicted]
    after = defaultdict[tuple[str, str], list[float]](list)
    for trial in case.trials:
        if trial.action == "erase":
            after[trial.filling, trial.region].append(trial.predicted)
    worth = [
        (fmean(after[filling, "random"]) - fmean(erased)) / before
        for (filling, region), erased in list(after.items())
        if region == "predicted" and after[filling, "random"] and before > 0
    ]
    return 1 - min(max(fmean(worth), 0.0), 1.0) if worth else 1.0


def _away(case: Case) -> bool:
    region = case.regions["contrast"]
    return bool(region.any()) and share_covered(region, case.regions["other"]) <= _INSIDE


def _covered(region: Region) -> _Covered:
    """What share of each place of the grid a region (H, W) covers."""
    shares = adaptive_avg_pool2d(torch.from_numpy(region).double()[None], _GRID)
    return shares[0].numpy()


def _ious(regions: _Covered, place: _Covered) -> NDArray[np.float64]:
    """Intersection over union of regions (N, h, w) with one (h, w)."""
    both = np.minimum(regions, place).sum((1, 2))
    return both / (regions.sum((1, 2)) + place.sum() - both)


def _recurring(regions: _Covered, overlap: float) -> tuple[NDArray[np.bool_], _Covered]:
    """Which regions (N, h, w) lie at one place, of the places that most of them do, and the place:
    the median of the regions around one of them."""
    found = []
    for one in regions:
        place = np.median(regions[_ious(regions, one) >= overlap], axis=0)
        found.append((_ious(regions, place) >= overlap, place))
    return max(found, key=lambda item: item[0].sum())


def _by_chance(region: _Covered, place: _Covered, overlap: float) -> float:
    """In what share of all positions a region comes to lie at the place, moved as `elsewhere` of
    `regions` moves it: what leaves the image on one side comes in on the other."""
    moved = np.lib.stride_tricks.sliding_window_view(np.tile(region, (2, 2))[:-1, :-1], place.shape)
    both = np.minimum(moved, place).sum((2, 3))
    return float((both / (region.sum() + place.sum() - both) >= overlap).mean())


def _at_least(count: int, of: int, chance: float) -> float:
    """The binomial probability of `count` or more."""
    return sum(comb(of, i) * chance**i * (1 - chance) ** (of - i) for i in range(count, of + 1))
