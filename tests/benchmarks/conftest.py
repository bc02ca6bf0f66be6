"""A small classifier of drawn shapes, trained in seconds, for what must localise."""

import pytest
import torch

from learnable_cam_plugin.data import draw_images
from learnable_cam_plugin.pretrained import small_network, train_classifier


@pytest.fixture(scope="session")
def shapes():
    """(model, drawn images that it names with a probability over 0.3)."""
    torch.manual_seed(0)
    model = small_network()
    train_classifier(model, draw_images(1600, 0), 14, 0)
    drawn = draw_images(40, 10_000)
    with torch.no_grad():
        p = model(drawn.images).softmax(1).gather(1, drawn.classes[:, :1])[:, 0]
    return model, drawn, torch.nonzero(p > 0.3)[:12, 0]
