"""What validation measures: the maps as they are shown, scored as the paper scores them."""

from collections.abc import Iterable
from typing import Any

import torch

from ..attention import AttentionMechanism
from ..classifier import FrozenClassifier
from ..metrics import average_drop, increase_in_confidence, masked_confidence
from ..saliency import saliency
from .batches import images_of
from .processes import Shares


@torch.no_grad()
def validate(
    classifier: FrozenClassifier,
    attention: AttentionMechanism,
    loader: Iterable[Any],
    device: torch.device,
    shares: Shares,
) -> tuple[dict[str, float], int]:
    """Average drop and increase in confidence of the masked images, in percent; and how many.

    Raises:
        ValueError: the loader gives no batch, or images that the normalisation cannot have given,
            or a confidence is not finite.
    """
    clean, masked = [torch.zeros(0)], [torch.zeros(0)]
    for batch in loader:
        images = images_of(batch, device)
        classifier.pixels.check(images)
        images = shares.part(images)
        if not len(images):  # fewer than there are processes
            continue
        features, scores = classifier.clean_pass(images)
        p, classes = scores.float().softmax(1).max(1)
        maps = saliency(attention(features, classes), images.shape[2:])
        q = masked_confidence(classifier.model, images, maps, classes, classifier.pixels, (1.0,))[
            1.0
        ]
        clean.append(p.cpu())
        masked.append(q.cpu())
    p, q = shares.gathered([torch.cat(clean), torch.cat(masked)])
    if not len(p):
        raise ValueError("the validation loader gave no batch")
    figures = {
        "val_average_drop": average_drop(p, q),
        "val_increase_in_confidence": increase_in_confidence(p, q),
    }
    return figures, len(p)
