"""Photographs from a folder, as a classifier expects them."""

import os

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from ..masking import Normalization
from ..runtime.photographs import EXTENSIONS, photo_files, read_photo, shorter_side

__all__ = ["EXTENSIONS", "PhotoFolder", "photo_files", "photo_transform", "read_photo"]


def photo_transform(
    normalization: Normalization, size: int = 224, train: bool = False
) -> v2.Compose:
    """RGB image -> normalised tensor (3, size, size); see `PhotoFolder`."""
    steps: list[nn.Module] = [v2.ToImage(), v2.Resize(shorter_side(size), antialias=True)]
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
        ValueError: on access to a file that is no image, naming the file, see `read_photo`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        normalization: Normalization,
        size: int = 224,
        train: bool = False,
    ) -> None:
        self.files = photo_files(folder)
        self.size = size
        self.transform = photo_transform(normalization, size, train)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(read_photo(self.files[index], self.size))
