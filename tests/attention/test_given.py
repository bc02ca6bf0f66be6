"""A trained attention beside a model: its parameters are the user's, its model is watched."""

import pytest
import torch
from safetensors.torch import save_file

from learnable_cam_plugin import (
    CheckpointError,
    LayerLearnableCam,
    LCAMAttention,
    LearnableCAM,
    calibrate,
)
from learnable_cam_plugin.attention import (
    GivenAttention,
    condition,
    shipped_attention,
    universal_attention,
)
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


def other_bias(model):
    model[8].bias = torch.nn.Parameter(torch.randn(5) * 3)


def half(model):
    model.half()
    model.float()


@pytest.mark.parametrize("change", [replaced, assigned, other_data, other_bias, half])
@pytest.mark.parametrize("trained", [False, True], ids=["universal", "conditioned, unchecked"])
def test_a_head_that_is_another_now_is_read_anew(tiny, images, change, trained):
    """Of an attention that may be used beside other weights: with the head as it is, not as it was
    when it was made."""
    tiny.eval()
    attention = (
        condition(tiny, ["0", "4"], images)
        if trained
        else universal_attention(tiny, None, images, trained=shipped_attention())
    )
    cam = LearnableCAM(tiny, attention=attention, check=not trained)
    layer = LayerLearnableCam(tiny, tiny[4], attention, check=not trained)
    before = cam.saliency(images)
    change(tiny)
    expected = LearnableCAM(tiny, attention=attention, check=not trained)
    assert torch.equal(cam.saliency(images), expected.saliency(images))
    raw = LayerLearnableCam(tiny, tiny[4], attention, check=not trained)
    assert torch.equal(layer.attribute(images, 1), raw.attribute(images, 1))
    if change is replaced:
        assert not torch.allclose(cam.saliency(images), before, atol=0.01)


def test_a_head_that_is_gone_is_said(tiny, images):
    attention = universal_attention(tiny, None, images, trained=shipped_attention())
    cam = LearnableCAM(tiny, attention=attention)
    tiny[8] = torch.nn.Sequential(torch.nn.Linear(8, 5))
    with pytest.raises(CheckpointError, match="reads the linear layer '8' of its classifier"):
        cam(images)


def test_a_linearised_head_is_of_its_classifier_alone(images, tmp_path):
    """Its rows are the classifier's, unlike the mechanism's own weights."""

    def network(seed):
        layers = [*tiny_network(seed=seed)[:5], torch.nn.Flatten(), torch.nn.Linear(8 * 10 * 12, 5)]
        return torch.nn.Sequential(*layers).eval()

    net, other = network(0), network(1)
    attention = universal_attention(net, None, images, trained=shipped_attention())
    assert attention.head is None
    attention.save_pretrained(tmp_path / "a")
    expected = LearnableCAM(net, attention=attention)(images)
    assert (LearnableCAM(net, attention=tmp_path / "a")(images) == expected).all()
    with pytest.raises(CheckpointError, match="another Sequential"):
        LearnableCAM(other, attention=tmp_path / "a")
    cam = LearnableCAM(net, attention=attention)
    net.load_state_dict(other.state_dict())
    with pytest.raises(CheckpointError, match="another Sequential"):
        cam(images)


def test_modes_are_the_users_too(tiny, images):
    attention = condition(tiny, ["0", "4"], images).train()
    cam = LearnableCAM(tiny, attention=attention)
    assert all(module.training for module in attention.modules())
    assert not any(module.training for module in cam.attention.modules())
    for own, theirs in zip(cam.attention.parameters(), attention.parameters(), strict=True):
        assert own is theirs


def test_the_folder_of_a_training_holds_its_attention(tiny, images, tmp_path):
    calibrate(tiny, ["4"], images).save_pretrained(tmp_path / "out" / "attention")
    cam = LearnableCAM(tiny, attention=tmp_path / "out")
    assert cam.attention.source.endswith("model.safetensors")
    with pytest.raises(FileNotFoundError, match="the path is empty"):
        LearnableCAM(tiny, attention="")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_another_models_folder_is_not_written_to(tiny, images, tmp_path, name):
    attention = calibrate(tiny, ["4"], images)
    if name == "model.safetensors":
        save_file({"weight": torch.ones(2)}, tmp_path / name)
    else:
        (tmp_path / name).write_text("{}")
    before = (tmp_path / name).read_bytes()
    with pytest.raises(FileExistsError, match=f"holds a {name} that is no attention's"):
        attention.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == before
    attention.save_pretrained(tmp_path / "own")
    attention.save_pretrained(tmp_path / "own")  # its own it may write again


def test_its_own_folder_without_its_file_is_written_to_again(tiny, images, tmp_path):
    """As a clone of a hub's repository has it, or one that was tidied up."""
    attention = calibrate(tiny, ["4"], images)
    for content in (None, b"", b"version https://git-lfs.github.com/spec/v1\n"):
        attention.save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        if content is not None:
            (tmp_path / "model.safetensors").write_bytes(content)
        attention.save_pretrained(tmp_path)
        assert LearnableCAM(tiny, attention=tmp_path)(images).shape == (4, 20, 24)
