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
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
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
from learnable_cam_plugin.classifier import frozen, predict
from learnable_cam_plugin.comparison import class_maps, markdown_table
from learnable_cam_plugin.data import (
    CLASSES,
    NORMALIZATION,
    PhotoFolder,
    draw_images,
    mosaics,
)
from learnable_cam_plugin.masking import mask_image
from learnable_cam_plugin.metrics import METRICS, Explained
from learnable_cam_plugin.pretrained import train_classifier
from learnable_cam_plugin.training import BesideSeveral, Companion

from ..report.schema import leave
from ..sources import SIDES, lite, shapes_classifier

ON_ALL = [f"{of} {kept}%" for kept in (100, 50, 15) for of in ("AD", "IC")]
ON_ALL += ["complexity", "ADCC", "energy inside", "pointing game"]
ON_FEW = ["insertion", "deletion", "ROAD"]


@click.command(help=__doc__)
@click.option("--train", "folders", multiple=True, type=click.Path(exists=True), required=True)
@click.option("--val", "held_out", multiple=True, type=click.Path(exists=True), required=True)
@click.option("--epochs", default=4, show_default=True)
@click.option("--drawn", default=4, show_default=True, help="networks of drawn images")
@click.option("--area", default=0.6, show_default=True, help="weight of the mean of the map")
@click.option("--every", default=4, show_default=True, help="which of the held-out photographs")
@click.option("--few", default=24, show_default=True, help="on which the slow metrics are taken")
@click.option("--photos", type=int, help="photographs to train on; all unless given")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(
    folders: Sequence[str],
    held_out: Sequence[str],
    epochs: int,
    drawn: int,
    area: float,
    every: int,
    few: int,
    photos: int | None,
    out: Path,
) -> None:
    attention = train(folders, epochs, drawn, area, photos, out)
    rows = [row for f in held_out for row in score_photos(attention, Path(f), every, few)]
    rows += score_drawn(attention, out, few)
    seen = f"Beside classifiers that it never saw. Insertion, deletion, ROAD: {few} images each."
    leave(out, "universal", [seen, markdown_table(rows)], rows=rows)


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
    attention: UniversalAttention, folder: Path, every: int, few: int
) -> list[dict[str, Any]]:
    """Rows of EfficientNet-Lite2 on every so many photographs, and on mosaics of them."""
    classifier = lite(2)
    photos = PhotoFolder(folder, classifier.pixels, SIDES[2])
    images = torch.stack([photos[i] for i in range(0, len(photos), every)])
    parts = [predict(classifier.model, part) for part in images.split(16)]
    p, classes = (torch.cat(part) for part in zip(*parts, strict=True))
    where = f"Lite2, {folder.parent.name}/{folder.name}"
    seen = Explained(classifier.model, classifier.pixels, images, classes, images[:, 0])
    return score(classifier, attention, seen, few, where, p > 0.5)


def score_drawn(attention: UniversalAttention, out: Path, few: int) -> list[dict[str, Any]]:
    """Rows of the quick start's network, on drawn images whose true regions are known."""
    model = shapes_classifier(out / "classifiers" / "held-out.safetensors", 0)
    classifier = FrozenClassifier.of(model, ["features.1", "features"], NORMALIZATION)
    test = draw_images(150, 10_000)
    classes, regions = test.classes[:, 0], test.regions[:, 0]
    seen = Explained(model, NORMALIZATION, test.images, classes, regions, regions=regions)
    return score(classifier, attention, seen, few, "a small network, drawn images")


def score(
    classifier: FrozenClassifier,
    attention: UniversalAttention,
    seen: Explained,
    few: int,
    where: str,
    sure: Tensor | None = None,
) -> list[dict[str, Any]]:
    """A row a method: the means of the metrics over the images `seen`, whose maps are yet to be
    made, or over `few` of them; and the grid pointing game on mosaics of the `sure` ones (N,)."""
    model, names = classifier.model, list(classifier.layers)
    bound = universal_attention(model, names, seen.images[:4], trained=attention)
    cams = {
        "universal": LearnableCAM(model, names, attention=bound),
        "classic CAM": LearnableCAM(model, names[-1:]),
        "Grad-CAM": GradCAM(model, [classifier.layers[names[-1]]]),
    }
    rows = []
    for name, cam in cams.items():
        maps = explained(cam, seen.images, seen.classes)
        again = explained(cam, mask_image(seen.images, maps, seen.normalization), seen.classes)
        found = replace(seen, maps=maps, again=again, _known={})
        row: dict[str, Any] = {"where": where, "method": name, "images": len(maps)}
        for key in ON_ALL:
            if seen.regions is not None or not METRICS[key].needs_regions:
                row[key] = float(METRICS[key].compute(found).mean())
        if sure is not None and len(seen.classes[sure].unique()) >= 4:
            row["grid pointing"] = grid_pointing(cam, seen, sure)
        some = found.of(torch.arange(min(few, len(maps))))
        row |= {key: float(METRICS[key].compute(some).mean()) for key in ON_FEW}
        rows.append(row)
    return rows


def explained(cam: BaseCAM, images: Tensor, classes: Tensor) -> Tensor:
    """The maps (N, H, W), 16 images at a time."""
    parts = zip(images.split(16), classes.split(16), strict=True)
    return torch.cat([class_maps(cam, x, y) for x, y in parts])


def grid_pointing(cam: BaseCAM, seen: Explained, sure: Tensor) -> float:
    """Percent of the map in its cell, of 40 mosaics of images that the classifier is sure of."""
    images, classes = seen.images[sure], seen.classes[sure]
    tiles, members, cells = mosaics(images, classes, 40, 0)
    wanted = classes[members.gather(1, cells[:, None])[:, 0]]
    maps = explained(cam, tiles, wanted)
    found = Explained(seen.model, seen.normalization, tiles, wanted, maps, cells=cells)
    return float(METRICS["grid pointing"].compute(found).mean())
