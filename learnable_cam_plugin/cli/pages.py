"""`learnable-cam explain --write pages`: photographs beside Grad-CAM, some on a page."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic import atomic_path
from ..cam import LearnableCAM
from ..classifier import class_scores, device_of, probabilities
from ..comparison import class_maps, grad_cam, picture
from ..loading import LoadedClassifier
from .classifiers import open_attention
from .photographs import batched, find_photos, read_each

# photographs in memory at once, and rows of a picture
_BATCH = 8


def explain_photos(
    loaded: LoadedClassifier,
    photos: Sequence[Path],
    out: Path,
    top: int = 1,
    name: str = "explanations",
    attention: str | None = None,
    batch: int = _BATCH,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Explain the `top` most probable classes (1 to 1,000) of photographs, beside Grad-CAM.

    The photographs are those of `find_photos`. They are read and explained a few at a time. Writes
    `name`.png and, beyond `batch` rows, `name`-002.png and so on into the folder `out`, `name`.json
    at the end.

    Returns:
        what the JSON file holds, a row an explanation, with "photo", "class" (index), "name",
        "probability" and "picture"; and why each photograph was left out that cannot be read.

    Raises:
        FileNotFoundError: no photograph is given, and no package here ships any.
        ValueError: `top` is out of range; or the names are not one a class.
    """
    classes = len(loaded.class_names or ())
    if top < 1 or (classes and top > classes):
        raise ValueError(f"top must be 1 to {classes}, the number of classes, got {top}")
    files = list(find_photos(photos, out))
    unread: list[str] = []
    explanations = _top_classes(loaded, read_each(files, loaded, unread, "explaining"), top)
    rows: list[dict[str, Any]] = []
    ours = LearnableCAM(loaded.model, attention=open_attention(attention))
    for page, part in enumerate(batched(explanations, batch), 1):
        images = torch.stack([image for _, image, _, _ in part])
        maps = _maps(loaded, ours, images, torch.tensor([c for _, _, c, _ in part]))
        titles = [f"{loaded.class_name(c)}\np = {p:.2f}" for _, _, c, p in part]
        file = f"{name}.png" if page == 1 else f"{name}-{page:03d}.png"
        picture(out / file, images, titles, maps, loaded.pixels)
        rows += [
            {
                "photo": str(path),
                "class": c,
                "name": loaded.class_name(c),
                "probability": round(p, 4),
                "picture": file,
            }
            for path, _, c, p in part
        ]
    if rows:
        with atomic_path(out / f"{name}.json") as path:
            path.write_text(json.dumps(rows, indent=1))
    return rows, unread


def _top_classes(
    loaded: LoadedClassifier, photos: Iterable[tuple[Path, Tensor]], top: int
) -> Iterator[tuple[Path, Tensor, int, float]]:
    """Each photograph with each of its `top` most probable classes, and its probability."""
    for part in batched(photos, _BATCH):
        with torch.no_grad():
            images = torch.stack([image for _, image in part])
            scores = class_scores(loaded.model(images.to(device_of(loaded.model))))
        loaded.check_names(scores.shape[1])
        found = probabilities(scores).topk(min(top, scores.shape[1]), 1)
        for (path, image), p, c in zip(part, found.values, found.indices, strict=True):
            for one, index in zip(p.tolist(), c.tolist(), strict=True):
                yield path, image, index, one


def _maps(
    loaded: LoadedClassifier, ours: LearnableCAM, images: Tensor, classes: Tensor
) -> dict[str, Tensor]:
    """Each method's maps; Grad-CAM holds on to its last graph, 95 MB an image, until it goes."""
    with grad_cam(loaded.frozen, images.shape[2:]) as other:
        cams = {"Grad-CAM": other, "LearnableCAM": ours}
        return {name: class_maps(cam, images, classes) for name, cam in cams.items()}
