"""A testbed of the tiny network; and, for what must localise, a small classifier of shapes."""

import pytest
import torch

from benchmarks.protocol import NetworkSettings, Protocol, Training
from benchmarks.testbed import Pictures, assembled
from learnable_cam_plugin.data import draw_images
from learnable_cam_plugin.pretrained import shapes_classifier

from ..conftest import UNIT, tiny_network


@pytest.fixture(scope="session")
def shapes():
    """(model, drawn images that it names with a probability over 0.3)."""
    model = shapes_classifier()
    drawn = draw_images(40, 10_000)
    with torch.no_grad():
        p = model(drawn.images).softmax(1).gather(1, drawn.classes[:, :1])[:, 0]
    return model, drawn, torch.nonzero(p > 0.3)[:12, 0]


@pytest.fixture
def bed(images):
    """A testbed around the tiny network: its layer has 8 channels, RISE takes 50 masks."""
    model = tiny_network().eval()
    model[2].inplace = False
    network = NetworkSettings("4", ("0", "2", "4"), 50)
    pictures = Pictures(images, ["a", "b", "c", "d"], torch.tensor([0, 1, 2, 4]), torch.ones(4))
    protocol = Protocol("test", "folder", {"tiny": network}, Training(1, 2))
    return assembled(protocol, network, model, UNIT, pictures, torch.arange(4))
