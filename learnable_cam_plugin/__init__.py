"""Learned class activation maps (L-CAM) for pytorch-grad-cam and Captum.

>>> from learnable_cam_plugin import LearnableCAM, LearnableCAMTrainer
"""

from .attention import LCAMAttention, load_attention
from .cam import LearnableCAM
from .captum_adapter import InputLearnableCam, LayerLearnableCam
from .checkpoint import CheckpointError
from .conditioned import ConditionedAttention
from .initialization import calibrate, condition, random_attention
from .masking import Normalization
from .objective import LossWeights
from .recipes import RECIPES, EveryThreshold, Recipe
from .trainer import LearnableCAMTrainer

__all__ = [
    "RECIPES",
    "CheckpointError",
    "ConditionedAttention",
    "EveryThreshold",
    "InputLearnableCam",
    "LCAMAttention",
    "LayerLearnableCam",
    "LearnableCAM",
    "LearnableCAMTrainer",
    "LossWeights",
    "Normalization",
    "Recipe",
    "calibrate",
    "condition",
    "load_attention",
    "random_attention",
]
