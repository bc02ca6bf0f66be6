"""The causal test: what the classifier says once a region is erased, or alone is kept."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..masking import FILLINGS, Normalization, mask_image
from .case import SURROUNDINGS, Region, Trial
from .maps import Eyes
from .things import surrounded

ERASURES = (*FILLINGS, SURROUNDINGS)
_BATCH = 32


class Change(NamedTuple):
    """What is done to an image: to which region, by its name and (H, W); "erase" or "keep"; with
    which fillings, one after the other."""

    region: str
    action: str
    where: Region
    fillings: Sequence[str]


def trials(
    eyes: Eyes,
    images: Tensor,
    changes: Sequence[Sequence[Change]],
    pairs: Sequence[tuple[int, int]],
    normalization: Normalization,
) -> list[tuple[Trial, ...]]:
    """Every change with each of its fillings; a pass of the classifier each.

    Args:
        eyes: the classifier.
        images: (N, C, H, W), normalised.
        changes: of each image.
        pairs: of each image, the predicted and the other class.
        normalization: of the images.
    """
    todo = [
        (index, change, filling)
        for index, of_image in enumerate(changes)
        for change in of_image
        for filling in change.fillings
    ]
    found: list[list[Trial]] = [[] for _ in changes]
    for start in range(0, len(todo), _BATCH):
        part = todo[start : start + _BATCH]
        changed = [
            _changed(images[index : index + 1], normalization, change, filling)
            for index, change, filling in part
        ]
        shares = eyes.probabilities(torch.cat(changed)).cpu()
        tops = shares.max(1)
        for (index, change, filling), of_image, top, highest in zip(
            part, shares, tops.indices.tolist(), tops.values.tolist(), strict=True
        ):
            predicted, other = (float(of_image[c]) for c in pairs[index])
            trial = Trial(change.region, change.action, filling, predicted, other, top, highest)
            found[index].append(trial)
    return [tuple(of_image) for of_image in found]


def _changed(image: Tensor, normalization: Normalization, change: Change, filling: str) -> Tensor:
    hidden = ~change.where if change.action == "keep" else change.where
    where = torch.from_numpy(np.ascontiguousarray(hidden)).to(image.device)[None]
    return filled(image, where, normalization, filling)


def filled(images: Tensor, hidden: Tensor, normalization: Normalization, filling: str) -> Tensor:
    """Images (N, C, H, W) whose hidden places, bool (N, H, W), show one of `ERASURES`."""
    if filling == SURROUNDINGS:
        return surrounded(images, hidden)
    return mask_image(images, (~hidden).to(images), normalization, filling)
