"""What a pass shows of a classifier whose map would mislead is told of, and nothing else is."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms._presets import ImageClassification

from learnable_cam_plugin import FrozenClassifier, LearnableCAM

from ..conftest import tiny_network
from ..networks import TimmViT, pictures


class Behind(nn.Module):
    """The tiny network behind something done to its images."""

    def __init__(self, change):
        super().__init__()
        self.change, self.inner = change, tiny_network().eval()

    def forward(self, x):
        return self.inner(self.change(x))


def found(model, images):
    """The messages of a first look."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        FrozenClassifier.found(model, images)
    return [str(one.message) for one in heard]


def test_a_layer_that_is_named_and_gives_no_places_is_told_of():
    model, images = tiny_network().eval(), pictures(2, 32)
    for name in ("5", "8"):  # the pooling, and the head
        with pytest.warns(UserWarning, match=f"target layer '{name}' gives no feature maps"):
            FrozenClassifier.found(model, images, [name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("2", "3", "4"):
            FrozenClassifier.found(model, images, [name])


MOVED = {
    "torchvision's preset": ImageClassification(crop_size=56, resize_size=64),
    "a crop of seven eighths": lambda x: x[..., 4:60, 4:60],
    "mirrored": lambda x: x.flip(3),
    "turned": lambda x: x.rot90(1, (2, 3)),
    "padded to one side": lambda x: F.pad(x, (0, 16)),
}
AS_GIVEN = {
    "normalised": lambda x: (x - torch.tensor([0.4, 0.5, 0.6])[:, None, None]) / 0.2,
    "inverted": lambda x: 1 - x,
    "BGR": lambda x: x[:, [2, 1, 0]],
    "resized": lambda x: F.interpolate(x, (48, 48), mode="bicubic"),
    "resized to other proportions": lambda x: F.interpolate(x, (48, 72)),
    "padded by a pixel": lambda x: F.pad(x, (1, 1, 1, 1)),
    "of 8 bits": lambda x: (x * 255).round() / 255,
}


@pytest.mark.parametrize("name", MOVED)
def test_images_that_the_model_moves_are_told_of(name):
    assert any("crops, pads or turns" in one for one in found(Behind(MOVED[name]), pictures(2, 64)))


@pytest.mark.parametrize("name", AS_GIVEN)
def test_images_that_stay_where_they_are_are_not(name):
    assert found(Behind(AS_GIVEN[name]), pictures(2, 64)) == []


def test_it_is_asked_of_broad_images_too():
    images = torch.rand(1, 3, 40, 64)
    assert found(Behind(nn.Identity()), images) == []
    cropped = found(Behind(lambda x: x[..., 12:52]), images)
    assert any("crops, pads or turns" in one for one in cropped)


class Two(nn.Module):
    """Two networks, put together by `join`."""

    def __init__(self, join, parts=slice(None)):
        super().__init__()
        self.a, self.b = tiny_network(seed=0).eval()[parts], tiny_network(seed=1).eval()[parts]
        self.join, self.fc = join, nn.Linear(16, 5)

    def forward(self, x):
        return self.join(self, x)


@pytest.mark.parametrize(
    "join",
    [
        lambda net, x: 0.99 * net.a(x) + 0.01 * net.b(x),
        lambda net, x: (net.a(x).softmax(1) + net.b(x).softmax(1)) / 2,
    ],
)
def test_an_ensemble_is_told_of(join, images):
    assert any("depend on more than what its layer 'b." in one for one in found(Two(join), images))


def test_two_backbones_under_one_head_are_told_of(images):
    net = Two(lambda net, x: net.fc(torch.cat([net.a(x), net.b(x)], 1)), slice(-2)).eval()
    assert any("depend on more than what its layer 'b." in one for one in found(net, images))


def test_a_head_that_is_linearised_but_alone_is_not(images):
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.LazyLinear(5)
    ).eval()
    net(images)
    assert found(net, images) == []


def test_features_averaged_over_a_mirrored_image_are_told_of(images):
    class Mirrored(nn.Module):
        def __init__(self):
            super().__init__()
            net = tiny_network().eval()
            self.body, self.head = net[:-1], net[-1]

        def forward(self, x):
            return self.head((self.body(x) + self.body(x.flip(3))) / 2)

    assert any("2 times for an image" in one for one in found(Mirrored(), images))


class Weighed(nn.Module):
    """Its places are weighed by a gate of one channel before they are pooled."""

    def __init__(self, weigh):
        super().__init__()
        net = tiny_network().eval()
        self.body, self.gate, self.fc = net[:5], nn.Conv2d(8, 1, 1), net[-1]
        self.weigh = weigh

    def forward(self, x):
        maps = self.body(x)
        return self.fc(self.weigh(maps, self.gate(maps)))


@pytest.mark.parametrize(
    "weigh",
    [
        lambda maps, gate: (maps * gate.sigmoid()).mean((2, 3)),
        lambda maps, gate: (maps * gate.flatten(2).softmax(2).view_as(gate)).sum((2, 3)),
    ],
    ids=["gate", "attention pooling"],
)
def test_what_weighs_the_places_is_not_what_is_explained(weigh, images):
    net = Weighed(weigh).eval()
    assert list(FrozenClassifier.found(net, images).layers)[-1] == "body"
    assert found(net, images) == []


class Last(TimmViT):
    """The same network, whose extra tokens come last; so they do for its head."""

    def forward(self, x):
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([patches, self.tokens.expand(len(x), -1, -1)], 1)
        x = self.norm(self.blocks(x))
        return self.head(x[:, :-2].mean(1))


def test_extra_tokens_that_may_come_last_are_told_of():
    heard = found(Last(extra=2).eval(), pictures(2, 32))
    assert any("where they come last, the map is moved" in one for one in heard)


@pytest.mark.parametrize("extra", [0, 1, 2, 4, 5])
def test_those_that_come_first_are_not(extra):
    assert found(TimmViT(extra=extra).eval(), pictures(2, 32)) == []


def test_a_pooling_that_is_named_hides_no_place(tiny, images):
    """Named beside nothing else, it gives one place: what it pools is what the head reads."""
    tiny.eval()
    named, by_itself = LearnableCAM(tiny, [tiny[5]]), LearnableCAM(tiny)
    assert torch.equal(named.saliency(images), by_itself.saliency(images))
    assert named.saliency(images).std() > 0


def test_a_map_that_tells_no_place_from_another_is_told_of():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU())
    net = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    cam = LearnableCAM(net)
    assert cam.saliency(pictures(2, 32)).std() > 0
    with pytest.warns(UserWarning, match="say the same of the class at every place"):
        assert cam.saliency(torch.zeros(1, 3, 32, 32)).std() == 0
