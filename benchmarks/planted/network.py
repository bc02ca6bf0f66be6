"""The small network that errs: trained on drawn scenes from a seed, and kept in a file."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from learnable_cam_plugin import checkpoint
from learnable_cam_plugin.masking import FILLINGS, background

from .draws import training_scene
from .scenes import CLASSES, NORMALIZATION, SIZE, Scene, render

COUNT, EPOCHS = 6500, 12
_BATCH = 32
_VERSION = 8  # of the drawings and of the training; a file of another one is made anew


def network() -> nn.Sequential:
    """A convolutional classifier: maps 20x20, then 10x10, global average pooling, a linear head.

    A place of the last maps sees 38 of the 80 pixels, in the middle of which it lies: kernels of 4
    at a stride of 2, not of 3, so that maps lie over what they are of.
    """

    def block(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

    shapes = (3, 24, 4, 2), (24, 48, 4, 2), (48, 96, 4, 2), (96, 96, 3, 1), (96, 128, 1, 1)
    features = nn.Sequential(*(block(*shape) for shape in shapes))
    pool, flatten, head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, len(CLASSES))
    return nn.Sequential(OrderedDict(features=features, pool=pool, flatten=flatten, head=head))


def images_of(scenes: Sequence[Scene]) -> Tensor:
    """Scenes, drawn and normalised: (N, 3, 80, 80)."""
    pixels = torch.from_numpy(np.stack([render(scene) for scene in scenes]))
    return NORMALIZATION.normalize(pixels.permute(0, 3, 1, 2).contiguous())


def training_set(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 3, 80, 80) and labels (N,) as the network is trained on, and where their shapes
    are: discs around them, bool (N, 80, 80)."""
    rng = np.random.default_rng(seed)
    found = [training_scene(rng) for _ in range(count)]
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    around = np.zeros((count, SIZE, SIZE), bool)
    for discs, (scene, _) in zip(around, found, strict=True):
        for item in scene.items:
            reach = item.radius * rng.uniform(1.1, 1.8)
            discs |= np.hypot(x - item.center[0], y - item.center[1]) < reach
    labels = torch.tensor([label for _, label in found])
    return images_of([scene for scene, _ in found]), labels, torch.from_numpy(around)


def _erased(images: Tensor, around: Tensor, generator: torch.Generator) -> Tensor:
    """Of a quarter of the images a rectangle is erased, of another all that is not around their
    shapes: what the tests of an analysis do is then nothing foreign to the network."""
    grounds = torch.stack([background(images, NORMALIZATION, name) for name in FILLINGS])
    which = torch.randint(len(FILLINGS), (len(images),), generator=generator)
    ground = grounds[which, torch.arange(len(images))]
    hidden = torch.zeros_like(around)
    for one in hidden[::4]:
        height, width = torch.randint(8, 24, (2,), generator=generator).tolist()
        top, left = torch.randint(0, SIZE - 24, (2,), generator=generator).tolist()
        one[top : top + height, left : left + width] = True
    hidden[1::4] = ~around[1::4]
    return torch.where(hidden[:, None], ground, images)


def train(seed: int, count: int = COUNT, epochs: int = EPOCHS) -> nn.Sequential:
    """The network, trained from a seed, in eval mode; three minutes of one slow CPU thread."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network().to(memory_format=torch.channels_last)  # a fifth faster
    images, labels, around = training_set(count, seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-3)
    steps = count // _BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=epochs * steps)
    with tqdm(total=epochs * steps, desc="training") as bar:
        for _ in range(epochs):
            order = torch.randperm(count, generator=generator)
            for part in order[: steps * _BATCH].split(_BATCH):
                erased = _erased(images[part], around[part], generator)
                scores = model(erased.to(memory_format=torch.channels_last))
                loss = F.cross_entropy(scores, labels[part], label_smoothing=0.02)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
                bar.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)
    return model.to(memory_format=torch.contiguous_format).eval()


def trained_network(folder: Path, seed: int) -> nn.Sequential:
    """The network of a seed: from the folder's file, or trained and left there.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / f"network-{seed}.safetensors"
    made = {"planted network": _VERSION, "seed": seed, "count": COUNT, "epochs": EPOCHS}
    if path.exists():
        tensors, record = checkpoint.load(path)
        if {key: record.get(key) for key in made} == made:
            model = network()
            model.load_state_dict(tensors)
            return model.eval()
    model = train(seed)
    checkpoint.save(path, model.state_dict(), made)
    return model


@torch.no_grad()
def probabilities(model: nn.Module, images: Tensor) -> Tensor:
    """Of each class, (N, K), in batches."""
    return torch.cat([model(part).softmax(1) for part in images.split(64)])
