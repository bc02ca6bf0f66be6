"""An analysis as a whole: its cases, and what was said of them all."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .case import CAUSES, Case

ERASED = ("predicted", "contrast", "random")  # see `Trial`


@dataclass(frozen=True)
class Pair:
    """Images of one true class that another one wins.

    Attributes:
        label, predicted: indices of the two classes.
        errors: how many; `of`, among how many images of the true class.
        shared: in how many of them both classes' maps cover the same region.
        shared_when_correct, correct: the same among the correct images of the two classes whose
            runner-up is the other one, and how many these are.
    """

    label: int
    predicted: int
    errors: int
    of: int
    shared: int
    shared_when_correct: int
    correct: int


@dataclass(frozen=True)
class Analysis:
    """What `analyze` returns.

    Attributes:
        cases: the errors and the correct images that were looked at, in the order of the images.
        class_names: name of each class.
        images, errors: how many images there were, and how many of them were classified wrongly.
        unread: name of a file that could not be read -> why.
        pairs: confusion pairs, the most frequent shared region first.
        contexts: classes whose region recurs at one place of images of several true classes:
            class -> names of the images.
        settings: what it was made with: model, layers, attention's hash, thresholds, fillings,
            seed, versions; what JSON takes.
    """

    cases: tuple[Case, ...]
    class_names: tuple[str, ...]
    images: int
    errors: int
    unread: dict[str, str] = field(default_factory=dict)
    pairs: tuple[Pair, ...] = ()
    contexts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Cause -> number of errors, in the order of `CAUSES`."""
        found = Counter(case.cause for case in self.cases if not case.correct)
        return {cause: found[cause] for cause in CAUSES}

    def turned(self) -> dict[str, int]:
        """Region -> errors in which, once it is erased, the true class is ahead of the predicted
        one with most fillings; "random" is the control: what any erasure does."""
        errors = [case for case in self.cases if not case.correct]
        return {name: sum(_turned(case, name) for case in errors) for name in ERASED}


def _turned(case: Case, region: str) -> bool:
    erased = case.tried(region, "erase")
    return 2 * sum(t.other > t.predicted for t in erased) > len(erased)
