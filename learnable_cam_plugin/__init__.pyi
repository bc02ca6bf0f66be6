from . import analysis as analysis
from . import attention as attention
from . import cam as cam
from . import captum_adapter as captum_adapter
from . import checkpoint as checkpoint
from . import classifier as classifier
from . import comparison as comparison
from . import data as data
from . import evaluation as evaluation
from . import export as export
from . import loading as loading
from . import masking as masking
from . import metrics as metrics
from . import pretrained as pretrained
from . import runtime as runtime
from . import saliency as saliency
from . import targets as targets
from . import training as training
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
from .classifier import FrozenClassifier, ScoresOf
from .export import ExplainedClassifier, export_onnx
from .loading import LoadedClassifier, load_classifier
from .masking import Normalization
from .targets import ContrastTarget
from .training import (
    RECIPES,
    EveryThreshold,
    LCAMRecipe,
    LearnableCAMTrainer,
    LossWeights,
    TrainingRecipe,
    register_recipe,
)

__all__ = [
    "RECIPES",
    "AttentionMechanism",
    "CheckpointError",
    "ConditionedAttention",
    "ContrastTarget",
    "EveryThreshold",
    "ExplainedClassifier",
    "FrozenClassifier",
    "InputLearnableCam",
    "LCAMAttention",
    "LCAMRecipe",
    "LayerLearnableCam",
    "LearnableCAM",
    "LearnableCAMTrainer",
    "LoadedClassifier",
    "LossWeights",
    "Normalization",
    "ScoresOf",
    "TrainingRecipe",
    "calibrate",
    "condition",
    "export_onnx",
    "load_attention",
    "load_classifier",
    "random_attention",
    "register_recipe",
]
