"""Images to train on and to explain: photographs, drawn shapes, mosaics."""

from .mosaics import cell_regions, mosaics
from .photos import EXTENSIONS, PhotoFolder, photo_files, photo_transform, read_photo
from .shapes import CLASSES, NORMALIZATION, SIZE, DrawnImages, draw_images

__all__ = [
    "CLASSES",
    "EXTENSIONS",
    "NORMALIZATION",
    "SIZE",
    "DrawnImages",
    "PhotoFolder",
    "cell_regions",
    "draw_images",
    "mosaics",
    "photo_files",
    "photo_transform",
    "read_photo",
]
