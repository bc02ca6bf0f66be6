"""Named ways to train: this package's own, and the paper's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from .objective import LossWeights


@dataclass(frozen=True)
class Recipe:
    """The paper's way to train, a row of weights a class. `dataclasses.replace` makes a variant.

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


@dataclass(frozen=True)
class EveryThreshold:
    """Trains one mechanism for all classes through the masks that are shown and scored.

    Three dials: `misplaced`, how dark a map must be where another class is, against how bright it
    may be where its own is; `area`, how dark where there is neither; and `whole`, how much the
    whole map counts against its highest pixels.

    Attributes:
        name: of the recipe, recorded in the attention file.
        whole: the share of images masked by the whole map; the rest are masked by its highest 7 %
            to 90 % of pixels, drawn at random.
        misplaced: weight of minus the logarithm of the share of a mosaic's map that lies in the
            class's cell.
        area: weight of the mean of the map. Without it, what changes nothing for the class stays
            bright, which costs average drop nothing.
        removed: the share of images of which the highest pixels, 2 % to 40 %, are removed instead
            of kept.
        mosaics: the share of each batch in which four images make one.
        black: the share of masks that turn to black; the others turn to the mean, or to a blur.
        width: channels of the mechanism (`ConditionedAttention`).
        learning_rate: at its highest, of AdamW; it rises and falls once over the training.
    """

    name: str = "every-threshold"
    whole: float = 0.25
    misplaced: float = 1.5
    area: float = 0.0
    removed: float = 0.35
    mosaics: float = 0.25
    black: float = 0.75
    width: int = 64
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        for share in ("whole", "removed", "mosaics", "black"):
            if not 0 <= getattr(self, share) <= 1:
                raise ValueError(f"{share} is a share, 0 to 1, got {getattr(self, share)}")
        if self.whole + self.removed > 1:
            raise ValueError(
                f"whole and removed are shares of the same images, got {self.whole} and "
                f"{self.removed}: more than all"
            )
        if not (min(self.misplaced, self.area) >= 0 < min(self.learning_rate, self.width)):
            raise ValueError(
                "misplaced and area must not be negative, learning_rate and width must be above 0, "
                f"got {self.misplaced}, {self.area}, {self.learning_rate} and {self.width}"
            )


AnyRecipe = Recipe | EveryThreshold
RECIPES: dict[str, AnyRecipe] = {
    "every-threshold": EveryThreshold(),
    "l-cam-img": Recipe("l-cam-img", mask="image"),
    "l-cam-fm": Recipe("l-cam-fm", mask="features"),
}


def find_recipe(recipe: str | AnyRecipe) -> AnyRecipe:
    """A recipe by name, or as it is.

    >>> find_recipe("l-cam-fm").mask
    'features'
    """
    if isinstance(recipe, AnyRecipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(f"there is no recipe {recipe!r}; there are {sorted(RECIPES)}")
    return RECIPES[recipe]


def make_optimizer(recipe: AnyRecipe, attention: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser over the attention's parameters."""
    if isinstance(recipe, EveryThreshold):
        return torch.optim.AdamW(attention.parameters(), lr=recipe.learning_rate, weight_decay=1e-4)
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


def learning_rate_factor(recipe: AnyRecipe, done: float, epochs: int) -> float:
    """By what the learning rate is multiplied, `done` epochs (with fractions) into `epochs`."""
    if isinstance(recipe, EveryThreshold):
        rise = 0.15 * epochs
        if done < rise:
            return 0.04 + 0.96 * (1 - math.cos(math.pi * done / rise)) / 2
        return (1 + math.cos(math.pi * min(1.0, (done - rise) / (epochs - rise)))) / 2
    return 0.95 ** min(int(done), 12) if recipe.optimizer == "sgd" else 1.0
