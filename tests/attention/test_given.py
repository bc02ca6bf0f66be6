"""A trained attention beside a model: its parameters are the user's, its model is watched."""

import pytest
import torch

from learnable_cam_plugin import CheckpointError, LCAMAttention, calibrate
from learnable_cam_plugin.attention import GivenAttention, condition
from learnable_cam_plugin.classifier import FrozenClassifier, bare

from ..conftest import tiny_network


def test_parameters_are_shared_and_all_else_is_its_own(tiny, images):
    trained = calibrate(tiny, ["4"], images)
    given = GivenAttention(tiny, trained)
    for own, theirs in zip(given.attention.parameters(), trained.parameters(), strict=True):
        assert own is theirs
    assert given.attention is not trained
    assert trained.origin is not None


def test_without_a_check_the_origin_is_dropped_from_the_copy_alone(tiny, images):
    trained = calibrate(tiny, ["4"], images)
    assert GivenAttention(tiny, trained, check=False).attention.origin is None
    assert trained.origin is not None


def test_layers_are_its_own_unless_named_and_one_that_fuses_reads_all_of_its_own(tiny, images):
    plain = LCAMAttention({"0": 6, "4": 8}, num_classes=5)
    assert list(GivenAttention(tiny, plain).layers) == ["0", "4"]
    assert GivenAttention(tiny, plain, [tiny[4]]).layers == {"4": tiny[4]}
    fused = GivenAttention(tiny, condition(tiny, ["0", "4"], images), [tiny[4]])
    assert list(fused.target_layers) == ["4"]
    assert list(fused.layers) == ["0", "4"]


def test_a_pass_refuses_a_model_that_was_changed_since(tiny, images):
    given = GivenAttention(tiny, calibrate(tiny, ["4"], images))
    classifier = FrozenClassifier(bare(tiny), given.layers)
    _, features, attention = given.read(classifier, images)
    assert attention is given.attention
    assert list(features) == ["4"]
    with torch.no_grad():
        tiny[8].weight.mul_(2)
    with pytest.raises(CheckpointError, match="made for"):
        given.read(classifier, images)


def test_another_model_is_refused_at_once(tiny, images):
    trained = calibrate(tiny, ["4"], images)
    with pytest.raises(CheckpointError):
        GivenAttention(tiny_network(seed=1), trained)
    GivenAttention(tiny_network(seed=1), trained, check=False)


def replaced(model):
    model[8] = torch.nn.Linear(8, 5)


def assigned(model):
    model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()}, assign=True)


def other_data(model):
    model[8].weight.data = torch.randn(5, 8)


@pytest.mark.parametrize("change", [replaced, assigned, other_data])
def test_so_it_does_where_a_tensor_or_a_module_is_another_one(change, tiny, images):
    given = GivenAttention(tiny, calibrate(tiny, ["4"], images))
    classifier = FrozenClassifier(bare(tiny), given.layers)
    given.read(classifier, images)
    change(tiny)
    with pytest.raises(CheckpointError, match="made for"):
        given.read(classifier, images)
