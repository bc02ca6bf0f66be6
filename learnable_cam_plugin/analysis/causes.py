"""The rule that names the cause of an error, with every condition that it asked."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from .case import Case, Check, Trial, Verdict
from .hierarchy import Hierarchy


@dataclass(frozen=True)
class Thresholds:
    """What the rule holds its numbers against; shares and probabilities are in [0, 1].

    They were set on drawn images whose cause is known, and measured on others (`python -m
    benchmarks planted`).

    Attributes:
        level, area: a class's region are the places from that share of its map's highest on, and at
            most that share of the image.
        same: overlap of the two classes' regions from which on they are one.
        apart: overlap up to which they are two.
        fillings: share of the fillings in which a trial has to come out one way.
        both: probability of the two classes together from which on the classifier is in doubt
            between these.
        rival: probability of the true class from which on it is a rival at all.
        sure: probability of the predicted class from which on the classifier is sure of it.
        unseen: strength of the true class up to which the classifier sees it nowhere.
        recurring, labels: images, and true classes of them, in which a region has to recur.
    """

    level: float = 0.5
    area: float = 0.25
    same: float = 0.5
    apart: float = 0.2
    fillings: float = 0.6
    both: float = 0.6
    rival: float = 0.05
    sure: float = 0.7
    unseen: float = 0.1
    recurring: int = 3
    labels: int = 2

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            whole = name in ("recurring", "labels")
            kinds = (int,) if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise TypeError(f"{name} must be a number, got {value!r}")
            if not (value >= 1 if whole else 0 <= value <= 1):
                wanted = "at least 1" if whole else "in [0, 1]"
                raise ValueError(f"{name} must be {wanted}, got {value}")


def verdict(
    case: Case,
    thresholds: Thresholds,
    hierarchy: Hierarchy,
    contexts: Mapping[int, tuple[str, ...]],
) -> Verdict:
    """The cause of an error: the first, in the order below, all of whose conditions hold.

    - broader or narrower label: the hierarchy holds one of the two classes broader than the other.
    - context: the predicted class's region recurs at one place in wrong images of several true
      classes, away from the true class's (`contexts`), and the true class's region alone is
      classified rightly.
    - several objects: the regions are two, and each alone gives its own class.
    - near-identical classes: the region is one, and the probability is shared between the two.
    - something in front: without the predicted class's region, however filled, the true class wins;
      without a random one it does not; and that region alone does not give the predicted class.
    - label doubtful: the classifier is sure, sees the true class nowhere, and does not find it with
      the predicted class's region gone.
    - undetermined: none of these.

    Args:
        case: an error, with its maps, regions, agreement and trials.
        thresholds, hierarchy: what is held against; which class is broader than which.
        contexts: see `across.contexts`.
    """
    t, overlap = thresholds, case.agreement.overlap
    named = contexts.get(case.predicted, ())
    related = hierarchy.relation(case.predicted, case.other) is not None
    p, q = case.probabilities[case.predicted], case.probabilities[case.other]

    def share(region: str, action: str, comes: Callable[[Trial], bool]) -> float:
        """Of the fillings, in how many the trial comes out so."""
        of_region = [x for x in case.trials if (x.region, x.action) == (region, action)]
        return sum(map(comes, of_region)) / len(of_region) if of_region else 0.0

    def other_wins(trial: Trial) -> bool:
        return trial.top == case.other

    def predicted_wins(trial: Trial) -> bool:
        return trial.top == case.predicted

    erased = share("predicted", "erase", other_wins)
    control = share("random", "erase", other_wins)
    alone = share("predicted", "keep", predicted_wins)
    other_alone = share("other", "keep", other_wins)
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
            _least("the true class's region alone gives the true class", other_alone, t.fillings),
        ),
        "several objects": (
            _most("overlap of the two regions", overlap, t.apart),
            _least("the predicted class's region alone gives it", alone, t.fillings),
            _least("the true class's region alone gives it", other_alone, t.fillings),
        ),
        "near-identical classes": (
            _least("overlap of the two regions", overlap, t.same),
            _least("probability of the two classes", p + q, t.both),
            _least("probability of the true class", q, t.rival),
        ),
        "something in front": (
            _least("without the predicted class's region the true class wins", erased, t.fillings),
            _most("so it does without a random region", control, 1 - t.fillings),
            _most("the predicted class's region alone gives it", alone, 1 - t.fillings),
        ),
        "label doubtful": (
            _least("probability of the predicted class", p, t.sure),
            _most("strength of the true class, anywhere", float(case.maps.other.max()), t.unseen),
            _most("without the predicted class's region the true wins", erased, 1 - t.fillings),
        ),
    }
    holds = (cause for cause, checks in asked.items() if all(check.holds for check in checks))
    return Verdict(next(holds, "undetermined"), asked)


def _least(name: str, value: float, bound: float) -> Check:
    return Check(name, value, bound, above=True, holds=value >= bound)


def _most(name: str, value: float, bound: float) -> Check:
    return Check(name, value, bound, above=False, holds=value <= bound)
