"""A small classifier of drawn shapes, as it comes with the package, and its training."""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from .. import checkpoint
from ..data import CLASSES, NORMALIZATION, SIZE, DrawnImages
from ..masking import mask_image
from ..saliency import resize

SHAPES = Path(__file__).parent / "shapes.safetensors"


def small_network() -> nn.Sequential:
    """A small convolutional classifier of drawn images: maps 12x12, pooling, one linear layer."""

    def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

    shapes = (3, 24, 2), (24, 48, 2), (48, 96, 2), (96, 96, 1), (96, 96, 1)
    features = nn.Sequential(*(block(*shape) for shape in shapes))
    pool, flatten, head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, len(CLASSES))
    return nn.Sequential(OrderedDict(features=features, pool=pool, flatten=flatten, head=head))


def shapes_classifier() -> nn.Sequential:
    """`small_network`, trained: a classifier of drawn shapes, in eval mode, that names both of an
    image's shapes. A file of this package; how it was made is in `pretrained/README.md`.

    >>> from learnable_cam_plugin.data import draw_images
    >>> drawn = draw_images(1, seed=10_000)
    >>> best = shapes_classifier()(drawn.images).topk(2).indices[0]
    >>> [CLASSES[c] for c in sorted(best)] == [CLASSES[c] for c in sorted(drawn.classes[0])]
    True
    """
    with torch.random.fork_rng(devices=[]):  # no random number is left used
        model = small_network()
    model.load_state_dict(checkpoint.load(SHAPES)[0])
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, drawn: DrawnImages) -> float:
    """The share of images, 0 to 1, whose two top classes are the two shapes present."""
    top = model(drawn.images).topk(2, 1).indices.sort(1).values
    return float((top == drawn.classes.sort(1).values).all(1).float().mean())


def train_classifier(
    model: nn.Module,
    drawn: DrawnImages,
    epochs: int,
    seed: int,
) -> None:
    """Train a classifier to share its probability between an image's two shapes.

    Half of the images are seen through a random soft mask, and a shape's share of the probability
    is its share of what is left visible: masked images, on which explanations are scored, are then
    nothing foreign to the classifier.

    Args:
        model: gives a score for each of `CLASSES`.
        drawn, epochs, seed: what to train on, at least 32 images; passes, at least 1, in batches
            of 32; of the order and masks.
    """
    if len(drawn.images) < 32 or epochs < 1:
        raise ValueError(
            f"at least 32 images and 1 epoch are needed, got {len(drawn.images)} and {epochs}"
        )
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    steps = len(drawn.images) // 32
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * steps)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(drawn.images), generator=generator)
        for part in order[: 32 * steps].split(32):
            images, classes, regions = drawn.images[part], drawn.classes[part], drawn.regions[part]
            masks = resize(torch.rand(32, 4, 4, generator=generator), (SIZE, SIZE)) * 1.6
            masks = masks.clamp(max=1.0)
            masks[::2] = 1.0
            visible = (regions * masks[:, None]).sum((2, 3)) / regions.sum((2, 3))
            shares = visible / visible.sum(1, keepdim=True)
            goal = torch.zeros(32, len(CLASSES)).scatter_(1, classes, shares)
            loss = F.cross_entropy(model(mask_image(images, masks, NORMALIZATION)), goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
