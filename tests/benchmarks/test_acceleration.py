import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.acceleration import accelerated
from benchmarks.methods import find_methods, opened
from benchmarks.protocol import load_protocol
from benchmarks.testbed import prepare

from ..conftest import tiny_network


@pytest.fixture
def model():
    pytest.importorskip("openvino", reason="needs the extra `bench`")
    model = tiny_network().eval()
    return torch.nn.Sequential(model[:5], *model[5:])


def test_the_copy_gives_the_same_probabilities_at_any_batch_size(model, images):
    fast, difference = accelerated(model, "0", images, "float32", 1e-4)
    assert difference < 1e-4
    with torch.no_grad():
        for count in (1, 3, 4):
            expected, found = model(images[:count]), fast(images[:count])
            assert torch.allclose(found, expected, atol=1e-4)


def test_hooks_on_the_layer_see_its_feature_maps(model, images):
    fast, _ = accelerated(model, "0", images, "bfloat16", 0.05)
    seen = []
    fast.get_submodule("0").register_forward_hook(lambda *args: seen.append(args[2]))
    fast(images)
    assert torch.allclose(seen[0], model[0](images), atol=0.05)


def test_a_layer_that_is_not_given_the_image_is_refused(model, images):
    wrong = torch.nn.Sequential(torch.nn.AvgPool2d(2), *model)
    with pytest.raises(ValueError, match="does '1' take the image itself"):
        accelerated(wrong, "1", images, "float32", 1e-9)


def test_an_unknown_precision_is_refused(model, images):
    with pytest.raises(ValueError, match=r"float32.*bfloat16.*'int8'"):
        accelerated(model, "0", images, "int8", 1)


_TWO_AND_A_SIGNAL = """
import faulthandler, os, signal
import torch
from benchmarks.acceleration import accelerated

faulthandler.enable()  # as pytest does: the stack for signals is its own, until OpenVINO's
models = [torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten()) for _ in range(2)]
images = torch.rand(2, 3, 8, 8)
first, second = (accelerated(model, "0", images, "float32", 1e-3)[0] for model in models)
del first
del second
signal.signal(signal.SIGUSR1, lambda *heard: print("heard"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal")
def test_a_signal_is_survived_once_two_of_them_are_gone():
    """With a `Core` each the process crashed, as the suite did in whatever came next."""
    pytest.importorskip("openvino", reason="needs the extra `bench`")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", _TWO_AND_A_SIGNAL]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "heard"


@pytest.mark.parametrize(
    "name",
    [
        "Ada-SISE",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("RISE", "SIDU", "SISE", "Score-CAM")),
    ],
)
def test_a_photographs_map_does_not_depend_on_the_precision(photos, tmp_path, name):
    """The real network: bfloat16's rounding of the masks' scores drowns in the sum over masks."""
    pytest.importorskip("openvino", reason="needs the extra `bench`")
    protocol = load_protocol("photos")
    bed = prepare(protocol, "efficientnet-lite0", tmp_path, photos / "panda", limit=1)
    bed = dataclasses.replace(bed, network=dataclasses.replace(bed.network, rise_masks=400))
    maps = []
    for scorer in (
        bed.model,
        accelerated(bed.model, "features", bed.pictures.images, "bfloat16", 0.2)[0],
    ):
        (method,) = find_methods(name)
        with opened(method, dataclasses.replace(bed, scorer=scorer)) as cam:
            maps.append(cam(bed.pictures.images, bed.pictures.classes).numpy().ravel())
    assert np.corrcoef(maps)[0, 1] > 0.99
