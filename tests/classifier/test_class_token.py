"""Heads of a class token: attention of every layout, what follows it, and what is not linear."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from learnable_cam_plugin import FrozenClassifier, LearnableCAM
from learnable_cam_plugin.classifier import class_scores
from learnable_cam_plugin.classifier.class_token import ClassTokenHead, Projections
from learnable_cam_plugin.classifier.record import linear_of, record
from learnable_cam_plugin.classifier.spread import JoinedHead, spread_of

from ..networks import Attention, TimmViT, pictures, vit

IMAGES = pictures(3, 32)


def spread(model):
    runs, scores = record(model, IMAGES)
    return spread_of(runs, linear_of(runs, scores))


def parts(model):
    """The scores, and what the parts of the places add up to."""
    classifier = FrozenClassifier.found(model, IMAGES)
    (name,) = classifier.spreads
    outputs, features = classifier.read(IMAGES)
    scores = class_scores(outputs)
    maps = features[name]
    assert maps.shape[0] == 3
    assert maps.shape[2:] == (4, 4)
    assert maps.std((2, 3)).mean() > 1e-4 * maps.abs().mean()  # they are not one part only
    return scores, model.get_submodule(name)(maps.mean((2, 3))), maps


class Self(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.num_attention_heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))


class Output(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.dense = nn.Linear(width, width)


class Separate(nn.Module):
    """Attention as transformers writes it, before version 5 ("nested") and from then on; it gives a
    tuple. What it computes is `Attention`'s."""

    names = ("q_proj", "k_proj", "v_proj", "o_proj")

    def __init__(self, width, heads):
        super().__init__()
        if self.names[0] == "query":
            self.attention, self.output = Self(width, heads), Output(width)
        else:
            self.num_attention_heads = heads
            for name in self.names:
                self.add_module(name, nn.Linear(width, width))
        self.heads = heads

    def linears(self):
        if self.names[0] == "query":
            inner = self.attention
            return inner.query, inner.key, inner.value, self.output.dense
        return [getattr(self, name) for name in self.names]

    def forward(self, hidden_states):
        *linears, out = self.linears()
        q, k, v = (
            linear(hidden_states).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for linear in linears
        )
        return out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)), None


class Nested(Separate):
    names = ("query", "key", "value", "dense")


class Clip(Separate):
    names = ("q_proj", "k_proj", "v_proj", "out_proj")


class Block(nn.Module):
    """A block whose attention gives a tuple and is called by keyword, with a layer scale."""

    def __init__(self, block, attention):
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = (
            block.norm1, attention, block.norm2, block.mlp,
        )  # fmt: skip
        self.layer_scale1 = nn.Module()
        self.layer_scale1.lambda1 = block.ls1.gamma
        self.layer_scale1.forward = lambda x: x * self.layer_scale1.lambda1

    def forward(self, x):
        x = x + self.layer_scale1(self.attention(hidden_states=self.norm1(x))[0])
        return x + self.mlp(self.norm2(x))


@pytest.mark.parametrize("kind", [Separate, Nested, Clip])
def test_separate_linear_layers_give_the_maps_of_one_that_holds_all_three(kind):
    one, other = TimmViT().eval(), TimmViT().eval()
    for i, block in enumerate(other.blocks):
        separate = kind(16, 2)
        *linears, out = separate.linears()
        for linear, weight, bias in zip(
            linears, block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3), strict=True
        ):
            linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(bias)
        out.load_state_dict(block.attn.proj.state_dict())
        other.blocks[i] = Block(block, separate)
    assert isinstance(spread(other), ClassTokenHead)
    (scores, added, maps), (_, _, expected) = parts(other), parts(one)
    assert torch.allclose(added, scores, atol=1e-4)
    assert torch.allclose(maps, expected, atol=1e-4)


SMALL = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_labels": 6,
    "initializer_range": 0.3,
}


def from_transformers(name, **more):
    transformers = pytest.importorskip("transformers", reason="the extra `transformers`")
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SMALL, **more)
    return getattr(transformers, f"{name}ForImageClassification")(config).eval()


class Texts(nn.Module):
    """CLIP's image tower with an embedding a class: as CLIP does it, of length 1."""

    def __init__(self, scaled):
        super().__init__()
        transformers = pytest.importorskip("transformers", reason="the extra `transformers`")
        torch.manual_seed(0)
        shape = {k: v for k, v in SMALL.items() if k not in ("num_labels", "initializer_range")}
        config = transformers.CLIPVisionConfig(**shape, projection_dim=12, initializer_factor=5.0)
        self.tower, self.scaled = transformers.CLIPVisionModelWithProjection(config), scaled
        self.texts = nn.Linear(12, 6, bias=False)
        nn.init.normal_(self.tower.visual_projection.weight)

    def forward(self, images):
        embeddings = self.tower(pixel_values=images).image_embeds
        return self.texts(100 * F.normalize(embeddings, dim=1) if self.scaled else embeddings)


