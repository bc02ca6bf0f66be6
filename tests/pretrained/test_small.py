"""The classifier of drawn shapes that comes with the package is what its card says."""

import re

import pytest
import torch

from learnable_cam_plugin import checkpoint
from learnable_cam_plugin.data import CLASSES, draw_images
from learnable_cam_plugin.pretrained import accuracy, shapes_classifier
from learnable_cam_plugin.pretrained.small import SHAPES

CARD = SHAPES.with_name("README.md").read_text()


def test_its_accuracy_is_what_the_card_says():
    count, seed = re.search(r"`draw_images\((\d+), seed=([\d_]+)\)`, its two", CARD).groups()
    stated = float(re.search(r"in ([\d.]+) %", CARD).group(1))
    found = accuracy(shapes_classifier(), draw_images(int(count), int(seed)))
    assert 100 * found == pytest.approx(stated, abs=0.11)  # one image more or less elsewhere


def test_its_size_and_record_are_what_the_card_says():
    tensors, record = checkpoint.load(SHAPES)
    numbers = sum(tensor.numel() for tensor in tensors.values())
    assert f"({SHAPES.stat().st_size / 1e6:.2f} MB, {round(numbers, -3):,} numbers)" in CARD
    assert record == {"classifier": "drawn shapes", "format": 1, "seed": 0}


def test_it_is_ready_to_be_explained_and_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    model = shapes_classifier()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any(module.training for module in model.modules())
    assert model(draw_images(2, 5).images).shape == (2, len(CLASSES))
