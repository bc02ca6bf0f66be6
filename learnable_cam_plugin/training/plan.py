"""How a training goes: its settings, in their ranges, and what of them a resumed one must share."""

import dataclasses
import json
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from ..attention import AttentionMechanism, Origin
from ..checkpoint import digest
from ..classifier import FrozenClassifier
from .recipes import TrainingRecipe

LABELS, DEVICES, PRECISIONS = ("predicted", "dataset"), (None, "cpu"), ("no", "bf16", "fp16")
# name -> the lowest value, and whether None is one too
_COUNTS = {
    "epochs": (1, False),
    "patience": (1, True),
    "seed": (0, False),
    "checkpoint_every": (1, True),
}
_SEEDS = 2**32


@dataclass(frozen=True)
class Plan:
    """How a training goes; the arguments of `LearnableCAMTrainer`, under the same names.

    Attributes:
        given: the attention to start from, instead of one that the recipe makes.

    Raises:
        ValueError, TypeError: a setting is out of its range, or of another type.
    """

    recipe: TrainingRecipe
    start: str
    given: AttentionMechanism | None
    labels: str
    epochs: int
    patience: int | None
    seed: int
    output_dir: Path | None
    checkpoint_every: int | None
    device: str | None
    mixed_precision: str
    progress: bool

    def __post_init__(self) -> None:
        for name, (lowest, optional) in _COUNTS.items():
            value = getattr(self, name)
            if value is None and optional:
                continue
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise TypeError(f"{name} must be a whole number, got {value!r}")
            if value < lowest:
                raise ValueError(f"{name} must be at least {lowest}, got {value}")
            object.__setattr__(self, name, int(value))
        if self.seed >= _SEEDS:
            raise ValueError(f"seed must be below 2 ** 32, as numpy has it, got {self.seed}")
        options = {"labels": LABELS, "device": DEVICES, "mixed_precision": PRECISIONS}
        for name, known in options.items():
            value = getattr(self, name)
            if not any(value is one or (isinstance(value, str) and value == one) for one in known):
                choice = " or ".join(map(repr, known))
                raise ValueError(f"{name} must be {choice}, got {value!r}")
        if not isinstance(self.progress, bool):
            raise TypeError(f"progress must be True or False, got {self.progress!r}")

    def settings(self, classifier: FrozenClassifier) -> dict[str, Any]:
        """What must be the same for a resumed training to end as an uninterrupted one."""
        recipe, about = self.recipe, Origin.of(classifier.model)
        rates = [
            [recipe.rate(quarter / 4, length) for quarter in range(4 * self.epochs)]
            for length in (self.epochs, self.epochs + 1)
        ]
        settings = {
            "name": recipe.name,
            **recipe.record(),
            "max_norm": recipe.max_norm,
            "start": self.start,
            # another one would be taken for the one that the training started from
            **({} if self.given is None else {"start from": _digest(self.given)}),
            "labels": self.labels,
            "seed": self.seed,
            "mixed_precision": self.mixed_precision,
            "layers": list(classifier.layers),
            "normalization": dataclasses.asdict(classifier.pixels),
            # a learning rate that falls to 0 at the end has to know where that is
            **({"epochs": self.epochs} if rates[0] != rates[1] else {}),
            "classifier": {"architecture": about.architecture, "tensors": about.tensors},
        }
        try:  # as they come back from a file, so that they can be compared
            return json.loads(json.dumps(settings))
        except TypeError as error:
            raise TypeError(
                f"what record() of {recipe.name!r} gives cannot be saved, JSON values are needed: "
                f"{error}"
            ) from error

    @property
    def within_epochs(self) -> bool:
        """Whether the learning rate moves within an epoch, and so needs to know its length."""
        rates = [self.recipe.rate(quarter / 4, self.epochs) for quarter in range(4 * self.epochs)]
        return any(rate != rates[i // 4 * 4] for i, rate in enumerate(rates))


def _digest(given: AttentionMechanism) -> str:
    """Of its numbers, in whichever precision they are."""
    state = given.state_dict().items()
    return digest({name: value.float() for name, value in state})[:16]
