"""The mechanism that all classes share: its map, its file, its start, classes it never saw."""

import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.nn import functional as F

from learnable_cam_plugin import (
    CheckpointError,
    ConditionedAttention,
    InputLearnableCam,
    LayerLearnableCam,
    LCAMAttention,
    LearnableCAM,
    condition,
    load_attention,
)
from learnable_cam_plugin.saliency import min_max

from ..conftest import tiny_network

LAYERS = ["2", "4"]


def trained_like(model, images, seed=3):
    """An attention whose last convolution is not small: as after some training."""
    attention = condition(model, LAYERS, images, seed=seed)
    with torch.no_grad():
        attention.out.weight.mul_(20)
        attention.shape.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(seed))
    return attention


def independently(attention, model, images, classes):
    """The map of the docstring, written anew, an image at a time."""
    with torch.no_grad():
        early = model[:3](images)
        last = model[:5](images)
        weight, bias = model[-1].weight, model[-1].bias
        maps = []
        for a, b, y in zip(early, last, classes, strict=True):
            p = (weight @ b.mean((1, 2)) + bias).softmax(0)
            g = weight[y] - sum(p[k] * weight[k] for k in range(len(p)))
            unit = g / g.norm()
            evidence = [(weight[y][:, None, None] * b).sum(0), (unit[:, None, None] * b).sum(0)]
            relative = [(e - e.mean()) / (e.std(unbiased=False) + 1e-3) for e in evidence]
            strength = (g[:, None, None] * b).sum(0)
            planes = torch.stack([*relative, (evidence[0] - 2) / 10, strength / 10])
            product = unit[:, None, None] * b
            product = product / (product.square().mean().sqrt() + 1e-4)
            total = F.conv2d(planes[None], attention.evidence.weight)
            total = total + F.conv2d(product[None], attention.products.weight)
            for maps_of, conv in ((b, attention.layers[1]), (a, attention.layers[0])):
                unit_maps = maps_of / (maps_of.square().mean().sqrt() + 1e-4)
                total = total + conv(unit_maps[None])
            hidden = F.relu(attention.mix(F.relu(total)))
            trust = 1.0 if attention.training else 0.5
            c = trust * attention.out(hidden)[0, 0] + relative[1]
            z = (c - c.mean()) / (c.std(unbiased=False) + 1e-3)
            pooled = hidden[0].mean((1, 2))
            pooled = (pooled - pooled.mean()) / (pooled.var(unbiased=False) + 1e-5).sqrt()
            pooled = torch.cat([pooled, 10 * p[y : y + 1] - 5])
            steepness, brightness = attention.shape(pooled)
            steepness = 2 * torch.exp(1.2 * torch.tanh(steepness))
            maps.append(torch.sigmoid(steepness * z + 5 * torch.tanh(brightness / 2)))
    return torch.stack(maps)


def test_the_map_is_the_one_described(tiny, images):
    tiny.eval()
    attention = trained_like(tiny, images)
    classes = torch.tensor([0, 4, 2, 2])
    with LearnableCAM(tiny, [tiny[4]], attention=attention) as cam:
        cam(images, [ClassifierOutputTarget(int(c)) for c in classes])
        raw = attention(
            {"2": tiny[:3](images), "4": tiny[:5](images)}, classes
        )[0]  # fmt: skip
    assert torch.allclose(raw, independently(attention, tiny, images, classes), atol=1e-4)
    # in training what is learned counts in full
    attention.train()
    in_training = attention({"2": tiny[:3](images), "4": tiny[:5](images)}, classes)[0]
    expected = independently(attention, tiny, images, classes)
    assert torch.allclose(in_training, expected, atol=1e-4)
    assert not torch.allclose(in_training, raw, atol=1e-2)


def test_it_starts_as_the_evidence_of_the_head(tiny, images):
    tiny.eval()
    attention = condition(tiny, ["4"], images)
    classes = tiny(images).argmax(1)
    with torch.no_grad():
        last, p = tiny[:5](images), tiny(images).softmax(1)
        weight = tiny[-1].weight
        against = weight[classes] - p @ weight
        classic = torch.einsum("nchw,nc->nhw", last, against)
        raw = attention({"4": last}, classes)[0]
    for ours, theirs in zip(raw, classic, strict=True):
        stacked = torch.stack([ours.flatten(), theirs.flatten()])
        assert float(torch.corrcoef(stacked)[0, 1]) > 0.8


