import pytest
import torch
from torch import nn

from ..conftest import tiny_network


def sharp_network(channels: int = 3) -> nn.Sequential:
    """A tiny network whose probabilities move with the image, so that a wrong pixel shows."""
    net = tiny_network()
    if channels != 3:
        net[0] = nn.Conv2d(channels, 6, 3, 2, 1)
    with torch.no_grad():
        net[0].bias.zero_()
        net[3].bias.zero_()
        net[8].weight *= 100
    return net


@pytest.fixture
def sharp() -> nn.Sequential:
    return sharp_network()


class Square(nn.Module):
    """Two classes; the second one's score is how bright the image's top left quarter is."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2] // 2, images.shape[3] // 2
        bright = images[:, :, :height, :width].mean((1, 2, 3))
        return torch.stack([torch.full_like(bright, 4.0), 8 * bright], 1)


@pytest.fixture
def square() -> nn.Module:
    return Square()
