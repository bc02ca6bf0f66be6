"""What is drawn: shapes on a cluttered ground, and what may be added to spoil them.

A scene is a description, so that the same scene without one of its parts can be drawn: the
counterfactual that shows what an error came from.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from learnable_cam_plugin.masking import Normalization

SIZE = 80
NORMALIZATION = Normalization([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
CLASSES = (
    "bright bead",
    "dark bead",
    "triangle",
    "square",
    "polygon",
    "heart",
    "cross",
    "star",
    "crescent",
    "arrow",
    "disc",
    "hourglass",
)
ALIKE = ("bright bead", "dark bead")  # a ring; its bead white in black, or black in white
STAMP = (SIZE - 21, SIZE - 13, SIZE - 4, SIZE - 4)  # the watermark's left, top, right and bottom
BEAD = 0.5  # radius of the bead, in the ring's
WHOLE = {"bright bead": 0.95, "dark bead": 0.05}  # how light it is

Pixels = NDArray[np.float32]
Region = NDArray[np.bool_]
_FINE = 4  # stencils are drawn so many times larger, for smooth edges
_BAND = 0.26  # the ring's width, in radii
_CORE = 0.65  # of the bead, in its radii; its rim is as dark as that is light


@dataclass(frozen=True)
class Item:
    """A shape: its form, centre and radius in pixels, angle in radians, colour in [0, 1], how
    opaque it is, and of a ring how light the middle of its bead is, in [0, 1]."""

    form: str
    center: tuple[float, float]
    radius: float
    angle: float
    colour: tuple[float, float, float]
    opacity: float = 1.0
    bead: float = 0.0


@dataclass(frozen=True)
class Bar:
    """A plain bar in front of everything: its centre, half its length and width, its angle."""

    center: tuple[float, float]
    half: tuple[float, float]
    angle: float
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """An image of 80 pixels: the seed of its ground and clutter, what lies on it, and what spoils
    it: a watermark, a bar in front, noise (a standard deviation) and blur (pixels)."""

    seed: int
    items: tuple[Item, ...] = field(default=())
    watermark: bool = False
    bar: Bar | None = None
    noise: float = 0.02
    blur: float = 0.0


def _turned(points: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def _regular(corners: int, *radii: float) -> NDArray[np.float64]:
    turns = np.arange(corners) * 2 * np.pi / corners
    return np.resize(radii, corners)[:, None] * np.stack([np.cos(turns), np.sin(turns)], 1)


def _heart() -> NDArray[np.float64]:
    t = np.linspace(0, 2 * np.pi, 60)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2], 1) / 15


_END = [(1.0, -0.34), (1.0, 0.34), (0.34, 0.34)]  # of an arm of the cross, and the notch after it
_FOUR = [(1, 0), (0, 1), (-1, 0), (0, -1)]
_OUTLINES = {
    "triangle": _regular(3, 1.15),
    "square": _regular(4, 1.1),
    "pentagon": _regular(5, 1.05),
    "hexagon": _regular(6, 1.0),
    "heart": _heart(),
    "cross": np.array([(x * i - y * j, x * j + y * i) for i, j in _FOUR for x, y in _END]),
    "star": _regular(10, 1.15, 0.48),
    "arrow": np.array(
        [(-1, -0.28), (0.1, -0.28), (0.1, -0.8), (1.1, 0), (0.1, 0.8), (0.1, 0.28), (-1, 0.28)]
    ),
    "disc": _regular(48, 0.95),
    "hourglass": np.array([(-0.8, -1), (0.8, -1), (0.12, 0), (0.8, 1), (-0.8, 1), (-0.12, 0)]),
}


def _filled(*parts: tuple[NDArray[np.float64], int]) -> Pixels:
    """Coverage (80, 80) in [0, 1] of polygons, each of which is filled (1) or cut out (0)."""
    stencil = Image.new("L", (SIZE * _FINE, SIZE * _FINE))
    draw = ImageDraw.Draw(stencil)
    for points, value in parts:
        draw.polygon([tuple(point) for point in points * _FINE], fill=255 * value)
    small = stencil.resize((SIZE, SIZE), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255)


def _bead(item: Item, radii: float) -> NDArray[np.float64]:
    """A disc at the bead's place, on the middle of the ring's band."""
    disc = _regular(32, radii * BEAD) + np.array([1 - _BAND / 2, 0])
    return np.array(item.center) + item.radius * _turned(disc, item.angle)


def coverage(item: Item) -> Pixels:
    """How much of each pixel an item covers, (80, 80) in [0, 1]."""

    def placed(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array(item.center) + item.radius * _turned(points, item.angle)

    if item.form in ALIKE:
        ring = placed(_regular(60, 1.0)), placed(_regular(60, 1.0 - _BAND))
        return _filled((ring[0], 1), (ring[1], 0), (_bead(item, 1.0), 1))
    if item.form == "crescent":
        bite = placed(_regular(48, 0.85) + np.array([0.5, 0]))
        return _filled((placed(_regular(48, 1.05)), 1), (bite, 0))
    return _filled((placed(_OUTLINES[item.form]), 1))


def _bar(bar: Bar) -> Pixels:
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.array(bar.half)
    return _filled((np.array(bar.center) + _turned(corners, bar.angle), 1))


def _stamped(pixels: Pixels) -> None:
    """The watermark: always the same, a white label with a black zigzag."""
    left, top, right, bottom = STAMP
    label = Image.new("L", ((right - left) * _FINE, (bottom - top) * _FINE), 255)
    width, height = label.size
    xs = np.linspace(0.1, 0.9, 6) * width
    ys = np.resize([0.2, 0.8], 6) * height
    ImageDraw.Draw(label).line(list(zip(xs, ys, strict=True)), fill=0, width=2 * _FINE)
    small = label.resize((right - left, bottom - top), Image.Resampling.BOX)
    pixels[top:bottom, left:right] = np.asarray(small, np.float32)[..., None] / 255


def _ground(rng: np.random.Generator) -> Pixels:
    """Smooth colours with short lines and dots on them, (80, 80, 3)."""
    coarse = rng.uniform(0.3, 0.7, (5, 5, 1)) + rng.uniform(-0.12, 0.12, (5, 5, 3))
    small = Image.fromarray((coarse * 255).astype(np.uint8))
    ground = small.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(ground)
    for _ in range(rng.integers(6, 16)):
        x, y, turn = *rng.uniform(0, SIZE, 2), rng.uniform(0, 2 * np.pi)
        colour = tuple(int(c) for c in rng.uniform(40, 215, 3))
        if rng.random() < 0.5:
            reach = rng.uniform(4, 11)
            end = (x + reach * np.cos(turn), y + reach * np.sin(turn))
            draw.line([(x, y), end], fill=colour, width=int(rng.integers(1, 3)))
        else:
            r = rng.uniform(0.8, 2.2)
            draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)
    return np.asarray(ground, np.float32) / np.float32(255)


def render(scene: Scene) -> Pixels:
    """The image (80, 80, 3), in steps of 1 / 255 in [0, 1], as a file would hold it."""
    rng = np.random.default_rng(scene.seed)
    pixels = _ground(rng).copy()
    grain = rng.normal(0, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    for item in scene.items:
        alpha = item.opacity * coverage(item)[..., None]
        fill = np.array(item.colour, np.float32) + 0.03 * grain[0]
        pixels = pixels * (1 - alpha) + fill * alpha
        if item.form in ALIKE:
            for radii, grey in ((1.0, 1 - item.bead), (_CORE, item.bead)):
                alpha = item.opacity * _filled((_bead(item, radii), 1))[..., None]
                pixels = pixels * (1 - alpha) + grey * alpha
    if scene.watermark:
        _stamped(pixels)
    if scene.bar is not None:
        alpha = _bar(scene.bar)[..., None]
        pixels = pixels * (1 - alpha) + np.array(scene.bar.colour, np.float32) * alpha
    if scene.blur:
        whole = Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))
        blurred = whole.filter(ImageFilter.GaussianBlur(scene.blur))
        pixels = np.asarray(blurred, np.float32) / 255
    pixels = (pixels + scene.noise * grain[1]).clip(0, 1)
    return (pixels * 255).round().astype(np.float32) / 255


def regions(scene: Scene) -> dict[str, Region]:
    """What is known of it, bool (80, 80) each: "item 0", "item 1", ... and, where there are any,
    "part", where a ring's classes differ, "watermark" and "bar"."""
    found = {f"item {i}": coverage(item) > 0.5 for i, item in enumerate(scene.items)}
    rings = [item for item in scene.items if item.form in ALIKE]
    if rings:
        found["part"] = _filled((_bead(rings[0], 1.0), 1)) > 0.5
    if scene.watermark:
        left, top, right, bottom = STAMP
        found["watermark"] = np.zeros((SIZE, SIZE), bool)
        found["watermark"][top:bottom, left:right] = True
    if scene.bar is not None:
        found["bar"] = _bar(scene.bar) > 0.5
    return found
