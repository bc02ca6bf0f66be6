"""The frozen network: what is read of it, what is asked of it, and how it is left as found."""

from .checks import (
    check_finite,
    check_images,
    check_one_class_each,
    class_indices,
    class_scores,
    floating_weight,
    not_finite_images,
    run_on,
    tell_of_constant,
)
from .doubts import tell_of_a_probability, tell_of_moved_images
from .frozen import FrozenClassifier, predict
from .grid import as_grid
from .guards import (
    LOCK,
    ModuleTree,
    device_of,
    evaluating,
    frozen,
    modules_of,
    tensor_states,
)
from .head import HeadProbe, tells_pooling
from .layers import (
    ReshapeTransform,
    StaleError,
    as_feature_maps,
    first_convolution,
    forward_with_features,
    layer_names,
    own_copy,
    same,
    size_given,
    watching,
)
from .rerun import Replay, classify_masked_features, forward_from_layer
from .scores import both_sides, probabilities, still_gives, top_class
from .wrappers import ScoresOf, bare, core, core_name, of_volumes

__all__ = [
    "LOCK",
    "FrozenClassifier",
    "HeadProbe",
    "ModuleTree",
    "Replay",
    "ReshapeTransform",
    "ScoresOf",
    "StaleError",
    "as_feature_maps",
    "as_grid",
    "bare",
    "both_sides",
    "check_finite",
    "check_images",
    "check_one_class_each",
    "class_indices",
    "class_scores",
    "classify_masked_features",
    "core",
    "core_name",
    "device_of",
    "evaluating",
    "first_convolution",
    "floating_weight",
    "forward_from_layer",
    "forward_with_features",
    "frozen",
    "layer_names",
    "modules_of",
    "not_finite_images",
    "of_volumes",
    "own_copy",
    "predict",
    "probabilities",
    "run_on",
    "same",
    "size_given",
    "still_gives",
    "tell_of_a_probability",
    "tell_of_constant",
    "tell_of_moved_images",
    "tells_pooling",
    "tensor_states",
    "top_class",
    "watching",
]
