"""What may be in front of the object: of the things in an image, the one whose erasure shows it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..masking import FILLINGS, Normalization
from .case import SURROUNDINGS, Region
from .causes import Thresholds, away
from .maps import Eyes
from .regions import region
from .things import things
from .trials import filled


def front(
    eyes: Eyes,
    image: Tensor,
    pixels: NDArray[np.float32],
    pair: Sequence[int],
    thresholds: Thresholds,
    normalization: Normalization,
) -> dict[str, Region]:
    """Of the things in an image without which the true class wins, with the colours around them in
    their place, the one that frees it most, over all fillings: of those that lie where it then is,
    if there are any. Where it wins without none of them, the one that frees it most.

    Args:
        eyes: the classifier; it takes a pass a thing, and three more, of the other fillings, for
            each that there is to choose among.
        image, pixels: (C, H, W), normalised; (H, W, C) in [0, 1].
        pair: the predicted and the other class.
        thresholds: of the rule.
        normalization: of the image.

    Returns:
        regions (H, W): the "thing"; "behind", the other class's region once it is erased. Without
        a thing, none.
    """
    found = things(pixels)
    if not found:
        return {}
    hidden = torch.from_numpy(np.stack(found)).to(image.device)
    copies = image.expand(len(found), -1, -1, -1)
    seen = eyes.look(filled(copies, hidden, normalization, SURROUNDINGS))
    wins = (seen.probabilities.argmax(1) == pair[1]).tolist()
    shares = seen.probabilities[:, pair[1]]
    most = int(shares.argmax())
    asked = [i for i, won in enumerate(wins) if won or i == most]  # the others are not explained
    predicted, other = (
        torch.full((len(asked),), index, device=seen.probabilities.device) for index in pair
    )
    size = (image.shape[1], image.shape[2])
    behind = {
        i: region(found_map, size, thresholds.level, thresholds.area)
        for i, found_map in zip(asked, seen.of(asked).among(other, predicted), strict=True)
    }
    upon = [i for i in asked if wins[i] and away(found[i], behind[i]) <= thresholds.upon]
    among = upon or asked
    total = shares[among]
    for filling in FILLINGS if len(among) > 1 else ():
        without = filled(copies[among], hidden[among], normalization, filling)
        total = total + eyes.probabilities(without)[:, pair[1]]
    best = among[int(total.argmax())]
    return {"thing": found[best], "behind": behind[best]}
