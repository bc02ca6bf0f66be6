"""What a head reads, told apart by place: the parts add up, and each is what it says it is."""

import pytest
import torch
from torch import nn

from learnable_cam_plugin import ExplainedClassifier, FrozenClassifier
from learnable_cam_plugin.classifier import StaleError
from learnable_cam_plugin.classifier.record import linear_of, record
from learnable_cam_plugin.classifier.spread import ClassTokenHead, PlacewiseHead, spread_of

from ..networks import PLACEWISE, Attention, Logits, TimmViT, network, pictures, vit


def spread(model, images):
    runs, scores = record(model, images)
    return spread_of(runs, linear_of(runs, scores))


def read(model, images):
    """The scores, the linear layer, and the maps of what it is given."""
    classifier = FrozenClassifier.found(model, images)
    (name,) = classifier.spreads
    scores, features = classifier.read(images)
    return scores, model.get_submodule(name), features[name]


def mean(maps):
    return maps.mean((2, 3))


class Net(nn.Module):
    """A convolution, pooling (`pool`), then a head of its own."""

    def __init__(self, *head, pool=mean, channels=8):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.pool = nn.Conv2d(3, channels, 5, 4), pool
        self.head = nn.Sequential(*head)
        for layer in self.head:
            if getattr(layer, "weight", None) is not None:
                nn.init.normal_(layer.weight)
        self.eval()

    def forward(self, x):
        return self.head(self.pool(self.conv(x)))


def kept(maps):
    return maps.mean((2, 3), keepdim=True)


HEADS = {
    "norm": lambda: Net(nn.LayerNorm(8), nn.Linear(8, 5)),
    "batch norm": lambda: Net(nn.BatchNorm1d(8), nn.Linear(8, 5)),
    "mlp": lambda: Net(nn.Linear(8, 9), nn.GELU(), nn.Dropout(), nn.Linear(9, 7), nn.Tanh(),
                       nn.Linear(7, 5)),
    "convolution": lambda: Net(nn.Conv2d(8, 9, 1), nn.Hardswish(), nn.Flatten(), nn.Linear(9, 5),
                               pool=kept),
    "functional relu": lambda: Net(nn.LayerNorm(8), nn.Linear(8, 5),
                                   pool=lambda maps: maps.relu().mean((2, 3))),
    "channels last": lambda: Net(nn.LayerNorm(8), nn.Linear(8, 5),
                                 pool=lambda maps: maps.permute(0, 2, 3, 1).mean((1, 2))),
}  # fmt: skip


def head_of(net, maps):
    """Its head, place by place, in loops."""
    rectified = "relu" in net.pool.__code__.co_names
    maps = maps.relu() if rectified else maps
    result = torch.zeros(len(maps), net.head[-1].in_features, *maps.shape[2:])
    for n in range(len(maps)):
        for i in range(maps.shape[2]):
            for j in range(maps.shape[3]):
                place = maps[n : n + 1, :, i : i + 1, j : j + 1]
                place = place if net.pool is kept else place[:, :, 0, 0]
                result[n, :, i, j] = net.head[:-1](place)[0]
    return result


def alike(maps, apart, atol):
    """Whether they are the same up to one vector an image, the same for all places."""
    one, other = (each - each.mean((2, 3), keepdim=True) for each in (maps, apart))
    return torch.allclose(one, other, atol=atol)


def is_applied_to_each_place(net, images, atol=1e-4):
    """Whether what is read is the head on each place's own vector."""
    with torch.no_grad():
        apart = head_of(net, net.conv(images))
    return alike(read(net, images)[2], apart, atol)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_applied_to_each_places_own_vector(images, name):
    net = HEADS[name]()
    assert isinstance(spread(net, images), PlacewiseHead)
    scores, linear, maps = read(net, images)
    assert torch.allclose(linear(maps.mean((2, 3))), scores, atol=1e-4)
    assert is_applied_to_each_place(net, images, atol=1e-5)


