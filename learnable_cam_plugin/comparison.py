"""Methods side by side on the same images and classes: scores, a table, a picture."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from tqdm.auto import tqdm

from .atomic import atomic_path
from .classifier import FrozenClassifier, as_grid, check_one_class_each, predict
from .masking import Normalization
from .metrics import METRICS, Explained


def class_maps(cam: BaseCAM, images: Tensor, classes: Tensor) -> Tensor:
    """A pytorch-grad-cam method's maps (N, H, W) of one class an image, on the CPU."""
    return torch.from_numpy(cam(images, [ClassifierOutputTarget(int(c)) for c in classes]))


def grad_cam(classifier: FrozenClassifier, size: Sequence[int]) -> GradCAM:
    """Grad-CAM where its users set it, for images of `size` (H, W): at the last maps; in a vision
    transformer at the norm before the last attention layer."""
    model, last = classifier.model, list(classifier.layers)[-1]
    spread = classifier.spreads.get(last)
    layer = classifier.layers[last] if spread is None else _norm_before(model, spread.watched[0])
    return GradCAM(model, [layer], reshape_transform=partial(as_grid, size=torch.Size(size)))


def _norm_before(model: nn.Module, layer: nn.Module) -> nn.Module:
    """Of a layer within a transformer's block the block's first norm; else the layer itself."""
    name = {module: name for name, module in model.named_modules()}[layer]
    while name:
        name = name.rpartition(".")[0]
        block = model.get_submodule(name)
        for norm in ("ln_1", "norm1", "layernorm_before"):
            if isinstance(getattr(block, norm, None), nn.Module):
                return getattr(block, norm)
    return layer


def compare_methods(
    model: nn.Module,
    methods: Mapping[str, BaseCAM],
    batches: Iterable[Any],
    normalization: Normalization,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Score each method on the same images: the paper's protocol, and location where known.

    Args:
        model: the classifier.
        methods: name -> an object of any pytorch-grad-cam class.
        batches: of images (N, C, H, W), normalised, whose predicted class is explained; or of
            (images, classes) with the classes to explain (N,), such as the labels of a DataLoader;
            or of (images, classes, regions) with their true regions (N, H, W) bool, too.
        normalization, progress: what the images went through; show a bar.

    Returns:
        a row a method: "method"; the means of the `METRICS` on "all" images, "AD 100%", "IC 100%",
        ... "IC 15%", with regions "energy inside" and "pointing game" (percent); "ms" an image
        (median over the batches); "images".
    """
    scores: dict[str, dict[str, list[Tensor]]] = {name: {} for name in methods}
    times: dict[str, list[float]] = {name: [] for name in methods}
    count = 0
    for batch in tqdm(batches, desc="comparing", disable=not progress):
        images, classes, regions = (
            (batch, None, None) if isinstance(batch, Tensor) else (*batch, None)[:3]
        )
        if classes is None:
            classes = predict(model, images)[1]
        classes = torch.as_tensor(classes)
        check_one_class_each(images, classes)
        classes = classes.long()  # of other integers some metrics could not gather
        count += len(images)
        for name, cam in methods.items():
            began = time.perf_counter()
            maps = class_maps(cam, images, classes)
            times[name].append((time.perf_counter() - began) / len(images) * 1e3)
            seen = Explained(model, normalization, images, classes, maps, regions=regions)
            for key, metric in METRICS.items():
                if metric.images == "all" and (regions is not None or not metric.needs_regions):
                    scores[name].setdefault(key, []).append(metric.compute(seen).double())
    if not count:
        raise ValueError("there is no image to compare the methods on")
    rows = []
    for name, found in scores.items():
        means = {key: round(float(torch.cat(parts).mean()), 6) for key, parts in found.items()}
        median = sorted(times[name])[len(times[name]) // 2]
        rows.append({"method": name, **means, "ms": median, "images": count})
    return rows


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table, numbers to one decimal.

    >>> print(markdown_table([{"method": "Grad-CAM", "AD 100%": 22.31, "images": 434}]))
    | method | AD 100% | images |
    | --- | ---: | ---: |
    | Grad-CAM | 22.3 | 434 |
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    aligned = ["---:" if isinstance(rows[0].get(n), (int, float)) else "---" for n in names]
    lines = [names, aligned]
    for row in rows:
        cells = [row.get(name, "") for name in names]
        lines.append([f"{c:.1f}" if isinstance(c, float) else str(c) for c in cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def picture(
    path: str | os.PathLike[str],
    images: Tensor,
    titles: Sequence[str],
    maps: Mapping[str, Tensor],
    normalization: Normalization,
    dpi: int = 90,
) -> None:
    """Write image x method as a PNG: each image, and each method's map laid over it.

    The images (N, 3, H, W) are normalised with `normalization`, each method's maps (N, H, W) lie in
    [0, 1], and there is one title an image. A map is shown 1.5 inches wide, of `dpi` pixels each.
    """
    if not len(images):
        raise ValueError("there is no image to draw")
    pixels = normalization.rgb(images)
    columns = ["image", *maps]
    figure = Figure(figsize=(1.75 * len(columns), 1.85 * len(images) + 0.3), layout="constrained")
    axes = figure.subplots(len(images), len(columns), squeeze=False)
    for row, (rgb, title) in enumerate(zip(pixels, titles, strict=True)):
        for axis, name in zip(axes[row], columns, strict=True):
            over = maps.get(name)  # none over the image itself
            axis.imshow(rgb if over is None else show_cam_on_image(rgb, over[row].numpy(), True))
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(name, fontsize=9)
        axes[row, 0].set_ylabel(title, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def open_methods(stack: ExitStack, methods: Mapping[str, BaseCAM]) -> dict[str, BaseCAM]:
    """Enter every method's context, so that their hooks go when the stack closes."""
    return {name: stack.enter_context(cam) for name, cam in methods.items()}
