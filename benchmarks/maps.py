"""A method's maps of everything it is scored on; those of slow methods are kept on disk."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from learnable_cam_plugin.atomic import atomic_path
from learnable_cam_plugin.masking import mask_image
from learnable_cam_plugin.metrics import check_saliency

from .methods import Explain, Method
from .testbed import Testbed

SAVE_EVERY = 30.0  # seconds


@dataclass(frozen=True)
class Maps:
    """A method's maps (n, H, W) of pictures of the testbed, by index (n,); of some of these (k),
    masked by their own maps, again; and of mosaics (m)."""

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
    """All maps of an opened method; a slow one's are kept in `folder`, and go on from there."""
    pictures, mosaics = bed.pictures, bed.mosaics
    index = bed.common if method.slow else torch.arange(len(pictures.images))
    again_index, mosaic_index = bed.few(method.slow)

    def run(name: str, images: Tensor, classes: Tensor) -> Tensor:
        keep = folder / f"{name}.npy" if method.slow else None
        size, title = 1 if method.slow else 16, f"{method.name}, {name}"
        return in_batches(explain, images, classes, size, title, keep)

    maps = run("images", pictures.images[index], pictures.classes[index])
    own = maps[places(index, again_index)]
    masked = mask_image(pictures.images[again_index], own, bed.normalization)
    again = run("masked images", masked, pictures.classes[again_index])
    tiles = maps[:0]
    if len(mosaic_index):
        tiles = run("mosaics", mosaics.images[mosaic_index], mosaics.classes[mosaic_index])
    return Maps(index, maps, again_index, again, mosaic_index, tiles)


def in_batches(
    explain: Explain, images: Tensor, classes: Tensor, batch: int, title: str, keep: Path | None
) -> Tensor:
    """The maps (N, H, W), with a bar; kept in the file `keep` as they come, if given."""
    parts = [torch.from_numpy(np.load(keep))] if keep and keep.exists() else []
    done, saved = sum(map(len, parts)), time.monotonic()
    with tqdm(total=len(images), initial=done, desc=title, leave=False) as bar:
        while done < len(images):
            part = slice(done, done + batch)
            maps = explain(images[part], classes[part]).float().cpu()
            near = maps.clamp(0, 1)  # but for rounding
            parts.append(check_saliency(near if torch.allclose(near, maps, 0, 1e-4) else maps))
            done += len(maps)
            bar.update(len(maps))
            if keep and (time.monotonic() - saved > SAVE_EVERY or done >= len(images)):
                with atomic_path(keep) as temporary:
                    np.save(temporary, torch.cat(parts).numpy())
                saved = time.monotonic()
    return torch.cat(parts)
