"""A method's maps of everything it is scored on; those of slow methods are kept on disk."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from learnable_cam_plugin.checkpoint import atomic_path
from learnable_cam_plugin.masking import mask_image
from learnable_cam_plugin.metrics import check_saliency

from .methods import Explain, Method
from .testbed import Testbed

SAVE_EVERY = 30.0  # seconds


@dataclass(frozen=True)
class Maps:
    """A method's maps.

    Attributes:
        index, maps: (n,), (n, H, W): which pictures of the testbed, and their maps.
        again_index, again: (k,), (k, H, W): the maps of the images masked by their own maps.
        mosaic_index, mosaics: (m,), (m, H, W): of the mosaics.
    """

    index: Tensor
    maps: Tensor
    again_index: Tensor
    again: Tensor
    mosaic_index: Tensor
    mosaics: Tensor


def places(index: Tensor, wanted: Tensor) -> Tensor:
    """Where in `index` (n,) these numbers (k,) are, each of which is in it.

    >>> places(torch.tensor([7, 2, 5]), torch.tensor([5, 7]))
    tensor([2, 0])
    """
    found = torch.full((int(index.max()) + 1,), -1)
    found[index] = torch.arange(len(index))
    return found[wanted]


def make_maps(explain: Explain, method: Method, bed: Testbed, folder: Path) -> Maps:
    """All maps of an opened method; a slow one goes on where it was interrupted.

    Args:
        explain: the method, opened.
        method, bed: which it is, and what it explains.
        folder: where the maps of slow methods are kept, an array a part.
    """
    pictures, mosaics = bed.pictures, bed.mosaics
    index = bed.common if method.slow else torch.arange(len(pictures.images))
    again_index, mosaic_index = bed.few(method.slow)

    def run(name: str, images: Tensor, classes: Tensor) -> Tensor:
        keep = folder / f"{name}.npy" if method.slow else None
        batch = 1 if method.slow else 16
        return in_batches(explain, images, classes, batch, f"{method.name}, {name}", keep)

    maps = run("images", pictures.images[index], pictures.classes[index])
    own = maps[places(index, again_index)]
    masked = mask_image(pictures.images[again_index], own, bed.normalization)
    again = run("masked images", masked, pictures.classes[again_index])
    tiles = maps[:0]
    if len(mosaic_index):
        tiles = run("mosaics", mosaics.images[mosaic_index], mosaics.classes[mosaic_index])
    return Maps(index, maps, again_index, again, mosaic_index, tiles)


def in_batches(
    explain: Explain,
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
            maps = explain(images[part], classes[part]).float().cpu()
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
