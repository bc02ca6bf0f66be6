"""Networks and an attention that are trained already, with no download but packages."""

from pathlib import Path

from torch import nn

from ..attention import AttentionMechanism, load_attention
from ..masking import Normalization
from .networks import efficientnet_lite, efficientnet_lite0
from .small import accuracy, shapes_classifier, small_network, train_classifier

__all__ = [
    "EFFICIENTNET_LITE0",
    "accuracy",
    "efficientnet_lite",
    "efficientnet_lite0",
    "pretrained",
    "shapes_classifier",
    "small_network",
    "train_classifier",
]

EFFICIENTNET_LITE0 = Path(__file__).parent / "efficientnet-lite0.safetensors"


def pretrained() -> tuple[nn.Sequential, Normalization, AttentionMechanism]:
    """EfficientNet-Lite0, its normalisation, and an attention for all of its 1,000 classes.

    The attention is a file of this package; its model card, with the data it was trained on, its
    figures and limits, lies beside it (`pretrained/README.md`). Nothing is downloaded; without the
    extra `photos` it is a ModuleNotFoundError.
    """
    model, normalization = efficientnet_lite0()
    attention = load_attention(EFFICIENTNET_LITE0)
    attention.attach(model, ["features"])
    return model, normalization, attention