WIDE = {
    "mlp": lambda: Net(nn.Linear(160, 9), nn.Hardswish(inplace=True), nn.Dropout(), nn.Linear(9, 5),
                       channels=160),
    "convolution": lambda: Net(nn.Dropout(), nn.Conv2d(160, 9, 1), nn.GELU(), nn.Flatten(),
                               nn.Linear(9, 5), pool=kept, channels=160),
    "two hidden layers": lambda: Net(nn.Linear(160, 9), nn.ReLU(), nn.LayerNorm(9),
                                     nn.Linear(9, 7), nn.SiLU(), nn.Linear(7, 5), channels=160),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDE)
def test_of_many_channels_those_count_that_vary_most(images, name):
    """The others are as they are on average."""
    net = WIDE[name]()
    head = spread(net, images)
    assert isinstance(head, PlacewiseHead)
    assert len(head.watched) == 3
    scores, linear, maps = read(net, images)
    assert torch.allclose(linear(maps.mean((2, 3))), scores, atol=1e-4)
    with torch.no_grad():
        given = net.conv(images)
        for image in given:
            deviations = image.flatten(1).std(1)
            for channel in deviations.argsort()[: 160 - 128]:
                image[channel] = image[channel].mean()
        apart = head_of(net, given)
    assert alike(maps, apart, atol=1e-4)


def test_of_many_channels_of_which_few_vary_none_is_lost(images):
    net = WIDE["mlp"]()
    with torch.no_grad():
        net.conv.weight[::5] = 0
    assert is_applied_to_each_place(net, images)


@pytest.mark.parametrize(
    "first", [nn.LayerNorm(160), nn.Conv2d(160, 160, 1, groups=2), nn.ReLU()],
    ids=["norm", "groups", "activation"],
)  # fmt: skip
def test_heads_that_begin_otherwise_are_applied_to_all_channels(images, first):
    head = [nn.Flatten(), nn.Linear(160, 9), nn.Tanh(), nn.Linear(9, 5)]
    net = Net(first, *head, pool=kept if isinstance(first, nn.Conv2d) else mean, channels=160)
    assert len(spread(net, images).watched) == 2
    assert is_applied_to_each_place(net, images)


class SquaredReLU(nn.Module):
    """As timm writes it: its part does a part of what it does."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(x).square()


class NormAndActivation(nn.BatchNorm2d):
    """As timm writes it: a norm with parts."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.ReLU()
        nn.init.uniform_(self.running_mean)

    def forward(self, x):
        return self.act(super().forward(x))


@pytest.mark.parametrize("pool", [mean, kept])
def test_modules_of_a_head_that_do_more_than_their_parts(images, pool):
    inside = SquaredReLU() if pool is mean else NormAndActivation(8)
    net = Net(inside, nn.Flatten(), nn.Linear(8, 5), pool=pool)
    assert isinstance(spread(net, images), PlacewiseHead)
    assert not FrozenClassifier.found(net, images).one_place
    assert is_applied_to_each_place(net, images)


class LowRank(nn.Linear):
    """Adds to what its weight gives."""

    def forward(self, x):
        return super().forward(x) + x[:, :9].square()


def test_a_first_layer_that_does_more_than_its_weight_is_applied_whole(images):
    net = Net(LowRank(160, 9), nn.Linear(9, 5), channels=160)
    assert len(spread(net, images).watched) == 2
    assert is_applied_to_each_place(net, images)


