"""The attention that comes with the package, beside classifiers of many kinds; none of this depends
on what it has learned."""

import copy
import gc
import threading
import warnings
import weakref

import numpy as np
import pytest
import torch
import torchvision
from captum.attr import LayerAttribution
from pytorch_grad_cam import FinerCAM
from pytorch_grad_cam.utils.model_targets import (
    BinaryClassifierOutputTarget,
    FinerWeightedTarget,
)
from torch import nn

from learnable_cam_plugin import (
    InputLearnableCam,
    LayerLearnableCam,
    LearnableCAM,
)
from learnable_cam_plugin.attention import shipped, shipped_attention, universal_attention
from learnable_cam_plugin.classifier import guards
from learnable_cam_plugin.saliency import min_max

from ..conftest import of_class, tiny_network
from ..networks import (
    CLASSES,
    LAYERS,
    Logits,
    Normalise,
    TimmViT,
    network,
    pictures,
    vit,
)

linearised = pytest.mark.filterwarnings("ignore:the head of:UserWarning")


def same(one, other, atol=1e-4):
    return np.allclose(one, other, atol=atol)


class SideBranch(nn.Module):
    """Its head reads `body`; what `side` makes goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 4, 3, 1, 1)
        self.body, self.head = nn.Conv2d(6, 8, 3, 2, 1), nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        self.side(x)
        return self.head(self.body(x).mean((2, 3)))


def test_a_layer_that_leads_nowhere_is_refused_by_name():
    model, images = SideBranch().eval(), pictures(2, 32)
    with pytest.raises(ValueError, match="do not depend on what target layer 'side' gives"):
        LearnableCAM(model, [model.side])(images)
    with pytest.raises(ValueError, match="target layer 'side'"):
        LayerLearnableCam(model, model.side).attribute(images, target=1)
    named = LearnableCAM(model, [model.stem])
    assert np.isfinite(named(images)).all()
    assert list(named.attention.channels) == ["stem", "body"]
    assert not any(module._forward_hooks for module in model.modules())


def test_another_one_of_the_same_model_takes_one_pass_at_once():
    model, images, passes = copy.deepcopy(network("resnet18")), pictures(), []
    expected = LearnableCAM(model)(images, of_class(3, 7))
    with model.register_forward_pre_hook(lambda *_: passes.append(1)):
        maps = LearnableCAM(model)(images, of_class(3, 7))
    assert passes == [1]
    assert same(maps, expected, atol=0)
    first = LearnableCAM(model)
    first(images)
    first.attention.darkness = 3.0  # is its own
    assert same(LearnableCAM(model)(images, of_class(3, 7)), expected, atol=0)


def test_a_model_whose_head_was_replaced_is_read_anew_by_the_next_one():
    model, images = copy.deepcopy(network("resnet18")), pictures()
    before = LearnableCAM(model)(images, of_class(3, 7))
    model.fc = nn.Linear(model.fc.in_features, 10)
    after = LearnableCAM(model)(images, of_class(3, 7))
    assert abs(after - before).max() > 1e-3
    torch.nn.init.zeros_(model.fc.weight)
    assert LearnableCAM(model)(images, of_class(3, 7)).shape == before.shape


def test_a_model_that_was_explained_is_not_kept():
    model = copy.deepcopy(network("resnet18"))
    LearnableCAM(model)(pictures())
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None


@linearised
@pytest.mark.parametrize("name", LAYERS)
def test_every_classifier_is_explained_with_no_argument(name):
    """Maps in [0, 1] of the class that is asked for, in one pass; the classifier is left alone."""
    model, images, passes = network(name), pictures(), []
    before = {key: value.clone() for key, value in model.state_dict().items()}
    flags = [(p.requires_grad, p.grad) for p in model.parameters()]
    cam = LearnableCAM(model)
    cam(images)
    with model.register_forward_pre_hook(lambda *_: passes.append(1)):
        maps = cam(images, of_class(3, 7))
    assert passes == [1]
    assert maps.shape == (2, 64, 64)
    assert np.isfinite(maps).all()
    assert maps.min((1, 2)) == pytest.approx(0, abs=1e-6)
    assert maps.max((1, 2)) == pytest.approx(1, abs=1e-6)
    assert abs(cam(images, of_class(4, 8)) - maps).max() > 1e-3
    assert same(cam(images), cam(images, of_class(*cam.outputs.argmax(1))), atol=0)
    # each image by itself
    assert same(cam(images[1:], of_class(7)), maps[1:], atol=1e-3)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [(p.requires_grad, p.grad) for p in model.parameters()] == flags
    assert not any(m.training or m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "swin_t", "vit"])
def test_the_same_network_arranged_otherwise_has_the_same_maps(name):
    model, images = network(name), pictures()
    expected = LearnableCAM(model)(images, of_class(1, 2))
    for wrapped in (nn.DataParallel(model), Logits(model), nn.Sequential(nn.Identity(), model)):
        assert same(LearnableCAM(wrapped)(images, of_class(1, 2)), expected)
    behind = LearnableCAM(nn.Sequential(Normalise(), model))
    assert same(behind(images / 2, of_class(1, 2)), expected)


class Written(nn.Module):
    """A ResNet whose head is written in another way."""

    def __init__(self, resnet, pool):
        super().__init__()
        children = dict(resnet.named_children())
        self.fc, _ = children.pop("fc"), children.pop("avgpool")
        self.body, self.pool = nn.Sequential(*children.values()), pool

    def forward(self, x):
        return self.fc(self.pool(self.body(x)))


@pytest.mark.parametrize(
    "pool",
    [
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(nn.AvgPool2d(2), nn.Flatten()),  # a window as large as the grid
        lambda maps: maps.mean((2, 3)),
        lambda maps: nn.functional.adaptive_avg_pool2d(maps, 1)[:, :, 0, 0],
        lambda maps: maps.permute(0, 2, 3, 1).flatten(1, 2).mean(1),
    ],
    ids=["modules", "window", "mean", "functional", "tokens"],
)
def test_so_has_a_pooled_head_that_is_written_otherwise(pool):
    model, images = copy.deepcopy(network("resnet18")), pictures()
    expected = LearnableCAM(model)(images, of_class(1, 2))
    assert same(LearnableCAM(Written(model, pool))(images, of_class(1, 2)), expected)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "swin_t", "vit"])
def test_captum_has_the_same_maps(name):
    """At a layer, up to interpolation and min-max; and at the input."""
    model, images = network(name), pictures()
    finer, _ = LAYERS[name]
    layer = model.get_submodule(finer)
    expected = LearnableCAM(model, [layer])(images, of_class(1, 2))
    raw = LayerLearnableCam(model, layer).attribute(images, [1, 2])
    assert raw.shape[:2] == (2, 1)
    up = LayerAttribution.interpolate(raw, images.shape[2:], "bilinear")[:, 0]
    assert same(min_max(up).numpy(), expected, atol=1e-5)
    full = InputLearnableCam(model, layer).attribute(images, [1, 2])
    assert same(full[:, 2].numpy(), expected, atol=1e-5)


def test_the_layers_that_are_named_are_read():
    model, images = copy.deepcopy(network("resnet18")), pictures()
    cams = [LearnableCAM(model, [layer]) for layer in ("layer2", "layer3", "layer4", "layer4.1")]
    early, finer, last, inside = (cam(images) for cam in cams)
    assert [list(cam.attention.channels) for cam in cams] == [
        ["layer2", "layer4"], ["layer3", "layer4"], ["layer3", "layer4"], ["layer3", "layer4.1"]
    ]  # fmt: skip
    assert same(finer, LearnableCAM(model)(images), atol=0)
    assert same(finer, last, atol=0)
    assert same(finer, inside)
    assert abs(early - finer).max() > 1e-3


def test_it_is_the_shipped_attention_beside_the_model():
    model, images = copy.deepcopy(network("resnet18")), pictures()
    by_hand = universal_attention(model, None, images, trained=shipped_attention())
    cam = LearnableCAM(model)
    assert cam.attention is None
    assert same(cam(images), LearnableCAM(model, attention=by_hand)(images), atol=0)
    shared = zip(cam.attention.parameters(), shipped_attention().parameters(), strict=True)
    assert all(one is other for one, other in shared)


# What a call does not do twice


def weights_applied(monkeypatch, num_classes):
    """The weights of so many classes that `linear` is called with from now on."""
    applied, linear = [], nn.functional.linear

    def counted(given, weight, *bias):
        if len(weight) == num_classes:
            applied.append(weight)
        return linear(given, weight, *bias)

    monkeypatch.setattr(nn.functional, "linear", counted)
    return applied


class Divided(nn.Module):
    """Behind a temperature, which is not fitted yet: its scores are the logits, as numbers."""

    def __init__(self, model):
        super().__init__()
        self.model, self.temperature = model, nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.model(x) / self.temperature


class Scaled(Divided):
    """The same, in place."""

    def forward(self, x):
        return self.model(x).mul_(self.temperature)


@pytest.mark.parametrize("explain", ["cam", "captum"])
def test_the_head_is_computed_once_a_call(explain, monkeypatch):
    """By the classifier: its scores are the logits, and the attention takes them."""
    model, images = copy.deepcopy(network("resnet18")), pictures()
    cam, layer = LearnableCAM(model), LayerLearnableCam(model, model.layer4)
    cam(images), layer.attribute(images, target=1)
    assert cam.attention.scores_are_logits
    applied = weights_applied(monkeypatch, CLASSES)
    cam(images) if explain == "cam" else layer.attribute(images, target=1)
    assert len(applied) == 1
    assert applied[0] is model.fc.weight


def test_so_it_is_of_a_head_that_is_read_from_the_class_token(monkeypatch):
    model, images = TimmViT().eval(), pictures(2, 32)
    cam = LearnableCAM(model)
    cam(images)
    applied = weights_applied(monkeypatch, cam.attention.num_classes)
    cam(images)
    assert len(applied) == 1


@pytest.mark.parametrize("wrap", [Divided, Scaled, lambda m: nn.Sequential(m, nn.Softmax(1))])
def test_scores_that_are_not_what_the_head_gave_are_not_taken_for_its_logits(wrap):
    """Not even where they are the same numbers for now."""
    model, images = copy.deepcopy(network("resnet18")), pictures()
    expected = LearnableCAM(model)(images, of_class(1, 2))
    wrapped = wrap(model)
    cam = LearnableCAM(wrapped)
    cam(images)
    assert not cam.attention.scores_are_logits
    if hasattr(wrapped, "temperature"):
        nn.init.constant_(wrapped.temperature, 3.0)
    assert same(cam(images, of_class(1, 2)), expected, atol=1e-5)


def test_an_attention_that_goes_to_another_model_forgets_what_its_scores_were():
    model, images = copy.deepcopy(network("resnet18")), pictures()
    cam = LearnableCAM(model)
    expected = cam(images, of_class(1, 2))
    softer = copy.deepcopy(model)
    softer.register_forward_hook(lambda module, given, scores: scores / 3)
    other = LearnableCAM(softer, attention=cam.attention)
    assert cam.attention.scores_are_logits
    assert not other.attention.scores_are_logits
    assert same(other(images, of_class(1, 2)), expected, atol=1e-5)


def test_a_pass_of_another_precision_has_other_logits():
    model, images = copy.deepcopy(network("resnet18")), pictures()
    cam = LearnableCAM(model)
    cam(images)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = cam(images, of_class(1, 2))
    assert abs(rounded - cam(images, of_class(1, 2))).mean() < 0.05


def test_the_modules_are_walked_over_when_one_of_them_was_replaced(monkeypatch):
    model, images, walks = copy.deepcopy(network("resnet18")), pictures(), []
    cam, later = LearnableCAM(model), LearnableCAM(model)
    cam(images)
    walk = guards.modules_of
    monkeypatch.setattr(guards, "modules_of", lambda root: walks.append(root) or walk(root))
    with monkeypatch.context() as patch:
        patch.setattr(model, "named_modules", None)  # torch's own, which is slower
        cam(images)
        assert walks == []
        later(images)
        later(images)
        assert walks == [model]
    model.layer2[0].relu.add_module("inside", nn.Dropout(0.9))  # it had none inside
    cam(images)
    assert walks.count(model) > 1
    assert model.layer2[0].relu.inside.training


def test_a_module_that_holds_the_one_around_it_is_walked_over_once():
    model = tiny_network().eval()
    model[0].around = model
    assert len(guards.modules_of(model)) == len(list(model.modules())) == len(model) + 1
    model[0]._modules.clear()


# What changes in the model


def changed(change, make=tiny_network, images=None):
    """Maps of before and after a change, and of a new LearnableCAM after it."""
    model = make().eval()
    images = pictures(2, 32) if images is None else images
    cam = LearnableCAM(model)
    before = cam(images, of_class(1, 2))
    change(model)
    return before, cam(images, of_class(1, 2)), LearnableCAM(model)(images, of_class(1, 2))


def other_weights(model):
    state = model.state_dict().items()
    return {k: torch.rand_like(v) if v.is_floating_point() else v.clone() for k, v in state}


def load(model, seed=9):
    torch.manual_seed(seed)
    model.load_state_dict(other_weights(model))


def assign(model):
    torch.manual_seed(9)
    model.load_state_dict(other_weights(model), assign=True)


def replace_the_head(model):
    torch.manual_seed(9)
    model[8] = nn.Linear(8, 7)


def replace_the_bias(model):
    model[8].bias = nn.Parameter(torch.randn(5, generator=torch.Generator().manual_seed(3)) * 5)


def replace_a_layer(model):
    torch.manual_seed(9)
    model[3] = nn.Conv2d(6, 8, 3, 1, 1)


def replace_the_layer_that_is_read(model):
    model[4] = nn.GELU()


def replace_the_norm(model):
    model.norm = nn.LayerNorm(16)


def to_double_and_back(model):
    load(model.double().float())


@pytest.mark.parametrize(
    "change",
    [load, assign, replace_the_head, replace_the_bias, replace_a_layer,
     replace_the_layer_that_is_read, to_double_and_back],
)  # fmt: skip
def test_a_model_that_changed_is_explained_as_it_is(change):
    before, after, expected = changed(change)
    assert same(after, expected, atol=0)
    assert abs(after - before).max() > 1e-4


@pytest.mark.parametrize("change", [load, assign, replace_the_norm])
def test_so_is_one_whose_head_reads_a_class_token(change):
    before, after, expected = changed(change, TimmViT)
    assert same(after, expected, atol=0)
    assert abs(after - before).max() > 1e-4


class Neck(nn.Sequential):
    """A norm between the pooling and the head, which does nothing before it has seen images."""

    def __init__(self):
        super().__init__(
            *tiny_network()[:8], nn.BatchNorm1d(8, affine=False, eps=0), nn.Linear(8, 5)
        )


def settle(model):
    torch.manual_seed(9)
    model[8].running_mean.uniform_()
    model[8].running_var.uniform_(0.05, 0.5)


class Adapted(nn.Module):
    """An adapter that begins with zeros, in parallel to nothing or to the queries of a block."""

    def __init__(self):
        super().__init__()
        self.trunk, self.head = tiny_network()[:5], nn.Linear(8, 5)
        self.adapter = nn.Conv2d(8, 8, 1)
        nn.init.zeros_(self.adapter.weight)
        nn.init.zeros_(self.adapter.bias)

    def forward(self, x):
        maps = self.trunk(x)
        return self.head((maps + self.adapter(maps)).mean((2, 3)))


def adapt(model):
    nn.init.normal_(model.adapter.weight, generator=torch.Generator().manual_seed(9))


class LowRank(nn.Linear):
    """A linear layer that adds a product of two matrices, as LoRA, at first of zeros."""

    def __init__(self, old):
        super().__init__(old.in_features, old.out_features)
        self.load_state_dict(old.state_dict())
        self.down = nn.Parameter(torch.randn(2, old.in_features))
        self.up = nn.Parameter(torch.zeros(old.out_features, 2))

    def forward(self, x):
        return super().forward(x) + x @ self.down.T @ self.up.T


def low_rank_vit():
    model = TimmViT()
    for block in model.blocks:
        block.attn.qkv = LowRank(block.attn.qkv)
    return model


def train_low_rank(model):
    for block in model.blocks:
        nn.init.normal_(block.attn.qkv.up, generator=torch.Generator().manual_seed(9))


def assign_a_scale(model):
    for block in model.blocks:
        block.ls1.gamma = nn.Parameter(torch.randn(16, generator=torch.Generator().manual_seed(9)))


@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
@pytest.mark.filterwarnings("ignore:the scores of:UserWarning")
@pytest.mark.parametrize(
    ("make", "change"),
    [(Neck, settle), (Adapted, adapt), (low_rank_vit, train_low_rank), (TimmViT, assign_a_scale)],
)
def test_what_did_nothing_before_and_does_now_is_followed(make, change):
    """The way from the layers to the head is looked at in every pass."""
    before, after, expected = changed(change, make)
    model = make().eval()
    change(model)
    assert same(after, expected, atol=0)
    assert abs(after - before).max() > 1e-2
    anew = LearnableCAM(model)(pictures(2, 32), of_class(1, 2))
    assert make is low_rank_vit or make is Adapted or same(after, anew, atol=1e-5)


def test_a_head_of_the_first_classes_alone_is_read_anew():
    """A slice lies where the whole did."""

    def keep_four(model):
        model[8].weight = nn.Parameter(model[8].weight[:4])
        model[8].bias = nn.Parameter(model[8].bias[:4])

    _, after, expected = changed(keep_four)
    assert same(after, expected, atol=0)


class Mirrored(nn.Sequential):
    def forward(self, x):
        return super().forward(x.flip(3))


class Cropped(nn.Sequential):
    def forward(self, x):
        return super().forward(x[:, :, :32, :32])


def test_a_wrapper_that_moves_images_is_told_of_whatever_was_explained_before():
    model = tiny_network()
    LearnableCAM(model)(pictures(2, 32))
    with pytest.warns(UserWarning, match="crops, pads or turns") as told:
        LearnableCAM(Mirrored(model))(pictures(2, 32))
    assert [one.filename for one in told] == [__file__]
    cam = LearnableCAM(Cropped(model))
    cam(pictures(2, 32))
    with pytest.warns(UserWarning, match="crops, pads or turns"):
        cam(pictures(2, 64))
    cam(pictures(2, 64))  # once


# Heads that are linearised


class Places(nn.Sequential):
    """Its head reads the grid place by place."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(8 * 64, 7), nn.ReLU(), nn.Linear(7, 5),
        )  # fmt: skip


