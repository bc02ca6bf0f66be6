import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from learnable_cam_plugin import CheckpointError, LCAMAttention, load_attention
from learnable_cam_plugin.attention import Origin

from ..conftest import tiny_network


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 6),
    st.lists(st.integers(1, 5), min_size=2, max_size=3),
)
def test_raw_map_is_a_row_of_the_1x1_convolution(n, channels, num_classes, spatial):
    attention = LCAMAttention({"a": channels}, num_classes)
    features = torch.randn(n, channels, *spatial)
    classes = torch.randint(num_classes, (n,))
    (raw,) = attention({"a": features}, classes)
    kernel = attention.weights[0].view(num_classes, channels, *[1] * len(spatial))
    conv = F.conv2d if len(spatial) == 2 else F.conv3d
    every = conv(features, kernel, attention.biases[0])
    assert torch.allclose(raw, every[torch.arange(n), classes], atol=1e-5)
    pairs = torch.stack([classes, classes.flip(0)], 1)
    (several,) = attention({"a": features}, pairs)
    assert torch.allclose(several, every[torch.arange(n)[:, None], pairs], atol=1e-5)


def test_only_the_asked_rows_get_gradients():
    attention = LCAMAttention({"a": 4}, 10)
    attention({"a": torch.rand(2, 4, 3, 3)}, torch.tensor([3, 7]))[0].sum().backward()
    assert attention.weights[0].grad.abs().sum(1).nonzero().flatten().tolist() == [3, 7]


def test_k_maps_are_never_computed_for_one():
    """With 100,000 classes, one map's memory is that of one row: the output bounds what is made."""
    attention = LCAMAttention({"a": 2}, 100_000)
    made = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.untyped_storage().nbytes() > 4 * 200_000 + 64:
                made.append((func, out.shape))
            return out

    with torch.no_grad(), Watch():
        attention({"a": torch.rand(1, 2, 14, 14)}, torch.tensor([5]))
    assert made == []


def test_wrong_features_are_refused():
    attention = LCAMAttention({"a": 4}, 10)
    with pytest.raises(ValueError, match="covers the layers"):
        attention({"b": torch.rand(1, 4, 3, 3)}, torch.tensor([0]))
    with pytest.raises(ValueError, match="gives 5 channels"):
        attention({"a": torch.rand(1, 5, 3, 3)}, torch.tensor([0]))
    with pytest.raises(ValueError, match="at least one"):
        LCAMAttention({}, 3)


def make(model, name="4", channels=8, num_classes=5) -> LCAMAttention:
    attention = LCAMAttention({name: channels}, num_classes)
    attention.origin = Origin.of(model, recipe={"name": "l-cam-img"}, input_size=(3, 8, 8))
    return attention


def test_round_trip_through_a_file_a_folder_and_the_mixin(tiny, tmp_path):
    attention = make(tiny)
    attention.save(tmp_path / "a.safetensors")
    attention.save_pretrained(tmp_path / "folder")
    assert {p.name for p in (tmp_path / "folder").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    for loaded in (
        load_attention(tmp_path / "a.safetensors"),
        load_attention(str(tmp_path / "folder")),
        LCAMAttention.from_pretrained(tmp_path / "folder"),
        load_attention(attention),
    ):
        assert torch.equal(loaded.weights[0], attention.weights[0])
        assert torch.equal(loaded.biases[0], attention.biases[0])
        assert loaded.origin.architecture == "torch.nn.modules.container.Sequential"
        assert loaded.origin.recipe == {"name": "l-cam-img"}
        assert loaded.origin.versions["torch"] == torch.__version__.split("+")[0]
        loaded.check_model(tiny, ["4"])


def test_a_mismatched_model_is_refused_naming_both_sides(tiny):
    attention = make(tiny)
    with pytest.raises(CheckpointError, match=r"target layers are \['2'\].*layers \['4'\]"):
        attention.check_model(tiny, ["2"])
    with pytest.raises(
        CheckpointError, match=r"model is a Conv2d.* made for a Sequential: missing"
    ):
        attention.check_model(tiny[0], ["4"])
    with pytest.raises(CheckpointError, match="other shapes"):
        attention.check_model(tiny_network(num_classes=6), ["4"])
    other = tiny_network(seed=1)
    with pytest.raises(CheckpointError, match="other values"):
        attention.check_model(other, ["4"])
    attention.origin = None
    attention.check_model(other, ["4"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_same_model_in_another_precision_is_accepted(tiny, dtype):
    attention = make(tiny)
    attention.check_model(tiny.to(dtype), ["4"])


def test_what_is_no_attention_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="no attention at 'nobody/nothing'"):
        load_attention("nobody/nothing")
    with pytest.raises(FileNotFoundError):
        load_attention(tmp_path)
    with pytest.raises(FileNotFoundError, match="no attention at"):
        load_attention(tmp_path / "missing" / "a.safetensors")
    with pytest.raises(TypeError, match="got int"):
        load_attention(3)
