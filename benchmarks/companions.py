"""The classifiers beside which one attention is trained: of photographs, and of drawn images."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as V

from learnable_cam_plugin import FrozenClassifier, checkpoint
from learnable_cam_plugin.data import CLASSES, NORMALIZATION, DrawnImages, draw_images
from learnable_cam_plugin.pretrained import train_classifier
from learnable_cam_plugin.training import Companion

from .families import FAMILIES
from .sources import found, lite

# the same network sees larger and smaller images: grids of 5 to 8 places a side, and cheaper steps
LITES = {"lite0 at 160": (0, 160), "lite1": (1, 240), "lite1 at 176": (1, 176)}


def family(name: str, weights: Path) -> tuple[FrozenClassifier, int]:
    """A classifier of `FAMILIES` with its layers, and the side of its images in pixels."""
    known = FAMILIES[name]
    return found(*known.load(weights), known.side), known.side


def photo_companions(weights: Mapping[str, Path]) -> Iterator[Companion]:
    """The smaller and larger EfficientNet-Lites, and the families whose weights are given."""
    for name, (number, side) in LITES.items():
        yield Companion(name, lite(number), side=side)
    for name, path in weights.items():
        classifier, side = family(name, path)
        yield Companion(name, classifier, side=side)


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
    head: nn.Module = nn.Linear(inputs, len(CLASSES))
    if seed % 3 == 2:  # a head that does more than pool
        head = nn.Sequential(nn.Linear(inputs, 64), nn.SiLU(), nn.Linear(64, len(CLASSES)))
    parts = OrderedDict(features=nn.Sequential(*blocks), pool=pool, flatten=flatten, head=head)
    return nn.Sequential(parts)


def restyled(drawn: DrawnImages, seed: int) -> DrawnImages:
    """Drawn images of another kind than those that are held out: larger or smaller shapes, other
    colours, contrasts, noise and blur, the same for all images of a seed."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    zoom, order = float(rng.uniform(0.75, 1.3)), torch.from_numpy(rng.permutation(3))
    pixels = NORMALIZATION.denormalize(drawn.images)[:, order]
    pixels = (pixels ** float(rng.uniform(0.6, 1.8))) * float(rng.uniform(0.6, 1.0))
    if rng.random() < 0.5:
        pixels = V.gaussian_blur(pixels, [5, 5], [float(rng.uniform(0.5, 1.5))])
    noise = torch.randn(pixels.shape, generator=generator) * float(rng.uniform(0, 0.1))
    pixels, regions = (pixels + noise).clamp(0, 1), drawn.regions
    pixels, regions = _zoomed(pixels, zoom), _zoomed(regions.float(), zoom) > 0.5
    return DrawnImages(NORMALIZATION.normalize(pixels), drawn.classes, regions)


def _zoomed(images: Tensor, zoom: float) -> Tensor:
    """About the centre; what lies beyond the border is as what lies on it."""
    side = images.shape[-1]
    matrix = torch.tensor([[1 / zoom, 0.0, 0.0], [0.0, 1 / zoom, 0.0]])
    size = [len(images), images.shape[1], side, side]
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), size, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def drawn_companions(count: int, kept: Path) -> Iterator[Companion]:
    """Classifiers of drawn images, each of a kind of its own, trained once and kept in a folder."""
    for seed in range(count):
        images = restyled(draw_images(1000, 100 + seed), seed)
        torch.manual_seed(seed)
        model, path = varied_network(seed), kept / f"{seed}.safetensors"
        if path.exists():
            model.load_state_dict(checkpoint.load(path)[0])
        else:
            click.echo(f"training classifier {seed + 1} of {count} of drawn images")
            train_classifier(model, images, 16, seed)
            checkpoint.save(path, model.state_dict(), {"classifier": "drawn shapes", "seed": seed})
        side = images.images.shape[-1]
        yield Companion(f"drawn {seed}", found(model.eval(), NORMALIZATION, side), images.images)


def weights_of(given: Sequence[str]) -> dict[str, Path]:
    """Family -> its weights, of 'name=path' each."""
    pairs = dict(one.split("=", 1) for one in given if "=" in one)
    unknown = [one for one in given if one.split("=", 1)[0] not in FAMILIES or "=" not in one]
    if unknown:
        raise click.UsageError(f"--family takes name=path, name one of {list(FAMILIES)}: {unknown}")
    return {name: Path(path) for name, path in pairs.items()}