@pytest.mark.parametrize("make", [lambda: Net(nn.LayerNorm(8), nn.Linear(8, 5)), TimmViT])
def test_a_head_that_reads_something_else_now_is_found_anew_or_refused(make):
    images = pictures(2, 32)
    model = make().eval()
    classifier = FrozenClassifier.found(model, images)
    explained = ExplainedClassifier(model, images)
    (old,) = classifier.spreads.values()
    if isinstance(model, Net):
        for each in (model, explained.model):
            each.pool = lambda maps: maps.amax((2, 3))
        with pytest.raises(StaleError, match="does not read what it did"):
            classifier.read(images)
    else:
        for each in (model, explained.model):
            nn.init.constant_(each.blocks[-1].attn.qkv.weight, 0.1)
            each.norm = nn.LayerNorm(16, elementwise_affine=False)
        _, features = classifier.read(images)
        (new,) = classifier.spreads.values()
        assert new is not old
        assert new.watched[1] is model.norm
        (name,) = classifier.spreads
        linear = model.get_submodule(name)
        assert torch.allclose(linear(features[name].mean((2, 3))), model(images), atol=1e-4)
    if isinstance(model, Net):
        with pytest.raises(ValueError, match="Make anew what explains it"):
            explained(images)


@pytest.mark.parametrize("name", [*PLACEWISE, "vit"])
def test_the_parts_add_up_to_the_scores(name):
    scores, linear, maps = read(network(name), pictures())
    assert torch.allclose(linear(maps.mean((2, 3))), scores, atol=1e-4)
    assert maps.std((2, 3)).mean() > 1e-3 * maps.abs().mean()  # they are not one part only


def test_densenets_own_relu_is_seen():
    model, images = network("densenet121"), pictures()
    head = spread(model, images)
    assert head.rectified
    assert head.watched == (model.features, model.classifier)
    _, _, maps = read(model, images)
    with torch.no_grad():
        assert torch.allclose(maps, model.features(images).relu(), atol=1e-5)


class TokensFirst(nn.Module):
    """Blocks of tokens (T, N, C), a norm of the class token alone, as CLIP's image encoder."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.token = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, 1, 16))
        self.norms = nn.ModuleList([nn.LayerNorm(16) for _ in range(2)])
        self.attentions = nn.ModuleList([nn.MultiheadAttention(16, 2) for _ in range(2)])
        self.ln_post, self.head = nn.LayerNorm(16), nn.Linear(16, 6)

    def forward(self, x):
        patches = self.patches(x).flatten(2).permute(2, 0, 1)
        tokens = torch.cat([self.token.expand(-1, len(x), -1), patches])
        for norm, attention in zip(self.norms, self.attentions, strict=True):
            given = norm(tokens)
            tokens = tokens + attention(given, given, given)[0]
        return self.head(self.ln_post(tokens[0]))


VITS = {
    "torchvision": lambda: vit(image_size=32, patch_size=8, hidden_dim=16),
    "timm": TimmViT,
    "timm, without layer scale": lambda: TimmViT(scaled=False),
    "timm, with five extra tokens": lambda: TimmViT(extra=5),
    "tokens first": TokensFirst,
    "in a wrapper": lambda: Logits(TimmViT()),
}


@pytest.mark.parametrize("kind", VITS)
def test_a_class_tokens_parts_add_up_to_the_scores(kind):
    model, images = VITS[kind]().eval(), pictures(3, 32)
    assert isinstance(spread(model, images), ClassTokenHead)
    scores, linear, maps = read(model, images)
    assert maps.shape == (3, 16, 4, 4)
    assert torch.allclose(linear(maps.mean((2, 3))), scores, atol=1e-4)


def attended(norm, attention, tokens):
    """(N, T, C): what each token sends to the first through an attention layer, in loops."""
    if isinstance(attention, nn.MultiheadAttention):
        qkv, bias, out = attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight
    else:
        qkv, bias, out = attention.qkv.weight, attention.qkv.bias, attention.proj.weight
    width = tokens.shape[2]
    size, result = width // attention.num_heads, torch.zeros_like(tokens)
    for n, given in enumerate(norm(tokens)):
        q, k, v = (given @ qkv.T + bias).split(width, 1)
        for head in range(attention.num_heads):
            own = slice(head * size, (head + 1) * size)
            shares = (k[:, own] @ q[0, own] / size**0.5).softmax(0)
            for t, share in enumerate(shares):
                result[n, t] += out[:, own] @ (share * v[t, own])
    return result


@pytest.mark.parametrize("kind", ["torchvision", "timm", "timm, without layer scale"])
def test_each_patchs_part_is_what_it_sends_to_the_class_token(kind):
    """Removing what one patch sends, with the last norm's deviation held, changes the scores by
    its part, up to what all patches have in common."""
    model, images = VITS[kind]().eval(), pictures(2, 32)
    with torch.no_grad():
        if kind == "torchvision":
            tokens = model._process_input(images)
            tokens = torch.cat([model.class_token.expand(2, -1, -1), tokens], 1)
            tokens = model.encoder.layers[:2](tokens + model.encoder.pos_embedding)
            last, norm = model.encoder.layers[2], model.encoder.ln
            sent = attended(last.ln_1, last.self_attention, tokens)
        else:
            patches = model.patch_embed(images).flatten(2).mT
            tokens = model.blocks[:2](torch.cat([model.tokens.expand(2, -1, -1), patches], 1))
            last, norm = model.blocks[2], model.norm
            sent = last.ls1(attended(last.norm1, last.attn, tokens))
        before = last(tokens)[:, 0]
        deviation = (before.var(1, correction=0) + norm.eps).sqrt()[:, None]
        scores, linear, maps = read(model, images)
        parts = linear(maps.flatten(2).mT) / 16
        common = []
        for patch in range(16):
            without = before - sent[:, 1 + patch]
            normed = (without - without.mean(1, keepdim=True)) / deviation
            change = scores - linear(normed * norm.weight + norm.bias)
            common.append(change - parts[:, patch])
        assert all(torch.allclose(one, common[0], atol=1e-5) for one in common)
    assert parts.std(1).min() > 1e-4


def test_unknown_heads_are_none(images):
    def largest(maps):
        return maps.amax((2, 3))

    assert spread(Net(nn.LayerNorm(8), nn.Linear(8, 5), pool=largest), images) is None
    assert spread(Net(nn.Flatten(), nn.Linear(8 * 20, 5), pool=lambda m: m), images) is None
    assert spread(TimmViT(extra=3).eval(), pictures(2, 32)) is None  # no grid has 19 places

    class Residual(nn.Module):
        """A head whose parts are not one after another."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.inner, self.fc = nn.Conv2d(3, 8, 5), nn.Linear(8, 8), nn.Linear(8, 5)

        def forward(self, x):
            pooled = self.conv(x).mean((2, 3))
            return self.fc(pooled + self.inner(pooled))

    assert spread(Residual(), images) is None


