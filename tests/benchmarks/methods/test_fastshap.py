"""FastSHAP: what it is trained to give are Shapley values, here enumerated over all sets."""

from itertools import combinations
from math import comb

import pytest
import torch
from torch import nn

from benchmarks.methods.fastshap import (
    FastSHAPAttention,
    FastSHAPRecipe,
    draw_sets,
    efficient,
)
from learnable_cam_plugin import LearnableCAM, LearnableCAMTrainer, load_attention
from learnable_cam_plugin.classifier import FrozenClassifier

from ...conftest import UNIT

ROWS, COLUMNS, SIDE = 2, 3, 4  # players, and their pixels
PLAYERS = range(ROWS * COLUMNS)


class Game(nn.Module):
    """A classifier of two classes that sees a patch at a time; black patches say nothing.

    Additive: the probability of class 1 is the sum of what the patches say. Otherwise it is a
    logistic function of it, so that a patch is worth more or less beside others.
    """

    def __init__(self, additive):
        super().__init__()
        torch.manual_seed(3)
        self.additive = additive
        self.patches = nn.Conv2d(3, 8, SIDE, SIDE, bias=False)

    def forward(self, images):
        said = self.patches(images).relu()
        said = (said[:, :4].sum(1) - said[:, 4:].sum(1)).sum((1, 2))
        if self.additive:
            p = 0.5 + said / 3
            return torch.stack([1 - p, p], 1).log()
        return torch.stack([-said, said - 1], 1)


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(0)
    grids = torch.rand(312, 3, ROWS, COLUMNS, generator=generator)
    return grids.repeat_interleave(SIDE, 2).repeat_interleave(SIDE, 3)


def shapley_values(model, image, category):
    """(ROWS, COLUMNS) of one image, by the definition: a pass for each of the 64 sets."""
    worth = {}
    for size in range(len(PLAYERS) + 1):
        for members in combinations(PLAYERS, size):
            seen = torch.zeros_like(image)
            for player in members:
                row, column = SIDE * (player // COLUMNS), SIDE * (player % COLUMNS)
                part = (slice(None), slice(row, row + SIDE), slice(column, column + SIDE))
                seen[part] = image[part]
            with torch.no_grad():
                worth[members] = float(model(seen[None]).softmax(1)[0, category])
    values = torch.zeros(len(PLAYERS))
    for members, without in worth.items():
        for player in set(PLAYERS) - set(members):
            gain = worth[tuple(sorted((*members, player)))] - without
            values[player] += gain / (len(PLAYERS) * comb(len(PLAYERS) - 1, len(members)))
    return values.view(ROWS, COLUMNS)


@pytest.mark.parametrize("additive", [True, False], ids=["additive", "with interactions"])
def test_trained_values_approach_the_exact_shapley_values(pictures, additive):
    model = Game(additive).eval()
    labels = torch.arange(len(pictures)) % 2
    seen = [(pictures[i : i + 100], labels[i : i + 100]) for i in (0, 100, 200)]
    attention = LearnableCAMTrainer(
        model, ["patches"], recipe=FastSHAPRecipe(learning_rate=1e-2),
        normalization=UNIT, labels="dataset", epochs=100, progress=False, device="cpu",
    ).fit(seen)  # fmt: skip
    unseen, classes = pictures[300:], labels[300:]
    exact = torch.stack(
        [shapley_values(model, *one) for one in zip(unseen, classes.tolist(), strict=True)]
    )
    with torch.no_grad():
        features, _ = FrozenClassifier.of(model, ["patches"]).clean_pass(unseen)
        raw = attention(features, classes)[0].flatten(1)
    found = efficient(raw, exact.sum((1, 2))).view_as(exact)
    assert exact.std() > 0.02
    assert (found - exact).abs().mean() < 0.15 * exact.abs().mean()


def test_exact_values_leave_no_loss_in_an_additive_game(pictures):
    """Whatever constant the explainer adds, and for any sets: the objective by itself."""
    model, labels = Game(True).eval(), torch.tensor([0, 1, 1])
    images = pictures[:3]
    classifier = FrozenClassifier.of(model, ["patches"], UNIT)
    step = FastSHAPRecipe().step(classifier, images)
    exact = torch.stack(
        [shapley_values(model, *one) for one in zip(images, labels.tolist(), strict=True)]
    )
    assert step(lambda *_: [exact + 0.3], images, labels, 5)["loss"] < 1e-10
    wrong = exact.flip(2)
    assert step(lambda *_: [wrong], images, labels, 5)["loss"] > 1e-4
    assert (
        step(lambda *_: [wrong], images, labels, 5)["loss"]
        != step(lambda *_: [wrong], images, labels, 6)["loss"]
    )


def test_sets_are_drawn_by_the_shapley_kernel_with_their_complements():
    players, pairs = 7, 20_000
    sets = draw_sets(2, players, pairs, torch.Generator().manual_seed(0))
    assert sets.shape == (2, 2 * pairs, players)
    assert torch.equal(sets[:, :pairs], ~sets[:, pairs:])
    sizes = sets[:, :pairs].sum(2).flatten()
    kernel = [
        comb(players, s) * (players - 1) / (comb(players, s) * s * (players - s))
        for s in range(1, players)
    ]
    shares = torch.bincount(sizes, minlength=players + 1) / len(sizes)
    assert shares[0] == shares[players] == 0
    expected = torch.tensor(kernel) / sum(kernel)
    assert torch.allclose(shares[1:players], expected, atol=0.01)
    # of one size every set is as likely
    pair = sets[:, :pairs].flatten(0, 1)[sizes == 2].float()
    assert torch.allclose(pair.mean(0), torch.full((players,), 2 / players), atol=0.02)
    again = draw_sets(2, players, pairs, torch.Generator().manual_seed(0))
    assert torch.equal(sets, again)


def test_one_place_is_refused():
    with pytest.raises(ValueError, match="1 place has no share of its own: name a layer"):
        draw_sets(4, 1, 2, torch.Generator())


def test_the_players_are_at_most_7_x_7():
    attention = FastSHAPAttention({"a": 4, "b": 8}, num_classes=3)
    classes = torch.tensor([0, 2])

    def grid(*sides):
        features = {
            name: torch.rand(2, c, side, side)
            for (name, c), side in zip(attention.channels.items(), sides, strict=True)
        }
        return tuple(attention(features, classes)[0].shape[1:])

    assert grid(14, 7) == (7, 7)
    assert grid(24, 12) == (7, 7)
    assert grid(6, 3) == (6, 6)


def test_it_trains_saves_and_explains(tmp_path, tiny, images):
    tiny.eval()
    trained = LearnableCAMTrainer(
        tiny, ["2", "4"], recipe=FastSHAPRecipe(), normalization=UNIT, epochs=2,
        progress=False, device="cpu",
    ).fit([images], [images])  # fmt: skip
    trained.save(tmp_path / "fastshap.safetensors")
    again = load_attention(tmp_path / "fastshap.safetensors")
    assert (again.origin.recipe["name"], again.origin.recipe["pairs"]) == ("fastshap", 4)
    with LearnableCAM(tiny, [tiny[4]], attention=again) as cam:
        maps = cam(images)
        assert maps.shape == (4, 20, 24)
        assert abs(cam(images[:1]) - maps[:1]).max() < 1e-4
