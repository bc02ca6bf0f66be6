"""torchvision's record is what its weights' own transforms and categories say."""

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from learnable_cam_plugin import load_classifier

NAME = "torchvision:mobilenet_v3_small"


def test_random_weights_have_the_librarys_record():
    loaded = load_classifier(NAME, "random", 7)
    preprocessing = models.MobileNet_V3_Small_Weights.DEFAULT.transforms()
    assert list(loaded.normalization.mean) == list(preprocessing.mean)
    assert list(loaded.normalization.std) == list(preprocessing.std)
    assert [loaded.side] == preprocessing.crop_size
    assert (loaded.class_names, loaded.source) == (None, NAME)
    assert loaded.model(torch.rand(1, 3, 64, 64)).shape == (1, 7)


def test_a_file_has_the_librarys_names_unless_its_head_is_another(tmp_path):
    model = load_classifier(NAME, "random").model
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    loaded = load_classifier(NAME, tmp_path / "w.safetensors")
    assert loaded.class_names[281] == "tabby"
    assert len(loaded.class_names) == 1000
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(loaded.model(x), model(x))
    with pytest.raises(ValueError, match=r"classifier.3.weight \(1000, 1024\), not \(7, 1024\)"):
        load_classifier(NAME, tmp_path / "w.safetensors", 7)


def test_pretrained_weights_come_from_its_own_cache(monkeypatch):
    """What torch.hub finds there is what the model gets; nothing is asked for."""
    state = models.mobilenet_v3_small(weights=None).state_dict()
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: dict(state)
    )
    loaded = load_classifier(NAME)
    assert loaded.class_names[281] == "tabby"
    assert all(torch.equal(v, state[k]) for k, v in loaded.model.state_dict().items())


def test_an_unknown_name_has_close_ones_and_no_other_tasks():
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        load_classifier("torchvision:resnet-50")
    with pytest.raises(ValueError, match="no classifier 'fcn_resnet50'"):
        load_classifier("torchvision:fcn_resnet50", "random")


def test_a_vision_transformer_that_starts_at_zero_tells_classes_apart():
    loaded = load_classifier("torchvision:vit_b_32", "random", 5)
    assert len(loaded.model(torch.rand(1, 3, 224, 224)).unique()) == 5
