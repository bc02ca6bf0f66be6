"""The frozen classifier: its clean pass, and that it is left as it was found."""

import pytest
import torch
from torch import nn

from learnable_cam_plugin import FrozenClassifier
from learnable_cam_plugin.classifier import predict

from ..conftest import UNIT, tiny_network


def test_a_clean_pass_gives_the_features_and_the_scores_of_eval_mode(images):
    model = tiny_network().train()
    classifier = FrozenClassifier.of(model, ["2", model[4]], UNIT)
    assert list(classifier.layers) == ["2", "4"]
    with torch.enable_grad():
        features, scores = classifier.clean_pass(images.clone().requires_grad_())
    assert all(module.training for module in model.modules())
    assert not scores.requires_grad
    assert not any(maps.requires_grad for maps in features.values())
    model.eval()
    with torch.no_grad():
        assert torch.equal(scores, model(images))
        assert torch.equal(features["4"], model[:5](images))
        p, classes = predict(model, images)
        assert torch.equal(classes, scores.argmax(1))
        assert torch.allclose(p, scores.softmax(1).amax(1))


def test_a_reshape_transform_arranges_tokens(images):
    net = nn.Sequential(nn.Flatten(2), nn.Flatten(1), nn.Linear(3 * 480, 2))
    with pytest.raises(ValueError, match="pass a reshape_transform"):
        FrozenClassifier.of(net, ["0"]).clean_pass(images)
    tokens = FrozenClassifier.of(net, ["0"], reshape_transform=lambda t: t.unflatten(2, (20, 24)))
    features, _ = tokens.clean_pass(images)
    assert torch.equal(features["0"], images)


def test_a_norm_in_the_head_keeps_its_statistics_in_training(images):
    norm = nn.BatchNorm1d(6)
    model = nn.Sequential(*tiny_network()[:8], nn.Linear(8, 6), norm, nn.ReLU(), nn.Linear(6, 5))
    model.train()
    model(images)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    classifier = FrozenClassifier.found(model, images)
    assert list(classifier.layers)[-1] == "11", "it is told apart by place"
    classifier.read(images)
    FrozenClassifier.of(model, ["11"]).read(images)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_it_is_held_and_left_as_it_was_found(images):
    model = tiny_network().train()
    model[1].eval()
    model[3].weight.requires_grad_(False)
    before = [(p.data_ptr(), p.requires_grad, p.stride()) for p in model.parameters()]
    flags = [module.training for module in model.modules()]
    classifier = FrozenClassifier.of(model, ["4"], UNIT)
    seen = []

    def interrupted():
        with classifier.held(torch.device("cpu")):
            seen.append(any(p.requires_grad for p in model.parameters()))
            seen.append(any(module.training for module in model.modules()))
            seen.append(not model[3].weight.is_contiguous(memory_format=torch.channels_last))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen == [False, False, False]
    assert [(p.data_ptr(), p.requires_grad, p.stride()) for p in model.parameters()] == before
    assert [module.training for module in model.modules()] == flags
    assert not any(module._forward_hooks for module in model.modules())


def test_errors_say_what_to_do(images):
    with pytest.raises(ValueError, match="no normalization was declared: pass normalization="):
        _ = FrozenClassifier.of(tiny_network(), ["4"]).pixels
    with pytest.raises(ValueError, match="returns two, for example"):
        FrozenClassifier.of(tiny_network(num_classes=1), ["4"]).clean_pass(images)
    with pytest.raises(ValueError, match="is not a module of Sequential"):
        FrozenClassifier.of(tiny_network(), ["layer4"])


def test_stages_of_one_grid_hide_no_finer_layer(images):
    """A stage that makes the grid coarse and one that keeps it look alike from outside."""

    def stage(*layers):
        return nn.Sequential(*layers)

    coarsening = stage(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU())
    keeping = stage(nn.Conv2d(6, 8, 1), nn.ReLU())
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    found = FrozenClassifier.found(nn.Sequential(coarsening, keeping, *head), images)
    assert list(found.layers) == ["0.0", "1"]
