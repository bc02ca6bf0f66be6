"""What users' functions give."""

from torch import nn

from learnable_cam_plugin import Normalization
from learnable_cam_plugin.loading import LoadedClassifier

from ..conftest import tiny_network

HALF = Normalization(0.5, 0.5)


def tiny(num_classes: int = 5) -> nn.Module:
    return tiny_network(num_classes)


def with_normalization() -> tuple[nn.Module, Normalization]:
    return tiny(), HALF


def loaded() -> LoadedClassifier:
    return LoadedClassifier(tiny(2), HALF, 96, ("cat", "dog"), "")


def text() -> str:
    return "no network"
