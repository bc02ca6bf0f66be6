"""Photographs from files, and the part of them that a classifier sees; no torch."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}

# How many times the shorter side that the transform resizes to a reduced photograph keeps at least;
# by Pillow's documentation of `reducing_gap` the resize then shows no difference.
_GAP = 3


def read_photo(path: str | os.PathLike[str], size: int | None = None) -> Image.Image:
    """An image file in RGB, upright (EXIF), what is transparent in white; its first frame.

    Grey levels of 16 bits, and floats in [0, 1], are scaled to 8 bits. No more pixels are decoded
    than Pillow deems safe (`PIL.Image.MAX_IMAGE_PIXELS`: 89,478,485 unless you set it).

    Args:
        path: of the file.
        size: of the crop that is to be taken. A photograph whose shorter side is 6
            times as long as that needs, or more, is then reduced by a whole number while it is
            read, JPEGs while they are decoded; smaller ones have the same pixels without.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, no image, not whole, or has too many pixels or grey levels of
            unknown range; names the file.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder, not an image: pass a file of it, or use PhotoFolder")
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no photograph at {path}")
    try:
        with Image.open(path) as image:
            _check_pixels(image.size, size)
            smallest = None if size is None else _GAP * shorter_side(size)
            if smallest is not None:
                image.draft(None, (smallest, smallest))  # of a JPEG: decode it by parts
            photo = upright(image)
            if smallest is not None and min(photo.size) >= 2 * smallest:
                photo = photo.reduce(min(photo.size) // smallest)
            return photo if photo.mode == "RGB" else photo.convert("RGB")
    except Exception as error:  # Pillow's decoders raise of any kind at a damaged file
        reason = str(error) or repr(error)
        raise ValueError(f"{path} is not a readable image: {reason}") from error


def upright(image: Image.Image) -> Image.Image:
    """As its EXIF says, in place, as L or RGB."""
    ImageOps.exif_transpose(image, in_place=True)
    return _in_eight_bits(image)


def _check_pixels(size: tuple[int, int], crop: int | None) -> None:
    """Refuse a picture that takes more pixels than Pillow deems safe, as it is or resized."""
    limit = Image.MAX_IMAGE_PIXELS
    pixels, shorter, longer = size[0] * size[1], min(size), max(size)
    resized = 0 if crop is None else shorter_side(crop) ** 2 * longer // shorter
    if limit is not None and max(pixels, resized) > limit:
        raise ValueError(
            f"{size[0]} x {size[1]} = {pixels:,} pixels"
            + (f", {resized:,} when its shorter side is resized," if resized > limit else "")
            + f" are more than PIL.Image.MAX_IMAGE_PIXELS, {limit:,}: make it smaller first"
        )


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Any mode of Pillow's as L or RGB, without the clipping of its own conversion."""
    if image.mode == "F" or image.mode.startswith("I"):  # floats and 16 bits, of one channel
        levels, top = np.asarray(image), 1 if image.mode == "F" else 65535
        low, high = levels.min(), levels.max()
        if not 0 <= low <= high <= top:
            raise ValueError(f"its grey levels are {low} to {high}, not 0 to {top}")
        grey = np.round(levels * 255) if image.mode == "F" else levels >> 8
        return Image.fromarray(grey.astype(np.uint8))
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", layer.size, "white")
        white.paste(layer, mask=layer)
        return white
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def shorter_side(size: int) -> int:
    """What a photograph's shorter side is resized to, for a crop of `size`."""
    return round(size * 256 / 224)


def photo_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The files of `EXTENSIONS` under a folder, at any depth, sorted. Links to folders are
    followed, to each folder once; hidden files are left out; links that lead nowhere are among
    them: who reads them is told so.

    Raises:
        FileNotFoundError: no such folder, or no such file under it.
        OSError: a folder under it cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder of photographs at {root}")
    files, seen, starts = list[Path](), set[str](), [root]
    for start in starts:  # which grows by the links, so that a folder is found where it is first
        for place, folders, names in os.walk(start, onerror=_raised):
            if (real := os.path.realpath(place)) in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inside = [Path(place, name) for name in folders]
            starts += [path for path in inside if path.is_symlink()]
            paths = [Path(place, name) for name in names if not name.startswith(".")]
            files += [path for path in paths if path.suffix.lower() in EXTENSIONS]
    files = sorted(path for path in files if path.is_file() or not path.exists())
    if not files:
        raise FileNotFoundError(f"no photograph ({', '.join(sorted(EXTENSIONS))}) under {root}")
    return files


def _raised(error: OSError) -> None:
    raise error  # else what is in the folder would be left out in silence


def cropped(image: Image.Image, side: Sequence[int]) -> Image.Image:
    """The centre (H, W) of a photograph that was resized to cover 256 / 224 of it, in RGB.

    >>> cropped(Image.new("L", (60, 50)), (32, 32)).size
    (32, 32)
    """
    height, width = map(shorter_side, side)
    scale = max(height / image.height, width / image.width)
    size = max(width, int(image.width * scale)), max(height, int(image.height * scale))
    resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    left, upper = round((size[0] - side[1]) / 2), round((size[1] - side[0]) / 2)
    return resized.crop((left, upper, left + side[1], upper + side[0]))


def normalized(
    image: Image.Image, norm: Mapping[str, Sequence[float]], grey: bool = False
) -> np.ndarray:
    """What a classifier takes of an RGB image: (3, H, W) float32, or of one channel if it is of
    grey images; `norm` has "mean" and "std", one a channel, of pixels in [0, 1].

    >>> normalized(Image.new("RGB", (4, 2), "white"), {"mean": [0.5], "std": [0.25]}, True).shape
    (1, 2, 4)
    """
    values = np.asarray(image.convert("L") if grey else image, np.float32) / 255
    mean, std = (np.array(norm[k], np.float32).reshape(-1, 1, 1) for k in ("mean", "std"))
    return ((values[None] if grey else values.transpose(2, 0, 1)) - mean) / std
