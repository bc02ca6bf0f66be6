"""`learnable-cam explain`, one photograph after another: files of its own for each."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam.utils.image import show_cam_on_image
from torch import Tensor

from ..atomic import atomic_path
from ..cam import LearnableCAM
from ..classifier import class_scores, probabilities
from ..loading import LoadedClassifier
from .classifiers import described, device_named, find_classes, open_attention
from .common import Chosen
from .photographs import batched, find_photos, read_each
from .records import Row, key, records, state, whole_rows

# the first of them show how a head is told apart by place, in every run alike
_FIRST = 8


@dataclass(frozen=True)
class Wanted:
    """What is asked of each photograph.

    Attributes:
        kinds: of files, of "overlay", "heatmap" and "npy".
        top: of the most probable classes, unless there are `classes`, by name or index.
        batch: images at once; the answers are the same.
    """

    kinds: tuple[str, ...] = ("overlay",)
    top: int = 1
    classes: tuple[str, ...] = ()
    batch: int = 8


def explain_each(
    loaded: LoadedClassifier,
    chosen: Chosen,
    attention: str | None,
    photos: Sequence[Path],
    out: Path,
    wanted: Wanted,
    unread: list[str],
) -> Iterator[tuple[Row, bool]]:
    """Explain photographs, see `find_photos`; what was done before in `out` is not done again.

    Args:
        loaded, chosen, attention: the classifier, by which options; the attention's file, or None.
        photos, out, wanted: of what; the folder to write to; what to write.
        unread: why photographs were left out is added to it.

    Yields:
        (row, whether it is new): "photo", "state", "stem" and "explanations", each of these with
        "class" (index), "name", "probability" and "files", kind -> name within `out`.

    Raises:
        ValueError: `out` has explanations of other settings; a class that there is not.
        OSError: a file cannot be written. What was written before is whole.
    """
    given = open_attention(attention)
    found = find_photos(photos, out)
    settings = {**described(chosen, loaded.model, given), **asdict(wanted)}
    del settings["batch"]
    device = device_named(chosen.device)
    loaded.model.to(device)
    cam = LearnableCAM(loaded.model, attention=given)
    ignored: list[str] = []
    first = [x for _, x in islice(read_each(list(found), loaded, ignored), _FIRST)]
    if not first:
        unread += ignored
        return
    cam.saliency(torch.stack(first))  # the layers, and how the head is read, are found on these
    count = class_scores(cam.outputs).shape[1]
    loaded.check_names(count)
    classes = _classes(loaded, wanted, count)
    with records(out, settings) as (done, add):
        again = {key(path) for path in found} & done.keys()
        yield from ((row, False) for row in whole_rows(out) if key(row["photo"]) in again)
        stems = _stems(found, done)
        for part in batched(read_each(list(stems), loaded, unread, "explaining"), wanted.batch):
            images = torch.stack([image for _, image in part])
            indices, shares, maps = explained(cam, images, classes, wanted.top)
            for i, (path, image) in enumerate(part):
                explanations = []
                for c, p, heat in zip(indices[i], shares[i], maps[i], strict=True):
                    row = {"class": int(c), "name": loaded.class_name(int(c))}
                    files = _write(out, stems[path], int(c), loaded, image, heat, wanted.kinds)
                    explanations.append({**row, "probability": round(float(p), 4), "files": files})
                new = {"photo": str(path), "state": state(path), "stem": stems[path]}
                new["explanations"] = explanations
                add(new)
                yield new, True


def _classes(loaded: LoadedClassifier, wanted: Wanted, count: int) -> list[int] | None:
    if wanted.classes:
        return list(dict.fromkeys(find_classes(loaded, wanted.classes, count)))
    if wanted.top > count:
        raise ValueError(f"top must be 1 to {count}, the number of classes, got {wanted.top}")
    return None


def explained(
    cam: LearnableCAM, images: Tensor, classes: Sequence[int] | None, top: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The classes (N, k) of images (N, C, H, W), those given or the `top` ones; their probabilities
    (N, k); and the maps (N, k, H, W), on the CPU. It takes one pass."""
    wanted, maps = cam.several(images, classes, None if classes else top)
    shares = probabilities(class_scores(cam.outputs).float())
    return wanted.cpu(), shares.gather(1, wanted).cpu(), maps.cpu()


def _stems(found: dict[Path, Path], done: dict[str, str]) -> dict[Path, str]:
    """Photograph that is not done -> what its files' names start with, no two the same."""
    taken, stems = set(done.values()), {}
    for path, within in found.items():
        if key(path) not in done:
            stem, number = str(within), 2
            while stem in taken:
                stem, number = f"{within}-{number}", number + 1
            taken.add(stem)
            stems[path] = stem
    return stems


def _write(
    out: Path,
    stem: str,
    index: int,
    loaded: LoadedClassifier,
    image: Tensor,
    heat: Tensor,
    kinds: Sequence[str],
) -> dict[str, str]:
    """The files of one map: kind -> name within `out`; each is whole or not there."""
    names = {"overlay": "overlay.png", "heatmap": "heatmap.png", "npy": "npy"}
    files = {kind: f"{stem}.{index}.{names[kind]}" for kind in kinds}
    for kind, name in files.items():
        with atomic_path(out / name) as temporary:
            if kind == "npy":
                held = BytesIO()  # numpy names no file when a disk is full
                np.save(held, heat.numpy())
                temporary.write_bytes(held.getvalue())
            else:
                pixels = _overlay(loaded, image, heat) if kind == "overlay" else _grey(heat)
                Image.fromarray(pixels).save(temporary)
    return files


def _grey(heat: Tensor) -> Any:
    return (heat.numpy() * 255).round().astype(np.uint8)


def _overlay(loaded: LoadedClassifier, image: Tensor, heat: Tensor) -> Any:
    """The map over what the classifier was given, in 8 bits (H, W, 3)."""
    rgb = loaded.pixels.rgb(image[None])[0]
    return show_cam_on_image(rgb, heat.numpy(), use_rgb=True)
