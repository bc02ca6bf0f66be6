"""The small architectures are explained in all four ways; what is no map is said so."""

import json
import warnings

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.architectures import ARCHITECTURES
from benchmarks.commands import architectures
from learnable_cam_plugin import FrozenClassifier

pytest.importorskip("timm", reason="the extra `timm`")
pytest.importorskip("transformers", reason="the extra `transformers`")

SMALL = [name for name, architecture in ARCHITECTURES.items() if architecture.small]


@pytest.mark.parametrize("name", SMALL)
def test_the_small_ones_work_in_every_way(name):
    row = architectures.row_of(name, ARCHITECTURES[name])
    ways = ("no training", "conditioned", "every-threshold", "l-cam-img")
    assert [row.get(way) for way in ways] == [architectures.WORKS] * 4, row


@pytest.mark.parametrize(
    "name", [n if n in SMALL else pytest.param(n, marks=pytest.mark.long) for n in ARCHITECTURES]
)
def test_nothing_is_told_of_one_that_is_in_order(name):
    """No crop, no other branch, no tokens that come last: `classifier.doubts`."""
    architecture = ARCHITECTURES[name]
    model, images = architecture.classifier(), architecture.images(2)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        FrozenClassifier.found(model, images)
    told = ("its layer", "crops, pads or turns", "tokens beside those of places")
    assert not [m for m in map(str, (one.message for one in heard)) if any(t in m for t in told)]


def test_there_are_at_least_25_of_three_libraries():
    assert len(ARCHITECTURES) >= 25
    assert {name.partition(":")[0] for name in ARCHITECTURES} == {
        "torchvision", "timm", "transformers",
    }  # fmt: skip


def test_the_command_leaves_a_table(tmp_path):
    name = "timm:resnet10t"
    found = CliRunner().invoke(
        architectures.main, ["--only", name, "--out", str(tmp_path)], catch_exceptions=False
    )
    assert found.exit_code == 0, found.output
    left = json.loads((tmp_path / "architectures.json").read_text())
    assert [row["architecture"] for row in left["rows"]] == ["resnet10t"]
    assert {"torch", "timm", "transformers"} == left["versions"].keys()
    assert "| timm | resnet10t |" in (tmp_path / "architectures.md").read_text()
    wrong = CliRunner().invoke(architectures.main, ["--only", "x", "--out", str(tmp_path)])
    assert wrong.exit_code == 2
    assert "there is no ['x']" in wrong.output


FAULTS = {
    "maps of shape (1, 4, 4), not (2, 4, 4)": np.zeros((1, 4, 4)),
    "maps that are not finite": np.full((2, 4, 4), np.nan),
    "maps from -1 to 1": np.stack([np.eye(4), 2 * np.eye(4) - 1]),
    "constant maps": np.stack([np.eye(4), np.ones((4, 4))]),
    "": np.stack([np.eye(4), np.eye(4)]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_map_is_said(fault):
    assert architectures.fault(FAULTS[fault], 4) == fault
    assert architectures.cell(lambda: FAULTS[fault], 4) == (fault or architectures.WORKS)


def test_an_error_is_the_reason_in_one_line():
    def fails():
        raise ValueError("first | then\nmore " + 200 * "x")

    said = architectures.cell(fails, 4)
    assert said.startswith("ValueError: first / then more")
    assert len(said) <= 160
