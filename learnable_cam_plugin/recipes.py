"""Named ways to train: what is masked, the loss, the regulariser's reading, the optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from .objective import LossWeights


@dataclass(frozen=True)
class Recipe:
    """One way to train an attention mechanism. `dataclasses.replace` makes a variant of it.

    Attributes:
        name: of the recipe, recorded in the attention file.
        mask: "image" (L-CAM-Img: the whole network sees a masked image) or "features"
            (L-CAM-Fm: the rest of the network sees masked feature maps).
        loss: the four weights.
        regularize: "own": the two regularisers act on each image's own map, as the paper's
            equations read. "batch": on each image's maps for every label of the batch, N * N maps,
            as the authors' code does; its total variation, a sum over them divided by 2 N, is
            then about N times larger and grows with the batch size.
        optimizer: "adam", or "sgd" for the authors' Nesterov SGD (momentum 0.9, weight decay 5e-4,
            biases at twice the learning rate, x 0.95 after each of the first 12 epochs).
        learning_rate: of the weights.
    """

    name: str
    mask: str
    loss: LossWeights = field(default_factory=LossWeights)
    regularize: str = "own"
    optimizer: str = "adam"
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        for attribute, options in (
            ("mask", ("image", "features")),
            ("regularize", ("own", "batch")),
            ("optimizer", ("adam", "sgd")),
        ):
            if getattr(self, attribute) not in options:
                raise ValueError(
                    f"{attribute} must be one of {options}, got {getattr(self, attribute)!r}"
                )
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")


RECIPES = {
    "l-cam-img": Recipe("l-cam-img", mask="image"),
    "l-cam-fm": Recipe("l-cam-fm", mask="features"),
}


def find_recipe(recipe: str | Recipe) -> Recipe:
    """A recipe by name, or as it is.

    >>> find_recipe("l-cam-fm").mask
    'features'
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(f"there is no recipe {recipe!r}; there are {sorted(RECIPES)}")
    return RECIPES[recipe]


def make_optimizer(recipe: Recipe, attention: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser over the attention's parameters."""
    if recipe.optimizer == "adam":
        return torch.optim.Adam(attention.parameters(), lr=recipe.learning_rate)
    groups: Sequence[dict] = [
        {
            "params": [p],
            "lr": recipe.learning_rate * (2 if "bias" in name else 1),
        }
        for name, p in attention.named_parameters()
    ]
    return torch.optim.SGD(
        groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4
    )


def learning_rate_factor(recipe: Recipe, epoch: int) -> float:
    """By what the learning rate is multiplied in an epoch, counted from 0."""
    return 0.95 ** min(epoch, 12) if recipe.optimizer == "sgd" else 1.0