def test_one_forward_pass_any_target_layer_and_captum_agree(tiny, images):
    tiny.eval()
    attention = trained_like(tiny, images)
    passes = []
    handle = tiny.register_forward_hook(lambda *_: passes.append(1))
    targets = [ClassifierOutputTarget(c) for c in (1, 2, 3, 0)]
    with LearnableCAM(tiny, [tiny[4]], attention=attention) as cam:
        one = cam(images, targets)
        assert len(passes) == 1
    handle.remove()
    with LearnableCAM(tiny, [tiny[2], tiny[4]], attention=attention) as cam:
        assert (cam(images, targets) == one).all()
    target = [1, 2, 3, 0]
    full = InputLearnableCam(tiny, tiny[4], attention).attribute(images, target=target)
    assert torch.allclose(full[:, 0], torch.from_numpy(one), atol=1e-6)
    layer = LayerLearnableCam(tiny, tiny[4], attention).attribute(images, target=target)
    assert layer.shape == (4, 1, 10, 12)
    assert 0 < layer.min() < layer.max() < 1
    # the library's composers, on the channels before the last sum
    with LearnableCAM(tiny, [tiny[4]], attention=attention) as cam:
        assert cam(images, targets, eigen_smooth=True).shape == one.shape
    # its map is no sum over the layer's channels
    with pytest.raises(ValueError, match="makes one map of"):
        LayerLearnableCam(tiny, tiny[4], attention).attribute(
            images, target=target, attr_dim_summation=False
        )


def test_the_size_does_not_depend_on_the_number_of_classes(tmp_path, images):
    sizes = {}
    for classes in (5, 500):
        model = tiny_network(classes)
        path = tmp_path / f"{classes}.safetensors"
        condition(model, LAYERS, images).save(path)
        sizes[classes] = path.stat().st_size
    assert abs(sizes[5] - sizes[500]) < 1024  # the sample of the head in the record


def test_a_file_is_read_with_the_model_and_only_with_it(tmp_path, tiny, images):
    attention = trained_like(tiny, images)
    attention.save_pretrained(tmp_path / "a")
    loaded = load_attention(tmp_path / "a")
    assert isinstance(loaded, ConditionedAttention)
    features = {"2": tiny.eval()[:3](images), "4": tiny[:5](images)}
    classes = torch.tensor([0, 1, 2, 3])
    with pytest.raises(ValueError, match="attach"):
        loaded(features, classes)
    loaded.attach(tiny, ["4"])
    assert torch.equal(loaded(features, classes)[0], attention(features, classes)[0])
    with pytest.raises(CheckpointError, match="other values"):
        load_attention(tmp_path / "a").attach(tiny_network(seed=1), ["4"])
    with pytest.raises(CheckpointError, match="not a LCAMAttention"):
        LCAMAttention.load(tmp_path / "a" / "model.safetensors")


def test_a_head_of_another_shape_is_calibrated_and_saved(tmp_path, images):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(24, 7), nn.ReLU(), nn.Linear(7, 4),
    ).eval()  # fmt: skip
    attention = condition(model, ["1"], images)
    assert attention.head is None
    attention.save(tmp_path / "a.safetensors")
    loaded = load_attention(tmp_path / "a.safetensors")
    features, classes = {"1": model[:2](images)}, torch.tensor([0, 1, 2, 3])
    assert torch.equal(loaded(features, classes)[0], attention(features, classes)[0])
    assert not torch.equal(
        min_max(loaded(features, classes)[0]), min_max(loaded(features, classes.flip(0))[0])
    )


def test_errors_name_what_is_missing(tiny, images):
    attention = condition(tiny, LAYERS, images)
    with pytest.raises(ValueError, match=r"feature maps of \['2'\] too"):
        attention({"4": torch.rand(1, 8, 5, 5)}, torch.tensor([0]))
    with pytest.raises(ValueError, match="9 channels"):
        attention({"2": torch.rand(1, 9, 5, 5), "4": torch.rand(1, 8, 5, 5)}, torch.tensor([0]))
    with pytest.raises(CheckpointError, match="no map for"):
        LearnableCAM(tiny, [tiny[0]], attention=attention)
    with pytest.raises(ValueError, match="5 classes"):
        attention.read_head(torch.rand(6, 8), None)
    volume = {"2": torch.rand(1, 6, 2, 5, 5), "4": torch.rand(1, 8, 2, 5, 5)}
    with pytest.raises(ValueError, match="l-cam-img"):
        attention(volume, torch.tensor([0]))


def test_the_classes_may_have_any_shape_of_image_and_precision(tiny):
    tiny.eval()
    for size in ((20, 24), (9, 31)):
        images = torch.rand(2, 3, *size)
        attention = condition(tiny, LAYERS, images)
        with LearnableCAM(tiny, [tiny[4]], attention=attention) as cam:
            assert cam(images).shape == (2, *size)
    half = tiny.bfloat16()
    attention = condition(half, LAYERS, images.bfloat16())
    with LearnableCAM(half, [half[4]], attention=attention) as cam:
        maps = cam(images.bfloat16())
    assert maps.dtype.name == "float32"
    assert 0 <= maps.min() <= maps.max() <= 1