class Windowed(Attention):
    """It has the names of timm's attention, and works otherwise."""

    def forward(self, x):
        return super().forward(x.flip(1)).flip(1) * 2


class Nameless(Attention):
    """timm's names, without the number of heads."""

    def __init__(self, width, heads):
        super().__init__(width, heads)
        self.many = heads
        del self.num_heads

    def forward(self, x):
        self.num_heads = self.many
        try:
            return super().forward(x)
        finally:
            del self.num_heads


@pytest.mark.parametrize("attention", [Windowed, Nameless])
def test_attention_that_only_has_the_names_is_not_trusted(attention):
    assert spread(TimmViT(attention=attention).eval(), pictures(2, 32)) is None


class Repeated(Net):
    """As AlexNet: adaptive pooling to 6 x 6 places, which it makes of 1 x 1 too, then flattened."""

    def __init__(self):
        super().__init__(nn.Linear(8 * 36, 7), nn.ReLU(), nn.Linear(7, 5), pool=kept)
        self.avgpool = nn.AdaptiveAvgPool2d(6)

    def forward(self, x):
        return self.head(self.avgpool(self.pool(self.conv(x))).flatten(1))


def test_maps_that_are_made_after_the_pooling_are_not_what_is_pooled(images):
    net = Repeated()
    assert spread(net, images).watched[0] is net.conv
    net.pool = lambda maps: maps.amax((2, 3), keepdim=True)
    assert spread(net, images) is None
