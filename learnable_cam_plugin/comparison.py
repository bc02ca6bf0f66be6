"""Methods side by side on the same images and classes: scores, a table, a picture."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import (
    BinaryClassifierOutputTarget,
    ClassifierOutputTarget,
)
from torch import Tensor, nn
from tqdm.auto import tqdm

from .atomic import atomic_path
from .classifier import (
    FrozenClassifier,
    as_grid,
    both_sides,
    check_images,
    check_one_class_each,
    class_indices,
    class_scores,
    device_of,
    evaluating,
    tell_of_a_probability,
    top_class,
)
from .masking import Normalization
from .metrics import METRICS, Explained, check_saliency
from .metrics.confidence import check_explained


def class_maps(cam: BaseCAM, images: Tensor, classes: Tensor) -> Tensor:
    """A pytorch-grad-cam method's maps (N, H, W) of one class an image, on the CPU."""
    return _tensor(cam(images, [ClassifierOutputTarget(int(c)) for c in classes]))


def _tensor(maps: Any) -> Tensor:
    """Maps, as numpy or a tensor, on the CPU."""
    if isinstance(maps, Tensor):
        return maps.detach().cpu()
    return torch.from_numpy(np.ascontiguousarray(maps))  # some are seen from behind


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
            or of (images, classes, regions) with their true regions (N, H, W) bool, too. Of a
            classifier of one score what is predicted is that its class is there, or, below 0, that
            it is not; this is explained, and scored, and no classes can be given.
        normalization, progress: what the images went through; show a bar.

    Returns:
        a row a method: "method"; the means of the `METRICS` on "all" images, "AD 100%", "IC 100%",
        ... "IC 15%", with regions "energy inside" and "pointing game" (percent); "ms" an image
        (median over the batches, after a call on one image that is not timed); "images".

    Raises:
        TypeError, ValueError: batches of something else; images that the normalisation cannot have
            given; regions of some batches only; none at all.
        RuntimeError: of a method that fails, or whose maps are none, naming it and the batch.
    """
    if isinstance(batches, Tensor):
        raise TypeError("batches must be an iterable of batches, got a tensor: pass [images]")
    scores: dict[str, dict[str, list[Tensor]]] = {name: {} for name in methods}
    times: dict[str, list[float]] = {name: [] for name in methods}
    count, located, alone = 0, set[bool](), list[Tensor]()
    judge = _BothSides(model)
    for number, batch in enumerate(tqdm(batches, desc="comparing", disable=not progress), 1):
        images, classes, regions = _parts(batch)
        normalization.check(check_images(images))
        with torch.no_grad(), evaluating(model):  # a copy: it may work in place on them
            found = class_scores(model(images.to(device_of(model), copy=True))).float().cpu()
        if found.shape[1] == 1:
            alone.append(found)
            if classes is not None:
                raise ValueError(
                    "the model gives one score, of one class: labels of 0 and 1 are no classes of "
                    "it. Leave them out, and what is predicted is explained"
                )
        classes = torch.as_tensor(top_class(found)[1] if classes is None else classes)
        check_one_class_each(images, classes)
        classes = class_indices(classes.long(), max(2, found.shape[1]))
        if regions is not None and regions.shape != (len(images), *images.shape[2:]):
            given, size = tuple(regions.shape), tuple(images.shape)
            raise ValueError(f"regions {given} do not fit images {size}: one (H, W) an image")
        count += len(images)
        located.add(regions is not None)
        for name, cam in methods.items():
            try:
                if number == 1:  # a first call may look things up
                    _maps_of(cam, images[:1], classes[:1], found.shape[1])
                began = time.perf_counter()
                maps = _maps_of(cam, images, classes, found.shape[1])
                times[name].append((time.perf_counter() - began) / len(images) * 1e3)
                check_explained(images, maps, classes)
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:  # of anybody's method
                kind = type(error).__name__
                raise RuntimeError(f"{name!r}, batch {number}: {kind}: {error}") from error
            seen = Explained(judge, normalization, images, classes, maps, regions=regions)
            for key, metric in METRICS.items():
                if metric.images == "all" and (regions is not None or not metric.needs_regions):
                    scores[name].setdefault(key, []).append(metric.compute(seen).double())
    if not count:
        raise ValueError("there is no image to compare the methods on")
    if len(located) > 1:
        raise ValueError("some batches have regions and some have not: compare them in two calls")
    if sum(map(len, alone)) >= 8:  # fewer logits may lie there
        tell_of_a_probability(model, torch.cat(alone))
    rows = []
    for name, parts in scores.items():
        means = {key: round(float(torch.cat(part).mean()), 6) for key, part in parts.items()}
        rows.append({"method": name, **means, "ms": median(times[name]), "images": count})
    return rows


def _parts(batch: Any) -> tuple[Any, Any, Any]:
    """The images of a batch, and its classes and regions, if it has some."""
    if isinstance(batch, Tensor):
        return batch, None, None
    if not isinstance(batch, (tuple, list)) or not 1 <= len(batch) <= 3:
        kind = type(batch).__name__
        raise TypeError(
            "a batch must be images, (images, classes), or (images, classes, regions), got a "
            f"{kind}" + (f" of {len(batch)}" if hasattr(batch, "__len__") else "")
        )
    images, classes, regions = (*batch, None, None)[:3]
    return images, classes, regions


class _BothSides(nn.Module):
    """A classifier; of one score, with two classes (`both_sides`)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return both_sides(class_scores(self.model(images)))


