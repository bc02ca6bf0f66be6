"""The gallery: pictures of the first common images and of every method's maps of them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image
from pytorch_grad_cam.utils.image import show_cam_on_image

from learnable_cam_plugin.atomic import atomic_path

from ..maps import places
from ..methods import Method
from ..scoring import Subset
from ..testbed import Testbed
from .schema import GROUPS, Results, finite, kind_of

SIZE = 6
IMAGE_NAME = "gallery/image-{}.jpg"
# the most images and methods of the picture: what a README can show
MOST_IMAGES, MOST_METHODS = 6, 9


def _pixels(bed: Testbed) -> np.ndarray:
    """The gallery's images (n, H, W, 3) in [0, 1]."""
    chosen = bed.pictures.images[bed.common[:SIZE]]
    return bed.normalization.rgb(chosen)


def _save(path: Path, pixels: np.ndarray) -> None:
    """Pixels (H, W, 3), 8 bits each, as a JPEG."""
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, quality=85)


def write_images(folder: Path, bed: Testbed) -> None:
    """The pictures of the first common images."""
    for i, picture in enumerate(_pixels(bed)):
        _save(folder / IMAGE_NAME.format(i), (picture * 255).round().astype(np.uint8))


def image_entries(folder: Path, bed: Testbed) -> list[dict[str, str]]:
    """The images of the gallery for `results.json`."""
    titles, confidence = bed.pictures.titles, bed.pictures.confidence
    return [
        {"title": f"{titles[i]}, p = {float(confidence[i]):.2f}", "file": IMAGE_NAME.format(n)}
        for n, i in enumerate(bed.common[:SIZE].tolist())
        if (folder / IMAGE_NAME.format(n)).exists()
    ]


def write_maps(
    folder: Path, bed: Testbed, method: Method, explained: Subset
) -> list[dict[str, Any]]:
    """The pictures of a method's maps of the gallery's images, "all" of `scoring.subsets`.

    Returns an entry an image: "file", and "masked", the probability by the share kept.
    """
    seen = explained.seen.of(places(explained.index, bed.common[:SIZE]))
    _, masked = seen.masked()
    entries = []
    for i, (picture, one) in enumerate(zip(_pixels(bed), seen.maps.numpy(), strict=True)):
        name = f"gallery/{method.slug}-{i}.jpg"
        _save(folder / name, show_cam_on_image(picture, one, use_rgb=True))
        kept = {f"{share:.0%}": round(float(q[i]), 4) for share, q in masked.items()}
        entries.append({"file": name, "masked": kept})
    return entries


def gallery_file(folder: str | os.PathLike[str], name: str) -> Path:
    """The path of an image that a folder's `results.json` names.

    Raises FileNotFoundError where it is missing, and ValueError where it is outside the folder: a
    page must not carry off other files of a disk.
    """
    folder, path, results = Path(folder), Path(folder) / name, Path(folder) / "results.json"
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{results} names the image {name!r}, which is outside its folder; give a path inside "
            "it"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"no image at {path}, which {results} names; copy the whole folder, or run the "
            "benchmark again"
        )
    return path


def gallery_methods(results: Results) -> list[str]:
    """Those drawn, in the table's order: one of each kind in turn, floors last."""
    maps = results["gallery"].get("maps") or {}
    shown = [method for method in results["methods"] if method["method"] in maps]
    kinds = [kind_of(method) for method in shown]
    turns = [
        (kind == "floor", kinds[:i].count(kind), list(GROUPS).index(kind))
        for i, kind in enumerate(kinds)
    ]
    chosen = sorted(range(len(shown)), key=turns.__getitem__)[:MOST_METHODS]
    return [shown[i]["method"] for i in sorted(chosen)]


def kept_shares(maps: Iterable[list[dict[str, Any] | None]]) -> list[str]:
    """The shares of pixels that methods' maps keep when they mask; not every run has the same."""
    kept = [entry.get("masked") or {} for entries in maps for entry in entries if entry]
    return list(dict.fromkeys(share for masked in kept for share in masked))


def gallery_figure(folder: Path, results: Results) -> Figure:
    """Image x method, and beneath each map what the class keeps of its probability, in percent."""
    gallery = results["gallery"]
    images, names = gallery["images"][:MOST_IMAGES], gallery_methods(results)
    size = (1.35 * (len(names) + 1), 1.62 * len(images) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(images), len(names) + 1, squeeze=False)
    for i, image in enumerate(images):
        # in two lines: photographs stand closer than titles are long
        title = "\n".join(str(image.get("title", "")).rsplit(", ", 1))
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
            axis.set_xlabel(kept if name else title, fontsize=7)
    shares = kept_shares(gallery["maps"][name] for name in names)
    figure.supxlabel(
        "beneath each map: probability of the class, in percent, when the image is masked by the "
        f"map's highest {', '.join(shares)} of pixels",
        fontsize=7.5,
    )
    return figure
