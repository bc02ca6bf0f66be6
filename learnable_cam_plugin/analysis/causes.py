"""The rule that names the cause of an error, with every condition that it asked."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean

import numpy as np

from .case import CAUSES, SURROUNDINGS, Case, Check, Region, Trial, Verdict
from .hierarchy import Hierarchy
from .regions import distance


@dataclass(frozen=True)
class Thresholds:
    """What the rule holds its numbers against; shares and probabilities are in [0, 1].

    They were set on drawn images whose cause is known, and measured on others (`python -m
    benchmarks planted`).

    Attributes:
        level, area: a class's region are the places from that share of its map's highest on, and at
            most that share of the image.
        margin: the region of what speaks for the predicted class rather than the true one are the
            places where its map is above the other's by that share of the most, at most `area`.
        same, alike: overlap of the two classes' regions, and correlation of their maps, from which
            on they are one.
        apart, distant: overlap up to which they are two, and distance of their centres from which
            on, as a share of the diagonal.
        some, most: shares of the fillings in which a trial comes out one way.
        shown, least: probability that two regions give their own classes, in the mean and the less
            of the two, from which on there are two objects.
        frees: share of the fillings in which the true class wins without what speaks against it, or
            without the predicted class's region, beyond that without a random one of its shape,
            from which on that is an object.
        present: probability of the true class from which on it may be there as well.
        rests: how much of the two classes hangs on the predicted one's region, from which on they
            are told by that: their probability in it alone, or the share lost without it.
        both, rival, rank: probability of the two classes together from which on the classifier is
            in doubt between these, and of the true one from which on it is a rival; the lowest
            rank of it.
        seen: probability of the true class with the colours around a thing in its place, from which
            on it is seen behind that.
        gain, clear: probability that it takes without the thing, beyond what it takes without a
            random region, from which on that is in front; and where another cause would do as well,
            or the maps of the two classes are one.
        one: correlation of the maps from which on they are, and any piece tips the balance.
        upon, close: distance of the thing from the region that the true class has without it, up to
            which it lies on that; and where another cause would do as well.
        itself: probability of the predicted class in a thing alone, up to which that is no object
            of the class.
        sure, unlikely: probability of the predicted class from which on the classifier is sure of
            it, and of the true one up to which it does not count with it.
        recurring, labels: images, and true classes of them, in which a region has to recur.
    """

    level: float = 0.4
    area: float = 0.3
    margin: float = 0.2
    same: float = 0.25
    alike: float = 0.3
    apart: float = 0.4
    distant: float = 0.12
    some: float = 0.25
    most: float = 0.6
    shown: float = 0.4
    least: float = 0.15
    frees: float = 0.4
    present: float = 0.0005
    rests: float = 0.8
    both: float = 0.35
    rival: float = 0.03
    rank: int = 3
    seen: float = 0.25
    gain: float = 0.05
    clear: float = 0.25
    one: float = 0.8
    upon: float = 0.35
    close: float = 0.12
    itself: float = 0.5
    sure: float = 0.75
    unlikely: float = 0.03
    recurring: int = 3
    labels: int = 2

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            whole = name in ("rank", "recurring", "labels")
            kinds = (int,) if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds):
                kind = "whole number" if whole else "number"
                raise TypeError(f"{name} must be a {kind}, got {value!r}")
            if not (value >= 1 if whole else 0 <= value <= 1):
                wanted = "at least 1" if whole else "in [0, 1]"
                raise ValueError(f"{name} must be {wanted}, got {value}")


def verdict(
    case: Case,
    thresholds: Thresholds,
    hierarchy: Hierarchy,
    contexts: Mapping[int, tuple[str, ...]],
    classes: int | None = None,
) -> Verdict:
    """The cause of an error: the first, in the order below, all of whose conditions hold.

    - broader or narrower label: the hierarchy holds one of the two classes broader than the other.
    - context: the region of what speaks for the predicted class rather than the true one recurs at
      one place in wrong images of several true classes, away from the true class's (`contexts`);
      without it, or without the predicted class's, the true class wins, with most fillings, and
      with some without the other of the two; without a random one in the place of the first it
      does not.
    - something in front: a thing, see `things`. With the colours around it in its place the true
      class wins and is seen, and over all fillings it takes more than without a random region of
      its shape. The thing lies where the true class then is, and is no object of the predicted
      class itself. Where several objects, a doubtful label, or look-alikes that the region alone
      gives would do as well, it has to take clearly more, and to lie closer; clearly more, too,
      where the maps of the two classes are one.
    - several objects: the regions are two, and apart. The predicted class's alone gives that class,
      and the true one's its own, or the image without what speaks against it does; without that, or
      without the predicted class's, the true class wins, as it does not without a random region;
      and the probability is theirs.
    - near-identical classes: the regions and the maps are one, and the two classes rest on it: it
      alone gives them, or they are lost without it; the true class is among the first, and the
      probability is theirs.
    - label doubtful: the classifier is sure, by the predicted class's region alone; once it is
      gone the true class does not win with every filling.
    - undetermined: none of these.

    Args:
        case: an error, with its maps, regions, agreement and trials.
        thresholds, hierarchy: what is held against; which class is broader than which.
        contexts: see `across.contexts`.
        classes: of the classifier, if they are known. Of fewer than four, what is asked for several
            objects and for near-identical classes holds of nearly any error, and neither is named.
    """
    t, alike = thresholds, case.agreement
    named = contexts.get(case.predicted, ())
    related = hierarchy.relation(case.predicted, case.other) is not None
    p, q = case.probabilities[case.predicted], case.probabilities[case.other]

    mean = partial(_mean, case)
    few = () if classes is None or classes >= 4 else (_least("classes to tell apart", classes, 4),)

    def true_wins(trial: Trial) -> bool:
        return trial.top == case.other

    erased, against = (mean(region, "erase", true_wins) for region in ("predicted", "contrast"))
    anywhere, chance = (mean(control, "erase", true_wins) for control in ("random", "elsewhere"))
    # share of the fillings, and how much it is above the control's: without either region
    without = (erased, erased - anywhere), (against, against - chance)
    more, less = max(without), min(without)
    alone = mean("predicted", "keep", lambda trial: trial.top == case.predicted)
    objects = (
        mean("predicted", "keep", lambda trial: trial.predicted),
        max(
            mean(*of, lambda trial: trial.other)
            for of in (("other", "keep"), ("contrast", "erase"))
        ),
    )
    given = mean("predicted", "keep", _pair)
    lost = mean("predicted", "erase", lambda trial: 1 - _pair(trial) / max(p + q, 1e-12))
    asked = {
        "broader or narrower label": (
            _least("the hierarchy holds one of the classes broader", float(related), 1),
        ),
        "context": (
            _least(
                "images in which the region recurs, this one among them",
                len(named) if case.photo.name in named else 0,
                t.recurring,
            ),
            _least(
                "without that region, or without the predicted class's, the true class wins",
                more[0],
                t.most,
            ),
            _least("without the other of the two it wins, too", less[0], t.some),
            _least("the first it does more often than without a random region", more[1], t.some),
        ),
        "several objects": (
            _most("overlap of the two regions", alike.overlap, t.apart),
            _least("distance of the two regions", alike.distance, t.distant),
            _least(
                "mean probability of the two classes, the predicted one in its region alone, the "
                "true one in its own or without what speaks against it",
                fmean(objects),
                t.shown,
            ),
            _least("the less of these two probabilities", min(objects), t.least),
            _least(
                "without what speaks against it, or the predicted class's region, the true class "
                "wins, more often than without a random one",
                max(gain for _, gain in without),
                t.frees,
            ),
            _least("probability of the two classes", p + q, t.both),
            _least("probability of the true class", q, t.present),
            *few,
        ),
        "near-identical classes": (
            _least("overlap of the two regions", alike.overlap, t.same),
            _least("correlation of the two maps", alike.correlation, t.alike),
            _least(
                "probability of the two classes in the predicted one's region alone, or the share "
                "of it that is lost without it",
                max(given, lost),
                t.rests,
            ),
            _most("rank of the true class", case.rank, t.rank),
            _least("probability of the two classes", p + q, t.both),
            _least("probability of the true class", q, t.rival),
            *few,
        ),
        "label doubtful": (
            _least("probability of the predicted class", p, t.sure),
            _most("probability of the true class", q, t.unlikely),
            _least("the predicted class's region alone gives it", alone, t.most),
            _most(
                "without the predicted class's region, or what speaks for it, the true class wins",
                more[0],
                1 - t.some,
            ),
        ),
    }
    contested = (
        _hold(asked["several objects"])
        or _hold(asked["label doubtful"])
        or (_hold(asked["near-identical classes"]) and given >= t.rests)
    )
    asked["something in front"] = _in_front(case, t, contested)
    ordered = {cause: asked[cause] for cause in CAUSES if cause in asked}
    holds = (cause for cause, checks in ordered.items() if _hold(checks))
    return Verdict(next(holds, "undetermined"), ordered)


def _pair(trial: Trial) -> float:
    return trial.predicted + trial.other


def _hold(checks: tuple[Check, ...]) -> bool:
    return all(check.holds for check in checks)


def _in_front(case: Case, t: Thresholds, contested: bool) -> tuple[Check, ...]:
    """Of the thing that may be in front of the object, if there is any; whether another cause would
    do."""
    nothing = np.zeros(case.size, dtype=np.bool_)
    thing, behind = (case.regions.get(name, nothing) for name in ("thing", "behind"))
    freed = _mean(case, "thing", "erase", lambda trial: trial.top == case.other, SURROUNDINGS)
    shows = _mean(case, "thing", "erase", lambda trial: trial.other, SURROUNDINGS)
    after, control = (
        _mean(case, region, "erase", lambda trial: trial.other) for region in ("thing", "beside")
    )
    alone = _mean(case, "thing", "keep", lambda trial: trial.predicted)
    return (
        _least("with the colours around the thing in its place the true class wins", freed, 1),
        _least("its probability then", shows, t.seen),
        _least(
            "probability that it takes over all fillings, beyond that without a random region",
            after - control,
            t.clear if contested or case.agreement.correlation >= t.one else t.gain,
        ),
        _most(
            "distance of the thing from the region that the true class then has",
            away(thing, behind),
            t.close if contested else t.upon,
        ),
        _most("probability of the predicted class in the thing alone", alone, t.itself),
    )


def away(thing: Region, behind: Region) -> float:
    """How far a thing lies from the region of the class that is seen behind it: see `distance`; 1
    if that is not seen."""
    return distance(thing, behind) if behind.any() else 1.0


def _mean(
    case: Case,
    region: str,
    action: str,
    value: Callable[[Trial], float],
    filling: str | None = None,
) -> float:
    """Over the fillings, or of one, and over the regions if there are several of that name; 0 of
    none."""
    tried = case.tried(region, action)
    found = [value(trial) for trial in tried if filling in (None, trial.filling)]
    return fmean(found) if found else 0.0


def _least(name: str, value: float, bound: float) -> Check:
    return Check(name, value, bound, above=True, holds=value >= bound)


def _most(name: str, value: float, bound: float) -> Check:
    return Check(name, value, bound, above=False, holds=value <= bound)
