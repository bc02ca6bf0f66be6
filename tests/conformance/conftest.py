import pytest
import torch

from .networks import classifier


@pytest.fixture
def net():
    return classifier()


@pytest.fixture
def images():
    return torch.rand(4, 3, 32, 40, generator=torch.Generator().manual_seed(1))
