"""A method's maps of everything it is scored on; those of slow methods are kept on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from learnable_cam_plugin.checkpoint import atomic_path
from learnable_cam_plugin.masking import mask_image
from learnable_cam_plugin.metrics import check_saliency

from .methods import Method, opened
from .workbench import Workbench

SAVE_EVERY = 30.0  # seconds


@dataclass(frozen=True)
class Explanations:
    """A method's maps.

    Attributes:
        index, maps: (n,), (n, H, W): which images of the workbench, and their maps.
        again_index, again: (k,), (k, H, W): the maps of the images masked by their own maps.
        mosaic_index, mosaics: (m,), (m, H, W): of the mosaics.
    """

    index: Tensor
    maps: Tensor
    again_index: Tensor
    again: Tensor
    mosaic_index: Tensor
    mosaics: Tensor

    def of(self, wanted: Tensor) -> Tensor:
        """The maps of these images of the workbench (k,), each of which was explained."""
        places = torch.full((int(self.index.max()) + 1,), -1)
        places[self.index] = torch.arange(len(self.index))
        return self.maps[places[wanted]]


def explain(method: Method, bench: Workbench, folder: Path) -> Explanations:
    """All maps of a method; a slow one goes on where it was interrupted.

    Args:
        method, bench: what explains, and what.
        folder: where the maps of slow methods are kept, an array a part.
    """
    index = bench.common if method.slow else torch.arange(len(bench.images))
    again_index, mosaic_index = bench.few(method.slow)
    with opened(method, bench) as cam:

        def run(name: str, images: Tensor, classes: Tensor) -> Tensor:
            keep = folder / f"{name}.npy" if method.slow else None
            batch = 1 if method.slow else 16
            return in_batches(cam, images, classes, batch, f"{method.name}, {name}", keep)

        maps = run("images", bench.images[index], bench.classes[index])
        found = Explanations(index, maps, again_index, maps, mosaic_index, maps)
        own = found.of(again_index)
        masked = mask_image(bench.images[again_index], own, bench.normalization)
        again = run("masked images", masked, bench.classes[again_index])
        mosaics = maps[:0]
        if len(mosaic_index):
            tiles, classes = bench.mosaics[mosaic_index], bench.mosaic_classes[mosaic_index]
            mosaics = run("mosaics", tiles, classes)
    return Explanations(index, maps, again_index, again, mosaic_index, mosaics)


def in_batches(
    cam: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    classes: Tensor,
    batch: int,
    title: str,
    keep: Path | None = None,
) -> Tensor:
    """The maps (N, H, W), with a bar; kept in the file `keep` as they come, if given."""
    parts: list[Tensor] = []
    if keep is not None and keep.exists():
        parts = [torch.from_numpy(np.load(keep, allow_pickle=False))]
    done = sum(map(len, parts))
    saved = time.monotonic()
    with tqdm(total=len(images), initial=done, desc=title, leave=False) as bar:
        while done < len(images):
            part = slice(done, done + batch)
            maps = cam(images[part], classes[part]).float().cpu()
            parts.append(check_saliency(maps.clamp(0, 1)))
            done += len(maps)
            bar.update(len(maps))
            if keep is not None and (time.monotonic() - saved > SAVE_EVERY or done >= len(images)):
                _save(keep, torch.cat(parts))
                saved = time.monotonic()
    return torch.cat(parts)


def _save(path: Path, maps: Tensor) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        np.save(handle, maps.numpy(), allow_pickle=False)
        handle.flush()
        os.fsync(handle.fileno())
