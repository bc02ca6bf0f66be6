"""The learned methods' attentions: trained once beside the classifier, kept with the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from learnable_cam_plugin import LearnableCAMTrainer
from learnable_cam_plugin.features import layer_names
from learnable_cam_plugin.mechanism import AttentionMechanism
from learnable_cam_plugin.photos import PhotoFolder
from learnable_cam_plugin.recipes import Recipe, find_recipe
from learnable_cam_plugin.shapes import draw_images

from .methods import LEARNED, Method
from .peers import tame_start
from .workbench import Workbench


def start_of(start: str, model: nn.Module, layers: Sequence[str], images: Tensor, seed: int) -> Any:
    """What the trainer takes as `start`, for a `Learned.start`."""
    if start == "tame":
        torch.manual_seed(seed)
        return tame_start(model, layer_names(model, layers), images)
    return start


def train(
    bench: Workbench, methods: list[Method], train_folder: Path | None, folder: Path
) -> dict[str, AttentionMechanism]:
    """Name -> attention of each learned method; a training under way goes on where it was.

    Args:
        bench: the classifier, and how to train.
        methods: those wanted.
        train_folder: of photographs; drawn images need none.
        folder: where the trainings are kept, a folder a recipe and start.

    Returns:
        nothing for the learned methods if there is nothing to train on.
    """
    wanted = [method.name for method in methods if method.name in LEARNED]
    images: Dataset
    if bench.protocol.images == "drawn":
        images = TensorDataset(draw_images(2000, bench.protocol.seed).images)
    elif train_folder is not None:
        images = PhotoFolder(train_folder, bench.normalization, train=True)
    else:
        return {}
    settings = bench.protocol.training
    trained = {}
    for name in wanted:
        how = LEARNED[name]
        recipe = find_recipe(how.recipe)
        if settings.learning_rate is not None and isinstance(recipe, Recipe):
            recipe = dataclasses.replace(recipe, learning_rate=settings.learning_rate)
        layers = bench.network.two_layers if how.fused else (bench.network.layer,)
        first = bench.images[:8].to(next(bench.model.parameters()).device)
        seed = bench.protocol.seed + how.seed
        trainer = LearnableCAMTrainer(
            bench.model,
            layers,
            recipe=recipe,
            start=start_of(how.start, bench.model, layers, first, seed),
            normalization=bench.normalization,
            epochs=settings.epochs,
            seed=seed,
            output_dir=folder
            / "-".join([how.recipe, how.start, *([f"seed-{how.seed}"] if how.seed else [])]),
            device="cpu" if next(bench.model.parameters()).device.type == "cpu" else None,
        )
        size = min(settings.batch_size, len(images))
        loader = DataLoader(images, size, shuffle=True, drop_last=True)
        trained[name] = trainer.fit(loader, resume=True)
    return trained
