"""The layers that one run shows are those that an expert would name."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from learnable_cam_plugin import ExplainedClassifier, FrozenClassifier, LearnableCAM
from learnable_cam_plugin.classifier.find import find_layers
from learnable_cam_plugin.classifier.record import record

from ..conftest import tiny_network
from ..networks import LAYERS, Attention, Logits, Normalise, TimmViT, network, pictures, vit


def layers(model, images, named=()):
    return list(FrozenClassifier.found(model, images, named).layers)


@pytest.mark.parametrize("name", LAYERS)
def test_they_are_those_that_an_expert_would_name(name):
    assert layers(network(name), pictures()) == LAYERS[name]


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "convnext_tiny", "mobilenet_v2"])
def test_the_grid_of_the_one_is_twice_that_of_the_other(name):
    classifier = FrozenClassifier.found(network(name), pictures(side=96))
    _, features = classifier.read(pictures(side=96))
    assert [tuple(maps.shape[2:]) for maps in features.values()] == [(6, 6), (3, 3)]


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "swin_t", "vit", "squeezenet1_1"])
def test_wrappers_hide_none(name):
    model, images = network(name), pictures()
    assert layers(nn.DataParallel(model), images) == LAYERS[name]
    assert layers(nn.Sequential(Normalise(), model), images) == LAYERS[name]
    inside = [f"network.{layer}" for layer in LAYERS[name]]
    assert layers(Logits(model), images) == inside
    assert layers(nn.Sequential(Normalise(), Logits(model)), images) == inside


def test_of_small_networks(images):
    assert layers(tiny_network(), images) == ["4"]  # one grid throughout, and no blocks

    def stage(inputs, outputs):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU())

    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    stages = [stage(3, 4), stage(4, 6), stage(6, 8)]
    assert layers(nn.Sequential(*stages, *head), images) == ["1", "2"]
    # more than four times the side is too far from what the head reads
    far = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 5, 5), *head)
    assert layers(far, images) == ["1"]
    # of a module in a module the outermost that gives the same, as experts name stages
    deep = nn.Sequential(nn.Sequential(nn.Sequential(*stages)), *head)
    assert layers(deep, images) == ["0.0.1", "0"]


def test_a_module_that_runs_twice_counts_with_its_last_run(images):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = (nn.Conv2d(i, 8, 3, 2, 1) for i in (3, 8))
            self.act, self.fc = nn.ReLU(), nn.Linear(8, 5)

        def forward(self, x):
            x = self.act(self.first(x))
            return self.fc(self.act(self.second(x)).mean((2, 3)))

    assert layers(Shared(), images) == ["first", "act"]


class Thrifty(nn.Module):
    """One activation, or one dropout, for the maps and for the head, as tutorials write it; or
    several, of the same weights."""

    def __init__(self, kind, shared):
        super().__init__()
        torch.manual_seed(0)
        self.c1, self.c2 = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 2, 1)
        self.pool, self.kind = nn.AdaptiveAvgPool2d(1), kind
        self.hidden = nn.Conv2d(8, 12, 1) if kind == "convolution" else nn.Linear(8, 12)
        self.fc = nn.Linear(8 if kind in ("activation", "dropout") else 12, 5)
        make = nn.Dropout if kind == "dropout" else nn.ReLU
        self.again = make()
        self.once = self.again if shared else make()

    def forward(self, x):
        x = self.pool(self.again(self.c2(self.c1(x).relu())))
        if self.kind == "convolution":
            return self.fc(self.once(self.hidden(x)).flatten(1))
        x = x.flatten(1)
        return self.fc(self.once(x if self.kind in ("activation", "dropout") else self.hidden(x)))


@pytest.mark.parametrize("kind", ["hidden", "convolution", "activation", "dropout"])
def test_a_module_that_serves_the_maps_and_the_head_hides_neither(kind, images):
    """The maps are those of the same network with a module for each."""
    shared, apart = (Thrifty(kind, shared).eval() for shared in (True, False))
    found, expected = (LearnableCAM(model)(images) for model in (shared, apart))
    assert found.std() > 0.05
    assert abs(found - expected).max() < 1e-5
    named = LearnableCAM(shared, [shared.c1])(images)
    assert named.shape == found.shape


@pytest.mark.parametrize("name", ["pool", "fc"])
def test_a_pooling_or_the_head_itself_stands_for_no_finer_layer(images, name):
    """What is named has one place, or none: it is explained as where nothing is named."""
    net = Thrifty("activation", False).eval()
    found, expected = (
        LearnableCAM(net, named)(images) for named in ([net.get_submodule(name)], None)
    )
    assert abs(found - expected).max() < 1e-6


def test_scores_of_several_passes_are_told(images):
    class Augmented(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return (self.model(x) + self.model(x.flip(3))) / 2

    with pytest.warns(UserWarning, match="runs its layer 'model.4' 2 times.*the last run"):
        layers(Augmented(tiny_network()), images)


def test_a_module_of_two_names_is_known_by_both(images):
    class Aliased(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = tiny_network()
            self.target = self.body[2]

        def forward(self, x):
            return self.body(x)

    expected = layers(Aliased(), images, ["body.2"])
    assert "body.2" in expected
    assert layers(Aliased(), images, ["target"]) == expected


def test_scores_that_are_not_a_row_an_image_are_refused(images):
    class Squeezed(nn.Sequential):
        def forward(self, x):
            return super().forward(x).squeeze()

    with pytest.raises(ValueError, match=r"returns \(5,\) for 1 images.*a row an image"):
        layers(Squeezed(*tiny_network()), images[:1])


@pytest.mark.parametrize(
    ("name", "named", "expected"),
    [
        ("resnet18", ["layer2"], ["layer2", "layer4"]),
        ("resnet18", ["layer4"], ["layer3", "layer4"]),
        ("resnet18", ["layer4.1"], ["layer3", "layer4.1"]),  # the same maps, by another name
        ("resnet18", ["layer3", "layer4"], ["layer3", "layer4"]),
        ("resnet18", ["layer2", "layer3"], ["layer2", "layer3", "layer4"]),
        # the customary layer is as coarse as what the head reads: the finer one stays
        ("densenet121", ["features"], ["features.denseblock3", "classifier"]),
        ("convnext_tiny", ["features.7"], ["features.5", "classifier.2"]),
        ("swin_t", ["features.7"], ["features.5", "permute"]),
        # of one grid throughout, what is named is read
        ("vit", ["encoder.layers.encoder_layer_2.ln_1"],
         ["encoder.layers.encoder_layer_2.ln_1", "heads.head"]),
        ("vit", ["heads.head"], ["encoder.layers.encoder_layer_1", "heads.head"]),
    ],
)  # fmt: skip
def test_layers_that_are_named(name, named, expected):
    assert layers(network(name), pictures(), named) == expected


@pytest.mark.parametrize("name", ["swin_t", "vit"])
def test_a_reshape_transform_is_for_the_layers_that_are_named(name):
    """Those that are found are arranged by themselves."""
    model, images = network(name), pictures()

    def transform(output):
        return (
            output.permute(0, 3, 1, 2)
            if name == "swin_t"
            else output[:, 1:].mT.unflatten(2, (4, 4))
        )

    named = [] if name == "swin_t" else ["encoder.layers.encoder_layer_2.ln_1"]
    for chosen in ([], named, ["norm"] if name == "swin_t" else named):
        with_it = FrozenClassifier.found(model, images, chosen, None, transform).read(images)[1]
        without = FrozenClassifier.found(model, images, chosen).read(images)[1]
        assert with_it.keys() == without.keys()
        assert all(torch.equal(with_it[layer], without[layer]) for layer in without)


class Separate(Attention):
    """Attention whose parts are not known: three linear layers, as Hugging Face has them."""

    def __init__(self, width, heads):
        super().__init__(width, heads)
        del self.qkv, self.proj
        self.query, self.key, self.value, self.dense = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        query, key, value = (
            part(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.dense(attended.transpose(1, 2).flatten(2))


def test_a_class_token_through_attention_of_another_kind(images):
    """What the last block does to the patches is not read: the block before it is the last."""
    model, images = TimmViT(attention=Separate).eval(), pictures(2, 32)
    assert layers(model, images) == ["blocks.1"]
    assert layers(model, images, ["blocks.2.norm1"]) == ["blocks.1", "blocks.2.norm1"]
    assert layers(model, images, ["blocks.0", "blocks.1"]) == ["blocks.0", "blocks.1"]


def test_tokens_that_make_no_grid(images):
    """Three extra tokens: which of the 19 are places is not known."""
    model, images = TimmViT(extra=3).eval(), pictures(2, 32)
    with pytest.raises(ValueError, match="gives 19 tokens, 4 x 4 of patches and 3 others"):
        layers(model, images)
    named = ["blocks.2.norm1"]
    found = FrozenClassifier.found(
        model, images, named, None, lambda t: t[:, 3:].mT.unflatten(2, (4, 4))
    )
    assert [tuple(maps.shape) for maps in found.read(images)[1].values()] == [(2, 16, 4, 4)]


def test_a_head_of_another_kind(images):
    """The scores of several linear layers, or of none: the last layer that gives maps."""
    body = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 5, 3, 2, 1))
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert layers(nn.Sequential(body, pool), images) == ["0.1", "0"]

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.first, self.second = body, nn.Linear(5, 4), nn.Linear(5, 4)

        def forward(self, x):
            pooled = self.body(x).mean((2, 3))
            return self.first(pooled) + self.second(pooled)

    assert layers(Two(), images) == ["body.1", "body"]


def test_nothing_that_could_be_mapped_is_an_error(images):
    for model in (nn.Sequential(nn.Flatten(), nn.Linear(1440, 5)), vit(patch_size=64)):
        shown = images if isinstance(model, nn.Sequential) else pictures()
        with pytest.raises(ValueError, match=r"gives feature maps .* of more than one place"):
            find_layers(model, *record(model, shown))


def test_the_run_leaves_the_model_as_it_was(images):
    model = tiny_network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers(model, images)
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Patches(nn.Module):
    """Patches with a norm: a module with children, of the blocks' own grid."""

    def __init__(self):
        super().__init__()
        self.proj, self.norm = nn.Conv2d(3, 16, 8, 8), nn.Identity()

    def forward(self, x):
        return self.norm(self.proj(x).flatten(2).mT).mT.unflatten(2, (4, 4))


