import numpy as np
import pytest
import torch

from benchmarks.accelerate import accelerated
from benchmarks.peers import RISE
from learnable_cam_plugin.photos import PhotoFolder, efficientnet_lite0

from ..conftest import tiny_network


@pytest.fixture
def model():
    pytest.importorskip("openvino", reason="needs the extra `bench`")
    model = tiny_network().eval()
    return torch.nn.Sequential(model[:5], *model[5:])


def test_the_copy_gives_the_same_probabilities_at_any_batch_size(model, images):
    fast = accelerated(model, "0", images, "float32", 1e-4)
    with torch.no_grad():
        for count in (1, 3, 4):
            expected, found = model(images[:count]), fast(images[:count])
            assert torch.allclose(found, expected, atol=1e-4)


def test_hooks_on_the_layer_see_its_feature_maps(model, images):
    fast = accelerated(model, "0", images, "bfloat16", 0.05)
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


def test_rises_map_of_a_photograph_does_not_depend_on_the_precision(photos):
    """The real network: bfloat16's rounding of the masks' scores drowns in the mean over masks."""
    pytest.importorskip("openvino", reason="needs the extra `bench`")
    model, normalization = efficientnet_lite0()
    x = PhotoFolder(photos / "panda", normalization)[0][None]
    common = {"normalization": normalization, "masks": 400, "progress": False}
    fast = accelerated(model, "features", x, "bfloat16", 0.05)
    rough = RISE(model, scorer=fast, **common)(x, None)
    exact = RISE(model, **common)(x, None)
    assert np.corrcoef(rough.ravel(), exact.ravel())[0, 1] > 0.999
