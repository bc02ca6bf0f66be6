"""Named ways to train: this package's own, and the paper's."""

from .base import RECIPES, Step, TrainingRecipe, find_recipe, register_recipe
from .every_threshold import EveryThreshold
from .lcam import LCAMRecipe
from .several import BesideSeveral, Companion

__all__ = [
    "RECIPES",
    "BesideSeveral",
    "Companion",
    "EveryThreshold",
    "LCAMRecipe",
    "Step",
    "TrainingRecipe",
    "find_recipe",
    "register_recipe",
]

register_recipe(EveryThreshold())
register_recipe(LCAMRecipe("l-cam-img", mask="image"))
register_recipe(LCAMRecipe("l-cam-fm", mask="features"))