def test_what_cuts_the_patches_is_no_row_of_blocks():
    """As in timm's own vision transformers, where the finer layer was not found."""
    model = TimmViT().eval()
    model.patch_embed = Patches()
    assert layers(model, pictures(2, 32)) == ["blocks.1", "head"]


class Several(nn.Module):
    """A stage that gives several things, of blocks that do; what makes the grid coarse ends it."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.branch = nn.Conv2d(inputs, inputs, 1)
        self.downsample = nn.Conv2d(inputs, outputs, 3, 2, 1)

    def forward(self, x):
        before = x + self.branch(x)
        return self.downsample(before), before


class Stages(nn.Module):
    """As transformers' Swin: stages give tuples, and attention runs in windows."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        sizes = (3, 4, 6, 8)
        self.stages = nn.ModuleList(Several(i, o) for i, o in pairwise(sizes))
        self.windows, self.norm, self.fc = nn.Conv2d(4, 4, 1), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x):
        for i, stage in enumerate(self.stages):
            x, _ = stage(x)
            if i == 0:  # four windows an image
                self.windows(torch.cat(x.chunk(2, 2)).chunk(2, 3)[0])
        return self.fc(self.norm(x.flatten(2).mT).mean(1))


def test_of_stages_that_give_several_things_the_first_is_found_inside():
    """No branch is read, and no window for an image."""
    assert layers(Stages().eval(), pictures(2, 64)) == ["stages.1.downsample", "norm"]


