"""Training an attention mechanism beside a frozen classifier.

| module | what |
| --- | --- |
| `trainer` | what a user sets |
| `loop` | a training under way |
| `batches`, `state`, `history` | what goes in, what survives, what is left to look at |
| `recipes` | ways to train: a protocol, and a file each |
| `objectives` | what is minimised, as pure functions |
"""

from .objectives.lcam import LossWeights
from .recipes import (
    RECIPES,
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
    "EveryThreshold",
    "LCAMRecipe",
    "LearnableCAMTrainer",
    "LossWeights",
    "Step",
    "TrainingRecipe",
    "find_recipe",
    "register_recipe",
]
