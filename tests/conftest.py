"""A tiny seeded network for most tests; the real network and photographs where at hand."""

from pathlib import Path

import pytest
import torch
from torch import nn

from learnable_cam_plugin import Normalization

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
UNIT = Normalization([0.0], [1.0])


def tiny_network(num_classes: int = 5, seed: int = 0) -> nn.Sequential:
    """Two convolutions (maps half the image's size), pooling, one linear layer."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, 1, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8, num_classes),
    )


@pytest.fixture
def tiny() -> nn.Sequential:
    return tiny_network()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 20, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real photographs that developers have; never part of the repository."""
    folder = DATA / "caltech" / "val"
    if not folder.is_dir():
        pytest.skip(f"no photographs at {folder}")
    return folder
