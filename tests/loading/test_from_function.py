"""A function makes the network: alone, with its normalisation, or with all that is known."""

import pytest
import torch
from safetensors.torch import save_file

from learnable_cam_plugin import load_classifier

from . import networks

HERE = "tests.loading.networks"


def test_a_model_alone_has_no_normalisation():
    loaded = load_classifier(f"{HERE}:tiny", num_classes=3)
    assert (loaded.normalization, loaded.class_names, loaded.side) == (None, None, 224)
    assert loaded.model(torch.rand(1, 3, 32, 32)).shape == (1, 3)
    assert not loaded.model.training


def test_a_normalisation_and_a_whole_record_are_taken():
    assert load_classifier(f"{HERE}:with_normalization").normalization == networks.HALF
    loaded = load_classifier(f"{HERE}:loaded")
    assert (loaded.side, loaded.class_names) == (96, ("cat", "dog"))
    assert loaded.source == f"{HERE}:loaded"


def test_a_file_gives_the_weights(tmp_path):
    state = networks.tiny_network(seed=5).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    loaded = load_classifier(f"{HERE}:tiny", tmp_path / "w.safetensors")
    assert all(torch.equal(v, state[k]) for k, v in loaded.model.state_dict().items())


def test_what_is_wrong_is_said():
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load_classifier("no_such_package:net")
    with pytest.raises(ValueError, match=f"{HERE} has no function 'tinny'; did you mean 'tiny'"):
        load_classifier(f"{HERE}:tinny")
    with pytest.raises(TypeError, match=r"gives a str; a torch.nn.Module is needed"):
        load_classifier(f"{HERE}:text")
    with pytest.raises(ValueError, match="makes its own weights"):
        load_classifier(f"{HERE}:tiny", "random")
