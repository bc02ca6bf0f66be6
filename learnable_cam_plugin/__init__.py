"""Learned class activation maps (L-CAM) for pytorch-grad-cam and Captum.

>>> from learnable_cam_plugin import LearnableCAM, LearnableCAMTrainer
"""

from .attention import (
    AttentionMechanism,
    ConditionedAttention,
    LCAMAttention,
    calibrate,
    condition,
    load_attention,
    random_attention,
)
from .cam import LearnableCAM
from .captum_adapter import InputLearnableCam, LayerLearnableCam
from .checkpoint import CheckpointError
from .classifier import FrozenClassifier
from .masking import Normalization
from .training import (
    RECIPES,
    EveryThreshold,
    LCAMRecipe,
    LearnableCAMTrainer,
    LossWeights,
    TrainingRecipe,
    register_recipe,
)

Recipe = LCAMRecipe  # its name in code that exists

__all__ = [
    "RECIPES",
    "AttentionMechanism",
    "CheckpointError",
    "ConditionedAttention",
    "EveryThreshold",
    "FrozenClassifier",
    "InputLearnableCam",
    "LCAMAttention",
    "LCAMRecipe",
    "LayerLearnableCam",
    "LearnableCAM",
    "LearnableCAMTrainer",
    "LossWeights",
    "Normalization",
    "Recipe",
    "TrainingRecipe",
    "calibrate",
    "condition",
    "load_attention",
    "random_attention",
    "register_recipe",
]
