"""The gallery: pictures of the first common images and of every method's maps of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image
from pytorch_grad_cam.utils.image import show_cam_on_image
from torch import Tensor

from learnable_cam_plugin.checkpoint import atomic_path

from ..maps import places
from ..methods import Method
from ..scoring import Subset
from ..testbed import Testbed
from .schema import GROUPS, Results, finite, kind_of

SIZE = 6
# the most images and methods of the picture: what a README can show
MOST_IMAGES, MOST_METHODS = 6, 9


def _pixels(bed: Testbed) -> Tensor:
    chosen = bed.pictures.images[bed.common[:SIZE]]
    return bed.normalization.denormalize(chosen).clamp(0, 1)


def draw_images(folder: Path, bed: Testbed) -> None:
    """The pictures of the first common images."""
    for i, picture in enumerate(_pixels(bed)):
        _save_picture(folder / _image_name(i), picture)


def _image_name(i: int) -> str:
    return f"gallery/image-{i}.jpg"


def image_entries(folder: Path, bed: Testbed) -> list[dict[str, str]]:
    """The images of the gallery for `results.json`."""
    pictures = bed.pictures
    return [
        {
            "title": f"{pictures.titles[i]}, p = {float(pictures.confidence[i]):.2f}",
            "file": _image_name(n),
        }
        for n, i in enumerate(bed.common[:SIZE].tolist())
        if (folder / _image_name(n)).exists()
    ]


def draw_maps(
    folder: Path, bed: Testbed, method: Method, explained: Subset
) -> list[dict[str, Any]]:
    """The pictures of a method's maps of the gallery's images, and the masked probabilities.

    Args:
        explained: "all" of `scoring.subsets`.

    Returns:
        an entry an image: "file", and "masked", the probability by the share kept.
    """
    seen = explained.seen.of(places(explained.index, bed.common[:SIZE]))
    _, masked = seen.masked()
    entries = []
    for i, (picture, one) in enumerate(zip(_pixels(bed), seen.maps, strict=True)):
        rgb = picture.permute(1, 2, 0).numpy()
        shown = torch.from_numpy(show_cam_on_image(rgb, one.numpy(), use_rgb=True))
        name = f"gallery/{method.slug}-{i}.jpg"
        _save_picture(folder / name, shown.permute(2, 0, 1) / 255)
        entries.append(
            {"file": name, "masked": {f"{k:.0%}": round(float(q[i]), 4) for k, q in masked.items()}}
        )
    return entries


def _save_picture(path: Path, pixels: Tensor) -> None:
    """Pixels (3, H, W) in [0, 1] as a JPEG."""
    array = (pixels * 255).round().byte().permute(1, 2, 0).numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, quality=85)


def gallery_file(folder: str | os.PathLike[str], name: str) -> Path:
    """The path of an image that a folder's `results.json` names.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is outside the folder: a page must not carry off other files of a disk.
    """
    folder = Path(folder)
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{folder / 'results.json'} names the image {name!r}, which is outside its folder; "
            "give a path inside it"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"no image at {path}, which {folder / 'results.json'} names; copy the whole folder, "
            "or run the benchmark again"
        )
    return path


def gallery_methods(results: Results) -> list[str]:
    """Those drawn, in the table's order: one of each kind in turn, floors last."""
    maps = results["gallery"].get("maps") or {}
    shown = [method for method in results["methods"] if method["method"] in maps]
    kinds = {kind: [m["method"] for m in shown if kind_of(m) == kind] for kind in GROUPS}
    floors = kinds.pop("floor")
    turns = max(len(names) for names in kinds.values())
    names = [names[turn] for turn in range(turns) for names in kinds.values() if turn < len(names)]
    chosen = (names + floors)[:MOST_METHODS]
    return [method["method"] for method in shown if method["method"] in chosen]


def gallery_figure(folder: Path, results: Results) -> Figure:
    """Image x method, and beneath each map what the class keeps of its probability, in percent."""
    gallery = results["gallery"]
    images, names = gallery["images"][:MOST_IMAGES], gallery_methods(results)
    figure = Figure(
        figsize=(1.35 * (len(names) + 1), 1.62 * len(images) + 0.5), layout="constrained"
    )
    axes = figure.subplots(len(images), len(names) + 1, squeeze=False)
    for i, image in enumerate(images):
        for axis, name in zip(axes[i], [None, *names], strict=True):
            entry = gallery["maps"][name][i] if name else image
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if i == 0:
                axis.set_title((name or "image").replace(" (", "\n("), fontsize=7.5)
            if not entry:
                axis.text(0.5, 0.5, "–", ha="center", va="center")
                continue
            axis.imshow(imread(gallery_file(folder, entry["file"])))
            masked = entry.get("masked") or {}
            kept = " · ".join(f"{100 * p:.0f}" if finite(p) else "–" for p in masked.values())
            axis.set_xlabel(kept if name else _wrapped(str(image.get("title", ""))), fontsize=7)
    entries = (entry for name in names for entry in gallery["maps"][name] if entry)
    shares = dict.fromkeys(share for entry in entries for share in entry.get("masked") or {})
    figure.supxlabel(
        "beneath each map: probability of the class, in percent, when the image is masked by the "
        f"map's highest {', '.join(shares)} of pixels",
        fontsize=7.5,
    )
    return figure


def _wrapped(title: str) -> str:
    """A title in two lines at its last comma: photographs stand closer than titles are long."""
    head, comma, tail = title.rpartition(", ")
    return f"{head}\n{tail}" if comma else title
