"""An analysis as a whole: its cases, and what was said of them all."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import zip_longest
from statistics import fmean
from typing import Any

import numpy as np

from .case import CAUSES, Case

ERASED = ("predicted", "contrast", "random", "elsewhere")  # see `Trial`
_FEWEST = 5  # errors that turn, of which a ratio is worth an interval


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
        settings: what it was made with: model, layers, attention, its source, thresholds, fillings,
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

    def turned(self) -> dict[str, float]:
        """Region -> errors in which, once it is erased, the true class is ahead of the predicted
        one with most fillings; "random" and "elsewhere" are their controls, what any erasure does:
        the mean over the random regions of each error."""
        return {name: sum(self._turned(name)) for name in ERASED}

    def control(self) -> dict[str, float] | None:
        """How many times as many errors turn with a random region erased as with that of what
        speaks for the predicted class: the "ratio" of "elsewhere" to "contrast" of `turned`, with
        its 95 % interval from "low" to "high", bootstrap over the errors. None where fewer than
        five turn: drawn from them, the interval would be narrower than what is known."""
        erased, random = (np.array(self._turned(name)) for name in ("contrast", "elsewhere"))
        if erased.sum() < _FEWEST:
            return None
        draws = np.random.default_rng(0).multinomial(
            len(erased), [1 / len(erased)] * len(erased), 2000
        )
        drawn = draws[draws @ erased > 0]
        low, high = np.quantile(drawn @ random / (drawn @ erased), (0.025, 0.975)).tolist()
        return {"ratio": float(random.sum() / erased.sum()), "low": low, "high": high}

    def _turned(self, region: str) -> list[float]:
        """Of each error, in what share of the regions of that name it turns."""
        return [_turned(case, region) for case in self.cases if not case.correct]


def _turned(case: Case, region: str) -> float:
    by_filling = defaultdict[str, list[bool]](list)
    for trial in case.tried(region, "erase"):
        by_filling[trial.filling].append(trial.other > trial.predicted)
    regions = list(zip_longest(*by_filling.values(), fillvalue=False))
    return fmean(2 * sum(ahead) > len(ahead) for ahead in regions) if regions else 0.0
