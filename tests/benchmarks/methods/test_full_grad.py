"""FullGrad with its channels added up before they are resized: the library's maps."""

import numpy as np
import pytorch_grad_cam as library
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from benchmarks.methods.full_grad import FullGrad

from ...conftest import tiny_network


def test_the_maps_are_the_librarys(images):
    net = tiny_network().eval()
    torch.nn.init.normal_(net[1].bias)
    net[1].running_mean.normal_()
    targets = [ClassifierOutputTarget(c) for c in (0, 3, 1, 4)]
    expected = library.FullGrad(net, [])(images, targets)
    found = FullGrad(net, [])(images, targets)
    assert expected.std() > 0.1
    assert np.abs(found - expected).max() < 1e-5
    smooth = {"eigen_smooth": True}
    again = FullGrad(net, [])(images, targets, **smooth)
    assert np.abs(again - library.FullGrad(net, [])(images, targets, **smooth)).max() < 1e-5
