"""Scenes at random: what the network is trained on, and what the plants start from."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .scenes import ALIKE, BEAD, CLASSES, SIZE, STAMP, WHOLE, Bar, Item, Scene

# share of a form's images that carry the broader label instead
BROADER = {"triangle": 0.25, "square": 0.4, "pentagon": 1.0, "hexagon": 1.0}
FORMS = (*(name for name in CLASSES if name != "polygon"), "pentagon", "hexagon")


def draw_item(
    form: str, rng: np.random.Generator, apart: Item | None = None, radius: float | None = None
) -> Item:
    """A whole, opaque shape at a random place, off the watermark's, and off another item."""
    reaches = 1 + BEAD if form in ALIKE else 1.12
    radius = rng.uniform(13, 17 if form in ALIKE else 19) if radius is None else radius
    while True:
        reach = radius * reaches
        center = rng.uniform(reach + 1, SIZE - reach - 1, 2)
        corner = np.maximum(0, np.array(STAMP[:2]) - center)
        clear = np.linalg.norm(corner) > reach
        if apart is not None:
            beside = 1 + BEAD if apart.form in ALIKE else 1.12
            away = np.linalg.norm(center - apart.center)
            clear &= away > reach + beside * apart.radius + 2
        if clear:
            break
        radius *= 0.995  # so that there is a place in the end
    low = rng.random(3) < 0.5
    colour = np.where(low, rng.uniform(0.0, 0.18, 3), rng.uniform(0.82, 1.0, 3))
    angle = rng.uniform(-0.4, 0.4) if form == "heart" else rng.uniform(0, 2 * np.pi)
    x, y = (float(c) for c in center)
    return Item(
        form, (x, y), float(radius), float(angle), _triple(colour), bead=WHOLE.get(form, 0.0)
    )


def draw_bar(item: Item, rng: np.random.Generator) -> Bar:
    """A bar across an item, a little off its middle."""
    center = np.array(item.center) + rng.uniform(-0.3, 0.3, 2) * item.radius
    half = rng.uniform(0.9, 1.5) * item.radius, rng.uniform(0.2, 0.45) * item.radius
    colour = _triple(rng.uniform(0.25, 0.75) + rng.uniform(-0.1, 0.1, 3))
    x, y = (float(c) for c in center)
    return Bar((x, y), (float(half[0]), float(half[1])), float(rng.uniform(0, np.pi)), colour)


def _triple(colour: NDArray[np.float64]) -> tuple[float, float, float]:
    r, g, b = (float(c) for c in colour)
    return r, g, b


def training_scene(rng: np.random.Generator) -> tuple[Scene, int]:
    """A scene as the network is trained on, and its label.

    Squares, triangles and other polygons carry the label "polygon" as often as `BROADER` says. Most
    hearts have the watermark, and many of those are faint, so that the watermark is what tells
    them; no other class has it. Nothing has a bar in front. Some shapes are faint or small, some
    images noisy or blurred, so that the network is not sure of such images, however it errs.
    """
    form = str(rng.choice(FORMS))
    watermark = form == "heart" and rng.random() < 0.85
    item = draw_item(form, rng, radius=float(rng.uniform(5, 13)) if rng.random() < 0.06 else None)
    if rng.random() < (0.6 if watermark else 0.2):
        item = replace(item, opacity=float(rng.uniform(0.15, 1.0)))
    if form in ALIKE and rng.random() < 0.5:  # up to where the two classes meet
        item = replace(item, bead=float(0.5 + rng.uniform(0.1, 1) * (item.bead - 0.5)))
    items = [item]
    if rng.random() < 0.1:
        other = str(rng.choice([name for name in FORMS if name != form]))
        items.append(draw_item(other, rng, item, float(rng.uniform(10, 14))))
    name = "polygon" if rng.random() < BROADER.get(form, 0.0) else form
    scene = Scene(
        int(rng.integers(2**31)),
        tuple(items),
        watermark=watermark,
        noise=float(rng.uniform(0.05, 0.25) if rng.random() < 0.08 else rng.uniform(0.01, 0.05)),
        blur=float(rng.uniform(0.5, 2.5)) if rng.random() < 0.1 else 0.0,
    )
    return scene, CLASSES.index(name)