class Residual(nn.Module):
    """A block that gives a sum, alone or, as transformers writes it, in a tuple."""

    def __init__(self, given, made, stride, several):
        super().__init__()
        self.skip, self.several = nn.Conv2d(given, made, 1, stride), several
        self.branch = nn.Sequential(nn.Conv2d(given, made, 3, stride, 1), nn.GELU())

    def forward(self, x):
        total = self.skip(x) + self.branch(x)
        return (total, None) if self.several else total


class OfBlocks(nn.Module):
    """A head of pooling and a linear layer, or one that no place can be told apart of."""

    def __init__(self, several, linearised):
        super().__init__()
        torch.manual_seed(0)
        sizes = [(3, 8, 4), (8, 12, 1), (12, 16, 2), (16, 16, 1)]
        self.blocks = nn.ModuleList(Residual(*size, several) for size in sizes)
        self.head, self.linearised = nn.Linear(16, 5), linearised

    def forward(self, x):
        for block in self.blocks:
            given = block(x)
            x = given[0] if isinstance(given, tuple) else given
        return self.head(x.square().amax((2, 3)) if self.linearised else x.mean((2, 3)))


@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
@pytest.mark.parametrize("linearised", [False, True])
def test_blocks_that_give_a_sum_in_a_tuple_are_read_as_those_that_give_it_alone(linearised):
    one, other = (OfBlocks(several, linearised).eval() for several in (False, True))
    images = pictures(2, 64)
    assert layers(one, images) == layers(other, images) == ["blocks.1", "blocks.3"]
    maps = [LearnableCAM(model)(images) for model in (one, other)]
    assert maps[0].max() == 1
    assert abs(maps[0] - maps[1]).max() < 1e-6
    explained = ExplainedClassifier(other, images)(images)[1].numpy()
    assert abs(explained - maps[1]).max() < 1e-6


