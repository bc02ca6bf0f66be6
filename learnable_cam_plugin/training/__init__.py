"""Training an attention mechanism beside a frozen classifier."""

from .objectives.lcam import LossWeights
from .recipes import (
    RECIPES,
    BesideSeveral,
    Companion,
    EveryThreshold,
    LCAMRecipe,
    Step,
    TrainingRecipe,
    find_recipe,
    register_recipe,
)
from .trainer import LearnableCAMTrainer

Recipe = LCAMRecipe  # its name in code that exists

__all__ = [
    "RECIPES",
    "BesideSeveral",
    "Companion",
    "EveryThreshold",
    "LCAMRecipe",
    "LearnableCAMTrainer",
    "LossWeights",
    "Recipe",
    "Step",
    "TrainingRecipe",
    "find_recipe",
    "register_recipe",
]
