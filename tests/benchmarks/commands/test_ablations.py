"""The studies of cost and settings, on a tiny network."""

import dataclasses

import torch
from torch.utils.data import TensorDataset

from benchmarks.study import OURS, PAPER, Study, variants

from ..conftest import UNIT, tiny_network


def settings(recipe):
    flat = dataclasses.asdict(recipe)
    return {**{k: v for k, v in flat.items() if k != "loss"}, **flat.get("loss", {})}


def test_a_variant_differs_from_its_recipe_in_the_setting_it_names():
    found = variants()
    assert found["every-threshold"] == OURS
    assert found["l-cam-img"] == PAPER
    for name, recipe in found.items():
        base = OURS if name.startswith("every-threshold") else PAPER
        changed = {k: v for k, v in settings(recipe).items() if v != settings(base)[k]}
        if ", " not in name:
            assert not changed
            continue
        setting, value = name.split(", ")[1].split(" ")
        assert list(changed) == [setting]
        assert float(value) == changed[setting]


def test_a_training_is_kept_and_its_scores_have_a_row_a_set(tmp_path):
    images = torch.rand(8, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    scored = {"a": [images[:4]], "b": [images[4:]]}
    study = Study(
        tiny_network().eval(), UNIT, ("2", "4"), TensorDataset(images), 4, scored, tmp_path, 0
    )
    for recipe in (OURS, PAPER):
        attention, history = study.train(recipe.name, recipe, "head", 1, [images])
        assert [row["epoch"] for row in history] == [0, 1]
        again, _ = study.train(recipe.name, recipe, "head", 1, [images])
        assert all(torch.equal(v, again.state_dict()[k]) for k, v in attention.state_dict().items())
        rows = study.scores(attention)
        assert [row["scored on"] for row in rows] == ["a", "b"]
        assert all(row["images"] == 4 for row in rows)