def _maps_of(cam: BaseCAM, images: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    if num_classes > 1:
        return class_maps(cam, images, classes)
    # the library's category 1 is the score, 0 what speaks against it
    return _tensor(cam(images, [BinaryClassifierOutputTarget(1 - int(c)) for c in classes]))


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
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)


def picture(
    path: str | os.PathLike[str],
    images: Tensor,
    titles: Sequence[str],
    maps: Mapping[str, Tensor | np.ndarray],
    normalization: Normalization,
    dpi: int = 90,
) -> None:
    """Write image x method as a PNG: each image, and each method's map laid over it.

    The images (N, 3, H, W) are normalised with `normalization`, each method's maps (N, H, W) lie in
    [0, 1], and there is one title an image. A map is shown 1.5 inches wide, of `dpi` pixels each.
    Maps that are not that, or titles and images that differ in number, are a ValueError.
    """
    if not len(images):
        raise ValueError("there is no image to draw")
    if len(titles) != len(images):
        raise ValueError(f"{len(images)} images need a title each, got {len(titles)}")
    shown = {name: _tensor(one) for name, one in maps.items()}
    for name, one in shown.items():
        try:
            check_saliency(one)
        except ValueError as error:
            raise ValueError(f"{name!r}: {error}") from error
        if one.shape != (len(images), *images.shape[2:]):
            given, size = tuple(one.shape), tuple(images.shape)
            raise ValueError(f"{name!r}: maps {given} do not fit images {size}")
    pixels = normalization.rgb(images)
    columns = [("image", None), *shown.items()]
    figure = Figure(figsize=(1.75 * len(columns), 1.85 * len(images) + 0.3), layout="constrained")
    axes = figure.subplots(len(images), len(columns), squeeze=False)
    for row, (rgb, title) in enumerate(zip(pixels, titles, strict=True)):
        for axis, (name, over) in zip(axes[row], columns, strict=True):
            axis.imshow(rgb if over is None else show_cam_on_image(rgb, over[row].numpy(), True))
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(name, fontsize=9, parse_math=False)  # a "$" is one
        axes[row, 0].set_ylabel(title, fontsize=8, parse_math=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def open_methods(stack: ExitStack, methods: Mapping[str, BaseCAM]) -> dict[str, BaseCAM]:
    """Enter every method's context, so that their hooks go when the stack closes."""
    return {name: stack.enter_context(cam) for name, cam in methods.items()}