def test_a_head_that_is_linearised_is_warned_of_once():
    model, images = Places().eval(), pictures(2, 32)
    cam = LearnableCAM(model)
    with pytest.warns(UserWarning, match=r"the head of Places .* was linearised on these 2 images"):
        first = cam(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(cam(images), first, atol=0)
        other = cam(pictures(3, 32, seed=5))
    assert other.shape == (3, 32, 32)


@linearised
@pytest.mark.parametrize("change", [load, assign])
def test_it_belongs_to_the_weights_as_they_were(change):
    before, after, expected = changed(change, Places)
    assert same(after, expected, atol=0)
    assert abs(after - before).max() > 1e-4


def test_to_train_on_linearises_it_anew(images):
    model, images = Places(), pictures(2, 32)
    cam = LearnableCAM(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(2):
        with pytest.warns(UserWarning, match="was linearised"):
            maps = cam(images)
        model(images)[:, 0].sum().backward()
        optimizer.step()
    assert model.training
    assert all(p.grad is not None and p.requires_grad for p in model.parameters())
    with pytest.warns(UserWarning, match="was linearised"):
        assert abs(cam(images) - maps).max() > 1e-4


def test_a_head_that_is_linear_but_written_otherwise_needs_none_where_images_show_it():
    """A convolution of 1 x 1 after the pooling: what is linearised is exact."""
    body = tiny_network()[:6]
    model = nn.Sequential(*body, nn.Conv2d(8, 5, 1), nn.Flatten()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = LearnableCAM(model)(pictures(2, 32), of_class(1, 2))
    linear = nn.Linear(8, 5)
    linear.weight.data, linear.bias.data = model[6].weight.data.flatten(1), model[6].bias.data
    plain = nn.Sequential(*body, nn.Flatten(), linear).eval()
    assert same(found, LearnableCAM(plain)(pictures(2, 32), of_class(1, 2)))


def test_a_head_of_pooling_alone_needs_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cam = LearnableCAM(network("squeezenet1_1"))
        cam(pictures())
    assert torch.equal(cam.attention.vectors, torch.eye(CLASSES))


# The first call


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@linearised
@pytest.mark.parametrize("make", [tiny_network, TimmViT, Places])
def test_under_any_mode_of_autograd(mode, make):
    model, images = make().eval(), pictures(2, 32)
    expected = LearnableCAM(model)(images)
    cam = LearnableCAM(model)
    with mode():
        given = pictures(2, 32).requires_grad_(mode is torch.enable_grad)
        assert same(cam(given), expected, atol=1e-6)
        assert same(cam(given), expected, atol=1e-6)
    assert all(p.grad is None for p in model.parameters())


@linearised
@pytest.mark.parametrize("make", [tiny_network, TimmViT, Places])
def test_of_several_threads_at_the_first_call_one_looks(make, monkeypatch):
    model, images, looked = make().eval(), pictures(8, 32), []
    expected = LearnableCAM(copy.deepcopy(model))(images[:2], of_class(0, 1))
    beside = shipped.universal_beside
    monkeypatch.setattr(
        shipped, "universal_beside", lambda *args: looked.append(1) or beside(*args)
    )
    cam, start, found = LearnableCAM(model), threading.Barrier(4), {}

    def explain(i):
        start.wait()
        found[i] = cam(images[:2], of_class(0, 1))

    threads = [threading.Thread(target=explain, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert looked == [1]
    assert all(same(maps, expected, atol=1e-5) for maps in found.values())
    assert len(found) == 4


@linearised
def test_a_first_batch_on_which_all_poolings_agree_decides_nothing():
    """Of zeros the maximum is the mean: the head is not taken for another than it is."""
    model, images = tiny_network().eval(), pictures(2, 32)
    model[5] = nn.AdaptiveMaxPool2d(1)
    with torch.no_grad():
        model[0].bias.zero_()
        model[3].bias.zero_()
    cam = LearnableCAM(model)
    cam(torch.zeros(2, 3, 32, 32))
    assert cam.attention is None or cam.attention.head is not None
    maps = cam(images)
    assert cam.attention.head is None
    assert same(maps, LearnableCAM(model)(images), atol=0)


def test_features_of_any_scale_are_looked_at_once(monkeypatch):
    model, looked = tiny_network().eval(), []
    with torch.no_grad():
        model[3].weight.mul_(1e-4)
        model[3].bias.mul_(1e-4)
        model[8].weight.mul_(1e4)
    found = shipped.universal_beside
    monkeypatch.setattr(shipped, "universal_beside", lambda *args: looked.append(1) or found(*args))
    cam = LearnableCAM(model)
    for _ in range(3):
        cam(pictures(2, 32))
    assert looked == [1]


# Kinds of targets and images


def test_a_single_logit_has_two_maps():
    for model in (tiny_network(num_classes=1).eval(), vit(1)):
        images = pictures(1, 64)
        cam = LearnableCAM(model)
        yes = cam(images, [BinaryClassifierOutputTarget(1)])
        no = cam(images, [BinaryClassifierOutputTarget(0)])
        assert same(cam(images), yes if float(cam.outputs) > 0 else no, atol=0)
        both = LearnableCAM(with_a_logit_of_0(model))
        assert same(yes, both(images, of_class(0)), atol=1e-5)
        assert same(no, both(images, of_class(1)), atol=1e-5)


def with_a_logit_of_0(model):
    """The classifier of one logit z as one of two, z and 0."""
    model = copy.deepcopy(model)
    name, head = [n for n in model.named_modules() if isinstance(n[1], nn.Linear)][-1]
    linear = nn.Linear(head.in_features, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.cat([head.weight, torch.zeros_like(head.weight)]))
        linear.bias.copy_(torch.cat([head.bias, torch.zeros_like(head.bias)]))
    model.get_submodule(name.rpartition(".")[0])._modules[name.rpartition(".")[2]] = linear
    return model


class RedAgainstBlue(nn.Sequential):
    """One logit, red less blue; green is neither."""

    def __init__(self):
        body = nn.Conv2d(3, 3, 1), nn.AvgPool2d(4), nn.ReLU()
        super().__init__(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))
        with torch.no_grad():
            self[0].weight.copy_(torch.eye(3)[..., None, None])
            self[0].bias.zero_()
            self[5].weight.copy_(torch.tensor([[1.0, 0.0, -1.0]]))
            self[5].bias.zero_()


def test_what_speaks_against_a_single_logit_is_no_negative_of_its_map():
    """Where neither is, a map is dark: with its sign turned it would be bright."""
    images = torch.zeros(1, 3, 64, 64)
    images[:, 0, 8:24, 8:24] = images[:, 1, 8:24, 40:56] = images[:, 2, 40:56, 40:56] = 1
    cam = LearnableCAM(RedAgainstBlue().eval())
    red, blue = (cam(images, [BinaryClassifierOutputTarget(c)])[0] for c in (1, 0))
    for found, own in ((red, (16, 16)), (blue, (48, 48))):
        assert found[own] > 0.7
        assert found[16, 48] < 0.5 * found[own]  # green
        assert found[48, 16] < 0.5 * found[own]  # nothing
    assert red[48, 48] < 0.4 * red[16, 16]
    assert blue[16, 16] < 0.4 * blue[48, 48]


def test_images_too_small_for_the_heads_layer_leave_larger_ones_as_they_are():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=5).eval()
    fresh, small, large = copy.deepcopy(model), pictures(2, 32), pictures(2, 128)
    cam, other = LearnableCAM(model), LearnableCAM(fresh)
    with pytest.warns(UserWarning, match="32 x 32 leave the layer that the head of ResNet reads"):
        first = cam(small)
    expected = other(large)
    assert same(cam(large), expected, atol=0)
    assert same(LearnableCAM(model)(large), expected, atol=0)
    with pytest.warns(UserWarning, match="one place"):
        assert same(other(small), first, atol=0)
    assert list(other.attention.channels) == ["layer2", "layer3"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(cam(small), first, atol=0)
        assert same(cam(large), expected, atol=0)
    assert list(cam.attention.channels) == ["layer3", "layer4"]


def test_finer_cam_takes_it():
    model, images = copy.deepcopy(network("resnet18")), pictures()
    own = LearnableCAM(model)(images, of_class(1, 2))
    targets = [FinerWeightedTarget(1, [3], 1.0), FinerWeightedTarget(2, [4], 1.0)]
    finer = FinerCAM(model, ["layer4"], base_method=LearnableCAM)(images, targets)
    assert finer.shape == own.shape
    assert abs(finer - own).max() > 1e-3


def test_volumes_get_classic_cam():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(1, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 4)
    )
    volumes = torch.rand(2, 1, 8, 12, 16)
    cam, classic = LearnableCAM(model, ["1"]), LearnableCAM(model, ["1"], attention="head")
    assert same(cam(volumes), classic(volumes), atol=0)
    assert cam.attention.__class__ is classic.attention.__class__
    with pytest.raises(ValueError, match="name target_layers"):
        LearnableCAM(model)(volumes)


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (96, 64), (70, 100)])
def test_images_of_any_size_after_the_first(size):
    cam = LearnableCAM(network("resnet18"))
    cam(pictures())
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    maps = cam(images)
    assert maps.shape == (2, *size)
    assert same(maps, LearnableCAM(network("resnet18"))(images), atol=0)


def test_half_precision():
    model = copy.deepcopy(network("resnet18")).to(torch.bfloat16)
    maps = LearnableCAM(model)(pictures().to(torch.bfloat16))
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    expected = LearnableCAM(network("resnet18"))(pictures(), of_class(1, 1))
    assert abs(LearnableCAM(model)(pictures().bfloat16(), of_class(1, 1)) - expected).mean() < 0.1


# Errors


def test_a_function_hides_what_is_read():
    model = tiny_network()
    for attention in (None, "head"):
        with pytest.raises(ValueError, match=r"cannot be seen through a function.*pass the module"):
            LayerLearnableCam(lambda x: model(x), model[4], attention)
    with pytest.raises(ValueError, match="no module of it"):
        LayerLearnableCam(model, nn.Conv2d(3, 3, 1))


def test_more_inputs_than_images_need_a_trained_attention():
    model, images = tiny_network(), pictures(2, 32)
    layer = LayerLearnableCam(model, model[4])
    for given in (
        {"inputs": images, "additional_forward_args": 1},
        {"inputs": (images, images)},
        {"inputs": images, "attribute_to_layer_input": True},
    ):
        with pytest.raises(ValueError, match="pass attention= to use additional inputs"):
            layer.attribute(target=1, **given)


def test_no_feature_maps_at_all():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.ReLU(), nn.Linear(8, 5))
    cam = LearnableCAM(model)
    for _ in range(2):
        with pytest.raises(
            ValueError, match="there is nothing to map: pass larger images, or name"
        ):
            cam(pictures(2, 32))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_head_that_reads_no_place_says_so():
    """The scores do not depend on what could be shown."""

    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(3, 5)

        def forward(self, x):
            self.conv(x)
            return self.fc(x[:, :, 0, 0])

    with pytest.raises(ValueError, match="do not depend on the feature maps at 'conv'"):
        LearnableCAM(Aside())(pictures(2, 32))


def test_the_head_alone_needs_a_layer():
    with pytest.raises(ValueError, match="attention='head' needs target_layers"):
        LearnableCAM(tiny_network(), attention="head")
