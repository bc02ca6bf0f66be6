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

__all__ = [
    "RECIPES",
    "BesideSeveral",
    "Companion",
    "EveryThreshold",
    "LCAMRecipe",
    "LearnableCAMTrainer",
    "LossWeights",
    "Step",
    "TrainingRecipe",
    "find_recipe",
    "register_recipe",
]
