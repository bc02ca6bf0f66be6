"""The every-threshold recipe in the trainer: what it trains, repeats, refuses; its mosaics."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from learnable_cam_plugin import (
    RECIPES,
    ConditionedAttention,
    EveryThreshold,
    LCAMAttention,
    LearnableCAM,
    LearnableCAMTrainer,
    calibrate,
    load_attention,
)
from learnable_cam_plugin.classifier import FrozenClassifier, watching
from learnable_cam_plugin.saliency import min_max, resize

from ...conftest import UNIT, tiny_network
from ..test_trainer import Stops, pixels, same


def loader(n=16):
    return DataLoader(TensorDataset(pixels(n)), batch_size=8, shuffle=True)


def decided(seed=0):
    """A tiny network that is sure of its class, and of different ones."""
    model = tiny_network(seed=seed)
    with torch.no_grad():
        features = model[:7].eval()(pixels(64))
        model[-1].weight.copy_(torch.randn(5, 8, generator=torch.Generator().manual_seed(seed)))
        model[-1].weight.mul_(3 * (features.std(0) > 1e-4) / features.std(0).clamp(min=1e-4))
        model[-1].bias.copy_(-model[-1].weight @ features.mean(0))
    return model.eval()


def trainer(model, layers=("2", "4"), **options):
    defaults = {"normalization": UNIT, "epochs": 2, "progress": False, "device": "cpu"}
    return LearnableCAMTrainer(model, list(layers), **{**defaults, **options})


def test_it_is_the_default_and_trains_the_shared_mechanism_only(tmp_path):
    model = decided().train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    t = trainer(model, output_dir=tmp_path)
    assert t.recipe is RECIPES["every-threshold"]
    attention = t.fit(loader(), loader())
    assert isinstance(attention, ConditionedAttention)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(m.training for m in model.modules())
    assert {"sufficiency", "necessity", "misplaced", "area"} < set(t.history[-1])
    loaded = load_attention(tmp_path / "attention")
    assert loaded.origin.recipe["name"] == "every-threshold"
    x = pixels(2)
    with LearnableCAM(model, [model[4]], attention=loaded) as one:
        from_file = one(x)
    with LearnableCAM(model, [model[4]], attention=attention) as two:
        assert (two(x) == from_file).all()


def test_it_lowers_its_loss():
    t = trainer(decided(), epochs=12)
    t.fit(loader(32))
    losses = [row["loss"] for row in t.history]
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.parametrize(("epoch", "batch", "every"), [(2, 1, None), (1, 1, 1)])
def test_a_resumed_training_ends_as_the_uninterrupted_one(tmp_path, epoch, batch, every):
    options = {"epochs": 3, "checkpoint_every": every}
    expected = trainer(decided(), **options).fit(loader())
    with pytest.raises(KeyboardInterrupt):
        trainer(decided(), **options, output_dir=tmp_path).fit(Stops(loader(), epoch, batch))
    resumed = trainer(decided(), **options, output_dir=tmp_path).fit(loader(), resume=True)
    assert same(resumed, expected)


def test_seeds_repeat_and_differ():
    one, two = (trainer(decided(), seed=3).fit(loader()) for _ in range(2))
    other = trainer(decided(), seed=4).fit(loader())
    assert same(one, two)
    assert not same(one, other)


def test_the_learning_rate_rises_and_falls_once():
    recipe = RECIPES["every-threshold"]
    rates = [recipe.rate(done / 10, 8) for done in range(81)]
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[peak] == pytest.approx(1)
    assert rates[-1] == pytest.approx(0)


def test_a_row_a_class_trains_with_it_too():
    model = decided()
    start = calibrate(model, ["4"], pixels(4))
    trained = trainer(model, layers=["4"], start=start).fit(loader())
    assert isinstance(trained, LCAMAttention)
    assert not same(trained, start)


def test_mosaics_explain_a_member_and_know_which_cells_show_its_class():
    model, images = decided(), pixels(64)
    with torch.no_grad():
        scores = model(images)
    classes = scores.argmax(1)
    assert len(classes.unique()) >= 4
    recipe = EveryThreshold(mosaics=0.5)
    generator = torch.Generator().manual_seed(0)
    tiles, explained, present = recipe._mosaics(images, scores, classes, generator)
    assert tiles.shape == (32, 3, 20, 24)
    assert present.shape == (32, 4)
    p = scores.softmax(1)
    halved = torch.nn.functional.interpolate(
        images, (10, 12), mode="bilinear", antialias=True, align_corners=False
    )
    explained_in = set()
    for tile, y, shown in zip(tiles, explained, present, strict=True):
        predicted = []
        for cell in range(4):
            rows, columns = divmod(cell, 2)
            part = tile[:, rows * 10 : rows * 10 + 10, columns * 12 : columns * 12 + 12]
            member = int((halved - part).flatten(1).abs().amax(1).argmin())
            assert bool(shown[cell]) == (float(p[member, y]) > 0.05)
            predicted.append(int(classes[member]))
        assert len(set(predicted)) == 4
        explained_in.add(predicted.index(int(y)))
    assert explained_in == {0, 1, 2, 3}
    recipe = EveryThreshold(mosaics=0.5, present=1.0)  # in no other cell, then
    assert (recipe._mosaics(images, scores, classes, generator)[2].sum(1) == 1).all()
    none = recipe._mosaics(images[:3], scores[:3], classes[:3], generator)
    assert [len(part) for part in none] == [0, 0, 0]


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="no random start"):
        trainer(decided(), start="random")
    for change, message in (
        ({"whole": 1.5}, "whole is a share"),
        ({"whole": 0.8, "removed": 0.3}, "more than all"),
        ({"misplaced": -1.0}, "must not be negative"),
        ({"area": -0.1}, "must not be negative"),
        ({"learning_rate": 0.0}, "above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(EveryThreshold(), **change)


def test_other_epochs_are_refused_on_resuming(tmp_path):
    trainer(decided(), epochs=1, output_dir=tmp_path).fit(loader())
    with pytest.raises(ValueError, match="epochs: 1 then, 2 now"):
        trainer(decided(), epochs=2, output_dir=tmp_path).fit(loader(), resume=True)


def test_volumes_are_told_which_recipe_to_take():
    volume = nn.Sequential(
        nn.Conv3d(1, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    with pytest.raises(ValueError, match="l-cam-img"):
        trainer(volume, layers=["1"]).fit([torch.rand(2, 1, 8, 8, 8)])


def terms_of(recipe, model, images):
    """Of a step, with what the classifier saw in it last, and the maps (N, H, W)."""
    classifier, seen = FrozenClassifier.of(model, ["2", "4"], UNIT), []
    attention = recipe.start(classifier, images, "head", 0, False)
    with watching([(model, lambda given, _: seen.append(given))]):
        terms = recipe.step(classifier, images)(attention, images, None, 1)
    features, scores = classifier.clean_pass(images)
    (raw,) = attention(features, scores.argmax(1))
    return terms, seen[-1], min_max(resize(raw, images.shape[2:])).detach()


def test_the_loss_is_the_sum_of_its_terms():
    """A quarter of the batch are mosaics, in which the map may be misplaced."""
    terms, _, _ = terms_of(EveryThreshold(removed=0.0, area=0.5), decided(), pixels(64))
    expected = terms["sufficiency"] + 1.5 / 4 * terms["misplaced"] + 0.5 * terms["area"]
    assert float(terms["misplaced"].detach()) > 0.1
    assert torch.allclose(terms["loss"], expected, atol=1e-5)


def test_images_are_masked_by_the_highest_pixels_of_the_map_as_bright_as_it_is():
    images = pixels(16)
    recipe = EveryThreshold(whole=0.0, removed=0.0, mosaics=0.0, black=1.0)
    _, seen, maps = terms_of(recipe, decided(), images)
    assert (seen <= images * maps[:, None] + 1e-5).all()
    assert ((seen < 0.1 * images * maps[:, None]).flatten(1).float().mean(1) > 0.05).any()


def test_a_first_batch_without_mosaics_is_told_of_once():
    with pytest.warns(UserWarning, match="makes no mosaics") as told:
        trainer(decided()).fit([pixels(3)] * 3)
    assert len([one for one in told if "makes no mosaics" in str(one.message)]) == 1
