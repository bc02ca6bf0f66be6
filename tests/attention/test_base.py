"""A mechanism of one's own: found by name in a file, at any depth of subclassing."""

import pytest
import torch

from learnable_cam_plugin import (
    AttentionMechanism,
    CheckpointError,
    LCAMAttention,
    LearnableCAM,
    load_attention,
)
from learnable_cam_plugin.attention import MapSettings, condition, mechanisms


class Norms(AttentionMechanism):
    """The norm of the feature vector at each place, times a factor: it sees no class."""

    def __init__(self, channels, num_classes, factor=1.0):
        super().__init__(channels, num_classes)
        self.factor = factor
        self.scale = torch.nn.Parameter(torch.ones(()))

    def settings(self):
        return {"factor": self.factor}

    def forward(self, features, classes):
        return [self.factor * self.scale * maps.norm(dim=1) for maps in features.values()]


class LouderNorms(Norms):
    """A subclass of a subclass."""


def test_subclasses_of_subclasses_are_found_by_name(tmp_path, tiny, images):
    attention = LouderNorms({"4": 8}, 5, factor=3.0)
    with torch.no_grad():
        attention.scale.fill_(2.0)
    attention.save_pretrained(tmp_path / "mine")
    loaded = load_attention(tmp_path / "mine")
    assert type(loaded) is LouderNorms
    assert (loaded.factor, loaded.scale.item()) == (3.0, 2.0)
    with LearnableCAM(tiny, [tiny[4]], attention=loaded) as cam:
        assert cam(images).shape == (4, 20, 24)
    assert mechanisms(Norms) == {"Norms": Norms, "LouderNorms": LouderNorms}
    assert Norms.load(tmp_path / "mine" / "model.safetensors").factor == 3.0
    with pytest.raises(CheckpointError, match="holds a LouderNorms, not a LCAMAttention"):
        LCAMAttention.load(tmp_path / "mine" / "model.safetensors")


def test_a_mechanism_that_is_not_defined_is_named_with_the_way_out(tmp_path):
    kind = type("Vanished", (Norms,), {})
    kind({"4": 8}, 5).save(tmp_path / "a.safetensors")
    kind.__name__ = "SomethingElse"
    with pytest.raises(CheckpointError, match=r"holds a Vanished, .*defined, or imported, before"):
        load_attention(tmp_path / "a.safetensors")


def test_a_file_says_with_which_settings_it_was_made(tmp_path, tiny, images):
    """Every constant of the map is a setting: saved, and read again with the file."""
    changed = {"trust": 0.25, "brightness": 3.0, "steepness": 1.0, "certainty": 4.0}
    attention = condition(tiny, ["4"], images, **changed)
    plain = condition(tiny, ["4"], images)
    attention.save(tmp_path / "a.safetensors")
    loaded = load_attention(tmp_path / "a.safetensors")
    assert loaded.constants == MapSettings(**changed)
    assert loaded.settings().keys() >= vars(MapSettings()).keys()
    maps = []
    for one in (attention, loaded, plain):
        with LearnableCAM(tiny, [tiny[4]], attention=one) as cam:
            features = {"4": tiny.eval()[:5](images)}
            maps.append(cam.attention(features, torch.tensor([0, 1, 2, 3]))[0])
    assert torch.equal(maps[0], maps[1])
    assert not torch.allclose(maps[0], maps[2], atol=1e-2)
    with pytest.raises(TypeError, match="trusted"):
        condition(tiny, ["4"], images, trusted=1.0)
