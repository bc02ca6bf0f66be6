"""What is found out about one image: the data of an analysis, and nothing else."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
Region = NDArray[np.bool_]

CAUSES = (
    "broader or narrower label",
    "context",
    "something in front",
    "several objects",
    "near-identical classes",
    "label doubtful",
    "undetermined",
)
SURROUNDINGS = "surroundings"  # a filling: the colours around what is erased


@dataclass(frozen=True)
class Photo:
    """An image and its label, as an analysis takes them.

    Attributes:
        name: of the file, or any other that tells it from the rest.
        label: index of its true class, of the classifier's.
    """

    name: str
    label: int


@dataclass(frozen=True)
class Maps:
    """Of one image, at the attention's own grid, float32 (h, w) in [0, 1], all on one scale, so
    that two of them can be compared: see `LearnableCAM.comparable`.

    Attributes:
        predicted: what speaks for the predicted class, against all others but the other one.
        other: what speaks for the other class, see `Case`, against all but the predicted one.
        contrast: what speaks for the predicted class rather than the other one.
        reverse: what speaks for the other class rather than the predicted one.
    """

    predicted: Map
    other: Map
    contrast: Map
    reverse: Map


@dataclass(frozen=True)
class Agreement:
    """How alike the maps of the two classes are.

    Attributes:
        overlap: intersection over union of their regions, in [0, 1].
        correlation: Spearman's, over the places, in [-1, 1].
        distance: of the regions' centres, as a share of the image's diagonal, in [0, 1].
    """

    overlap: float
    correlation: float
    distance: float


@dataclass(frozen=True)
class Trial:
    """One change to the image, and what the classifier says of it.

    Attributes:
        region: whose region is changed: "predicted", "other", "contrast" (of what speaks for the
            predicted class rather than the other one), or a control, of a random place off it:
            "random", of the shape of the predicted class's, "elsewhere", of that of "contrast";
            "thing", what may be in front of the object, or "beside", the control, of its shape. Of
            controls there are several.
        action: "erase" the region, or "keep" it alone.
        filling: what shows where nothing is kept: "black", "mean" or "blur"; or, of what is erased,
            "surroundings", the colours around it.
        predicted, other: the probabilities of the two classes now.
        top, probability: index and probability of the class that wins now.
    """

    region: str
    action: str
    filling: str
    predicted: float
    other: float
    top: int
    probability: float


@dataclass(frozen=True)
class Check:
    """One condition of a cause's rule, with its numbers.

    Attributes:
        name: what is asked, in words.
        value, bound: the number found, and what it is held against.
        above: whether it has to be at least the bound; else at most.
        holds: whether it is.
    """

    name: str
    value: float
    bound: float
    above: bool
    holds: bool


@dataclass(frozen=True)
class Verdict:
    """The cause of an error, one of `CAUSES`, with the conditions that were asked for each.

    Attributes:
        cause: the first one in the order of `CAUSES` of which every condition holds.
        checks: cause -> its conditions, of all the causes that were asked.
    """

    cause: str
    checks: dict[str, tuple[Check, ...]]


@dataclass(frozen=True)
class Neighbour:
    """A training image like what the predicted class's map selects.

    Attributes:
        name, label: of that image.
        likeness: cosine of the two feature vectors, each the mean over the image weighted with the
            map of the predicted class, in [-1, 1].
    """

    name: str
    label: int
    likeness: float


@dataclass(frozen=True)
class Case:
    """All that was found out about one image.

    Attributes:
        photo: the image.
        predicted: index of the class that wins.
        other: index of the class it is held against: the true one; of an image that is classified
            correctly, the second most probable one.
        probabilities: index -> probability, of the five most probable classes, and of `other`.
        rank: of `other` among all classes, from 1.
        size: of the image as the classifier sees it, (H, W).
        maps, agreement, trials: see `Maps`, `Agreement` and `Trial`.
        regions: bool (H, W): of the two classes, "predicted" and "other", and "contrast", where the
            predicted class's map is above the other's; if the image has any things, see `things`,
            the "thing" that may be in front of the object, and "behind", the other class's region
            once that is erased.
        verdict: of an error; None where the image is classified correctly.
        neighbours: the nearest training images, the nearest first, if a training folder was given.
        doubt: how little its explanation is to be trusted, from 0 to 1: see `across.doubt`.
    """

    photo: Photo
    predicted: int
    other: int
    probabilities: dict[int, float]
    rank: int
    size: tuple[int, int]
    maps: Maps
    regions: dict[str, Region]
    agreement: Agreement
    trials: tuple[Trial, ...]
    verdict: Verdict | None = None
    neighbours: tuple[Neighbour, ...] = field(default=())
    doubt: float = 0.0

    @property
    def correct(self) -> bool:
        """Whether the true class wins."""
        return self.predicted == self.photo.label

    def tried(self, region: str, action: str) -> list[Trial]:
        """The trials of a region and an action, one a filling; of controls, one a region, too."""
        return [t for t in self.trials if (t.region, t.action) == (region, action)]

    @property
    def cause(self) -> str:
        """Of an error one of `CAUSES`; else "correct"."""
        return "correct" if self.verdict is None else self.verdict.cause
