"""What a way to train is: the protocol that the trainer knows, and the recipes by name."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ...attention import AttentionMechanism
from ...classifier import FrozenClassifier

# (attention, images, labels or None for the predicted class, seed of the step) -> the loss's terms
Step = Callable[[AttentionMechanism, Tensor, Tensor | None, int], dict[str, Tensor]]


class TrainingRecipe(Protocol):
    """A way to train an attention mechanism. Anything with these members is one; it sees the
    classifier and the attention, never the trainer.

    One whose loss is the mean of what each image of a batch gives by itself may say so, with
    `per_image = True`: several processes then share each batch. Others train in one process.
    """

    @property
    def name(self) -> str:
        """Recorded in the attention's file."""

    @property
    def terms(self) -> Sequence[str]:
        """Names of what a step returns, "loss" first; the history and its plot show them."""

    @property
    def starts(self) -> Sequence[str]:
        """What the trainer's `start` may name, the first unless it names one."""

    @property
    def max_norm(self) -> float | None:
        """To which the gradient is clipped; None leaves it as it is."""

    def start(
        self, classifier: FrozenClassifier, images: Tensor, kind: str, seed: int, progress: bool
    ) -> AttentionMechanism:
        """The attention before its first step: of a kind in `starts`, for the first batch of images
        (N, C, H, W), normalised; `progress` says whether a bar may be shown."""

    def step(self, classifier: FrozenClassifier, images: Tensor) -> Step:
        """What computes the terms of a batch, scalars with a graph to the attention; made once a
        training, with its first batch to try things out on."""

    def make_optimizer(self, attention: AttentionMechanism) -> torch.optim.Optimizer:
        """The optimiser over the attention's parameters."""

    def rate(self, done: float, epochs: int) -> float:
        """By what the learning rate is multiplied, `done` epochs (with fractions) into `epochs`."""

    def record(self) -> dict[str, Any]:
        """Every setting that shapes the result, as JSON values: saved with the attention, and
        compared before a training is gone on with."""


RECIPES: dict[str, TrainingRecipe] = {}


def register_recipe(recipe: TrainingRecipe) -> TrainingRecipe:
    """Make a recipe known by its name: `LearnableCAMTrainer(recipe="its name")`.

    Raises:
        TypeError: it lacks members of `TrainingRecipe`.
        ValueError: another recipe has that name.
    """
    if find_recipe(recipe).name in RECIPES:
        raise ValueError(f"there is a recipe {recipe.name!r} already: give yours another name")
    RECIPES[recipe.name] = recipe
    return recipe


def find_recipe(recipe: str | TrainingRecipe) -> TrainingRecipe:
    """A recipe by name, or as it is.

    Raises:
        ValueError: there is none of that name.
        TypeError: it lacks members of `TrainingRecipe`.

    >>> find_recipe("l-cam-fm").starts
    ('head', 'random')
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"there is no recipe {recipe!r}; there are {sorted(RECIPES)}")
        return RECIPES[recipe]
    missing = [m for m in vars(TrainingRecipe) if m[0] != "_" and not hasattr(recipe, m)]
    if missing:
        raise TypeError(
            f"a {type(recipe).__name__} is no recipe: it lacks {missing}. Pass one of "
            f"{sorted(RECIPES)}, or an object with the members of TrainingRecipe"
        )
    return recipe
