"""Attentions scored beside one classifier, and Grad-CAM beside them: a row of metrics each."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor

from learnable_cam_plugin import AttentionMechanism, FrozenClassifier, LearnableCAM
from learnable_cam_plugin.classifier import device_of, predict
from learnable_cam_plugin.comparison import class_maps, grad_cam
from learnable_cam_plugin.data import NORMALIZATION, PhotoFolder, draw_images, mosaics
from learnable_cam_plugin.masking import mask_image
from learnable_cam_plugin.metrics import METRICS, Explained, bootstrap

from .sources import found, shapes_classifier

ON_ALL = [f"{of} {kept}%" for kept in (100, 50, 15) for of in ("AD", "IC")]
ON_ALL += ["complexity", "ADCC", "energy inside", "pointing game"]
ON_FEW = ["insertion", "deletion", "ROAD"]
PEER = "Grad-CAM"


def of_photos(
    classifier: FrozenClassifier, side: int, folder: Path, every: int
) -> tuple[Explained, Tensor]:
    """What is explained of a classifier on every so many photographs of a folder, with no maps yet;
    and which of them (N,) the classifier is sure of."""
    photos = PhotoFolder(folder, classifier.pixels, side)
    images = torch.stack([photos[i] for i in range(0, len(photos), every)])
    device = device_of(classifier.model)
    parts = [predict(classifier.model, part.to(device)) for part in images.split(16)]
    p, classes = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    return Explained(classifier.model, classifier.pixels, images, classes, images[:, 0]), p > 0.5


def of_drawn_images(kept: Path) -> tuple[FrozenClassifier, Explained]:
    """A network like the quick start's, trained here and kept in a file, and drawn images whose
    true regions are known."""
    model, test = shapes_classifier(kept / "held-out.safetensors", 0), draw_images(150, 10_000)
    classifier = found(model, NORMALIZATION, test.images.shape[-1])
    classes, regions = test.classes[:, 0], test.regions[:, 0]
    return classifier, Explained(
        model, NORMALIZATION, test.images, classes, regions, regions=regions
    )


def score(
    classifier: FrozenClassifier,
    attentions: Mapping[str, AttentionMechanism],
    seen: Explained,
    few: int,
    sure: Tensor | None = None,
) -> list[dict[str, Any]]:
    """A row a method: the means of the metrics over the images `seen`, whose maps are yet to be
    made, or over `few` of them; the grid pointing game on mosaics of the `sure` ones (N,); and in
    how many of these it is ahead of Grad-CAM, and in which behind, by the paired interval."""
    model, names = classifier.model, list(classifier.layers)
    cams: dict[str, BaseCAM] = {
        name: LearnableCAM(model, names, attention=one) for name, one in attentions.items()
    }
    cams[PEER] = grad_cam(classifier, seen.images.shape[2:])
    values = {name: _of_each(cam, seen, few, sure) for name, cam in cams.items()}
    rows = []
    for name, own in values.items():
        row: dict[str, Any] = {"method": name, "images": len(seen.images)}
        row |= {key: float(value.mean()) for key, value in own.items()}
        rows.append(row if name == PEER else row | against(own, values[PEER]))
    return rows


def _of_each(cam: BaseCAM, seen: Explained, few: int, sure: Tensor | None) -> dict[str, Tensor]:
    """Column -> the metric's number for each image, or mosaic (n,)."""
    maps = explained(cam, seen.images, seen.classes)
    again = explained(cam, mask_image(seen.images, maps, seen.normalization), seen.classes)
    found = replace(seen, maps=maps, again=again, _known={})
    known = [key for key in ON_ALL if seen.regions is not None or not METRICS[key].needs_regions]
    values = {key: METRICS[key].compute(found) for key in known}
    if sure is not None and len(seen.classes[sure].unique()) >= 4:
        values["grid pointing"] = grid_pointing(cam, seen, sure)
    some = found.of(torch.arange(min(few, len(maps))))
    return values | {key: METRICS[key].compute(some) for key in ON_FEW}


def against(own: Mapping[str, Tensor], peer: Mapping[str, Tensor]) -> dict[str, str]:
    """In how many columns one method is ahead of another, and in which it is behind: where the
    bootstrap's 95 % interval of the difference, image by image, leaves out 0.

    >>> better, worse = torch.zeros(9), torch.ones(9)
    >>> against({"AD 50%": better, "IC 50%": better}, {"AD 50%": worse, "IC 50%": worse})
    {'ahead': '1 of 2', 'behind': 'IC 50%'}
    """
    compared = [key for key in own if key != "complexity"]  # a size is neither better nor worse
    ahead, behind = [], []
    for key in compared:
        sign = 1 if METRICS[key].better == "higher" else -1
        _, low, high = bootstrap(sign * (own[key].double() - peer[key].double()))
        ahead += [key] if low > 0 else []
        behind += [key] if high < 0 else []
    return {"ahead": f"{len(ahead)} of {len(compared)}", "behind": ", ".join(behind) or "none"}


def explained(cam: BaseCAM, images: Tensor, classes: Tensor) -> Tensor:
    """The maps (N, H, W), 16 images at a time."""
    parts = zip(images.split(16), classes.split(16), strict=True)
    return torch.cat([class_maps(cam, x, y) for x, y in parts])


def grid_pointing(cam: BaseCAM, seen: Explained, sure: Tensor) -> Tensor:
    """Percent of the map in its cell, (40,), of mosaics of images the classifier is sure of."""
    images, classes = seen.images[sure], seen.classes[sure]
    tiles, members, cells = mosaics(images, classes, 40, 0)
    wanted = classes[members.gather(1, cells[:, None])[:, 0]]
    maps = explained(cam, tiles, wanted)
    found = Explained(seen.model, seen.normalization, tiles, wanted, maps, cells=cells)
    return METRICS["grid pointing"].compute(found)
