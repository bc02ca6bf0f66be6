"""Train one attention beside several classifiers, and score it beside one that it never saw.

\b
    python -m benchmarks universal --train caltech/train --train caltech/more \\
        --val caltech/val --val imagenet_samples --out results/universal

Trained beside EfficientNet-Lite0 and -Lite1 on the photographs, and beside small networks of drawn
images whose widths, depths, strides and activations a seed varies. Held out: EfficientNet-Lite2 on
the photographs of --val, and the quick start's network on drawn images. Leaves universal.md and
universal.json, the attention in attention/, and goes on where it was if it was interrupted.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Subset

from learnable_cam_plugin import (
    EveryThreshold,
    FrozenClassifier,
    LearnableCAM,
    LearnableCAMTrainer,
    checkpoint,
)
from learnable_cam_plugin.attention import UniversalAttention, universal_attention
from learnable_cam_plugin.classifier import forward_with_features, frozen, predict
from learnable_cam_plugin.comparison import class_maps, compare_methods, markdown_table
from learnable_cam_plugin.data import CLASSES, NORMALIZATION, PhotoFolder, draw_images
from learnable_cam_plugin.pretrained import efficientnet_lite, train_classifier
from learnable_cam_plugin.training import BesideSeveral, Companion

from ..report.schema import leave
from ..sources import shapes_classifier

SIDES = {0: 224, 1: 240, 2: 260}  # that the EfficientNet-Lites are made for


@click.command(help=__doc__)
@click.option("--train", "folders", multiple=True, type=click.Path(exists=True), required=True)
@click.option("--val", "held_out", multiple=True, type=click.Path(exists=True), required=True)
@click.option("--epochs", default=4, show_default=True)
@click.option("--drawn", default=4, show_default=True, help="networks of drawn images")
@click.option("--area", default=0.6, show_default=True, help="weight of the mean of the map")
@click.option("--every", default=4, show_default=True, help="which of the held-out photographs")
@click.option("--photos", type=int, help="photographs to train on; all unless given")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(
    folders: Sequence[str],
    held_out: Sequence[str],
    epochs: int,
    drawn: int,
    area: float,
    every: int,
    photos: int | None,
    out: Path,
) -> None:
    attention = train(folders, epochs, drawn, area, photos, out)
    rows = []
    for folder in held_out:
        for number in (0, 2):
            rows += score_photos(attention, number, Path(folder), every)
    rows += score_drawn(attention, out)
    seen = "Beside EfficientNet-Lite0 it was trained; the others it never saw."
    leave(out, "universal", [seen, markdown_table(rows)], rows=rows)


def lite(number: int) -> FrozenClassifier:
    """EfficientNet-Lite with its last maps, and the last block of a grid twice as fine."""
    model, normalization = efficientnet_lite(number)
    image = torch.zeros(1, 3, SIDES[number], SIDES[number])
    blocks = model.get_submodule("features.blocks")
    names = [f"features.blocks.{name}" for name, _ in blocks.named_children()]
    layers = {name: model.get_submodule(name) for name in [*names, "features"]}
    _, maps = forward_with_features(model, layers, image)
    side = maps["features"].shape[-1]
    finer = [name for name in names if side < maps[name].shape[-1] <= 2 * side]
    return FrozenClassifier.of(model, [finer[-1], "features"], normalization)


def varied_network(seed: int) -> nn.Sequential:
    """A small classifier of drawn images: its shape is drawn, its last maps are `features`."""
    rng = np.random.default_rng(seed)
    width, kinds = int(rng.integers(16, 40)), (nn.ReLU, nn.SiLU, nn.GELU, nn.LeakyReLU)
    kind, inputs, blocks = kinds[seed % len(kinds)], 3, []
    strides = [2, 2, 2, *[1] * int(rng.integers(1, 4))]
    for depth, stride in enumerate(strides):
        outputs = width * 2 ** min(depth, 2)
        convolution = nn.Conv2d(
            inputs,
            outputs,
            int(rng.choice([3, 5])),
            stride,
            "same" if stride == 1 else 1,
            bias=False,
        )
        blocks.append(nn.Sequential(convolution, nn.BatchNorm2d(outputs), kind()))
        inputs = outputs
    pool, flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    head = nn.Linear(inputs, len(CLASSES))
    parts = OrderedDict(features=nn.Sequential(*blocks), pool=pool, flatten=flatten, head=head)
    return nn.Sequential(parts)


def drawn_companions(count: int, out: Path) -> Iterator[Companion]:
    """Classifiers of drawn images, trained once and kept."""
    images = draw_images(1500, 100)
    for seed in range(count):
        torch.manual_seed(seed)
        model, path = varied_network(seed), out / "classifiers" / f"{seed}.safetensors"
        if path.exists():
            model.load_state_dict(checkpoint.load(path)[0])
        else:
            click.echo(f"training classifier {seed + 1} of {count} of drawn images")
            train_classifier(model, images, 16, seed)
            checkpoint.save(path, model.state_dict(), {"classifier": "drawn shapes", "seed": seed})
        read = FrozenClassifier.of(model.eval(), ["features.1", "features"], NORMALIZATION)
        yield Companion(f"drawn {seed}", read, images.images)


def train(
    folders: Sequence[str], epochs: int, drawn: int, area: float, photos: int | None, out: Path
) -> UniversalAttention:
    """The attention, trained beside all classifiers but the held-out ones."""
    first, second = lite(0), lite(1)
    companions = [Companion("efficientnet-lite1", second, side=SIDES[1])]
    companions += drawn_companions(drawn, out)
    images: Any = ConcatDataset([PhotoFolder(f, first.pixels, train=True) for f in folders])
    if photos is not None:
        images = Subset(images, np.random.default_rng(0).permutation(len(images))[:photos].tolist())
    recipe = BesideSeveral(EveryThreshold(whole=0.15, area=area), companions)
    trainer = LearnableCAMTrainer(
        first.model,
        list(first.layers),
        recipe=recipe,
        normalization=first.pixels,
        epochs=epochs,
        output_dir=out / "training",
        checkpoint_every=50,
    )
    with ExitStack() as stack:
        for one in companions:
            stack.enter_context(frozen(one.classifier.model))
        loader = DataLoader(images, 16, shuffle=True, drop_last=True)
        return trainer.fit(loader, resume=True)  # type: ignore[return-value]


def score_photos(
    attention: UniversalAttention, number: int, folder: Path, every: int
) -> list[dict[str, Any]]:
    """Rows of EfficientNet-Lite `number` on every so many photographs."""
    classifier = lite(number)
    photos = PhotoFolder(folder, classifier.pixels, SIDES[number])
    chosen = [photos[i] for i in range(0, len(photos), every)]
    batches = list(torch.stack(chosen).split(16))
    bound = universal_attention(classifier.model, classifier.layers, batches[0], trained=attention)
    return score(classifier, bound, batches, f"Lite{number}, {folder.parent.name}/{folder.name}")


def score_drawn(attention: UniversalAttention, out: Path) -> list[dict[str, Any]]:
    """Rows of the quick start's network, on drawn images whose true regions are known."""
    model = shapes_classifier(out / "classifiers" / "held-out.safetensors", 0)
    classifier = FrozenClassifier.of(model, ["features.1", "features"], NORMALIZATION)
    test = draw_images(150, 10_000)
    bound = universal_attention(model, classifier.layers, test.images[:4], trained=attention)
    return score(classifier, bound, list(test.batches()), "a small network, drawn images")


def score(
    classifier: FrozenClassifier, attention: UniversalAttention, batches: Sequence[Any], where: str
) -> list[dict[str, Any]]:
    """A row a method, with the mean of its maps."""
    model, layers = classifier.model, list(classifier.layers)
    cams = {
        "universal": LearnableCAM(model, layers, attention=attention),
        "classic CAM": LearnableCAM(model, layers[-1:]),
        "Grad-CAM": GradCAM(model, [classifier.layers[layers[-1]]]),
    }
    rows = compare_methods(model, cams, batches, classifier.pixels)
    first = batches[0] if isinstance(batches[0], Tensor) else batches[0][0]
    classes = predict(model, first)[1]
    for row in rows:
        row["mean of map"] = float(class_maps(cams[row["method"]], first, classes).mean()) * 100
    return [{"where": where, **row} for row in rows]