NETWORKS = {
    "ViT": (lambda: from_transformers("ViT"), ClassTokenHead),
    "DeiT": (lambda: from_transformers("DeiT"), ClassTokenHead),
    "DINOv2": (lambda: from_transformers("Dinov2"), JoinedHead),
    "DINOv2 with registers": (lambda: from_transformers("Dinov2WithRegisters"), JoinedHead),
    "CLIP": (lambda: Texts(scaled=True), ClassTokenHead),
    "CLIP, not scaled": (lambda: Texts(scaled=False), ClassTokenHead),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parts_of_transformers_networks_add_up_to_the_scores(name):
    make, kind = NETWORKS[name]
    model = make().eval()
    assert isinstance(spread(model), kind)
    scores, added, _ = parts(model)
    assert torch.allclose(added, scores, atol=1e-4 * float(scores.abs().max().clamp(min=1)))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("error")
def test_learnable_cam_needs_no_gradients_of_them(name):
    maps = LearnableCAM(NETWORKS[name][0]().eval())(IMAGES)
    assert maps.shape == (3, 32, 32)
    assert maps.min() >= 0
    assert maps.max() == 1


def test_a_projection_after_the_norm_is_part_of_the_way():
    """What is sent through a linear layer between, without its bias, is sent on."""
    model = TimmViT().eval()
    _, _, before = parts(model)
    torch.manual_seed(1)
    between = nn.Linear(16, 12)
    model.fc_norm, model.head = between, nn.Linear(12, 6)
    scores, added, maps = parts(model)
    assert torch.allclose(added, scores, atol=1e-4)
    with torch.no_grad():
        expected = between(before.flatten(2).mT).mT.unflatten(2, (4, 4))
    assert torch.allclose(maps, expected, atol=1e-4)


class Functional(nn.Module):
    def forward(self, x):
        return torch.tanh(x)


@pytest.mark.parametrize("after", [nn.Tanh(), nn.Sequential(nn.Linear(16, 16), nn.Tanh()),
                                   Functional(), nn.Sequential(Functional())])  # fmt: skip
def test_what_is_not_linear_after_the_class_token_is_not_told_apart(after):
    """As the pooler of transformers' ViT and torchvision's `representation_size`: the parts of
    what comes before it would be taken for parts of what comes after it."""
    model = TimmViT().eval()
    model.fc_norm = after
    assert spread(model) is None
    assert spread(vit(image_size=32, patch_size=8, hidden_dim=16, representation_size=16)) is None


class OtherScale(nn.Module):
    """A scale under another name: what is sent is not what is added."""

    def __init__(self):
        super().__init__()
        self.other = nn.Parameter(torch.rand(16) + 2)

    def forward(self, x):
        return x * self.other


class Gated(nn.Module):
    """A block whose sum is gated after the attention."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        x = x + self.block.attn(self.block.norm1(x))
        return x + self.block.mlp(self.block.norm2(x)) * x.sigmoid()


@pytest.mark.parametrize("which", ["scale", "gate"])
def test_what_is_not_simply_added_is_not_told_apart(which):
    model = TimmViT(scaled=False).eval()
    assert isinstance(spread(model), ClassTokenHead)
    if which == "scale":
        model.blocks[2].ls1 = OtherScale()
    else:
        model.blocks[2] = Gated(model.blocks[2])
    assert spread(model) is None


def test_other_modules_are_no_attention():
    assert Projections.of(nn.Linear(4, 4)) is None
    assert Projections.of(Attention(16, 2)) is not None
    without = Attention(16, 2)
    without.proj = nn.Identity()
    assert Projections.of(without) is None
    assert Projections.of(nn.MultiheadAttention(16, 2, kdim=8)) is None


class Softmax(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images).softmax(1)


def test_a_softmax_at_the_end_leaves_the_maps_as_they_are(tiny):
    for network, images in ((tiny.eval(), pictures(2, 32)), (TimmViT().eval(), IMAGES)):
        runs, scores = record(Softmax(network), images)
        assert linear_of(runs, scores) is not None
        maps = LearnableCAM(Softmax(network))(images)
        assert abs(maps - LearnableCAM(network)(images)).max() < 1e-4
