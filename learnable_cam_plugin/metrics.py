"""How well a saliency map explains a classifier: average drop, increase in confidence, location.

The protocol is the paper's (section 4.2): the predicted class is explained, the saliency masks the
[0, 1] image, and the class probability of the masked image is compared with that of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .features import class_scores, evaluating
from .masking import Normalization, mask_image

KEEP = (1.0, 0.5, 0.15)


def check_saliency(saliency: Tensor) -> Tensor:
    """Maps (N, H, W) or (N, D, H, W) in [0, 1]; else a clear error."""
    if saliency.ndim not in (3, 4) or saliency.numel() == 0:
        raise ValueError(
            f"saliency has shape {tuple(saliency.shape)}; (N, H, W) with N > 0 is needed"
        )
    if not bool(torch.isfinite(saliency).all()):
        raise ValueError("saliency holds NaN or infinity")
    if float(saliency.min()) < 0 or float(saliency.max()) > 1:
        raise ValueError(
            f"saliency lies in [{float(saliency.min()):.3g}, {float(saliency.max()):.3g}], not "
            "[0, 1]: scale each map with min_max first"
        )
    return saliency


def keep_top(saliency: Tensor, fraction: float) -> Tensor:
    """Set the lowest (1 - fraction) of each map's pixels to 0, an exact count; keep the rest.

    >>> keep_top(torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]), 0.5)
    tensor([[[0.0000, 0.0000],
             [0.3000, 0.4000]]])
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction of pixels kept must be in (0, 1], got {fraction}")
    flat = check_saliency(saliency).flatten(1).clone()
    dropped = round((1 - fraction) * flat.shape[1])
    if dropped:
        order = flat.argsort(dim=1, stable=True)
        flat.scatter_(1, order[:, :dropped], 0.0)
    return flat.view_as(saliency)


def _checked(confidence: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
    if confidence.ndim != 1 or confidence.shape != masked.shape or not len(confidence):
        raise ValueError(
            "confidences must be two vectors (N,) of the same N > 0, got "
            f"{tuple(confidence.shape)} and {tuple(masked.shape)}"
        )
    return confidence.double(), masked.double()


def average_drop(confidence: Tensor, masked: Tensor) -> float:
    """AD = 100 * mean(max(0, p - p_masked) / p), in percent; lower is better.

    >>> average_drop(torch.tensor([0.8, 0.5]), torch.tensor([0.4, 0.9]))
    25.0
    """
    p, q = _checked(confidence, masked)
    return round(float(((p - q).clamp(min=0) / p).mean() * 100), 6)


def increase_in_confidence(confidence: Tensor, masked: Tensor) -> float:
    """IC = 100 * mean(p_masked > p), in percent; higher is better.

    >>> increase_in_confidence(torch.tensor([0.8, 0.5]), torch.tensor([0.4, 0.9]))
    50.0
    """
    p, q = _checked(confidence, masked)
    return float((q > p).double().mean() * 100)


@torch.no_grad()
def confidence(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Softmax probability (N,) of `classes` (N,)."""
    with evaluating(model):
        scores = class_scores(model(images))
    return scores.float().softmax(1).gather(1, classes[:, None].to(scores.device))[:, 0]


def masked_confidence(
    model: nn.Module,
    images: Tensor,
    saliency: Tensor,
    classes: Tensor,
    normalization: Normalization,
    keep: Sequence[float] = KEEP,
) -> dict[float, Tensor]:
    """Fraction kept -> probability (N,) of `classes` on the images masked by `saliency`.

    Args:
        model: the classifier, giving scores (N, K).
        images: (N, C, H, W), normalised.
        saliency: (N, H, W) in [0, 1].
        classes: (N,).
        normalization: what the images went through; the mask acts on [0, 1] pixels.
        keep: fractions of the pixels; the paper's 100 %, 50 % and 15 %.
    """
    if len(saliency) != len(images) or saliency.shape[1:] != images.shape[2:]:
        raise ValueError(
            f"saliency {tuple(saliency.shape)} does not fit images {tuple(images.shape)}"
        )
    return {
        fraction: confidence(
            model, mask_image(images, keep_top(saliency, fraction), normalization), classes
        )
        for fraction in keep
    }


def _regions(saliency: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    if regions.shape != saliency.shape or regions.dtype != torch.bool:
        raise ValueError(
            f"regions must be booleans of shape {tuple(saliency.shape)}, got {regions.dtype} of "
            f"{tuple(regions.shape)}"
        )
    return check_saliency(saliency).flatten(1), regions.flatten(1)


def energy_inside(saliency: Tensor, regions: Tensor) -> Tensor:
    """The share (N,) of each map that lies inside its true region; 0 for a map of zeros.

    Args:
        saliency: (N, H, W) in [0, 1].
        regions: (N, H, W), bool.

    >>> energy_inside(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[True, False]]]))
    tensor([0.5000])
    """
    flat, inside = _regions(saliency, regions)
    total = flat.sum(1)
    return (flat * inside).sum(1) / torch.where(total > 0, total, 1)


def pointing_hit(saliency: Tensor, regions: Tensor) -> Tensor:
    """Whether (N,) the highest pixel of each map lies inside its true region (pointing game)."""
    flat, inside = _regions(saliency, regions)
    return inside.gather(1, flat.argmax(1, keepdim=True))[:, 0]
