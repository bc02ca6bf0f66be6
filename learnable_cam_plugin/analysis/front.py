"""What may be in front of the object: of the things in an image, the one whose erasure shows it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .case import Region
from .causes import Thresholds
from .maps import Eyes
from .regions import distance, region
from .things import surrounded, things


def front(
    eyes: Eyes,
    image: Tensor,
    pixels: NDArray[np.float32],
    pair: Sequence[int],
    thresholds: Thresholds,
) -> dict[str, Region]:
    """Of the things in an image, the one without which the true class is the most probable; of
    those without which it wins, and that lie where it then is, if there are any.

    Args:
        eyes: the classifier; it takes a pass a thing.
        image, pixels: (C, H, W), normalised; (H, W, C) in [0, 1].
        pair: the predicted and the other class.
        thresholds: of the rule.

    Returns:
        regions (H, W): the "thing"; "behind", the other class's region once it is erased. Without
        a thing, none.
    """
    found = things(pixels)
    if not found:
        return {}
    hidden = torch.from_numpy(np.stack(found)).to(image.device)
    seen = eyes.look(surrounded(image.expand(len(found), -1, -1, -1), hidden))
    wins = (seen.probabilities.argmax(1) == pair[1]).tolist()
    shares = seen.probabilities[:, pair[1]].tolist()
    most = shares.index(max(shares))
    asked = [i for i, won in enumerate(wins) if won or i == most]  # the others are not explained
    predicted, other = (
        torch.full((len(asked),), index, device=seen.probabilities.device) for index in pair
    )
    size = (image.shape[1], image.shape[2])
    behind = {
        i: region(found_map, size, thresholds.level, thresholds.area)
        for i, found_map in zip(asked, seen.of(asked).among(other, predicted), strict=True)
    }
    best = max(
        asked, key=lambda i: (wins[i] and lies_in(found[i], behind[i], thresholds), shares[i])
    )
    return {"thing": found[best], "behind": behind[best]}


def lies_in(thing: Region, behind: Region, thresholds: Thresholds) -> bool:
    """Whether a thing lies where a region is, as the rule asks it."""
    return bool(behind.any()) and distance(thing, behind) <= thresholds.distant