class TokenStages(nn.Module):
    """Two stages of patches, the second with a class token, of blocks that give tuples."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.down = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 16, 2, 2)
        self.early, self.late = (nn.ModuleList(InTuple() for _ in range(count)) for count in (2, 3))
        self.token, self.head = nn.Parameter(torch.randn(1, 1, 16)), nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        for block in self.early:
            x = block(x)[0]
        side = int(x.shape[1] ** 0.5)
        x = self.down(x.transpose(1, 2).unflatten(2, (side, side))).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        for block in self.late:
            x = block(x)[0]
        return self.head(x[:, 0])


class InTuple(nn.Module):
    """A block of attention that is not known."""

    def __init__(self):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x):
        given = self.norm(x)
        return (x + self.mix((given @ given.mT / 4).softmax(2) @ given),)


def test_of_a_class_token_the_block_before_the_last_of_its_own_grid_is_read():
    assert layers(TokenStages().eval(), pictures(2, 32)) == ["early.1", "late.1"]


class Scaled(nn.Module):
    """Scores that no linear layer gives, as CLIP's, scaled by a temperature."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return 2 * self.network(images)


def test_of_a_class_token_and_no_linear_layer_the_block_before_is_read():
    """What the last block gives the patches reaches no score, and `calibrate` refused it."""
    model, images = Scaled(TimmViT()).eval(), pictures(2, 32)
    assert layers(model, images) == ["network.blocks.1"]
    assert layers(Scaled(network("resnet18")), pictures()) == ["network.layer3", "network.layer4"]


class AttentionPooling(nn.Module):
    """Its norm of the keys gives (N, heads, T, width), 2 x 16 x 8: no map of 16 x 8 places."""

    def __init__(self):
        super().__init__()
        self.kv, self.norm = nn.Linear(16, 16), nn.Identity()

    def forward(self, tokens):
        keys = self.norm(self.kv(tokens).unflatten(2, (2, 8)).transpose(1, 2))
        return (keys.softmax(2) * keys).sum(2).flatten(1)


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.pool, self.fc = (
            nn.Conv2d(3, 16, 8, 8),
            AttentionPooling(),
            nn.Linear(16, 5),
        )

    def forward(self, images):
        return self.fc(self.pool(self.patches(images).flatten(2).mT))


def test_the_heads_of_an_attention_are_no_maps():
    assert layers(Pooled().eval(), pictures(2, 32))[-1] == "pool.kv"
