"""Where a comparison's classifiers and photographs come from."""

from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models

from learnable_cam_plugin import FrozenClassifier, Normalization, checkpoint
from learnable_cam_plugin.attention import UniversalAttention, shipped_attention
from learnable_cam_plugin.data import PhotoFolder, draw_images
from learnable_cam_plugin.pretrained import (
    efficientnet_lite,
    small_network,
    train_classifier,
)

IMAGENET = Normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
SIDES = {0: 224, 1: 240, 2: 260}  # that the EfficientNet-Lites are made for
LITES = {f"efficientnet-lite{number}": number for number in SIDES}


def best_device() -> torch.device:
    """A GPU, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def side_of(network: str) -> int:
    """Of the images that a network is made for, in pixels."""
    return SIDES[LITES[network]] if network in LITES else 224


def load_network(name: str, seeded: bool = False) -> tuple[nn.Module, Normalization]:
    """A classifier in eval mode, an EfficientNet-Lite or a network of torchvision, and its
    normalisation; `seeded` for random weights of torchvision's, to do without a download."""
    if name in LITES:
        return efficientnet_lite(LITES[name])
    torch.manual_seed(0)
    return models.get_model(name, weights=None if seeded else "IMAGENET1K_V1").eval(), IMAGENET


def found(model: nn.Module, normalization: Normalization, side: int) -> FrozenClassifier:
    """A classifier read where a user's would be, who names no layers."""
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    return FrozenClassifier.found(model, images, (), normalization)


def lite(number: int) -> FrozenClassifier:
    """EfficientNet-Lite with its last maps, and the last block of a grid twice as fine."""
    return found(*efficientnet_lite(number), SIDES[number])


def universal(path: Path | None) -> UniversalAttention:
    """A universal attention that was saved, a file or a folder; without one, the shipped one."""
    if path is None:
        return shipped_attention()
    return UniversalAttention.from_pretrained(path)


def shapes_classifier(path: Path, seed: int) -> nn.Module:
    """A small classifier of drawn shapes, trained once and kept at `path`."""
    torch.manual_seed(seed)
    model = small_network()
    if path.exists():
        model.load_state_dict(checkpoint.load(path)[0])
    else:
        print("training a small classifier of drawn shapes")
        train_classifier(model, draw_images(2000, seed), 24, seed)
        checkpoint.save(path, model.state_dict(), {"classifier": "drawn shapes", "seed": seed})
    return model.eval()


def load_photos(
    folder: Path,
    normalization: Normalization,
    names: Path | None,
    limit: int | None,
    side: int = 224,
) -> tuple[Tensor, list[str]]:
    """The photographs (N, 3, side, side) of a folder at any depth, and their titles.

    The lines of the text file `names` start with the file names wanted, or with their paths
    relative to the folder (what follows a blank is ignored); of those, or of all, `limit` are
    taken, evenly spread. Names that are not there, or several times, are an error.
    """
    photos = PhotoFolder(folder, normalization, side)
    if names is not None:
        wanted = [line.split()[0] for line in names.read_text().splitlines() if line.strip()]
        found = defaultdict(list)
        for path in photos.files:
            for key in {path.name, path.relative_to(folder).as_posix()}:
                found[key].append(path)
        for name in wanted:
            if len(found[name]) > 1:
                raise ValueError(
                    f"{names} names {name}, and {folder} has {len(found[name])} of that name: "
                    "list paths relative to the folder"
                )
        missing = [name for name in wanted if not found[name]]
        if missing or not wanted:
            raise FileNotFoundError(
                f"{len(missing)} of the {len(wanted)} images of {names} are not under {folder}, "
                f"for example {missing[:3]} (a name ends at its first blank)"
            )
        photos.files = [found[name][0] for name in wanted]
    if limit and limit < len(photos):
        photos.files = [photos.files[i * len(photos) // limit] for i in range(limit)]
    titles = [f"{path.parent.name}/{path.stem}" for path in photos.files]
    return torch.stack([photos[i] for i in range(len(photos))]), titles
