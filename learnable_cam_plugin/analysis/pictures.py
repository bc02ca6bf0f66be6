"""Maps and regions as pictures: grey, coloured over a photograph, and as runs of pixels."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .case import Case, Map, Region

Pixels = NDArray[np.uint8]
KINDS = ("predicted", "other", "contrast", "reverse")
ALPHA = 0.7  # of the colour where a map is brightest; elsewhere, by the root of its brightness
# viridis (Smith, van der Walt 2015) at 17 even steps: perceptually uniform, of growing lightness
VIRIDIS = np.array(
    [
        *((68, 1, 84), (72, 24, 106), (71, 45, 123), (66, 64, 134), (59, 82, 139), (51, 99, 141)),
        *((44, 114, 142), (38, 130, 142), (33, 145, 140), (31, 160, 136), (40, 174, 128)),
        *((63, 188, 115), (94, 201, 98), (132, 212, 75), (173, 220, 48), (216, 226, 25)),
        (253, 231, 37),
    ],
    dtype=np.float32,
)


def brightest(case: Case) -> float:
    """The highest value of the four maps, which they are all shown against; 1 if all are 0."""
    return max(float(getattr(case.maps, kind).max()) for kind in KINDS) or 1.0


def grey(found: Map, brightest: float) -> Pixels:
    """A map (h, w) in 8 bits: 255 is `brightest`."""
    return (255 * np.clip(found / brightest, 0, 1)).round().astype(np.uint8)


def enlarged(found: Map, size: tuple[int, int]) -> Map:
    """A map (h, w) at an image's size (H, W), float32, by bilinear interpolation."""
    height, width = size
    picture = Image.fromarray(np.ascontiguousarray(found, dtype=np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def coloured(pixels: Pixels, found: Map, brightest: float) -> Pixels:
    """A map (h, w) over a photograph (H, W, 3), in viridis, clear where it is 0."""
    share = np.clip(enlarged(found, pixels.shape[:2]) / brightest, 0, 1)
    steps = np.linspace(0, 1, len(VIRIDIS))
    colours = np.stack([np.interp(share, steps, VIRIDIS[:, i]) for i in range(3)], axis=-1)
    opacity = ALPHA * np.sqrt(share[..., None])
    return (pixels * (1 - opacity) + colours * opacity).round().astype(np.uint8)


def runs(region: Region) -> list[int]:
    """A region (H, W), row by row: how many pixels are outside, then inside, then outside, ...

    >>> runs(np.array([[False, True, True], [True, False, False]]))
    [1, 3, 2]
    """
    ends = np.flatnonzero(np.diff(region.ravel(), prepend=False))
    return np.diff([*ends, region.size], prepend=0).tolist()


def jpeg(pixels: Pixels | Image.Image, quality: int = 85) -> bytes:
    """A photograph, (H, W, 3) if it is an array, as a JPEG file."""
    file = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def text(content: bytes) -> str:
    """Bytes in base64."""
    return base64.b64encode(content).decode("ascii")
