"""Ablations of cost and settings, on a tiny network."""

import dataclasses

import torch
from torch.utils.data import TensorDataset

from benchmarks.commands.ablations import OURS, PAPER, Setup, Variant, variants
from learnable_cam_plugin import RECIPES

from ...conftest import UNIT, tiny_network


def settings(recipe):
    flat = dataclasses.asdict(recipe)
    return {**{k: v for k, v in flat.items() if k != "loss"}, **flat.get("loss", {})}


def test_a_variant_differs_from_its_recipe_in_the_setting_it_names():
    found = variants()
    assert found["every-threshold"].recipe == OURS == RECIPES["every-threshold"]
    assert found["l-cam-img"].recipe == PAPER == RECIPES["l-cam-img"]
    for name, variant in found.items():
        base = OURS if name.startswith("every-threshold") else PAPER
        changed = {k: v for k, v in settings(variant.recipe).items() if v != settings(base)[k]}
        assert variant.fused == name.startswith("every-threshold")
        if ", " not in name:
            assert not changed
            continue
        setting, value = name.split(", ")[1].split(" ")
        assert list(changed) == [setting]
        assert float(value) == changed[setting]


def test_a_training_is_kept_and_its_scores_have_a_row_a_set(tmp_path):
    images = torch.rand(8, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    scored = {"a": [images[:4]], "b": [images[4:]]}
    setup = Setup(
        tiny_network().eval(), UNIT, ("2", "4"), TensorDataset(images), 4, scored, tmp_path, 0
    )
    for variant in (Variant(OURS, fused=True), Variant(PAPER, fused=False)):
        name = variant.recipe.name
        attention, history = setup.train(name, variant, "head", 1, [images])
        assert [row["epoch"] for row in history] == [0, 1]
        again, _ = setup.train(name, variant, "head", 1, [images])
        assert all(torch.equal(v, again.state_dict()[k]) for k, v in attention.state_dict().items())
        rows = setup.rows(attention)
        assert [row["scored on"] for row in rows] == ["a", "b"]
        assert all(row["images"] == 4 for row in rows)
