"""Where a comparison's classifiers and photographs come from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models

from learnable_cam_plugin import Normalization, checkpoint
from learnable_cam_plugin.data import PhotoFolder, draw_images
from learnable_cam_plugin.pretrained import efficientnet_lite0, small_network, train_classifier

IMAGENET = Normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def load_network(name: str, seeded: bool = False) -> tuple[nn.Module, Normalization]:
    """A classifier by name, in eval mode, and its normalisation.

    Args:
        name: "efficientnet-lite0", or a network of torchvision.
        seeded: random weights instead of trained ones, to try a protocol without a download.
    """
    if name == "efficientnet-lite0":
        return efficientnet_lite0()
    torch.manual_seed(0)
    return models.get_model(name, weights=None if seeded else "IMAGENET1K_V1").eval(), IMAGENET


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
    folder: Path, normalization: Normalization, names: Path | None, limit: int | None
) -> tuple[Tensor, list[str]]:
    """The photographs (N, 3, 224, 224) of a folder at any depth, and their titles.

    Args:
        folder: an ImageFolder layout or a flat one.
        normalization: of the classifier.
        names: a text file whose lines start with the file names wanted, or their paths relative
            to the folder (what follows a blank is ignored); all unless given.
        limit: that many, evenly spread over the folder.

    Raises:
        FileNotFoundError: no folder, no photograph, or names that are not in it.
        ValueError: a name that several files have.
    """
    photos = PhotoFolder(folder, normalization)
    if names is not None:
        wanted = [line.split()[0] for line in names.read_text().splitlines() if line.strip()]
        found: dict[str, list[Path]] = {}
        for path in photos.files:
            for key in {path.name, path.relative_to(folder).as_posix()}:
                found.setdefault(key, []).append(path)
        several = [name for name in wanted if len(found.get(name, [])) > 1]
        if several:
            raise ValueError(
                f"{names} names {several[0]}, and {folder} has {len(found[several[0]])} of that "
                "name: list paths relative to the folder"
            )
        missing = [name for name in wanted if name not in found]
        if missing or not wanted:
            raise FileNotFoundError(
                f"{len(missing)} of the {len(wanted)} images of {names} are not under {folder}, "
                f"for example {missing[:3]}"
            )
        photos.files = [found[name][0] for name in wanted]
    if limit and limit < len(photos):
        photos.files = [photos.files[i * len(photos) // limit] for i in range(limit)]
    titles = [f"{path.parent.name}/{path.stem}" for path in photos.files]
    return torch.stack([photos[i] for i in range(len(photos))]), titles
