"""timm's record is its `pretrained_cfg`."""

import pytest
import torch
from safetensors.torch import save_file

from learnable_cam_plugin import load_classifier
from learnable_cam_plugin.loading import from_timm

timm = pytest.importorskip("timm", reason="the extra `timm`")
NAME = "timm:test_vit"


def test_random_weights_have_the_librarys_record():
    loaded = load_classifier(NAME, "random", 7)
    record = timm.get_pretrained_cfg("test_vit")
    assert loaded.normalization.mean == tuple(record.mean)
    assert loaded.normalization.std == tuple(record.std)
    assert loaded.side == record.input_size[-1]
    assert loaded.class_names is None
    assert loaded.model(torch.rand(1, 3, loaded.side, loaded.side)).shape == (1, 7)


def test_a_tag_is_part_of_a_name():
    loaded = load_classifier("timm:convnext_atto.d2_in1k", "random", 3)
    assert loaded.source == "timm:convnext_atto.d2_in1k"


def test_a_file_has_the_classes_of_what_it_was_trained_on(tmp_path):
    model = load_classifier(NAME, "random").model
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    loaded = load_classifier(NAME, tmp_path / "w.safetensors")
    assert loaded.class_names[281].startswith("tabby")
    assert len(loaded.class_names) == model.num_classes


def test_pretrained_weights_are_those_of_the_hubs_file(monkeypatch, tmp_path):
    state = load_classifier(NAME, "random").model.state_dict()
    save_file(state, tmp_path / "model.safetensors")
    asked = []

    def hub_file(source, repository, name):
        asked.append((source, repository, name))
        return str(tmp_path / name)

    monkeypatch.setattr(from_timm, "hub_file", hub_file)
    loaded = load_classifier(NAME)
    assert asked == [(NAME, timm.get_pretrained_cfg("test_vit").hf_hub_id, "model.safetensors")]
    assert all(torch.equal(v, state[k]) for k, v in loaded.model.state_dict().items())


def test_unknown_names_and_those_without_weights_have_close_ones():
    with pytest.raises(ValueError, match="no model 'convnxt_tiny'; did you mean 'convnext_tiny'"):
        load_classifier("timm:convnxt_tiny")
    without = next(
        name
        for name in timm.list_models()
        if (record := timm.get_pretrained_cfg(name)) is None or not record.has_weights
    )
    with pytest.raises(ValueError, match=f"no pretrained weights of '{without}'"):
        load_classifier(f"timm:{without}")
