"""A warning names the line that led to it, and not one of the package, nor of what is between."""

import warnings

import pytest
import torch
from torch import nn

from learnable_cam_plugin import LearnableCAM
from learnable_cam_plugin.wording import warn

from .networks import pictures


@torch.no_grad()  # torch's own frame is between
def deep(count):
    return deep(count - 1) if count else warn("told")


def test_it_is_told_of_where_it_was_led_to():
    with pytest.warns(UserWarning, match="told") as told:
        deep(3)
    assert told[0].filename == __file__


def test_so_is_what_is_found_deep_in_the_package():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 49, 3),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="linearised on these 2 images") as told:
        LearnableCAM(model)(pictures(2, 32))
    assert {one.filename for one in told} == {__file__}


def test_each_line_is_told_once():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(2):
            warn("the same")
        warn("the same")
    assert [one.lineno for one in told] == sorted({one.lineno for one in told})
    assert len(told) == 2
