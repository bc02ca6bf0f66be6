"""Classifiers that the commands are given by name: small, seeded, of images of 32 pixels."""

import torch
from torch import nn

from learnable_cam_plugin import LoadedClassifier, Normalization

from ..conftest import tiny_network

HERE = "tests.cli.networks"
UNIT = Normalization([0.0], [1.0])
NAMES = ("ant", "bee", "cat", "dog", "elk")


def small() -> LoadedClassifier:
    """Five classes with names; a linear head on pooled maps of 16 x 16 places."""
    return LoadedClassifier(tiny_network(), UNIT, 32, NAMES, "small")


def other() -> LoadedClassifier:
    """The same with other weights, without names."""
    return LoadedClassifier(tiny_network(seed=5), UNIT, 32, None, "other")


def single() -> LoadedClassifier:
    """One score, of whether there is a defect; it says that there is none."""
    net = tiny_network(num_classes=1)
    nn.init.constant_(net[-1].bias, -2.0)
    return LoadedClassifier(net, UNIT, 32, ("defect",), "single")


def flat() -> LoadedClassifier:
    """With a head that flattens its maps, and so is linearised."""
    torch.manual_seed(0)
    head = [nn.Flatten(), nn.Linear(512, 5)]
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), *head)
    return LoadedClassifier(net, UNIT, 32, NAMES, "flat")


def without_maps() -> LoadedClassifier:
    """Nothing to map."""
    return LoadedClassifier(nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)), UNIT, 32, None, "no")


def ended() -> LoadedClassifier:
    """`small` with a softmax at its end."""
    return LoadedClassifier(nn.Sequential(tiny_network(), nn.Softmax(1)), UNIT, 32, NAMES, "ended")


def bare() -> nn.Module:
    """Nothing records its normalisation."""
    return tiny_network()


def broken() -> nn.Module:
    """Raises what no library does."""
    raise KeyError("no such\nkey")
