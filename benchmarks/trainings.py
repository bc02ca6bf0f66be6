"""The learned methods' attentions: trained once beside the classifier, kept with the results."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import DataLoader, TensorDataset

from learnable_cam_plugin import AttentionMechanism, LearnableCAMTrainer
from learnable_cam_plugin.data import PhotoFolder, draw_images
from learnable_cam_plugin.training import find_recipe

from .methods import Learned, Method
from .testbed import Testbed


def train_attentions(
    bed: Testbed, methods: Sequence[Method], photographs: Path | None, folder: Path
) -> dict[str, AttentionMechanism]:
    """Name -> attention of each learned method; a training under way goes on where it was.

    Trained on the photographs, which drawn images do without; without either there is no
    attention. `folder` keeps the trainings, a folder a method.
    """
    images: TensorDataset | PhotoFolder
    if bed.protocol.images == "drawn":
        images = TensorDataset(draw_images(2000, bed.protocol.seed).images)
    elif photographs is not None:
        images = PhotoFolder(photographs, bed.normalization, train=True)
    else:
        return {}
    return {
        method.name: _trained(bed, method.learned, images, folder / method.slug)
        for method in methods
        if method.learned
    }


def _trained(
    bed: Testbed, how: Learned, images: TensorDataset | PhotoFolder, folder: Path
) -> AttentionMechanism:
    settings = bed.protocol.training
    recipe, start = find_recipe(how.recipe), how.start
    if changes := settings.recipes.get(recipe.name):
        recipe = dataclasses.replace(recipe, **changes)  # type: ignore[type-var]
    seed = bed.protocol.seed + how.seed
    classifier = bed.reading(how.fused)
    if callable(start):
        start = start(classifier, bed.pictures.images[:8].to(bed.device), seed)
    trainer = LearnableCAMTrainer(
        bed.model,
        list(classifier.layers),
        recipe=recipe,
        start=start,
        normalization=bed.normalization,
        epochs=settings.epochs,
        seed=seed,
        output_dir=folder,
        device="cpu" if bed.device.type == "cpu" else None,
    )
    size = min(settings.batch_size, len(images))
    return trainer.fit(DataLoader(images, size, shuffle=True, drop_last=True), resume=True)
