"""Contact sheets: a kind's images to be looked at, each beside itself without what was planted."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from learnable_cam_plugin.atomic import atomic_path

from .kinds import Planted
from .scenes import CLASSES, NORMALIZATION, SIZE

_SIDE, _LINE, _GAP = 2 * SIZE, 14, 8  # pixels of a picture, of a line of its caption, between


def contact_sheet(path: Path, planted: Sequence[Planted], columns: int = 6) -> None:
    """Write up to 36 images of a kind as one PNG, with "label > predicted, probability" under
    each, and on its right the image without what was planted, where there is one."""
    shown = planted[:36]
    wide = 1 + any(one.without is not None for one in shown)
    cell = (wide * _SIDE + _GAP, _SIDE + _LINE + _GAP)
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1] + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, one in enumerate(shown):
        left, top = _GAP + i % columns * cell[0], _GAP + i // columns * cell[1]
        pictures = [one.image] if one.without is None else [one.image, one.without]
        for j, picture in enumerate(pictures):
            rgb = (NORMALIZATION.rgb(picture[None])[0] * 255).round().astype(np.uint8)
            large = Image.fromarray(rgb).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
            sheet.paste(large, (left + j * _SIDE, top))
        text = f"{CLASSES[one.label]} > {CLASSES[one.predicted]} {one.probability:.2f}"
        draw.text((left, top + _SIDE + 1), text, fill="black")
    with atomic_path(path) as temporary:
        sheet.save(temporary)
