"""`learnable-cam benchmark`: a small table of a classifier's maps beside Grad-CAM's."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor

from ..atomic import atomic_path
from ..cam import LearnableCAM
from ..comparison import class_maps, compare_methods, grad_cam, markdown_table, open_methods
from ..loading import LoadedClassifier
from ..wording import warn
from .classifiers import device_named, open_attention
from .photographs import batched, find_photos, read_each


def benchmark(
    loaded: LoadedClassifier,
    device: str,
    attention: str | None,
    photos: Sequence[Path],
    limit: int,
    batch: int,
    out: Path | None,
    unread: list[str],
) -> tuple[list[dict[str, Any]], str]:
    """Score the maps of the predicted class of at most `limit` photographs, see `find_photos`,
    evenly spread over them, a `batch` at a time, on a device by name.

    The methods are LearnableCAM without training, with the `attention` of a file if one is given,
    and Grad-CAM, which is left out, with a warning, where it does not run. With `out` the table is
    written, too, as table.md and table.json. Why photographs were left out is added to `unread`.

    Returns:
        the rows of `compare_methods`, and the table in Markdown; neither of no photograph that can
        be read.

    Raises:
        ValueError, RuntimeError: as `compare_methods`.
    """
    found = list(find_photos(photos, out))
    count = min(limit, len(found))
    files = [found[i * len(found) // count] for i in range(count)]
    place, classifier = device_named(device), loaded.frozen
    loaded.model.to(place)

    def batches() -> Iterator[Tensor]:
        for part in batched(read_each(files, loaded, unread, "comparing"), batch):
            yield torch.stack([image for _, image in part]).to(place)

    methods: dict[str, BaseCAM] = {"LearnableCAM (no training)": LearnableCAM(loaded.model)}
    if attention is not None:
        given = LearnableCAM(loaded.model, attention=open_attention(attention))
        methods = {"LearnableCAM": given, **methods}
    with ExitStack() as stack:
        methods = open_methods(stack, methods)
        size = torch.Size([loaded.side] * 2)
        try:
            peer = stack.enter_context(grad_cam(classifier, size))
            class_maps(peer, torch.zeros(1, 3, *size).to(place), torch.tensor([0]))
            methods["Grad-CAM"] = peer
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            warn(f"Grad-CAM does not run here: {error}")
        parts = batches()
        first = next(parts, None)
        if first is None:
            return [], ""
        parts = chain([first], parts)
        rows = compare_methods(loaded.model, methods, parts, classifier.pixels, progress=False)
    table = markdown_table(rows)
    if out is not None:
        with atomic_path(out / "table.md") as path:
            path.write_text(table + "\n")
        with atomic_path(out / "table.json") as path:
            path.write_text(json.dumps(rows, indent=1))
    return rows, table
