"""The causal test: what the classifier says once a region is erased, or alone is kept."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ..masking import Normalization, mask_image
from .case import Region, Trial
from .maps import Eyes

ACTIONS = ("erase", "keep")
_BATCH = 32


def trials(
    eyes: Eyes,
    images: Tensor,
    regions: Sequence[Mapping[str, Region]],
    pairs: Sequence[tuple[int, int]],
    normalization: Normalization,
    fillings: Sequence[str],
) -> list[tuple[Trial, ...]]:
    """Every action on every region with every filling; a pass of the classifier each.

    Args:
        eyes: the classifier.
        images: (N, C, H, W), normalised.
        regions: of each image, name -> (H, W).
        pairs: of each image, the predicted and the other class.
        normalization, fillings: of the images; see `background`.
    """
    todo = [
        (index, name, action, filling)
        for index, named in enumerate(regions)
        for name, action, filling in product(named, ACTIONS, fillings)
    ]
    found: list[list[Trial]] = [[] for _ in regions]
    for start in range(0, len(todo), _BATCH):
        part = todo[start : start + _BATCH]
        changed = [_changed(images, regions, normalization, *one) for one in part]
        shares = eyes.probabilities(torch.cat(changed)).cpu()
        tops = shares.max(1)
        for (index, name, action, filling), of_image, top, highest in zip(
            part, shares, tops.indices.tolist(), tops.values.tolist(), strict=True
        ):
            predicted, other = (float(of_image[c]) for c in pairs[index])
            trial = Trial(name, action, filling, predicted, other, top, highest)
            found[index].append(trial)
    return [tuple(of_image) for of_image in found]


def _changed(
    images: Tensor,
    regions: Sequence[Mapping[str, Region]],
    normalization: Normalization,
    index: int,
    name: str,
    action: str,
    filling: str,
) -> Tensor:
    kept = regions[index][name] if action == "keep" else ~regions[index][name]
    mask = torch.from_numpy(np.ascontiguousarray(kept)).to(images)[None]
    return mask_image(images[index : index + 1], mask, normalization, filling)
