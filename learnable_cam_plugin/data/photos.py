"""Photographs from a folder, as a classifier expects them."""

import os
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from ..masking import Normalization

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def read_photo(path: str | os.PathLike[str]) -> Image.Image:
    """An image file, in RGB; a FileNotFoundError or, if it is no image, a ValueError names it."""
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
    steps: list[nn.Module] = [v2.ToImage(), v2.Resize(round(size * 256 / 224), antialias=True)]
    steps += [v2.RandomCrop(size), v2.RandomHorizontalFlip()] if train else [v2.CenterCrop(size)]
    steps += [v2.ToDtype(torch.float32, scale=True)]
    steps += [v2.Normalize(list(normalization.mean), list(normalization.std))]
    return v2.Compose(steps)


class PhotoFolder(Dataset[Tensor]):
    """The photographs under a folder, at any depth, as normalised tensors (3, size, size).

    Args:
        folder, normalization: with files of `EXTENSIONS`; the classifier's.
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
